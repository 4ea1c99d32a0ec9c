"""Code and answers that lie unpacked below `.sextant`: used again only as they were written."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_changed_bytes import overwrite

from sextant.project import current as composition
from sextant.app.platform import LocalPlatform
from sextant.kernel.clock import ManualClock, from_datetime
from sextant.kernel.errors import Damaged
from sextant.stores import verified

BODY = """
from helper import factor

@sx.dataset(key="id")
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1], "amount": [factor()]})
"""
HELPER = "def factor():\n    return 7\n"


def bundle(p: LocalPlatform) -> Path:
    """Return the newest folder of the unpacked code."""
    folders = (p.core.project.folder / "bundles").glob(f"{p.core.project.manifest().bundle}*")
    return max(folders, key=lambda one: int(one.name.partition("-")[2] or 0))


def edit(folder: Path) -> None:
    overwrite(folder / "helper.py", HELPER.replace("7", "9").encode())


def add(folder: Path) -> None:
    """Add a package that is found before the module of that name."""
    (folder / "helper").mkdir()
    (folder / "helper" / "__init__.py").write_text(HELPER.replace("7", "9"))


def add_bytecode(folder: Path) -> None:
    """Add compiled code that Python takes for the module's, by its time and size."""
    import py_compile

    source = folder / "helper.py"
    status, text = source.stat(), source.read_bytes()
    source.chmod(0o600)
    overwrite(source, text.replace(b"7", b"9"))
    py_compile.compile(str(source))
    overwrite(source, text)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove(folder: Path) -> None:
    (folder / "helper.py").unlink()


def link(folder: Path) -> None:
    other = folder.parents[2] / "elsewhere.py"
    other.write_text(HELPER.replace("7", "9"))
    (folder / "helper.py").unlink()
    (folder / "helper.py").symlink_to(other)


def link_all(folder: Path) -> None:
    other = folder.parents[2] / "elsewhere"
    shutil.copytree(folder, other)
    (other / "helper.py").chmod(0o600)
    (other / "helper.py").write_text(HELPER.replace("7", "9"))
    shutil.rmtree(folder)
    folder.symlink_to(other)


ATTACKS: dict[str, Callable[[Path], None]] = {
    "edited": edit,
    "added": add,
    "bytecode": add_bytecode,
    "removed": remove,
    "link": link,
    "link of all": link_all,
}


@pytest.fixture
def made(shop: Any, running: Any) -> Any:
    (shop.root / "helper.py").write_text(HELPER)
    shop.write(BODY)
    with shop.open(executor="pool") as p:
        running(p)
    return shop


def amount(p: LocalPlatform) -> int:
    frame = views(p).frame(version_as_of(p.core, "dev", "dataset:orders", ""))
    return int(frame["amount"][0])


@pytest.mark.parametrize("attack", ATTACKS)
def test_changed_code_is_unpacked_again(made: Any, running: Any, attack: str) -> None:
    """Code that nobody planned would run, and what it made would carry the digest of other code."""
    with made.open(executor="pool") as p:
        ATTACKS[attack](bundle(p))
        running(p, force=True)
        assert amount(p) == 7
        assert sorted(one.name for one in bundle(p).iterdir()) == [
            "helper.py",
            "ops.py",
            "sextant.toml",
        ]
        assert not bundle(p).is_symlink()
        assert bundle(p).name.endswith("-1"), "what a step may work in stays"


def test_a_bundle_that_did_not_change_is_not_read(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each run would hash the project's code, or remember a file that changes within a tick."""
    later = ManualClock(from_datetime(datetime(2100, 1, 1, tzinfo=UTC)))
    known = verified.Verified(tmp_path / "memory", later)
    monkeypatch.setattr(composition.bundle, "memory", lambda: known)
    hashed: list[str] = []
    plain = composition.bundle.digest_of_file

    def counting(place: str) -> Any:
        hashed.append(place)
        return plain(place)

    monkeypatch.setattr(composition.bundle, "digest_of_file", counting)
    with made.open() as p:
        for _ in range(3):
            p.runs.bundles.folder(p.core.project.manifest().bundle)
        assert len(hashed) == 3, "once for each file"
        edit(bundle(p))
        p.runs.bundles.folder(p.core.project.manifest().bundle)
        assert (bundle(p) / "helper.py").read_text() == HELPER


def test_a_changed_blob_of_code_is_refused(made: Any, running: Any) -> None:
    """A bundle that is unpacked again would be what somebody wrote into its blob."""
    with made.open() as p:
        old = p.core.project.manifest().bundle
        made.write(BODY.replace("[1]", "[2]"))
        p.core.project.load()
        running(p)
        shutil.rmtree(p.core.project.folder / "bundles" / old)
        for blob in p.core.blobs.root.rglob("*"):
            if blob.is_file() and blob.read_bytes()[:2] == b"PK":
                overwrite(blob, blob.read_bytes().replace(b"return 7", b"return 9"))
        with pytest.raises(Damaged) as found:
            p.runs.bundles.folder(old)
        assert found.value.code == "SX-BLOB-002"


def test_an_edit_that_was_looked_at_is_believed_only_if_it_was_loaded_here(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command would record a manifest that somebody put there: without its policies."""
    import msgspec

    made.edit("[1]", "[3]")
    with made.open(drafts=True) as p:
        p.core.project.load()
        true = p.core.project.manifest()
        false = msgspec.structs.replace(true, assets=())
        draft = msgspec.json.decode((p.core.project.folder / "draft.json").read_bytes())
        draft["manifest"] = p.core.blobs.put(msgspec.json.encode(false))
        (p.core.project.folder / "draft.json").write_bytes(msgspec.json.encode(draft))
    with made.open(drafts=True) as p:
        assert p.core.project.load() == true
