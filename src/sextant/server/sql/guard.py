"""Judges a stranger's query: one statement that only reads, only what is open, by functions that are known. Called by the endpoint.

The judgement rests on ClickHouse's own parser, not on one of ours:

1. `formatQuerySingleLine` parses the text (as a bound parameter) and renders it: one statement, no comments, one way of quoting.
2. The rendering is cut into tokens. FORMAT and SETTINGS are taken off its end; OUTFILE is refused; statements that are not selects are
   turned into selects; names of tables are replaced by what stands behind them.
3. `EXPLAIN AST` of the result, in parentheses, shows what ClickHouse parsed. Every node must be of a known kind, every function on the
   list, every table open. What runs is exactly the text whose tree was judged.

Three things do not stand in that tree, and are judged by their tokens or forbidden: the functions of `* APPLY f`, a function given by
its bare name (`arrayMap(file, x)`), and names inside string literals, for which the functions that take such names are refused.
"""

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from sextant.kernel.errors import Denied, UsageError
from sextant.kernel.ports import Telemetry
from sextant.server.sql import functions
from sextant.server.sql.tokens import Token, literal, quoted, replaced, tokens

TEXT_BYTES_MAX = 256 << 10  # ClickHouse's own bound on the text of a query (max_query_size)
_JUDGED_KEPT = 512  # judgements kept: dashboards ask the same again and again
SYSTEM = "sx_system"  # the database of the views that stand for `system`
# Kinds of nodes in a tree that only reads. `Set` (SETTINGS) is not among them: what may be set has been taken off before.
_NODES = frozenset({
    "SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "ExpressionList", "Subquery", "WithElement", "TablesInSelectQuery",
    "TablesInSelectQueryElement", "TableExpression", "TableIdentifier", "TableJoin", "ArrayJoin", "SampleRatio", "Identifier", "Literal", "Function",
    "Asterisk", "QualifiedAsterisk", "ColumnsRegexpMatcher", "ColumnsListMatcher", "QualifiedColumnsRegexpMatcher", "QualifiedColumnsListMatcher",
    "ColumnsTransformerList", "ColumnsApplyTransformer", "ColumnsExceptTransformer", "ColumnsReplaceTransformer",
    "ColumnsReplaceTransformer::Replacement", "OrderByElement", "InterpolateElement", "WindowDefinition", "WindowListElement", "StorageOrderByElement",
})  # fmt: skip
_LINE = re.compile(r"(?P<indent> *)(?P<kind>[A-Za-z:]+) ?(?P<rest>.*)")
_CHILDREN = re.compile(r" ?\(children (\d+)\)$")
_FORMAT = re.compile(
    r"Native|Null|Values|Vertical|XML|Markdown|Arrow|ArrowStream|Parquet|ORC|Avro|MsgPack|BSONEachRow|SQLInsert|TSKV|NDJSON|JSONL|JSONLines|PrettyNDJSON"
    r"|(?:CSV|TSV|TSVRaw|TabSeparated|TabSeparatedRaw|RowBinary|CustomSeparated)(?:WithNames(?:AndTypes)?)?"
    r"|JSON(?:Strings|Columns|ColumnsWithMetadata|ObjectEachRow|EachRow|StringsEachRow)?"
    r"|JSONCompact(?:Strings|Columns)?|JSONCompact(?:Strings)?EachRow(?:WithNames(?:AndTypes)?)?"
    r"|Pretty(?:Compact|Space)?(?:NoEscapes)?(?:MonoBlock)?|PrettyJSONEachRow"
)
# Settings that clients send and that change no answer: how fast, how logged, how transported, and how *input* would be read.
_WITHOUT_EFFECT = re.compile(
    r"max_threads|max_block_size|max_insert_.*|max_query_size|max_parser_depth|max_concurrent_queries.*|max_(?:download|final|streams)\w*|priority|log_.*"
    r"|send_.*|wait_end_of_query|http_.*|cancel_http_readonly_queries_on_client_close|receive_timeout|send_timeout|connect_timeout\w*|idle_connection_timeout"
    r"|buffer_size|load_balancing|use_uncompressed_cache|use_query_cache|network_compression_\w+|enable_http_compression|date_time_input_format|input_format_\w+"
    r"|async_insert\w*|wait_for_async_insert|insert_\w+|mutations_sync|min_insert_\w+|optimize_\w+|prefer_\w+|query_profiler_\w+|allow_experimental_analyzer|enable_analyzer"
    r"|timeout_before_checking_execution_speed|skip_unavailable_shards|distributed_\w+|memory_\w+|client_protocol_version|extremes|session_timezone_"
)
# Limits that a client may lower: setting -> (field of QueryLimits, its ladder). Steps, because the store keeps a connection for each
# combination; a request between two steps gets the next higher one, never more than our own limit.
_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_ROWS = tuple(10**n for n in range(10))
_BYTES = tuple(1 << n for n in range(26, 38))
LIMITS: dict[str, tuple[str, tuple[int, ...]]] = {
    "max_execution_time": ("seconds", _SECONDS), "max_result_rows": ("rows_result", _ROWS), "max_rows_to_read": ("rows_read", _ROWS),
    "max_memory_usage": ("memory_bytes", _BYTES), "max_memory_usage_for_user": ("memory_bytes", _BYTES),
}  # fmt: skip
# Settings that do change answers are taken only at the value that holds anyway.
_AS_IS = {
    "readonly": ("1", "2"), "join_use_nulls": ("0", "false"), "session_timezone": ("", "UTC"), "result_overflow_mode": ("throw",), "read_overflow_mode": ("throw",),
    "timeout_overflow_mode": ("throw",), "date_time_output_format": ("simple",), "max_result_bytes": (), "output_format_native_encode_types_in_binary_format": ("0", "false"),
    "output_format_json_quote_64bit_integers": ("0", "false"), "output_format_json_quote_denormals": ("0", "false"), "default_format": (), "dialect": ("clickhouse",),
    "allow_experimental_variant_type": ("1",), "allow_experimental_dynamic_type": ("1",), "allow_experimental_json_type": ("1",),
    "output_format_json_named_tuples_as_objects": ("1",), "use_client_time_zone": ("0", "1"),
}  # fmt: skip
_IGNORED_ANY = frozenset({"max_result_bytes", "default_format"})


