"""The words by which an author declares business numbers: `kpi`, `goal`."""

import builtins
import re
from collections.abc import Sequence
from typing import Never

from sextant.kinds.dataset.declarations.declare import (
    Check,
    Columns,
    checked_checks,
    columns_named,
    source_of,
)
from sextant.kinds.dataset.declarations.declared import Slots
from sextant.kinds.dataset.spec import KIND as ROWS
from sextant.kinds.kpi import measures
from sextant.kinds.kpi.spec import KIND, Goal
from sextant.project import forms
from sextant.project.collect import Place, caller, fitting, fitting_text, refuse_unknown, report
from sextant.project.declared import Declared
from sextant.project.forms import Owner

_GOAL = re.compile(r"\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(%?)\s*")


class Kpi(Declared):
    """A business number: an aggregate over the rows of a dataset. As an input it stands for its
    values."""

    of_kind = KIND

    def __init__(
        self,
        name: str,
        *,
        of: str,
        sql: str,
        grain: str,
        by: tuple[str, ...],
        where: str,
        goal: Goal | None,
        unit: str,
        format: str,  # noqa: A002 - the word of the field
        over_time: str,
        slots: Slots,
        place: Place,
    ) -> None:
        self.name = name
        self.of = of
        self.sql = sql
        self.grain = grain
        self.by = by
        self.where = where
        self.goal = goal
        self.unit = unit
        self.format = format
        self.over_time = over_time
        self.slots = slots
        self.place = place

    @property
    def id(self) -> str:
        """Return the id of its values, a dataset: that is what others read."""
        return f"{ROWS}:{KIND}_{self.name}"


def kpi(
    name: str,
    *,
    of: Declared | str,
    measure: str,
    grain: str = "1d",
    by: Columns = (),
    where: str = "",
    goal: Goal | None = None,
    unit: str = "",
    format: str = "",  # noqa: A002 - the word of the field
    over_time: str = "",
    description: str = "",
    owner: Owner = "",
    tier: int = 3,
    tags: Columns = (),
    checks: Sequence[Check] = (),
    public: Columns = (),
    **unknown: Never,
) -> Kpi:
    """Define a business number.

    of       the dataset over whose rows it is taken
    measure  one aggregate in DuckDB SQL, `count(*) filter (where dep_delay < 15) / count(*)`; taken
             over rows at every level
    grain    the bucket of time of its stored values: 5m, 15m, 1h, 1d, 1w, 1mo, 1q, 1y of the
             project's zone, or "" for one value in all
    by       dimensions, columns of `of`
    where    which rows count
    goal     `goal(">= 0.75", over="28d")`
    unit     of its values, shown beside them: `EUR`
    format   how people read a value, a format specification of Python: `,.2f`, `.1%`
    over_time  of a stock, which does not add up over time (a balance, customers, goods on hand):
             which of its buckets stands for a longer time: last, first, or their mean, max, min
    public   dimensions, or "value", that are not personal although personal columns flow into them
    """
    refuse_unknown("kpi", unknown, kpi.__kwdefaults__)
    measure, where = fitting_text("measure", measure, "count(*)"), fitting_text("where", where)
    unit, format = fitting_text("unit", unit), fitting_text("format", format)  # noqa: A001
    description = fitting_text("description", description)
    goal = fitting("goal", goal, (Goal, type(None)), 'a goal: `sx.goal(">= 0.75")`', None)
    grain = forms.one_of("grain", grain, tuple(measures.NESTS))
    over_time = forms.one_of("over_time", over_time, ("", *measures.OVER_TIME))
    try:
        builtins.format(0.5, format)
    except (ValueError, TypeError):
        report(
            "SX-PROJ-019",
            f"`{format}` is not a value of `format`",
            hint="a format specification of Python: `,.2f`, `.1%`",
        )
        format = ""  # noqa: A001
    slots = Slots(
        owner=forms.owner(owner),
        tier=forms.tier(tier),
        description=description,
        tags=forms.tags(tags),
        checks=checked_checks(checks),
        public=columns_named("public", public),
    )
    name = forms.name(KIND, name)
    made = Kpi(
        name,
        of=source_of(of).asset,
        sql=measure,
        grain=grain,
        by=columns_named("by", by),
        where=where,
        goal=goal,
        unit=unit,
        format=format,
        over_time=over_time,
        slots=slots,
        place=caller(),
    )
    forms.register(made)
    return made


def goal(text: str, *, over: str = "") -> Goal:
    """Return a target such as `>= 0.75` or `< 5 %`, over the last `over` (`28d`)."""
    text = fitting_text("goal", text, ">= 0")
    match = _GOAL.fullmatch(text)
    if match is None:
        report(
            "SX-PROJ-021", f"`{text}` is not a goal", hint="a comparison and a number: `>= 0.75`"
        )
        return Goal(op=">=", value=0.0, over="")
    value = float(match[2]) / (100 if match[3] else 1)
    return Goal(op=match[1], value=value, over=forms.length_text("over", over))  # type: ignore[arg-type]
