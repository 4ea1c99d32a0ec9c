"""What only this kind knows of an asset: `Asset.spec` of a KPI."""

from typing import Literal

from sextant.formats.values import text
from sextant.kernel.nouns import Asset, Noun
from sextant.kinds.dataset.spec import KIND as ROWS

KIND = "kpi"


class Goal(Noun, frozen=True, kw_only=True):
    """A target of a kpi: `>= 0.75` over the last `over`."""

    op: Literal[">=", "<=", ">", "<"]
    value: float
    over: str = ""


class Measure(Noun, frozen=True, kw_only=True):
    """A metric definition: an aggregate in DuckDB SQL over the rows of one dataset. Drill-down
    re-aggregates rows, so a ratio is never averaged."""

    of: str
    sql: str
    # bucket of the stored values: 5m, 15m, 1h, 1d, 1w, 1mo, 1q, 1y of the project's zone; "" = one
    # in all
    grain: str = "1d"
    by: tuple[str, ...] = ()
    where: str = ""
    goal: Goal | None = None
    time: str = ""  # the column of instants of `of`
    year_starts: int = 1  # the month, 1 to 12, with which quarters and years begin
    unit: str = ""
    format: str = ""  # how people read a value: a format specification of Python
    # a stock does not add up over time: which of its buckets stands for a longer time
    over_time: Literal["", "last", "first", "mean", "max", "min"] = ""
    # digest of what the number means: of, sql, where, grain, by, over_time and the zone, not of
    # goal and layout
    definition: str = ""


def measure_spec(asset: Asset) -> Measure:
    """Return the metric definition of a KPI."""
    return asset.spec_as(Measure)


def goal_text(goal: Goal) -> str:
    """Return a goal as people write it."""
    bound = text(goal.value).removesuffix(".0")
    return f"{goal.op} {bound}" + (f" over {goal.over}" if goal.over else "")


def values_name(name: str) -> str:
    """Return the name of the dataset that holds the values of the KPI of a name."""
    return f"{KIND}_{name}"


def values_id(asset: Asset) -> str:
    """Return the id of the dataset that holds a KPI's values."""
    return f"{ROWS}:{values_name(asset.name)}"
