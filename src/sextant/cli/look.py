"""Commands that only look: status, graph, show, versions, diff, why, signals,
incidents."""

import re
from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    limit_option,
    line,
    mark,
    moment,
    options,
    platform,
    select_argument,
    short,
    state,
    table,
    values_table,
    wide,
)
from sextant.cli.profile import profile_lines
from sextant.cli.progress import progress_text
from sextant.cli.project_move import change_lines
from sextant.formats.values import text as text_of
from sextant.kernel.clock import iso
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PAGE_ROWS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sextant.app.operations import Platform
    from sextant.kernel.answers import (
        ColumnsSeen,
        IncidentEvent,
        IncidentNow,
        IncidentShown,
        PartitionsSeen,
        SignalSeen,
        Status,
    )

_GOES_DOWN = re.compile(r"[^+0-9].*\+")  # a selection that says how far down already
_ASSETS_NAMED = 20  # in the hint of a command that needs one
_SAMPLES_SHOWN = 5  # rows of each kind that a diff prints


@click.command()
@select_argument
@wide
@options
def status(assets: tuple[str, ...], env: str | None, as_json: bool) -> int:
    """Show what is live, stale, held, and what needs a person. Exit code 1 when something does."""
    with platform() as p:
        found = p.status(assets=assets, env=env or "")
        emit(found, json=as_json, text=lambda: _status_lines(found))
        needs = ("signals", "waiting", "load_problem", "failed_run")
        return int(any(found[name] for name in needs))  # type: ignore[literal-required]


def _status_lines(found: "Status") -> list[str]:
    rows = []
    for a in found["assets"]:
        todo = [f"{count} {reason}" for reason, count in a["to_run"].items()]
        todo += [f"{a[word]} {word}" for word in ("stale", "held", "waiting") if a[word]]
        if a["rolling"]:
            todo.append(f"rolling: release {a['rolling']}")
        if a["held_by_incident"]:
            todo.append(f"waits for incident {a['held_by_incident']}")
        rows.append(
            (
                a["asset"],
                a["owner"],
                short(a["version"]),
                moment(a["published_at"]),
                a["partitions"] or "",
                a["rows"] or "",
                state(", ".join(todo), "waiting")
                if todo
                else line(
                    state("up to date"),
                    f"; each run looks back {a['looks_back']}" if a["looks_back"] else "",
                )
                if a["version"]
                else mark("not live yet", "dim"),
            )
        )
    out = [
        f"{found['project']} / {found['env']}",
        *table(
            ("asset", "owner", "live", "since (UTC)", "partitions", "rows", "state"),
            rows,
            spare=("owner", "partitions", "since (UTC)", "rows"),
        ),
    ]
    out += [
        line("incident ", f"{one['id']} ({len(one['signals'])} signals): {one['title']}")
        for one in found["incidents"]
    ]
    out += [line("signal   ", state(s["severity"]), f": {s['message']}") for s in found["signals"]]
    out += [
        line(
            state("waits"),
            f"    release {r['id']} ({r['state']}): {r.get('reason', '')}"
            + (" - yours to approve" if r["id"] in found["yours"] else ""),
        )
        for r in found["waiting"]
    ]
    out += [
        line(
            state("pushed"),
            f"   {i['dataset']}: {i['rows']:,} rows of {i['batches']} batches wait since "
            f"{moment(i['since'])}",
        )
        for i in found["inbox"]
        if i["batches"]
    ]
    out += [
        line(
            state("open"),
            f"     run {r['id']}: {progress_text(r['progress'])}; where its process has died, the "
            "next run takes it up",
        )
        for r in found["runs_open"]
    ]
    if found["failed_run"]:
        run = found["failed_run"]
        out.append(
            line(state("failed"), f"   run {run}, the newest: `sextant runs {run}` says why")
        )
    if found["load_problem"]:
        problem = found["load_problem"].splitlines()[0]
        out.append(line(state("folder", "error"), f"   has a mistake: {problem}"))
    if found["folder"]:
        out.append(
            f"note     the folder has version {short(found['folder'])} of the project: "
            f"`sextant plan --env {found['env']}` shows what it would bring"
        )
    if found["telemetry_off"]:
        out.append(line("note", f"     {found['telemetry_off']}"))
    return out


