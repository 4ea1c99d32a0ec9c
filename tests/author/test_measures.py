"""The SQL of KPIs, against direct computation on rows."""

import random

import duckdb
import pytest

from sextant.kinds.kpi.measures import (
    MeasureError,
    check_measure,
    needs_rows,
    parts,
    rollup_sql,
    values_sql,
)
from sextant.kernel.errors import UsageError
from sextant.kinds.kpi.spec import Measure

NY = "America/New_York"


@pytest.fixture(scope="module")
def con():
    """Rows of very unequal groups over six weeks, some empty delays; instants, so that days are
    those of New York."""
    rng = random.Random(7)
    connection = duckdb.connect()
    connection.execute(
        "SET TimeZone = 'Asia/Tokyo'"
    )  # results must not depend on the session's zone
    connection.execute(
        "CREATE TABLE flights (moment TIMESTAMPTZ, origin VARCHAR, carrier VARCHAR, delay "
        "INTEGER, miles DOUBLE, tail VARCHAR)"
    )
    rows = []
    for _ in range(3000):
        second = 1_359_000_000 + rng.randrange(42 * 86400)
        origin, carrier = (
            rng.choice(["EWR", "JFK", "JFK", "JFK", "JFK", "LGA"]),
            rng.choice(["AA", "UA", "UA", "UA", "UA", "UA", None]),
        )
        rows.append(
            (
                second,
                origin,
                carrier,
                None if rng.random() < 0.2 else rng.randrange(-20, 120),
                rng.random() * 1000,
                f"N{rng.randrange(40)}",
            )
        )
    connection.executemany("INSERT INTO flights SELECT to_timestamp(?), ?, ?, ?, ?, ?", rows)
    yield connection
    connection.close()


def measure(sql, **more):
    given = {"by": ("origin", "carrier"), "time": "moment"} | more
    return Measure(of="dataset:flights", sql=sql, **given)


def store(con, m, tz=NY):
    con.execute(f"CREATE OR REPLACE TABLE vals AS {values_sql(m, table='flights', tz=tz)}")


ADDITIVE = [
    "count(*)", "count(delay)", "sum(miles)", "min(delay)", "max(delay)", "avg(delay)",
    "mean(delay)", "count_if(delay > 15)", "count(*) filter (where delay < 15) / count(*)",
    "sum(delay) / sum(miles)", "avg(delay) filter (where origin = 'JFK')",
    "max(delay) - min(delay)",
    "round(100.0 * sum(miles) filter (where delay > 10 or delay is null) / nullif(sum(miles), 0), 2)",
    "coalesce(sum(delay), 0)",
    "count_if(delay > 15) filter (where origin <> 'LGA' or carrier = 'AA')",
    "case when count(*) > 10 then avg(miles) end", "sum(flights.delay)",
    "avg(delay) + avg(miles) * 2", "avg(delay * 2 + 1)", "max(tail)",
]  # fmt: skip
EXACT = [
    "median(delay)", "count(distinct tail)", "quantile_cont(delay, 0.9)",
    "count(distinct tail) / count(*)", "sum(distinct delay)", "stddev(miles)",
    "percentile_cont(0.5) within group (order by miles)", "arg_max(tail, moment)",
]  # fmt: skip
LEVELS = [
    ((), "", ""), (("origin",), "", ""), (("carrier",), "1d", ""),
    (("carrier", "origin"), "1w", ""), ((), "1mo", "origin <> 'EWR'"),
    (("origin",), "1w", "bucket >= DATE '2013-02-01'"),
]  # fmt: skip


def direct(con, m, by, grain, where):
    """The measure over rows, grouped in one query."""
    day = f"CAST(timezone('{NY}', moment) AS DATE)"
    bucket = {
        "": None,
        "1d": day,
        "1w": f"CAST(date_trunc('week', {day}) AS DATE)",
        "1mo": f"CAST(date_trunc('month', {day}) AS DATE)",
    }[grain]
    select = ([f"{bucket} AS b"] if bucket else []) + list(by)
    condition = where.replace("bucket", day) if where else "true"
    group = ", ".join(str(n + 1) for n in range(len(select)))
    return con.sql(
        f"SELECT {', '.join([*select, m.sql])} FROM flights WHERE {condition}"
        + (f" GROUP BY {group} ORDER BY {group}" if group else "")
    ).fetchall()


