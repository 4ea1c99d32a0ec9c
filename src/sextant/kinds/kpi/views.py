"""What people see of KPIs: their values at any level, goals, and what two definitions say. Reads
only."""

import functools
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from sextant.core import Core
from sextant.formats.values import plain
from sextant.kernel.answers import KpiSeen
from sextant.kernel.errors import Denied, NotFound, UsageError
from sextant.kernel.kept import Kept
from sextant.kernel.kinds import NothingShown, Sees
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import KPI_POINTS_MAX, PAGE_ROWS_MAX
from sextant.kernel.nouns import Asset, FileSet, InputRef, Version, spec_of
from sextant.kernel.pages import FAR
from sextant.kinds.dataset.spec import Rows, table_spec
from sextant.kinds.dataset.views import masked
from sextant.kinds.kpi.series import Span, compared, newest, span_of, thinned
from sextant.kinds.kpi.spec import KIND, Goal, Measure, goal_text, measure_spec, values_id
from sextant.release.as_of import version_as_of


class ShownKpis(NothingShown):
    """What is said of KPIs beside what is said of every asset."""

    def __init__(self, core: Core, see: Sees) -> None:
        self._core, self._see = core, see

    def describe(
        self,
        env: str,  # noqa: ARG002
        asset: Asset,
        version: Version,  # noqa: ARG002
        *,
        limit: int,  # noqa: ARG002
        partition: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {"measure": msgspec.to_builtins(measure_spec(asset))}

    def compare(
        self,
        asset: Asset,
        before: Version,
        after: Version,
        touched: Sequence[str],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return both definitions, and what each says month by month."""
        return {
            **self.difference(asset.id, before, after),
            "history": _history(self._core, self._see, asset, before, after),
        }

    def difference(
        self,
        asset: str,  # noqa: ARG002
        before: Version | None,
        after: Version | None,
    ) -> dict[str, Any]:
        return {
            "measure": {
                "before": _measure(before),
                "after": _measure(after),
            }
        }

    def total(self, env: str, asset: Asset) -> Any:
        """Return a KPI's value over all time."""
        try:
            rows = kpi(self._core, self._see, env, asset.name)["rows"]
        except NotFound:
            return None
        return plain(rows[0]["value"]) if rows else None


class _Stored:
    """The rows of a version, read once for all questions of one answer.

    kept  answers of questions that were asked before: a version never changes
    """

    def __init__(self, core: Core, version: Version, kept: Kept | None = None) -> None:
        self._core, self._version, self._kept = core, version, kept

    @functools.cached_property
    def _rows(self) -> Any:
        from sextant.kinds.dataset.worker import table_of

        core, version = self._core, self._version
        parts = core.versions.parts(version.asset, version.digest)
        files = core.lake.files(version.locator) if version.locator else ()
        return table_of(
            InputRef(
                name="t",
                asset=version.asset,
                version=version.digest,
                sets=(FileSet(files=files, partitions=tuple(parts)),),
                spec=spec_of(Rows(lake=str(core.lake.root), schema=version.schema)),
            ),
        )

    @functools.cached_property
    def _connection(self) -> Any:
        import duckdb

        made = duckdb.connect(
            config={"enable_external_access": "false", "python_enable_replacements": "false"}
        )
        made.register("t", self._rows)
        made.execute(f"SET TimeZone = '{self._core.project.manifest().tz}'")
        made.execute("SET threads = 1")  # sums of floats depend on their order
        # a condition of somebody else's is part of the question
        made.execute("SET lock_configuration = true")
        return made

    def answer(self, query: str, points: int = 0) -> list[dict[str, Any]]:
        """Return the rows of a query over the version, which is its table `t`.

        points  to how many rows a series is thinned, and `all_` is how many there were; 0 = not
        """
        if self._kept is None:
            return self._asked(query, points)
        tz = self._core.project.manifest().tz
        key = (self._version.asset, self._version.digest, tz, query, points)
        rows = self._kept.get(key, lambda: self._asked(query, points), len)
        return [dict(row) for row in rows]

    def _asked(self, query: str, points: int) -> list[dict[str, Any]]:
        import duckdb

        from sextant.stores.lake import frames

        try:
            table = self._connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(
                "SX-KPI-005",
                f"the question cannot be answered: {str(error).splitlines()[0]}",
                hint="--where is a condition over the dimensions",
            ) from error
        if points:
            table = thinned(table, points)
        found: list[dict[str, Any]] = frames.finite(table, "value").to_pylist()
        return found


def kpi(
    core: Core,
    see: Sees,
    env: str,
    name: str,
    *,
    by: Sequence[str] = (),
    grain: str = "",
    where: str = "",
    as_of: str = "",
    since: int | None = None,
    until: int | None = None,
    last: int = 0,
    points: int = 0,
    compare: str = "",
    kept: Kept | None = None,
) -> KpiSeen:
    """Return a KPI's values: over all time, or by dimensions and grain (5m, 15m, 1h, 1d, 1w,
    1mo, 1q, 1y), and whether its goal is met over the goal's own window.

    Values are Python's; `plain` makes JSON of them.

    since, until  ns since 1970: only buckets that start in this half-open range count
    last          only the newest buckets, so many (in place of a range), of the grain or of the one
                  that the KPI is kept by
    points        to how many rows a series is thinned, to the least and the greatest of each cell
                  of neighbours; 0 = not at all
    compare       `previous`: also the time before, of equal length; `year`: also the same weekdays
                  52 weeks earlier
    kept          answers that were given before

    Ratios are never averaged: stored parts are added up and divided then; a measure that cannot
    be taken apart is computed again from the rows.
    """
    from sextant.kinds.kpi import measures

    asset = core.assets.find(name if name.startswith(f"{KIND}:") else f"{KIND}:{name}", env)
    defined = version_as_of(core, env, asset.id, "" if as_of and "-" not in as_of else as_of)
    # what is live, not what the file says by now
    measure = msgspec.json.decode(defined.spec, type=Measure)
    added_up = measure.of if measures.needs_rows(measure) else values_id(asset)
    version = version_as_of(core, env, added_up, as_of)
    shown = measure_spec(asset)  # how it is shown is no part of what it means
    values, stored = version, _Stored(core, version, kept)
    if version.asset == measure.of:
        values = _values_at(core, env, values_id(asset), as_of) or version
    if points and (not (grain or last) or by or not 4 <= points <= KPI_POINTS_MAX):
        raise UsageError(
            "SX-KPI-009",
            f"`{asset.id}` cannot be thinned to {points} points like this",
            hint=f"4 to {KPI_POINTS_MAX} points of one series: with a grain, by no dimension",
        )
    if last:  # of a number without a grain there is just the one
        grain, last = grain or measure.grain, last if measure.grain else 0
        compare = compare if measure.grain else ""
    span = _span(core, asset, measure, stored, since, until, last, grain)

    def seen_in(one: Span, *, by: Sequence[str], grain: str, points: int = 0) -> Any:
        return _seen_rollup(
            core, see, asset, measure, stored, values,
            by=by, grain=grain, where=where, within=one.condition(), points=points,
        )  # fmt: skip

    points = points if grain else 0
    rows, hidden = seen_in(span, by=by, grain=grain, points=points)
    thinned_from = rows[0].get("all_", 0) if rows else 0
    personal = {name.lower() for name in see.hidden_columns(values)}
    texts = span.texts()
    goal = None
    if shown.goal and "value" not in hidden:
        goal = _goal(core, asset, measure, stored, shown.goal)
    seen: KpiSeen = {
        "kpi": asset.id,
        "definition": defined.digest,
        "version": version.digest,
        "unit": shown.unit,
        "format": shown.format,
        "over_time": measure.over_time,
        "by": list(by),
        "grain": grain,
        "goal": goal_text(shown.goal) if shown.goal else "",
        "goal_value": goal[0] if goal else None,
        "goal_met": goal[1] if goal else None,
        "rows": _without_count(rows),
        "grains": [measure.grain, *measures.NESTS[measure.grain]] if measure.grain else [],
        "dimensions": [name for name in measure.by if name.lower() not in personal],
        "since": texts[0],
        "until": texts[1],
    }
    if hidden:
        seen["hidden"] = hidden
    if thinned_from > len(rows):
        seen["thinned_from"] = thinned_from
    if span != Span():
        seen["total"] = _value(seen_in(span, by=(), grain="")[0])
    if compare:
        other = compared(core.project.manifest().tz, span, compare, grain, last)
        texts = other.texts()
        seen["compared"] = {
            "since": texts[0],
            "until": texts[1],
            "total": _value(seen_in(other, by=(), grain="")[0]),
            "rows": _without_count(seen_in(other, by=by, grain=grain, points=points)[0]),
        }
        shown_by = [name for name in by if name not in hidden]
        if shown_by and not grain and "value" not in hidden:
            moved = _moved(core, asset, measure, stored, shown_by, where, (span, other))
            if moved is not None:
                seen["moved"] = moved
    return seen


def definition_of(seen: KpiSeen) -> str:
    """Return the id of the asset that an answer is of."""
    return seen["kpi"]


def _without_count(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name != "all_"} for row in rows]


def _value(rows: list[dict[str, Any]]) -> Any:
    return rows[0]["value"] if rows else None


def _span(
    core: Core,
    asset: Asset,
    measure: Measure,
    stored: _Stored,
    since: int | None,
    until: int | None,
    last: int,
    grain: str,
) -> Span:
    """Return the part of time that is asked for."""
    from sextant.kinds.kpi import measures

    if since is None and until is None and not last:
        return Span()
    if not measure.grain or (last and (since is not None or until is not None)):
        raise UsageError(
            "SX-KPI-010",
            f"`{asset.id}` has no values over such a part of time",
            hint="a range needs a KPI with a grain; the last points are asked for without a range",
        )
    tz = core.project.manifest().tz
    if not last:
        return span_of(measure, tz, since, until)
    query = measures.newest_sql(_timed(core, asset, measure), table="t", grain=grain, tz=tz)
    found = _value(stored.answer(query))
    return newest(measure, tz, grain, found, last) if found is not None else Span()


def _moved(
    core: Core,
    asset: Asset,
    measure: Measure,
    stored: _Stored,
    by: Sequence[str],
    where: str,
    spans: tuple[Span, Span],
) -> list[dict[str, Any]] | None:
    """Return what each value of some dimensions has moved a measure between two spans, the greatest
    first: what the earlier value would have become, had only this one changed. None where parts do
    not add up, or there are too many of them."""
    from sextant.kinds.kpi import measures

    query = measures.moved_sql(
        _timed(core, asset, measure),
        table="t",
        by=by,
        where=where,
        tz=core.project.manifest().tz,
        sides=(spans[0].condition(), spans[1].condition()),
    )
    return stored.answer(query) or None if query else None


def _values_at(core: Core, env: str, id_: str, as_of: str) -> Version | None:
    """Return the version of a KPI's values beside the rows that it is computed from."""
    try:
        return version_as_of(core, env, id_, as_of if "-" in as_of else "")
    except NotFound:
        return None


def _seen_rollup(
    core: Core,
    see: Sees,
    asset: Asset,
    measure: Measure,
    stored: _Stored,
    values: Version,
    *,
    by: Sequence[str] = (),
    grain: str = "",
    where: str = "",
    within: str = "",
    points: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a measure's values as the principal may see them, and what is hidden of them:
    personal dimensions are left out, and cannot be asked with; a personal value is masked.

    stored   what is added up
    values   the KPI's values, which say what is personal; the rows themselves where there are
             none yet
    """
    personal = {name.lower() for name in see.hidden_columns(values)}
    if personal and values.asset == measure.of:  # nothing says what flows into the measure
        personal |= {"value"}
    hides_bucket = "bucket" in personal
    if hides_bucket and (where or within):
        raise Denied(
            "SX-KPI-004",
            f"the time of `{asset.id}` is personal: nobody else asks with conditions",
            hint="an administrator can",
        )
    rows = _rollup(
        core,
        asset,
        msgspec.structs.replace(
            measure, by=tuple(name for name in measure.by if name.lower() not in personal)
        ),
        stored,
        by=[name for name in by if name.lower() not in personal],
        grain="" if hides_bucket else grain,
        where=where,
        within=within,
        points=0 if hides_bucket else points,
    )
    hidden = [name for name in by if name.lower() in personal]
    hidden += ["bucket"] if grain and hides_bucket else []
    hidden += ["value"] if "value" in personal else []
    return masked(rows, {"value"} & personal), hidden


def _goal(
    core: Core, asset: Asset, measure: Measure, stored: _Stored, goal: Goal
) -> tuple[Any, bool | None]:
    """Return a measure's value over a goal's own window, which ends with the newest bucket, and
    whether it meets the goal; None where there is no value."""
    since = f"INTERVAL {length_s(goal.over):.0f} SECOND" if goal.over and measure.grain else ""
    rows = _rollup(core, asset, measure, stored, since=since)
    value = rows[0]["value"] if rows else None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value, None
    bound = Decimal(str(goal.value))
    met = {
        ">=": number >= bound,
        "<=": number <= bound,
        ">": number > bound,
        "<": number < bound,
    }[goal.op]
    return value, met


def _rollup(
    core: Core,
    asset: Asset,
    measure: Measure,
    stored: _Stored,
    *,
    by: Sequence[str] = (),
    grain: str = "",
    where: str = "",
    since: str = "",
    within: str = "",
    points: int = 0,
) -> list[dict[str, Any]]:
    """Return a measure's values from a version of its stored parts (or, where it needs them, of
    its rows)."""
    from sextant.kinds.kpi import measures

    query = measures.rollup_sql(
        _timed(core, asset, measure),
        by=list(by),
        grain=grain,
        where=where,
        table="t",
        tz=core.project.manifest().tz,
        since=since,
        within=within,
    )
    return stored.answer(query, points)


def _timed(core: Core, asset: Asset, measure: Measure) -> Measure:
    """Return a measure as a version keeps it, with what an earlier release did not keep."""
    of = core.project.manifest().asset(measure.of)
    return msgspec.structs.replace(
        measure,
        time=measure.time or (table_spec(of).time if of else ""),
        year_starts=measure_spec(asset).year_starts,
    )


def _history(
    core: Core, see: Sees, asset: Asset, before: Version, after: Version
) -> list[dict[str, Any]]:
    """Return what two definitions of a KPI say month by month (over all time where it has no
    grain)."""
    from sextant.kinds.kpi import measures

    sides: list[dict[str, Any]] = []
    for version in (before, after):
        measure = msgspec.json.decode(version.spec, type=Measure)
        values = _values_of(core, asset, version.digest)
        month = "1mo" if "1mo" in measures.NESTS[measure.grain] else measure.grain
        rows = (
            _seen_rollup(core, see, asset, measure, _Stored(core, values), values, grain=month)[0]
            if values
            else []
        )
        sides.append({str(row.get("bucket", "all"))[:7]: plain(row["value"]) for row in rows})
    return [
        {"bucket": bucket, "before": sides[0].get(bucket), "after": sides[1].get(bucket)}
        for bucket in sorted({*sides[0], *sides[1]})
    ]


def _values_of(core: Core, asset: Asset, definition: str) -> Version | None:
    """Return the newest kept version of a KPI's values that was made by a definition."""
    derived = core.state.read("provenance_downstream", (asset.id, definition))
    made = {row[1] for row in derived}
    for digest, doc, locator, expired in core.state.read(
        "versions", (values_id(asset), FAR, PAGE_ROWS_MAX)
    ):
        if digest in made and not expired:
            version = msgspec.json.decode(doc, type=Version)
            return msgspec.structs.replace(version, locator=locator)
    return None


def _measure(version: Version | None) -> Any:
    """Return the measure of a definition as people see it."""
    return msgspec.json.decode(version.spec) if version is not None else None