@click.command()
@select_argument
@click.option(
    "--to",
    default="",
    metavar="ASSET",
    help="All that lies between the selected assets and this one.",
    shell_complete=complete.assets,
)
@click.option(
    "--impact",
    is_flag=True,
    help="What a change of the selected assets reaches: owner, tier, where it is live.",
)
@click.option(
    "--columns",
    is_flag=True,
    help="What a column (`orders.amount`) is made of and what stands on it; of an asset each "
    "column, one step away.",
)
@click.option("--upstream", is_flag=True, help="With --columns: only what it is made of.")
@click.option("--downstream", is_flag=True, help="With --columns: only what stands on it.")
@wide
@options
def graph(
    assets: tuple[str, ...],
    to: str,
    impact: bool,
    columns: bool,
    upstream: bool,
    downstream: bool,
    env: str | None,
    as_json: bool,
) -> None:
    """Show assets and what they stand on: of `+orders` all that it is made of, of `orders+` all
    that is made of it, of `1+orders+1` its neighbours. With `--columns` the same of columns, as
    they are live in an environment."""
    if columns:
        if len(assets) != 1 or to or impact:
            raise UsageError(
                "SX-CLI-080",
                "--columns is asked of one asset or column, without --to and --impact",
                hint="`sextant graph --columns orders.amount`",
            )
        _columns(assets[0], upstream, downstream, env or "", as_json)
        return
    if upstream or downstream or env:
        raise UsageError(
            "SX-CLI-081",
            "--upstream, --downstream and --env belong to --columns",
            hint="`sextant graph +orders` shows what `orders` is made of, `orders+` what stands "
            "on it",
        )
    if impact and (to or not assets):
        raise UsageError(
            "SX-CLI-078",
            "--impact is asked of assets, without --to",
            hint="`sextant graph orders --impact`",
        )
    with platform() as p:
        below = [one if _GOES_DOWN.search(one) else f"{one}+" for one in assets]
        found = p.graph(assets=below if impact else assets, to=to)

        def impact_lines() -> list[str]:
            rows = [
                (a["id"], a["owner"], a["tier"], ", ".join(a["live_in"])) for a in found["assets"]
            ]
            counts = ", ".join(
                f"{count:,} of kind {kind}" for kind, count in found["kinds"].items()
            )
            return [*table(("asset", "owner", "tier", "live in"), rows), counts]

        def lines() -> list[str]:
            if impact:
                return impact_lines()
            reads: dict[str, list[str]] = {}
            for edge in found["edges"]:
                reads.setdefault(edge["target"], []).append(
                    edge["source"]
                    if edge["kind"] == "feeds"
                    else f"{edge['source']} ({edge['kind']})"
                )
            return table(
                ("asset", "owner", "tier", "stands on"),
                [
                    (a["id"], a["owner"], a["tier"], ", ".join(sorted(reads.get(a["id"], []))))
                    for a in found["assets"]
                ],
            )

        emit(found, json=as_json, text=lines)


def _columns(name: str, upstream: bool, downstream: bool, env: str, as_json: bool) -> None:
    """Show the columns around one, or each column of an asset."""
    way = "both" if upstream == downstream else "up" if upstream else "down"
    with platform() as p:
        found = p.graph_columns(name, way=way, env=env)
        emit(found, json=as_json, text=lambda: _lineage_lines(found))


_DOES = {"value": "made of", "rows": "rows decided by", "whole": "reads"}