def same(found, wanted):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a[:-1] == b[:-1]
        x, y = a[-1], b[-1]
        assert (
            x == y
            if isinstance(y, str) or y is None
            else x == pytest.approx(float(y), rel=1e-9, abs=1e-9)
        ), (a, b)


@pytest.mark.parametrize("sql", ADDITIVE)
def test_rolled_up_parts_equal_the_measure_over_rows(con, sql):
    """A number that changes with the level at which it is asked for."""
    m = measure(sql)
    assert not needs_rows(m)
    store(con, m)
    for by, grain, where in LEVELS:
        same(
            con.sql(rollup_sql(m, table="vals", by=by, grain=grain, where=where, tz=NY)).fetchall(),
            direct(con, m, by, grain, where),
        )


@pytest.mark.parametrize("sql", EXACT)
def test_what_does_not_add_up_is_recomputed_from_rows(con, sql):
    """A median of medians, a sum of distinct counts."""
    m = measure(sql)
    assert needs_rows(m)
    for by, grain, where in LEVELS:
        found = con.sql(
            rollup_sql(m, table="flights", by=by, grain=grain, where=where, tz=NY)
        ).fetchall()
        same(found, direct(con, m, by, grain, where))


def test_a_mean_of_means_is_never_taken():
    """100 flights on time at one airport and 1 late at another are 99 % on time, not 50 %."""
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE flights AS SELECT TIMESTAMPTZ '2013-02-01 12:00:00+00' AS moment, "
        "'JFK' AS origin, 0 AS delay FROM range(100)"
    )
    con.execute("INSERT INTO flights VALUES ('2013-02-01 12:00:00+00', 'EWR', 101)")
    rate, mean = (
        measure("count(*) filter (where delay < 15) / count(*)", by=("origin",)),
        measure("avg(delay)", by=("origin",)),
    )
    for m, wanted, trap in ((rate, 100 / 101, 0.5), (mean, 1.0, 50.5)):
        store(con, m)
        assert con.sql("SELECT avg(value) FROM vals").fetchall()[0][0] == trap
        assert con.sql(rollup_sql(m, table="vals", grain="", tz=NY)).fetchall()[0][
            0
        ] == pytest.approx(wanted)


def test_values_carry_bucket_dimensions_parts_value_and_stamp(con):
    """Consumers of the derived dataset rely on these columns."""
    m = measure("count(*) filter (where delay < 15) / count(*)", where="miles > 10")
    store(con, m)
    assert [(c[0], c[1]) for c in con.sql("DESCRIBE vals").fetchall()] == [
        ("bucket", "DATE"),
        ("origin", "VARCHAR"),
        ("carrier", "VARCHAR"),
        ("p0", "BIGINT"),
        ("p1", "BIGINT"),
        ("value", "DOUBLE"),
        ("definition", "VARCHAR"),
    ]
    total = con.sql(
        "SELECT sum(p1), count(DISTINCT definition), max(length(definition)) FROM vals"
    ).fetchall()[0]
    assert total == (
        con.sql("SELECT count(*) FROM flights WHERE miles > 10").fetchall()[0][0],
        1,
        64,
    )
    assert (
        con.sql("SELECT count(*) FROM vals WHERE abs(value - p0 / p1) > 1e-12").fetchall()[0][0]
        == 0
    )


def test_a_definition_changes_with_what_it_means_and_not_with_how_it_is_written():
    """Values of two definitions could not be told apart, or a space would recompute history."""
    from sextant.kinds.kpi.measures import definition

    one = definition(measure("count(*) / sum(x)"), NY)
    assert one == definition(measure("count(*)   /\n sum(x) -- why"), NY)
    assert (
        len(
            {
                one,
                definition(measure("count(*) / sum(y)"), NY),
                definition(measure("count(*) / sum(x)"), "UTC"),
                definition(measure("count(*) / sum(x)", where="x > 1"), NY),
                definition(measure("count(*) / sum(x)", by=()), NY),
                definition(measure("count(*) / sum(x)", grain="1h"), NY),
            }
        )
        == 6
    )


