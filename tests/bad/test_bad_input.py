"""Bad input through the command line: what happened, where, how to mend it, the right exit code -
and what was live stays."""

from seen import views
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from shop_project import Shop

import sextant
from sextant.app.platform import LocalPlatform
from sextant.cli.main import call
from sextant.kernel.clock import NS, ManualClock

SRC = str(Path(sextant.__file__).parents[1])
ORDERS = """
MODE = "good"

@sx.dataset(partition=days, key="id", time="at", checks=[sx.not_null("amount"), sx.row_count(1)])
def orders(day: sx.Partition) -> pl.DataFrame:
    frame = pl.DataFrame({"id": [f"{day.key}-{n}" for n in range(3)], "at": [day.start] * 3, "amount": [1.0, 2.0, 3.0]})
    if day.key < "2026-01-04" or MODE == "good":
        return frame
    return spoiled(frame)

def spoiled(frame: pl.DataFrame):
    match MODE:
        case "missing": return frame.drop("amount")
        case "types": return frame.with_columns(amount=pl.lit("ten"))
        case "duplicates": return pl.concat([frame, frame])
        case "empty": return frame.clear()
        case "no key": return frame.drop("id")
        case "text": return "hello"
        case "nothing": return None
        case "raises": raise RuntimeError("the source is broken")

@sx.dataset(key="day")
def total(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.group_by(day=pl.col("id").str.head(10)).agg(pl.col("amount").sum())
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Cli:
    """The command line on one project, in this process; steps run here too."""

    def __init__(self, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
        self.shop, self._capsys = shop, capsys

    def __call__(self, *args: str) -> Said:
        self._capsys.readouterr()
        code = call(["--project", str(self.shop.root), *args])
        said = Said(code, *self._capsys.readouterr())
        assert "SX-LOAD-004" not in said.text
        return said

    def live(self) -> str:
        return self("show", "orders", "--json").out


@pytest.fixture
def cli(
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cli]:
    init = LocalPlatform.__init__
    monkeypatch.setattr(
        LocalPlatform,
        "__init__",
        lambda self, config, **more: init(self, config, **{"executor": "inline", **more}),
    )
    monkeypatch.setenv("SEXTANT_USER", "ann")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    yield Cli(shop, capsys)


@pytest.fixture
def good(cli: Cli) -> Cli:
    """Three days are live; the fourth will be spoiled."""
    cli.shop.write(ORDERS)
    assert cli("run", "--partition", "2026-01-01..2026-01-03").code == 0
    return cli


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("missing", 1, ["not_null(amount): cannot be checked: there is no column `amount`"]),
        ("types", 1, ["`amount` is string instead of float64"]),
        ("duplicates", 1, ["unique(id)", "3 of 6 rows fail"]),
        ("empty", 1, ["row_count(1)", "there are 0"]),
        ("no key", 3, ["no column `id`", "it returned at, amount", "SX-DATA-001"]),
        (
            "text",
            3,
            ["a table was expected, but the function returned `builtins.str`", "return a Polars"],
        ),
        ("nothing", 3, ["returned nothing", "is a `return` missing?"]),
        (
            "raises",
            3,
            ["raised RuntimeError: the source is broken", "the step's log has the whole traceback"],
        ),
    ],
)
def test_a_bad_partition(good: Cli, mode: str, code: int, words: list[str]) -> None:
    """A bad day must be refused by name, and yesterday's numbers stay as they are."""
    before = good.live()
    good.shop.edit('MODE = "good"', f'MODE = "{mode}"')
    said = good("run")
    assert said.code == code, said.text
    for word in words:
        assert word in said.text
    assert "dataset:orders" in said.text
    assert "2026-01-04" in said.text
    if code == 1:
        assert "REFUSED" in said.out
        assert "what is live stays as it was" in said.out
    else:
        line = (good.shop.root / "ops.py").read_text().splitlines()
        place = (
            'raise RuntimeError("the source is broken")'
            if mode == "raises"
            else "@sx.dataset(partition=days"
        )
        assert f"at ops.py:{next(n for n, text in enumerate(line, 1) if place in text)}" in said.out
    assert "skipped 1 steps" in said.out
    assert good.live() == before
    good.shop.edit(f'MODE = "{mode}"', 'MODE = "good"')
    assert good("run").code == 0, "and mending it is all that it takes"
    assert good("show", "orders", "--count").out == "12\n"


