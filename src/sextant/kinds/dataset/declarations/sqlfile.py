"""A `.sql` file as an asset: settings in its header, inputs read from the query.

    -- description: delays by day and origin
    -- owner: data
    -- partition: same as inputs          (or: none, daily(start="2013-01-01"), static(EWR, JFK))
    -- key: day, origin
    -- check: not_null(origin)
    -- check: between(share_late, 0, 1, severity=warn)
    select ...

A header line is `-- word: value` with a word from KEYS; other comments are prose. The dialect is
DuckDB's. The query is run as it is written: parsing only reads it.
"""

import ast
import functools
import hashlib
import re
from typing import Any, NamedTuple

import msgspec

from sextant.kernel.errors import ProjectError
from sextant.kernel.limits import TEXT_FILE_BYTES_MAX
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset.declarations import checks
from sextant.kinds.dataset.declarations.declared import SqlDataset
from sextant.project import forms, words
from sextant.project.collect import Collector, Place, collecting, near

KEYS = (
    "name",
    "description",
    "owner",
    "tier",
    "tags",
    "partition",
    "key",
    "time",
    "check",
    "on",
    "schema",
    "personal",
    "public",
    "on_change",
    "keep",
)
_LINE = re.compile(r"--\s*([a-z_]+):\s*(.*?)\s*")
_PARTITIONS = {
    "hourly": words.hourly,
    "daily": words.daily,
    "monthly": words.monthly,
    "static": words.static,
}


class Table(NamedTuple):
    """A table that a query reads, and the line where it does."""

    name: str
    line: int


class SqlFile(NamedTuple):
    """What a file says: its text, the settings of its header with their lines, the tables it
    reads."""

    text: str
    header: dict[str, tuple[str, int]]
    checks: tuple[tuple[str, int], ...]
    tables: tuple[Table, ...]


def read(dataset: SqlDataset, collector: Collector) -> SqlFile | None:
    """Read and parse the file of a dataset; None, with the mistake noted, when there is nothing to
    work with."""
    try:
        with open(dataset.file, "rb") as handle:
            text = handle.read(TEXT_FILE_BYTES_MAX).decode()
    except FileNotFoundError:
        collector.note(
            "SX-PROJ-040",
            f"there is no file `{collector.relative(dataset.file)}`",
            place=dataset.place,
            hint="the path is read from beside this file",
        )
        return None
    except (OSError, UnicodeDecodeError) as error:
        collector.note(
            "SX-PROJ-040",
            f"`{collector.relative(dataset.file)}` cannot be read: {error}",
            place=dataset.place,
            hint="SQL files are UTF-8 text",
        )
        return None
    header, listed = _header(text, dataset.file, collector)
    try:
        found = tables(text, dataset.file)
    except ProjectError as error:
        file, _, line = error.where.rpartition(":")
        collector.note(error.code, error.message, place=Place(file, int(line)), hint=error.hint)
        return None
    return SqlFile(text, header, listed, found)


