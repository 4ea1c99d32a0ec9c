"""Commands about releases: release, releases, rollback, approve."""

from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from sextant.authorization.decide import wanted
from sextant.cli import complete
from sextant.cli.follow import GOES_ON, follow
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    limit_option,
    line,
    moment,
    options,
    platform,
    short,
    state,
    table,
    wide,
)
from sextant.cli.progress import Progress
from sextant.cli.project_move import change_lines
from sextant.cli.work import finish, withdrawn_lines
from sextant.kernel.clock import iso
from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import human_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sextant.app.operations import Platform
    from sextant.kernel.answers import RollbackPlan, ToApprove, UndoPlan, UndoReport
    from sextant.kernel.nouns import Move, Release


@click.command()
@click.argument(
    "id_",
    metavar="[RELEASE]",
    required=False,
    default="",
    help="The id of one (default: the newest ones).",
    shell_complete=complete.releases,
)
@click.option(
    "--asset",
    default="",
    metavar="ASSET",
    help="Only releases of this asset.",
    shell_complete=complete.assets,
)
@click.option("--follow", "stay", is_flag=True, help="Stay until it has ended, or needs a person.")
@click.option(
    "--drive",
    is_flag=True,
    help="Roll out what is due, and stay until nothing goes on by itself; a server does that.",
)
@click.option("--pause", "verb", flag_value="pause", help="Hold this release at its step.")
@click.option("--continue", "verb", flag_value="continue", help="Let it go on: paused or stuck.")
@click.option(
    "--abort", "verb", flag_value="abort", help="Take it back: its version stays withdrawn."
)
@click.option(
    "--resolve",
    "to",
    type=click.Choice(["live", "back"]),
    default=None,
    help="Record that somebody brought a stuck release to its end by hand, or took it back.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the ledger.")
@limit_option
@wide
@options
def releases(
    id_: str,
    asset: str,
    stay: bool,
    drive: bool,
    verb: str | None,
    to: str | None,
    reason: str,
    limit: int,
    env: str | None,
    as_json: bool,
) -> int:
    """List releases, newest first, or show one with its events; or act on one that is on its
    way."""
    verb = verb or ("resolve" if to else None)
    if (verb or stay) and not id_:
        raise UsageError(
            "SX-CLI-061",
            f"--{verb or 'follow'} needs a release",
            hint="`sextant releases` lists them",
        )
    if verb and not reason:
        raise UsageError(
            "SX-CLI-062", f"--{verb} needs a reason", hint='--reason "errors in the checkout"'
        )
    if drive and (id_ or verb):
        raise UsageError(
            "SX-CLI-063",
            "--drive is about all releases that are due",
            hint=f"`sextant releases {id_} --follow` stays with one",
        )
    with platform() as p:
        if drive:
            return _drive(p, env or "", as_json)
        if verb:
            done = _act(p, verb, id_, to or "", reason)
            return _released(done, as_json)
        if stay:
            done = follow(p, [id_])[0]
            return _released(done, as_json)
        if id_:
            one = p.release_facts(id_)
            emit(one, json=as_json, text=lambda: _facts_lines(one))
            return 0
        found = p.releases(env=env or "", asset=asset, limit=limit).items
        emit(found, json=as_json, text=lambda: _release_lines(found))
        return 0


def _act(p: "Platform", verb: str, id_: str, to: str, reason: str) -> "Release":
    if verb == "pause":
        return p.pause_release(id_, reason)
    if verb == "continue":
        return p.continue_release(id_, reason)
    if verb == "abort":
        return p.abort_release(id_, reason)
    return p.resolve_release(id_, to, reason)  # type: ignore[arg-type]


def _drive(p: "Platform", env: str, as_json: bool) -> int:
    """Roll out what is due until nothing goes on by itself."""
    left = [one["id"] for one in _on_their_way(p, env)]
    done = follow(p, left)
    emit(
        done,
        json=as_json,
        text=lambda: (
            [text for one in done for text in released_lines(one)] or ["no release is on its way"]
        ),
    )
    return max((_exit_code(one) for one in done), default=0)


def _on_their_way(p: "Platform", env: str) -> list[dict[str, Any]]:
    return [
        one
        for name in GOES_ON
        for one in p.releases(env=env, state=name, limit=1000).items
        if one.get("strategy", {}).get("kind", "direct") != "publish"
    ]


