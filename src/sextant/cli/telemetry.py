"""Commands that ask telemetry: query, logs, traces, metrics."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sextant.cli import complete
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    env_option,
    line,
    mark,
    moment,
    platform,
    put,
    say,
    state,
    table,
    values_table,
    wide,
)
from sextant.formats.values import text as text_of
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.lengths import human_s, length_s
from sextant.kernel.limits import PAGE_ROWS_MAX

if TYPE_CHECKING:
    from sextant.app.answers import LogLine, LogsFound, Printed
    from sextant.app.port import Platform

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_FOLLOW_S = 1.0
_LATE_S = 60  # a line that comes so late after its time is still shown by --follow
_SCAN_SAID = 100_000  # lines that a search reads before it is said: fewer take no time
_SHORT = 60  # characters of an attribute that is shown behind a line
_BAR = 40  # characters of the waterfall
_SPANS_MAX = 5_000
_MARKS = "▁▂▃▄▅▆▇█"
_POINTS = 24  # of a sparkline
_TIME = "toString(ts) AS at"
_SUFFIXES = {  # of a file -> its format, and which formats may be given for it
    ".csv": ("CSVWithNames", "CSV|CustomSeparated"),
    ".tsv": ("TSVWithNames", "TSV|TabSeparated"),
    ".json": ("JSON", "JSON"),
    ".jsonl": ("JSONEachRow", "JSON.*EachRow"),
    ".ndjson": ("JSONEachRow", "JSON.*EachRow"),
    ".arrow": ("Arrow", "Arrow"),
    ".parquet": ("Parquet", "Parquet"),
}
_SHEETS = (".xlsx", ".xls", ".ods")
since_option = click.option(
    "--since",
    default="1h",
    metavar="30m|1h|7d|TIME",
    help="How far back, or since when (default 1h).",
)
until_option = click.option(
    "--until", default="", metavar="30m|TIME", help="Until so long ago, or until when."
)
attribute_option = click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only what has this attribute, or was sent by what has it; may be given again.",
)
limit_option = click.option(
    "--limit",
    default=100,
    type=click.IntRange(1, PAGE_ROWS_MAX),
    metavar="N",
    help="How many (default 100).",
)


def asset_option(says: str) -> "Callable[[Callable[..., Any]], Callable[..., Any]]":
    return click.option("--asset", default="", help=says, shell_complete=complete.assets)


def _ask(p: "Platform", sql: str, **params: Any) -> list[dict[str, Any]]:
    """Return the rows of a question of ours."""
    found = p.query(
        sql, form="JSONEachRow", params={name: str(value) for name, value in params.items()}
    )
    return [msgspec.json.decode(row) for row in found.splitlines() if row.strip()]


def _seconds(text: str) -> int:
    return max(1, round(length_s(text)))


@click.command()
@click.argument("sql", metavar="SQL|-", help="One SELECT; `-` reads it from standard input.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for {NAME:Type} in the SQL; may be given again.",
)
@click.option(
    "--format",
    "form",
    default="",
    metavar="FORMAT",
    help="One of ClickHouse's formats, such as CSVWithNames, Arrow or Parquet.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the answer into this file.",
)
@wide
@json_option
def query(sql: str, params: tuple[str, ...], form: str, output: Path | None, as_json: bool) -> None:
    """Ask in SQL (ClickHouse's) over data, telemetry, ledger and KPIs. Read-only. `-` reads the SQL
    from standard input.

    Tables: data.NAME, kpi.NAME, obs.metrics|logs|spans|events,
    ops.runs|steps|releases|checks|signals|events.
    """
    wrong = [one for one in params if "=" not in one]
    if wrong:
        raise UsageError(
            "SX-CLI-030", f"`{wrong[0]}` is not NAME=VALUE", hint="as in --param carrier=UA"
        )
    named = {name: value for name, _, value in (one.partition("=") for one in params)}
    text = sys.stdin.read() if sql == "-" else sql
    form = _form_of(output, form) if form or output else ""
    with platform(load=False) as p:
        if form:
            answer = p.query(text, form=form, params=named)
            if output:
                output.write_bytes(answer)
            else:
                put(answer)
            return
        found = msgspec.json.decode(p.query(text, form="JSONCompact", params=named))
        head = [column["name"] for column in found["meta"]]
        emit(
            [dict(zip(head, row, strict=True)) for row in found["data"]],
            json=as_json,
            text=lambda: values_table(head, found["data"]),
        )


@click.command()
@click.argument("asset", help="The dataset.", shell_complete=complete.assets)
@click.option(
    "--as-of",
    default="",
    metavar="VERSION|TIME",
    help="That version, or what was live then.",
    shell_complete=complete.versions,
)
@click.option("--partition", default="", metavar="KEY", help="Rows of this partition.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME",
    help="Only this column; may be given again.",
)
@click.option(
    "--format",
    "form",
    default="",
    metavar="FORMAT",
    help=(
        "JSON, JSONEachRow, CSVWithNames, Arrow, ArrowStream or Parquet (default: by the file's "
        "name, else JSONEachRow)."
    ),
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file."
)
@env_option
def export(
    asset: str,
    as_of: str,
    partition: str,
    columns: tuple[str, ...],
    form: str,
    output: Path | None,
    env: str | None,
) -> None:
    """Take the rows of a dataset out: of what is live, or of a version that is kept."""
    form = _form_of(output, form)
    with platform(load=False) as p:
        answer = p.rows(
            asset,
            form=form,
            as_of=as_of,
            partition=partition,
            columns=columns,
            env=env or "",
        )
    if output:
        output.write_bytes(answer)
    else:
        put(answer)


def _form_of(output: Path | None, given: str) -> str:
    """Return the format that is given, or that a file's name asks for. UsageError where the name
    asks for another one, or for one that there is not."""
    suffix = output.suffix.lower() if output else ""
    if suffix in _SUFFIXES:
        form, pattern = _SUFFIXES[suffix]
        if given and not re.match(pattern, given, re.IGNORECASE):
            raise UsageError(
                "SX-CLI-047",
                f"`{output}` says {form}, --format {given}",
                hint="leave --format out, or name the file after its format",
            )
        return given or form
    if suffix in _SHEETS or (suffix and not given):
        raise UsageError(
            "SX-CLI-048",
            f"rows cannot be written as `{suffix}`",
            hint=f"a name that ends in {', '.join(_SUFFIXES)}, or --format with another name"
            + ("; spreadsheets open .csv" if suffix in _SHEETS else ""),
        )
    return given or "JSONEachRow"


@click.command()
@click.argument(
    "run",
    metavar="[RUN]",
    required=False,
    default="",
    help="The id of a run (default: the newest).",
    shell_complete=complete.runs,
)
@click.option("--step", default="", help="Of a run: only this step.")
@click.option(
    "--search",
    default="",
    metavar="TEXT",
    help='Lines with all these words or "phrases", in any case, in text or attributes.',
)
@click.option(
    "--exact",
    is_flag=True,
    help="Find --search as whole words of the text, as they are written: an index has them.",
)
@asset_option("Lines of this asset: `checkout`, or `service:checkout`.")
@attribute_option
@click.option("--level", type=click.Choice(LEVELS), help="Lines at least so severe.")
@click.option("--trace", default="", metavar="ID", help="Lines of this trace.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show lines as they come.")
@click.option(
    "--attributes", "shows_all", is_flag=True, help="Show all attributes, also long ones."
)
@since_option
@until_option
@limit_option
@json_option
def logs(
    run: str,
    step: str,
    search: str,
    exact: bool,
    asset: str,
    attributes: tuple[str, ...],
    level: str | None,
    trace: str,
    follow: bool,
    shows_all: bool,
    since: str,
    until: str,
    limit: int,
    as_json: bool,
) -> None:
    """Show what the steps of a run printed (default: the newest run), or search the logs of all
    that sends any.

    Any of --search, --asset, --attribute, --level, --trace and --follow searches."""
    searching = bool(search or asset or attributes or level or trace or follow)
    if searching and (run or step):
        raise UsageError(
            "SX-CLI-031",
            "a run's output is one thing, a search of all logs another",
            hint=f"`sextant logs {run}` or `sextant logs --search WORDS`",
        )
    if follow and until:
        raise UsageError(
            "SX-CLI-050", "--follow has no end, --until is one", hint="leave one of them out"
        )
    with platform(load=False) as p:
        if not searching:
            _show_printed(p.log(run=run, step=step), as_json=as_json)
            return

        def ask(since: str, limit: int) -> "LogsFound":
            return p.search_logs(
                search=search,
                exact=exact,
                asset=asset,
                attributes=attributes,
                level=level or "",
                trace=trace,
                since=since,
                until=until,
                limit=limit,
            )

        found = ask(since, limit)
        if follow:
            _follow(lambda: ask(f"{_LATE_S}s", PAGE_ROWS_MAX), found, shows_all, as_json=as_json)
            return
        emit(
            found,
            json=as_json,
            text=lambda: (
                [_log_line(one, shows_all) for one in reversed(found["lines"])] or ["(none)"]
            ),
        )
        if not as_json:
            _say_how(found, search, limit)


def _show_printed(printed: "list[Printed]", *, as_json: bool) -> None:
    emit(
        printed,
        json=as_json,
        text=lambda: (
            [
                shown
                for entry in printed
                for shown in (
                    f"--- {entry['step']} (attempt {entry['attempt']}, {entry['at']})",
                    entry["text"].rstrip(),
                )
            ]
            or ["nothing was printed"]
        ),
    )


def _say_how(found: "LogsFound", search: str, limit: int) -> None:
    if found["cut"]:
        say(f"the newest {limit:,} of more: --limit shows more of them, --until older ones")
    if found["scanned"] and found["lines_read"] >= _SCAN_SAID:
        say(
            f"scanned {found['lines_read']:,} lines, no index has parts of words as in `{search}`: "
            "--exact finds whole words by an index"
        )


def _follow(
    ask: "Callable[[], LogsFound]", found: "LogsFound", shows_all: bool, *, as_json: bool
) -> None:
    """Print lines as they come, each once, until interrupted. Lines overtake each other: the last
    minute is asked for again and again."""
    shown: dict[bytes, float] = {}
    while True:
        now = time.monotonic()
        for one in reversed(found["lines"]):
            key = msgspec.json.encode(one)
            if key not in shown:
                emit(
                    one,
                    json=as_json,
                    text=lambda one=one: [_log_line(one, shows_all)],  # type: ignore[misc]
                    compact=True,
                )
            shown[key] = now
        shown = {key: at for key, at in shown.items() if now - at < 2 * _LATE_S}
        time.sleep(_FOLLOW_S)
        found = ask()


def _log_line(logged: "LogLine", shows_all: bool) -> str:
    """Return a line with its short attributes behind it, or all of them; last its trace."""
    level = logged["level"] or "-"
    attributes = logged["attributes"]
    shown = " ".join(
        f"{name}={value}"
        for name, value in sorted(attributes.items())
        if shows_all or len(name) + len(value) <= _SHORT
    )
    more = len(attributes) - sum(len(k) + len(v) <= _SHORT for k, v in attributes.items())
    behind = [
        *([shown] if shown else []),
        *([f"(+{more} long: --attributes)"] if more and not shows_all else []),
        *([f"trace={logged['trace_id']}"] if logged["trace_id"] else []),
    ]
    return line(
        f"{moment(logged['at'], digits=3)}  ",
        state(level, level.lower()),
        " " * (5 - len(level)),
        f"  {logged['asset'] or '-'}  {logged['body'].rstrip()}",
        mark(f"  {' '.join(behind)}" if behind else "", "dim"),
    )


@click.command()
@click.argument(
    "trace",
    metavar="[TRACE]",
    required=False,
    default="",
    help="The id of one, or its first digits (default: the newest ones).",
)
@click.option("--asset", default="", help="Traces in which this asset has a span.")
@click.option("--failed", is_flag=True, help="Traces with an error.")
@since_option
@click.option(
    "--limit",
    default=20,
    type=click.IntRange(1, PAGE_ROWS_MAX),
    metavar="N",
    help="How many (default 20).",
)
@wide
@json_option
def traces(trace: str, asset: str, failed: bool, since: str, limit: int, as_json: bool) -> None:
    """List traces, newest first, or show one as a waterfall: what called what, when, how long."""
    with platform(load=False) as p:
        if trace:
            if not re.fullmatch(r"[0-9a-fA-F]{4,32}", trace):
                raise UsageError(
                    "SX-CLI-032",
                    f"`{trace}` is not the id of a trace",
                    hint="32 hexadecimal digits, or the first of them; `sextant traces` lists them",
                )
            which = (
                "trace_id = {trace:String}"
                if len(trace) == 32
                else "startsWith(trace_id, {trace:String})"
            )
            spans = _ask(
                p,
                (
                    "SELECT toUnixTimestamp64Nano(ts) AS start, duration_ns, asset, name, "
                    "kind, status, status_message, trace_id, span_id, parent_span_id, "
                    f"attributes FROM obs.spans WHERE {which} ORDER BY ts LIMIT {_SPANS_MAX}"
                ),
                trace=trace.lower(),
            )
            if not spans:
                raise NotFound(
                    "SX-CLI-033",
                    f"there is no trace `{trace}`",
                    hint="`sextant traces --since 1d` lists those of the last day",
                )
            emit(spans, json=as_json, text=lambda: _waterfall(spans))
            return
        having = ["countIf(asset = {asset:String}) > 0"] if asset else []
        having += ["errors > 0"] if failed else []
        sql = (
            "SELECT trace_id, toString(min(s.ts)) AS at, argMin(s.name, (s.parent_span_id "
            "!= '', s.ts)) AS root, argMin(s.asset, (s.parent_span_id != '', s.ts)) AS "
            "asset_of_root, count() AS spans,"
            " countIf(s.status = 'error') AS errors, (max(toUnixTimestamp64Nano(s.ts) + "
            "toInt64(s.duration_ns)) - min(toUnixTimestamp64Nano(s.ts))) / 1e9 AS seconds"
            " FROM obs.spans AS s WHERE ts >= now64(9) - "
            "toIntervalSecond({since:UInt32}) GROUP BY trace_id "
            f"{'HAVING ' + ' AND '.join(having) if having else ''} ORDER BY min(s.ts) DESC "
            "LIMIT {limit:UInt32}"
        )
        found = _ask(p, sql, since=_seconds(since), limit=limit, asset=asset)
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("trace", "at (UTC)", "asset", "root", "spans", "errors", "took"),
                [
                    (
                        t["trace_id"],
                        moment(t["at"], digits=3),
                        t["asset_of_root"],
                        t["root"],
                        int(t["spans"]),
                        int(t["errors"]),
                        _took(t["seconds"]),
                    )
                    for t in found
                ],
            ),
        )


def _took(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.0f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.1f} ms"
        if seconds < 1
        else human_s(seconds)
    )


def _waterfall(spans: list[dict[str, Any]]) -> list[str]:
    """Return the spans of a trace as a tree, each with its place in time. A span whose parent is
    missing stands at the top."""
    by_id = {span["span_id"]: span for span in spans}
    below: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        below.setdefault(
            span["parent_span_id"] if span["parent_span_id"] in by_id else "", []
        ).append(span)
    first = min(int(span["start"]) for span in spans)
    whole = max(int(span["start"]) + int(span["duration_ns"]) for span in spans) - first or 1
    out: list[tuple[str, str, str, str]] = []
    waiting = [(span, 0) for span in reversed(below.get("", []))]
    seen: set[str] = set()  # a sender may make up a circle
    while waiting:
        span, depth = waiting.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        begin = (int(span["start"]) - first) * _BAR // whole
        length = max(1, round(int(span["duration_ns"]) * _BAR / whole))
        sign = "x" if span["status"] == "error" else "="
        bar = (" " * min(begin, _BAR - 1) + sign * length)[:_BAR].ljust(_BAR)
        out.append(
            (
                "  " * min(depth, 20) + span["name"],
                span["asset"],
                state(bar, "failed") if span["status"] == "error" else bar,
                _took(int(span["duration_ns"]) / 1e9)
                + ("  " + span["status_message"] if span["status_message"] else ""),
            )
        )
        waiting += [(child, depth + 1) for child in reversed(below.get(span["span_id"], []))]
    title = (
        f"trace {spans[0]['trace_id']}: {len(spans)} spans, "
        f"{sum(span['status'] == 'error' for span in spans)} errors, {_took(whole / 1e9)}"
    )
    return [title, *table(("span", "asset", "", "took"), out)]


@click.command()
@click.argument(
    "name", metavar="[NAME]", required=False, default="", help="Of one (default: list them)."
)
@click.option(
    "--by", multiple=True, metavar="LABEL", help="Sum up by this label; may be given again."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL=VALUE",
    help="Only series with this label; may be given again.",
)
@click.option("--asset", default="", help="Only series of this asset.")
@click.option(
    "--rate",
    is_flag=True,
    help="Of a counter: its growth each second, from five minutes to five minutes.",
)
@since_option
@limit_option
@wide
@json_option
def metrics(
    name: str,
    by: tuple[str, ...],
    labels: tuple[str, ...],
    asset: str,
    rate: bool,
    since: str,
    limit: int,
    as_json: bool,
) -> None:
    """List metrics, or show the series of one: last value, lowest, highest, and how it went."""
    with platform(load=False) as p:
        if not name:
            found = _ask(
                p,
                "SELECT metric, anyLast(kind) AS kind, anyLast(unit) AS unit, "
                "uniqExact(series) AS series, toString(max(s.last_seen)) AS last_seen FROM "
                "obs.series AS s"
                " WHERE asset = {asset:String} OR {asset:String} = '' GROUP BY metric "
                "HAVING max(s.last_seen) >= now() - toIntervalSecond({since:UInt32}) - 3600 "
                "ORDER BY metric LIMIT {limit:UInt32}",
                asset=asset,
                since=_seconds(since),
                limit=limit,
            )
            emit(
                found,
                json=as_json,
                text=lambda: table(
                    ("metric", "kind", "unit", "series", "last seen (UTC)"),
                    [
                        (
                            m["metric"],
                            m["kind"],
                            m["unit"],
                            int(m["series"]),
                            moment(m["last_seen"]),
                        )
                        for m in found
                    ],
                ),
            )
            return
        wrong = [one for one in labels if "=" not in one]
        if wrong:
            raise UsageError(
                "SX-CLI-034", f"`{wrong[0]}` is not LABEL=VALUE", hint="as in --label code=500"
            )
        conditions = ["metric = {name:String}"]
        conditions += ["asset = {asset:String}"] if asset else []
        conditions += [f"labels[{{l{n}:String}}] = {{v{n}:String}}" for n in range(len(labels))]
        params: dict[str, Any] = {
            f"l{n}": one.partition("=")[0] for n, one in enumerate(labels)
        } | {f"v{n}": one.partition("=")[2] for n, one in enumerate(labels)}
        params |= {f"b{n}": label for n, label in enumerate(by)} | {
            "name": name,
            "asset": asset,
            "since": _seconds(since),
            "limit": limit,
            "step": max(1, _seconds(since) // _POINTS),
        }
        group = (
            f"map({', '.join(f'{{b{n}:String}}, labels[{{b{n}:String}}]' for n in range(len(by)))})"
            if by
            else "labels"
        )
        source, moment, value = (
            ("obs.rates", "bucket", "rate") if rate else ("obs.metrics", "ts", "value")
        )
        # one value for each series and step of time, then the sum over the series of a group
        inner = (
            f"SELECT {group} AS of, intDiv(toUnixTimestamp({moment}), {{step:UInt32}}) AS "
            "slot, series, "
            f"{'avg' if rate else 'argMax'}({value}{'' if rate else ', ' + moment}) AS v "
            f"FROM {source}"
            f" WHERE {' AND '.join(conditions)} AND {moment} >= now() - "
            f"toIntervalSecond({{since:UInt32}}) AND isFinite({value}) GROUP BY of, slot, "
            "series"
        )
        sql = (
            "SELECT of, argMax(total, slot) AS last, min(total) AS low, max(total) AS "
            "high, max(n) AS series, arraySort(groupArray((slot, total))) AS points FROM"
            f" (SELECT of, slot, sum(v) AS total, count() AS n FROM ({inner}) GROUP BY of, "
            "slot) GROUP BY of ORDER BY last DESC LIMIT {limit:UInt32}"
        )
        rows = _ask(p, sql, **params)
        if not rows:
            raise NotFound(
                "SX-CLI-035",
                f"no series of `{name}` had a value in the last {since}",
                hint="`sextant metrics` lists what there is; --since looks further back",
            )
        emit(
            rows,
            json=as_json,
            text=lambda: table(
                ("series", "last", "lowest", "highest", "of series", ""),
                [
                    (
                        _labels(r["of"]),
                        text_of(r["last"]),
                        text_of(r["low"]),
                        text_of(r["high"]),
                        int(r["series"]),
                        _spark(r["points"]),
                    )
                    for r in rows
                ],
            ),
        )


def _labels(of: dict[str, str]) -> str:
    return (
        ", ".join(f"{name}={value}" for name, value in sorted(of.items()) if name != "__name__")
        or "(all)"
    )


def _spark(points: list[Any]) -> str:
    """Return values (slot, value) as a line of blocks, from the lowest to the highest of them."""
    values = [float(value) for _, value in points][-_POINTS:]
    low, high = min(values), max(values)
    return "".join(
        _MARKS[int((value - low) / (high - low) * (len(_MARKS) - 1)) if high > low else 0]
        for value in values
    )