def _lineage_lines(found: "ColumnsSeen") -> list[str]:
    def text(asset: str, column: str) -> str:
        return f"{asset}.{column}" if column else asset

    notes = {one["id"]: one["note"] for one in found["assets"] if one["note"]}
    edges = found["edges"]
    place = {one["id"]: n for n, one in enumerate(found["assets"])}
    edges = sorted(
        edges,
        key=lambda e: (place[e["target"]], e["target_column"], e["kind"] != "value"),
    )
    rows = [
        (
            text(e["target"], e["target_column"]),
            _DOES[e["kind"]],
            text(e["source"], e["source_column"]),
        )
        for e in edges
    ]
    subject = text(found["asset"], found["column"])
    out = (
        table(("column", "", "column "), rows)
        if rows
        else [f"{subject}: no query says what it is made of or what stands on it"]
    )
    out += [f"{id_}: {note}" for id_, note in notes.items()]
    return [*out, *filter(None, (found["cut"],))]


@click.command()
@click.argument(
    "asset",
    required=False,
    default="",
    help="Its name, or KIND:NAME.",
    shell_complete=complete.assets,
)
@click.option(
    "--as-of",
    default="",
    metavar="VERSION|TIME",
    help="That version, or what was live then.",
    shell_complete=complete.versions,
)
@click.option("--partition", default="", metavar="KEY", help="Rows of this partition.")
@click.option(
    "--limit",
    default=10,
    type=click.IntRange(0, PAGE_ROWS_MAX),
    metavar="N",
    help="How many rows (default 10).",
)
@click.option("--count", is_flag=True, help="Only the number of rows.")
@click.option(
    "--partitions",
    is_flag=True,
    help="How each partition stands; of those of --partition A..B also why, and what made it.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="What the values of each column are like; of --partition A..B.",
)
@click.option(
    "--against",
    default="",
    metavar="VERSION|before",
    help="With --profile: beside that version, or the one before.",
    shell_complete=complete.versions,
)
@wide
@options
def show(
    asset: str,
    as_of: str,
    partition: str,
    limit: int,
    count: bool,
    partitions: bool,
    profile: bool,
    against: str,
    env: str | None,
    as_json: bool,
) -> None:
    """Show an asset: facts, version, columns, first rows."""
    with platform() as p:
        if not asset:
            raise asset_missing(p, "show", "an asset")
        if profile or against:
            seen = p.profile(
                asset, as_of=as_of, partition=partition, against=against, env=env or ""
            )
            emit(seen, json=as_json, text=lambda: profile_lines(seen))
            return
        if partitions:
            strip = p.partitions(asset, partition=partition, details=bool(partition), env=env or "")
            emit(strip, json=as_json, text=lambda: _strip_lines(strip))
            return
        if count:
            counted = p.count(asset, as_of=as_of, partition=partition, env=env or "")
            emit(counted, json=as_json, text=lambda: [str(counted["rows"])])
            return
        found = p.show(asset, as_of=as_of, limit=limit, partition=partition, env=env or "")
        emit(found, json=as_json, text=lambda: _show_lines(found))


def _strip_lines(found: "PartitionsSeen") -> list[str]:
    """Return how partitions stand: run by run, or one by one where their facts were asked for."""
    counts = ", ".join(f"{count:,} {word}" for word, count in found["states"].items())
    head = f"{found['asset']} in {found['env']}: {found['count']:,} partitions: {counts}"
    if "partitions" in found:
        rows = [
            (
                one["partition"],
                state(one["state"]),
                one["rows"],
                one["run"],
                moment(one["at"]) if one["at"] else "",
                one["reason"],
            )
            for one in found["partitions"]
        ]
        columns = ("partition", "state", "rows", "run", "made (UTC)", "why")
        more = ["and more: narrow --partition"] if found["cut"] else []
        return [head, *table(columns, rows, spare=("made (UTC)", "run")), *more]
    spans = [
        (
            run["first"] if run["count"] == 1 else f"{run['first']} .. {run['last']}",
            run["count"],
            state(run["state"]),
            ", ".join(f"{count:,} {word}" for word, count in run.get("states", {}).items()),
        )
        for run in found["runs"]
    ]
    return [head, *table(("partitions", "count", "state", "of them"), spans, spare=("of them",))]


