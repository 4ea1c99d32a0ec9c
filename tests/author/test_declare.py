"""Declarations: what they register, how they are refused."""

import pytest

import sextant as sx
from sextant.kinds.dataset.spec import table_spec
from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Trigger
from sextant.kinds.kpi.spec import Goal
from sextant.kernel.partitions import Partitioning

DAYS = 'days = sx.daily(start="2024-01-01")\n'


def test_a_declaration_outside_of_a_collector_only_returns_its_object():
    """Unit tests of a project's functions could not import the project."""

    @sx.dataset(partition=sx.daily(start="2024-01-01"))
    def double(x: int) -> int:
        return 2 * x

    assert double(x=4) == 8
    assert double.name == "double"
    assert repr(double) == "<dataset:double>"


def test_a_dataset_carries_everything_that_was_said(project):
    """A setting that gets lost between the author's file and the manifest."""
    project.ops(
        """
        data = sx.team("data", members=["ann"])
        @sx.dataset(partition=sx.daily(start="2024-01-01", end="2025-01-01"), key=["id"], time="at", on=sx.cron("0 5 * * *"), lookback="3d", owner=data, tier=1,
            checks=[sx.not_null("id")], personal="name", whole_range=True, deterministic=False, durability="strict", retries=2, backoff="5s",
            timeout="10m", memory="2GB", pool="api", executor="subprocess", on_change="rebuild", keep="90d", schema="freeze")
        def orders(day: sx.Partition, context: sx.Context, token: str = sx.secret("TOKEN"), pages: int = 3) -> pl.DataFrame:
            '''What was bought.

            More words.'''
            return pl.DataFrame()
        """
    )
    manifest = project.manifest()
    asset = manifest.asset("dataset:orders")
    build, table = asset.build, table_spec(asset)
    assert (asset.owner, asset.tier, asset.lookback, asset.on_change, asset.keep) == (
        "data",
        1,
        "3d",
        "rebuild",
        "90d",
    )
    assert asset.description == "What was bought."
    assert asset.on == (Trigger(kind="cron", cron="0 5 * * *"),)
    assert (asset.file, asset.line) == ("ops.py", 6)
    assert asset.release.kind == "publish"
    assert table.partitioning == Partitioning(
        grain="daily", start="2024-01-01", end="2025-01-01", tz="Europe/Berlin"
    )
    assert (table.key, table.time, table.schema, table.personal) == (
        ("id",),
        "at",
        "freeze",
        ("name",),
    )
    assert [c.name for c in asset.checks] == ["unique(id)", "schema(freeze)", "not_null(id)"]
    assert asset.checks[0].scope == "partition"
    assert (build.wants_partition, build.wants_context) == ("day", "context")
    assert build.secrets == {"token": "TOKEN"}
    assert build.params == {"pages": 3}
    assert (build.retries, build.backoff_s, build.timeout_s, build.memory_bytes) == (
        2,
        5.0,
        600.0,
        2 * 10**9,
    )
    assert (
        build.pool,
        build.executor,
        build.durability,
        build.whole_range,
        build.deterministic,
    ) == ("api", "subprocess", "strict", True, False)
    assert build.code.entry == "ops:orders"
    assert manifest.secrets == ("TOKEN",)
    assert (manifest.project, manifest.tz, manifest.environments) == (
        "shop",
        "Europe/Berlin",
        ("dev", "prod"),
    )


def test_an_asset_without_owner_belongs_to_the_projects_owner(project):
    """Nobody would be paged."""
    project.write(
        "ops.py",
        (
            'import polars as pl\nimport sextant as sx\nops = sx.team("ops")\nsx.project("p", '
            "owner=ops)\n@sx.dataset()\ndef a() -> pl.DataFrame: ...\n"
        ),
    )
    assert project.asset("dataset:a").owner == "ops"


def test_a_dataset_with_inputs_runs_when_they_change_and_a_source_does_not_run_by_itself(project):
    """Derived data would go stale, or a source would be called without end."""
    project.ops(
        "@sx.dataset()\ndef a() -> pl.DataFrame: ...\n@sx.dataset()\ndef b(a) -> "
        "pl.DataFrame: ...\n"
    )
    manifest = project.manifest()
    assert manifest.asset("dataset:a").on == ()
    assert manifest.asset("dataset:b").on == (Trigger(kind="inputs"),)