def released_lines(done: "Release") -> list[str]:
    """Return a release as people read it."""
    out = [
        line(
            f"release {done.id} is ",
            state(done.state),
            f": {done.reason}" if done.reason and done.state != "live" else "",
        )
    ]
    out += [
        f"  {m.asset}  {short(m.source) or 'nothing'} -> {short(m.target)} in {m.env}"
        for m in done.moves
    ]
    if done.error:
        out.append(f"  failed {done.errors} times: {done.error}")
    out += withdrawn_lines(done.withdrawn_in)
    if done.state == "waiting":
        out.append(f"  {wanted(done.asked)} must `sextant approve {done.id}` before it goes on")
    if done.state == "rolling":
        out.append(f"  `sextant releases {done.id} --follow` stays with it")
    if done.state in ("paused", "stuck"):
        out.append(f"  `sextant releases {done.id}` with --continue or --abort decides")
    return out


def _exit_code(release: "Release") -> int:
    bad = ("rejected", "paused", "stuck", "undoing")
    return int(release.state in bad or (release.state == "rolled_back" and release.taken_back))


def _facts_lines(one: dict[str, Any]) -> list[str]:
    strategy = one.get("strategy", {})
    kind, steps = strategy.get("kind", "direct"), strategy.get("steps", [100])
    shares = ", ".join(map(str, steps))
    rolled_out = f"  {kind}, step {one.get('step', 0) + 1} of {len(steps)} ({shares} %)"
    return [
        *_release_lines([one]),
        *(
            f"  {m['asset']}  {short(m.get('source', '')) or 'new'} -> {short(m['target'])}"
            for m in one["moves"]
        ),
        *([rolled_out] if kind != "publish" else []),
        *([f"  failed {one['errors']} times: {one['error']}"] if one.get("error") else []),
        *(
            text
            for found in one["declared"].values()
            if "changes" in found
            for text in change_lines(found["changes"])
        ),
        *(f"  {e['at']}  {e['type']}  by {e['actor']}" for e in reversed(one["events"])),
    ]


def _release_lines(found: list[dict[str, Any]]) -> list[str]:
    return table(
        ("release", "state", "intent", "env", "assets", "by", "at (UTC)", "reason"),
        [
            (
                r["id"],
                state(r["state"]),
                r.get("intent", "release"),
                r["moves"][0]["env"],
                ", ".join(m["asset"] for m in r["moves"]),
                r["by"],
                moment(iso(r["changed_at"])),
                r.get("reason", ""),
            )
            for r in found
        ],
        spare=("intent", "env", "by"),
    )


@click.command()
@click.argument(
    "asset", required=False, default="", help="What is released.", shell_complete=complete.assets
)
@click.argument(
    "version",
    required=False,
    default="",
    help="Its first 4 or more digits; `sextant versions ASSET` lists them.",
    shell_complete=complete.versions,
)
@click.option(
    "--from",
    "source",
    metavar="ENV",
    default="",
    help="Publish what is live in that environment; without ASSET, all that it has of its own.",
    shell_complete=complete.environments,
)
@click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help=(
        "Past a failed gate, a missing approval or a deny; leaves a signal for the owner to review."
    ),
)
@click.option(
    "--expects",
    multiple=True,
    metavar="PROMISE",
    help='What it is to do to a business number, as "kpi:revenue +3% in 28d".',
)
@click.option("--unhold", is_flag=True, help="Lift the mark of a withdrawn version instead.")
@click.option(
    "--over",
    metavar="VERSION",
    default="",
    help="Of the project, in force in --env: its changes are merged in the folder of --from.",
)
@options
def release(
    asset: str,
    version: str,
    source: str,
    over: str,
    break_glass: str,
    expects: tuple[str, ...],
    unhold: bool,
    env: str | None,
    as_json: bool,
) -> int:
    """Make a version of an asset live, through the gate: VERSION, or what is live in --from ENV.

    Of a version that was made on an older state only what it changed is taken over; a partition
    that both changed is a conflict.

    Without ASSET all that environment --from has of its own becomes live in one release: data,
    definitions, the project. What both changed is named, and nothing is moved."""
    if expects and (not asset or unhold):
        raise UsageError(
            "SX-CLI-095",
            "--expects is of the release of one asset",
            hint="`sextant promises RELEASE --expects ...` for one that is there",
        )
    if not asset and (not source or unhold):
        raise UsageError(
            "SX-CLI-023",
            "a release needs an asset, or --from ENV",
            hint="`sextant release ASSET VERSION`, `sextant release --from pr-7 --env prod`",
        )
    with platform(sound=not unhold) as p:
        if not asset:
            with Progress() as progress:
                all_ = p.promote(
                    source, over=over, break_glass=break_glass, env=env or "", progress=progress
                )
            said = list(chain.from_iterable(map(released_lines, all_)))
            emit(all_, json=as_json, text=lambda: said)
            return max(map(_exit_code, all_), default=0)
        if unhold:
            lifted = p.unhold(asset, version, env=env or "")
            emit(
                lifted,
                json=as_json,
                text=lambda: [
                    (
                        f"{lifted['asset']}@{short(lifted['version'])} may be chosen again in "
                        f"{lifted['env']}"
                    )
                ],
            )
            return 0
        with Progress() as progress:
            done = p.release(
                asset,
                version=version,
                source=source,
                break_glass=break_glass,
                expects=list(expects),
                env=env or "",
                progress=progress,
            )
        return _released(done, as_json)


