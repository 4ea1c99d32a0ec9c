"""Projects whose tables an older Sextant made: they are made again once, when the project is
opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import tampering
from shop_project import Shop

from sextant.app.operations import Operations
from sextant.kernel.errors import UserError
from sextant.ledger import rebuild as module
from sextant.ledger.projections import PROJECTIONS_VERSION
from sextant.ledger.rebuild import bring_up_to_date
from sextant.stores.state import StateStore, open_reader


def age(path: Path, version: str | None) -> None:
    """Make the tables of a state file what an older version made of the events."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM meta WHERE key = 'projections'")
        if version is not None:
            database.execute("INSERT INTO meta VALUES ('projections', ?)", (version,))
        database.execute("UPDATE asset SET owner = 'as an older Sextant wrote it'")
        database.commit()


def owners(state: StateStore) -> set[str]:
    return {row[3] for page in state.rows("asset") for row in page}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    sample = tampering.make_sample(tmp_path)
    with tampering.Machine(2).open(sample.path) as one:  # type: ignore[attr-defined]
        yield one


@pytest.mark.parametrize("version", [None, "0"])
def test_older_tables_are_made_again_once(
    state: StateStore, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgraded project would answer by the old rules, and verification would call it wrong."""
    said: list[str] = []
    monkeypatch.setattr(module, "_LONG_EVENTS", 1)
    age(Path(state.address), version)
    bring_up_to_date(state, said.append)
    assert "as an older Sextant wrote it" not in owners(state)
    assert state.read("meta_get", ("projections",)) == [(str(PROJECTIONS_VERSION),)]
    assert len(said) == 1
    assert "once for this version" in said[0]
    age(Path(state.address), str(PROJECTIONS_VERSION))
    bring_up_to_date(state, said.append)
    assert "as an older Sextant wrote it" in owners(state), "made again at every opening"
    assert len(said) == 1


def test_newer_tables_are_left_alone(state: StateStore) -> None:
    """An older Sextant beside a newer one would take its tables back."""
    age(Path(state.address), str(PROJECTIONS_VERSION + 1))
    with pytest.raises(UserError, match="this Sextant makes versions up to"):
        bring_up_to_date(state, print)
    assert "as an older Sextant wrote it" in owners(state)


def test_a_reader_makes_nothing(state: StateStore) -> None:
    """Looking at a copy would change it."""
    age(Path(state.address), None)
    reader = open_reader(state.address)
    assert reader.read("meta_get", ("projections",)) == []
    reader.close()
    assert "as an older Sextant wrote it" in owners(state)


def test_a_project_is_brought_up_to_date_when_it_is_opened(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mechanism would be there, and nobody would call it."""
    shop.write("@sx.dataset()\ndef orders() -> pl.DataFrame:\n    return pl.DataFrame({})\n")
    with shop.open() as p:
        path = Path(p.core.state.address)
    age(path, None)
    with shop.open() as p:
        assert "as an older Sextant wrote it" not in owners(p.core.state)
        assert Operations(p).verify()["findings"] == []
    assert capsys.readouterr().err == "", "only a long one is worth a line"


def test_a_damaged_payload_does_not_lock_the_project(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ledger verify` could not be asked what is wrong."""
    shop.write("")
    with shop.open() as p:
        path = Path(p.core.state.address)
    age(path, None)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE payload SET body = ? WHERE seq = 1", (b'{"nothing":1}',))
        database.commit()
    with shop.open(load=False) as p:
        assert not Operations(p).verify()["ok"]
    assert "could not be made again" in capsys.readouterr().err