@pytest.mark.parametrize(
    ("line", "code", "message", "hint"),
    [
        (
            "sx.dataset(tir=1)",
            "SX-PROJ-002",
            "`dataset` has no setting `tir`",
            "did you mean `tier`?",
        ),
        ("sx.dataset(retires=1)", "SX-PROJ-002", "`dataset` has no setting `retires`", "`retries`"),
        (
            "sx.kpi('a', of='b', measure='count(*)', gaol=1)",
            "SX-PROJ-002",
            "`kpi` has no setting `gaol`",
            "`goal`",
        ),
        ("sx.team('a', membrs=[])", "SX-PROJ-002", "`team` has no setting `membrs`", "`members`"),
        (
            "sx.project('a', timezone='UTC')",
            "SX-PROJ-002",
            "`project` has no setting `timezone`",
            "there are",
        ),
        ("sx.sql('a.sql', ownr='x')", "SX-PROJ-002", "`sql` has no setting `ownr`", "`owner`"),
        (
            "sx.policy('a', when='true', then='allow', unless='x')",
            "SX-PROJ-002",
            "`policy` has no setting `unless`",
            "there are",
        ),
        (
            "sx.not_null('a', tolerance=0.1)",
            "SX-PROJ-002",
            "`not_null` has no setting `tolerance`",
            "`tolerate`",
        ),
        (
            "sx.check(sevrity='warn')(print)",
            "SX-PROJ-002",
            "`check` has no setting `sevrity`",
            "`severity`",
        ),
        (
            "sx.dataset(tier=7)",
            "SX-PROJ-022",
            "`7` is not a tier",
            "1 (the company stops), 2 or 3 (can wait)",
        ),
        (
            "sx.dataset(lookback='3 days')",
            "SX-PROJ-012",
            "`lookback`: `3 days` is not a length of time",
            "`3d`",
        ),
        ("sx.dataset(keep='0d')", "SX-PROJ-012", "`keep`: `0d` is not a length of time", "`3d`"),
        ("sx.dataset(memory='2 gig')", "SX-PROJ-012", "`memory`: `2 gig` is not a size", "`2GB`"),
        (
            "sx.dataset(durability='eventual')",
            "SX-PROJ-019",
            "`eventual` is not a value of `durability`",
            "`strict`",
        ),
        ("sx.dataset(retries=-1)", "SX-PROJ-019", "`retries` is -1", "from 0 to 20"),
        (
            "sx.dataset(key=['a', 'b', 'a'])",
            "SX-PROJ-025",
            "`key` names the column `a` twice",
            "each column once",
        ),
        (
            "sx.dataset(whole_range=True)",
            "SX-PROJ-020",
            "`whole_range` needs `partition=` and `time=`",
            "`time` names the column",
        ),
        (
            "sx.dataset(lookback='3d')",
            "SX-PROJ-020",
            "`lookback` needs a partition of time",
            "daily(start=...)",
        ),
        (
            "sx.dataset(checks=[sx.not_null])",
            "SX-PROJ-023",
            "`not_null` is not a check",
            'sx.not_null("origin")',
        ),
        ("sx.dataset(on='0 5 * * *')", "SX-PROJ-017", "is not a trigger", "sx.cron"),
        (
            "sx.dataset(inputs={'a': 3})",
            "SX-PROJ-024",
            "`3` is not an asset",
            "the asset itself, its name",
        ),
        (
            "sx.dataset(print)",
            "SX-PROJ-018",
            "`dataset` is used without parentheses",
            "write `@sx.dataset(...)`",
        ),
        (
            "sx.cron('0 25 * * *')",
            "SX-PROJ-017",
            "`0 25 * * *` is not a schedule: Bad hour",
            "minute hour day month weekday",
        ),
        (
            "sx.cron('0 0 5 * * *')",
            "SX-PROJ-017",
            "it has not five fields",
            "minute hour day month weekday",
        ),
        (
            "sx.daily(start='1.1.2024')",
            "SX-PROJ-016",
            "`1.1.2024` is not a date or time",
            "2013-01-31",
        ),
        (
            "sx.daily(start='2024-02-01', end='2024-01-01')",
            "SX-PROJ-016",
            "ends before it starts",
            "",
        ),
        ("sx.static()", "SX-PROJ-016", "`static` needs at least one name", "static("),
        ("sx.static('a', 'a')", "SX-PROJ-016", "no name twice", "static("),
        (
            "sx.window('a', '90 days')",
            "SX-PROJ-012",
            "`window`: `90 days` is not a length of time",
            "`3d`",
        ),
        ("sx.goal('about 0.75')", "SX-PROJ-021", "`about 0.75` is not a goal", ">= 0.75"),
        (
            "sx.goal('>= 1', over='a month')",
            "SX-PROJ-012",
            "`over`: `a month` is not a length of time",
            "`3d`",
        ),
        (
            "sx.secret('my secret')",
            "SX-PROJ-003",
            "`my secret` is not a name for a secret",
            "environment variables",
        ),
        (
            "sx.team('Data Team')",
            "SX-PROJ-003",
            "`Data Team` is not a name for a team",
            "lower-case letters",
        ),
        (
            "sx.kpi('OnTime', of='a', measure='count(*)')",
            "SX-PROJ-003",
            "`OnTime` is not a name for a kpi",
            "lower-case letters",
        ),
        (
            "sx.kpi('a' * 200, of='a', measure='count(*)')",
            "SX-PROJ-003",
            "has 200 characters",
            "at most 128",
        ),
        (
            "sx.kpi('a', of='b', measure='count(*)', grain='2h')",
            "SX-PROJ-019",
            "`2h` is not a value of `grain`",
            "`1mo`",
        ),
        (
            "sx.policy('a', when='true', then='maybe')",
            "SX-PROJ-015",
            "`maybe` is not what a policy can say",
            "allow",
        ),
        (
            "sx.approval(0, of='ops')",
            "SX-PROJ-015",
            "an approval by 0 people is none",
            "at least 1",
        ),
        (
            "sx.project('p', tz='America/NewYork')",
            "SX-PROJ-013",
            "`America/NewYork` is not a time zone",
            "did you mean `America/New_York`",
        ),
        (
            "sx.project('p', environments=[])",
            "SX-PROJ-003",
            "the project has no environment",
            "dev",
        ),
        (
            "sx.project('p', environments=['Prod 1'])",
            "SX-PROJ-003",
            "`Prod 1` is not a name for an environment",
            "lower-case",
        ),
    ],
)
def test_a_mistake_of_form_is_refused_at_its_line(line, code, message, hint):
    """The author would look for the mistake in the wrong place, or find it at run time."""
    with pytest.raises(ProjectError) as caught:
        eval(compile(line, __file__, "eval"), {"sx": sx, "__name__": __name__})
    error = caught.value
    assert error.code == code
    assert message in error.message
    assert hint in error.hint
    assert error.where == f"{__file__}:1"


