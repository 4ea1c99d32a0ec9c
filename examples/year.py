"""Lives through the year 2013 of New York's flights, day by day, and tells what happened.

Run by `scripts/demo`. Works on a copy of the example (default: demo/flights), so that you can go on
there.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parent / "flights"
FIRST, LAST = "2013-01-01", "2013-12-31"
BROKEN = "2013-03-20"  # the day whose delivery is broken
LATE = "2013-06-26"  # the day of which a part comes late
WEEKS = ("2013-06-17", "2013-06-30")  # the one before the storms, and that of them
_LATE_SHARE = """
late_share = sx.kpi(
    "late_share",
    of=features,
    measure="count(*) filter (where late) / count(*)",
    by=["origin"],
    format=".2%",
    description="Share of departures that were late, as what is known before a departure says it.",
    owner=ops,
)
"""


def main() -> int:
    """Tell the year. Returns 0 when everything that should have happened did."""
    arguments = _arguments()
    folder = Path(arguments.folder).resolve()
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".sextant"))
    from sextant.app.platform import LocalPlatform
    from sextant.app.sealing import set_aside_witness

    set_aside_witness(folder)  # of an earlier demo, whose ledger has just been deleted
    with LocalPlatform.open(folder) as p:
        p.runs.executors.warm()
        story = Story(p)
        story.year(daily=not arguments.backfill)
        story.numbers()
        unchanged = story.bad_file(folder)
        story.bad_publish(folder)
        sums = story.all_at_once(folder)
        proven = story.again() and sums
    serves = unchanged and proven and not arguments.no_server and sys.stdout.isatty()
    _next(folder, serves=serves)
    if serves:
        _serve(folder)
    return 0 if unchanged and proven else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="demo/flights", help="where to work (is emptied first)")
    parser.add_argument(
        "--backfill", action="store_true", help="make the year in one run instead of 365"
    )
    parser.add_argument(
        "--no-server",
        action="store_true",
        help="end without serving it; where the output is no terminal nothing is served",
    )
    return parser.parse_args()


class Story:
    """The chapters, told on one platform."""

    def __init__(self, p: Any) -> None:
        from sextant.app.operations import Operations

        self.p, self.ops = p, Operations(p)
        self.env = "dev"
        self.me = p.core.authorization.who()

    # ------------------------------------------------------------ chapters

    def year(self, *, daily: bool) -> None:
        """Every day of the year arrives, is checked and published."""
        from sextant.app.watch import days_of
        from sextant.engine.plan import Request

        request = Request(partitions=(FIRST, LAST))
        chapter("The year arrives" + (", one day at a time" if daily else " in one backfill"))
        started = time.monotonic()
        runs, refused, warned = [], [], []
        days = days_of(self.p.core, request) if daily else [None]
        for n, day in enumerate(days):
            report = self.p.runs.run(
                self.env,
                request if day is None else Request(partitions=(day, day)),
                by=self.me,
                trigger="demo",
            )
            runs.append(report)
            refused += report.refused
            warned += report.warned
            if day and (n % 30 == 29 or n == len(days) - 1):
                rows = sum(r.rows for r in runs)
                print(
                    (
                        f"  {day}: {len(runs)} runs, {sum(r.computed for r in runs):,} steps, "
                        f"{rows:,} rows, {time.monotonic() - started:.1f} s"
                    ),
                    flush=True,
                )
        took = time.monotonic() - started
        print(
            f"  {len(runs)} runs made {sum(r.rows for r in runs):,} rows in {took:.1f} s; "
            "every version is in the ledger, with its cause"
        )
        _verdicts(refused, warned)

    def numbers(self) -> None:
        """The business numbers, right under any drill-down."""
        chapter("What the company looks at")
        months = {
            name: {
                str(row["bucket"])[:7]: row["value"]
                for row in self.ops.kpi(name, env=self.env, grain="1mo")["rows"]
            }
            for name in ("on_time_rate", "cancellation_rate", "mean_delay")
        }
        print("  month     on time   cancelled   mean delay")
        for month, on_time in months["on_time_rate"].items():
            print(
                f"  {month}  {on_time:8.1%}  {months['cancellation_rate'][month]:10.1%}  "
                f"{months['mean_delay'][month]:8.1f} min"
            )
        days = self.ops.kpi("on_time_rate", env=self.env, grain="1d")["rows"]
        cancelled = {
            str(row["bucket"])[:10]: row["value"]
            for row in self.ops.kpi("cancellation_rate", env=self.env, grain="1d")["rows"]
        }
        delay = {
            str(row["bucket"])[:10]: row["value"]
            for row in self.ops.kpi("mean_delay", env=self.env, grain="1d")["rows"]
        }
        print("\n  the five worst days by share on time; 2013-02-08 and 2013-02-09 are a blizzard")
        for row in sorted(days, key=lambda row: float(row["value"]))[:5]:
            day = str(row["bucket"])[:10]
            print(
                f"  {day}  on time {row['value']:6.1%}   cancelled {cancelled[day]:6.1%}   "
                f"mean delay of those that flew {delay[day]:5.1f} min"
            )
        worst = sorted(delay, key=lambda day: -float(delay[day]))
        blizzard = ("2013-02-08", "2013-02-09")
        places = " and ".join(f"{worst.index(day) + 1}" for day in blizzard)
        print(
            "  an average over the flights that flew hides the blizzard: by mean delay "
            f"{' and '.join(blizzard)}\n  stand at places {places} of {len(worst)}, although half of "
            "their flights never left"
        )

    def bad_file(self, folder: Path) -> bool:
        """A broken delivery is refused, and nobody sees it. Returns whether that is so."""
        chapter("A bad file arrives")
        print(f"  the file of {BROKEN} comes without its carriers: checks of severity error fail")
        before = self.p.core.versions.live_version(self.env, "dataset:flights")
        with BrokenDelivery(folder, "day.with_columns(carrier=pl.lit(None, pl.String))"):
            report = self.force(BROKEN)
        for check in report.refused[:3]:
            print(f"  REFUSED  {check.asset}[{check.partition}]  {check.message}")
        same = self.p.core.versions.live_version(self.env, "dataset:flights") == before
        print(
            f"  the run is {report.state} and {len(report.skipped)} steps behind it are skipped: "
            f"what readers see {'is unchanged' if same else 'HAS CHANGED'}"
        )
        return same

    def bad_publish(self, folder: Path) -> None:
        """Someone forces it through; one word takes it back, with everything derived from it."""
        chapter("A bad publish is forced through, and undone")
        day = BROKEN
        print(f"  on time on {day}: {self.on_time(day):.1%}")
        with BrokenDelivery(folder, "day.with_columns(dep_delay=pl.lit(9999.0))"):
            report = self.force(day)
        check = report.refused[0]
        print(f"  REFUSED  {check.asset}[{check.partition}]  {check.message}")
        bad = self.p.runs.releases.get(report.rejected["dataset:flights"]).moves[0].target
        self.p.core.project.load()
        self.p.runs.release(
            self.env,
            self.p.core.assets.find("flights"),
            version=bad,
            by=self.me,
            break_glass="the board meets at nine",
        )
        derived = self.p.runs.run(self.env, _request(), by=self.me)
        print(
            f"  someone breaks the glass: version {bad[:12]} is live, {derived.computed} "
            f"steps follow it, and on time on {day} is {self.on_time(day):.1%}"
        )
        from sextant.app.operations import Operations

        changes = Operations(self.p).why("kpi:on_time_rate", env=self.env)["changes"]
        newest = next(c for c in changes if c["asset"] == "dataset:flights")
        print(
            f"  why? {newest['asset']} {newest['partitions'][-1]} changed in "
            f"{newest['release']} by {newest['by']} (owner {newest['owner']})"
        )
        started = time.monotonic()
        undone = self.p.runs.undo(
            self.env,
            "dataset:flights",
            by=self.me,
            reason="wrong delays",
            progress=lambda _t, _d: None,
        )
        print(
            f"  undone in {time.monotonic() - started:.2f} s, {len(undone.published)} "
            f"assets in one release: on time on {day} is {self.on_time(day):.1%} again"
        )
        with BrokenDelivery(folder, "day.with_columns(dep_delay=pl.lit(9999.0))"):
            self.p.core.project.load()
            plan = self.p.runs.plan(self.env, _request())
        self.p.core.project.load()
        held = (
            ", ".join(f"{asset}[{' '.join(keys)}]" for asset, keys in plan.held.items())
            or "nothing"
        )
        print(f"  undone stays undone: with the same broken file there again, {held} is held")

    def all_at_once(self, folder: Path) -> bool:
        """A late file, other code, another definition and storms move one number; each has its
        share. Returns whether they add up."""
        from decimal import Decimal

        from sextant.engine.plan import Request
        from sextant.kinds.kpi.waterfall_command import lines_of

        chapter("A late file, code, a definition and the weather, all at once")
        ops, own = folder / "flights" / "ops.py", folder / "flights" / "delays.py"
        with BrokenDelivery(folder, "day.filter(pl.col('origin') != 'EWR')"):
            self.force(LATE)
        ops.write_text(ops.read_text(encoding="utf-8") + _LATE_SHARE, encoding="utf-8")
        self.run()
        print(
            f"  the file of {LATE} comes without Newark; nobody has noticed when late_share is seen"
        )
        self.force(LATE)  # the delivery is whole again
        self.run()
        edit(own, "LATE_MIN = 15", "LATE_MIN = 20")
        self.run(Request(stale=True, partitions=WEEKS))
        edit(ops, "filter (where late) / count(*)", "filter (where late and hour >= 6) / count(*)")
        self.run()
        asked = {"before": "2013-W25", "after": "2013-W26"}
        started = time.monotonic()
        seen = self.ops.derive_waterfall("late_share", **asked, by=["origin"], env=self.env)
        took = time.monotonic() - started
        print("  " + "\n  ".join(str(line) for line in lines_of(seen)))
        total = sum(Decimal(bar["amount"]) for bar in seen["bars"])
        adds_up = total == Decimal(seen["difference"])
        print(
            f"  derived in {took:.1f} s, of {seen['cases']} cases: the bars "
            f"{'add up to the last digit' if adds_up else 'DO NOT ADD UP'}"
        )
        return adds_up

    def again(self) -> bool:
        """What asking again costs. Returns whether the ledger is proven."""
        chapter("Asking again")
        started = time.monotonic()
        report = self.p.runs.run(self.env, _request(), by=self.me)
        print(
            f"  the whole year again: {report.computed} steps computed in "
            f"{time.monotonic() - started:.2f} s"
        )
        self.p.sealing.checkpoint()  # signs what this process wrote, which a command does at its end
        started = time.monotonic()
        found = self.ops.verify()
        print(
            f"  the ledger: {found['events']:,} events, verified with every table that follows from "
            f"them in {time.monotonic() - started:.2f} s: {'ok' if found['ok'] else 'WRONG'}"
        )
        for finding in found["findings"]:
            print(f"  {finding}")
        return bool(found["ok"])

    # ------------------------------------------------------------ inside

    def run(self, request: Any = None) -> Any:
        self.p.core.project.load()
        return self.p.runs.run(self.env, request or _request(), by=self.me)

    def force(self, day: str) -> Any:
        from sextant.engine.plan import Request

        self.p.core.project.load()
        return self.p.runs.run(
            self.env,
            Request(assets=("dataset:flights",), partitions=(day, day), force=True),
            by=self.me,
        )

    def on_time(self, day: str) -> float:
        return next(
            float(row["value"])
            for row in self.ops.kpi("on_time_rate", env=self.env, grain="1d")["rows"]
            if str(row["bucket"])[:10] == day
        )


class BrokenDelivery:
    """While it is open, what the project downloads passes through one more expression, as a broken
    delivery would."""

    def __init__(self, folder: Path, expression: str) -> None:
        self._file = folder / "flights" / "delays.py"
        self._good = self._file.read_text(encoding="utf-8")
        self._expression = expression

    def __enter__(self) -> None:
        self._file.write_text(
            self._good
            + (
                "\n\n_whole = download\n\n\ndef download(start, end):\n    day = _whole(start, "
                f"end)\n    return {self._expression}\n"
            ),
            encoding="utf-8",
        )

    def __exit__(self, *_: object) -> None:
        self._file.write_text(self._good, encoding="utf-8")


def _verdicts(refused: list[Any], warned: list[Any]) -> None:
    """Tell what the checks said: refusals, then warnings by check, each with its days."""
    if refused:
        print(f"\n  {len(refused)} checks of severity error failed, so these were not published:")
        for check in refused[:6]:
            print(f"    REFUSED  {check.asset}[{check.partition}]  {check.message}")
    else:
        print("\n  refused: nothing. No check of severity error failed; every day was published")
    print(
        f"  warned: {len(warned)} times. Checks of severity warn failed; the days were published, "
        "with the warning beside them.\n  These are the blemishes of real data:"
    )
    by_name: dict[str, list[Any]] = {}
    for check in warned:
        by_name.setdefault(f"{check.asset}: {check.name}", []).append(check)
    for name, found in sorted(by_name.items(), key=lambda item: -len(item[1])):
        days = ", ".join(check.partition for check in found[:2])
        more = f" and {len(found) - 2} more days" if len(found) > 2 else ""
        print(f"    {len(found):4} x {name}   {days}{more}")
        print(f"           {found[0].message[:110]}")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file} has no `{old}`"
    file.write_text(text.replace(old, new), encoding="utf-8")


def chapter(title: str) -> None:
    print(f"\n== {title}", flush=True)


def _request() -> Any:
    from sextant.engine.plan import Request

    return Request()


def _next(folder: Path, *, serves: bool) -> None:
    where = os.path.relpath(folder)
    up = (
        ""
        if serves
        else """
  sextant up                                      serve it: the web page, scheduler, telemetry, HTTP
                                                  API, SQL for BI tools; prints a link to sign in by"""
    )
    print(f"""
== Go on from here
  . .venv/bin/activate && cd {where}
  sextant status                                  what is live, stale, held
  sextant kpi on_time_rate --by carrier           a ratio by any dimension, never averaged
  sextant waterfall late_share 2013-W25..2013-W26 what moved a number, as a sum of what was changed
  sextant why kpi:on_time_rate                    what changed upstream, who did it, how to undo it
  sextant versions flights                        every version, the refused and the withdrawn too
  sextant env create pr-1 --from dev              an environment; copies nothing
  sextant ledger verify                           prove that nothing was changed behind your back
  sextant query "select origin, count() from data.flights group by origin"
                                                  SQL over data, KPIs, ledger and telemetry{up}""")


def _serve(folder: Path) -> None:
    """Become `sextant up` of the project: it ends with Ctrl-C."""
    print(
        """
== The year in your browser
  open the link below: it signs you in once, within ten minutes. Why was February bad, and what was
  undone in March? Ctrl-C ends the server; `sextant up` in the folder starts it again
""",
        flush=True,
    )
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, "-m", "sextant.cli.main", "up"])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
