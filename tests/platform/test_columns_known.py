"""Columns that a project names, looked up in the schemas that are known before anything runs."""

import pytest

from sextant.app.operations import Operations
from sextant.engine.plan import Request
from sextant.kernel.errors import ProjectError

ORDERS = """
@sx.dataset(partition=days, key="id", time="at", checks=[CHECKS])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "at": [day.start], "shop": ["north"], "amount": [2.0]})
"""
SQL = "-- key: id\n-- check: not_null(shop)\nselect id, shop, amount\nfrom orders\n"
REST = """
revenue = sx.sql("revenue.sql")
sx.kpi("takings", of="orders", measure="sum(amount)", by=["shop"], where="amount > 0")
"""


@pytest.fixture
def write(shop):
    def write(*, orders=ORDERS, sql=SQL, rest=REST, checks=""):
        (shop.root / "revenue.sql").write_text(sql)
        shop.write(orders.replace("CHECKS", checks) + rest)

    return write


def refused(call) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        call()
    return caught.value


def line_of(shop, text, file="ops.py"):
    lines = (shop.root / file).read_text().splitlines()
    return next(f"{file}:{n}" for n, line in enumerate(lines, 1) if text in line)


MISTAKES = [
    (
        {"rest": REST.replace("sum(amount)", "sum(amout)")},
        "the KPI `takings` reads the column `amout`, which `dataset:orders` does not have",
        "did you mean `amount`?",
        ("sx.kpi(", "ops.py"),
    ),
    (
        {"rest": REST.replace("amount > 0", "orders.amout > 0")},
        "the KPI `takings` reads the column `amout`, which `dataset:orders` does not have",
        "did you mean `amount`?",
        ("sx.kpi(", "ops.py"),
    ),
    (
        {"rest": REST.replace('["shop"]', '["Shop"]')},
        "the KPI `takings` reads the column `Shop`, which `dataset:orders` does not have",
        "did you mean `shop`?",
        ("sx.kpi(", "ops.py"),
    ),
    (
        {"checks": 'sx.not_null("shopp")'},
        "the check `not_null(shopp)` of `orders` reads the column `shopp`, which `dataset:orders` "
        "does not have",
        "did you mean `shop`?",
        ("@sx.dataset(", "ops.py"),
    ),
    (
        {"checks": 'sx.sql_check("c", "select * from this where Amout < 0")'},
        "the check `c` of `orders` reads the column `Amout`, which `dataset:orders` does not have",
        "did you mean `amount`?",
        ("@sx.dataset(", "ops.py"),
    ),
    (
        {"sql": SQL.replace("-- check: not_null(shop)", "-- check: between(amont, 0, 9)")},
        "the check `between(amont, 0, 9)` of `revenue` reads the column `amont`, which "
        "`dataset:revenue` does not have",
        "did you mean `amount`?",
        ("-- check", "revenue.sql"),
    ),
    (
        {"sql": SQL.replace("not_null(shop)", "foreign_key(id, to=orders.idd)")},
        "the check `foreign_key(id, orders.idd)` of `revenue` reads the column `idd`, which "
        "`dataset:orders` does not have",
        "did you mean `id`?",
        ("-- check", "revenue.sql"),
    ),
    (
        {"sql": SQL.replace("from orders", "from orders\nwhere amout > 0")},
        "the SQL of `revenue` reads the column `amout`, which `dataset:orders` does not have",
        "did you mean `amount`?",
        ("amout", "revenue.sql"),
    ),
]


@pytest.mark.parametrize(("edit", "message", "hint", "place"), MISTAKES)
def test_a_mistyped_column_is_an_error_of_the_plan(shop, write, edit, message, hint, place):
    """A step would meet it, with DuckDB's words and without the line."""
    write()
    with shop.open() as p:
        assert p.runs.run("dev", Request(), by=p.core.authorization.who()).state == "finished"
        assert Operations(p).plan().unchecked == {}
        write(**edit)
        p.core.project.load()
        error = refused(lambda: Operations(p).plan())
        assert (error.code, error.message) == ("SX-PLAN-005", message)
        assert error.hint.startswith(hint)
        assert error.where == line_of(shop, *place)


