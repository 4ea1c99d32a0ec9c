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
from sextant.cli.output import (
    BARS,
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
from sextant.cli.output import as_json as json_option
from sextant.formats.values import text as text_of
from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import human_s
from sextant.kernel.limits import PAGE_ROWS_MAX, TRACE_DETAILS_MAX, TRACES_SPANS_MAX

if TYPE_CHECKING:
    from sextant.kernel.answers import (
        HistogramSeen,
        LogLine,
        LogsFound,
        MetricFacts,
        MetricSeen,
        SpanSeen,
        TraceFacts,
        TraceSeen,
    )

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_FOLLOW_S = 1.0
_LATE_S = 60  # a line that comes so late after its time is still shown by --follow
_SCAN_SAID = 100_000  # lines that a search reads before it is said: fewer take no time
_SHORT = 60  # characters of an attribute that is shown behind a line
_BAR = 40  # characters of the waterfall
_POINTS = 24  # of a sparkline
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
@click.argument(
    "of_run",
    metavar="[ASSET]",
    required=False,
    default="",
    help="Of a run: only the steps of this asset.",
    shell_complete=complete.assets,
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
    of_run: str,
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
) -> int:
    """Show what the steps of a run printed (default: the newest run), or search the logs of all
    that sends any.

    With a run, --follow shows what its steps print as they do, until it has ended; the exit code is
    that of `sextant run`. Ctrl-C ends it, and the run goes on. Without a run, any of --search,
    --asset, --attribute, --level, --trace and --follow searches."""
    words = bool(search or asset or attributes or level or trace)
    searching = words or (follow and not (run or step))
    if words and (run or step):
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
            from sextant.cli.runs import follow_printed, show_printed

            if follow:
                return follow_printed(p, run, step, of_run, as_json=as_json)
            show_printed(p, run, step, of_run, as_json=as_json)
            return 0

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
            return 0
        emit(
            found,
            json=as_json,
            text=lambda: (
                [_log_line(one, shows_all) for one in reversed(found["lines"])] or ["(none)"]
            ),
        )
        if not as_json:
            _say_how(found, search, limit)
        return 0


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
    help="The id of one, its first digits, or a `traceparent` (default: the newest ones).",
)
@asset_option("Traces in which this asset has a span: `checkout`, or `service:checkout`.")
@click.option("--name", default="", metavar="TEXT", help="Traces with a span that has this name.")
@attribute_option
@click.option("--failed", is_flag=True, help="Traces with an error.")
@click.option("--slowest", is_flag=True, help="The slowest ones first, not the newest.")
@click.option(
    "--min-duration", default="", metavar="500ms|2s", help="Traces that took at least so long."
)
@since_option
@until_option
@click.option(
    "--limit",
    default=0,
    type=click.IntRange(0, TRACE_DETAILS_MAX),
    metavar="N",
    help="How many traces (default 20), or how many spans of one (default 500).",
)
@click.option("--all", "shows_all", is_flag=True, help="Of one: show all spans.")
@click.option(
    "--under", default="", metavar="SPAN", help="Of one: this span with its details, and below it."
)
@click.option("--attributes", "with_attributes", is_flag=True, help="Of one: show attributes.")
@wide
@json_option
def traces(
    trace: str,
    asset: str,
    name: str,
    attributes: tuple[str, ...],
    failed: bool,
    slowest: bool,
    min_duration: str,
    since: str,
    until: str,
    limit: int,
    shows_all: bool,
    under: str,
    with_attributes: bool,
    as_json: bool,
) -> None:
    """List traces, newest first, or show one as a waterfall: what called what, when, how long. Of a
    huge one the roots, the errors and the slowest spans are shown."""
    with platform(load=False) as p:
        if trace:
            facts = p.trace_facts(
                trace, under=under, limit=TRACE_DETAILS_MAX if shows_all else limit or 500
            )
            emit(facts, json=as_json, text=lambda: _waterfall(facts, with_attributes))
            return
        if under or shows_all or with_attributes:
            raise UsageError(
                "SX-CLI-051",
                "--under, --all and --attributes are about one trace",
                hint="`sextant traces ID --all`",
            )
        found = p.traces(
            asset=asset,
            name=name,
            attributes=attributes,
            failed=failed,
            min_duration=min_duration,
            slowest=slowest,
            since=since,
            until=until,
            limit=limit or 20,
        )
        emit(found, json=as_json, text=lambda: _trace_table(found["traces"]))
        if not as_json:
            rank = "slowest" if slowest else "newest"
            if found["cut"]:
                say(f"the {rank} {len(found['traces']):,} of more: --limit shows more of them")
            if found["looked_at_some"]:
                say(
                    f"more than {TRACES_SPANS_MAX:,} spans meet the conditions: only the {rank} of "
                    "them were looked at; a shorter --since leaves nothing out"
                )


