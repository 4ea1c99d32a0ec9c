"""What Sextant writes is for its owner alone, and where the key lies for administrators."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import serve
from shop_project import Shop
from test_api import ask
from test_up import _OPS, _TOML, Up

from sextant.stores.files import tighten


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
        assert [one for one in (*places, str(p.folder)) if one in shown.body.decode()] == []
        assert places[0] in ask(serving, "GET", "/api/v1/doctor", token=admin).body.decode()
        path.chmod(0o644)
        for token, is_told in ((viewer, False), (admin, True)):
            answer = ask(serving, "POST", "/api/v1/ledger/events/0/proof", token=token, body={})
            assert answer.json["code"] == "SX-LEDGER-022"
            assert (places[0] in answer.body.decode()) == is_told
        path.chmod(0o600)
