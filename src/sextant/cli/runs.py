"""runs: list runs, show one, follow it, cancel it, try it again; and what its steps print."""

import time
from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.failing import failing_lines, kept_rows, rows_option, with_rows
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    harmless,
    limit_option,
    line,
    mark,
    platform,
    put,
    say,
    short,
    state,
    table,
    wide,
)
from sextant.cli.progress import Progress, progress_text
from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import human_s

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.kernel.answers import Printed, RunProgress

_LOOK_S = 1.0  # how often a run that is followed is looked at
_EXIT_CODES = {"finished": 0, "refused": 1, "cancelled": 130}  # as of `sextant run`; else 3


@click.command()
@click.argument(
    "id_",
    metavar="[RUN]",
    required=False,
    default="",
    help="The id of one (default: the newest ones).",
    shell_complete=complete.runs,
)
@click.option(
    "--cancel",
    is_flag=True,
    help="Stop this run; nothing of it is published, and what it made is used by the next.",
)
@click.option(
    "--retry",
    is_flag=True,
    help="Run again what failed of this run, what stood on that, and what it did not reach.",
)
@click.option("--follow", is_flag=True, help="Stay with this run until it has ended.")
@rows_option
@limit_option
@wide
@json_option
def runs(
    id_: str, cancel: bool, retry: bool, follow: bool, rows: bool, limit: int, as_json: bool
) -> int:
    """List runs, newest first, or show one with its steps, why each ran, what it cost, and checks.

    With --follow or --retry the exit code is that of `sextant run`: 0 finished, 1 refused, 3
    failed, 130 cancelled. Ctrl-C ends --follow; the run goes on."""
    chosen = [
        name
        for name, given in (
            ("--cancel", cancel),
            ("--retry", retry),
            ("--follow", follow),
            ("--rows", rows),
        )
        if given
    ]
    if chosen and not id_:
        raise UsageError("SX-CLI-014", f"{chosen[0]} needs a run", hint="`sextant runs` lists them")
    if len(chosen) > 1 and chosen != ["--follow", "--rows"]:
        raise UsageError(
            "SX-CLI-079",
            f"{' and '.join(chosen)} are different things to do",
            hint="give one of them",
        )
    with platform(load=not cancel, sound=retry) as p:
        if cancel:
            emit(
                p.cancel(id_),
                json=as_json,
                text=lambda: [f"run {id_} ends after the steps that are under way"],
            )
            return 0
        if retry:
            from sextant.cli.work import finish

            with Progress() as progress:
                report = p.retry(id_, progress=progress)
            return finish(report, as_json)
        if id_:
            found = followed_run(p, id_) if follow else p.run_facts(id_)
            _show_run(p, found, rows=rows, as_json=as_json)
            return _EXIT_CODES.get(found["state"], 3) if follow else 0
        listed = p.runs(limit=limit).items
        emit(listed, json=as_json, text=lambda: _list_lines(listed))
        return 0


def _show_run(p: "Platform", found: dict[str, Any], *, rows: bool, as_json: bool) -> None:
    import msgspec

    from sextant.kernel.nouns import CheckResult

    results = msgspec.convert(found["checks"], list[CheckResult])
    failing = kept_rows(p, results) if rows else {}
    emit(
        {**found, "checks": with_rows(results, failing)} if rows else found,
        json=as_json,
        text=lambda: [*_run_lines(found), *failing_lines(results, failing)],
    )


def followed_run(p: "Platform", id_: str) -> dict[str, Any]:
    """Stay with a run until it has ended, and return its facts then. Ctrl-C ends the following, not
    the run."""
    with left_alone(id_), Progress() as progress:
        while True:
            found = p.run_facts(id_)
            if found.get("finished_at"):
                return found
            progress(_progress(found["progress"]))
            time.sleep(_LOOK_S)


class left_alone:  # noqa: N801 - used like a function
    """Turns Ctrl-C into a sentence that the run goes on, and the exit code 130."""

    def __init__(self, run: str) -> None:
        self._run = run

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            say(f"left: run {self._run} goes on; `sextant runs {self._run} --cancel` stops it")
            raise click.exceptions.Exit(130) from None


def _progress(facts: dict[str, Any]) -> "RunProgress":
    import msgspec

    from sextant.kernel.answers import RunProgress

    return msgspec.convert(facts, RunProgress)


def _list_lines(listed: list[dict[str, Any]]) -> list[str]:
    lines = table(
        (
            "run",
            "env",
            "state",
            "trigger",
            "by",
            "computed",
            "reused",
            "failed",
            "rows",
            "took",
        ),
        [
            (
                r["id"],
                r["env"],
                state(r["state"]),
                r.get("trigger", ""),
                r.get("by", ""),
                r.get("computed", 0),
                r.get("reused", 0),
                r.get("failed", 0),
                r.get("rows", 0),
                human_s(r.get("wall_s", 0.0)),
            )
            for r in listed
        ],
        spare=("trigger", "by", "reused", "env", "computed"),
    )
    return lines + [
        f"{r['id']}: {progress_text(_progress(r['progress']))}" for r in listed if "progress" in r
    ]


