"""Which ledger belongs to a project is said outside of the database: whoever can change the database
alone, or remove a file beside it, is found out."""

from seen import views
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import tampering

from sextant.kernel.errors import UserError, WorldError


@pytest.fixture(scope="module", params=[True, False], ids=["pinned", "by-place"])
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tampering.Project:
    return tampering.make_project(tmp_path_factory.mktemp("project"), pinned=request.param)


def test_an_untouched_project_has_no_findings(project: tampering.Project) -> None:
    """Every finding would be doubted."""
    project.restore()
    assert project.verify() == []
    project.do_something()
    assert project.verify() == []


@pytest.mark.parametrize("kind", tampering.PROJECT_KINDS)
def test_tampering_with_a_project_is_found(project: tampering.Project, kind: str) -> None:
    """The past could be rewritten by giving the database another id, and signed by a new key."""
    if kind in tampering.NEEDS_PIN and not project.is_pinned:
        pytest.skip("without pin and witness nothing outside of the database is left")
    rng = random.Random(kind)
    for _ in range(12):
        assert tampering.project_missed(project, rng, kind) == ""


@pytest.mark.parametrize("seed", range(4))
def test_no_changed_cell_is_a_bug(project: tampering.Project, seed: int) -> None:
    """Verification of a database that somebody changed would end with exit code 70."""
    rng = random.Random(seed)
    for _ in range(25):
        project.restore()
        with closing(sqlite3.connect(project.database, isolation_level=None)) as database:
            done = _change_any_cell(database, rng)
        project.verify()  # a bug is raised
        try:
            with project.open(confirm=True) as p:
                views(p).runs()
                for row in p.core.state.read("runs_open"):
                    views(p).run(row[0])
                views(p).run("run_sealed_0")
                views(p).log("run_sealed_1")
        except (UserError, WorldError):
            continue
        except Exception as error:  # what it was is worth knowing
            raise AssertionError(done) from error


def _change_any_cell(database: sqlite3.Connection, rng: random.Random) -> str:
    """Change one cell of any table, as often as the database refuses."""
    tables = [
        row[0]
        for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if database.execute(f"SELECT 1 FROM {row[0]}").fetchone()
    ]
    while True:
        table = rng.choice(tables)
        rowid, *row = rng.choice(database.execute(f"SELECT rowid, * FROM {table}").fetchall())
        columns = [info[1] for info in database.execute(f"PRAGMA table_info({table})")]
        at = rng.randrange(len(row))
        flip = tampering.flipped(row[at], rng) if row[at] is not None else b"x"
        new = rng.choice((flip, flip, "text", b"\xff\x00", 7, -1, 1.5, "{", "[]", 1 << 62))
        try:
            database.execute(f"UPDATE {table} SET {columns[at]} = ? WHERE rowid = ?", (new, rowid))
        except (sqlite3.IntegrityError, OverflowError):
            continue
        return f"{table}.{columns[at]} of row {rowid}: {row[at]!r} -> {new!r}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