def _released(done: "Release", as_json: bool) -> int:
    emit(done, json=as_json, text=lambda: released_lines(done))
    return _exit_code(done)


@click.command()
@click.argument("asset", help="What is taken back.", shell_complete=complete.assets)
@click.argument(
    "version",
    required=False,
    default="",
    help="Its first 4 or more digits (default: what is live).",
    shell_complete=complete.versions,
)
@click.option("--reason", default="undone by hand", metavar="TEXT", help="Why; kept in the ledger.")
@click.option(
    "--downstream/--only",
    default=True,
    help="Derive again what stands on it (default), or leave that to the next run.",
)
@click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help=(
        "Past a deny and past failed checks of what is derived again; leaves a signal for the "
        "owner to review."
    ),
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@options
def rollback(
    asset: str,
    version: str,
    reason: str,
    downstream: bool,
    dry_run: bool,
    break_glass: str,
    env: str | None,
    as_json: bool,
) -> int:
    """Undo the release that brought VERSION (default: what is live): only the partitions that it
    changed go back.

    What was derived from them is derived again and published in the same release. The version stays
    withdrawn: nothing chooses it again until code or inputs change, or `sextant release ASSET
    VERSION --unhold` lifts the mark."""
    with platform() as p:
        if dry_run:
            shown = p.rollback_plan(asset, version=version, downstream=downstream, env=env or "")
            emit(shown, json=as_json, text=lambda: _preview_lines(shown))
            return int(bool(shown.problem) or shown.verdict == "deny")
        with Progress() as progress:
            report = p.rollback(
                asset,
                version=version,
                reason=reason,
                downstream=downstream,
                break_glass=break_glass,
                env=env or "",
                progress=progress,
            )
        return finish(report, as_json)


def _which(partitions: "Sequence[str]") -> str:
    """Return partitions by the outermost ones."""
    return " .. ".join(dict.fromkeys((partitions[0], partitions[-1]))) if partitions else ""


def _preview_lines(found: "RollbackPlan") -> list[str]:
    """Return what an undo would do, in the order in which it does it."""
    if found.problem:
        hint = [f"hint: {found.hint}"] if found.hint else []
        return [f"{found.asset} in {found.env} cannot be undone: {found.problem}", *hint]
    why = f" ({found.reason})" if found.reason else ""
    verb = "abort" if found.aborts else "undo"
    out = [f"would {verb} release {found.release} by {found.by} of {moment(found.at)}Z{why}"]
    rows = [
        (
            one.asset,
            f"{short(one.version)} -> {short(one.before) or 'nothing'}",
            one.restored,
            one.removed,
            _which(one.partitions),
        )
        for one in found.taken_back
    ]
    out += table(("goes back", "version", "restored", "removed", "which"), rows)
    again = [
        (
            one.asset,
            one.partitions,
            one.reused,
            "not known yet" if one.seconds is None else human_s(one.seconds),
        )
        for one in found.made_again
    ]
    if again:
        out += ["", *table(("made again", "partitions", "reused", "cost"), again)]
    if found.verdict != "allow":
        rules = f": {'; '.join(found.reasons)}" if found.reasons else ""
        out.append(f"the rules say {found.verdict}{rules}")
    return out


