"""Rows that are taken out of a parent, and the live tables that point to them."""

from seen import views
from sextant.app import environments
import pytest
from orders_project import parts

from sextant.app.operations import Operations
from sextant.kernel.errors import StepFailed

BODY = """
import pathlib
CODES = pathlib.Path(FILE)

@sx.dataset(key="code")
def shops() -> pl.DataFrame:
    return pl.DataFrame({"code": CODES.read_text().split()})

@sx.dataset(partition=days, key="id", checks=[sx.foreign_key("shop", to="shops.code")])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "shop": ["north"]})
"""


@pytest.fixture
def codes(shop, tmp_path):
    file = tmp_path / "codes"
    file.write_text("north south")
    shop.write(BODY.replace("FILE", repr(str(file))))
    return file


def open_signals(p, kind: str = "check.failed") -> list[str]:
    return [s["asset"] for s in views(p).signals(kind=kind, open_only=True).items]


def test_a_removed_parent_row_is_noticed_when_it_is_published(shop, running, codes) -> None:
    """Live rows would point to nothing until somebody happened to run `check`."""
    with shop.open() as p:
        running(p)
        codes.write_text("south")
        report = running(p, "dev", "dataset:shops", force=True)
        assert report.state == "finished"
        assert [(c.asset, c.name) for c in report.broken] == [
            ("dataset:orders", "foreign_key(shop, shops.code)")
        ]
        assert open_signals(p) == ["dataset:orders"]
        [signal] = views(p).signals(kind="check.failed", open_only=True).items
        chain = [event["type"] for event in Operations(p).why(signal["id"], env="dev")["chain"]]
        assert "release.live" in chain, "the signal leads to what broke it"

        codes.write_text("south east")
        running(p, "dev", "dataset:shops", force=True)
        assert open_signals(p) == ["dataset:orders"], "one signal while it stays broken"
        codes.write_text("south north")
        running(p, "dev", "dataset:shops", force=True)
        assert open_signals(p) == []


def test_an_undo_that_breaks_a_child_is_noticed(shop, running, codes) -> None:
    """Only forward releases would be looked at."""
    codes.write_text("south")
    shop.edit('"shop": ["north"]', '"shop": ["south"]')
    with shop.open() as p:
        running(p)
        codes.write_text("south north")
        running(p, "dev", "dataset:shops", force=True)
        shop.edit('"shop": ["south"]', '"shop": ["north"]')
        p.core.project.load()
        running(p, "dev", stale=True)
        p.runs.undo("dev", "dataset:shops", by=p.core.authorization.who(), reason="bad list")
        assert open_signals(p) == ["dataset:orders"]


def test_a_release_by_hand_that_breaks_a_child_is_noticed(shop, running, codes) -> None:
    """`release --from` would bring the shorter list unseen."""
    with shop.open() as p:
        running(p)
        environments.create(p.core, "aside", "dev")
        codes.write_text("south")
        running(p, "aside", "dataset:shops", force=True)
        assert open_signals(p) == ["dataset:orders"], "in the environment aside"
        p.runs.release(
            "dev", p.core.assets.find("shops"), source="aside", by=p.core.authorization.who()
        )
        assert open_signals(p) == ["dataset:orders"] * 2


def test_what_only_adds_rows_looks_at_nobody(shop, running, codes, monkeypatch) -> None:
    """Every append would read all children."""
    with shop.open() as p:
        monkeypatch.setattr(p.runs.checks, "_check_live", lambda *_a, **_k: pytest.fail("looked"))
        running(p)


def test_a_check_that_cannot_run_is_said_and_ends_the_run(
    shop, running, codes, monkeypatch
) -> None:
    """What is published would stand under an open run that fails again and again."""
    with shop.open() as p:
        running(p)

        def fails(*_a: object, **_k: object) -> None:
            raise StepFailed("SX-STEP-011", "no worker")

        monkeypatch.setattr(p.runs.checks, "_check_live", fails)
        codes.write_text("south")
        report = running(p, "dev", "dataset:shops", force=True)
        assert "could not be checked: no worker" in report.broken[0].message
        assert p.core.state.read("runs_open") == []
        assert len(parts(p, "dev", "orders")) == 4
