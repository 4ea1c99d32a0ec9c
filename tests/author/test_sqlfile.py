"""SQL files as assets."""

import pytest

from sextant.kinds.dataset.spec import table_spec
from sextant.kinds.dataset.declarations.sqlfile import fingerprint, tables
from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Input
from sextant.kernel.partitions import Partitioning

BASE = """
days = sx.daily(start="2024-01-01")
sx.team("data")
@sx.dataset(partition=days, time="at")
def orders() -> pl.DataFrame: ...
@sx.dataset()
def shops() -> pl.DataFrame: ...
@sx.dataset(partition=sx.monthly(start="2024-01"), time="at")
def prices() -> pl.DataFrame: ...
"""


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("select * from orders", ["orders"]),
        (
            "with orders as (select * from orders where x) select * from orders",
            ["orders"],
        ),  # a CTE that shadows what it reads
        (
            (
                "with a as (select * from orders), b as (select * from a) select * from b join "
                "a using (id)"
            ),
            ["orders"],
        ),
        (
            (
                "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) "
                "select * from r"
            ),
            [],
        ),
        (
            "select * from orders join shops using (id) where x in (select y from prices)",
            ["orders", "shops", "prices"],
        ),
        ("select a from orders union all select c from shops order by 1", ["orders", "shops"]),
        ("from orders select id", ["orders"]),
        (
            "select (select max(x) from prices), exists(from shops) from orders",
            ["prices", "shops", "orders"],
        ),
        (
            (
                "select * from orders asof join prices on orders.at >= prices.at, range(3), "
                "unnest([1]) t(x)"
            ),
            ["orders", "prices"],
        ),
        (
            'select * from "orders" o, lateral (select * from shops s where s.id = o.id)',
            ["orders", "shops"],
        ),
        ("select * from (values (1), (2)) t(x)", []),
        ("select * from orders qualify row_number() over (partition by id) = 1;", ["orders"]),
    ],
)
def test_inputs_are_the_tables_a_query_reads(query, names):
    """A dataset would be made before, or without, what it is made of."""
    assert [t.name for t in tables(query, "q.sql")] == names


@pytest.mark.parametrize(
    ("query", "where", "message"),
    [
        ("select a\nfrom t\nwhere ((", "q.sql:3", "the SQL has a syntax error"),
        ("select a,\n  b c d\nfrom t", "q.sql:2", "the SQL has a syntax error near `d`"),
        ("select 'abc\nfrom t", "q.sql:2", "the SQL cannot be read"),
        ("drop table t", "q.sql:1", "the SQL is a drop statement, not one query"),
        ("insert into t select 1", "q.sql:1", "the SQL is a insert statement, not one query"),
        ("select 1; select 2", "q.sql:1", "the SQL is 2 statements, not one query"),
        ("-- nothing", "q.sql:1", "the SQL is 0 statements, not one query"),
        ("select *\nfrom prod.orders", "q.sql:2", "the SQL reads `prod.orders`"),
        (
            "select * from read_csv('/etc/passwd')",
            "q.sql:1",
            "the SQL reads outside of the project by `read_csv`",
        ),
        (
            "select * from read_parquet('x')",
            "q.sql:1",
            "the SQL reads outside of the project by `read_parquet`",
        ),
        ("select * from glob('*')", "q.sql:1", "the SQL reads outside of the project by `glob`"),
        (
            "select * from read_text('x')",
            "q.sql:1",
            "the SQL reads outside of the project by `read_text`",
        ),
    ],
)
def test_what_is_not_one_query_is_refused_with_its_line(query, where, message):
    """The worker would fail at run time, or read what no lineage shows."""
    with pytest.raises(ProjectError) as caught:
        tables(query, "q.sql")
    assert caught.value.code == "SX-PROJ-041"
    assert message in caught.value.message
    assert caught.value.where == where


def test_comments_and_white_space_do_not_count_and_text_does():
    """A comment would recompute a year; a changed constant would not."""
    first = fingerprint("-- owner: a\nselect a, 'x  y' -- why\nfrom   t;\n")
    assert first == fingerprint("select a /* more */, 'x  y'\n\nfrom t")
    assert first != fingerprint("select a, 'x y' from t")
    assert first != fingerprint('select a, "x  y" from t')
    assert first != fingerprint("select b, 'x  y' from t")


