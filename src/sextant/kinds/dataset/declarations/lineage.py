"""The text of a query to its `Lineage`: which columns of the inputs flow into each column of the
result. Two readings of one text:

`lineage`  what may be seen in a column: called by `assemble`, for queries that read something
           personal. Values flow, conditions do not: WHERE, HAVING, QUALIFY, join conditions, GROUP
           BY, the order, and PARTITION BY of a window say which rows there are. A count carries
           nothing of what it counts.
`whole_lineage`  what a column depends on: called by `flows.py`, for everybody. All that an
           expression names flows into its value: what a count counts, its FILTER, the window. What
           decides which rows there are is said apart (`Lineage.decides`).

Where the columns of an input are not known (`select *`), the result names the input. Whatever is
not understood here may flow into every column.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sextant.kernel.limits import LINEAGE_SOURCES_MAX
from sextant.kinds.dataset.personal_rule import ANY, OPTIONAL
from sextant.kinds.dataset.spec import Lineage, Source

if TYPE_CHECKING:
    from sqlglot import exp

Sources = frozenset[Source]
_NOTHING: Sources = frozenset()
_NUMBERED = re.compile(r"(.+)_\d+")  # the second `id` of a subquery is called `id_1`
_PLAIN = re.compile(r"[^\W\d]\w*")


def lineage(text: str, inputs: Mapping[str, str]) -> Lineage | None:
    """Return the lineage of one query in DuckDB's dialect.

    inputs  table name -> asset id of each input
    Result  None for a query that cannot be followed: then every column counts as personal
    """
    return _read(text, inputs, {}, is_whole=False)


def whole_lineage(
    text: str, inputs: Mapping[str, str], columns: Mapping[str, Sequence[str]]
) -> Lineage | None:
    """Return what each column of one query depends on, and what decides which rows there are.
    Changing a column of an input that neither names changes nothing in the result.

    inputs   table name -> asset id of each input
    columns  asset id -> its columns, of the inputs whose columns are known
    Result   None for a query that cannot be followed
    """
    return _read(text, inputs, columns, is_whole=True)


def _read(
    text: str,
    inputs: Mapping[str, str],
    columns: Mapping[str, Sequence[str]],
    *,
    is_whole: bool,
) -> Lineage | None:
    import sqlglot

    try:
        query = sqlglot.parse_one(text, dialect="duckdb")
        reader = _Reader(
            {name.lower(): asset for name, asset in inputs.items()}, columns, is_whole=is_whole
        )
        result = reader.read(query)
    except Exception:  # of a parser that is not ours, too: whatever it meets, nothing leaks
        return None
    return _noun(result, reader.decides)


class _NotUnderstood(Exception):
    """A form of SQL that is not followed."""


class _Star(NamedTuple):
    """All columns of an input, under their names, but for some."""

    asset: str
    without: frozenset[str] = frozenset()

    @property
    def sources(self) -> Sources:
        return frozenset({(self.asset, ANY)})


class _Column(NamedTuple):
    """A column of a relation; `name` is "" when the query gives it none."""

    name: str
    sources: Sources


class _Relation(NamedTuple):
    """What a FROM can name.

    items    columns and stars, in order
    every    may flow into any column
    loose    flows into columns whose names are not known. Two columns of one name are refused in a
             result, but in a subquery the first of them has it: there it is part of `every`
    open     there may be columns besides the items
    fixed    the items are in the order of the columns, each once
    """

    items: tuple[_Column | _Star, ...] = ()
    every: Sources = _NOTHING
    loose: Sources = _NOTHING
    open: bool = False
    fixed: bool = True

    @property
    def sources(self) -> Sources:
        return self.every.union(*(item.sources for item in self.items))

    def lookup(self, name: str) -> tuple[Sources, bool, bool]:
        """Return (sources of a column, whether it may be one of this relation, whether it is)."""
        found = self._named(name)
        is_certain = any(isinstance(one, _Column) for one in found)
        sources = self.every.union(
            *(
                one.sources if isinstance(one, _Column) else _source(one.asset, name)
                for one in found
            )
        )
        numbered = _NUMBERED.fullmatch(name)
        if numbered and not is_certain and len(self.items) > 1 and self._named(numbered[1]):
            sources = _optional(sources) | self.lookup(numbered[1])[0]
            found = [*found, *self._named(numbered[1])]
        if not _PLAIN.fullmatch(name):
            unnamed = [one for one in self.items if isinstance(one, _Column) and not one.name]
            found = [*found, *unnamed]
            sources = sources.union(*(one.sources for one in unnamed))
        return sources, bool(found) or self.open or bool(self.every), is_certain

    def _named(self, name: str) -> list[_Column | _Star]:
        return [
            item
            for item in self.items
            if (item.name == name if isinstance(item, _Column) else name not in item.without)
        ]

    def renamed(self, names: Sequence[str]) -> "_Relation":
        """Return the relation with other names for its first columns, as in `t(a, b)`."""
        columns = [item for item in self.items if isinstance(item, _Column)]
        if not self.fixed or self.open or len(columns) < max(len(self.items), len(names)):
            return _Relation(
                tuple(_Column(name, self.sources) for name in names),
                every=self.sources,
                open=True,
                fixed=False,
            )
        given = [_Column(name, item.sources) for name, item in zip(names, columns, strict=False)]
        return self._replace(items=(*given, *columns[len(names) :]))


class _Scope:
    """The names that an expression can use, and those of the query around it."""

    def __init__(self, outer: "_Scope | None", relations: "dict[str, _Relation]") -> None:
        self.outer = outer
        self.ctes = relations  # by name: WITH
        self.tables: dict[str, _Relation] = {}  # by alias: FROM
        self.aliases: dict[str, Sources] = {}  # columns of the same SELECT that stand further left
        self.parameters: set[str] = set()  # of lambdas
        self.windows: dict[str, Sources] = {}  # by name: WINDOW

    def chain(self) -> "Iterator[_Scope]":
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


_SELECT = {
    "with_", "expressions", "hint", "distinct", "from_", "joins", "laterals", "where", "group",
    "having", "qualify", "windows", "order", "limit", "offset", "sample",
}  # fmt: skip
_SUBQUERY = {"this", "alias", "with_", "joins", "order", "limit", "offset", "sample", "laterals"}
_TABLE = {"this", "alias", "joins", "sample", "laterals"}
_SET = {
    "with_", "this", "expression", "distinct", "by_name", "order", "limit", "offset",
    "side", "kind",
}  # fmt: skip
_STAR = {"except_", "replace", "rename"}
_COUNTS = ("count_star", "approx_count_distinct")


class _Reader:
    """Follows one query.

    decides  what decides which rows there are; filled when a query is read as a whole
    """

    def __init__(
        self, inputs: Mapping[str, str], columns: Mapping[str, Sequence[str]], *, is_whole: bool
    ) -> None:
        self._inputs = inputs
        self._columns = columns  # of inputs by asset, where they are known
        self._is_whole = is_whole
        self.decides: Sources = _NOTHING
        self._everything: Sources = frozenset((asset, ANY) for asset in inputs.values())

    def read(self, query: "exp.Expression") -> _Relation:
        return self._result(query, None, {})

    def _decide(self, sources: Sources) -> None:
        if self._is_whole:
            self.decides |= sources

    def _opaque(self) -> _Relation:
        self._decide(self._everything)
        return _Relation(every=self._everything, open=True, fixed=False)

    # ------------------------------------------------------------ queries

    def _query(
        self, node: "exp.Expression", outer: _Scope | None, ctes: "dict[str, _Relation]"
    ) -> _Relation:
        """Return what a query inside of another one makes."""
        relation = self._result(node, outer, ctes)
        return relation._replace(every=relation.every | relation.loose, loose=_NOTHING)

    def _result(
        self, node: "exp.Expression", outer: _Scope | None, ctes: "dict[str, _Relation]"
    ) -> _Relation:
        from sqlglot import exp

        ctes = self._with(node, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, outer, ctes)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, outer, ctes)
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            inner = node.this.args.get("alias") if isinstance(node.this, exp.Subquery) else None
            if inner or node.args.get("joins") or node.args.get("laterals"):
                raise _NotUnderstood
            _only(node, _SUBQUERY)
            relation = self._result(node.this, outer, ctes)
            self._ordered(node, relation, outer, ctes)
            return relation
        if isinstance(node, exp.Values):
            return self._loose(node.expressions, _Scope(outer, ctes))
        raise _NotUnderstood

    def _with(
        self, node: "exp.Expression", outer: _Scope | None, ctes: "dict[str, _Relation]"
    ) -> "dict[str, _Relation]":
        with_ = node.args.get("with_")
        if with_ is None:
            return ctes
        ctes = dict(ctes)
        for cte in with_.expressions:
            name = cte.alias.lower()
            inside = {**ctes, name: self._opaque()} if with_.args.get("recursive") else ctes
            relation = self._query(cte.this, outer, inside)
            names = _names(cte.args["alias"])
            ctes[name] = relation.renamed(names) if names else relation
        return ctes

    def _set_operation(
        self, node: Any, outer: _Scope | None, ctes: "dict[str, _Relation]"
    ) -> _Relation:
        relation = self._both(node, outer, ctes)
        self._ordered(node, relation, outer, ctes)
        return relation

    def _both(self, node: Any, outer: _Scope | None, ctes: "dict[str, _Relation]") -> _Relation:
        from sqlglot import exp

        _only(node, _SET)
        left = self._query(node.this, outer, ctes)
        right = self._query(node.expression, outer, ctes)
        if node.args.get("distinct") or not isinstance(node, exp.Union):
            self._decide(left.sources | right.sources)  # by comparing whole rows
        every = left.every | right.every
        is_open = left.open or right.open
        if node.args.get("by_name"):
            both = (*left.items, *right.items)
            return _Relation(both, every, open=is_open, fixed=False)
        pairs = list(zip(left.items, right.items, strict=False))
        aligned = left.fixed and right.fixed and not is_open and len(left.items) == len(right.items)
        if not aligned or any(
            one != other
            for one, other in pairs
            if isinstance(one, _Star) or isinstance(other, _Star)
        ):
            every |= left.sources | right.sources
            return _Relation(left.items, every, open=True, fixed=False)
        merged = tuple(
            one if isinstance(one, _Star) else _Column(one.name, one.sources | other.sources)
            for one, other in pairs
        )
        return _Relation(merged, every)

    def _select(self, node: Any, outer: _Scope | None, ctes: "dict[str, _Relation]") -> _Relation:
        _only(node, _SELECT)
        scope = _Scope(outer, ctes)
        is_fixed = True
        if node.args.get("from_") is not None:
            is_fixed = self._source(node.args["from_"].this, scope)
        for join in (*node.args.get("joins", ()), *node.args.get("laterals", ())):
            is_fixed = self._join(join, scope) and is_fixed
        for window in node.args.get("windows") or () if self._is_whole else ():
            scope.windows[window.name.lower()] = self._flow(window, scope)
        items: list[_Column | _Star] = []
        every, loose, is_open = _NOTHING, _NOTHING, False
        for expression in node.expressions:
            relation = self._projection(expression, scope)
            items += relation.items
            every, loose = every | relation.every, loose | relation.loose
            is_open = is_open or relation.open
            is_fixed = is_fixed and relation.fixed
            for item in relation.items:
                if isinstance(item, _Column) and item.name:
                    before = scope.aliases.get(item.name, _NOTHING)
                    scope.aliases[item.name] = before | item.sources
        result = _Relation(tuple(items), every, loose, is_open, is_fixed)
        if self._is_whole:
            self._conditions(node, result, scope)
        return result

    # ------------------------------------------------------------ which rows there are

    def _conditions(self, node: Any, result: _Relation, scope: _Scope) -> None:
        """Add what decides which rows a SELECT has, and in which order."""
        for name in ("where", "having", "qualify"):
            if (condition := node.args.get(name)) is not None:
                self._decide(self._flow(condition.this, scope))
        distinct = node.args.get("distinct")
        if distinct is not None:
            on = distinct.args.get("on")
            self._decide(self._flow(on, scope) if on is not None else _all_of(result))
        group = node.args.get("group")
        if group is not None:
            self._decide(self._by(list(group.iter_expressions()), result, scope))
            if group.args.get("all"):
                self._decide(self._plain(node, scope))
        self._sorted(node, result, scope)

    def _plain(self, node: Any, scope: _Scope) -> Sources:
        """Return what flows into the columns of a SELECT that are no aggregates."""
        from sqlglot import exp

        plain = [one for one in node.expressions if one.find(exp.AggFunc) is None]
        return _NOTHING.union(*(_all_of(self._projection(one, scope)) for one in plain))

    def _ordered(
        self, node: Any, result: _Relation, outer: _Scope | None, ctes: "dict[str, _Relation]"
    ) -> None:
        """Add what orders and cuts a query that is no SELECT of its own."""
        if self._is_whole:
            scope = _Scope(outer, ctes)
            scope.tables[""] = result._replace(every=result.every | result.loose)
            self._sorted(node, result, scope)

    def _sorted(self, node: Any, result: _Relation, scope: _Scope) -> None:
        order = node.args.get("order")
        if order is not None:
            self._decide(self._by(order.expressions, result, scope))
        for name in ("limit", "offset"):
            if (cut := node.args.get(name)) is not None:
                self._decide(self._flow(cut, scope))

    def _by(self, nodes: "Sequence[exp.Expression]", result: _Relation, scope: _Scope) -> Sources:
        """Return what a GROUP BY or ORDER BY names: also columns of the result by their number, or
        all of them."""
        from sqlglot import exp

        found = _NOTHING
        for node in nodes:
            value = node.this if isinstance(node, exp.Ordered) else node
            if isinstance(value, exp.Literal) and not value.is_string:
                found |= _nth(result, value)
            elif isinstance(value, exp.Column | exp.Var) and value.name.lower() == "all":
                found |= _all_of(result) | self._flow(value, scope)
            else:
                found |= self._flow(value, scope)
        return found

    # ------------------------------------------------------------ FROM

    def _join(self, join: Any, scope: _Scope) -> bool:
        from sqlglot import exp

        if not isinstance(join, exp.Join):
            return self._source(join, scope)
        before = list(scope.tables.values())
        is_fixed = self._source(join.this, scope)
        if self._is_whole:
            self._joined(join, before, list(scope.tables.values())[len(before) :], scope)
        plain = join.args.get("using") or join.method == "NATURAL" or join.kind in ("SEMI", "ANTI")
        return is_fixed and not plain

    def _joined(
        self, join: Any, left: list[_Relation], right: list[_Relation], scope: _Scope
    ) -> None:
        """Add what a join compares."""
        for name in ("on", "match_condition"):
            if (condition := join.args.get(name)) is not None:
                self._decide(self._flow(condition, scope))
        for column in join.args.get("using") or ():
            for relation in (*left, *right):
                self._decide(_optional(relation.lookup(column.name.lower())[0]))
        if join.method == "NATURAL":
            for relation in (*left, *right):
                self._decide(relation.sources)  # of all: which names both have is not looked up

    def _source(self, node: Any, scope: _Scope) -> bool:
        """Add what a FROM or JOIN names; say whether its columns keep their order."""
        from sqlglot import exp

        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            if node.args.get("alias") is not None:
                raise _NotUnderstood
            _only(node, _SUBQUERY)
            is_fixed = self._source(node.this, scope)
            for join in (*(node.args.get("joins") or ()), *(node.args.get("laterals") or ())):
                is_fixed = self._join(join, scope) and is_fixed
            return is_fixed
        relation = self._relation(node, scope)
        alias = node.args.get("alias")
        names = _names(alias) if alias is not None else []
        if names:
            relation = relation.renamed(names)
        name = node.alias_or_name.lower() or f"\0{len(scope.tables)}"
        if name in scope.tables:
            raise _NotUnderstood
        scope.tables[name] = relation
        is_fixed = relation.fixed
        for join in (*(node.args.get("joins") or ()), *(node.args.get("laterals") or ())):
            is_fixed = self._join(join, scope) and is_fixed
        return is_fixed

    def _relation(self, node: Any, scope: _Scope) -> _Relation:
        from sqlglot import exp

        if isinstance(node, exp.Table):
            if node.args.get("pivots"):
                return self._opaque()
            _only(node, _TABLE)
            if not isinstance(node.this, exp.Identifier):
                return self._loose([node.this], scope)
            name = node.name.lower()
            if name in scope.ctes:
                return scope.ctes[name]
            if name not in self._inputs:
                raise _NotUnderstood
            return self._input(self._inputs[name])
        if isinstance(node, exp.Subquery):
            if node.args.get("pivots") or not isinstance(node.this, exp.Query | exp.Values):
                return self._opaque()
            inner = node.copy()
            inner.set("joins", None)
            inner.set("laterals", None)
            # in DuckDB it may use what stands to its left
            return self._query(inner, scope, scope.ctes)
        if isinstance(node, exp.Lateral):
            if isinstance(node.this, exp.Subquery):
                return self._query(node.this, scope, scope.ctes)
            return self._loose([node.this], scope)
        if isinstance(node, exp.Values):
            return self._loose(node.expressions, scope)
        if isinstance(node, exp.Unnest):
            return self._loose(node.expressions, scope)
        return self._opaque()

    def _input(self, asset: str) -> _Relation:
        """Return an input, by its columns where they are known."""
        if asset not in self._columns:
            return _Relation((_Star(asset),))
        names = [column.lower() for column in self._columns[asset]]
        return _Relation(tuple(_Column(name, _source(asset, name)) for name in names))

    def _loose(self, expressions: "Sequence[exp.Expression]", scope: _Scope) -> _Relation:
        """Return a relation whose columns are made of expressions, nobody says which of which."""
        every = self._all(expressions, scope)
        self._decide(every)
        return _Relation(every=every, open=True, fixed=False)

    # ------------------------------------------------------------ SELECT

    def _projection(self, node: Any, scope: _Scope) -> _Relation:
        """Return the columns that one expression of a SELECT makes."""
        from sqlglot import exp

        if isinstance(node, exp.Star):
            return self._starred(node, list(scope.tables.values()))
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            if len(node.parts) == 2 and node.table.lower() in scope.tables:
                return self._starred(node.this, [scope.tables[node.table.lower()]])
            fields = self._unqualified(node.parts[0].name.lower(), scope)
            return _Relation((_Column("", fields),), loose=fields, open=True, fixed=False)
        named = isinstance(node, exp.Alias)
        value = node.this if named else node
        name = node.alias if named else value.name if isinstance(value, exp.Column) else ""
        column = _Column(name.lower(), self._flow(value, scope))
        if _makes_many(value):
            self._decide(column.sources)  # a list becomes as many rows as it is long
            return _Relation((column,), loose=column.sources, open=True, fixed=False)
        return _Relation((column,))

    def _starred(self, star: Any, relations: "Sequence[_Relation]") -> _Relation:
        _only(star, _STAR)
        without = {one.name.lower() for one in star.args.get("except_") or ()}
        replaced = {one.alias.lower(): one for one in star.args.get("replace") or ()}
        renamed = {
            one.this.name.lower(): one.alias.lower() for one in star.args.get("rename") or ()
        }
        scope = _Scope(None, {})
        scope.tables = {str(n): relation for n, relation in enumerate(relations)}
        left_out = without | set(replaced) | set(renamed)
        items: list[_Column | _Star] = []
        for relation in relations:
            for item in relation.items:
                if isinstance(item, _Star):
                    items.append(item._replace(without=item.without | left_out))
                elif item.name not in left_out:
                    items.append(item)
        items += [_Column(name, self._flow(one.this, scope)) for name, one in replaced.items()]
        items += [_Column(new, self._unqualified(old, scope)) for old, new in renamed.items()]
        return _Relation(
            tuple(items),
            _NOTHING.union(*(relation.every for relation in relations)),
            open=any(relation.open for relation in relations),
            fixed=all(relation.fixed for relation in relations) and not replaced and not renamed,
        )

    # ------------------------------------------------------------ expressions

    def _all(self, nodes: "Sequence[exp.Expression]", scope: _Scope) -> Sources:
        return _NOTHING.union(*(self._flow(node, scope) for node in nodes))

    def _flow(self, node: Any, scope: _Scope) -> Sources:
        """Return what flows into the value of an expression."""
        from sqlglot import exp

        if isinstance(node, exp.Column):
            return self._column(node, scope)
        if self._is_whole and isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            return _NOTHING  # the rows themselves, whatever is in them
        if self._is_whole and isinstance(node, exp.Window):
            return self._window(node, scope)
        if not self._is_whole and _is_count(node):
            return _NOTHING
        if isinstance(node, exp.Star | exp.Columns | exp.PositionalColumn | exp.TableColumn):
            return self._everything
        if isinstance(node, exp.Query):
            return self._query(node, scope, scope.ctes).sources
        if not self._is_whole and (
            isinstance(node, exp.Window | exp.Filter)
            or (isinstance(node, exp.Order) and node.this is not None)
        ):
            return self._flow(node.this, scope)
        if isinstance(node, exp.PropertyEQ | exp.Kwarg):
            return self._flow(node.expression, scope)
        if isinstance(node, exp.Lambda):
            inner = _Scope(scope, scope.ctes)
            inner.parameters = {one.name.lower() for one in node.expressions}
            return self._flow(node.this, inner)
        if isinstance(node, exp.Table):
            raise _NotUnderstood
        return self._all(list(node.iter_expressions()), scope)

    def _window(self, node: Any, scope: _Scope) -> Sources:
        """Return what a window's value depends on: also its parts and their order, which it may
        take from a WINDOW of the query."""
        found = self._all(
            [one for one in node.iter_expressions() if one is not node.args.get("alias")], scope
        )
        name = node.args.get("alias")
        if name is not None:
            found |= scope.windows.get(name.name.lower(), _NOTHING)
        return found

    def _column(self, node: "exp.Column", scope: _Scope) -> Sources:
        from sqlglot import exp

        if isinstance(node.this, exp.Star):
            return self._everything
        parts = [part.name.lower() for part in node.parts]
        for name, column in itertools.pairwise(parts):  # schema.table.column.field
            for one in scope.chain():
                if name in one.tables:
                    sources, possible, _ = one.tables[name].lookup(column)
                    return sources if possible else self._everything
        return self._unqualified(parts[0], scope)  # the first is a column, the others its fields

    def _unqualified(self, name: str, scope: _Scope) -> Sources:
        """Return what a name without a table means: all that it may mean, from inside out."""
        found, is_possible = _NOTHING, False
        for one in scope.chain():
            if name in one.parameters:
                return found
            looked_up = [relation.lookup(name) for relation in one.tables.values()]
            found = found.union(*(sources for sources, possible, _ in looked_up if possible))
            is_possible = is_possible or any(possible for _, possible, _ in looked_up)
            if name in one.aliases:
                found, is_possible = _optional(found) | one.aliases[name], True
            if any(certain for _, _, certain in looked_up):
                return found
            if name in one.tables and not any(possible for _, possible, _ in looked_up):
                found, is_possible = found | one.tables[name].sources, True  # a row as a value
        return found if is_possible else self._everything


def _source(asset: str, column: str) -> Sources:
    """Return a column of an input as a source. A name that looks like one of the marks is any
    column."""
    return frozenset({(asset, ANY if column.startswith((ANY, OPTIONAL)) else column)})


def _optional(sources: Sources) -> Sources:
    """Return sources that count where the input has such a column: the name has another meaning."""
    return frozenset(
        (asset, column if column.startswith((ANY, OPTIONAL)) else OPTIONAL + column)
        for asset, column in sources
    )


def _is_count(node: Any) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Count | exp.CountIf | exp.ApproxDistinct) or (
        isinstance(node, exp.Anonymous) and node.name.lower() in _COUNTS
    )


def _all_of(relation: _Relation) -> Sources:
    return relation.sources | relation.loose


def _nth(relation: _Relation, number: Any) -> Sources:
    """Return the sources of a column by its number from 1; of all, where their order is not
    known."""
    is_plain = relation.fixed and not relation.open
    is_plain = is_plain and all(isinstance(one, _Column) for one in relation.items)
    place = int(number.name) - 1 if number.name.isdecimal() else -1
    if not is_plain or not 0 <= place < len(relation.items):
        return _all_of(relation)
    return relation.items[place].sources | relation.every


def _makes_many(value: Any) -> bool:
    """Say whether an expression may make several columns, whatever name it is given."""
    from sqlglot import exp

    several = (exp.Star, exp.Columns, exp.Explode, exp.Unnest, exp.PositionalColumn)
    return any(
        isinstance(node, several) and not isinstance(node.parent, exp.Count)
        for node in value.walk(prune=lambda node: isinstance(node, exp.Query))
    )


def _only(node: Any, known: set[str]) -> None:
    """Refuse parts of a node that are not followed here."""
    for name, value in node.args.items():
        if value and name not in known:
            raise _NotUnderstood(f"{type(node).__name__}.{name}")


def _names(alias: Any) -> list[str]:
    return [one.name.lower() for one in alias.args.get("columns") or ()]


def _noun(relation: _Relation, decides: Sources) -> Lineage | None:
    columns: dict[str, set[Source]] = {}
    unnamed: set[Source] = set()
    for item in relation.items:
        if isinstance(item, _Column) and item.name:
            columns.setdefault(item.name, set()).update(item.sources)
        elif isinstance(item, _Column):
            unnamed |= item.sources
    if sum(map(len, columns.values())) + len(decides) > LINEAGE_SOURCES_MAX:
        return None
    return Lineage(
        columns={name: tuple(sorted(sources)) for name, sources in columns.items()},
        stars=tuple(
            (item.asset, tuple(sorted(item.without)))
            for item in relation.items
            if isinstance(item, _Star)
        ),
        unnamed=tuple(sorted(unnamed)),
        every=tuple(sorted(relation.every)),
        decides=tuple(sorted(decides)),
    )