def test_a_label_keeps_partitions_of_one_query_apart(con):
    """Making a month of values would take thirty queries."""
    m = measure("count(*)", by=("origin",))
    con.execute(
        "CREATE OR REPLACE VIEW labelled AS SELECT *, strftime(timezone('America/New_York', "
        "moment), '%Y-%m-%d') AS _partition FROM flights"
    )
    con.execute(
        "CREATE OR REPLACE TABLE many AS "
        f"{values_sql(m, table='labelled', tz=NY, label='_partition')}"
    )
    store(con, m)
    assert (
        con.sql("SELECT bucket, origin, value FROM many ORDER BY ALL").fetchall()
        == con.sql("SELECT bucket, origin, value FROM vals ORDER BY ALL").fetchall()
    )
    assert (
        con.sql("SELECT count(*) FROM many WHERE _partition <> bucket::VARCHAR").fetchall()[0][0]
        == 0
    )


@pytest.mark.parametrize(
    ("column", "day"),
    [
        (
            "TIMESTAMPTZ '2013-01-02 03:00:00+00'",
            "2013-01-01",
        ),  # 22:00 of the day before in New York
        ("TIMESTAMP '2013-01-02 03:00:00'", "2013-01-01"),  # naive instants are UTC
        ("TIMESTAMP '2013-01-02 06:00:00'", "2013-01-02"),  # and not of the session's zone
        ("TIMESTAMP_NS '2013-01-02 03:00:00'", "2013-01-01"),
        ("DATE '2013-01-02'", "2013-01-02"),  # a date is a local day already
    ],
)
@pytest.mark.parametrize("session", ["UTC", "Asia/Tokyo"])
def test_a_bucket_is_the_projects_local_day(column, day, session):
    """11 % of the flights would count to another day."""
    con = duckdb.connect()
    con.execute(f"SET TimeZone = '{session}'")
    con.execute(f"CREATE TABLE flights AS SELECT {column} AS moment")
    m = measure("count(*)", by=())
    assert str(con.sql(values_sql(m, table="flights", tz=NY)).fetchall()[0][0]) == day
    exact = measure("median(1)", by=())
    assert str(con.sql(rollup_sql(exact, table="flights", tz=NY)).fetchall()[0][0]) == day


def test_hours_of_a_clock_change_stay_apart_and_roll_up_into_their_day():
    """The repeated hour of 3 November 2013 would be one bucket."""
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE flights AS SELECT TIMESTAMPTZ '2013-11-03 04:30:00+00' + INTERVAL (h) "
        "HOUR AS moment FROM range(25) t(h)"
    )
    m = measure("count(*)", by=(), grain="1h")
    store(con, m)
    assert con.sql("SELECT count(*), max(value) FROM vals").fetchall()[0] == (25, 1)
    assert con.sql(rollup_sql(m, table="vals", grain="1d", tz=NY)).fetchall()[0][1] == 25


def test_no_rows_give_a_count_of_zero_and_an_empty_ratio(con):
    """NULL where 0 is meant, or a division by zero."""
    for sql, wanted in [
        ("count(*)", 0),
        ("sum(delay)", None),
        ("count(*) filter (where delay < 15) / count(*)", None),
    ]:
        m = measure(sql)
        store(con, m)
        (value,) = con.sql(
            rollup_sql(m, table="vals", grain="", where="origin = 'XXX'", tz=NY)
        ).fetchall()[0]
        assert value == wanted or (wanted is None and value != value), sql


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("dep_delay", "it has no aggregate"),
        ("dep_delay + count(*)", "the column `dep_delay` stands outside of an aggregate"),
        ("1 + 1", "it has no aggregate"),
        ("sum(avg(x))", "inside of another"),
        ("sum(x) over ()", "it has a window"),
        ("(select count(*) from other)", "it reads a table of its own"),
        ("sum(x) / (select max(y) from other)", "it reads a table of its own"),
        ("select count(*) from flights", "it reads a table of its own"),
        ("count(*) as n", "leave `as n` out"),
        ("sum(weather.temp)", "`weather.temp` names another table"),
        ("count(*) filter (where x > avg(y))", "inside of a filter"),
        ("count(* ", "it is not SQL"),
        ("drop table flights", "it has no aggregate"),
    ],
)
def test_what_is_not_one_aggregate_is_refused(sql, why):
    """DuckDB's message at run time would name generated SQL."""
    with pytest.raises(MeasureError) as caught:
        check_measure(sql, "dataset:flights")
    assert why in str(caught.value)