def _panel_lines(panel: dict[str, Any]) -> list[str]:
    """Return one panel of a board: its title, its rows, or why there are none."""
    out = [panel["title"]]
    if panel.get("error"):
        return [
            *out,
            f"  {panel['error']}",
            *([f"  hint: {panel['hint']}"] if panel["hint"] else []),
        ]
    if panel.get("goal"):
        met = {True: "met", False: "missed", None: "no value"}[panel["goal_met"]]
        out[0] += f"   goal {panel['goal']}: {met}"
    rows = panel["rows"]
    if not rows:
        return [*out, "  nothing"]
    head = list(rows[0])
    out += values_table(head, [[row.get(name) for name in head] for row in rows])
    if panel["left_out"]:
        out.append(f"  and {panel['left_out']} more")
    return out


def _show_lines(found: dict[str, Any]) -> list[str]:
    out = [
        (
            f"{found['asset']}  owner {found['owner'] or '-'}  tier {found['tier']}  "
            f"{found['description']}"
        ).rstrip()
    ]
    if found["mode"] == "observed":
        return out + table(
            ("at", "event", "actor"), [(r["at"], r["type"], r["actor"]) for r in found["reports"]]
        )
    if "measure" in found:
        out.append(f"measure   {found['measure']['sql']}  of {found['measure']['of']}")
    if found.get("version"):
        out.append(
            f"version   {short(found['version'])}  of {moment(found['created_at'])}Z  "
            f"{found['rows']:,} rows in {found['partitions']} partitions, "
            f"{found['size_bytes']:,} bytes"
        )
        if found.get("commit"):
            dirty = ", ".join(found["uncommitted"])
            out.append(
                f"commit    {found['commit']}{f', with changes in {dirty}' if dirty else ''}"
            )
        if found["made_from"]:
            out.append(
                "made from "
                + ", ".join(
                    f"{name}@{short(version)}" for name, version in found["made_from"].items()
                )
            )
        out += [line(state("refused"), f"   {text}") for text in found["refused"]]
    if found.get("checks"):
        out.append(
            "checks    "
            + ", ".join(
                c["name"] + ("" if c["severity"] == "error" else " (warn)") for c in found["checks"]
            )
        )
    if found.get("schema"):
        out += ["", *_column_lines(found)]
    for panel in found.get("panels", ()):
        out += ["", *_panel_lines(panel)]
    sample = found.get("sample")
    if sample:
        head = list(sample[0])
        out += [
            "",
            *values_table(head, [[row[name] for name in head] for row in sample]),
        ]
    return out


def _column_lines(found: dict[str, Any]) -> list[str]:
    """Return the columns of an asset: name, type, and what each is there for."""
    key, personal = found.get("key", []), found.get("personal", [])
    return table(
        ("column", "type", ""),
        [
            (
                name,
                kind,
                ", ".join(
                    word
                    for word, so in (
                        ("key", name in key),
                        ("time", name == found.get("time")),
                        ("personal", name in personal),
                    )
                    if so
                ),
            )
            for name, kind, *_ in found["schema"]
        ],
    )


def some(partitions: "Sequence[str]") -> str:
    """Return a few partitions, or how many there are and the outermost."""
    return (
        ", ".join(partitions) or "-"
        if len(partitions) <= 3
        else f"{partitions[0]} .. {partitions[-1]} ({len(partitions)})"
    )


def asset_missing(p: "Platform", command: str, needs: str) -> UsageError:
    """Return the error that a command needs an asset, with those that there are."""
    names = [one["id"] for one in p.graph()["assets"]]
    more = len(names) - _ASSETS_NAMED
    return UsageError(
        "SX-CLI-045",
        f"`sextant {command}` needs {needs}",
        hint=f"one of {', '.join(names[:_ASSETS_NAMED])}"
        + (f" and {more} more (`sextant graph`)" if more > 0 else "")
        if names
        else "the project declares none yet",
    )


