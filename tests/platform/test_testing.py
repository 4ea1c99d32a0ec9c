"""What authors get for the tests of their projects."""

from seen import views
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import sextant as sx
from sextant import testing
from sextant.kernel.errors import BadData, ProjectError
from sextant.testing import ManualClock, Request

OPS = """
import polars as pl
import sextant as sx

sx.project("shop")
days = sx.daily(start="2026-01-01", end="2026-02-01")

@sx.dataset(partition=days, key="id", checks=[sx.not_null("shop")])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "shop": ["north"]})
"""


def test_a_project_of_files_runs_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If this fails, a test of a project touches the user's keys, or leaves modules and folders
    behind."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "untouched"))
    path = list(sys.path)
    monkeypatch.delitem(sys.modules, "ops", raising=False)  # another test's
    with testing.platform({"ops.py": OPS}, at=datetime(2026, 1, 4, tzinfo=UTC)) as p:
        report = p.runs.run("dev", Request(), by=p.core.authorization.who())
        assert (report.state, report.rows) == ("finished", 3)
        assert views(p).count("dev", "orders") == 3
        assert isinstance(p.core.clock, ManualClock)
        p.core.clock.wait(timedelta(days=1).total_seconds())
        assert p.runs.run("dev", Request(), by=p.core.authorization.who()).rows == 1
        assert p.sealing.checkpoint()
        assert p.sealing.witness_path.is_relative_to(p.core.project.root.parent)
        folder = p.core.project.root
    assert not folder.exists()
    assert not (tmp_path / "untouched").exists()
    assert sys.path == path
    assert "ops" not in sys.modules


def test_a_folder_is_copied_not_used(tmp_path: Path) -> None:
    """If this fails, a test writes into the project that it tests."""
    (tmp_path / "work.py").write_text(OPS)
    (tmp_path / "sextant.toml").write_text('module = "work"\nenvironment = "prod"\n')
    with testing.platform(tmp_path, user="ann") as p:
        assert p.core.project.config.environment == "prod"
        assert str(p.core.authorization.who()) == "person:ann"
    with testing.platform(tmp_path, toml='module = "work"\n') as p:
        assert p.core.project.config.environment == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sextant.toml", "work.py"]


def test_two_projects_with_one_module_name_do_not_mix() -> None:
    """If this fails, the second test of a file runs the code of the first."""
    for shop in ("north", "south"):
        with testing.platform(
            {"ops.py": OPS.replace("north", shop)}, at=datetime(2026, 1, 2, tzinfo=UTC)
        ) as p:
            p.runs.run("dev", Request(), by=p.core.authorization.who())
            assert views(p).show("dev", "orders")["sample"][0]["shop"] == shop


def test_a_broken_project_says_where() -> None:
    """If this fails, a mistake in a project under test hides behind a traceback of ours."""
    with (
        pytest.raises(ProjectError, match="2 mistakes|no setting") as caught,
        testing.platform({"ops.py": OPS.replace("key=", "keys=")}),
    ):
        pass
    assert caught.value.where.startswith("ops.py:")


@sx.check(severity="warn")
def small(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that are not small."""
    return rows.filter(pl.col("amount") > 100)


@sx.dataset(
    key="id",
    time="at",
    personal="mail",
    checks=[
        sx.not_null("mail"),
        sx.foreign_key("shop", to="shops.name"),
        sx.fresh(within="1h"),
        small,
    ],
)
def orders() -> pl.DataFrame:
    """Return nothing: only its checks are looked at."""
    return pl.DataFrame()


ROWS = {
    "id": [1, 1],
    "at": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
    "mail": ["a@b", None],
    "shop": ["north", "nowhere"],
    "amount": [5, 500],
}


def test_checks_of_a_dataset_are_those_that_gate_it() -> None:
    """If this fails, a check that passes in a project's tests stops its publish, or the other way
    round."""
    found = testing.check(
        orders,
        pl.DataFrame(ROWS),
        references={"shops": pl.DataFrame({"name": ["north"]})},
        at=datetime(2026, 1, 1, 2, tzinfo=UTC),
    )
    assert {r.name: r.ok for r in found} == {
        "unique(id)": False,
        "not_null(mail)": False,
        "foreign_key(shop, shops.name)": False,
        "fresh(1h)": False,
        "small": False,
    }
    assert {r.failed for r in found} == {1}
    assert [r.name for r in found if r.severity == "warn"] == ["small"]
    good = pl.DataFrame(ROWS).head(1)
    assert all(
        r.ok
        for r in testing.check(
            orders, good, references={"dataset:shops": good.select(name="shop")}, at=ROWS["at"][0]
        )
    )


def test_one_check_several_checks_and_any_kind_of_frame() -> None:
    """If this fails, a check can only be tried inside of a dataset, or on one kind of frame."""
    assert not testing.check(sx.not_null("mail"), pl.DataFrame(ROWS))[0].ok
    assert [r.ok for r in testing.check([sx.unique("id"), small], pd.DataFrame(ROWS).head(1))] == [
        True,
        True,
    ]
    assert testing.check(
        sx.sql_check("none", "select * from this where amount < 0"), pl.LazyFrame(ROWS)
    )[0].ok
    with pytest.raises(BadData):
        testing.check(small, [1, 2, 3])


def test_checks_of_a_sql_dataset_come_from_its_header(tmp_path: Path) -> None:
    """If this fails, what stands in a `.sql` header cannot be tested."""
    (tmp_path / "daily.sql").write_text(
        "-- key: day\n-- check: between(share, 0, 1)\nselect day, share from rows\n"
    )
    daily = sx.sql(str(tmp_path / "daily.sql"))
    found = testing.check(daily, pl.DataFrame({"day": [1, 1], "share": [0.5, 2.0]}))
    assert {r.name: r.ok for r in found} == {"unique(day)": False, "between(share, 0, 1)": False}


def test_a_frozen_dataset_refuses_a_new_column() -> None:
    """If this fails, `schema="freeze"` is a word without effect."""
    frozen = OPS.replace('key="id"', 'key="id", schema="freeze"')
    with testing.platform({"ops.py": frozen}, at=datetime(2026, 1, 3, tzinfo=UTC)) as p:
        assert p.runs.run("dev", Request(), by=p.core.authorization.who()).state == "finished"
        (p.core.project.root / "ops.py").write_text(
            frozen.replace('"shop": ["north"]', '"shop": ["north"], "till": [1]')
        )
        p.core.project.load()
        report = p.runs.run("dev", Request(stale=True), by=p.core.authorization.who())
        assert report.state == "refused"
        assert {c.name for c in report.refused} == {"schema(freeze)"}