def test_parts_are_shared_and_named_in_order():
    """The columns of stored values must not move."""
    split = parts("avg(x) filter (where a) / avg(x) + sum(x) filter (where a)")
    assert [(p.name, p.sql, p.merge) for p in split.parts] == [
        ("p0", "SUM(x) FILTER (WHERE a)", "sum"),
        ("p1", "COUNT(x) FILTER (WHERE a)", "count"),
        ("p2", "SUM(x)", "sum"),
        ("p3", "COUNT(x)", "count"),
    ]
    assert split.final == "({p0} / {p1}) / ({p2} / {p3}) + {p0}"


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (
            {"by": ["carier"]},
            "SX-KPI-001",
            "the measure has no dimension `carier`",
            "did you mean `carrier`?",
        ),
        (
            {"grain": "1h"},
            "SX-KPI-002",
            "the measure has no values by `1h`",
            "it is kept by 1d; choose 1d, 1w, 1mo, 1q, 1y",
        ),
        ({"grain": "2d"}, "SX-KPI-002", "the measure has no values by `2d`", "1mo"),
        (
            {"where": "dest = 'ATL'"},
            "SX-KPI-001",
            "the measure has no dimension `dest`",
            "it has origin, carrier, bucket",
        ),
        ({"where": "origin ="}, "SX-KPI-003", "cannot be a condition", "origin = 'EWR'"),
        (
            {"where": "origin in (select 1)"},
            "SX-KPI-003",
            "more than a comparison",
            "origin = 'EWR'",
        ),
        (
            {"where": "1=1) union select (1"},
            "SX-KPI-003",
            "cannot be a condition",
            "origin = 'EWR'",
        ),
    ],
)
def test_a_question_that_the_values_cannot_answer_is_refused(arguments, code, message, hint):
    """A wrong answer, or SQL smuggled into the query."""
    with pytest.raises(UsageError) as caught:
        rollup_sql(measure("count(*)"), table="vals", **arguments)
    assert (caught.value.code, message in caught.value.message, hint in caught.value.hint) == (
        code,
        True,
        True,
    )


@pytest.mark.parametrize(
    "where",
    [
        "length(repeat('x', 1000000000)) > 1",
        "list_sum(range(100000000)) > 1",
        "getenv('HOME') = 'x'",
        "current_setting('home_directory') = ''",
        "columns(*) = 1",
        "regexp_matches(origin, '(a+)+$')",
        "origin in (from '/etc/passwd')",
        "1 = 1; select 1",
        "exists(from flights)",
        "[x for x in range(10)] = []",
        "origin = $a",
        "try(1 / 0) = 1",
        "(" * 900 + "1 = 1" + ")" * 900,
        "1 = 1 and " * 500 + "1 = 1",
        "case when origin = 'EWR' then true else false end",
        "origin = 'x' collate nocase",
        "unnest([1]) = 1",
    ],
)
def test_a_condition_computes_nothing(where):
    """If this fails, whoever may look at a KPI makes the server work, or has it read what is not
    his."""
    with pytest.raises(UsageError) as caught:
        rollup_sql(measure("count(*)", grain="1d"), table="vals", where=where)
    assert caught.value.code == "SX-KPI-003"


@pytest.mark.parametrize(
    "where",
    [
        "origin = 'EWR' -- and bucket is null",
        "origin in ('EWR', 'JFK') and not carrier ilike 'a%'",
        "bucket >= '2013-02-01' and bucket < date '2013-02-10'",
        "month(bucket) = 2",
        "bucket between '2013-02-01' and '2013-02-03'",
        "weekday(bucket) in (0, 6)",
        "isodow(bucket) < 6",
        "bucket > current_date - interval 7 day",
        "carrier is not null",
        "date_trunc('month', bucket) = '2013-02-01'",
        "extract(year from bucket) = 2013",
        "upper(origin) <> 'EWR' or carrier is distinct from 'AA'",
        "bucket::date = '2013-02-01'",
        "dayofweek(bucket) = 0",
    ],
)
def test_a_condition_says_the_same_when_it_is_written_anew(con, where):
    """If this fails, a KPI is asked with another condition than the one that was given."""
    m = measure("count(*)", grain="1d")
    store(con, m)
    query = rollup_sql(m, table="vals", grain="", where=where, tz=NY)
    assert "--" not in query
    assert (
        con.sql(query).fetchall()
        == con.sql(f"SELECT coalesce(sum(p0), 0)::BIGINT FROM vals WHERE (\n{where}\n)").fetchall()
    )