def test_a_truncated_file_in_the_lake(good: Cli) -> None:
    """Damage must be named, never read as fewer rows; and the way out that is offered must work."""
    assert good("run").code == 0
    rows = good("show", "orders").out.split("id  at")[-1]
    for file in (good.shop.root / ".sextant" / "lake" / "dataset.orders").rglob("*.parquet"):
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for command in (("show", "orders"), ("check", "orders"), ("run", "total", "--force")):
        said = good(*command)
        assert said.code == 3, said.text
        assert "is not what was written" in said.text
        assert "SX-LAKE-003" in said.text
        assert "sextant run --force" in said.text
    assert good("show", "total", "--count").out == "4\n", "what was derived stays"
    said = good("run", "orders", "--force")
    assert said.code == 0, said.text
    assert good("show", "orders").out.split("id  at")[-1] == rows
    assert good("check", "orders").code == 0
    assert good("run").out.startswith("nothing to do")
    assert good("ledger", "verify").code == 0


# ---------------------------------------------------------------- the project's files


@pytest.mark.parametrize(
    ("edit", "words", "place"),
    [
        (("def total(orders", "def total(orders:::"), ["syntax error"], "ops.py:"),
        (("def total(orders:", "def total(ordres:"), ["ordres", "did you mean"], "ops.py:"),
        (
            ("def orders(day: sx.Partition)", "def orders(day: sx.Partition, total: pl.DataFrame)"),
            ["circle"],
            "",
        ),
        (("def total(orders", "def orders(orders"), ["orders"], "ops.py:"),
        (('key="day"', 'kee="day"'), ["kee"], "ops.py:"),
    ],
)
def test_a_bad_project(good: Cli, edit: tuple[str, str], words: list[str], place: str) -> None:
    """A typo must be shown with its line - and what was good stays to be seen from the last good
    state."""
    before = good.live()
    good.shop.edit(*edit)
    for command in ("plan", "run", "graph"):
        said = good(command)
        assert said.code == (0 if command == "graph" else 2), said.text
        assert ("what is in force is used" in said.err) == (command == "graph")
        for word in words:
            assert word in said.err
        assert place in said.err
    assert good.live() == before
    status = good("status")
    assert status.code == 1, "a person is needed"
    assert "folder   " in status.out


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("def total(orders", "def total(orders:::"), ["syntax error", "ops.py:"]),
        (("def total(orders:", "def total(ordres:"), ["ordres", "did you mean"]),
        (("def total(orders", "def orders(orders"), ["orders"]),
    ],
)
def test_a_project_that_was_never_good(cli: Cli, edit: tuple[str, str], words: list[str]) -> None:
    """There is nothing to fall back on: exit 2, with the line."""
    cli.shop.write(ORDERS)
    cli.shop.edit(*edit)
    said = cli("run")
    assert said.code == 2, said.text
    assert said.err.startswith("error: ")
    for word in words:
        assert word in said.err


@pytest.mark.parametrize(
    ("toml", "words", "code"),
    [
        ('modul = "ops"\n', ["no setting `modul`", "did you mean `module`?", "sextant.toml:1"], 2),
        ('module = "ops\n', ["not TOML", "sextant.toml:1"], 2),
        ('module = "ops"\nworkers = -1\n', ["`workers`", "sextant.toml:2"], 2),
    ],
)
def test_bad_settings(good: Cli, toml: str, words: list[str], code: int) -> None:
    """A misspelt setting must not be ignored."""
    before = good.live()
    good.shop.toml(toml)
    said = good("run")
    assert said.code == code, said.text
    for word in words:
        assert word in said.err
    good.shop.toml('module = "ops"\nenvironment = "dev"\n')
    assert good.live() == before


