"""The command `kpi`. It is imported to show the help of all commands: what is heavy is not."""

from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.output import (
    emit,
    line,
    mark,
    options,
    platform,
    state,
    table,
    values_table,
    wide,
)
from sextant.kernel.errors import NotFound, UsageError

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.kernel.answers import FailedCheck, KpiSeen

_KIND = "kpi"
_CHECKS = 20  # failed checks that are told below a number


@click.command(short_help="Show a business number, by any of its dimensions.")
@click.argument(
    "name",
    required=False,
    default="",
    help="Of the KPI (default: all of them).",
    shell_complete=complete.assets_of(_KIND),
)
@click.option(
    "--by", multiple=True, metavar="DIM", help="Break down by this dimension; may be given again."
)
@click.option(
    "--grain",
    default="",
    metavar="5m|15m|1h|1d|1w|1mo|1q|1y",
    help="One value for each such length of time: the grain that the KPI is kept by, or coarser.",
)
@click.option("--where", default="", metavar="SQL", help="Only rows for which this holds.")
@click.option("--since", default="", metavar="TIME|30d", help="Only of what begins then or later.")
@click.option("--until", default="", metavar="TIME|30d", help="Only of what begins before.")
@click.option(
    "--compare",
    type=click.Choice(["previous", "year"]),
    help="Beside the time before, of equal length, or the same weekdays 52 weeks earlier.",
)
@click.option("--as-of", default="", metavar="VERSION|TIME", help="As it was then.")
@wide
@options
def kpi(
    name: str,
    by: tuple[str, ...],
    grain: str,
    where: str,
    since: str,
    until: str,
    compare: str | None,
    as_of: str,
    env: str | None,
    as_json: bool,
) -> None:
    """Show a business number; ratios are computed from their parts, never averaged. Without NAME,
    all of them."""
    dimensions = [part.strip() for text in by for part in text.split(",") if part.strip()]
    if not name and (dimensions or grain or where or since or until or compare):
        raise UsageError(
            "SX-CLI-046",
            "--by, --grain, --where, --since, --until and --compare are asked of one KPI",
            hint="`sextant kpi` lists them",
        )
    with platform() as p:
        if not name:
            seen = _all_kpis(p, as_of, env or "")
            emit(
                [one for one in seen.values() if one],
                json=as_json,
                text=lambda: _kpi_lines(seen),
            )
            return
        found = p.kpi(
            name,
            by=dimensions,
            grain=grain,
            where=where,
            as_of=as_of,
            since=since,
            until=until,
            compare=compare or "",
            env=env or "",
        )
        failed = (
            p.failed_checks(
                found["kpi"],
                since=found["since"],
                until=found["until"],
                limit=_CHECKS,
                env=env or "",
            ).items
            if compare
            else []
        )

        def lines() -> list[str]:
            rows = _beside(found)
            head = list(rows[0]) if rows else ["value"]
            numbers = ("value", "before", "moved by")
            named = [
                f"value ({found['unit']})" if c == "value" and found["unit"] else c for c in head
            ]
            shown = [
                [formatted(row[c], found["format"]) if c in numbers else row[c] for c in head]
                for row in rows
            ]
            return [
                _goal_line(found),
                *_compared_line(found),
                *values_table(named, shown),
                *map(_check_line, failed),
            ]

        told = {**found, "failed_checks": failed} if compare else found
        emit(told, json=as_json, text=lines)


def _beside(found: "KpiSeen") -> list[dict[str, Any]]:
    """Return the rows; where they are compared and not by time, each beside what it was before,
    and what it has moved the number by."""
    if "compared" not in found or found["grain"]:
        return found["rows"]
    shown = [name for name in found["by"] if name not in found.get("hidden", [])]

    def by_key(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
        return {tuple(row[name] for name in shown): row["value"] for row in rows}

    now, before = by_key(found["rows"]), by_key(found["compared"]["rows"])
    moved = by_key(found["moved"]) if "moved" in found else None
    return [
        {
            **dict(zip(shown, key, strict=True)),
            "value": now.get(key),
            "before": before.get(key),
            **({"moved by": moved.get(key)} if moved is not None else {}),
        }
        for key in (moved if moved is not None else {**now, **before})
    ]


def _check_line(one: "FailedCheck") -> str:
    """Return a check that failed in the part of time, and whether its rows are in the number."""
    where = f"{one['asset']}[{one['partition']}]" if one["partition"] else one["asset"]
    live = "its rows are live" if one["is_live"] else "its rows are not live"
    return line(state("failed"), f"  {where} {one['name']}: {one['message']}; {live}")


def _compared_line(found: "KpiSeen") -> list[str]:
    if "compared" not in found:
        return []
    sides = ((found, found.get("total")), (found["compared"], found["compared"]["total"]))
    return [
        line(f"  {side['since']} .. {side['until']}: {_text(formatted(total, found['format']))}")
        for side, total in sides
    ]


def _all_kpis(p: "Platform", as_of: str, env: str) -> "dict[str, KpiSeen | None]":
    """Return every KPI over all its time; None for one that is not live."""
    found: dict[str, KpiSeen | None] = {}
    for one in p.graph()["assets"]:
        if one["kind"] == _KIND and one["mode"] == "managed":
            try:
                found[one["id"]] = p.kpi(one["id"], as_of=as_of, env=env)
            except NotFound:
                found[one["id"]] = None
    return found


def _kpi_lines(seen: "dict[str, KpiSeen | None]") -> list[str]:
    rows: list[tuple[str, ...]] = []
    for name, one in seen.items():
        if one is None:
            rows.append((name, "", "", "", mark("not live yet", "dim")))
            continue
        value = one["rows"][0]["value"] if one["rows"] else None
        goal = _goal_parts(one)
        shown = _text(formatted(value, one["format"]))
        rows.append((name, shown, one["unit"], one["goal"], line(*goal[1:])))
    return table((_KIND, "value", "unit", "goal", ""), rows)


def _goal_line(found: "KpiSeen") -> str:
    """Return the head of a business number: its goal, met or missed, beside the value that says
    so."""
    return line(f"{found['kpi']}", *_goal_parts(found))


def _goal_parts(found: "KpiSeen") -> list[str]:
    if not found["goal"]:
        return []
    value = _text(formatted(found["goal_value"], found["format"]))
    unit = f" {found['unit']}" if found["unit"] else ""
    met = {True: "met", False: "MISSED", None: "no value"}[found["goal_met"]]
    return [
        f"  goal {found['goal']}: ",
        state(met),
        f" ({value}{unit})" if found["goal_met"] is not None else "",
    ]


def _text(value: Any) -> str:
    from sextant.formats.values import text

    return text(value)


def formatted(value: Any, spec: str) -> Any:
    """Return a number as its KPI is read; without a format, and for what is no number, as it is."""
    from decimal import Decimal, InvalidOperation

    if not spec or value is None:
        return value
    try:
        return format(Decimal(value) if isinstance(value, str) else value, spec)
    except (ValueError, TypeError, InvalidOperation):
        return value