def _trace_table(found: "list[TraceSeen]") -> list[str]:
    return table(
        ("trace", "at (UTC)", "asset", "root", "spans", "errors", "took"),
        [
            (
                one["trace_id"],
                moment(one["at"], digits=3),
                one["asset"],
                one["root"] + ("" if one["rooted"] else " (its root is not here)"),
                one["spans"],
                one["errors"],
                took(one["duration_ns"] / 1e9),
            )
            for one in found
        ],
    )


def took(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.0f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.1f} ms"
        if seconds < 1
        else human_s(seconds)
    )


def _waterfall(facts: "TraceFacts", with_attributes: bool) -> list[str]:
    """Return a trace as a tree, each span with its place in time."""
    rows = facts["rows"]
    whole = facts["duration_ns"] or 1
    out: list[tuple[str, ...]] = []
    for span in rows:
        begin = max(0, span["offset_ns"]) * _BAR // whole
        length = max(1, round(span["duration_ns"] * _BAR / whole))
        failed = span["status"] == "error"
        bar = (" " * min(begin, _BAR - 1) + ("x" if failed else "=") * length)[:_BAR].ljust(_BAR)
        skipped = f"({span['skipped']:,} between) " if span["skipped"] else ""
        notes = [f"({span['note']})"] if span["note"] else []
        out.append(
            (
                "  " * min(span["depth"], 20) + skipped + span["name"],
                span["asset"],
                state(bar, "failed") if failed else bar,
                "  ".join([took(span["duration_ns"] / 1e9), *_problems(span), *notes]),
                span["span_id"],
                *([_pairs(span["attributes"])] if with_attributes else []),
            )
        )
    head = ("span", "asset", "", "took", "id", *(["attributes"] if with_attributes else []))
    title = (
        f"trace {facts['trace_id']}: {_counted(facts['spans'], 'span')}, "
        f"{_counted(facts['errors'], 'error')}, {took(whole / 1e9)}"
    )
    return [
        title,
        *(_details(rows[0]) if facts["under"] and rows else []),
        *table(head, out, spare=("id",)),
        *([_hidden(facts)] if facts["hidden"] else []),
    ]


def _hidden(facts: "TraceFacts") -> str:
    failed = f", {facts['errors_hidden']:,} of them failed" if facts["errors_hidden"] else ""
    return (
        f"... {facts['hidden']:,} more {'span is' if facts['hidden'] == 1 else 'spans are'} not "
        f"shown{failed}: --all, or --under SPAN"
    )


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _problems(span: "SpanSeen") -> list[str]:
    """Return what a span says went wrong: its status, and exceptions that say more."""
    out = [span["status_message"]] if span["status_message"] else []
    for event in span["events"]:
        kind = event["attributes"].get("exception.type", "")
        message = event["attributes"].get("exception.message", "")
        if (kind or message) and not (message and any(message in one for one in out)):
            out.append(": ".join(one for one in (kind, message) if one))
    return [one.replace("\n", " ") for one in out]


def _details(span: "SpanSeen") -> list[str]:
    """Return all that is known of one span, a fact a line."""
    facts = {
        "span": span["span_id"],
        "parent": span["parent_span_id"] or "-",
        "at": span["at"],
        "kind": span["kind"] or "-",
        "status": " ".join(one for one in (span["status"], span["status_message"]) if one) or "-",
        **span["attributes"],
        **{f"resource {name}": value for name, value in span["resource"].items()},
    }
    for event in span["events"]:
        facts[f"event {event['name']} at {event['at']}"] = _pairs(event["attributes"])
    return [f"  {name:<20} {value}" for name, value in facts.items()] + [""]


