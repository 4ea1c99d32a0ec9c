"""plan, run, backfill, check."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.failing import failing_lines, kept_rows, rows_option, with_rows
from sextant.cli.output import (
    emit,
    is_name,
    is_terminal,
    line,
    local_platform,
    mark,
    options,
    platform,
    say,
    select_argument,
    short,
    state,
    table,
    wide,
)
from sextant.cli.progress import Progress
from sextant.cli.project_move import move_lines, say_move
from sextant.cli.upload import bring
from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import human_s

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.app.platform import LocalPlatform
    from sextant.engine.plan import Item, Plan, Request
    from sextant.kernel.answers import RunReport
    from sextant.kernel.nouns import CheckResult, Strategy

_SHOWN = 12
only_option = click.option(
    "--only", is_flag=True, help="Only what is selected, without what reads it."
)
pinned_option = click.option(
    "--pinned",
    is_flag=True,
    help="By the version of the project that is in force in the environment, whatever the folder "
    "has.",
)
_UNCHECKED_SHOWN = 3
_CAUSES_SHOWN = 3


@click.command()
@select_argument
@click.option("--partition", metavar="A..B", help="Only these partitions.")
@click.option("--stale", is_flag=True, help="Also what is stale because its code changed.")
@only_option
@pinned_option
@wide
@options
def plan(
    assets: tuple[str, ...],
    partition: str | None,
    stale: bool,
    only: bool,
    pinned: bool,
    env: str | None,
    as_json: bool,
) -> None:
    """Show what would run, why, and what it will cost. Changes nothing. In an environment that does
    not follow the folder: first what the folder would bring there, what gets weaker and what it
    blinds.

    SELECT: an asset (`orders`, `+orders` with all that it is made of, `orders+` with all that is
    made of it), `tag:daily`, `owner:growth`, `kind:kpi`, `path:ops/sales.py`; several add up,
    commas intersect: `tag:daily,owner:growth`. What reads the selection is made too, but with
    --only."""
    with platform(sound=True) as p:
        version = bring(p, env or "", pinned=pinned)
        found = p.plan(
            assets=assets,
            partition=partition or "",
            stale=stale,
            only=only,
            pinned=pinned,
            version=version,
            env=env or "",
        )
        emit(_plan_json(found), json=as_json, text=lambda: _plan_lines(found))


def _plan_json(found: "Plan") -> dict[str, Any]:
    import msgspec

    value: dict[str, Any] = msgspec.to_builtins(found)
    return {**value, "seconds": round(found.seconds, 3), "steps_count": len(found.steps)}


def _plan_lines(found: "Plan") -> list[str]:
    out = move_lines(found.project) if found.project is not None else []
    rows = []
    any_reused = any(item.reused for step in found.steps for item in step.items)
    for (asset, reason), (items, seconds) in _by_reason(found).items():
        reused = sum(item.reused for item in items)
        rows.append(
            (
                asset,
                reason + _what_changed(found, asset, reason),
                len(items),
                _span([item.partition for item in items]),
                *([reused or ""] if any_reused else []),
                "-" if reused == len(items) else human_s(seconds) if seconds else "not known yet",
            )
        )
    if rows:
        head = ("asset", "why", "partitions", "which", *(["reused"] if any_reused else []), "cost")
        out += table(head, rows)
        out.append(
            f"{len(found.steps)} steps"
            + (f", about {human_s(found.seconds)} of work" if found.seconds else "")
        )
    else:
        left = found.stale or found.held or found.waiting or found.rolling
        out.append(
            "nothing to run"
            if left
            else line("nothing to run: everything is ", state("up to date"))
        )
    out += [
        f"definition of {d.asset}: {short(d.source) or 'new'} -> {short(d.target)}"
        for d in found.definitions
    ]
    for asset, stale in found.stale.items():
        out += _stale_lines(found, asset, stale)
    for asset, keys in found.held.items():
        out.append(
            line(
                state("held"),
                f"   {asset}: {_span(list(keys))}: undone, and neither code nor inputs "
                f"changed since (`sextant release {found.held_by.get(asset, asset)} "
                "VERSION --unhold` lifts it)",
            )
        )
    for asset, strategy in found.strategies.items():
        out.append(f"release {asset} by {strategy_text(strategy)}")
    for asset, release in found.rolling.items():
        out.append(f"rolling {asset}: release {release} is on its way; made when it has ended")
    for asset, keys in found.waiting.items():
        out.append(
            line(
                state("waits"),
                f"  {asset}: {len(keys)} partitions ({_span(list(keys))}) whose inputs are "
                "not there",
            )
        )
    out += [
        f"personal by derivation: {', '.join(f'`{name}`' for name in names)} of {asset}; list them "
        "in public= when they are not"
        for asset, names in found.personal.items()
    ]
    out += [f"note   {text}" for text in found.warnings]
    return out + _unchecked_lines(found.unchecked)


def _stale_lines(found: "Plan", asset: str, stale: dict[str, str]) -> list[str]:
    """Return what is stale of an asset and not made, one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for partition, reason in stale.items():
        by_reason.setdefault(reason, []).append(partition)
    cost = found.stale_seconds.get(asset, 0.0) / len(stale)
    out = []
    for reason, keys in by_reason.items():
        is_code = reason == "code changed"
        then = f"backfill {asset} --stale` makes them again" if is_code else f"run {asset}` does"
        out.append(
            line(
                state("stale"),
                f"  {asset}: {len(keys)} partitions ({_span(keys)}): {reason}"
                f"{_what_changed(found, asset, reason)}"
                f"{'' if is_code else '; its schedule, and not its inputs, makes it'}"
                f"; about {human_s(cost * len(keys))} of work; `sextant {then}",
            )
        )
    return out


