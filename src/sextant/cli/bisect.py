"""The command `bisect`."""

from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.output import emit, line, mark, moment, options, platform, state, table, wide
from sextant.cli.progress import Progress
from sextant.kernel.limits import DERIVED_SECONDS_MAX

if TYPE_CHECKING:
    from sextant.kernel.answers import BisectSeen, BisectStep


@click.command(short_help="Find the one change that turned a business number or a check.")
@click.argument("name", help="Of the KPI or the asset.", shell_complete=complete.assets)
@click.argument("check", required=False, default="", help="The asset's check, by its name.")
@click.option(
    "--from",
    "known_from",
    required=True,
    metavar="TIME|RELEASE",
    help="The first moment: before it turned.",
)
@click.option(
    "--to",
    "known_to",
    default="",
    metavar="TIME|RELEASE",
    help="The second moment (default: now).",
)
@click.option(
    "--over",
    default="",
    metavar="SPAN",
    help="Whose number, or rows, are looked at (default: the newest of a number, all rows of a "
    "check).",
)
@click.option(
    "--threshold",
    default="",
    metavar="NUMBER",
    help="What divides the two moments (default: halfway between their numbers).",
)
@click.option(
    "--most",
    type=click.FloatRange(min=0),
    default=DERIVED_SECONDS_MAX,
    metavar="SECONDS",
    help=f"Derive no more than is expected to take this long (default: {DERIVED_SECONDS_MAX:g}).",
)
@wide
@options
def bisect(
    name: str,
    check: str,
    known_from: str,
    known_to: str,
    over: str,
    threshold: str,
    most: float,
    env: str | None,
    as_json: bool,
) -> None:
    """Find the one change that turned a business number, or a check of an asset, between two
    moments: other rows, code, a definition, an undo. The changes are halved in the order of time,
    and what was not live in a half is derived; nothing of it is released.

    SPAN is a part of time: 2013, 2013-Q1, 2013-02, 2013-W06, 2013-02-09, or 2013-01-01/2013-03-31,
    whose second day is not included."""
    asked: dict[str, Any] = {
        "known_to": known_to,
        "check": check,
        "over": over,
        "threshold": threshold,
        "most_s": most,
        "env": env or "",
    }
    with platform() as p:
        with Progress() as progress:
            found = p.bisect(name, known_from, **asked, progress=progress)
        emit(found, json=as_json, text=lambda: _lines(found))


def _lines(found: "BisectSeen") -> list[str]:
    of = f", {found['check']}" if found["check"] else ""
    over = f", {found['since']} .. {found['until']}" if found["since"] else ""
    before, after = (_state(found, found[side]) for side in ("before", "after"))
    if len(found["found"]) == 1:
        one = found["found"][0]
        said = [
            line("  ", state(found["sure"]), f": {one['text']}"),
            line(f"  without it, after all that came before: {before}"),
            line(f"  with it: {after}"),
            line(f"  {one['by']}, {moment(one['at'])}, {one['release']}  owner: {one['owner']}"),
            *([line(f"  to undo it: `{one['undo']}`")] if one["undo"] else []),
        ]
    else:
        said = [
            line(
                "  ",
                state(found["sure"]),
                f": one of these, from {before} to {after}, for it "
                "cannot be told in what they stand between",
            ),
            *table(
                ("change", "owner", "by", "at", "release"),
                [
                    (one["text"], one["owner"], one["by"], moment(one["at"]), one["release"])
                    for one in found["found"]
                ],
            ),
        ]
    looked = len(found["steps"])
    return [
        line(f"{found['asset']}{of} in {found['env']}{over}"),
        *said,
        line(mark(f"  found among {found['changes']:,} changes in {looked} states", "dim")),
        *(line(mark(f"  {note}", "dim")) for note in found["notes"]),
    ]


def _state(found: "BisectSeen", step: "BisectStep") -> str:
    from decimal import Decimal

    from sextant.kinds.kpi.command import formatted
    from sextant.kinds.kpi.waterfall_command import short

    if found["check"]:
        return f"{step['state']}: {step['message']}" if step["message"] else step["state"]
    unit = f" {found['unit']}" if found["unit"] else ""
    number = step["state"]
    return (
        f"{formatted(number, found['format']) if found['format'] else short(Decimal(number))}{unit}"
    )
