"""The command `services`: what sends telemetry, and how it answers."""

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, moment, platform, say, table
from sextant.cli.telemetry import limit_option, since_option, took, until_option
from sextant.kernel.answers import ServiceSeen
from sextant.kernel.lengths import human_s


@click.command()
@since_option
@until_option
@limit_option
@json_option
def services(since: str, until: str, limit: int, as_json: bool) -> None:
    """List what sent telemetry lately, with the requests that it answered by its spans: those with
    errors first, then the busiest."""
    with platform(load=False) as p:
        found = p.services(since=since, until=until, limit=limit)
    emit(found, json=as_json, text=lambda: _rows(found["services"]))
    if not as_json and found["services"]:
        say(
            f"within {human_s(found['length_s'])}; `sextant traces --asset NAME --failed` shows why"
        )
        if found["cut"]:
            say(f"the first {len(found['services']):,} of more: --limit shows more of them")


def _rows(found: list[ServiceSeen]) -> list[str]:
    return table(
        ("service", "owner", "requests/s", "errors", "p95", "last seen (UTC)"),
        [
            (
                one["asset"],
                one["owner"] or "-",
                f"{one['requests_per_s']:,.2f}" if one["requests"] else "-",
                f"{one['errors']:,} ({one['errors'] / one['requests']:.1%})"
                if one["errors"]
                else ("0" if one["requests"] else "-"),
                "-" if one["p95_ns"] is None else took(one["p95_ns"] / 1e9),
                moment(one["last_seen"]),
            )
            for one in found
        ],
    )
