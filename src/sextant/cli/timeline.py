"""The command `timeline`."""

from typing import TYPE_CHECKING

import click

from sextant.cli import complete
from sextant.cli.output import emit, limit_option, line, moment, options, platform, state, wide
from sextant.cli.output import table as aligned

if TYPE_CHECKING:
    from sextant.kernel.answers import Change, Page, TimelineItem


@click.command()
@click.argument("asset", help="Its name, or KIND:NAME.", shell_complete=complete.assets)
@click.option("--since", default="", metavar="7d|TIME", help="How far back, or since when.")
@click.option("--until", default="", metavar="1d|TIME", help="Until so long ago, or when.")
@click.option(
    "--changes",
    is_flag=True,
    help="What became live, was undone or edited, of the asset and of all that it is made of.",
)
@limit_option
@wide
@options
def timeline(
    asset: str, since: str, until: str, changes: bool, limit: int, env: str | None, as_json: bool
) -> None:
    """List what happened to an asset, newest first: versions, releases, runs, failed checks,
    signals, incidents, refusals, reports and edits, each with who and why."""
    with platform() as p:
        if changes:
            moved = p.changes(asset, since=since, until=until, limit=limit, env=env or "")
            emit(moved, json=as_json, text=lambda: _change_lines(moved))
            return
        found = p.timeline(asset, since=since, until=until, limit=limit, env=env or "")
        emit(found, json=as_json, text=lambda: _lines(found))


def _lines(found: "Page[TimelineItem]") -> list[str]:
    rows = [
        (
            moment(one["at"]),
            line(f"{one['noun']} ", state(one["change"])),
            one["subject"] if "@" not in one["subject"] else one["version"][:12],
            one["by"],
            one["because"][0]["type"] if one["because"] else "",
            one["reason"],
        )
        for one in found.items
    ]
    head = ("at (UTC)", "what", "of", "by", "because of", "reason")
    return [*aligned(head, rows, spare=("because of", "by")), *_more(found.next)]


def _change_lines(found: "Page[Change]") -> list[str]:
    from sextant.app.why import what_changed

    rows = [
        (
            moment(one["at"]),
            one["asset"],
            what_changed(one),
            one["by"],
            one["release"],
            f"{len(one['partitions'])}" if one["partitions"] else "",
            one["reason"],
        )
        for one in found.items
    ]
    head = ("at (UTC)", "asset", "what", "by", "release", "partitions", "reason")
    return [*aligned(head, rows, spare=("partitions", "by")), *_more(found.next)]


def _more(following: str) -> list[str]:
    return ["the newest of more: --limit shows more of them"] if following else []
