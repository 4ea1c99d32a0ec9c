"""Lineage of queries: `author/lineage.py` judged by DuckDB, with two sets of people."""

import duckdb
import pytest

from sextant.kinds.dataset.declarations.lineage import lineage
from sextant.kernel.nouns import Asset, Build, Code, Input, spec_of
from sextant.kinds.dataset.spec import Table
from sextant.kinds.dataset.personal_rule import known, personal_columns

# What is personal of the input `people`: name, pay, face (a struct), tags (a list). Its id, city
# and age are not; nothing of `places` is.
PERSONAL = ("name", "pay", "face", "tags")
PEOPLE = ("id", "city", "age", *PERSONAL)
PLACES = ("city", "land", "id")
# query -> the columns that are personal, and those that are not
CASES: dict[str, tuple[str, str]] = {
    "select * from people": ("name pay face tags", "id city age"),
    "from people": ("name pay face tags", "id city age"),
    "from people select name, city": ("name", "city"),
    "select p.* from people p": ("name pay face tags", "id city age"),
    "select * exclude (name, pay, face) from people": ("tags", "id city age"),
    "select * exclude (name) replace (upper(name) as city) from people": (
        "city pay face tags",
        "id age",
    ),
    "select * rename (name as nick, city as town) from people": (
        "nick pay face tags",
        "id town age",
    ),
    "select name as a, city as b from people": ("a", "b"),
    'select NAME as A, "City" as "B" from People': ("a", "b"),
    "select a: name, b: city from people": ("a", "b"),
    "select upper(name), city from people": ('upper("name")', "city"),
    "select city || name as x, city || city as y from people": ("x", "y"),
    "select coalesce(null, name) as x from people": ("x", ""),
    "select case when pay > 3 then 'rich' else 'poor' end as x, 1 as y from people": ("x", "y"),
    "select pay > 3 as x, if(pay > 3, 1, 0) as y from people": ("x y", ""),
    "select cast(pay as varchar) as x, pay::double as y, try_cast(name as int) as z from people": (
        "x y z",
        "",
    ),
    "select count(*) as n, count(name) as m, count(distinct name) as d, count() as k, city from people group by city": (
        "",
        "n m d k city",
    ),
    "select approx_count_distinct(name) as n, count_if(pay > 3) as k from people": ("", "n k"),
    "select count(*) filter (where pay > 3) as n from people": ("", "n"),
    "select sum(pay) as s, avg(pay) as a, min(name) as i, max(name) as x from people": (
        "s a i x",
        "",
    ),
    "select sum(age) filter (where age > 0) as s, max(city) as c from people": ("", "s c"),
    "select any_value(name) as a, string_agg(name, ',') as b, list(name) as c, first(name) as d, last(name) as e from people": (
        "a b c d e",
        "",
    ),
    "select arg_max(name, age) as a, arg_max(city, age) as b, mode(pay) as c from people": (
        "a c",
        "b",
    ),
    "select median(pay) as m, quantile_cont(pay, 0.5) as q, percentile_cont(0.5) within group (order by pay) as p from people": (
        "m q p",
        "",
    ),
    "select first(city order by id) as a, array_agg(name order by id) as b from people": ("b", "a"),
    "select lag(name) over (order by id) as a, row_number() over (order by name) as b, max(pay) over (partition by city) as c from people": (
        "a c",
        "b",
    ),
    "select first_value(name) over w as a, count(*) over w as b from people window w as (partition by city)": (
        "a",
        "b",
    ),
    "select struct_pack(n := name, c := city) as a, {'c': city} as b, [name] as c from people": (
        "a c",
        "b",
    ),
    "select face.nick, people.face.eyes as e, city from people": ("nick e", "city"),
    "select face['nick'] as a, struct_extract(face, 'nick') as b from people": ("a b", ""),
    "select unnest(tags) as tag, city from people": ("tag", "city"),
    "select unnest(face), city from people": ("nick eyes", "city"),
    "select face.* , city from people": ("nick eyes", "city"),
    "select t.tag, p.city from people p, unnest(p.tags) as t(tag)": ("tag", "city"),
    "select u.x, p.city from people p, lateral (select p.name || '!' as x, p.age as y) u": (
        "x",
        "city",
    ),
    "select u.y from people p, lateral (select p.name || '!' as x, p.age as y) u": ("", "y"),
    "select columns('n.*') from people": ("name", ""),
    "select max(columns(*)) from (select name, city from people)": ("*", ""),
    "select x, y from (select name as x, city as y from people)": ("x", "y"),
    "select * from (select name as x, city as y from people)": ("x", "y"),
    "select q.x from (select name, city from people) q(x, y)": ("x", ""),
    "select q.y from (select name, city from people) q(x, y)": ("", "y"),
    "select b from (select * from people) q(a, b)": ("b", ""),
    "with q as (select name as x, city as y from people) select y, x || 'a' as z from q": (
        "z",
        "y",
    ),
    "with q(a, b) as (select name, city from people), r as (select b as c, a as d from q) select * from r": (
        "d",
        "c",
    ),
    "with people as (select city as name from people) select name from people": ("", "name"),
    "with recursive r as (select id, name from people where id = 1 union all select id + 1, name from r where id < 3) select name, 1 as one from r": (
        "name",
        "one",
    ),
    "select name from people union all select city from people": ("name", ""),
    "select city from people union all select name from people": ("city", ""),
    "select city, 1 as k from people union select land, 2 from places": ("", "city k"),
    "select * from people where id = 1 union all select * from people where id = 2": (
        "name pay face tags",
        "id city age",
    ),
    "select city, name from people union all by name select name as city, id from people": (
        "city name",
        "id",
    ),
    "select city from people except select name from people": ("city", ""),
    "select (select max(name) from people) as x, (select count(*) from people) as y": ("x", "y"),
    "select land, (select max(p.name) from people p where p.city = q.city) as x from places q": (
        "x",
        "land",
    ),
    "select q.land, (select max(q.land || p.city) from people p) as x from places q": (
        "",
        "land x",
    ),
    "select name in (select land from places) as x, land in (select name from people) as y from people, places": (
        "x y",
        "",
    ),
    "select p.name, q.land from people p join places q on p.city = q.city": ("name", "land"),
    "select name, land from people join places using (city)": ("name", "land"),
    "select * from people join places using (city, id)": ("name pay face tags", "id city age land"),
    "select city, land from people left join places using (city) where pay > 1 order by name": (
        "",
        "city land",
    ),
    "select land from places semi join people on people.name = places.land": ("", "land"),
    "select a.city, b.name from people a join people b on a.id = b.id": ("name", "city"),
    "select * from (select q.*, p.* from places q join people p on p.city = q.city)": (
        "name pay face tags",
        "land age city id city_1 id_1",
    ),
    "select id_1 as x, name as y from (select * from places q join people p on p.city = q.city)": (
        "y",
        "x",
    ),
    "select pay as p, p * 2 as q, age as a, a + 1 as b from people": ("p q", "a b"),
    "select name from (select city as name from people)": ("", "name"),
    "select * from (values (1, 'x')) v(a, b)": ("", "a b"),
    "select v.a, name from people, (values (1)) v(a)": ("name", "a"),
    "select s.generate_series as n, city from people, generate_series(1, 2) s": ("", "n city"),
    "select s.i as n from people p, lateral (select unnest(p.tags) as i) s": ("n", ""),
    "select * from (pivot (select city, name, pay from people) on city using max(pay) group by name)": (
        "*",
        "",
    ),
    "select nick as x from (select unnest(face), city as nick from people)": ("x", ""),
    "select * from (select city, id from people) a join (select city, age from people) b using (city) "
    "union all select * from (select city from people) a join (select city, pay, age as k from people) b using (city)": (
        "*",
        "",
    ),
    "select p from people p": ("p", ""),
    "select to_json(p) as j from people p": ("j", ""),
    "select hash(name) as h, md5(name) as m, length(name) as l from people": ("h m l", ""),
    "select distinct on (city) city, name from people order by city": ("name", "city"),
    "select city from people group by city having max(pay) > 0": ("", "city"),
    "select city from people qualify row_number() over (partition by city order by pay) = 1": (
        "",
        "city",
    ),
    "select extract(year from make_date(age, 1, 1)) as y, date_part('day', make_date(pay, 1, 1)) as d from people": (
        "d",
        "y",
    ),
    "select list_filter(tags, lambda t: t <> '') as t, list_transform([age], lambda x: x + 1) as a from people": (
        "t",
        "a",
    ),
    "select #4 as x from people": ("x", ""),
    "select * like 'n%' from people": ("name", ""),
    "select city, count(*) as n from people group by all": ("", "city n"),
    "select grouping(city) as g, sum(pay) as s from people group by rollup (city)": ("s", "g"),
    "select name, city from people tablesample 100%": ("name", "city"),
    "select exists (select 1 from people where name = 'x') as e": ("", "e"),
}


