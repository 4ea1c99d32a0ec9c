"""A declared KPI to its two assets: the definition `kpi:NAME` and its values, the dataset
`kpi_NAME`."""

import re
from collections.abc import Iterable, Sequence

import msgspec

from sextant.kernel.nouns import (
    Asset,
    Build,
    CheckSpec,
    Code,
    ColumnRead,
    Edge,
    Input,
    Trigger,
    spec_of,
)
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset.declarations.assets import declared_checks
from sextant.kinds.dataset.declarations.columns import expression_columns, sql_reads
from sextant.kinds.dataset.declarations.sqlfile import fingerprint
from sextant.kinds.dataset.spec import KIND as ROWS
from sextant.kinds.dataset.spec import Table, table_spec
from sextant.kinds.kpi.declare import Kpi
from sextant.kinds.kpi.measures import (
    NESTS,
    MeasureError,
    check_condition,
    check_measure,
    definition,
    values_sql,
)
from sextant.kinds.kpi.spec import KIND, Measure, goal_text, measure_spec, values_name
from sextant.project.assemble import Assembly, Authored, Draft
from sextant.project.collect import Collector, near

LABEL = "_partition"  # the column by which workers tell the partitions of a range apart
_TAKEN = re.compile(r"_partition|bucket|value|definition|p\d+")
# the grain whose buckets a partition is made of: others of which that is so nest in it
_FINEST = {"hourly": "1h", "daily": "1d", "monthly": "1mo"}


class AuthoredKpis(Authored):
    """Reads `sx.kpi`."""

    def draft(self, declared: Kpi, project: Assembly) -> Draft:
        check_definition(declared, project.collector)
        has = (*declared.by, "value", *(("bucket",) if declared.grain else ()))
        for column in declared.slots.public:
            if column not in has:
                project.note(
                    "SX-PROJ-055",
                    f"the KPI `{declared.name}` has no column `{column}` that could be public",
                    place=declared.place,
                    hint=near(column, has),
                )
        name = declared.of.partition(":")[2]
        return Draft(
            KIND,
            declared.id,
            declared.id.partition(":")[2],
            declared.slots.owner,
            declared.place,
            declared,
            (Input(name=name, asset=declared.of, frame="sql"),),
            also=(f"{KIND}:{declared.name}",),
        )

    def unknown(self, draft: Draft, upstream: str, project: Assembly) -> tuple[str, str]:
        names = [one.name for one in project.drafts.values()]
        name = upstream.partition(":")[2]
        message = f"the KPI `{draft.body.name}` is of `{name}`, which does not exist"
        return message, near(name, names)

    def assets(self, draft: Draft, project: Assembly) -> Iterable[Asset]:
        kpi: Kpi = draft.body
        of = project.made[kpi.of]
        checks = declared_checks(draft, kpi.slots, project)
        sound = not any(problem.place == kpi.place for problem in project.collector.problems)
        if not check_source(kpi, of, project.collector) or not sound:
            return
        metric, values, query = assets_of(
            kpi,
            of,
            tz=project.tz,
            year_starts=project.year_starts,
            file=project.collector.relative(kpi.place.file),
            line=kpi.place.line,
            checks=checks,
            owner=project.owner(draft),
        )
        project.collector.queries[values.id] = query
        yield metric
        yield values

    def column_reads(self, assets: Sequence[Asset], project: Assembly) -> Iterable[ColumnRead]:  # noqa: ARG002
        for asset in assets:
            yield from _measure_reads(asset, measure_spec(asset))

    def weaker(self, before: Asset, after: Asset) -> Iterable[tuple[str, str]]:
        old, new = measure_spec(before).goal, measure_spec(after).goal
        if old is None or old == new:
            return
        is_eased = (
            new is None
            or new.over != old.over
            or new.op[0] != old.op[0]
            or (new.value < old.value if old.op[0] == ">" else new.value > old.value)
            or (new.value == old.value and new.op.endswith("=") and not old.op.endswith("="))
        )
        if is_eased:
            yield "goal", f"{goal_text(old)} -> {goal_text(new) if new else 'none'}"

    def content(self, asset: Asset) -> msgspec.Raw:
        return spec_of(msgspec.structs.replace(measure_spec(asset), goal=None, format=""))

    def edges(self, asset: Asset) -> Iterable[Edge]:
        yield Edge(source=measure_spec(asset).of, target=asset.id, kind="measures")

    def definition(self, asset: Asset) -> str:
        """Return the digest of what the number means: how it is shown is no part of it."""
        return measure_spec(asset).definition


def measure_of(kpi: Kpi, *, time: str = "", year_starts: int = 1) -> Measure:
    """Return the metric definition as the kernel knows it."""
    return Measure(
        of=kpi.of,
        sql=kpi.sql,
        grain=kpi.grain,
        by=kpi.by,
        where=kpi.where,
        goal=kpi.goal,
        time=time,
        year_starts=year_starts,
        unit=kpi.unit,
        format=kpi.format,
        over_time=kpi.over_time,  # type: ignore[arg-type]
    )