def test_a_secret_that_is_not_set(good: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One must learn which, and how to set it; the others run."""
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    with (good.shop.root / "ops.py").open("a") as file:
        file.write(
            '@sx.dataset(key="a")\ndef secretive(token: str = sx.secret("SHOP_TOKEN")) -> '
            'pl.DataFrame:\n    return pl.DataFrame({"a": [len(token)]})\n'
        )
    said = good("run")
    assert said.code == 3, said.text
    assert "the secret `SHOP_TOKEN` is not set" in said.out
    assert "set the environment variable SHOP_TOKEN" in said.out
    assert "SX-SECRET-001" in said.out
    assert good("show", "orders", "--count").out == "12\n"
    monkeypatch.setenv("SHOP_TOKEN", "12345")
    assert good("run").code == 0


# ---------------------------------------------------------------- the machine


def test_a_state_of_a_newer_schema(good: Cli) -> None:
    """An old program must not write into what it does not understand."""
    db = good.shop.root / ".sextant" / "state.db"
    with sqlite3.connect(db) as connection:
        known = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for command in ("status", "run"):
        said = good(command)
        assert said.code == 2
        assert f"has schema 99, this Sextant knows schemas up to {known}" in said.err
        assert "install a newer" in said.err
        assert "state.db" in said.err
    with sqlite3.connect(db) as connection:
        connection.execute(f"PRAGMA user_version = {known}")
    connection.close()
    assert good("run").code == 0


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_state_that_is_none(good: Cli, damage: str) -> None:
    """A wrong file must be refused, not overwritten."""
    db = good.shop.root / ".sextant" / "state.db"
    with sqlite3.connect(db) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = db.read_bytes()
    broken = b"garbage" * 1000 if damage == "garbage" else whole[: len(whole) // 2]
    db.write_bytes(broken)
    said = good("run")
    assert said.code == 3, said.text
    assert "backup restore" in said.err
    assert db.read_bytes() == broken
    db.write_bytes(whole)
    assert good("run").code == 0


def test_a_database_edited_by_hand(good: Cli) -> None:
    """Somebody repoints what is live with an editor: verify must say so, and which row."""
    assert good("ledger", "verify").code == 0
    with sqlite3.connect(good.shop.root / ".sextant" / "state.db") as connection:
        connection.execute("UPDATE pointer SET version = 'ffff' WHERE asset = 'dataset:total'")
    connection.close()
    said = good("ledger", "verify")
    assert said.code == 1
    assert "WRONG pointer" in said.out
    assert "ffff" in said.out
    said = good("show", "total")
    assert said.code in (2, 3)
    assert "Traceback" not in said.text


def test_a_clock_that_jumps_back(shop: Shop, running: Any) -> None:
    """Ids, leases and the order of the ledger must survive a machine whose clock is set back by a
    day."""
    shop.write(ORDERS)
    clock = ManualClock(1_800_000_000 * NS)
    with shop.open(clock=clock) as p:
        assert running(p, "dev", partitions=("2026-01-01", "2026-01-02")).state == "finished"
        clock.set(clock.now_ns() - 86_400 * NS)
        assert running(p).state == "finished"
        assert p.ledger.clock_behind_ns > 0
        times = [e["at"] for e in views(p).events(limit=1000).items]
        assert times == sorted(times, reverse=True), "no event is older than the one before it"
        assert views(p).count("dev", "orders") == 12
    with shop.open(clock=clock) as p:
        assert running(p).id == ""


def _small_disk(folder: Path, size: str) -> None:
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")


def _fill(folder: Path) -> Path:
    """Write a file until the disk is full."""
    filler = folder / "filler"
    file = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"x" * 4096)
    os.close(file)
    return filler


def test_a_full_disk(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is live stays, the message says what is full, and it goes on when there is room
    again."""
    small = tmp_path_factory.mktemp("small")
    _small_disk(small, "6m")
    try:
        cli.shop.write(ORDERS)
        cli.shop.toml(f'module = "ops"\nenvironment = "dev"\nlake = "{small}/lake"\n')
        assert cli("run", "--partition", "2026-01-01..2026-01-03").code == 0
        before = cli.live()
        filler = _fill(small)
        said = cli("run")
        assert said.code == 3, said.text
        assert "free some space" in said.text
        assert cli.live() == before
        filler.unlink()
        assert cli("run").code == 0
        assert cli("show", "orders", "--count").out == "12\n"
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_a_full_disk_under_the_state(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The database itself cannot grow: nothing half-written, nothing lost."""
    small = tmp_path_factory.mktemp("state")
    _small_disk(small, "8m")
    try:
        lake = cli.shop.root / "lake"
        cli.shop = Shop(small)
        cli.shop.write(ORDERS)
        cli.shop.toml(f'module = "ops"\nenvironment = "dev"\nlake = "{lake}"\n')
        assert cli("run", "--partition", "2026-01-01..2026-01-03").code == 0
        before = cli.live()
        filler = _fill(small)
        said = cli("run")
        assert said.code == 3, said.text
        assert "Traceback" not in said.text
        filler.unlink()
        assert cli.live() == before
        assert cli("run").code == 0
        assert cli("show", "orders", "--count").out == "12\n"
        assert cli("ledger", "verify").code == 0
    finally:
        subprocess.run(["umount", str(small)], check=False)


SLOW = """
import os, time
from pathlib import Path

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key]})