def _tables(name: str, pay: int) -> str:
    row = f"'{name}', {pay}, {{'nick': '{name}', 'eyes': '{name}'}}, ['{name}']"
    return (
        "CREATE OR REPLACE TABLE people AS SELECT * FROM (VALUES "
        f"(1, 'here', 30, {row}), (2, 'there', 40, {row})) t({', '.join(PEOPLE)}); "
        "CREATE OR REPLACE TABLE places AS SELECT * FROM (VALUES "
        f"('here', 'land', 7), ('there', 'sea', 8)) t({', '.join(PLACES)})"
    )


def _personal(query: str, columns: list[str]) -> set[str]:
    inputs = {name: f"dataset:{name}" for name in ("people", "places")}
    found = lineage(query, inputs)
    asset = Asset(
        kind="dataset",
        name="made",
        spec=spec_of(Table(lineage=found)),
        build=Build(
            code=Code(language="sql", entry="", file=""),
            inputs=tuple(Input(name=n, asset=a, frame="sql") for n, a in inputs.items()),
        ),
    )
    facts = {
        "dataset:people": known(PEOPLE, PERSONAL),
        "dataset:places": known(PLACES, ()),
    }
    return {name.lower() for name in personal_columns(asset, columns, facts)}


def _result(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[list[str]]]:
    relation = connection.sql(query)
    rows = relation.fetchall()
    return relation.columns, [sorted(map(repr, column)) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("query", CASES)
def test_a_column_is_personal_when_a_personal_one_flows_into_it(query: str) -> None:
    """If this fails, a value of a person is shown under another name, or a city is hidden."""
    hidden, shown = CASES[query]
    with duckdb.connect() as connection:
        connection.execute(_tables("ann", 2015))
        try:
            columns, before = _result(connection, query)
        except duckdb.Error:
            columns, before = [*hidden.split(), *shown.split()], []
        connection.execute(_tables("bob", 2020))
        after = _result(connection, query)[1] if before else []
    found = _personal(query, columns)
    # other people, other values: the columns that differ are personal, whatever the table says
    differ = {
        name.lower()
        for name, one, other in zip(columns, before, after, strict=False)
        if one != other
    }
    assert differ <= found, "a personal value is in a column that is not hidden"
    if hidden == "*":
        assert found == {name.lower() for name in columns}
        return
    assert found & set(shown.split()) == set()
    assert set(hidden.split()) <= found
    assert found | set(shown.split()) >= {name.lower() for name in columns}