def check_definition(kpi: Kpi, collector: Collector) -> bool:
    """Note what is wrong with a definition by itself; say whether it can be used."""
    before = len(collector.problems)
    try:
        check_measure(kpi.sql, kpi.of)
    except MeasureError as error:
        hint = "as in `count(*) filter (where dep_delay < 15) / count(*)`"
        collector.note(
            "SX-PROJ-050",
            f"the measure of `{kpi.name}` cannot be taken: {error}",
            place=kpi.place,
            hint=hint,
        )
    if kpi.where:
        try:
            check_condition(kpi.where)
        except MeasureError as error:
            collector.note(
                "SX-PROJ-050",
                f"`where` of `{kpi.name}` is not a condition: {error}",
                place=kpi.place,
                hint="as in `dep_time is not null`",
            )
    for dimension in kpi.by:
        if _TAKEN.fullmatch(dimension):
            hint = "that name is a column of every KPI's values: rename the column"
            collector.note(
                "SX-PROJ-051",
                f"`{kpi.name}` cannot be split by `{dimension}`",
                place=kpi.place,
                hint=hint,
            )
    return len(collector.problems) == before


def check_source(kpi: Kpi, of: Asset, collector: Collector) -> bool:
    """Note what is wrong with a definition over the dataset `of`; say whether it can be used."""
    before = len(collector.problems)

    def note(code: str, message: str, hint: str) -> None:
        collector.note(code, message, place=kpi.place, hint=hint)

    table = table_spec(of)
    if kpi.grain and not table.time:
        note(
            "SX-PROJ-052",
            f"`{kpi.name}` has the grain {kpi.grain}, but `{of.name}` has no `time`",
            'say `time="..."` on the dataset, or `grain=""` on the KPI',
        )
    if kpi.grain and table.partitioning.grain == "static":
        note(
            "SX-PROJ-052",
            f"`{kpi.name}` has the grain {kpi.grain}, but `{of.name}` is not sliced by time",
            'say `grain=""` on the KPI',
        )
    slice_ = _FINEST.get(table.partitioning.grain, "")
    if kpi.grain and slice_ and kpi.grain != slice_ and slice_ not in NESTS[kpi.grain]:
        finest = slice_ if slice_ != "1mo" else "1d"
        note(
            "SX-PROJ-053",
            (
                f"a bucket of {kpi.grain} of `{kpi.name}` would lie in several of the "
                f"{table.partitioning.grain} partitions of `{of.name}`"
            ),
            f'keep it by `grain="{finest}"`; it can be read by any coarser grain',
        )
    if kpi.over_time and not kpi.grain:
        note(
            "SX-PROJ-052",
            f"`{kpi.name}` is taken over time (`over_time`), but has no grain",
            'say how often it is kept: `grain="1d"`',
        )
    return len(collector.problems) == before


def assets_of(
    kpi: Kpi,
    of: Asset,
    *,
    tz: str,
    year_starts: int,
    file: str,
    line: int,
    checks: tuple[CheckSpec, ...],
    owner: str,
) -> tuple[Asset, Asset, str]:
    """Return the definition, the dataset of its values, and that dataset's query over a table named
    as `of`."""
    source = table_spec(of)
    measure = measure_of(kpi, time=source.time, year_starts=year_starts)
    measure = msgspec.structs.replace(measure, definition=definition(measure, tz))
    # without a bucket the value is one over everything
    slices = source.partitioning if kpi.grain else Partitioning()
    query = values_sql(
        measure,
        table=of.name,
        tz=tz,
        label=LABEL if slices.grain != "none" else "",
    )
    key = (*(("bucket",) if kpi.grain else ()), *kpi.by)
    kind_of_key = (
        (
            CheckSpec(
                name=f"unique({', '.join(key)})",
                check="check.dataops.unique",
                params={"columns": list(key)},
            ),
        )
        if key
        else ()
    )
    metric = Asset(
        kind=KIND,
        name=kpi.name,
        owner=owner,
        tier=kpi.slots.tier,
        description=kpi.slots.description,
        tags=kpi.slots.tags,
        spec=spec_of(measure),
        file=file,
        line=line,
    )
    values = Asset(
        kind=ROWS,
        name=values_name(kpi.name),
        owner=owner,
        tier=kpi.slots.tier,
        description=f"Values of {metric.id}.",
        tags=kpi.slots.tags,
        build=Build(
            code=Code(
                language="sql",
                entry=metric.id,
                file=file,
                line=line,
                fingerprint=fingerprint(query),
            ),
            inputs=(Input(name=of.name, asset=of.id, frame="sql"),),
            whole_range=slices.grain != "none",
        ),
        defined_by=metric.id,
        spec=spec_of(
            Table(
                partitioning=slices,
                key=key,
                time="bucket" if kpi.grain else "",
                public=kpi.slots.public,
                against_inputs=CheckSpec(
                    name="reconciles",
                    check="reconcile.kpi",
                    params={"measure": msgspec.to_builtins(measure)},
                ),
            )
        ),
        checks=(*kind_of_key, *checks),
        on=(Trigger(kind="inputs"),),
        on_change="rebuild",
        keep="",
        file=file,
        line=line,
    )
    return metric, values, query


def _measure_reads(asset: Asset, measure: Measure) -> list[ColumnRead]:
    what = f"the KPI `{asset.name}`"
    tables = {measure.of.partition(":")[2]: measure.of}
    said: list[ColumnRead] = []
    for text in filter(None, (measure.sql, measure.where)):
        said += sql_reads(asset, what, expression_columns(text, tables), tables, None, 0)
    said += [
        ColumnRead(
            by=asset.id,
            what=what,
            column=column,
            of=(measure.of,),
            exact=True,
            file=asset.file,
            line=asset.line,
        )
        for column in measure.by
    ]
    return list({(one.column, one.of): one for one in said}.values())