def strategy_text(strategy: "Strategy") -> str:
    """Return how releases are rolled out: `canary (5, 25, 100 %, each for 10m at least)`."""
    if len(strategy.steps) < 2:
        return strategy.kind
    shares = ", ".join(map(str, strategy.steps))
    lasts = f", each for {human_s(strategy.step_s)} at least" if strategy.step_s else ""
    return f"{strategy.kind} ({shares} %{lasts})"


def _by_reason(found: "Plan") -> "dict[tuple[str, str], tuple[list[Item], float]]":
    """Return (asset, reason) -> its items, and the seconds of work of those that are not reused."""
    out: dict[tuple[str, str], tuple[list[Item], float]] = {}
    for step in found.steps:
        work = sum(not item.reused for item in step.items)
        for item in step.items:
            items, seconds = out.get((step.asset, item.reason), ([], 0.0))
            cost = 0.0 if item.reused else (step.seconds or 0.0) / work
            out[step.asset, item.reason] = ([*items, item], seconds + cost)
    return out


def _what_changed(found: "Plan", asset: str, reason: str) -> str:
    words = found.causes.get(asset, {}).get(reason, ())
    more = f", {len(words) - _CAUSES_SHOWN} more" if len(words) > _CAUSES_SHOWN else ""
    return f" ({', '.join(words[:_CAUSES_SHOWN])}{more})" if words else ""


