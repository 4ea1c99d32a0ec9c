"""What a column depends on: `flows.py` judged by DuckDB, on queries that are made up.

Changing what lineage does not name must change nothing; what sqlglot names, lineage names too.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import duckdb
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import lineage as peer

from sextant.kinds.dataset.flows import Flow, flow

TABLES = {"t": ("a", "b", "c", "d"), "u": ("a", "k", "x", "y")}
INPUTS = {name: f"dataset:{name}" for name in TABLES}
COLUMNS = {INPUTS[name]: columns for name, columns in TABLES.items()}
ROWS = {
    "t": [(1, 5, 2, 1), (2, 5, None, 3), (3, 1, 2, 2), (1, 2, 0, 1), (None, 4, 3, 7), (4, 2, 2, 2)],
    "u": [(1, 2, 9, 0), (2, 2, 4, 1), (2, 5, None, 3), (5, 1, 7, 2), (3, None, 1, 1)],
}
CHANGES = ([7, 3, None, 5, 2, 2], [None] * 6, [0, 1, 2, 3, 4, 5])


# ---------------------------------------------------------------- queries that are made up


@st.composite
def expressions(draw: st.DrawFn, names: list[str], depth: int = 2) -> str:
    """Return an expression over one row: a number."""
    name = st.sampled_from(names)
    if depth == 0:
        return draw(name)
    inner = expressions(names, depth - 1)
    form = draw(st.sampled_from("column column sum least case coalesce null constant".split()))
    if form == "column":
        return draw(name)
    if form == "constant":
        return str(draw(st.integers(0, 3)))
    one, other = draw(inner), draw(inner)
    return {
        "sum": f"({one} + {other})",
        "least": f"least({one}, {other})",
        "case": f"(case when {one} > {other} then {draw(name)} else 1 end)",
        "coalesce": f"coalesce({one}, {other}, 0)",
        "null": f"nullif({one}, {other})",
    }[form]


@st.composite
def aggregates(draw: st.DrawFn, names: list[str]) -> str:
    value, other = draw(expressions(names, 1)), draw(st.sampled_from(names))
    return draw(
        st.sampled_from(
            [
                f"sum({value})",
                f"min({value})",
                f"max({value})",
                f"count({value})",
                "count(*)",
                f"count(distinct {value})",
                f"sum({value}) filter (where {other} > 1)",
                f"count(*) filter (where {other} > 1)",
                f"count_if({value} > 2)",
                f"list_sum(list({value} order by {other}, {value})[1:2])",
            ]
        )
    )


@st.composite
def windows(draw: st.DrawFn, names: list[str]) -> str:
    # ordered by all that can be told apart, so that ties change nothing
    value, part = draw(expressions(names, 1)), draw(st.sampled_from(names))
    order = draw(st.sampled_from(names))
    return draw(
        st.sampled_from(
            [
                f"rank() over (partition by {part} order by {order})",
                f"sum({value}) over (partition by {part})",
                f"max({value}) over (order by {order})",
                f"count(*) over (partition by {part} order by {order})",
                "count(*) over ()",
            ]
        )
    )


@st.composite
def sources(draw: st.DrawFn, depth: int, ctes: dict[str, list[str]]) -> tuple[str, list[str]]:
    """Return a FROM and the names that can be used over it."""
    known = {**{name: list(columns) for name, columns in TABLES.items()}, **ctes}
    form = draw(st.sampled_from("table table inner join using semi left cross".split()))
    table = draw(st.sampled_from(sorted(known)))
    if form == "inner" and depth:
        text, columns = draw(queries(depth - 1, ctes))
        return f"({text}) as q", [f"q.{one}" for one in columns]
    if form in ("table", "inner"):
        return f"{table} as q", [f"q.{one}" for one in known[table]]
    other = draw(st.sampled_from(sorted(known)))
    left, right = [
        [f"{alias}.{one}" for one in known[name]] for alias, name in (("p", table), ("r", other))
    ]
    compared = f"{draw(st.sampled_from(left))} = {draw(st.sampled_from(right))}"
    if form == "cross":
        return f"{table} as p, {other} as r", left + right
    if form == "semi":
        return (
            f"{table} as p {draw(st.sampled_from(['semi', 'anti']))} join {other} as r on {compared}",
            left,
        )
    shared = [one for one in known[table] if one in known[other]]
    if form == "using" and shared:
        column = draw(st.sampled_from(shared))
        names = [one for one in left + right if not one.endswith(f".{column}")]
        return f"{table} as p full join {other} as r using ({column})", [*names, column]
    kind = draw(st.sampled_from(["join", "left join", "full join"]))
    return f"{table} as p {kind} {other} as r on {compared}", left + right


@st.composite
def conditions(draw: st.DrawFn, names: list[str]) -> str:
    one, other = draw(expressions(names, 1)), draw(st.sampled_from(names))
    return draw(
        st.sampled_from(
            [
                f"{one} > 1",
                f"{one} is not null",
                f"{one} <= {other}",
                f"{other} in (select k from u)",
                f"exists (select 1 from t as i where i.b = {other})",
                f"{one} > (select min(y) from u where x > 3)",
            ]
        )
    )


@st.composite
def selects(draw: st.DrawFn, depth: int, ctes: dict[str, list[str]]) -> tuple[str, list[str]]:
    text, names = draw(sources(depth, ctes))
    where = f" where {draw(conditions(names))}" if draw(st.booleans()) else ""
    count = draw(st.integers(1, 3))
    columns = [f"o{n}" for n in range(count)]
    form = draw(
        st.sampled_from("rows rows grouped grouped all whole star windows distinct cut".split())
    )
    if form == "star" and text.endswith(" as q"):
        drop = draw(st.sampled_from(names)).removeprefix("q.")
        kept = [one.removeprefix("q.") for one in names if one != f"q.{drop}"]
        if kept:
            return f"select * exclude ({drop}) from {text}{where}", kept
    if form in ("grouped", "all"):
        key = draw(expressions(names, 1))
        values = [draw(aggregates(names)) for _ in columns]
        chosen = ", ".join(f"{one} as {name}" for one, name in zip(values, columns, strict=True))
        having = f" having {draw(aggregates(names))} is not null" if draw(st.booleans()) else ""
        by = "all" if form == "all" else draw(st.sampled_from(["1", f"({key})"]))
        if key.isdecimal() and by not in ("1", "all"):
            by = "1"
        return f"select {key} as g, {chosen} from {text}{where} group by {by}{having}", [
            "g",
            *columns,
        ]
    if form == "whole":
        values = [draw(aggregates(names)) for _ in columns]
    elif form == "windows":
        values = [draw(st.one_of(windows(names), expressions(names))) for _ in columns]
    else:
        scalar = f"(select max(i.x) from u as i where i.k = {draw(st.sampled_from(names))})"
        values = [draw(st.one_of(expressions(names), st.just(scalar))) for _ in columns]
    chosen = ", ".join(f"{one} as {name}" for one, name in zip(values, columns, strict=True))
    tail = ""
    if form == "windows" and draw(st.booleans()):
        tail = f" qualify rank() over (partition by {draw(st.sampled_from(names))} order by {draw(st.sampled_from(names))}) = 1"
    if form == "cut":  # by all that is chosen, so that ties are alike
        tail = f" order by {', '.join(str(n + 1) for n in range(count))} limit 3"
    distinct = "distinct " if form == "distinct" else ""
    return f"select {distinct}{chosen} from {text}{where}{tail}", columns


@st.composite
def queries(
    draw: st.DrawFn, depth: int = 2, ctes: dict[str, list[str]] | None = None
) -> tuple[str, list[str]]:
    """Return a query and its columns."""
    ctes = ctes or {}
    form = draw(st.sampled_from("select select select with union".split()))
    if form == "select" or not depth:
        return draw(selects(depth, ctes))
    name = f"w{depth}"
    if form == "with":
        text, columns = draw(queries(depth - 1, ctes))
        outer, made = draw(selects(depth - 1, {**ctes, name: columns}))
        return f"with {name} as ({text}) {outer}", made
    left, columns = draw(queries(depth - 1, ctes))
    right, others = draw(queries(depth - 1, ctes))
    count = min(len(columns), len(others))
    kind = draw(st.sampled_from(["union", "union all", "except", "intersect"]))
    names = [f"v{n}" for n in range(count)]
    halves = [
        f"select {', '.join(f'z.{one}::varchar as {name}' for one, name in zip(made[:count], names, strict=True))} from ({half}) as z"
        for half, made in ((left, columns), (right, others))
    ]
    # numbers again, so that what reads it can count with them
    cast = ", ".join(f"try_cast({one} as integer) as {one}" for one in names)
    return f"select {cast} from ({halves[0]} {kind} {halves[1]}) as s", names


# ---------------------------------------------------------------- the judge


def _filled(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    column: str = "",
    values: Sequence[int | None] = (),
) -> None:
    """Make a table as it is, or with other values of one column."""
    columns = TABLES[name]
    rows = [list(row) for row in ROWS[name]]
    for row, value in zip(rows, values, strict=False):
        row[columns.index(column)] = value
    cells = [", ".join("null" if one is None else str(one) for one in row) for row in rows]
    connection.execute(
        f"create or replace table {name} as select {', '.join(f'{one}::integer as {one}' for one in columns)}"
        f" from (values {', '.join(f'({row})' for row in cells)}) as v({', '.join(columns)})"
    )


def _rows(connection: duckdb.DuckDBPyConnection, text: str, places: list[int]) -> Counter[str]:
    return Counter(repr([row[at] for at in places]) for row in connection.execute(text).fetchall())


def _unnamed(found: Flow, columns: list[str]) -> Iterator[tuple[str, str, list[int]]]:
    """Yield each column of an input that decides no rows, with the places of the columns that it
    does not flow into."""
    decided = set(found.decided_by())
    made = [set(found.made_of(one) or ()) for one in columns]
    for name, inputs in TABLES.items():
        for column in inputs:
            source = (INPUTS[name], column)
            if source not in decided:
                yield name, column, [at for at, of in enumerate(made) if source not in of]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    for name in TABLES:
        _filled(connection, name)
    yield connection
    connection.close()


def judge(connection: duckdb.DuckDBPyConnection, text: str, columns: list[str]) -> int:
    """Change every column that lineage does not name, and compare. Return how many were changed."""
    found = flow(text, INPUTS, COLUMNS)
    assert found is not None, text
    assert all(found.made_of(one) is not None for one in columns), text
    count = 0
    for name, column, places in _unnamed(found, columns):
        before = _rows(connection, text, places)
        for values in CHANGES:
            _filled(connection, name, column, values)
            after = _rows(connection, text, places)
            assert before == after, (
                f"{name}.{column} changes {[columns[at] for at in places]} of\n{text}"
            )
            count += 1
        _filled(connection, name)
    return count


@settings(max_examples=120, derandomize=True, deadline=None, database=None)
@given(made=queries())
def test_what_lineage_does_not_name_changes_nothing(
    duck: duckdb.DuckDBPyConnection, made: tuple[str, list[str]]
) -> None:
    """Who changes a column is told wrongly that a number does not depend on it."""
    for name in TABLES:  # the last one may have failed in the middle
        _filled(duck, name)
    judge(duck, *made)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(made=queries())
def test_what_sqlglot_names_is_named(made: tuple[str, list[str]]) -> None:
    """A column that flows into another by a peer's reading is missing in ours."""
    text, columns = made
    found = flow(text, INPUTS, COLUMNS)
    assert found is not None
    schema = {name: dict.fromkeys(names, "int") for name, names in TABLES.items()}
    for column in columns:
        try:
            root = peer.lineage(column, text, schema=schema, dialect="duckdb")
        except (sqlglot.errors.SqlglotError, ValueError, KeyError, AttributeError):
            continue  # it does not answer
        named = {
            (f"dataset:{node.source.name}", node.name.rpartition(".")[2].strip('"'))
            for node in root.walk()
            if not node.downstream and isinstance(node.source, sqlglot.exp.Table)
        }
        named = {one for one in named if one[1] in COLUMNS.get(one[0], ())}
        ours = {*(found.made_of(column) or ()), *found.decided_by()}
        assert named <= ours, f"{column}: {named - ours} of\n{text}"