class Names(Protocol):
    """What a name means at this moment, to this person."""

    def databases(self) -> frozenset[str]:
        """Return the databases that can be read."""
        ...

    def resolve(self, database: str, table: str) -> tuple[str, str] | None:
        """Return database and table that stand behind a name; the same pair where it stands for itself; None when there is none."""
        ...

    def hint(self, database: str, table: str) -> str:
        """Return what helps somebody who asked for a table that `resolve` does not know."""
        ...

    def generation(self) -> object:
        """Return something hashable that changes when a name changes its meaning."""
        ...


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A query that may run.

    sql       what to run: exactly the text that was judged
    form      the format that the text itself asked for, "" for none
    settings  limits that it asked for, as in `LIMITS`
    tables    the names it reads, as asked for
    """

    sql: str
    form: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    tables: tuple[str, ...] = ()


class _Ref(NamedTuple):
    """A table named in a query: tokens [first, last], its parts, and whether it stands in a FROM (else behind IN)."""

    first: int
    last: int
    parts: tuple[str, ...]
    source: bool


class Guard:
    """Judges queries with the parser of one store. Safe to call from several threads."""

    def __init__(self, store: Telemetry) -> None:
        rows = store.query("SELECT lower(name), is_aggregate OR ifNull(higher_order, 1) = 0 FROM system.functions", form="TabSeparated").decode()
        listed = dict(row.split("\t") for row in rows.splitlines())
        self._store = store
        # By its bare name a function can be handed to another that takes lambdas. These may not be; the list is the running ClickHouse's.
        self._refused = frozenset(name for name in listed if not functions.allowed(name))
        self._takes_no_lambda = frozenset(name for name, plain in listed.items() if plain == "1")
        self._kept: OrderedDict[object, Judged] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, sql: str, names: Names, *, database: str = "data", params: Mapping[str, str] | None = None) -> Judged:
        """Return what may run for a query as written.

        names     what tables mean; database  where a table without one is looked for; params  `{name:Type}` -> value as text
        Raises    Denied for what may not be asked; UsageError for what ClickHouse cannot parse, or does not know
        """
        params = params or {}
        identifiers = tuple(sorted((key, value) for key, value in params.items() if f"{{{key}:" in sql.replace(" ", "")))
        key = (sql, database, identifiers, names.generation())
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        judged = self._judge(sql, names, database, params)
        with self._lock:
            self._kept[key] = judged
            while len(self._kept) > _JUDGED_KEPT:
                self._kept.popitem(last=False)
        return judged

    def _judge(self, sql: str, names: Names, database: str, params: Mapping[str, str]) -> Judged:
        if database not in names.databases():
            raise UsageError("SX-SQL-004", f"there is no database `{database[:80]}`", hint=f"there are {', '.join(sorted(names.databases()))}")
        text = self._rendered(sql)
        found = _cut(text)
        text, found = _identifiers(text, found, params)
        text, form, settings = _tail(text, found)
        found = _cut(text)
        head, text, end, described = _as_select(text, found, names, database)
        found = _cut(text)
        if any(token.kind == "word" and token.text == "OUTFILE" for token in found):
            raise Denied("SX-SQL-001", "a query cannot write a file", hint="leave INTO OUTFILE out; the answer comes back to you")
        text, behind, tables = _with_names(text, found, names, database)
        found = _cut(text)
        applied = self._applied(found)
        if not described:
            self._check_tree(text, params, names, behind, applied)
        return Judged(sql=f"{head}{text}{end}", form=form, settings=settings, tables=tuple(tables))

    def _rendered(self, sql: str) -> str:
        if len(sql.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
            raise UsageError("SX-SQL-007", f"the query is longer than {TEXT_BYTES_MAX >> 10} KiB", hint="put long lists of values into parameters, or a table")
        if any((ord(char) < 32 and char not in "\t\n\r\f") or "\ud800" <= char <= "\udfff" for char in sql):
            raise UsageError("SX-SQL-007", "the query has control characters in it", hint="escape them in the string, as in 'a\\0b'")
        if not sql.strip().strip(";"):
            raise UsageError("SX-SQL-007", "the query is empty", hint="send it as `?query=` or as the body of a POST")
        rendered = self._ask("SELECT formatQuerySingleLine(unhex({sx:String}))", {"sx": sql.encode().hex()}, sql)
        return rendered.rstrip("\n")

    def _ask(self, question: str, params: Mapping[str, str], shown: str) -> str:
        """Ask the parser. What it says about our question is turned into what it says about the stranger's."""
        from sextant.kernel.errors import UserError

        try:
            return self._store.ask(question, form="TSVRaw", params=params).decode()
        except UserError as error:
            said = re.sub(r": [Ii]n scope SELECT formatQuerySingleLine\(.*?\)\)?(?=\. \(|$|\. )", "", error.message.removeprefix("the query is not right: "), flags=re.DOTALL)
            if "Multi-statements" in said:
                raise Denied("SX-SQL-001", "only one statement can be asked at a time", hint="send the statements one by one") from error
            if "Syntax error" in said:
                said = re.sub(r"Expected one of: .*", "", said, flags=re.DOTALL) if len(said) > 400 else said
                raise UsageError("SX-SQL-007", said.strip(), hint="the SQL is ClickHouse's; see docs/concepts/sql.md", where=shown[:80]) from error
            raise UsageError("SX-SQL-007", said.strip(), hint="the SQL is ClickHouse's; see docs/concepts/sql.md") from error

    def _applied(self, found: list[Token]) -> int:
        """Check the functions of `APPLY`, which the tree does not show. Returns how many there are."""
        count = 0
        for index, token in enumerate(found[:-1]):
            if token.kind != "word" or token.text != "APPLY":
                continue
            function = found[index + 1].name
            if not function:
                raise Denied("SX-SQL-002", "APPLY takes only the name of a function here", hint="write `APPLY toString`, or the columns one by one")
            self._check_function(function)
            count += 1
        return count

    def _check_function(self, name: str) -> None:
        if len(name) < 200 and functions.allowed(name):
            return
        why = functions.denied(name)
        if why:
            raise Denied("SX-SQL-002", f"the function `{name}` cannot be used: {why}", hint="docs/concepts/sql.md says which functions there are")
        raise UsageError("SX-SQL-003", f"there is no function `{name[:80]}`", hint=_near(name))

    def _check_tree(self, text: str, params: Mapping[str, str], names: Names, behind: frozenset[str], applied: int) -> None:
        """Refuse a text whose tree holds anything that is not known to be harmless."""
        tree = self._ask(f"EXPLAIN AST (\n{text}\n)", params, text).splitlines()
        path: list[tuple[int, str, str]] = []  # the nodes above: depth, kind, name
        transformers = 0
        for number, line in enumerate(tree):
            found = _LINE.fullmatch(line)
            kind = found["kind"] if found else ""
            if found is None or kind not in _NODES:
                if kind == "Set":
                    raise Denied("SX-SQL-005", "SETTINGS can stand only at the end of the whole query", hint="leave them out of subqueries and branches of UNION")
                raise Denied("SX-SQL-001", f"this kind of statement cannot be asked: {line.strip()[:60]}", hint="only SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can")
            children = _CHILDREN.search(found["rest"])
            name = re.split(r" ?\((?:alias|children) ", found["rest"])[0]
            depth = len(found["indent"])
            while path and path[-1][0] >= depth:
                path.pop()
            if (number == 0) != (not path) or (number == 0 and kind != "SelectWithUnionQuery"):
                raise Denied("SX-SQL-001", "only a query that reads can be asked", hint="only SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can")
            if kind == "SelectWithUnionQuery" and (children is None or children[1] != "1"):  # FORMAT or INTO OUTFILE hang on it as more children
                raise Denied("SX-SQL-001", "FORMAT and INTO OUTFILE cannot stand inside of a query", hint="FORMAT stands at its end; the answer comes back to you")
            if kind == "Function" and path[-1][1] == "TableExpression":
                if name.lower() not in functions.TABLE_FUNCTIONS:
                    raise Denied("SX-SQL-002", f"the table function `{name}` cannot be used", hint="read the tables of data, obs, ops and kpi; numbers() and values() are open")
            elif kind == "Function":
                self._check_function(name)
            elif kind == "TableIdentifier" and "." in name and name not in behind:
                self._check_open(name, names)
            elif kind == "Identifier":
                self._check_identifier(name, path, behind, names)
            elif kind == "Literal" and "AggregateFunction(" in name:
                raise Denied("SX-SQL-002", "states of aggregates cannot be made out of text", hint="compute them with -State, or read them from a table")
            elif kind == "ColumnsApplyTransformer":
                transformers += 1
            path.append((depth, kind, name))
        if not tree or transformers != applied:
            raise Denied("SX-SQL-002", "a function of APPLY could not be told", hint="write the columns one by one")

    def _check_open(self, name: str, names: Names) -> None:
        database, _, table = name.partition(".")
        if database in names.databases() and names.resolve(database, table) == (database, table):
            return
        raise _unknown(database, table, names)

    def _check_identifier(self, name: str, path: list[tuple[int, str, str]], behind: frozenset[str], names: Names) -> None:
        lowered = name.lower()
        first, dot, rest = lowered.partition(".")
        if dot and name not in behind and (first in ("system", "information_schema") or first.startswith("sx_")):
            raise _unknown(first, rest, names)
        if dot or lowered not in self._refused:
            return
        function = path[-2][2].lower() if len(path) > 1 and path[-1][1] == "ExpressionList" and path[-2][1] == "Function" else ""
        if function and function not in self._takes_no_lambda and not (function not in functions.GRAMMAR and _is_aggregate(function)):
            raise Denied("SX-SQL-002", f"`{name}` can be read as the function of this name here, which cannot be used", hint=f"for a column write its table before it: `t.{name}`")