def test_a_run_of_a_person_refuses_before_anything_starts_and_a_schedule_goes_on(shop, write):
    """An hour of work would be done before the step that cannot be done."""
    write()
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(rest=REST.replace("sum(amount)", "sum(amout)").replace('["shop"]', '["shp"]'))
        p.core.project.load()
        before = p.ledger.size()
        error = refused(lambda: Operations(p).run())
        assert error.code == "SX-PLAN-006"
        assert "names 2 columns that are not there" in error.message
        assert "`amout`" in error.message
        assert "`shp`" in error.message
        assert p.ledger.size() == before
        # what is not about it can be run, and status is no plan
        assert Operations(p).run(assets=["revenue"], force=True).state == "finished"
        assert Operations(p).status()["assets"]
        assert (
            p.runs.run("dev", Request(), by=p.core.authorization.who(), trigger="schedule").state
            == "failed"
        )


def test_what_has_not_been_made_is_said_and_not_guessed(shop, write):
    """Silence would look like a plan that was checked."""
    write(rest=REST.replace("sum(amount)", "sum(anything)"), checks='sx.not_null("anything")')
    with shop.open() as p:
        unchecked = Operations(p).plan().unchecked
    assert unchecked["kpi:takings"] == {"dataset:orders": "has not been made yet"}
    assert unchecked["dataset:revenue"] == {
        "dataset:orders": "has not been made yet",
        "dataset:revenue": "has not been made yet",
    }
    assert unchecked["dataset:orders"] == {"dataset:orders": "has not been made yet"}


REGION = ORDERS.replace('"amount": [2.0]', '"amount": [2.0], "region": ["x"]')


def test_a_dataset_that_the_plan_makes_again_with_changed_code_is_unknown(shop, write):
    """The column may be what the edit adds."""
    kpi = REST.replace('by=["shop"]', 'by=["region"]')
    write()
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(orders=REGION, rest=kpi)
        p.core.project.load()
        # not made again by itself, the column is not there; asked for, nobody knows
        error = refused(lambda: Operations(p).plan())
        assert "`sextant backfill dataset:orders --stale`" in error.hint
        stale = Operations(p).plan(assets=["orders"], stale=True)
        assert stale.unchecked["kpi:takings"] == {
            "dataset:orders": "is made again with changed code"
        }
        report = Operations(p).run(assets=["orders"], stale=True, trigger="backfill")
        assert (report.state, Operations(p).plan().unchecked) == ("finished", {})


def test_what_a_changed_dataset_says_of_itself_is_not_looked_up_in_its_old_rows(shop, write):
    """The check of a column that the same edit adds would be refused for ever."""
    write()
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(orders=REGION, checks='sx.not_null("region")')
        p.core.project.load()
        assert Operations(p).plan().unchecked["dataset:orders"] == {
            "dataset:orders": "has not been made with its present code"
        }


PASSED = '\n@sx.dataset(partition=days, time="at")\ndef copied(orders): return orders\n'
COLUMNS = (
    'columns={"id": "string", "at": "timestamptz", "shop": "string", "amount": "float64"}, checks='
)


def test_columns_may_come_through_what_declares_some_of_them(shop, write):
    """What is declared is there for certain; it is not all."""
    write(orders=ORDERS.replace("checks=", COLUMNS), rest=PASSED)
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(
            orders=REGION.replace("checks=", COLUMNS),
            rest=PASSED + 'sx.kpi("k", of="copied", measure="max(region)", grain="")\n',
        )
        p.core.project.load()
        plan = Operations(p).plan(assets=["orders"], stale=True)
        assert plan.unchecked["kpi:k"]["dataset:copied"] == "is made again of changed columns"


def test_a_field_of_a_struct_that_is_called_like_its_table_is_no_mistake(shop):
    """DuckDB finds it."""
    (shop.root / "prices.sql").write_text("select items.price, items.n from items\n")
    items = (
        "@sx.dataset()\ndef items() -> pl.DataFrame:\n"
        '    return pl.DataFrame({"n": [1], "items": [{"price": 2.0}]})\n'
    )
    shop.write(items + 'sx.sql("prices.sql")\n')
    with shop.open() as p:
        assert p.runs.run("dev", Request(), by=p.core.authorization.who()).state == "finished"
        assert Operations(p).plan().unchecked == {}