def test_goals_are_read():
    """A target of 5 % would be one of 500 %."""
    assert sx.goal(">= 0.75", over="28d") == Goal(op=">=", value=0.75, over="28d")
    assert sx.goal("<5 %") == Goal(op="<", value=0.05)
    assert sx.goal("> -3") == Goal(op=">", value=-3.0)


def test_rules_reach_the_manifest(project):
    """A policy that is written down but never asked."""
    project.ops(
        'ops = sx.team("ops")\nsx.policy("eyes", when="env == \'prod\'", '
        'then=sx.approval(2, of=ops))\nsx.policy("no", when="true", then="deny", '
        "absolute=True)\n"
    )
    eyes, no = project.manifest().policies
    assert (eyes.then, eyes.approvals, eyes.of, eyes.file, eyes.line) == (
        "approval",
        2,
        "ops",
        "ops.py",
        5,
    )
    assert (no.name, no.then, no.absolute) == ("no", "deny", True)


def test_how_long_versions_are_kept_where_nothing_is_said(project):
    """A stream, and what follows it, would fill the disk; or a daily table would lose its month."""
    project.ops("""
days = sx.daily(start="2024-01-01")
def stream(name, **more):
    return sx.stream(name, columns={"id": "string", "at": "timestamptz"}, key="id", time="at", partition=days, **more)
ticks, longer = stream("ticks"), stream("longer", keep="7d")
number = sx.kpi("number", of=ticks, measure="count(*)", grain="1d")
@sx.dataset(partition=days)
def follows(ticks, longer) -> pl.DataFrame: ...
@sx.dataset(partition=days)
def follows_longer(longer) -> pl.DataFrame: ...
@sx.dataset(partition=days, keep="90d")
def said(ticks) -> pl.DataFrame: ...
@sx.dataset(on=sx.cron("0 5 * * *"), inputs={"ticks": sx.window("ticks", "all")})
def nightly(ticks) -> pl.DataFrame: ...
@sx.dataset(partition=days)
def of_nightly(nightly) -> pl.DataFrame: ...
@sx.dataset()
def other() -> pl.DataFrame: ...
""")
    kept = {a.name: a.keep for a in project.manifest().assets if a.kind == "dataset"}
    assert kept == {
        "ticks": "1d",
        "longer": "7d",
        "kpi_number": "1d",
        "follows": "1d",
        "follows_longer": "7d",
        "said": "90d",
        "nightly": "30d",
        "of_nightly": "30d",
        "other": "30d",
    }
