"""KPIs of a project: the definition and the dataset of its values."""

import pytest

from sextant.kinds.kpi.spec import measure_spec
from sextant.kinds.dataset.spec import table_spec
from sextant.kernel.nouns import Input, Trigger
from sextant.kinds.kpi.spec import Goal

BASE = """
sx.team("ops")
@sx.dataset(partition=sx.daily(start="2024-01-01"), time="at")
def orders() -> pl.DataFrame: ...
@sx.dataset()
def shops() -> pl.DataFrame: ...
@sx.dataset(partition=sx.hourly(start="2024-01-01"), time="at")
def clicks() -> pl.DataFrame: ...
@sx.dataset(partition=sx.static("a", "b"), time="shop")
def stock() -> pl.DataFrame: ...
"""


def test_a_kpi_is_a_definition_and_a_dataset_of_values(project):
    """`kpi NAME` would have nothing to read, or nothing to release."""
    project.ops(
        BASE
        + """
share = sx.kpi("share", of=orders, measure="count(*) filter (where paid) / count(*)", by=["shop"], goal=sx.goal(">= 75 %", over="28d"), where="x is not null", unit="",
    owner="ops", tier=1, description="Paid.", checks=[sx.between("value", 0, 1)])
@sx.dataset(partition=sx.daily(start="2024-01-01"))
def report(s) -> pl.DataFrame: ...
""".replace("def report(s)", "def report(kpi_share)")
    )
    from sextant.project.assemble import assemble

    collector = project.collect()
    manifest = assemble(collector)
    metric, values = manifest.asset("kpi:share"), manifest.asset("dataset:kpi_share")
    assert metric.build is None
    assert measure_spec(metric).of == "dataset:orders"
    assert (measure_spec(metric).grain, measure_spec(metric).by, measure_spec(metric).goal) == (
        "1d",
        ("shop",),
        Goal(op=">=", value=0.75, over="28d"),
    )
    assert (metric.owner, metric.tier, metric.description) == ("ops", 1, "Paid.")
    assert values.build.inputs == (Input(name="orders", asset="dataset:orders", frame="sql"),)
    assert values.build.code.entry == "kpi:share"
    assert values.build.whole_range
    assert (
        table_spec(values).partitioning == table_spec(manifest.asset("dataset:orders")).partitioning
    )
    assert (table_spec(values).key, table_spec(values).time) == (("bucket", "shop"), "bucket")
    assert [c.name for c in values.checks] == ["unique(bucket, shop)", "between(value, 0, 1)"]
    assert values.on == (Trigger(kind="inputs"),)
    assert 'FROM "orders"' in collector.queries["dataset:kpi_share"]
    assert "'Europe/Berlin'" in collector.queries["dataset:kpi_share"]
    assert manifest.asset("dataset:report").build.inputs[0].asset == "dataset:kpi_share"


def test_the_values_are_recomputed_when_the_definition_changes(project):
    """Two definitions would share values."""
    prints = set()
    for line in (
        'measure="count(*)"',
        'measure="count( * )"',
        'measure="sum(x)"',
        'measure="count(*)", where="x > 1"',
        'measure="count(*)", by="shop"',
    ):
        project.ops(BASE + f'sx.kpi("k", of=orders, {line})\n')
        prints.add(project.asset("dataset:kpi_k").build.code.fingerprint)
    assert len(prints) == 4  # white space is no change


def test_a_kpi_without_a_grain_is_one_value_over_everything(project):
    """Each day would overwrite the total by its own."""
    project.ops(BASE + 'sx.kpi("k", of=orders, measure="count(*)", grain="")\n')
    values = project.asset("dataset:kpi_k")
    assert (
        table_spec(values).partitioning.grain,
        table_spec(values).key,
        table_spec(values).time,
        values.build.whole_range,
    ) == ("none", (), "", False)


@pytest.mark.parametrize(
    ("line", "code", "message", "hint"),
    [
        (
            'of=orders, measure="x"',
            "SX-PROJ-050",
            "the measure of `k` cannot be taken: it has no aggregate",
            "count(*) filter",
        ),
        (
            'of=orders, measure="count(*)", where="count(*) > 1"',
            "SX-PROJ-050",
            "`where` of `k` is not a condition",
            "dep_time is not null",
        ),
        (
            'of=orders, measure="count(*)", where="x >"',
            "SX-PROJ-050",
            "`where` of `k` is not a condition: it is not SQL",
            "dep_time is not null",
        ),
        (
            'of=orders, measure="count(*)", by="value"',
            "SX-PROJ-051",
            "`k` cannot be split by `value`",
            "rename the column",
        ),
        (
            'of=orders, measure="count(*)", by=["p1"]',
            "SX-PROJ-051",
            "`k` cannot be split by `p1`",
            "rename the column",
        ),
        (
            'of=shops, measure="count(*)"',
            "SX-PROJ-052",
            "`k` has the grain 1d, but `shops` has no `time`",
            "time=",
        ),
        (
            'of=stock, measure="count(*)"',
            "SX-PROJ-052",
            "`stock` is not sliced by time",
            'grain=""',
        ),
        (
            'of=orders, measure="count(*)", grain="1w"',
            "SX-PROJ-053",
            "a bucket of 1w of `k` would lie in several of the daily partitions of `orders`",
            'grain="1d"',
        ),
        (
            'of=clicks, measure="count(*)", grain="1d"',
            "SX-PROJ-053",
            "a bucket of 1d of `k` would lie in several of the hourly partitions of `clicks`",
            'grain="1h"',
        ),
        (
            'of="oders", measure="count(*)"',
            "SX-PROJ-008",
            "the KPI `k` is of `oders`, which does not exist",
            "did you mean `orders`?",
        ),
    ],
)
def test_a_kpi_that_cannot_be_is_refused(project, line, code, message, hint):
    """The query would fail in a worker, or answer wrongly."""
    project.ops(BASE + f'sx.kpi("k", {line})\n')
    error = project.error()
    assert error.code == code
    assert message in error.message
    assert hint in error.hint
    assert error.where == "ops.py:14"