def _unchecked_lines(unchecked: dict[str, dict[str, str]]) -> list[str]:
    """Return which columns could not be looked up, one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for asset, inputs in unchecked.items():
        for source, why in inputs.items():
            reason = f"the dataset itself {why}" if source == asset else f"{source} {why}"
            by_reason.setdefault(reason, []).append(asset)
    out = []
    for reason, assets in by_reason.items():
        named = ", ".join(assets[:_UNCHECKED_SHOWN])
        more = len(assets) - _UNCHECKED_SHOWN
        if more > 0:
            named += f" and {more} more"
        out.append(f"columns not checked: {named} ({reason})")
    more = len(out) - _UNCHECKED_SHOWN
    return out[:_UNCHECKED_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _span(partitions: list[str]) -> str:
    ordered = sorted(partitions)
    return (
        ordered[0]
        if len(ordered) == 1
        else f"{ordered[0]} .. {ordered[-1]}"
        if len(ordered) > 2
        else ", ".join(ordered)
    )


@click.command()
@select_argument
@click.option(
    "--partition", metavar="A..B", help="These partitions only; also made again where code changed."
)
@click.option(
    "--each",
    is_flag=True,
    help="One run for each partition, in order, as a schedule would have made them.",
)
@click.option("--force", is_flag=True, help="Make the named assets again whatever the memo says.")
@only_option
@pinned_option
@click.option(
    "--watch",
    is_flag=True,
    help="Stay, and run what is due: by cron, and when inputs have new versions.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Stay with releases that take time until they have ended; at a terminal it does anyhow.",
)
@click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help=(
        "Publish past a failed gate, a missing approval or a deny; leaves a signal for the "
        "owner to review."
    ),
)
@options
def run(
    assets: tuple[str, ...],
    partition: str | None,
    each: bool,
    force: bool,
    only: bool,
    pinned: bool,
    watch: bool,
    wait: bool,
    break_glass: str,
    env: str | None,
    as_json: bool,
) -> int:
    """Make what is missing or has changed inputs, check it, publish it. A crashed run is taken up
    first. SELECT as for `sextant plan`.

    What the folder has is released first to an environment that does not follow it (`sextant plan`
    shows what that brings); --watch and --pinned never do."""
    if each and not partition:
        raise UsageError(
            "SX-CLI-002",
            "--each needs a range",
            hint="sextant run --each --partition 2013-01-01..2013-01-31",
        )
    alone = [
        option
        for option, given in (
            ("--each", each),
            ("--partition", partition),
            ("--force", force),
            ("--break-glass", break_glass),
        )
        if given
    ]
    if watch and alone:
        raise UsageError(
            "SX-CLI-011",
            f"--watch runs what is due by itself; {' and '.join(alone)} cannot go with it",
            hint="run without --watch for that",
        )
    if each and break_glass:
        raise UsageError(
            "SX-CLI-012",
            "--each and --break-glass do not go together",
            hint="break the glass for one run: `sextant run --partition DAY --break-glass REASON`",
        )
    if watch or each:
        return _here(assets, partition or "", env, as_json, each=each, only=only, force=force)
    with platform(sound=True) as p:
        version = bring(p, env or "", pinned=pinned, break_glass=break_glass)
        say_move(p, env or "", pinned=pinned, version=version)
        with Progress() as progress:
            report = p.run(
                assets=assets,
                partition=partition or "",
                force=force,
                only=only,
                pinned=pinned,
                version=version,
                break_glass=break_glass,
                env=env or "",
                progress=progress,
            )
        return finish(followed(p, report, wait=wait), as_json)


def _here(
    assets: tuple[str, ...],
    partition: str,
    env: str | None,
    as_json: bool,
    *,
    each: bool,
    only: bool,
    force: bool,
) -> int:
    """Run again and again in this process: a server has a scheduler of its own."""
    from sextant.app.operations.session import request_of
    from sextant.app.watch import watch as keep_watch
    from sextant.cli.follow import progress_line

    if click.get_current_context().find_root().obj["server"]:
        raise UsageError(
            "SX-CLI-013",
            "--watch and --each work on a project in a folder",
            hint="a server runs what is due by itself; leave --server out for this",
        )
    with local_platform(sound=each) as p, p.interrupts.interruptible():
        project = p.core.project
        if each:
            project.load_sound()
        name = env or project.config.environment or project.manifest().environments[0]
        project.check_environment(name)
        # a watch runs what is in force, --each what the folder has
        of = "" if each else name
        request = request_of(
            p.core, assets, partition, project.manifest(of), of, force=force, downstream=not only
        )
        if each:
            return _each(p, name, request, as_json)
        say(f"watching {name}; Ctrl-C ends it")
        p.runs.driving.keep_on(env=name, told=lambda release: say(progress_line(release)))
        return keep_watch(
            p.runs,
            name,
            request,
            say=say,
            tell=lambda report: emit(
                report, json=as_json, text=lambda: report_lines(report), compact=True
            ),
        )


def _each(p: "LocalPlatform", env: str, request: "Request", as_json: bool) -> int:
    import msgspec

    from sextant.app.watch import days_of
    from sextant.kernel.answers import RunProgress

    worst, total = 0, {"runs": 0, "steps": 0, "rows": 0, "refused": 0}
    started, days = time.monotonic(), list(days_of(p.core, request))
    with Progress() as progress:
        for key in days:
            if p.interrupts.interrupted():
                worst = 130
                break
            progress(
                RunProgress(
                    step=key,
                    ended=total["runs"],
                    total=len(days),
                    rows=total["rows"],
                    running=(key,),
                )
            )
            report = p.runs.run(
                env,
                msgspec.structs.replace(request, partitions=(key, key)),
                by=p.core.authorization.who(),
                trigger="each",
                check_columns=True,
            )
            total = {
                "runs": total["runs"] + 1,
                "steps": total["steps"] + report.computed,
                "rows": total["rows"] + report.rows,
                "refused": total["refused"] + len(report.rejected),
            }
            worst = max(worst, report.exit_code)
            if report.state != "finished":
                progress.say(f"{key}: {report.state}")
                for said in report_lines(report):
                    progress.say(line("  ", said))
    seconds = time.monotonic() - started
    emit(
        {**total, "wall_s": round(seconds, 3)},
        json=as_json,
        text=lambda: [
            (
                f"{total['runs']} runs, {total['steps']} steps, {total['rows']:,} rows in "
                f"{human_s(seconds)}; {total['refused']} refused"
            )
        ],
    )
    return worst


@click.command()
@click.argument(
    "asset",
    metavar="SELECT",
    help="What is made: an asset, or as for `sextant plan`.",
    shell_complete=complete.selections,
)
@click.argument(
    "partitions",
    required=False,
    metavar="[A..B]",
    help="The first and the last, both included, or one.",
)
@only_option
@click.option(
    "--stale", is_flag=True, help="What is stale because its code changed, and what depends on it."
)
@click.option("--force", is_flag=True, help="Make it again whatever the memo says.")
@pinned_option
@options
def backfill(
    asset: str,
    partitions: str | None,
    only: bool,
    stale: bool,
    force: bool,
    pinned: bool,
    env: str | None,
    as_json: bool,
) -> int:
    """Make a range of partitions of an asset, adjacent ones together, and what depends on them.
    SELECT as for `sextant plan`."""
    if partitions is None and not stale and not force:
        raise UsageError(
            "SX-CLI-003",
            "a backfill needs a range, or --stale",
            hint=f"sextant backfill {asset} 2013-01-01..2013-12-31",
        )
    with platform(sound=True) as p:
        version = bring(p, env or "", pinned=pinned)
        say_move(p, env or "", pinned=pinned, version=version)
        with Progress() as progress:
            report = p.run(
                assets=(asset,),
                partition=partitions or "",
                stale=stale,
                force=force,
                only=only,
                pinned=pinned,
                version=version,
                trigger="backfill",
                env=env or "",
                progress=progress,
            )
        return finish(report, as_json)


@click.command()
@select_argument
@rows_option
@wide
@options
def check(assets: tuple[str, ...], rows: bool, env: str | None, as_json: bool) -> int:
    """Run all checks of assets on what is live now; without SELECT, of all. Exit code 1 when one of
    severity error fails. SELECT as for `sextant plan`."""
    with platform() as p:
        names = _to_check(p, assets, env or "")
        results = [result for name in names for result in p.check(name, env=env or "")]
        failing = kept_rows(p, results) if rows else None
        emit(
            with_rows(results, failing) if failing is not None else results,
            json=as_json,
            text=lambda: [
                *(check_lines(results) if len(names) == 1 else check_summary(results)),
                *failing_lines(results, failing or {}),
            ],
        )
        return int(any(not r.ok and r.severity == "error" for r in results))


def _to_check(p: "Platform", assets: tuple[str, ...], env: str) -> list[str]:
    """Return the live assets that are selected, but for definitions: what is checked of those are
    their values. One asset by its name: that one, live or not."""
    if len(assets) == 1 and is_name(assets[0]):
        return list(assets)
    seen = p.status(assets=assets, env=env)["assets"]
    return [one["asset"] for one in seen if one["version"] and one["partitions"]]


def check_summary(results: "list[CheckResult]") -> list[str]:
    """Return how the checks of each asset ended, and each one that is not ok below that."""
    by_asset: dict[str, list[CheckResult]] = {}
    for result in results:
        by_asset.setdefault(result.asset, []).append(result)
    rows = []
    for asset, found in by_asset.items():
        words = [check_word(one) for one in found]
        worst = max(words, key=("ok", "warn", "FAIL").index)
        rows.append((state(worst), asset, len(words), words.count("FAIL"), words.count("warn")))
    return [
        *table(("", "asset", "checks", "failed", "warned"), rows),
        *(
            line(
                "  ",
                state(check_word(one)),
                f"  {one.asset}[{one.partition or 'all'}] {one.name}: {one.message}",
            )
            for one in results
            if not one.ok
        ),
    ]


def check_word(result: "CheckResult") -> str:
    return "ok" if result.ok else "warn" if result.severity == "warn" else "FAIL"


def check_lines(results: Any) -> list[str]:
    """Return check results as lines: ok, warn or FAIL first."""
    rows = [
        (
            state(check_word(r)),
            r.name,
            r.partition,
            r.message,
        )
        for r in results
    ]
    return table(("", "check", "partition", "found"), rows)


def followed(p: "Platform", report: "RunReport", *, wait: bool) -> "RunReport":
    """Stay with the releases of a run that take time, at a terminal or where `wait` says so; return
    its report with what became of them."""
    import msgspec

    from sextant.cli.follow import follow, goes_on
    from sextant.kernel.answers import ReleaseSummary

    ids = [one.id for one in report.releases if goes_on(one)]
    if not ids or not (wait or is_terminal(sys.stdout)):
        return report
    ended = {one.id: ReleaseSummary.of(one) for one in follow(p, ids)}
    releases = tuple(ended.get(one.id, one) for one in report.releases)
    return msgspec.structs.replace(report, releases=releases)


def finish(report: "RunReport", as_json: bool) -> int:
    """Print a run's report and return its exit code."""
    emit(report, json=as_json, text=lambda: report_lines(report))
    return report.exit_code