@click.command()
@click.argument(
    "asset",
    required=False,
    default="",
    help="Its name, or KIND:NAME (default: all).",
    shell_complete=complete.assets,
)
@limit_option
@wide
@options
def versions(asset: str, limit: int, env: str | None, as_json: bool) -> None:
    """List an asset's versions, newest first; without ASSET, the newest one of each asset."""
    with platform() as p:
        if not asset:
            newest = [
                {"asset": one["id"], **version}
                for one in p.graph()["assets"]
                if one["mode"] == "managed"
                for version in p.versions(one["id"], limit=1, env=env or "").items
            ]
            emit(newest, json=as_json, text=lambda: _newest_lines(newest))
            return
        found = p.versions(asset, limit=limit, env=env or "").items
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("version", "made (UTC)", "rows", "state", "changed"),
                [
                    (
                        short(v["version"]),
                        moment(v["created_at"]),
                        v["rows"],
                        state(v["state"]),
                        " ".join(v["changed"]),
                    )
                    for v in found
                ],
            ),
        )


def _newest_lines(newest: list[dict[str, Any]]) -> list[str]:
    return table(
        ("asset", "version", "made (UTC)", "rows", "state"),
        [
            (
                v["asset"],
                short(v["version"]),
                moment(v["created_at"]),
                v["rows"],
                state(v["state"]),
            )
            for v in newest
        ],
    )


@click.command()
@click.argument(
    "a",
    metavar="A",
    help="ASSET@VERSION, ASSET@TIME, ASSET@env:NAME, or ASSET: what is live.",
    shell_complete=complete.assets,
)
@click.argument(
    "b",
    metavar="[B]",
    required=False,
    default="",
    help="The same, or a version of the same asset (default: what is live).",
)
@wide
@options
def diff(a: str, b: str, env: str | None, as_json: bool) -> int:
    """Show what differs between two states of an asset: ASSET@VERSION, ASSET@TIME, ASSET@env:NAME,
    or ASSET (live).

    Without B, A is compared with what is live; an ASSET alone shows what its last change changed.
    Exit code 1 when they differ."""
    with platform() as p:
        found = p.diff(a, b=b, env=env or "")

        emit(found, json=as_json, text=lambda: _diff_lines(found))
        return int(found["before"] != found["after"])


def _diff_lines(found: dict[str, Any]) -> list[str]:
    out = [f"{found['asset']}  {short(found['before'])} -> {short(found['after'])}"]
    if "measure" in found:
        old, new = found["measure"]["before"] or {}, found["measure"]["after"] or {}
        out += [
            f"  {name}: {old.get(name)} -> {new.get(name)}"
            for name in sorted({*old, *new} - {"definition"})
            if old.get(name) != new.get(name)
        ]
        return out + values_table(
            ("month", "before", "after"),
            [(row["bucket"], row["before"], row["after"]) for row in found.get("history", [])],
            indent="  ",
        )
    if not found["partitions"] and found["before"] == found["after"]:
        return [*out, "no difference"]
    if "changes" in found:
        return out + change_lines(found["changes"])
    if "panels" in found:
        return out + [f"  panel      {text}" for text in _changed_panels(found["panels"])]
    if "rows_before" not in found:
        return out
    out.append(f"  partitions {some(found['partitions'])}")
    out.append(
        f"  rows       {found['rows_before']:,} -> {found['rows_after']:,} in them: "
        f"{found['added']:,} added, {found['removed']:,} removed, "
        f"{found.get('changed', 0):,} changed"
    )
    out += [
        f"  column     {name}: {before or 'new'} -> {after or 'gone'}"
        for name, (before, after) in found.get("columns", {}).items()
    ]
    if found.get("changed_columns"):
        out.append(
            "  changed in "
            + ", ".join(f"{name} ({count:,})" for name, count in found["changed_columns"].items())
        )
    for word in ("added", "removed"):
        out += [
            f"  {word:10} {_pairs(row)}" for row in found["samples"].get(word, [])[:_SAMPLES_SHOWN]
        ]
    for row in found["samples"].get("changed", [])[:_SAMPLES_SHOWN]:
        out.append(
            f"  changed    {_pairs(row['key'])}: "
            + ", ".join(
                f"{name} {text_of(value)} -> {text_of(row['after'].get(name))}"
                for name, value in row["before"].items()
            )
        )
    return out


