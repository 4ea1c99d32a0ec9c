"""SHOW, DESCRIBE, EXISTS and EXPLAIN, rewritten as selects of what untrusted queries may see.
Called by the guard."""

from sextant.kernel.errors import Denied, UsageError
from sextant.server.sql.names import Names, unknown
from sextant.server.sql.tokens import Token, literal, quoted


def as_select(
    text: str, found: list[Token], names: Names, database: str
) -> tuple[str, str, str, bool]:
    """Return what stands before the query, the query, what stands after it, and whether it is a
    DESCRIBE of a resolved table (nothing to judge)."""
    words = [token.text if token.kind == "word" else "" for token in found] + [""] * 4
    if not found:
        raise UsageError(
            "SX-SQL-007", "the query is empty", hint="send it as `?query=` or as the body of a POST"
        )
    if words[0] in ("SELECT", "WITH") or found[0].text == "(":
        return "", text, "", False
    if words[0] == "EXPLAIN":
        start = _explained(found)
        return text[: found[start].start], text[found[start].start :], "", False
    if words[:2] == ["DESCRIBE", "TABLE"]:
        if found[2].text == "(" and found[-1].text == ")":
            return "DESCRIBE TABLE (", text[found[2].end : found[-1].start], ")", False
        name = _table_name(found[2:], names, database)
        behind = names.resolve(*name)
        if behind is None:
            raise unknown(*name, names)
        return "", f"DESCRIBE TABLE {quoted(behind[0])}.{quoted(behind[1])}", "", True
    if words[:2] in (["EXISTS", "TABLE"], ["EXISTS", "VIEW"]):
        there = names.resolve(*_table_name(found[2:], names, database)) is not None
        return "", f"SELECT toUInt8({int(there)}) AS result", "", False
    if words[:2] == ["EXISTS", "DATABASE"] and len(found) == 3:
        return "", f"SELECT toUInt8({int(found[2].name in names.databases())}) AS result", "", False
    if words[:3] in (["SHOW", "CREATE", "TABLE"], ["SHOW", "CREATE", "VIEW"]):
        of, table = _table_name(found[3:], names, database)
        if names.resolve(of, table) is None:
            raise unknown(of, table, names)
        columns = (
            "arrayStringConcat(groupArray(concat('`', name, '` ', type)), ', ') FROM (SELECT "
            f"name, type FROM system.columns WHERE database = {literal(of)} AND table = "
            f"{literal(table)} ORDER BY position)"
        )
        return (
            "",
            (
                f"SELECT concat({literal(f'CREATE TABLE {of}.{table} (')}, "
                f"{columns.replace(' FROM ', ', ' + literal(')') + ') AS statement FROM ', 1)}"
            ),
            "",
            False,
        )
    if words[0] == "SHOW":
        return "", _shown(text, found, names, database), "", False
    raise Denied(
        "SX-SQL-001",
        f"this endpoint only reads, and {words[0] or 'this'} does not",
        hint=(
            "SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can be asked; data is changed by publishing"
        ),
    )


def _explained(found: list[Token]) -> int:
    """Return the token at which the explained query starts."""
    kinds = (["PLAN"], ["PIPELINE"], ["SYNTAX"], ["ESTIMATE"], ["QUERY", "TREE"], ["AST"])
    start = 1
    for kind in kinds:
        if [token.text for token in found[1 : 1 + len(kind)]] == kind:
            start += len(kind)
            break
    while (
        start + 3 < len(found)
        and found[start].kind == "word"
        and found[start + 1].text == "="
        and found[start + 2].kind == "number"
    ):
        start += 3 + (found[start + 3].text == ",")
    if start >= len(found) or (
        found[start].text not in ("SELECT", "WITH") and found[start].text != "("
    ):
        raise Denied(
            "SX-SQL-001",
            "only queries that read can be explained",
            hint="EXPLAIN, with PLAN, PIPELINE, SYNTAX, ESTIMATE, QUERY TREE or AST, and a SELECT",
        )
    return start


def _table_name(found: list[Token], names: Names, database: str) -> tuple[str, str]:
    """Return database and table of what is left of a statement: `t` or `d.t`, and nothing else."""
    if len(found) == 1 and found[0].name:
        return database, found[0].name
    if len(found) == 3 and found[1].text == "." and found[0].name and found[2].name:
        if found[0].name not in names.databases():
            raise unknown(found[0].name, "", names)
        return found[0].name, found[2].name
    raise Denied(
        "SX-SQL-001",
        "only a table can be described",
        hint="name a table, as in `data.flights`; table functions are closed",
    )


def _shown(text: str, found: list[Token], names: Names, database: str) -> str:
    """Return the select for SHOW DATABASES, TABLES, COLUMNS or FUNCTIONS."""
    rest = [
        token
        for token in found[1:]
        if not (token.kind == "word" and token.text in ("FULL", "EXTENDED"))
    ]
    full = len(rest) < len(found) - 1
    what = rest[0].text if rest else ""
    rest = rest[1:]
    table = ""
    if what == "COLUMNS" and len(rest) > 1 and rest[0].text == "FROM":
        table, rest = rest[1].name, rest[2:]
    if what in ("TABLES", "COLUMNS") and len(rest) > 1 and rest[0].text == "FROM":
        database, rest = rest[1].name, rest[2:]
    like, limit = "", ""
    if rest and rest[-2:-1] and rest[-2].text == "LIMIT" and rest[-1].kind == "number":
        limit, rest = f" LIMIT {rest[-1].text}", rest[:-2]
    words = [token.text for token in rest]
    if (
        len(rest) in (2, 3)
        and rest[-1].kind == "string"
        and words[:-1] in (["LIKE"], ["ILIKE"], ["NOT", "LIKE"], ["NOT", "ILIKE"])
    ):
        like, rest = f"name {' '.join(words)}", []
    if not rest and what == "FUNCTIONS":
        return (
            f"SELECT * FROM system.functions{' WHERE ' + like if like else ''} ORDER BY name{limit}"
        )
    if rest or what not in ("DATABASES", "TABLES", "COLUMNS"):
        raise Denied(
            "SX-SQL-001",
            f"`{text[:60]}` cannot be asked",
            hint=(
                "SHOW DATABASES, SHOW TABLES FROM data, SHOW COLUMNS FROM t FROM data can; "
                "others stand in system.*"
            ),
        )
    if what == "DATABASES":
        return (
            f"SELECT name FROM system.databases{' WHERE ' + like if like else ''} ORDER BY "
            f"name{limit}"
        )
    if database not in names.databases():
        raise unknown(database, "", names)
    also = f" AND {like}" if like else ""
    if what == "TABLES":
        kind = ", if(engine = 'View', 'VIEW', 'BASE TABLE') AS table_type" if full else ""
        return (
            f"SELECT name{kind} FROM system.tables WHERE database = {literal(database)}{also} "
            f"ORDER BY name{limit}"
        )
    if names.resolve(database, table) is None:
        raise unknown(database, table, names)
    fields = (
        "name AS field, type, if(startsWith(type, 'Nullable'), 'YES', 'NO') AS `null`, '' AS "
        "key, NULL AS `default`, '' AS extra"
    )
    return (
        f"SELECT {fields} FROM system.columns WHERE database = {literal(database)} AND table = "
        f"{literal(table)}{also} ORDER BY position{limit}"
    )