def judge(sql: str, store: Telemetry, names: Names) -> Judged:
    """Judge one query; see `Guard.judge`. For many, keep a Guard."""
    return Guard(store).judge(sql, names)


def _is_aggregate(name: str) -> bool:
    from sextant.server.sql.known import FUNCTIONS

    return name not in FUNCTIONS and functions.allowed(name)


def _unknown(database: str, table: str, names: Names) -> UsageError:
    if database not in names.databases():
        return UsageError("SX-SQL-004", f"there is no database `{database[:80]}` here", hint=f"there are {', '.join(sorted(names.databases()))}")
    return UsageError("SX-SQL-006", f"there is no table `{database}.{table[:120]}`", hint=names.hint(database, table))


def _near(name: str) -> str:
    import difflib

    from sextant.server.sql.known import AGGREGATES, FUNCTIONS

    close = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *AGGREGATES], n=3)
    return f"did you mean {' or '.join(f'`{one}`' for one in close)}?" if close else "functions that are not known here are refused; see docs/concepts/sql.md"


def _cut(text: str) -> list[Token]:
    try:
        return tokens(text)
    except ValueError as error:
        raise Denied("SX-SQL-008", f"{error} cannot stand in a query", hint="use names without backslashes, quotes and control characters") from error


# ---------------------------------------------------------------- parameters