def _pairs(attributes: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(attributes.items()))


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
@asset_option("Only series of this asset: `checkout`, or `service:checkout`.")
@click.option("--search", default="", metavar="TEXT", help="Of the list: names that have this.")
@click.option(
    "--rate",
    is_flag=True,
    help="Of a counter: its growth each second, from five minutes to five minutes.",
)
@click.option(
    "--quantile",
    "quantiles",
    multiple=True,
    metavar="LEVEL",
    help="Of a histogram: 0.95 is the value that 95 % lie below; may be given again.",
)
@since_option
@until_option
@limit_option
@wide
@json_option
def metrics(
    name: str,
    by: tuple[str, ...],
    labels: tuple[str, ...],
    asset: str,
    search: str,
    rate: bool,
    quantiles: tuple[str, ...],
    since: str,
    until: str,
    limit: int,
    as_json: bool,
) -> None:
    """List metrics, or show the series of one: last value, lowest, highest, and how it went. Of a
    histogram: how many values it took, their average, quantiles, and the trace of a large one."""
    with platform(load=False) as p:
        if not name:
            if by or labels or rate or quantiles or until:
                raise UsageError(
                    "SX-CLI-052",
                    "--by, --label, --rate, --quantile and --until are about one metric",
                    hint="`sextant metrics NAME --by LABEL`",
                )
            listed = p.metrics(search=search, asset=asset, since=since, limit=limit)
            emit(listed, json=as_json, text=lambda: _metric_table(listed["metrics"]))
            if listed["cut"] and not as_json:
                say(f"the first {limit:,} of more: --search narrows them down, --limit shows more")
            return
        if search:
            raise UsageError(
                "SX-CLI-053", "--search is about the list", hint="leave it out, or the name"
            )
        facts = p.metric(
            name,
            by=by,
            labels=labels,
            asset=asset,
            rate=rate,
            quantiles=quantiles,
            since=since,
            until=until,
            limit=limit,
        )
        emit(facts, json=as_json, text=lambda: _metric_lines(facts))
        if facts["cut"] and not as_json:
            say(f"{limit:,} of more series: --by sums them up, --label chooses, --limit shows more")


def _metric_table(found: "list[MetricSeen]") -> list[str]:
    return table(
        ("metric", "kind", "unit", "series", "last seen (UTC)"),
        [
            (one["metric"], one["kind"], one["unit"], one["series"], moment(one["last_seen"]))
            for one in found
        ],
    )


def _metric_lines(facts: "MetricFacts") -> list[str]:
    unit = f" in {facts['unit']}" if facts["unit"] else ""
    stored = facts["stored_as"]
    as_parts = f", stored as {', '.join(stored)}" if stored != [facts["metric"]] else ""
    a_second = ", growth a second" if facts["rate"] and not facts["histogram"] else ""
    title = f"{facts['metric']}: {facts['kind'] or 'of no kind'}{unit}{a_second}{as_parts}"
    if facts["histogram"]:
        return [title, *_histogram_table(facts["histogram"])]
    return [
        title,
        *table(
            ("series", "last", "lowest", "highest", "of series", "", "trace"),
            [
                (
                    _labels(one["of"]),
                    text_of(one["last"]),
                    text_of(one["lowest"]),
                    text_of(one["highest"]),
                    one["series"],
                    _spark([value for _, value in one["points"]]),
                    one["trace"],
                )
                for one in facts["series"]
            ],
        ),
    ]


def _histogram_table(found: "list[HistogramSeen]") -> list[str]:
    levels = list(found[0]["quantiles"])
    first = f"p{float(levels[0]) * 100:g}"
    return table(
        (
            "series",
            "count",
            "average",
            *(f"p{float(level) * 100:g}" for level in levels),
            f"{first} over time",
            "a large one",
        ),
        [
            (
                _labels(one["of"]),
                text_of(one["count"]),
                _about(one["average"]),
                *(_about(value) for value in one["quantiles"].values()),
                _spark([value for *_, value in one["points"] if value is not None]),
                f"{_about(one['trace_value'])}: {one['trace']}" if one["trace"] else "",
            )
            for one in found
        ],
    )


def _about(value: Any) -> str:
    """Return a number that is an estimate anyway, with four digits."""
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def _labels(of: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in of.items()) or "(all)"


def _spark(points: list[Any]) -> str:
    """Return values as a line of blocks, from the lowest to the highest of them."""
    values = [float(value) for value in points][-_POINTS:]
    if not values:
        return ""
    low, high = min(values), max(values)
    return "".join(
        BARS[int((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 0]
        for value in values
    )
