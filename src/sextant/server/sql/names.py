"""The names of tables in a query, and what stands behind them. Called by the guard; the catalogue
says what names mean."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from sextant.kernel.errors import Denied, UsageError
from sextant.server.sql.tokens import Token, cut, literal, quoted, replaced

SYSTEM = "sx_system"  # the database of the views that stand for `system`


class Names(Protocol):
    """What a name means at this moment, to this person."""

    def databases(self) -> frozenset[str]:
        """Return the databases that can be read."""
        ...

    def resolve(self, database: str, table: str) -> tuple[str, str] | None:
        """Return database and table that stand behind a name; the same pair where it stands for
        itself; None when there is none."""
        ...

    def hint(self, database: str, table: str) -> str:
        """Return what helps somebody who asked for a table that `resolve` does not know."""
        ...

    def generation(self) -> object:
        """Return something hashable that changes when a name changes its meaning."""
        ...


class _Ref(NamedTuple):
    """A table named in a query: tokens [first, last], its parts, and whether it stands in a FROM
    (else behind IN)."""

    first: int
    last: int
    parts: tuple[str, ...]
    source: bool


def unknown(database: str, table: str, names: Names) -> UsageError:
    if database not in names.databases():
        return UsageError(
            "SX-SQL-004",
            f"there is no database `{database[:80]}` here",
            hint=f"there are {', '.join(sorted(names.databases()))}",
        )
    return UsageError(
        "SX-SQL-006",
        f"there is no table `{database}.{table[:120]}`",
        hint=names.hint(database, table),
    )


def identifiers(
    text: str, found: list[Token], params: Mapping[str, str]
) -> tuple[str, list[Token]]:
    """Put the values of `{name:Identifier}` into the text, so that they are judged like names that
    were written."""
    changes = []
    for index, token in enumerate(found):
        if (
            token.text != "{"
            or index + 4 >= len(found)
            or [found[index + n].text for n in (2, 3, 4)] != [":", "Identifier", "}"]
        ):
            continue
        name = found[index + 1].name
        if name not in params:
            raise UsageError(
                "SX-SQL-009",
                f"the parameter `{name}` has no value",
                hint=f"send it as `param_{name}`",
            )
        try:
            changes.append((token.start, found[index + 4].end, quoted(params[name])))
        except ValueError as error:
            raise Denied(
                "SX-SQL-008",
                f"{error} cannot stand in a query",
                hint="use names without backslashes, quotes and control characters",
            ) from error
    if not changes:
        return text, found
    text = replaced(text, changes)
    return text, cut(text)


_ENDS_FROM = frozenset(
    {
        "SELECT",
        "WHERE",
        "PREWHERE",
        "GROUP",
        "HAVING",
        "WINDOW",
        "QUALIFY",
        "ORDER",
        "LIMIT",
        "OFFSET",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "INTERPOLATE",
    }
)


def _references(found: list[Token]) -> Iterable[_Ref]:
    """Find where tables are named: after FROM, JOIN and the commas between, and in `IN (d.t)`."""
    stack: list[
        list[bool]
        # for each open bracket: [a list of tables is being read, it is past ARRAY JOIN, a table
        # comes next]
    ] = []
    now = [False, False, False]
    for index, token in enumerate(found):
        before = found[index - 1] if index else None
        if token.kind == "sign" and token.text in "([{":
            inside = [found[index + n].text if index + n < len(found) else "" for n in range(1, 5)]
            if (
                before is not None
                and before.kind == "word"
                and before.text == "IN"
                and inside[1] == "."
                and inside[3] == ")"
            ):
                yield _Ref(
                    index + 1,
                    index + 3,
                    (found[index + 1].name, found[index + 3].name),
                    source=False,
                )
            now[2] = False
            stack.append(now)
            now = [False, False, False]
        elif token.kind == "sign" and token.text in ")]}":
            now = stack.pop() if stack else [False, False, False]
        elif token.text == "," and token.kind == "sign":
            now[2] = now[0] and not now[1]
        elif now[2] and token.name:
            now[2] = False
            two = index + 2 < len(found) and found[index + 1].text == "." and found[index + 2].name
            last = index + 2 if two else index
            if last + 1 < len(found) and found[last + 1].text == "(":
                continue  # a table function: the tree shows it
            yield _Ref(
                index, last, (token.name, found[last].name) if two else (token.name,), source=True
            )
        elif (
            token.kind == "word"
            and token.text == "FROM"
            and not (before is not None and before.text == "FILL")
        ):
            now[:] = [True, False, True]
        elif token.kind == "word" and token.text == "JOIN":
            array = before is not None and before.text == "ARRAY"
            now[:] = [True, array, not array]
        elif (
            token.kind == "word"
            and token.text in _ENDS_FROM
            and not (before is not None and before.text in (".", "AS"))
        ):
            now[:] = [False, False, False]


_CURRENT_DATABASE = frozenset({"currentdatabase", "current_database", "database", "schema"})
# What clients ask a server about itself when they connect. 0: Native blocks are sent in their plain
# form, as to a client without a revision.
_ABOUT_US = {"displayname": "'sextant'", "revision": "toUInt32(0)"}


def _common_tables(found: list[Token]) -> dict[str, list[tuple[int, int]]]:
    """Return the names that WITH gives to queries, each with the tokens between which it holds:
    those of its own bracket.

    Elsewhere such a name would be looked for in the connection's own database, so there it is a
    table like any other.
    """
    closing: dict[int, int] = {}
    inside: list[int] = []
    within: list[int] = []  # for each token, the bracket in which it stands; -1 = none
    for index, token in enumerate(found):
        if token.kind == "sign" and token.text in ")]}" and inside:
            closing[inside.pop()] = index
        within.append(inside[-1] if inside else -1)
        if token.kind == "sign" and token.text in "([{":
            inside.append(index)
    out: dict[str, list[tuple[int, int]]] = {}
    for index in range(1, len(found) - 2):
        if not found[index].name or found[index - 1].text not in ("WITH", ",", "RECURSIVE"):
            continue
        after = index + 1
        if found[after].text == "(":  # t (a, b) AS (SELECT ...)
            after = closing.get(after, after) + 1
        follows = [found[at].text if at < len(found) else "" for at in (after, after + 1)]
        if follows[0] == "AS" and follows[1] in ("(", "MATERIALIZED"):
            out.setdefault(found[index].name, []).append(
                (index, closing.get(within[index], len(found)))
            )
    return out


def with_names(
    text: str, found: list[Token], names: Names, database: str
) -> tuple[str, frozenset[str], list[str]]:
    """Replace names of tables by what stands behind them. Returns the text, the full names put in,
    and the names as asked for."""
    local = _common_tables(found)
    changes: list[tuple[int, int, str]] = []
    behind: set[str] = set()
    asked: list[str] = []
    moved: set[tuple[str, str]] = set()
    taken: set[int] = set()
    for ref in _references(found):
        if len(ref.parts) == 1 and any(
            start <= ref.first <= end for start, end in local.get(ref.parts[0], ())
        ):
            continue
        name = (ref.parts[0], ref.parts[1]) if len(ref.parts) == 2 else (database, ref.parts[0])
        if (
            not ref.source
            and name[0] not in names.databases()
            and not name[0].startswith(("sx_", "system", "information_schema"))
        ):
            continue  # `IN (t.column)`
        target = names.resolve(*name) if name[0] in names.databases() else None
        if target is None:
            raise unknown(*name, names)
        asked.append(".".join(name))
        taken.update(range(ref.first, ref.last + 1))
        if target != name or len(ref.parts) == 1:
            aliased = ref.last + 1 < len(found) and found[ref.last + 1].text == "AS"
            new = f"{quoted(target[0])}.{quoted(target[1])}"
            changes.append(
                (
                    found[ref.first].start,
                    found[ref.last].end,
                    new if aliased or not ref.source else f"{new} AS {quoted(name[1])}",
                )
            )
            behind.add(".".join(target))
            moved.add(name)
    about = {
        **dict.fromkeys(_CURRENT_DATABASE, literal(database)),
        **_ABOUT_US,
    }  # the connection has a database of its own
    changes += [
        (found[index].start, found[index + 2].end, about[found[index].name.lower()])
        for index in range(len(found) - 2)
        if found[index].name.lower() in about
        and found[index + 1].text == "("
        and found[index + 2].text == ")"
    ]
    for index in range(len(found) - 3):  # `data.flights.origin` is now `flights.origin`
        pair = (found[index].name, found[index + 2].name)
        if (
            pair in moved
            and index not in taken
            and found[index + 1].text == "."
            and found[index + 3].text == "."
            and (index == 0 or found[index - 1].text != ".")
        ):
            changes.append((found[index].start, found[index + 2].start, ""))
    return replaced(text, changes), frozenset(behind), asked