def _identifiers(text: str, found: list[Token], params: Mapping[str, str]) -> tuple[str, list[Token]]:
    """Put the values of `{name:Identifier}` into the text, so that they are judged like names that were written."""
    changes = []
    for index, token in enumerate(found):
        if token.text != "{" or index + 4 >= len(found) or [found[index + n].text for n in (2, 3, 4)] != [":", "Identifier", "}"]:
            continue
        name = found[index + 1].name
        if name not in params:
            raise UsageError("SX-SQL-009", f"the parameter `{name}` has no value", hint=f"send it as `param_{name}`")
        try:
            changes.append((token.start, found[index + 4].end, quoted(params[name])))
        except ValueError as error:
            raise Denied("SX-SQL-008", f"{error} cannot stand in a query", hint="use names without backslashes, quotes and control characters") from error
    if not changes:
        return text, found
    text = replaced(text, changes)
    return text, _cut(text)


# ---------------------------------------------------------------- FORMAT and SETTINGS


def _tail(text: str, found: list[Token]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Take FORMAT and SETTINGS off the end. Returns the text before them, the format ("" for none), and the limits among the settings."""
    depth, start = 0, len(found)
    for index, token in enumerate(found):
        depth += (token.text in "([{") - (token.text in ")]}") if token.kind == "sign" else 0
        follows = found[index + 1].name if index + 1 < len(found) else ""
        if depth == 0 and token.kind == "word" and follows and index:
            last = index + 2 == len(found)
            if (token.text == "SETTINGS" and index + 2 < len(found) and found[index + 2].text == "=") or (token.text == "FORMAT" and (last or found[index + 2].text == "SETTINGS")):
                start = index
                break
    if start == len(found):
        return text, "", ()
    form, limits, index = "", [], start
    while index < len(found):
        if found[index].text == "FORMAT" and found[index].kind == "word" and index + 1 < len(found):
            form = format_of(found[index + 1].name)
            index += 2
        elif found[index].text in ("SETTINGS", ",") and index + 3 < len(found) and found[index + 2].text == "=":
            minus = found[index + 3].text == "-"
            value = found[index + 3 + minus] if index + 3 + minus < len(found) else found[-1]
            if value.kind == "sign":
                raise Denied("SX-SQL-005", f"the setting `{found[index + 1].name}` cannot be given", hint="settings with a list as their value are not taken")
            plain = value.text[1:-1] if value.kind == "string" else value.text
            limits += setting(found[index + 1].name, ("-" if minus else "") + plain)
            index += 4 + minus
        else:
            raise Denied("SX-SQL-005", "FORMAT and SETTINGS can stand only at the end of the whole query", hint="leave them out of subqueries and branches of UNION")
    return text[: found[start].start].rstrip(), form, tuple(limits)


def format_of(name: str) -> str:
    """Return the name of an output format. UsageError for one that is not offered."""
    if not _FORMAT.fullmatch(name):
        raise UsageError("SX-SQL-010", f"there is no format `{name[:60]}`", hint="there are Native, JSON..., CSV..., TSV..., Arrow, ArrowStream, Parquet, RowBinary..., Pretty... and a few more")
    return name


def setting(name: str, value: str) -> list[tuple[str, str]]:
    """Return what a client's setting means: the limit that it lowers, or nothing. Denied for one that would change answers or rights."""
    if name in LIMITS:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if number < 0 or not math.isfinite(number):
            raise Denied("SX-SQL-005", f"`{name}` cannot be `{value[:40]}`", hint="give a number; 0 asks for the limit that holds anyway")
        return [(name, value)] if number else []
    if name in _IGNORED_ANY or value in _AS_IS.get(name, ()) or (_WITHOUT_EFFECT.fullmatch(name) and name not in _AS_IS):
        return []
    raise Denied("SX-SQL-005", f"the setting `{name[:80]}` cannot be given here", hint="limits can be lowered; settings that change answers or rights are refused: leave it out")


# ---------------------------------------------------------------- SHOW, DESCRIBE, EXISTS, EXPLAIN as selects


def _as_select(text: str, found: list[Token], names: Names, database: str) -> tuple[str, str, str, bool]:
    """Return what stands before the query, the query, what stands after it, and whether it is a DESCRIBE of a resolved table (nothing to judge)."""
    words = [token.text if token.kind == "word" else "" for token in found] + [""] * 4
    if not found:
        raise UsageError("SX-SQL-007", "the query is empty", hint="send it as `?query=` or as the body of a POST")
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
            raise _unknown(*name, names)
        return "", f"DESCRIBE TABLE {quoted(behind[0])}.{quoted(behind[1])}", "", True
    if words[:2] in (["EXISTS", "TABLE"], ["EXISTS", "VIEW"]):
        return "", f"SELECT toUInt8({int(names.resolve(*_table_name(found[2:], names, database)) is not None)}) AS result", "", False
    if words[:2] == ["EXISTS", "DATABASE"] and len(found) == 3:
        return "", f"SELECT toUInt8({int(found[2].name in names.databases())}) AS result", "", False
    if words[:3] in (["SHOW", "CREATE", "TABLE"], ["SHOW", "CREATE", "VIEW"]):
        of, table = _table_name(found[3:], names, database)
        if names.resolve(of, table) is None:
            raise _unknown(of, table, names)
        columns = f"arrayStringConcat(groupArray(concat('`', name, '` ', type)), ', ') FROM (SELECT name, type FROM system.columns WHERE database = {literal(of)} AND table = {literal(table)} ORDER BY position)"
        return "", f"SELECT concat({literal(f'CREATE TABLE {of}.{table} (')}, {columns.replace(' FROM ', ', ' + literal(')') + ') AS statement FROM ', 1)}", "", False
    if words[0] == "SHOW":
        return "", _shown(text, found, names, database), "", False
    raise Denied("SX-SQL-001", f"this door only reads, and {words[0] or 'this'} does not", hint="SELECT, SHOW, DESCRIBE, EXISTS and EXPLAIN can be asked; data is changed by publishing")


def _explained(found: list[Token]) -> int:
    """Return the token at which the explained query starts."""
    kinds = (["PLAN"], ["PIPELINE"], ["SYNTAX"], ["ESTIMATE"], ["QUERY", "TREE"], ["AST"])
    start = 1
    for kind in kinds:
        if [token.text for token in found[1 : 1 + len(kind)]] == kind:
            start += len(kind)
            break
    while start + 3 < len(found) and found[start].kind == "word" and found[start + 1].text == "=" and found[start + 2].kind == "number":
        start += 3 + (found[start + 3].text == ",")
    if start >= len(found) or (found[start].text not in ("SELECT", "WITH") and found[start].text != "("):
        raise Denied("SX-SQL-001", "only queries that read can be explained", hint="EXPLAIN, with PLAN, PIPELINE, SYNTAX, ESTIMATE, QUERY TREE or AST, and a SELECT")
    return start


def _table_name(found: list[Token], names: Names, database: str) -> tuple[str, str]:
    """Return database and table of what is left of a statement: `t` or `d.t`, and nothing else."""
    if len(found) == 1 and found[0].name:
        return database, found[0].name
    if len(found) == 3 and found[1].text == "." and found[0].name and found[2].name:
        if found[0].name not in names.databases():
            raise _unknown(found[0].name, "", names)
        return found[0].name, found[2].name
    raise Denied("SX-SQL-001", "only a table can be described", hint="name a table, as in `data.flights`; table functions are closed")


def _shown(text: str, found: list[Token], names: Names, database: str) -> str:
    """Return the select for SHOW DATABASES, TABLES or COLUMNS."""
    rest = [token for token in found[1:] if not (token.kind == "word" and token.text in ("FULL", "EXTENDED"))]
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
    if len(rest) in (2, 3) and rest[-1].kind == "string" and words[:-1] in (["LIKE"], ["ILIKE"], ["NOT", "LIKE"], ["NOT", "ILIKE"]):
        like, rest = f"name {' '.join(words)}", []
    if rest or what not in ("DATABASES", "TABLES", "COLUMNS"):
        raise Denied("SX-SQL-001", f"`{text[:60]}` cannot be asked", hint="SHOW DATABASES, SHOW TABLES FROM data, SHOW COLUMNS FROM t FROM data can; others stand in system.*")
    if what == "DATABASES":
        return f"SELECT name FROM system.databases{' WHERE ' + like if like else ''} ORDER BY name{limit}"
    if database not in names.databases():
        raise _unknown(database, "", names)
    also = f" AND {like}" if like else ""
    if what == "TABLES":
        kind = ", if(engine = 'View', 'VIEW', 'BASE TABLE') AS table_type" if full else ""
        return f"SELECT name{kind} FROM system.tables WHERE database = {literal(database)}{also} ORDER BY name{limit}"
    if names.resolve(database, table) is None:
        raise _unknown(database, table, names)
    fields = "name AS field, type, if(startsWith(type, 'Nullable'), 'YES', 'NO') AS `null`, '' AS key, NULL AS `default`, '' AS extra"
    return f"SELECT {fields} FROM system.columns WHERE database = {literal(database)} AND table = {literal(table)}{also} ORDER BY position{limit}"


# ---------------------------------------------------------------- names of tables

_ENDS_FROM = frozenset({"SELECT", "WHERE", "PREWHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "UNION", "INTERSECT", "EXCEPT", "INTERPOLATE"})


def _references(found: list[Token]) -> Iterable[_Ref]:
    """Find where tables are named: after FROM, JOIN and the commas between, and in `IN (d.t)`."""
    stack: list[list[bool]] = []  # for each open bracket: [a list of tables is being read, it is past ARRAY JOIN, a table comes next]
    now = [False, False, False]
    for index, token in enumerate(found):
        before = found[index - 1] if index else None
        if token.kind == "sign" and token.text in "([{":
            inside = [found[index + n].text if index + n < len(found) else "" for n in range(1, 5)]
            if before is not None and before.kind == "word" and before.text == "IN" and inside[1] == "." and inside[3] == ")":
                yield _Ref(index + 1, index + 3, (found[index + 1].name, found[index + 3].name), source=False)
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
            yield _Ref(index, last, (token.name, found[last].name) if two else (token.name,), source=True)
        elif token.kind == "word" and token.text == "FROM" and not (before is not None and before.text == "FILL"):
            now[:] = [True, False, True]
        elif token.kind == "word" and token.text == "JOIN":
            array = before is not None and before.text == "ARRAY"
            now[:] = [True, array, not array]
        elif token.kind == "word" and token.text in _ENDS_FROM and not (before is not None and before.text in (".", "AS")):
            now[:] = [False, False, False]


_CURRENT_DATABASE = frozenset({"currentdatabase", "current_database", "database", "schema"})


def _with_names(text: str, found: list[Token], names: Names, database: str) -> tuple[str, frozenset[str], list[str]]:
    """Replace names of tables by what stands behind them. Returns the text, the full names put in, and the names as asked for."""
    local = {
        found[n].name for n in range(1, len(found) - 2)
        if found[n].name and found[n - 1].text in ("WITH", ",", "RECURSIVE") and (found[n + 1].text == "(" or (found[n + 1].text == "AS" and found[n + 2].text in ("(", "MATERIALIZED")))
    }  # fmt: skip
    changes: list[tuple[int, int, str]] = []
    behind: set[str] = set()
    asked: list[str] = []
    moved: set[tuple[str, str]] = set()
    taken: set[int] = set()
    for ref in _references(found):
        if len(ref.parts) == 1 and ref.parts[0] in local:
            continue
        name = (ref.parts[0], ref.parts[1]) if len(ref.parts) == 2 else (database, ref.parts[0])
        if not ref.source and name[0] not in names.databases() and not name[0].startswith(("sx_", "system", "information_schema")):
            continue  # `IN (t.column)`
        target = names.resolve(*name) if name[0] in names.databases() else None
        if target is None:
            raise _unknown(*name, names)
        asked.append(".".join(name))
        taken.update(range(ref.first, ref.last + 1))
        if target != name or len(ref.parts) == 1:
            aliased = ref.last + 1 < len(found) and found[ref.last + 1].text == "AS"
            new = f"{quoted(target[0])}.{quoted(target[1])}"
            changes.append((found[ref.first].start, found[ref.last].end, new if aliased or not ref.source else f"{new} AS {quoted(name[1])}"))
            behind.add(".".join(target))
            moved.add(name)
    changes += [  # the connection has a database of its own
        (found[index].start, found[index + 2].end, literal(database))
        for index in range(len(found) - 2)
        if found[index].name.lower() in _CURRENT_DATABASE and found[index + 1].text == "(" and found[index + 2].text == ")"
    ]
    for index in range(len(found) - 3):  # `data.flights.origin` is now `flights.origin`
        pair = (found[index].name, found[index + 2].name)
        if pair in moved and index not in taken and found[index + 1].text == "." and found[index + 3].text == "." and (index == 0 or found[index - 1].text != "."):
            changes.append((found[index].start, found[index + 2].start, ""))
    return replaced(text, changes), frozenset(behind), asked