@click.command()
@click.argument(
    "ids",
    metavar="RELEASE...",
    nargs=-1,
    required=True,
    help="Its id; `sextant status` shows those that wait.",
    shell_complete=complete.releases,
)
@click.option("--deny", is_flag=True, help="Refuse it.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the ledger.")
@click.option(
    "--plan",
    default="",
    metavar="DIGEST",
    help="What was looked at: `plan` of `sextant releases RELEASE --json`, or what this command "
    "shows of several.",
)
@json_option
def approve(ids: tuple[str, ...], deny: bool, reason: str, plan: str, as_json: bool) -> int:
    """Approve (or deny) a release that waits. Who proposed it cannot approve it.

    Several are approved together, all or none: the command shows them first, and ends with what
    approves exactly these."""
    with platform() as p:
        if len(ids) == 1:
            return _released(p.approve(ids[0], deny=deny, reason=reason, plan=plan), as_json)
        if not plan:
            found = p.to_approve(ids)
            emit(found, json=as_json, text=lambda: _to_approve_lines(found, deny=deny))
            return 0
        done = p.approve_all(ids, plan, deny=deny, reason=reason)
        emit(
            done, json=as_json, text=lambda: [said for one in done for said in released_lines(one)]
        )
        return max(map(_exit_code, done))


def _move_text(move: "Move") -> str:
    return f"{move.asset} {short(move.source) or 'new'} -> {short(move.target)}"


def _to_approve_lines(found: "ToApprove", *, deny: bool) -> list[str]:
    rows = [
        (one.id, one.moves[0].env, ", ".join(map(_move_text, one.moves)), one.by, one.reason)
        for one in found.releases
    ]
    words = " ".join(one.id for one in found.releases)
    return [
        *table(("release", "env", "moves", "by", "waits for"), rows, spare=("moves",)),
        f"`sextant approve {words}{' --deny' if deny else ''} --plan {found.plan}` "
        + ("refuses exactly these" if deny else "approves exactly these"),
    ]


@click.command()
@click.option(
    "--by",
    "who",
    required=True,
    metavar="WHO",
    help="Whose: person:ann, or ann with all that acts for her.",
)
@click.option("--since", required=True, metavar="LENGTH|TIME", help="How far back, or since when.")
@click.option(
    "--plan", default="", metavar="DIGEST", help="Do it: what this command has shown before."
)
@click.option("--reason", default="undone by hand", metavar="TEXT", help="Why; kept in the ledger.")
@wide
@options
def undo(who: str, since: str, plan: str, reason: str, env: str | None, as_json: bool) -> int:
    """Take back what one actor did since a time: all releases, newest first, each asset to what it
    was before.

    Shows the plan, what cannot be undone first; the command that it ends with does it. One that
    broke off is asked for again, and goes on with what is left."""
    with platform() as p:
        if not plan:
            found = p.undo_plan(who, since, env=env or "")
            emit(found, json=as_json, text=lambda: _plan_lines(found, who, since, env or ""))
            return 1 if found.impossible else 0
        done = p.undo(who, since, plan, reason=reason, env=env or "")
        emit(done, json=as_json, text=lambda: _undone_lines(done))
        return 1 if any(one.error for one in done.done) else 0


def _plan_lines(found: "UndoPlan", who: str, since: str, env: str) -> list[str]:
    out = [
        line(state("LOOK"), f"  {one.asset} in {one.env}, release {one.release}: {one.problem}")
        for one in found.impossible
    ]
    if found.left:
        some = ", ".join(f"{count} {type_}" for type_, count in found.left.items())
        out.append(line(state("LOOK"), f"  not undone by this: {some}"))
    if not found.items:
        return [*out, "nothing is left to undo"]
    rows = [
        (
            one.action,
            one.asset,
            one.env,
            f"{short(one.version)} -> {short(one.before) or 'nothing'}",
            one.release,
            one.by,
            moment(iso(one.at)),
        )
        for one in found.items
    ]
    out += table(("", "asset", "env", "goes back", "release", "by", "at (UTC)"), rows)
    words = f"--by {who} --since {since}" + (f" --env {env}" if env else "")
    return [*out, f"`sextant undo {words} --plan {found.digest}` does it"]


def _undone_lines(done: "UndoReport") -> list[str]:
    out = [
        line(
            state("FAILED") if one.error else state("ok"),
            f"  {one.item.action} {one.item.asset} in {one.item.env}",
            f": {one.error} ({one.code})" if one.error else "",
        )
        for one in done.done
    ]
    return out + [f"derived again by run {run}" for run in done.runs]
