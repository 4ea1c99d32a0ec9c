"""Judges the tree that ClickHouse's parser made of a query (`EXPLAIN AST`): what is not known to be
harmless is refused. Called by the guard."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sextant.kernel.errors import Denied, UsageError
from sextant.server.sql import functions
from sextant.server.sql.names import Names, unknown
from sextant.server.sql.tokens import Token

# Kinds of nodes in a tree that only reads. `Set` (SETTINGS) is not among them: what may be set has
# been taken off before.
_NODES = frozenset({
    "SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "ExpressionList",
    "Subquery", "WithElement", "TablesInSelectQuery", "TablesInSelectQueryElement",
    "TableExpression", "TableIdentifier", "TableJoin", "ArrayJoin", "SampleRatio", "Identifier",
    "Literal", "Function", "Asterisk", "QualifiedAsterisk", "ColumnsRegexpMatcher",
    "ColumnsListMatcher", "QualifiedColumnsRegexpMatcher", "QualifiedColumnsListMatcher",
    "ColumnsTransformerList", "ColumnsApplyTransformer", "ColumnsExceptTransformer",
    "ColumnsReplaceTransformer", "ColumnsReplaceTransformer::Replacement", "OrderByElement",
    "InterpolateElement", "WindowDefinition", "WindowListElement", "StorageOrderByElement",
})  # fmt: skip
_LINE = re.compile(r"(?P<indent> *)(?P<kind>[A-Za-z:]+) ?(?P<rest>.*)")
_CHILDREN = re.compile(r" ?\(children (\d+)\)$")
_ESCAPE = re.compile(r"\\.")
_TEXTS = re.compile(r"'(?:[^'\\]|\\.)*'")
_SELECTS = "only SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can"


class Running(NamedTuple):
    """What the running ClickHouse says of its functions, in small letters.

    refused          functions that may not be called
    takes_no_lambda  functions to which no other function can be handed
    """

    refused: frozenset[str]
    takes_no_lambda: frozenset[str]


class _Node:
    """A node above the one that is looked at."""

    __slots__ = ("children", "depth", "kind", "name", "seen")

    def __init__(self, depth: int, kind: str, name: str, children: int) -> None:
        self.depth, self.kind, self.name, self.children = depth, kind, name, children
        self.seen = 0


def check(
    tree: Sequence[str], names: Names, behind: Collection[str], running: Running, applied: int
) -> None:
    """Refuse a tree that holds anything that is not known to be harmless.

    tree     lines of EXPLAIN AST;  behind  full names of tables that were put in for what was asked
    applied  how many functions of APPLY were checked: the tree does not show them
    Raises   Denied; UsageError for names that are not known
    """
    path: list[_Node] = []
    transformers = 0
    for number, line in enumerate(tree):
        found = _LINE.fullmatch(line)
        kind = found["kind"] if found else ""
        if found is None or kind not in _NODES:
            if kind == "Set":
                raise Denied(
                    "SX-SQL-005",
                    "SETTINGS can stand only at the end of the whole query",
                    hint="leave them out of subqueries and branches of UNION",
                )
            raise Denied(
                "SX-SQL-001",
                f"this kind of statement cannot be asked: {line.strip()[:60]}",
                hint=_SELECTS,
            )
        count = _CHILDREN.search(found["rest"])
        node = _Node(
            len(found["indent"]),
            kind,
            re.split(r" ?\((?:alias|children) ", found["rest"])[0],
            int(count[1]) if count else 0,
        )
        while path and path[-1].depth >= node.depth:
            path.pop()
        if (number == 0) != (not path) or (number == 0 and kind != "SelectWithUnionQuery"):
            raise Denied("SX-SQL-001", "only a query that reads can be asked", hint=_SELECTS)
        if (
            kind == "SelectWithUnionQuery" and node.children != 1
        ):  # FORMAT or INTO OUTFILE hang on it as more children
            raise Denied(
                "SX-SQL-001",
                "FORMAT and INTO OUTFILE cannot stand inside of a query",
                hint="FORMAT stands at its end; the answer comes back to you",
            )
        if len(path) > 1 and path[-1].kind == "ExpressionList" and path[-2].kind == "Function":
            _check_argument(node, found["rest"], path)
        if kind == "Function" and path[-1].kind == "TableExpression":
            if node.name.lower() not in functions.TABLE_FUNCTIONS:
                raise Denied(
                    "SX-SQL-002",
                    f"the table function `{node.name}` cannot be used",
                    hint=(
                        "read the tables of data, obs, ops and kpi; numbers() and values() are open"
                    ),
                )
        elif kind == "Function":
            check_function(node.name)
        elif kind == "TableIdentifier" and "." in node.name and node.name not in behind:
            _check_open(node.name, names)
        elif kind == "Identifier":
            _check_identifier(node.name, path, behind, names, running)
        elif kind == "Literal" and functions.STATE.search(found["rest"]):
            raise Denied(
                "SX-SQL-002",
                "states of aggregates cannot be made out of text",
                hint="compute them with -State, or read them from a table",
            )
        elif kind == "ColumnsApplyTransformer":
            transformers += 1
        if path:
            path[-1].seen += 1
        path.append(node)
    if not tree or transformers != applied:
        raise Denied(
            "SX-SQL-002",
            "a function of APPLY could not be told",
            hint="write the columns one by one",
        )


def check_function(name: str) -> None:
    """Refuse a function that is not on the list."""
    if len(name) < 200 and functions.allowed(name):
        return
    why = functions.denied(name)
    if why:
        raise Denied(
            "SX-SQL-002",
            f"the function `{name}` cannot be used: {why}",
            hint="docs/concepts/sql.md says which functions there are",
        )
    raise UsageError("SX-SQL-003", f"there is no function `{name[:80]}`", hint=_near(name))


def check_applied(found: Sequence[Token]) -> int:
    """Check the functions of `APPLY`. Returns how many there are."""
    count = 0
    for index, token in enumerate(found[:-1]):
        if token.kind != "word" or token.text != "APPLY":
            continue
        function = found[index + 1].name
        if not function:
            raise Denied(
                "SX-SQL-002",
                "APPLY takes only the name of a function here",
                hint="write `APPLY toString`, or the columns one by one",
            )
        check_function(function)
        count += 1
    return count


def _check_argument(node: _Node, text: str, path: Sequence[_Node]) -> None:
    """Refuse arguments in which ClickHouse reads more than a value: lists of columns with
    expressions in them, types that are computed."""
    function, index = path[-2].name.lower(), path[-1].seen
    if len(path) > 2 and path[-3].kind == "TableExpression" and function in functions.STRUCTURED:
        # An argument that is computed, or a name that ClickHouse takes for text, could be such a
        # list without being seen here.
        whole = node.kind == "Literal" or (
            node.kind == "Function" and node.name in ("tuple", "array", "negate")
        )
        if index == 0 and (
            not whole
            or functions.EXPRESSIONS.search(
                _ESCAPE.sub(" ", "".join(_TEXTS.findall(text)) if node.kind == "Literal" else "")
            )
        ):
            raise Denied(
                "SX-SQL-002",
                (
                    f"the first argument of `{function}` can be a list of columns with names "
                    "and types, or a row"
                ),
                hint="write it out, without DEFAULT, ALIAS and the like",
            )
    if index == functions.NAMED.get(function):
        named = functions.AGGREGATE.match(text) if node.kind == "Literal" else None
        if named is None:
            raise Denied(
                "SX-SQL-002",
                f"the aggregate in `{function}` has to be written out",
                hint="as in arrayReduce('sum', x)",
            )
        check_function(named[1])
    typed = functions.TYPED.get(function)
    if (
        typed is not None
        and index == (typed if typed >= 0 else path[-1].children - 1)
        and node.kind != "Literal"
    ):
        raise Denied(
            "SX-SQL-002",
            f"the type in `{function}` has to be written out",
            hint="as in CAST(x, 'Float64')",
        )


def _check_open(name: str, names: Names) -> None:
    database, _, table = name.partition(".")
    if database in names.databases() and names.resolve(database, table) == (database, table):
        return
    raise unknown(database, table, names)


def _check_identifier(
    name: str, path: Sequence[_Node], behind: Collection[str], names: Names, running: Running
) -> None:
    lowered = name.lower()
    first, dot, rest = lowered.partition(".")
    if (
        dot
        and name not in behind
        and (first in ("system", "information_schema") or first.startswith("sx_"))
    ):
        raise unknown(first, rest, names)
    if dot or lowered not in running.refused:
        return
    function = (
        path[-2].name.lower()
        if len(path) > 1 and path[-1].kind == "ExpressionList" and path[-2].kind == "Function"
        else ""
    )
    if (
        function
        and function not in running.takes_no_lambda
        and not (function not in functions.GRAMMAR and _is_aggregate(function))
    ):
        raise Denied(
            "SX-SQL-002",
            f"`{name}` can be read as the function of this name here, which cannot be used",
            hint=f"for a column write its table before it: `t.{name}`",
        )


def _is_aggregate(name: str) -> bool:
    from sextant.server.sql.known import FUNCTIONS

    return name not in FUNCTIONS and functions.allowed(name)


def _near(name: str) -> str:
    import difflib

    from sextant.server.sql.known import AGGREGATES, FUNCTIONS

    close = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *AGGREGATES], n=3)
    return (
        f"did you mean {' or '.join(f'`{one}`' for one in close)}?"
        if close
        else "functions that are not known here are refused; see docs/concepts/sql.md"
    )