def test_a_header_says_everything(project):
    """Settings that analysts write would be comments only."""
    project.ops(BASE + 'daily = sx.sql("sql/daily.sql", checks=[sx.not_null("shop")])\n')
    project.write(
        "sql/daily.sql",
        """\
        -- Totals by day and shop. A prose line: with a colon in it.
        -- name: daily_totals
        -- description: totals by day
        -- owner: data
        -- tier: 2
        -- partition: same as inputs
        -- key: day, shop
        -- time: day
        -- on: cron("0 6 * * *")
        -- schema: freeze
        -- personal: customer
        -- keep: 90d
        -- check: between(total, -10, 1e6, severity=warn, tolerate=0.1)
        -- check: foreign_key(shop, to=shops.id)
        -- check: accepted_values(kind, [a, "b c", "3"])
        -- check: schema({day: date})
        select 1 as day from orders join shops using (id) -- check: not_null(nothing)
        """,
    )
    collector = project.collect()
    from sextant.project.assemble import assemble

    asset = assemble(collector).asset("dataset:daily_totals")
    assert (asset.owner, asset.tier, asset.description, asset.keep) == (
        "data",
        2,
        "totals by day",
        "90d",
    )
    assert table_spec(asset).partitioning == Partitioning(
        grain="daily", start="2024-01-01", tz="Europe/Berlin"
    )
    assert (
        table_spec(asset).key,
        table_spec(asset).time,
        table_spec(asset).schema,
        table_spec(asset).personal,
    ) == (
        ("day", "shop"),
        "day",
        "freeze",
        ("customer",),
    )
    assert asset.on[0].cron == "0 6 * * *"
    assert [c.name for c in asset.checks] == [
        "unique(day, shop)",
        "not_null(shop)",
        "between(total, -10, 1000000.0)",
        "foreign_key(shop, shops.id)",
        "accepted_values(kind)",
        "schema(freeze)",
    ]
    assert asset.checks[2].params == {"column": "total", "low": -10, "high": 1e6, "tolerate": 0.1}
    assert asset.checks[2].severity == "warn"
    assert asset.checks[4].params["values"] == ["a", "b c", "3"]
    assert asset.build.inputs == (
        Input(name="orders", asset="dataset:orders", frame="sql"),
        Input(name="shops", asset="dataset:shops", frame="sql"),
    )
    assert (asset.build.code.language, asset.build.code.entry, asset.file) == (
        "sql",
        "sql/daily.sql",
        "sql/daily.sql",
    )
    assert collector.queries["dataset:daily_totals"].startswith("-- Totals")


def test_a_partition_defaults_to_that_of_the_inputs(project):
    """A daily total would be recomputed over all days."""
    project.ops(BASE + 'sx.sql("a.sql")\nsx.sql("b.sql")\nsx.sql("c.sql")\n')
    project.write("a.sql", "select * from orders join shops using (id)")
    project.write("b.sql", "select * from shops")
    project.write("c.sql", "-- partition: none\nselect * from a")
    manifest = project.manifest()
    assert [table_spec(manifest.asset(f"dataset:{n}")).partitioning.grain for n in "abc"] == [
        "daily",
        "none",
        "none",
    ]


def test_inputs_of_two_grains_need_a_word(project):
    """Which of them is the partition would be a guess."""
    project.ops(BASE + 'sx.sql("a.sql")\n')
    project.write("a.sql", "select * from orders join prices using (id)")
    error = project.error()
    assert (error.code, error.message, error.where) == (
        "SX-PROJ-027",
        "the inputs of `a` are daily and monthly",
        "a.sql:1",
    )
    project.write(
        "a.sql",
        '-- partition: daily(start="2024-02-01")\nselect * from orders join prices using (id)',
    )
    assert table_spec(project.asset("dataset:a")).partitioning.start == "2024-02-01"


def test_a_window_widens_one_table(project):
    """A moving average would see one day."""
    project.ops(BASE + 'sx.sql("a.sql", inputs={"orders": sx.window("orders", "28d")})\n')
    project.write("a.sql", "select * from orders")
    assert project.asset("dataset:a").build.inputs[0].window == "28d"
    project.ops(BASE + 'sx.sql("a.sql", inputs={"order": sx.window("orders", "28d")})\n')
    assert project.error().message == "`inputs` of `a` names `order`, which the SQL does not read"