def _changed_panels(panels: dict[str, list[str]]) -> list[str]:
    before, after = panels["before"], panels["after"]
    gone = [f"{title}: gone" for title in before if title not in after]
    new = [f"{title}: new" for title in after if title not in before]
    return gone + new or ["the same titles, in another order or with other questions"]


def _pairs(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {text_of(value)}" for name, value in row.items())


@click.command()
@click.argument(
    "id_", metavar="[SIGNAL]", required=False, default="", help="The id of the one to close."
)
@click.option(
    "--close",
    "reason",
    metavar="REASON",
    default="",
    help="Close signal ID: somebody has looked at it, and this came of it.",
)
@limit_option
@wide
@json_option
def signals(id_: str, reason: str, limit: int, as_json: bool) -> None:
    """List signals, newest first, or close one."""
    if bool(id_) != bool(reason):
        raise UsageError(
            "SX-CLI-010",
            "closing a signal takes its id and a reason",
            hint='sextant signals sig_... --close "was a false alarm"',
        )
    with platform() as p:
        if id_:
            done = p.close_signal(id_, reason)
            emit(done, json=as_json, text=lambda: [f"signal {id_} is closed"])
            return
        found = p.signals(limit=limit).items
        emit(found, json=as_json, text=lambda: _signal_lines(found))


def _signal_lines(found: "Sequence[SignalSeen]") -> list[str]:
    return table(
        ("signal", "severity", "asset", "env", "kind", "again", "closed", "message"),
        [
            (
                s["id"],
                state(s["severity"]) if not s["closed_at"] else s["severity"],
                s["asset"],
                s["env"],
                s["kind"],
                s.get("repeats", 0) or "",
                moment(s["closed_at"]),
                s["message"],
            )
            for s in found
        ],
        spare=("kind", "again", "closed"),
    )


@click.command()
@click.argument(
    "id_",
    metavar="[INCIDENT]",
    required=False,
    default="",
    help="The id of one (default: the newest ones).",
    shell_complete=complete.incidents,
)
@click.option("--close", metavar="REASON", help="Close it; its open signals stay open.")
@click.option("--with-signals", is_flag=True, help="With --close: close its open signals too.")
@click.option("--reopen", metavar="REASON", help="Open it again.")
@click.option("--comment", metavar="TEXT", help="Add a comment.")
@click.option("--assign", metavar="WHO", help='Assign it to a team or a person; "" = to nobody.')
@click.option(
    "--merge",
    metavar="INTO",
    help="Merge it into this incident, which takes its signals and assets.",
    shell_complete=complete.incidents,
)
@click.option(
    "--split",
    multiple=True,
    metavar="SIGNAL",
    help="Move this signal to a new incident; can be given several times.",
)
@limit_option
@wide
@json_option
def incidents(id_: str, with_signals: bool, limit: int, as_json: bool, **given: Any) -> None:
    """List incidents, newest first, show one with its signals and timeline, or act on one."""
    chosen = {name: value for name, value in given.items() if value is not None and value != ()}
    _check_action(id_, chosen, with_signals=with_signals)
    with platform() as p:
        if chosen:
            ((action, value),) = chosen.items()
            done = _act_on_incident(p, id_, action, value, with_signals=with_signals)
            emit(done, json=as_json, text=lambda: _incident_now_lines(action, done))
            return
        if id_:
            shown = p.incident_facts(id_)
            emit(shown, json=as_json, text=lambda: _incident_lines(shown))
            return
        found = p.incidents(limit=limit).items
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("incident", "state", "assignee", "assets", "title"),
                [
                    (i["id"], state(i["state"]), i["assignee"], ", ".join(i["assets"]), i["title"])
                    for i in found
                ],
                spare=("assignee",),
            ),
        )