# one for each way in which a column can matter, none of which is in the result by itself
CLAUSES = [
    "select a as o0 from t where b > 1",
    "select a as o0, count(*) as o1 from t group by a having max(b) > 2",
    "select a as o0 from t qualify rank() over (partition by c order by b) = 1",
    "select sum(a) as o0 from t group by d",
    "select count(*) as o0 from t group by b",
    "select count(*) as o0 from (select b, c from t group by all)",
    "select sum(a) as o0 from (select a, b from t group by cube (a, b))",
    "select a as o0 from t order by b, a limit 2",
    "select o0 from (select a as o0, b as z from t order by 2, 1 limit 2)",
    "select o0 from ((select a as o0, b as z from t) order by z, o0 limit 2)",
    "select o0 from (select a as o0, b as z from t union all select 1, 2 order by z, o0 limit 2)",
    "select a as o0 from t order by all limit 2",
    "select p.a as o0 from t p join u r on p.b = r.k",
    "select p.b as o0 from t p join u r using (a)",
    "select p.b as o0 from t p natural join u r",
    "select p.a as o0 from t p semi join u r on p.b = r.k",
    "select p.a as o0 from t p asof join u r on p.b >= r.k",
    "select count(*) as o0 from (select distinct b, c from t)",
    "select count(*) as o0 from (select distinct on (b) b from t)",
    "select count(*) as o0 from (select a, b from t union select a, k from u)",
    "select count(*) as o0 from (select a from t intersect all select k from u)",
    "select a as o0 from t where exists (select 1 from u where u.k = t.b)",
    "select a as o0 from t where b in (select k from u where x > 3)",
    "select a as o0, (select count(*) from u where u.k = t.b) as o1 from t",
    "select count(*) as o0 from (select unnest([b, c]), a from t where b is not null)",
    "select a as o0 from t, unnest(range(coalesce(b, 0))) as v(n)",
    "select a as o0 from t, range(3) as v(n) where v.n < t.b",
    "select a as o0 from t limit (select max(k) from u)",
    "select count(b) as o0, count(distinct c) as o1, count(*) as o2 from t",
    "select sum(a) filter (where b > 1) as o0, a as o1 from t group by a",
    "select rank() over w as o0, sum(a) over (partition by b) as o1 from t window w as (order by c)",
    "select list(a order by b, a) as o0 from t",
    "select case when b > 2 then 1 else 0 end as o0, if(c > 1, 2, 3) as o1 from t",
    "with recursive r as (select a, b from t where c = 2 union all select a + 1, b from r where a < 3) select a as o0 from r",
    "select o0 from (select a as o0, b as z from t) as q where z > 1",
    "with q as (select a, b as z from t where c > 1) select max(a) as o0 from q group by z",
    "select columns('a|b') from t where c > 0",
    "select a as o0 from (pivot t on b using sum(c) group by a)",
    "select list_transform([a, 2], lambda x: x + b) as o0, c as o1 from t",
    "select a as o0 from t union all select k from u",
    "with q(o0, z) as (select a + b, c from t) select o0 from q",
    "select max(a) as o0 from t group by grouping sets ((b), (c), ())",
]


