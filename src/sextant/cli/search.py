"""The command `search`."""

from typing import TYPE_CHECKING

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, platform, table, wide
from sextant.kernel.limits import SEARCH_HITS, SEARCH_HITS_MAX

if TYPE_CHECKING:
    from sextant.kernel.answers import Search


@click.command()
@click.argument("words", nargs=-1, required=True, help="All of them must be there.")
@click.option(
    "--limit",
    default=SEARCH_HITS,
    type=click.IntRange(1, SEARCH_HITS_MAX),
    metavar="N",
    help=f"How many (default {SEARCH_HITS}).",
)
@wide
@json_option
def search(words: tuple[str, ...], limit: int, as_json: bool) -> int:
    """Find what has these words in its name, owner, tags, columns or documentation: assets, checks,
    teams, policies, environments. Runs, releases, incidents, signals and versions are found by the
    first letters of their ids. Exit code 1 when nothing is found."""
    with platform() as p:
        found = p.search(" ".join(words), limit=limit)
        emit(found, json=as_json, text=lambda: _lines(found))
        return int(not found["hits"])


def _lines(found: "Search") -> list[str]:
    if not found["hits"]:
        return ["nothing has these words: `sextant graph` lists the assets"]
    out = table(
        ("", "id", "matched", "", "what it is"),
        [
            (
                hit["noun"],
                hit["id"],
                hit["matched"],
                "" if hit["matched"] in ("id", "name", "near name") else hit["text"],
                hit["title"],
            )
            for hit in found["hits"]
        ],
        spare=("what it is",),
    )
    return [*out, "and more: --limit shows them"] if found["cut"] else out
