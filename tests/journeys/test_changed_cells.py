"""A state database in which something was changed by hand: `ledger verify` gives findings whatever it
was, and what shows runs gives errors for changed runs and history. Neither falls over it."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

VERIFY = (("ledger", "verify"), ("ledger", "verify", "--no-projections"))
SHOW = (("runs",), ("runs", "RUN"), ("log", "RUN"), ("why", "RUN"))
VALUES = ("text", b"\xff\x00", "", b"", 7, -1, 1.5, "{", b"{}", "[]", b"[1]", "null", 1 << 62)


class Lived(NamedTuple):
    root: Path
    pristine: Path
    run: str


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Make a project with a run."""
    from sextant.cli.main import call

    folder = tmp_path_factory.mktemp("cells")
    with pytest.MonkeyPatch.context() as patch:
        home_at(patch, folder)
        root = folder / "shop"
        assert call(["init", str(root)]) == 0
        assert call(["--project", str(root), "run"]) == 0
    state = root / ".sextant" / "state.db"
    with closing(sqlite3.connect(state, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        ((run,),) = database.execute("SELECT id FROM run").fetchall()
    for name in (".sextant", "state"):
        shutil.copytree((root if name == ".sextant" else folder) / name, folder / "pristine" / name)
    return Lived(root, folder / "pristine", run)


def restore(lived: Lived) -> Path:
    """Put the project and the witness back as they were; return the database."""
    for name in (".sextant", "state"):
        place = (lived.root if name == ".sextant" else lived.root.parent) / name
        shutil.rmtree(place)
        shutil.copytree(lived.pristine / name, place)
    return lived.root / ".sextant" / "state.db"


def home_at(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    patch.setenv("XDG_STATE_HOME", str(folder / "state"))
    patch.setenv("SEXTANT_USER", "ann")


def change(database: sqlite3.Connection, rng: random.Random) -> tuple[str, str]:
    """Change one cell of any table, or delete a row, until the database lets it. Return the table
    and what was done."""
    tables = [
        name
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if database.execute(f"SELECT 1 FROM {name}").fetchone()
    ]
    while True:
        table = rng.choice((*tables, "history", "run"))
        rowid, *row = rng.choice(database.execute(f"SELECT rowid, * FROM {table}").fetchall())
        columns = [info[1] for info in database.execute(f"PRAGMA table_info({table})")]
        at = rng.randrange(len(row))
        try:
            if rng.random() < 0.1:
                database.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
                return table, f"row {rowid} deleted"
            new = cut(row[at], rng) if rng.random() < 0.4 else rng.choice(VALUES)
            database.execute(f"UPDATE {table} SET {columns[at]} = ? WHERE rowid = ?", (new, rowid))
        except sqlite3.IntegrityError:
            continue
        return table, f"{columns[at]} of row {rowid}: {row[at]!r} -> {new!r}"


def cut(value: object, rng: random.Random) -> object:
    """Return a value with a byte changed, or without its end."""
    if not isinstance(value, str | bytes) or not value:
        return -5
    data = bytearray(value if isinstance(value, bytes) else value.encode())
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] = rng.randrange(32, 127)
    return bytes(data) if isinstance(value, bytes) else data.decode(errors="replace")


@pytest.mark.parametrize("seed", range(4))
def test_no_changed_cell_ends_with_exit_code_70(
    lived: Lived,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What somebody did to the database would look like a bug, and nobody learn what he did."""
    from sextant.cli.main import call

    home_at(monkeypatch, lived.root.parent)
    rng = random.Random(seed)
    for _ in range(15):
        with closing(sqlite3.connect(restore(lived), isolation_level=None)) as database:
            table, done = change(database, rng)
        for words in (*VERIFY, *(SHOW if table in ("run", "history") else ())):
            code = call(
                ["--project", str(lived.root), *(lived.run if w == "RUN" else w for w in words)]
            )
            said = capfd.readouterr().err
            assert code in (0, 1, 2, 3), (table, done, words, said)


def test_a_changed_history_is_named(
    lived: Lived, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run whose history was changed would not be found."""
    from sextant.cli.main import call

    home_at(monkeypatch, lived.root.parent)
    with closing(sqlite3.connect(restore(lived), isolation_level=None)) as database:
        database.execute("UPDATE history SET body = 'not JSON' WHERE n = 0")
    capfd.readouterr()
    assert call(["--project", str(lived.root), "ledger", "verify", "--json"]) == 1
    found = json.loads(capfd.readouterr().out)["findings"]
    assert [(one["table"], lived.run in one["message"]) for one in found] == [("history", True)]
    assert call(["--project", str(lived.root), "runs", lived.run]) == 3
    assert "SX-LEDGER-038" in capfd.readouterr().err
