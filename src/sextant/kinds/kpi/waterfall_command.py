"""The command `waterfall`. It is imported to show the help of all commands: what is heavy is
not."""

from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.output import emit, line, mark, moment, options, platform, say, state, table, wide
from sextant.cli.progress import Progress
from sextant.kernel.errors import UsageError
from sextant.kinds.kpi.command import formatted

if TYPE_CHECKING:
    from decimal import Decimal

    from sextant.app.operations import Platform
    from sextant.kernel.answers import WaterfallBar, WaterfallSeen

_SECONDS = 120.0  # that is derived without being asked for
_BLOCKS = 24  # width of the longest bar


@click.command(short_help="Show what moved a business number, as a sum of what was changed.")
@click.argument("name", help="Of the KPI.", shell_complete=complete.assets_of("kpi"))
@click.argument(
    "span",
    metavar="[FROM..TO]",
    required=False,
    default="",
    help="Parts of time (default: the newest, and the one before it).",
)
@click.option("--by", multiple=True, metavar="DIM", help="Split the movement by this dimension.")
@click.option(
    "--known-from",
    default="",
    metavar="TIME|RELEASE",
    help="As FROM was known at this moment (default: when it was all known first).",
)
@click.option(
    "--known-to",
    default="",
    metavar="TIME|RELEASE",
    help="As TO was known at this moment (default: now).",
)
@click.option(
    "--plan", "only_plan", is_flag=True, help="Show the changes and what an answer takes; no more."
)
@click.option(
    "--most",
    type=click.FloatRange(min=0),
    default=_SECONDS,
    metavar="SECONDS",
    help=f"Derive nothing that is expected to take longer (default: {_SECONDS:g}).",
)
@wide
@options
def waterfall(
    name: str,
    span: str,
    by: tuple[str, ...],
    known_from: str,
    known_to: str,
    only_plan: bool,
    most: float,
    env: str | None,
    as_json: bool,
) -> None:
    """Show what moved a business number from one part of time to another, as bars that add up to
    the difference exactly: the rows themselves, and each change that was made meanwhile - late
    rows, code, definitions, undos. What was never live, the number without a change, is derived;
    nothing of it is released.

    FROM and TO are parts of time: 2013, 2013-Q1, 2013-02, 2013-W06, 2013-02-09, or
    2013-01-01/2013-03-31, whose second day is not included. One alone is the number as it was known
    first, and as it is known now. Without them: the newest part, and the one before."""
    before, after = parts_of(span)
    dimensions = [part.strip() for text in by for part in text.split(",") if part.strip()]
    asked: dict[str, Any] = {
        "before": before,
        "after": after,
        "known_from": known_from,
        "known_to": known_to,
        "by": dimensions,
        "env": env or "",
    }
    with platform() as p:
        found = p.waterfall(name, **asked)
        if "bars" not in found and not only_plan:
            found = _derived(p, name, asked, found, most)
        emit(found, json=as_json, text=lambda: lines_of(found))


def parts_of(span: str) -> tuple[str, str]:
    """Return the two parts of time of FROM..TO. UsageError."""
    before, dots, after = span.partition("..")
    if dots and not (before and after):
        raise UsageError(
            "SX-CLI-092",
            f"`{span}` is not FROM..TO",
            hint="as in 2013-01..2013-02, or 2013-02 alone",
        )
    return (before, after) if dots else ("", before)


def _derived(
    p: "Platform", name: str, asked: dict[str, Any], found: "WaterfallSeen", most: float
) -> "WaterfallSeen":
    cost = found["cost"]
    takes = (
        f"{cost['partitions']:,} partitions in {cost['steps']:,} steps, about "
        f"{cost['seconds']:,.0f} s"
    )
    if cost["seconds"] > most:
        raise UsageError(
            "SX-CLI-093",
            f"to derive {takes}, is more than {most:g} s",
            hint=f"`--most {cost['seconds'] * 2:.0f}`, or ask for a shorter time",
        )
    say(f"deriving {takes}")
    with Progress() as progress:
        return p.derive_waterfall(name, **asked, progress=progress)