def _release_lines(report: "RunReport") -> list[str]:
    """Return one line for each release of a run that takes time."""
    out = []
    for one in report.releases:
        if one.strategy == "publish":
            continue
        at = f" step {one.step + 1} of {one.steps}" if one.steps > 1 else ""
        why = f": {one.reason}" if one.reason and one.state != "live" else ""
        out.append(
            line(
                "  ",
                state(one.state),
                f" {', '.join(one.assets)}  release {one.id}{at if one.state == 'rolling' else ''}",
                why,
            )
        )
        if one.state == "waiting":
            out.append(f"          `sextant approve {one.id}`")
        elif one.after and one.state == "proposed":
            out.append(f"          when release {one.after} is live: it was made from that")
        elif one.state in ("proposed", "gated", "rolling", "undoing"):
            out.append(f"          `sextant releases {one.id} --follow` stays with it")
    return out


def _rolling_lines(rolling: dict[str, str]) -> list[str]:
    """Return what was not made because a release of it is on its way."""
    return [
        f"  rolling {asset}: release {release} is on its way; made again when it has ended"
        for asset, release in rolling.items()
    ]


def withdrawn_lines(withdrawn_in: dict[str, tuple[str, ...]]) -> list[str]:
    """Return what is said of a release that brings what was undone in other environments."""
    return [
        f"  note    {asset}: what this brings was undone in {', '.join(environments)}"
        for asset, environments in withdrawn_in.items()
    ]