def test_columns_that_come_through_a_dataset_of_unchanged_code_are_no_mistake(shop, write):
    """`select *` hands on what its input gets: the run that brings the column would be refused."""
    write(rest=PASSED + REST)
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(
            orders=REGION,
            rest=PASSED + REST.replace('of="orders"', 'of="copied"').replace("shop", "region"),
        )
        p.core.project.load()
        plan = Operations(p).plan(assets=["orders"], stale=True)
        assert plan.unchecked["kpi:takings"]["dataset:copied"] == "is made again of changed columns"
        # also when the input is live with the column already
        p.runs.run(
            "dev",
            Request(assets=("dataset:orders",), stale=True, downstream=False),
            by=p.core.authorization.who(),
        )
        assert (
            Operations(p).plan().unchecked["kpi:takings"]["dataset:copied"]
            == "is made again of changed columns"
        )
        assert Operations(p).run().state == "finished"
        assert Operations(p).plan().unchecked == {}


def test_new_partitions_of_unchanged_code_keep_a_schema_known(shop, write):
    """A mistake of today would be found tomorrow."""
    write()
    with shop.open() as p:
        p.runs.run(
            "dev", Request(partitions=("2026-01-01", "2026-01-02")), by=p.core.authorization.who()
        )
        plan = Operations(p).plan()
        assert plan.steps
        assert plan.unchecked == {}


def test_declared_columns_are_certain_and_a_stream_has_no_others(shop):
    """Both are known before the first row."""
    shop.write(
        'sx.stream("sales", columns={"id": "int64", "amount": "float64"}, key="id")\n'
        '@sx.dataset(columns={"id": "int64"})\ndef bought() -> pl.DataFrame: ...\n'
        'sx.kpi("a", of="bought", measure="max(id)", grain="")\n'
        'sx.kpi("b", of="bought", measure="max(other)", grain="")\n'
    )
    with shop.open() as p:
        assert Operations(p).plan().unchecked == {
            "kpi:b": {"dataset:bought": "has not been made yet"}
        }
        shop.write(
            'sx.stream("sales", columns={"id": "int64", "amount": "float64"}, key="id")\n'
            'sx.kpi("c", of="sales", measure="max(amout)", grain="")\n'
        )
        p.core.project.load()
        error = refused(lambda: Operations(p).plan())
        assert error.message.endswith("`amout`, which `dataset:sales` does not have")


def test_sql_that_is_not_understood_is_said(shop, write, monkeypatch):
    """It would pass for checked."""
    import sextant.kinds.dataset.declarations.columns as reading

    monkeypatch.setattr(reading, "COLUMN_READS_MAX", 0)
    write()
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        unchecked = Operations(p).plan().unchecked
    assert unchecked["dataset:revenue"] == {
        "dataset:orders": "is read by SQL that is not understood"
    }


def test_many_mistakes_are_counted_and_the_first_are_listed(shop, write, monkeypatch):
    """A renamed column may be named a thousand times."""
    from sextant.kinds.dataset import made

    monkeypatch.setattr(made, "COLUMN_MISTAKES_SHOWN_MAX", 2)
    write()
    with shop.open() as p:
        p.runs.run("dev", Request(), by=p.core.authorization.who())
        write(sql="select id, a, b, c, d from orders")
        p.core.project.load()
        error = refused(lambda: Operations(p).plan())
    assert "names 4 columns" in error.message
    assert error.message.endswith("and 2 more")


def test_the_command_says_what_it_could_not_check():
    """A line of its own for each reason, and not more than three."""
    from sextant.cli.work import _unchecked_lines

    many = {f"kpi:k{n}": {f"dataset:d{n % 5}": "has not been made yet"} for n in range(20)}
    lines = _unchecked_lines({**many, "dataset:x": {"dataset:x": "has not been made yet"}})
    assert lines == [
        "columns not checked: kpi:k0, kpi:k5, kpi:k10 and 1 more (dataset:d0 has not been made "
        "yet)",
        "columns not checked: kpi:k1, kpi:k6, kpi:k11 and 1 more (dataset:d1 has not been made "
        "yet)",
        "columns not checked: kpi:k2, kpi:k7, kpi:k12 and 1 more (dataset:d2 has not been made "
        "yet)",
        "and 3 more",
    ]
    assert _unchecked_lines({}) == []