# ---------------------------------------------------------------- lines


def lines_of(found: "WaterfallSeen") -> list[str]:
    """Return a difference as people read it in a terminal."""
    sides = (found["before"], found["after"])
    unit = f" {found['unit']}" if found["unit"] else ""
    values = [f"{_number(found, side['value'])}{unit}" for side in sides]
    lines = [
        line(f"{found['asset']} in {found['env']}"),
        *(
            line(f"  {_span(side)}, as known {moment(side['known_at'])}: {value}")
            for side, value in zip(sides, values, strict=True)
        ),
        line("  ", _restated(found)),
        "",
    ]
    bars = found.get("bars")
    if bars is None:
        cost = found["cost"]
        lines += [
            *table(
                ("change", "owner", "by", "at", "release"),
                [
                    (
                        one["text"],
                        one["asset"],
                        one["owner"],
                        one["by"],
                        moment(one["at"]),
                        one["release"],
                    )
                    for one in found["changes"]
                ],
            ),
            line(
                f"  {cost['partitions']:,} partitions in {cost['steps']:,} steps have to be "
                f"derived, about {cost['seconds']:,.0f} s"
            ),
        ]
    else:
        lines += _bar_lines(found, bars)
    return lines + [line(mark(f"  {note}", "dim")) for note in found["notes"]]


def _bar_lines(found: "WaterfallSeen", bars: "list[WaterfallBar]") -> list[str]:
    from decimal import Decimal

    longest = max((abs(Decimal(bar["amount"])) for bar in bars), default=Decimal(0))
    shown = [bar for bar in bars if Decimal(bar["amount"])]
    rows = []
    for bar in shown:
        amount = Decimal(bar["amount"])
        blocks = int(abs(amount) / longest * _BLOCKS + Decimal("0.5")) if longest else 0
        about = f"without it {_number(found, bar['without'])}" if "without" in bar else ""
        if "interval" in bar:
            low, high = (_signed(found, one) for one in bar["interval"])
            about = f"{low} to {high}"
        rows.append(
            (
                _signed(found, bar["amount"]),
                "█" * max(1, blocks),
                bar["text"],
                bar["owner"],
                bar["by"],
                bar["release"],
                bar["sure"] if bar["release"] else "",
                about,
            )
        )
    rows.append((_signed(found, found["difference"]), "", "in all", "", "", "", "", ""))
    lines = table(("moved by", "", "what", "owner", "by", "release", "", ""), rows)
    nothing = [bar["text"] for bar in bars if not Decimal(bar["amount"])]
    if nothing:
        lines.append(line(mark(f"  nothing was moved by: {'; '.join(nothing)}", "dim")))
    if found["sampled"]:
        lines.append(
            line(
                mark("  shares are of a sample of orders, with an interval of 95 %", "dim"),
            )
        )
    return lines


def _restated(found: "WaterfallSeen") -> str:
    from decimal import Decimal

    one = found["restated"]
    when = _span(found["before"])
    if not one["now"]:
        return f"{when} has no value any more, as known now"
    if not Decimal(one["by"]):
        return f"{when} is known now as it was then"
    return line(
        state("restated", "warn"),
        f": {when} was {_number(found, one['then'])} then and is {_number(found, one['now'])} now",
    )


def _span(side: Any) -> str:
    return f"{side['since']} .. {side['until']}" if side["since"] else "all of the time"


def _number(found: "WaterfallSeen", text: str) -> str:
    from decimal import Decimal

    if found["format"]:
        return str(formatted(text, found["format"]))
    return short(Decimal(text))


def _signed(found: "WaterfallSeen", text: str) -> str:
    from decimal import Decimal

    sign = "-" if Decimal(text) < 0 else "+"
    return f"{sign}{_number(found, text.removeprefix('-'))}"


def short(value: "Decimal") -> str:
    """Return a number with six digits that say something; `--json` has all of them."""

    if value == value.to_integral_value():
        return f"{value:,f}".split(".", maxsplit=1)[0]
    return f"{float(value):,.6g}"