def _run_lines(found: dict[str, Any]) -> list[str]:
    out = [
        line(
            f"run {found['id']} ",
            state(found["state"]),
            f" in {found['env']}, by {found.get('by', '')} ({found.get('trigger', '')})",
            ""
            if found["seal_ok"]
            else mark("  HISTORY WAS CHANGED: its seal does not match", "bad"),
        )
    ]
    if found.get("retry_of"):
        out.append(f"tries run {found['retry_of']} again")
    out += [f"tried again by run {id_}" for id_ in found["retries"]]
    out.append(progress_text(_progress(found["progress"])))
    rows = []
    for s in found["steps_recorded"]:
        used = s.get("resources", {})
        rows.append(
            (
                s["kind"],
                s["step"],
                s.get("attempt", 1),
                state("ok")
                if s.get("ok", True)
                else state(s["error_code"], "failed")
                if s.get("error_code")
                else mark("skipped", "dim"),
                "; ".join(s.get("why", ())),
                s.get("rows", 0),
                human_s(used.get("wall_s", 0.0)),
                human_s(used.get("cpu_s", 0.0)),
                f"{used.get('memory_bytes_peak', 0) >> 20} MB",
                _size(used.get("bytes_read", 0)),
                _size(used.get("bytes_written", 0)),
                short(s.get("code", "")),
                s.get("durability", ""),
                s.get("error", ""),
            )
        )
    out += table(
        (
            "",
            "step",
            "attempt",
            "result",
            "why",
            "rows",
            "wall",
            "cpu",
            "peak",
            "read",
            "written",
            "code",
            "durability",
            "error",
        ),
        rows,
        spare=("durability", "code", "read", "written", "peak", "cpu", "attempt", "why"),
    )
    bad = [c for c in found["checks"] if not c["ok"]]
    out.append(f"{len(found['checks'])} checks, {len(bad)} not ok")
    out += [
        line(
            "  ",
            state(c.get("severity", "error")),
            f"  {c['asset']}[{c.get('partition') or 'all'}] {c['name']}: {c.get('message', '')}",
        )
        for c in bad
    ]
    if found["state"] in ("failed", "refused", "cancelled") and found.get("trigger") != "undo":
        out.append(f"`sextant runs {found['id']} --retry` runs again what is missing of it")
    return out


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 100_000 else f"{size_bytes:,} B"


def show_printed(p: "Platform", run: str, step: str, asset: str, *, as_json: bool) -> None:
    """Print what the steps of a run printed so far."""
    found = p.log(run=run, step=step, asset=asset)
    printed = list(found["printed"])
    while found["next"] and found["printed"]:
        found = p.log(run=found["run"], step=step, asset=asset, after=found["next"])
        printed += found["printed"]
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
            or ["nothing was printed" + (" yet" if found["running"] else "")]
        ),
    )


def follow_printed(p: "Platform", run: str, step: str, asset: str, *, as_json: bool) -> int:
    """Print what the steps of a run print, as it comes, until the run has ended; return the exit
    code of the run. Ctrl-C ends the following, not the run."""
    last: tuple[str, int] | None = None
    fresh = True  # the next character begins a line
    after = ""
    with left_alone(run or "that"):
        while True:
            found = p.log(run=run, step=step, asset=asset, after=after)
            run = found["run"]
            if not run:
                say("nothing has run yet")
                return 0
            if found["cut"]:
                say("what was printed before is not here; it is kept when the run has ended")
            if found["after"] != after:  # what was shown is gone: it comes again
                say("from the beginning, as it was kept:")
            for entry in found["printed"]:
                if as_json:
                    emit(entry, json=True, text=list, compact=True)
                    continue
                last, fresh = _print_piece(entry, last, fresh)
            after = found["next"]
            if not after:
                facts = p.run_facts(run)
                say(f"run {run} has ended: {facts['state']}")
                return _EXIT_CODES.get(facts["state"], 3)
            if not found["printed"]:
                time.sleep(_LOOK_S)


def _print_piece(
    entry: "Printed", last: tuple[str, int] | None, fresh: bool
) -> tuple[tuple[str, int], bool]:
    """Print a piece, with a line that says whose it is where that changes. Return whose it was, and
    whether it ended a line."""
    whose = (entry["step"], entry["attempt"])
    head = ""
    if whose != last:
        head = ("" if fresh else "\n") + f"--- {whose[0]} (attempt {whose[1]}, {entry['at']})\n"
    put(harmless(head + entry["text"]))
    return whose, entry["text"].endswith("\n")
