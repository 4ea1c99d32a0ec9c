"""The columns that declarations name - checks, keys, KPIs, the text of SQL - as `ColumnRead`s of
the manifest. Called by the loader; `kinds/dataset/columns.py` looks them up in known schemas.

A column of SQL is looked for in everything that it may mean: the tables of its FROM and of the
queries around it, what subqueries and WITH hand through, aliases of the same SELECT. A read is
noted only where all of that is known by name; beside an `unnest` or a table function an unqualified
column may be anything, and nothing is noted.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sextant.kernel.limits import COLUMN_READS_MAX
from sextant.kernel.nouns import Asset, ColumnRead
from sextant.kinds.dataset.spec import table_spec

if TYPE_CHECKING:
    from sqlglot import exp

_NUMBERED = re.compile(r".+[_:]\d+")  # the second `id` of a subquery is called `id_1`
# columns that DuckDB adds, and functions that it calls without brackets
_NO_COLUMNS = frozenset({
    "rowid", "current_catalog", "current_database", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "localtime",
    "localtimestamp", "session_user", "user",
})  # fmt: skip
_SCHEMAS = ("main", "temp", "memory", "system")  # may stand before the name of a table


class NamedColumn(NamedTuple):
    """A column that SQL names, as in `ColumnRead`."""

    column: str
    of: tuple[str, ...]
    others: tuple[str, ...]
    qualifier: str
    scope: tuple[str, ...]
    line: int


def query_reads(asset: Asset, text: str) -> list[ColumnRead]:
    build = asset.build
    if not text or build is None or asset.defined_by:
        return []
    tables = {one.name: one.asset for one in build.inputs}
    what = f"the SQL of `{asset.name}`"
    return sql_reads(asset, what, query_columns(text, tables), tables, build.code.file, 0)


def checks_reads(asset: Asset, lines: Mapping[tuple[str, str], int]) -> Iterator[ColumnRead]:
    table = table_spec(asset)
    named: list[tuple[str, str, str, str]] = []  # (said at, in words, column, asset)
    if not asset.defined_by:  # else its key is made of what the definition says
        named += [("key", f"`key` of `{asset.name}`", column, asset.id) for column in table.key]
        if table.time:
            named.append(("time", f"`time` of `{asset.name}`", table.time, asset.id))
    own_key = f"unique({', '.join(table.key)})" if table.key else ""
    for check in asset.checks:
        what = f"the check `{check.name}` of `{asset.name}`"
        params, kind = check.params, check.check.rpartition(".")[2]
        if kind in ("not_null", "unique") and check.name != own_key:
            named += [(check.name, what, column, asset.id) for column in params["columns"]]
        elif kind in ("between", "accepted_values", "matches", "foreign_key"):
            named.append((check.name, what, params["column"], asset.id))
        if kind == "foreign_key":
            to, _, column = str(params["to"]).rpartition(".")
            named.append((check.name, what, column, to))
        elif kind == "sql":
            tables = {asset.name: asset.id, "this": asset.id}
            found = query_columns(str(params["query"]), tables)
            line = lines.get((asset.id, check.name), asset.line)
            yield from sql_reads(asset, what, found, tables, None, line)
    for at, what, column, of in named:
        yield ColumnRead(
            by=asset.id,
            what=what,
            column=column,
            of=(of,),
            exact=True,
            file=asset.file,
            line=lines.get((asset.id, at), asset.line),
        )


def sql_reads(
    asset: Asset,
    what: str,
    found: list[NamedColumn] | None,
    tables: Mapping[str, str],
    file: str | None,
    line: int,
) -> list[ColumnRead]:
    """Return what was found in a text of SQL. Its own lines count where it is a file of its own;
    else it is at `line`, or where the asset is declared."""
    if found is None:  # the whole is not understood: said as a read without a column
        found = [NamedColumn("", tuple(sorted(set(tables.values()))), (), "", (), 1)]
    return [
        ColumnRead(
            by=asset.id,
            what=what,
            column=one.column,
            of=one.of,
            others=one.others,
            qualifier=one.qualifier,
            scope=one.scope,
            file=file or asset.file,
            line=one.line if file else line or asset.line,
        )
        for one in found
    ]


# ---------------------------------------------------------------- the text of SQL


def query_columns(text: str, tables: Mapping[str, str]) -> list[NamedColumn] | None:
    """Return the columns that one query in DuckDB's dialect must find, each once, at its first
    line; None for a query that cannot be followed.

    tables  name of a table -> asset id
    """
    return _followed(text, tables, is_query=True)


def expression_columns(text: str, tables: Mapping[str, str]) -> list[NamedColumn] | None:
    """Return the columns that an expression over the rows of `tables` must find, as
    `query_columns`."""
    return _followed(text, tables, is_query=False)


def _followed(text: str, tables: Mapping[str, str], *, is_query: bool) -> list[NamedColumn] | None:
    import sqlglot

    reader = _Reader({name.lower(): asset for name, asset in tables.items()})
    try:
        tree = sqlglot.parse_one(text, dialect="duckdb")
        if is_query:
            reader.query(tree, None, {})
        else:
            scope = _Scope(None, {})
            scope.tables = {
                name: _Relation(inputs=frozenset({asset}), is_table=True)
                for name, asset in reader.inputs.items()
            }
            reader.walk(tree, scope)
    except Exception:  # of a parser that is not ours, too: a check may not stop a load
        return None
    found = list(reader.found.values())
    return found if len(found) <= COLUMN_READS_MAX else None


class _Relation(NamedTuple):
    """The columns that something in a FROM may have: more than it has, never fewer. Names are in
    lower case.

    names     columns by name
    inputs    assets whose columns it may have
    is_open   it may have any other column
    is_table  it is an input itself, which has no two columns of one name
    """

    names: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    is_open: bool = False
    is_table: bool = False

    def __or__(self, other: "_Relation") -> "_Relation":
        return _Relation(
            self.names | other.names,
            self.inputs | other.inputs,
            self.is_open or other.is_open,
            self.is_table and other.is_table,
        )

    def may_have(self, name: str) -> bool:
        numbered = not self.is_table and bool(_NUMBERED.fullmatch(name))
        return self.is_open or name in self.names or numbered


_NOTHING = _Relation(is_table=True)
_ANYTHING = _Relation(is_open=True)


class _Scope:
    """What an expression can name, and the query around it."""

    def __init__(self, outer: "_Scope | None", ctes: Mapping[str, _Relation]) -> None:
        self.outer = outer
        self.ctes = ctes
        self.tables: dict[str, _Relation] = {}
        self.names: set[str] = set()  # aliases of the same SELECT, parameters of lambdas

    def chain(self) -> "Iterator[_Scope]":
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def table(self, name: str) -> _Relation | None:
        return next((one.tables[name] for one in self.chain() if name in one.tables), None)

    def everything(self) -> _Relation:
        whole = _NOTHING
        for scope in self.chain():
            for relation in scope.tables.values():
                whole |= relation
        return whole


class _Reader:
    """Follows one text of SQL."""

    def __init__(self, inputs: Mapping[str, str]) -> None:
        self.inputs = inputs
        self.found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], NamedColumn] = {}

    # ------------------------------------------------------------ queries

    def query(self, node: Any, outer: _Scope | None, ctes: Mapping[str, _Relation]) -> _Relation:
        """Follow a query; return the columns that its result may have."""
        from sqlglot import exp

        ctes = self._with(node, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, outer, ctes)
        if isinstance(node, exp.SetOperation):
            both = self.query(node.this, outer, ctes) | self.query(node.expression, outer, ctes)
            return both._replace(is_table=False)
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            inside = self.query(node.this, outer, ctes)
            plain = not node.args.get("joins") and not node.args.get("pivots")
            return inside if plain else _ANYTHING
        return _ANYTHING

    def _with(
        self, node: Any, outer: _Scope | None, ctes: Mapping[str, _Relation]
    ) -> Mapping[str, _Relation]:
        with_ = node.args.get("with_")
        if with_ is None:
            return ctes
        known = dict(ctes)
        for cte in with_.expressions:
            name = cte.alias.lower()
            inside = {**known, name: _ANYTHING} if with_.args.get("recursive") else known
            known[name] = _renamed(self.query(cte.this, outer, inside), cte.args.get("alias"))
        return known

    def _select(self, node: Any, outer: _Scope | None, ctes: Mapping[str, _Relation]) -> _Relation:
        scope = _Scope(outer, ctes)
        if node.args.get("from_") is not None:
            self._source(node.args["from_"].this, scope)
        for join in (*(node.args.get("joins") or ()), *(node.args.get("laterals") or ())):
            self._join(join, scope)
        result = _NOTHING._replace(is_table=False)
        for projection in node.expressions:
            result |= self._projection(projection, scope)
        done = {"with_", "from_", "joins", "laterals", "expressions"}
        for name, value in node.args.items():
            if name not in done:
                self._walk_all(value, scope)
        return result

    def _source(self, node: Any, scope: _Scope) -> None:
        """Add what a FROM or a JOIN names to the scope."""
        from sqlglot import exp

        alias = node.args.get("alias")
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            relation = self._named_table(node, scope)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            relation = _ANYTHING  # brackets around a join: under an alias of its own it is one
            self._source(node.this, scope)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            # in DuckDB it may use what stands to its left
            relation = self.query(node.this, scope, scope.ctes)
        elif isinstance(node, exp.Values) and alias is not None and alias.args.get("columns"):
            relation = _NOTHING
        else:
            relation = _ANYTHING
            self._walk_all(node.args.get("expressions"), scope)
        if node.args.get("pivots"):
            relation = _ANYTHING
        name = node.alias_or_name.lower() or f"\0{len(scope.tables)}"
        is_bracket = isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table)
        if not is_bracket or alias is not None:
            scope.tables[name] = _renamed(relation, alias)
        for join in (*(node.args.get("joins") or ()), *(node.args.get("laterals") or ())):
            self._join(join, scope)

    def _named_table(self, node: Any, scope: _Scope) -> _Relation:
        name = node.name.lower()
        if name in scope.ctes and not node.db:
            return scope.ctes[name]
        if name in self.inputs:
            return _Relation(inputs=frozenset({self.inputs[name]}), is_table=True)
        return _ANYTHING

    def _join(self, join: Any, scope: _Scope) -> None:
        from sqlglot import exp

        if not isinstance(join, exp.Join):
            self._source(join, scope)
            return
        left = scope.everything()
        before = set(scope.tables)
        self._source(join.this, scope)
        right = _NOTHING
        for name in set(scope.tables) - before:
            right |= scope.tables[name]
        for column in join.args.get("using") or ():
            self._note(column.name, left, column)
            self._note(column.name, right, column)
        self._walk_all(join.args.get("on"), scope)

    def _projection(self, node: Any, scope: _Scope) -> _Relation:
        """Follow one expression of a SELECT; return the columns that it makes."""
        from sqlglot import exp

        if isinstance(node, exp.Star):
            self._star(node, scope)
            return self._visible(scope) | _Relation(_renames(node))
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            self._star(node.this, scope)
            table = scope.table(node.parts[0].name.lower()) if len(node.parts) == 2 else None
            if table is None:  # the fields of a struct
                self._unqualified(node.parts[0], scope)
                return _ANYTHING
            return table._replace(is_table=False) | _Relation(_renames(node.this))
        self.walk(node, scope)
        if isinstance(node, exp.Alias):
            name = node.alias.lower()
        elif isinstance(node, exp.Column):
            name = node.name.lower()
        else:
            return _ANYTHING  # DuckDB names it
        scope.names.add(name)
        return _Relation(frozenset({name}))

    def _visible(self, scope: _Scope) -> _Relation:
        whole = _NOTHING._replace(is_table=False)
        for relation in scope.tables.values():
            whole |= relation
        return whole

    def _star(self, node: Any, scope: _Scope) -> None:
        """Follow what a star leaves out or replaces."""
        from sqlglot import exp

        for column in node.args.get("except_") or ():
            self.walk(column if isinstance(column, exp.Column) else exp.Column(this=column), scope)
        for replaced in node.args.get("replace") or ():
            self.walk(replaced.this if isinstance(replaced, exp.Alias) else replaced, scope)

    # ------------------------------------------------------------ expressions

    def walk(self, node: Any, scope: _Scope) -> None:
        """Follow an expression."""
        from sqlglot import exp

        if isinstance(node, exp.Column):
            self._column(node, scope)
        elif isinstance(node, exp.Query):
            self.query(node, scope, scope.ctes)
        elif isinstance(node, exp.Lambda | exp.Comprehension):
            inner = _Scope(scope, scope.ctes)
            parameters = (
                node.expressions if isinstance(node, exp.Lambda) else [node.args["expression"]]
            )
            inner.names |= {
                one.name.lower() for one in parameters for one in one.find_all(exp.Identifier)
            }
            for name, value in node.args.items():
                if not (name == "expressions" or value is parameters[0]):
                    self._walk_all(value, inner)
        elif isinstance(node, exp.Star):
            self._star(node, scope)
        else:
            for value in node.args.values():
                self._walk_all(value, scope)

    def _walk_all(self, value: Any, scope: _Scope) -> None:
        from sqlglot import exp

        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, exp.Expression):
                self.walk(one, scope)

    def _column(self, node: Any, scope: _Scope) -> None:
        from sqlglot import exp

        parts = node.parts
        head = parts[0].name.lower()
        if isinstance(node.this, exp.Star):
            if scope.table(head) is None:
                self._unqualified(parts[0], scope)
            return
        if len(parts) == 1 or scope.table(head) is None:
            if len(parts) > 1 and (head in _SCHEMAS or parts[1].name.lower() in scope.tables):
                return
            self._unqualified(parts[0], scope)
            return
        if any(head in one.names for one in scope.chain()):
            return  # a field of a struct that an alias or a lambda names
        relation = scope.table(head)
        assert relation is not None
        everything = scope.everything()
        if head not in everything.names:  # else a struct of that name, and a field of it
            self._note(parts[1].name, relation, parts[1], head, everything)

    def _unqualified(self, identifier: Any, scope: _Scope) -> None:
        name = identifier.name.lower()
        chain = list(scope.chain())
        if any(name in one.names or name in one.tables for one in chain):
            return
        if not any(one.tables for one in chain):
            return  # a query without a FROM
        if name in _NO_COLUMNS and not identifier.args.get("quoted"):
            return
        self._note(identifier.name, scope.everything(), identifier)

    def _note(
        self,
        name: str,
        relation: _Relation,
        node: Any,
        qualifier: str = "",
        scope: _Relation = _NOTHING,
    ) -> None:
        if relation.may_have(name.lower()) or name.lower() == "rowid":
            return
        column = NamedColumn(
            name,
            tuple(sorted(relation.inputs)),
            tuple(sorted(relation.names)),
            qualifier,
            tuple(sorted(scope.inputs)),
            int(node.meta.get("line", 1)),
        )
        self.found.setdefault((name.lower(), column.of, column.others), column)


def _renamed(relation: _Relation, alias: "exp.Expression | None") -> _Relation:
    """Return a relation with other names for its first columns, as in `t(a, b)`; it may still have
    the others."""
    columns = alias.args.get("columns") if alias is not None else None
    if not columns:
        return relation
    names = frozenset(one.name.lower() for one in columns)
    return relation._replace(names=relation.names | names, is_table=False)


def _renames(star: Any) -> frozenset[str]:
    """Return the names that a star gives: `* rename (a as b)`, `* replace (x as b)`."""
    given = (*(star.args.get("rename") or ()), *(star.args.get("replace") or ()))
    return frozenset(one.alias.lower() for one in given if one.alias)