@pytest.mark.parametrize(
    ("text", "code", "where", "message", "hint"),
    [
        (
            "-- ownr: data\nselect 1 from orders",
            "SX-PROJ-002",
            "a.sql:1",
            "the header has no setting `ownr`",
            "did you mean `owner`?",
        ),
        (
            "-- tier: high\nselect 1 from orders",
            "SX-PROJ-022",
            "a.sql:1",
            "`high` is not a tier",
            "1, 2 or 3",
        ),
        (
            "-- x\n-- key: a, a\n-- key: b\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:3",
            "`key` is set twice, first in line 2",
            "each setting once",
        ),
        (
            "-- time:\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:1",
            "`time` has no value",
            "-- time: value",
        ),
        (
            "-- check: not_nul(a)\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:1",
            "there is no `not_nul`",
            "did you mean `not_null`",
        ),
        (
            "-- check: not_null(a\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:1",
            "`not_null(a` is not a call",
            "write it as",
        ),
        (
            "-- check: between(a, 3, 1)\nselect 1 from orders",
            "SX-PROJ-010",
            "a.sql:1",
            "`between(a, 3, 1)` is empty",
            "the low bound comes first",
        ),
        (
            "-- check: between(a, 3, 1, 7, 8)\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:1",
            "`between(a, 3, 1, 7, 8)`",
            "arguments",
        ),
        (
            "-- check: not_null(a, tolerance=1)\nselect 1 from orders",
            "SX-PROJ-002",
            "a.sql:1",
            "`not_null` has no setting `tolerance`",
            "`tolerate`",
        ),
        (
            "-- partition: dayly(start=x)\nselect 1 from orders",
            "SX-PROJ-043",
            "a.sql:1",
            "there is no `dayly`",
            "did you mean `daily`?",
        ),
        (
            '-- partition: daily(start="then")\nselect 1 from orders',
            "SX-PROJ-016",
            "a.sql:1",
            "`then` is not a date",
            "2013-01-31",
        ),
        (
            '-- on: cron("x")\nselect 1 from orders',
            "SX-PROJ-017",
            "a.sql:1",
            "`x` is not a schedule",
            "minute hour",
        ),
        (
            "-- keep: long\nselect 1 from orders",
            "SX-PROJ-012",
            "a.sql:1",
            "`keep`: `long` is not a length of time",
            "`3d`",
        ),
        (
            "-- schema: fixed\nselect 1 from orders",
            "SX-PROJ-019",
            "a.sql:1",
            "`fixed` is not a value of `schema`",
            "evolve or freeze",
        ),
        (
            "-- name: A b\nselect 1 from orders",
            "SX-PROJ-003",
            "a.sql:1",
            "`A b` is not a name for a dataset",
            "lower-case",
        ),
        (
            "-- owner: nobody\nselect 1 from orders",
            "SX-PROJ-026",
            "a.sql:1",
            "there is no team `nobody`",
            "there are `data`",
        ),
        (
            "select 1\nfrom orders\njoin shps using (id)",
            "SX-PROJ-008",
            "a.sql:3",
            "the SQL of `a` reads `shps`, which does not exist",
            "did you mean `shops`?",
        ),
        (
            "select 1 from a",
            "SX-PROJ-009",
            "a.sql:1",
            "the assets feed each other in a circle: a -> a",
            "",
        ),
    ],
)
def test_a_bad_header_or_table_is_refused_at_its_line(project, text, code, where, message, hint):
    """The analyst would look into the Python file."""
    project.ops(BASE + 'sx.sql("a.sql")\n')
    project.write("a.sql", text)
    error = project.error()
    assert error.code == code
    assert message in error.message
    assert error.where.startswith(where)
    assert hint in error.hint


def test_a_setting_in_two_places_is_refused(project):
    """Which of the two counts would be a guess."""
    project.ops(BASE + 'sx.sql("a.sql", owner="data")\n')
    project.write("a.sql", "-- owner: data\nselect 1 from orders")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-042", "a.sql:1")
    assert error.message == "`owner` is set in the header and at ops.py:13"


def test_a_missing_file_is_refused_where_it_is_named(project):
    """FileNotFoundError from inside of the loader."""
    project.ops(BASE + 'sx.sql("sql/a.sql")\n')
    error = project.error()
    assert (error.code, error.message, error.where) == (
        "SX-PROJ-040",
        "there is no file `sql/a.sql`",
        "ops.py:13",
    )


def test_a_sql_check_reads_its_own_dataset_only(project):
    """The check would need rows that the worker does not have."""
    project.ops(
        BASE
        + (
            '@sx.dataset(checks=[sx.sql_check("no debts", "select * from a where x < 0")])\ndef '
            "a() -> pl.DataFrame: ...\n"
        )
    )
    (check,) = project.asset("dataset:a").checks
    assert (check.name, check.check, check.params) == (
        "no debts",
        "check.dataops.sql",
        {"query": "select * from a where x < 0"},
    )
    project.ops(
        BASE
        + (
            '@sx.dataset(checks=[sx.sql_check("no debts", "select * from orders where x < '
            '0")])\ndef a() -> pl.DataFrame: ...\n'
        )
    )
    assert project.error().message == "the check `no debts` of `a` reads `orders`"
    project.ops(
        BASE
        + (
            '@sx.dataset(checks=[sx.sql_check("no debts", "select * form a")])\ndef a() -> '
            "pl.DataFrame: ...\n"
        )
    )
    assert "the check `no debts` of `a`: the SQL has a syntax error" in project.error().message
