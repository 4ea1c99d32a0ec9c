"""The command `promises`."""

from typing import TYPE_CHECKING

import click

from sextant.cli import complete
from sextant.cli.output import emit, line, mark, moment, options, platform, state, table, wide
from sextant.cli.progress import Progress
from sextant.kernel.errors import UsageError

if TYPE_CHECKING:
    from sextant.kernel.answers import PromiseSeen, PromisesSeen

_TONES = {"kept": "ok", "short": "warn", "missed": "failed"}


@click.command()
@click.argument(
    "release",
    metavar="[RELEASE]",
    required=False,
    default="",
    help="The id of one that something is expected of.",
    shell_complete=complete.releases,
)
@click.option(
    "--expects",
    multiple=True,
    metavar="PROMISE",
    help='What RELEASE is to do to a business number, as "kpi:revenue +3% in 28d".',
)
@click.option("--team", default="", metavar="TEAM", help="Only promises of this team.")
@click.option("--settle", is_flag=True, help="Derive what is due first; a server does that.")
@wide
@options
def promises(
    release: str,
    expects: tuple[str, ...],
    team: str,
    settle: bool,
    env: str | None,
    as_json: bool,
) -> None:
    """List what releases were expected to do to business numbers and what they did, and how each
    team keeps what it promises; or keep what RELEASE is expected to do.

    When the time of a promise is over, the number is derived without the release: what it brought
    is the difference, whatever else has moved the number."""
    if bool(release) != bool(expects):
        raise UsageError(
            "SX-CLI-096",
            "a promise is a release and what it is expected to do",
            hint='`sextant promises rel_... --expects "kpi:revenue +3% in 28d"`',
        )
    with platform() as p:
        if release:
            made = p.promise(release, list(expects))
            emit(made, json=as_json, text=lambda: _listed(made))
            return
        if settle:
            with Progress() as progress:
                p.settle_promises(progress=progress)
        found = p.promises(team=team, env=env or "")
        emit(found, json=as_json, text=lambda: _lines(found))


def _lines(found: "PromisesSeen") -> list[str]:
    if not found["promises"]:
        how = '`sextant release ASSET VERSION --expects "kpi:revenue +3% in 28d"`'
        return [f"nothing is promised yet: {how}"]
    teams = [
        (one["team"] or "-", one["open"], one["kept"], one["short"], one["missed"], one["other"])
        for one in found["teams"]
    ]
    return [
        *_listed(found["promises"]),
        "",
        *table(("team", "open", "kept", "short", "missed", "other"), teams),
    ]


def _listed(promises: "list[PromiseSeen]") -> list[str]:
    lines = table(
        ("outcome", "promised", "brought", "of", "due", "release", "asset", "team", ""),
        [
            (
                state(one["outcome"], _TONES.get(one["outcome"], "")),
                one["promised"],
                one["realised"] or "-",
                one["number"],
                moment(one["due_at"]) if one["due_at"] else "not live yet",
                one["release"],
                one["asset"],
                one["owner"] or "-",
                one["sure"],
            )
            for one in promises
        ],
    )
    return lines + [
        line(mark(f"  {one['release']}, {one['number']}: {one['message']}", "dim"))
        for one in promises
        if one["message"]
    ]
