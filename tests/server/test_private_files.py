"""What Sextant writes is for its owner alone, and where the key lies for administrators."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import serve
from shop_project import Shop, run
from test_api import ask
from test_up import _OPS, _TOML, Up

from sextant.app.backup import create, restore
from sextant.app.operations import Operations
from sextant.kernel.clock import ManualClock, SystemClock
from sextant.stores.files import tighten


_BODY = """
@sx.dataset(key="id", keep="1d")
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": ["a"], "amount": [1.0]})
"""


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Let files be made as open as the code makes them."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Return mode and path of everything in a folder, and the folder, that others may use."""
    out = []
    for place, folders, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in (*folders, *names))):
            status = os.lstat(path)
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077:
                out.append(f"{stat.S_IMODE(status.st_mode):04o} {path}")
    return sorted(set(out))


def test_nothing_in_a_lived_in_project_is_open_to_others(tmp_path: Path, open_umask: None) -> None:
    """Rows, payloads, code and tokens could be read by every user of the machine as soon as the
    folder is copied, or made anew by another tool."""
    one = Up(tmp_path / "here" / "shop")
    one.root.mkdir(parents=True)
    (one.root / "ops.py").write_text(_OPS)
    (one.root / "sextant.toml").write_text(_TOML)
    one.here("run")
    one.here("query", "SELECT count() FROM data.orders")
    (one.root / "ops.py").write_text(_OPS + "\n# an edit\n")
    one.here("status")
    one.begin()
    one.until(lambda: one.query("SELECT count() AS n FROM data.orders") == [{"n": 12}])
    one.post("/v1/jsonlines?asset=service:web", b'{"message": "hello"}\n', "application/x-ndjson")
    one.sx("run", "--force")
    one.sx("ledger", "checkpoint")
    assert open_to_others(one.root / ".sextant") == []
    assert one.end() == 0
    assert open_to_others(one.root / ".sextant") == []
    one.here("backup", "create", str(tmp_path / "backup"))
    assert open_to_others(tmp_path / "backup") == []
    one.here("backup", "restore", str(tmp_path / "backup"), str(tmp_path / "restored"))
    assert open_to_others(tmp_path / "restored" / ".sextant") == []
    for name in ("config/sextant/keys", "state/sextant/witness"):
        assert open_to_others(tmp_path / "here" / name) == []


def changeable(folder: Path) -> list[str]:
    """Return files that are done and that their owner could write into, and folders that he could
    not collect from."""
    out = []
    for place, folders, names in os.walk(folder):
        out += [
            os.path.join(place, name)
            for name in names
            if stat.S_IMODE(os.lstat(os.path.join(place, name)).st_mode) != 0o400
        ]
        out += [
            os.path.join(place, name)
            for name in folders
            if stat.S_IMODE(os.lstat(os.path.join(place, name)).st_mode) != 0o700
        ]
    return out


def test_what_is_done_is_read_only(shop: Shop, tmp_path: Path, open_umask: None) -> None:
    """A slip of an editor or of a script would change rows and code that a version stands on; and
    what is read-only must still be collected, backed up and put back."""
    shop.write(_BODY)
    clock = ManualClock(SystemClock().now_ns())
    with shop.open(executor="pool", clock=clock) as p:
        run(p)
        shop.edit("[1.0]", "[2.0]")
        p.core.project.load()
        run(p, stale=True)
        done = [p.core.lake.root, p.core.blobs.root, p.core.project.folder / "bundles"]
        assert [path for one in done for path in changeable(one)] == []
        files = {path for path in p.core.lake.root.rglob("*") if path.is_file()}
        create(p.core, p.sealing, tmp_path / "backup")
        for name in ("lake", "blobs"):
            assert changeable(tmp_path / "backup" / name) == []
        clock.wait(60 * 86400)
        for _ in range(2):
            clock.wait(86400)
            assert Operations(p).collect()
        left = {path for path in p.core.lake.root.rglob("*") if path.is_file()}
        assert left < files
        assert len(list((p.core.project.folder / "bundles").iterdir())) == 1
    (tmp_path / "restored").mkdir()
    restore(tmp_path / "backup", tmp_path / "restored")
    for name in ("lake", "blobs"):
        assert changeable(tmp_path / "restored" / ".sextant" / name) == []


def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    """An older project's rows would stay readable, and new files inherit it from their folders."""
    own = tmp_path / ".sextant"
    (own / "lake" / "orders").mkdir(parents=True)
    for path in (own / "state.db", own / "lake" / "orders" / "a.parquet"):
        path.write_text("x")
        path.chmod(0o644)
    (own / "link").symlink_to("/etc/passwd")
    own.chmod(0o700)
    tighten(own)
    assert open_to_others(own) == []
    own.chmod(0o750)  # a group that its owner lets in stays in
    shared = own / "shared"
    shared.write_text("x")
    shared.chmod(0o644)
    tighten(own)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o640


def test_a_viewer_is_not_told_where_the_key_lies(shop: Shop) -> None:
    """Whoever may look would know which file to steal."""
    shop.write("")
    with shop.open() as p, serve(p) as serving:
        viewer, admin = serving.token("viewer"), serving.token("admin")
        path = p.sealing.key_path
        places = [str(path), *map(str, p.sealing.witness_paths)]
        shown = ask(serving, "GET", "/api/v1/doctor", token=viewer)
        assert [
            one for one in (*places, str(p.core.project.folder)) if one in shown.body.decode()
        ] == []
        assert places[0] in ask(serving, "GET", "/api/v1/doctor", token=admin).body.decode()
        path.chmod(0o644)
        for token, is_told in ((viewer, False), (admin, True)):
            answer = ask(serving, "POST", "/api/v1/ledger/events/0/proof", token=token, body={})
            assert answer.json["code"] == "SX-LEDGER-022"
            assert (places[0] in answer.body.decode()) == is_told
        path.chmod(0o600)
