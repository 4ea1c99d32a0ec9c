"""Which columns a text of SQL must find: no mistake is missed where the schema is known, and nothing
honest is called one. DuckDB is the judge."""

import duckdb
import pytest

from sextant.kinds.dataset.declarations.columns import query_columns

TABLES = {
    "orders": ("id", "shop", "amount", "tags", "buyer", "placed"),
    "shops": ("shop", "city", "orders"),
}
CREATE = """
create table orders (id int, shop text, amount double, tags text[],
    buyer struct(name text, home struct(city text)), placed timestamp);
create table shops (shop text, city text, orders struct(n int));
"""

# queries that DuckDB answers: none may name a column that is not there
HONEST = [
    "select id, SHOP, orders.Amount from orders",
    "select o.id, s.city from orders o join shops s on o.shop = s.shop",
    "select o.id, city from orders as o join shops as s using (shop)",
    "select amount * 2 as twice, twice + 1 as more from orders where twice > 1 order by more",
    "select shop, sum(amount) as total from orders group by all having total > 1 order by total",
    "select shop as s, count(*) from orders group by s",
    "select buyer.name, buyer.home.city, orders.buyer.name from orders",
    "select o.buyer.home.city from orders o",
    "select shops.orders.n, orders.n from shops",
    "select orders.orders.n from shops orders",
    "select x from orders, unnest(tags) as u(x)",
    "select x, placed from orders cross join lateral (select amount + 1 as x) as l",
    "select tag from (select unnest(tags) as tag from orders)",
    "select list_transform(tags, lambda t, i: t || shop || i) from orders",
    "select list_filter(tags, lambda t: t > shop) from orders",
    "select [upper(t) for t in tags if t != shop] from orders",
    "with big as (select * from orders where amount > 1) select id, big.shop from big",
    "with orders as (select id, amount as price from orders) select price from orders",
    "with a as (select shop from orders), b as (select shop as s from a) select s from b",
    "with t(a, b) as (select id, shop from orders) select a, t.b from t",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select n from r",
    "with x as (select o.*, s.* from orders o join shops s using (shop)) select shop_1 from x",
    "select * exclude (id) replace (amount + 1 as amount) from orders",
    "select o.* exclude (o.id) from orders o",
    "select q.price from (select * rename (amount as price) from orders) q",
    "select columns('a.*') from orders",
    "select columns(lambda c: c like 'a%') from orders",
    "select min(columns(* exclude (tags, buyer))) from orders",
    "from orders select id",
    "from orders",
    "select id from orders o where exists (select 1 from shops where city = o.shop and id > 0)",
    "select (select max(city) from shops s where s.shop = o.shop) from orders o",
    "select id from orders where shop in (select shop from shops)",
    "select id from orders semi join shops on orders.shop = shops.shop",
    "select id, city from orders positional join shops",
    "select o.id from orders o asof join orders p on o.shop = p.shop and o.placed >= p.placed",
    "select id from orders union all select orders.n from shops order by id",
    "select id, shop from orders union by name select shop, city from shops order by city",
    "select row_number() over w as n from orders window w as (partition by shop order by placed) "
    "qualify n = 1",
    "select distinct on (shop) id from orders order by shop, placed desc",
    "select * from (pivot orders on shop using sum(amount) group by id)",
    "select north from orders pivot (sum(amount) for shop in ('north')) as p",
    "select name, value from (unpivot (select id, amount::int as a from orders) on id, a)",
    "select v.a from (values (1, 2)) as v(a, b)",
    "select range from range(3)",
    "select d, id from range(3) as r(d) left join orders on id = d",
    "select current_date, localtimestamp, current_user from orders",
    "select date_trunc('day', placed), extract(hour from placed), placed::date from orders",
    "select struct_pack(k := amount), {'k': shop}, map {'a': id}['a'] from orders",
    "select s.x.k from (select {'k': amount} as x from orders) s",
    "select orders from orders",
    "with c as (select {'k': amount} as o, shop from orders) "
    "select o.k from shops o join c on o.shop = c.shop",
    "select orders.* from orders",
    "select buyer.* from orders",
    "select count(*) filter (where amount > 1), arg_max(id, amount) from orders",
    'select "sum(amount)" from (select sum(amount) from orders)',
    "select shop.upper().lower() from orders",
    "select o.shop[1:2], tags[1] from orders o",
    "select n from (select id as n from orders limit 3) order by n limit (select 1)",
    "select a.id from (orders a join shops b on a.shop = b.shop)",
    "select id from orders tablesample 50%",
    "select x: amount + 1, x + 1 as y from orders",
    "select case when amount > 1 then shop else city end from orders natural join shops",
    "select try_cast(shop as int), amount::decimal(9, 2), interval (id) day from orders",
    "select string_agg(shop, ',' order by placed) from orders group by cube(id, shop)",
    "select max(amount) over (order by placed range between interval 1 day preceding "
    "and current row) from orders",
    "select max(x) from (select l.x from orders, lateral (select amount as x) as l)",
    "select memory.main.orders.id, main.orders.id from orders",
    "select json_extract(to_json(buyer), '$.name'), to_json(buyer) -> 'name' from orders",
    "select t.id from (select id from orders union select 1) as t",
    "select max(a) from (select * from orders) as q(a)",
]