def _check_action(id_: str, chosen: dict[str, Any], *, with_signals: bool) -> None:
    """Raise UsageError unless at most one thing is to be done, to an incident that is named."""
    if len(chosen) > 1:
        raise UsageError(
            "SX-CLI-070",
            f"{' and '.join(f'--{name}' for name in chosen)} are separate steps",
            hint="give one of them at a time",
        )
    if chosen and not id_:
        raise UsageError(
            "SX-CLI-071",
            f"--{next(iter(chosen))} needs an incident",
            hint="`sextant incidents` lists them",
        )
    if with_signals and "close" not in chosen:
        raise UsageError(
            "SX-CLI-072",
            "--with-signals belongs to --close",
            hint='sextant incidents inc_... --close "was a full disk" --with-signals',
        )


def _act_on_incident(
    p: "Platform", id_: str, action: str, value: Any, *, with_signals: bool
) -> "IncidentNow":
    if action == "close":
        return p.close_incident(id_, value, with_signals=with_signals)
    act = {
        "reopen": p.reopen_incident,
        "comment": p.comment_incident,
        "assign": p.assign_incident,
        "merge": p.merge_incident,
        "split": p.split_incident,
    }[action]
    return act(id_, value)


def _incident_now_lines(action: str, now: "IncidentNow") -> list[str]:
    id_, other, open_signals = now["incident"], now["other"], now["open_signals"]
    said = {
        "close": "is closed",
        "reopen": "is open again",
        "comment": f"has {now['comments']} comment{'' if now['comments'] == 1 else 's'}",
        "assign": f"is assigned to {now['assignee'] or 'nobody'}",
        "merge": f"was merged into {other}",
        "split": f"was split: incident {other} has the signals that you named",
    }[action]
    out = [f"incident {id_} {said}"]
    if action == "close" and open_signals:
        out.append(f"signals that are still open: {', '.join(open_signals)}")
    return out


def _incident_lines(shown: "IncidentShown") -> list[str]:
    facts = {
        "opened": f"{moment(iso(shown.get('opened_at', 0)))}Z",
        "closed": f"{moment(shown['closed_at'])}Z" if shown["closed_at"] else "",
        "assignee": shown["assignee"] or "nobody",
        "assets": ", ".join(shown["assets"]),
        "merged into": shown["merged_into"],
        "split from": shown["split_from"],
    }
    out = [line(f"incident {shown['id']} ", state(shown["state"]), f": {shown['title']}")]
    out += [f"  {name:<11}  {text}" for name, text in facts.items() if text]
    out += ["", *_signal_lines(shown["signals_seen"]), ""]
    if shown["cut"]:
        out.append(f"earlier events: `sextant ledger show {shown['id']}`")
    for event in shown["timeline"]:
        out += _timeline_lines(event)
    return out


def _timeline_lines(event: "IncidentEvent") -> list[str]:
    what = {
        "absorbed": f"absorbed {event['other']}",
        "merged": f"merged into {event['other']}",
        "split": f"split, {event['other']} was opened",
        "assigned": f"assigned to {event['assignee'] or 'nobody'}",
    }.get(event["change"], event["change"])
    out = [f"{event['at'][:19]}Z  {what}  by {event['by']}"]
    out += [f"    {text}" for text in event["comment"].splitlines()]
    if event["because"]:
        caused = (f"{one['type']} {one['subject']}" for one in event["because"])
        out.append(f"    because {' <- '.join(caused)}")
    return out