@pytest.mark.parametrize("text", CLAUSES)
def test_every_clause_that_matters_is_read(duck: duckdb.DuckDBPyConnection, text: str) -> None:
    """A column by which a query joins, groups, filters, orders or cuts is told not to matter."""
    judge(duck, text, [one[0] for one in duck.execute(text).description])


def test_what_is_not_read_is_not_named() -> None:
    """A reader that names everything would pass all of the above and help nobody."""
    found = flow(
        "with q as (select a, b as z, c from t where d > 1) select z + a as s, count(x) over (partition by u.k) as n, 1 as one"
        " from q join u using (a)",
        INPUTS,
        COLUMNS,
    )
    assert found is not None
    t, u = "dataset:t", "dataset:u"
    assert found.made_of("S") == ((t, "a"), (t, "b"), (u, "a"))
    assert found.made_of("n") == ((u, "k"), (u, "x"))
    assert found.made_of("one") == ()
    assert found.made_of("c") is None
    assert found.decided_by() == ((t, "a"), (t, "d"), (u, "a"))


def test_a_star_hands_through_what_the_input_has() -> None:
    """Columns of `select *` would lead nowhere, or to inputs that do not have them."""
    text = "select * exclude (b) rename (c as town) from t"
    found = flow(text, INPUTS, {"dataset:t": ("A", "b", "C")})
    assert found is not None
    assert found.names() == ("a", "town")
    assert found.made_of("a") == (("dataset:t", "A"),)
    assert found.made_of("town") == (("dataset:t", "C"),)
    unknown = flow(text, INPUTS, {})
    assert unknown is not None
    assert unknown.made_of("other") == (("dataset:t", "other"),)
    assert unknown.made_of("b") is None


@pytest.mark.parametrize(
    "text", ["select a from t connect by a > 1", "not a query", "select a from nowhere"]
)
def test_what_is_not_understood_is_not_guessed(text: str) -> None:
    """A query that cannot be followed would be said to depend on nothing."""
    assert flow(text, INPUTS, COLUMNS) is None