def tables(text: str, file: str, line: int = 1) -> tuple[Table, ...]:
    """Return the tables that one query reads, in order of their first use; names of its own WITH
    clauses are not tables.

    ProjectError with `file:line` for a text that is no query, for several, and for reading files or
    other databases.
    `line` is the line of the file on which the text begins.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ParseError, SqlglotError
    from sqlglot.optimizer.scope import traverse_scope

    def refuse(message: str, hint: str, at: int) -> ProjectError:
        return ProjectError("SX-PROJ-041", message, hint=hint, where=f"{file}:{line + at - 1}")

    try:
        statements = [s for s in sqlglot.parse(text, dialect="duckdb") if s is not None]
    except ParseError as error:
        first = error.errors[0]
        shown = f" near `{first['highlight']}`" if first.get("highlight") else ""
        raise refuse(
            (
                f"the SQL has a syntax error{shown}: "
                f"{first['description'].split(' but got <Token')[0]}"
            ),
            "DuckDB's dialect is read",
            first.get("line") or 1,
        ) from error
    except SqlglotError as error:
        raise refuse(
            f"the SQL cannot be read: {str(error).splitlines()[0]}",
            "look for a quote that is not closed",
            text.count("\n") + 1,
        ) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        what = (
            f"{len(statements)} statements"
            if len(statements) != 1
            else f"a {statements[0].key} statement"
        )
        raise refuse(f"the SQL is {what}, not one query", "write one SELECT (FROM, WITH ...)", 1)
    (query,) = statements
    scopes = list(traverse_scope(query))
    named = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
    seen = {
        id(source): source
        for scope in scopes
        for source in scope.sources.values()
        if isinstance(source, exp.Table)
    }
    reached = {id(table) for scope in scopes for table in scope.tables}
    missed = [
        t for t in query.find_all(exp.Table) if id(t) not in reached and t.name not in named
    ]  # what the scopes did not visit
    found: dict[str, int] = {}
    for table in sorted(
        [*seen.values(), *missed],
        key=lambda t: t.this.meta.get("start", 0) if t.this is not None else 0,
    ):
        at = int(table.this.meta.get("line", 1)) if isinstance(table.this, exp.Identifier) else 1
        if not isinstance(table.this, exp.Identifier):
            name = (
                table.this.sql_name()
                if isinstance(table.this, exp.Func) and not isinstance(table.this, exp.Anonymous)
                else table.this.name
            )
            if name.lower().startswith(
                (
                    "read_",
                    "parquet_",
                    "sniff_",
                    "glob",
                    "query",
                    "sqlite_",
                    "postgres_",
                    "iceberg_",
                    "delta_",
                )
            ):
                raise refuse(
                    f"the SQL reads outside of the project by `{name.lower()}`",
                    "read a dataset; a Python dataset brings data in",
                    at,
                )
            continue
        if table.db:
            raise refuse(
                f"the SQL reads `{table.sql('duckdb')}`",
                f"write the dataset's name alone: `{table.name}`",
                at,
            )
        found.setdefault(table.name, at)
    return tuple(Table(name, at + line - 1) for name, at in found.items())


def fingerprint(text: str) -> str:
    """Return the digest of a query's tokens: comments and white space do not count."""
    from sqlglot.dialects import DuckDB

    quoted = (
        "STRING",
        "IDENTIFIER",
    )  # told from bare words, and from each other; other kinds of token follow from their text
    tokens = [
        (t.token_type.name if t.token_type.name.endswith(quoted) else "", t.text)
        for t in DuckDB().tokenize(text)
    ]
    while tokens and tokens[-1][1] == ";":
        tokens.pop()
    return hashlib.sha256(msgspec.json.encode(tokens)).hexdigest()


def settings(
    dataset: SqlDataset, file: SqlFile, collector: Collector
) -> tuple[str, Any, dict[str, int]]:
    """Return the name and the Slots of a dataset: what the call said and what the header says, each
    setting in one place; and the lines of the header's settings and, by name, checks."""
    said: dict[str, Any] = {}
    name = dataset.name
    for key, (value, line) in file.header.items():
        place = Place(dataset.file, line)
        if key in dataset.given:
            collector.note(
                "SX-PROJ-042",
                f"`{key}` is set in the header and at {collector.where(dataset.place)}",
                place=place,
                hint="say it in one place",
            )
        elif key == "name":
            name = value
        elif key == "tier":
            said["tier"] = (
                int(value)
                if value in ("1", "2", "3")
                else _bad(
                    collector, "SX-PROJ-022", f"`{value}` is not a tier", place, "1, 2 or 3", 3
                )
            )
        elif key in ("key", "personal", "public"):
            said[key] = tuple(word.strip() for word in value.split(",") if word.strip())
        elif key == "tags":
            said_tags = [word.strip() for word in value.split(",") if word.strip()]
            note = functools.partial(collector.note, place=place)
            said[key] = forms.checked_tags(said_tags, note)
        elif key == "partition":
            said["partition"] = _partition(value, place, collector)
        elif key == "on":
            said["on"] = (_call(value, {"cron": words.cron}, place, collector) or (),)
        elif key == "schema":
            said["schema"] = value
        else:
            said[key] = value
    for setting, allowed in (
        ("schema", ("evolve", "freeze")),
        ("on_change", ("report", "rebuild")),
    ):
        if said.get(setting, allowed[0]) not in allowed:
            _bad(
                collector,
                "SX-PROJ-019",
                f"`{said.pop(setting)}` is not a value of `{setting}`",
                Place(dataset.file, file.header[setting][1]),
                f"one of {' or '.join(allowed)}",
                "",
            )
    if said.get("keep"):
        with collecting(collector.root) as inner:
            said["keep"] = forms.length_text("keep", said["keep"])
        _adopt(inner, Place(dataset.file, file.header["keep"][1]), collector)
    said["on"] = tuple(t for t in said.get("on", ()) if t)
    made = [
        _call(text, checks.CONSTRUCTORS, Place(dataset.file, line), collector)
        for text, line in file.checks
    ]
    slots = msgspec.structs.replace(
        dataset.slots, **{k: v for k, v in said.items() if v or k != "on"}
    )
    lines = {key: line for key, (_, line) in file.header.items()}
    for check, (_, line) in zip(made, file.checks, strict=True):
        if check is not None:
            lines[check.name] = line
    slots = msgspec.structs.replace(
        slots, checks=(*slots.checks, *(c for c in made if c is not None))
    )
    return name, slots, lines