@sx.dataset(key="id", timeout="TIMEOUT", memory="300MB")
def slow(orders: pl.DataFrame) -> pl.DataFrame:
    marker = Path(MARKER)
    if marker.exists():
        return orders
    marker.touch()
    BODY
"""


def _slow(shop: Shop, body: str, timeout: str = "60s") -> Path:
    marker = shop.root / ".marker"
    shop.write(
        SLOW.replace("MARKER", repr(str(marker))).replace("BODY", body).replace("TIMEOUT", timeout)
    )
    return marker


def _command(shop: Shop, *args: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": SRC, "SEXTANT_USER": "ann"}
    return subprocess.Popen(
        [sys.executable, "-m", "sextant.cli.main", "--project", str(shop.root), *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_control_c(shop: Shop) -> None:
    """In the middle of a run: it ends soon, with 130, says so, and the next run goes on from
    there."""
    marker = _slow(shop, "time.sleep(60)")
    process = _command(shop, "run")
    for _ in range(1500):
        if marker.exists() or process.poll() is not None:
            break
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, out + err
    assert "cancelled" in out
    assert "run again" in out
    assert "Traceback" not in err
    process = _command(shop, "run")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "1 steps computed, 1 reused" in out


def test_a_step_that_hangs_and_one_that_eats_memory(shop: Shop) -> None:
    """Each is stopped, named with its place and what to change, and the rest is live; what it had
    printed is kept."""
    for body, timeout, words in (
        ("print('at page 7'); time.sleep(60)", "1s", ["ran longer than 1 s", "raise timeout="]),
        (
            "print('at page 7'); held = [bytearray(50 << 20) for _ in range(100)]",
            "60s",
            ["more memory than it may use", "raise memory="],
        ),
    ):
        marker = _slow(shop, body, timeout)
        process = _command(shop, "run", "--force")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, out + err
        for word in words:
            assert word in out
        assert "dataset:slow[all]" in out
        assert "at ops.py:" in out
        marker.unlink()
        with shop.open() as p:
            (run,) = views(p).runs(limit=1).items
            assert [
                printed["text"] for printed in views(p).log(run["id"], "dataset:slow[all]")
            ] == ["at page 7\n"]