# queries that DuckDB refuses, what is missing there, and in which line
WRONG = [
    ("select pricee from orders", "pricee", 1),
    ("select o.shop,\n  o.pricee\nfrom orders o", "pricee", 2),
    ("select id from orders\nwhere\n  citty = 'x'", "citty", 3),
    ("select id from orders o join shops s on o.shop = s.shopp", "shopp", 1),
    ("select id from orders join shops using (shopp)", "shopp", 1),
    ("select id, citty from orders join shops using (shop)", "citty", 1),
    ("select sum(amout) as amout from orders", "amout", 1),
    ("with o as (\n  select id, pricee from orders)\nselect * from o", "pricee", 2),
    ("with o as (select * from orders)\nselect pricee from o", "pricee", 2),
    ("with o as (select id from orders)\nselect shop from o", "shop", 2),
    ("select q.pricee from (select * from orders) q", "pricee", 1),
    ("select id from orders order by pricee", "pricee", 1),
    ("select id from orders group by id having max(pricee) > 1", "pricee", 1),
    ("select id from orders qualify row_number() over (order by pricee) = 1", "pricee", 1),
    ("select count(*) filter (where pricee > 1) from orders", "pricee", 1),
    ("select * exclude (pricee) from orders", "pricee", 1),
    ("select * replace (pricee + 1 as amount) from orders", "pricee", 1),
    ("select list_transform(tags, lambda t: t || pricee) from orders", "pricee", 1),
    ("select [t || pricee for t in tags] from orders", "pricee", 1),
    ("select o.pricee from orders o, unnest(o.tags) as u(x)", "pricee", 1),
    ("select id from orders where exists (select 1 from shops where citty = id)", "citty", 1),
    ("select id from orders union all select pricee from orders", "pricee", 1),
    ("select byer.name from orders", "byer", 1),
    ("select o.byer.name from orders o", "byer", 1),
    ("select case when pricee then 1 end from orders", "pricee", 1),
    ("select '--\n' as a, pricee from orders", "pricee", 2),
    ('select "Pricee" from orders', "Pricee", 1),
]


@pytest.fixture(scope="module")
def judge():
    with duckdb.connect() as connection:
        connection.execute(CREATE)
        yield connection


def missing(query: str) -> list[tuple[str, int]]:
    """What is missing by our reading, with DuckDB's own schemas."""
    found = query_columns(query, {name: name for name in TABLES})
    assert found is not None, query
    return [
        (one.column, one.line)
        for one in found
        if not any(one.column.lower() in TABLES[table] for table in one.of)
        and not any(one.qualifier in TABLES[table] for table in one.scope)
    ]


@pytest.mark.parametrize("query", HONEST)
def test_what_duckdb_answers_is_no_mistake(judge, query):
    """A false alarm would forbid a run that would have been right."""
    judge.execute(f"explain {query}")
    assert missing(query) == []


@pytest.mark.parametrize(("query", "column", "line"), WRONG)
def test_what_duckdb_does_not_find_is_a_mistake_with_its_line(judge, query, column, line):
    """It would be met by a step, an hour into a run."""
    with pytest.raises(duckdb.BinderException):
        judge.execute(f"explain {query}")
    assert set(missing(query)) == {(column, line)}


def test_an_unqualified_column_beside_an_unknown_table_is_left_alone():
    """It may be the other's."""
    (read,) = query_columns("select city from orders, unmade", {"orders": "a", "unmade": "b"})
    assert read.of == ("a", "b")
    assert query_columns("select city from orders, unnest([1]) as t", {"orders": "a"}) == []


def test_what_the_parser_cannot_follow_is_none():
    """It would end the load of the whole project."""
    assert query_columns("select " + "(" * 3000 + "1" + ")" * 3000, {}) is None
    assert query_columns("select from where", {}) is None