def _header(
    text: str, file: str, collector: Collector
) -> tuple[dict[str, tuple[str, int]], tuple[tuple[str, int], ...]]:
    header: dict[str, tuple[str, int]] = {}
    listed: list[tuple[str, int]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if stripped and not stripped.startswith("--"):
            break
        match = _LINE.fullmatch(stripped)
        if match is None:
            continue
        key, value = match[1], match[2]
        place = Place(file, number)
        if key not in KEYS:
            collector.note(
                "SX-PROJ-002",
                f"the header has no setting `{key}`",
                place=place,
                hint=near(key, KEYS),
            )
        elif not value:
            collector.note(
                "SX-PROJ-043", f"`{key}` has no value", place=place, hint=f"`-- {key}: value`"
            )
        elif key == "check":
            listed.append((value, number))
        elif key in header:
            collector.note(
                "SX-PROJ-043",
                f"`{key}` is set twice, first in line {header[key][1]}",
                place=place,
                hint="each setting once; `check` may repeat",
            )
        else:
            header[key] = (value, number)
    return header, tuple(listed)


def _partition(value: str, place: Place, collector: Collector) -> Any:
    if value == "same as inputs":
        return None
    if value == "none":
        return Partitioning()
    return _call(value, _PARTITIONS, place, collector)


def _call(text: str, verbs: dict[str, Any], place: Place, collector: Collector) -> Any:
    """Evaluate `verb(word, 1, "text", key=word)`, where a bare word stands for its text. None with
    the mistake noted."""
    try:
        node = ast.parse(text, mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        verb = ast.unparse(call.func)
        arguments = [_value(a) for a in call.args]
        keywords = {k.arg: _value(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError):
        return _bad(
            collector,
            "SX-PROJ-043",
            f"`{text}` is not a call",
            place,
            f"write it as `{next(iter(verbs))}(...)`",
            None,
        )
    if verb not in verbs:
        return _bad(
            collector, "SX-PROJ-043", f"there is no `{verb}`", place, near(verb, verbs), None
        )
    try:
        with collecting(collector.root) as inner:
            made = verbs[verb](*arguments, **keywords)
    except TypeError as error:
        return _bad(
            collector,
            "SX-PROJ-043",
            f"`{text}`: {str(error).replace('()', '')}",
            place,
            "see the check's arguments",
            None,
        )
    return None if _adopt(inner, place, collector) else made


def _adopt(inner: Collector, place: Place, collector: Collector) -> bool:
    """Note the mistakes of a nested collector at the header's line; say whether there were any."""
    for problem in inner.problems:
        collector.note(problem.code, problem.message, place=place, hint=problem.hint)
    return bool(inner.problems)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name | ast.Attribute):
        return ast.unparse(node)
    if isinstance(node, ast.Dict):
        return {
            str(_value(k)): _value(v)
            for k, v in zip(node.keys, node.values, strict=True)
            if k is not None
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(e) for e in node.elts]
    return ast.literal_eval(node)


def _bad(
    collector: Collector, code: str, message: str, place: Place, hint: str, result: Any
) -> Any:
    collector.note(code, message, place=place, hint=hint)
    return result