def _project_lines(report: "RunReport") -> list[str]:
    said = f"    project in {report.env}  {short(report.project)}"
    return [line("  ", state("live"), said)] if report.project else []


def report_lines(report: "RunReport") -> list[str]:
    """Return a run's report as people read it."""
    if not report.id:
        if report.releases:  # one that was not live yet is taken back
            return _release_lines(report)
        return [
            *_project_lines(report),
            "nothing to do: everything is up to date (0 steps)"
            if not report.stale and not report.rolling
            else "nothing to do (0 steps)",
            *_rolling_lines(report.rolling),
            *(
                f"  stale   {asset}: {count} partitions; `sextant plan` says why, and what makes "
                "them again"
                for asset, count in report.stale.items()
            ),
        ]
    out = [
        line(
            f"run {report.id} ",
            state(report.state),
            f" in {human_s(report.wall_s)}: {report.computed} steps computed, "
            f"{report.reused} reused, {report.rows:,} rows",
            " (taken up after a crash)" if report.resumed else "",
        )
    ]
    if report.state == "cancelled":
        out.append("  nothing of it was published; run again to go on from here")
    out += _project_lines(report)
    out += [
        line("  ", state("live"), f"    {asset}  {short(version)}")
        for asset, version in report.published.items()
        if not report.waiting
    ]
    out += [
        line(
            "  ",
            state("BROKEN"),
            f"  {c.asset} {c.name}: {c.message} (a signal is open; `sextant signals`)",
        )
        for c in report.broken
    ]
    out += withdrawn_lines(report.withdrawn_in)
    out += [
        line(
            "  ",
            state("held"),
            f"    {asset}: {_span(list(keys))} came out as what was undone; not published",
        )
        for asset, keys in report.held.items()
    ]
    out += _release_lines(report)
    out += _rolling_lines(report.rolling)
    if report.waiting:
        out.append(
            line(
                "  ",
                state("waits"),
                f"   release {report.waiting} needs approval: `sextant approve {report.waiting}`",
            )
        )
    for asset, release in report.rejected.items():
        out.append(
            line(
                "  ",
                state("REFUSED"),
                f" {asset}: release {release} rejected; what is live stays as it was",
            )
        )
    out += [
        f"          {c.asset}[{c.partition or 'all'}] {c.name}: {c.message}"
        for c in report.refused[:_SHOWN]
    ]
    if any(c.samples for c in report.refused):
        out.append(f"          `sextant runs {report.id} --rows` shows the rows")
    for step in report.failed:
        if step.code != "SX-CHECK-001":
            out.append(
                line(
                    "  ",
                    state("FAILED"),
                    f"  {step.step}: {step.error} ({step.code})",
                    f"\n          at {step.where}" if step.where else "",
                    f"\n          hint: {step.hint}" if step.hint else "",
                )
            )
    if report.failed and any(step.log for step in report.failed):
        out.append(f"          `sextant logs {report.id}` shows what they printed")
    if report.skipped:
        out.append(
            line(
                "  ",
                mark("skipped", "dim"),
                f" {len(report.skipped)} steps that stand on what failed: "
                f"{', '.join(report.skipped[:3])}",
                " ..." if len(report.skipped) > 3 else "",
            )
        )
    out += [
        line(
            "  ",
            state("warn"),
            f"    {c.asset}[{c.partition or 'all'}] {c.name}: {c.message}",
        )
        for c in report.warned[:_SHOWN]
    ]
    if len(report.warned) > _SHOWN:
        out.append(
            f"          ... and {len(report.warned) - _SHOWN} more warnings (`sextant runs "
            f"{report.id}`)"
        )
    return out
