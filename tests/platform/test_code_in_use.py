"""Unpacked code while several runs, processes and collections use it: none takes the folder from
under another, and none runs code that was changed."""

from seen import views
from sextant.release.as_of import version_as_of
from seen import views
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sextant.app.platform import LocalPlatform
from sextant.kernel.limits import BUNDLE_COPIES_MAX

BODY = """
import os

@sx.dataset(key="id")
def orders() -> pl.DataFrame:
    with open("scratch.tmp", "w") as file:
        file.write("x")
    return pl.DataFrame({"id": [1], "cwd": [os.getcwd()]})
"""
FILES = ["ops.py", "sextant.toml"]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def opened(shop: Any) -> Any:
    shop.write(BODY)
    with shop.open() as p:
        yield p


def write_scratch(folder: Path) -> None:
    (folder / "scratch.tmp").write_text("x")


def edit_code(folder: Path) -> None:
    (folder / "ops.py").chmod(0o600)
    (folder / "ops.py").write_text("other = 1\n")


def shadow_import(folder: Path) -> None:
    (folder / "polars.py").write_text("planted = True\n")


@pytest.mark.parametrize("change", [write_scratch, edit_code, shadow_import])
def test_a_changed_folder_stays_for_who_works_in_it(
    opened: LocalPlatform, change: Callable[[Path], None]
) -> None:
    """A run's step would lose its working directory, and the code that it has yet to import."""
    digest = opened.core.project.manifest().bundle
    with opened.runs.bundles.unpacked(digest) as first:
        inode = first.stat().st_ino
        change(first)
        with opened.runs.bundles.unpacked(digest) as second:
            assert second != first
            assert names(second) == FILES
        assert first.stat().st_ino == inode
        assert (first / "ops.py").exists()
        assert opened.runs.bundles.folder(digest) == second, "the fresh one is used again"


def test_who_is_slower_leaves_the_folder_of_who_was_faster(
    opened: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes find the code missing; the second would remove what a step of the first works
    in."""
    digest = opened.core.project.manifest().bundle
    is_unpacked, may_go_on = threading.Event(), threading.Event()
    plain = opened.runs.bundles.unpack

    def unpack(digest: str, into: Path) -> None:
        plain(digest, into)
        if threading.current_thread().name == "slower":
            is_unpacked.set()
            assert may_go_on.wait(60)

    monkeypatch.setattr(opened.runs.bundles, "unpack", unpack)
    found: list[Path] = []
    slower = threading.Thread(
        target=lambda: found.append(opened.runs.bundles.folder(digest)), name="slower"
    )
    slower.start()
    assert is_unpacked.wait(60)
    faster = opened.runs.bundles.folder(digest)
    inode = faster.stat().st_ino
    may_go_on.set()
    slower.join()
    assert found == [faster]
    assert faster.stat().st_ino == inode
    assert names(faster.parent) == [digest], "nothing is left behind"


def test_a_collection_takes_changed_folders_that_nobody_holds(opened: LocalPlatform) -> None:
    """Folders that steps wrote into would stay for ever, or go from under a step."""
    digest = opened.core.project.manifest().bundle
    with opened.runs.bundles.unpacked(digest) as first:
        write_scratch(first)
        good = opened.runs.bundles.folder(digest)
        assert opened.runs.bundles.collect(1 << 62) == 0
        assert first.exists()
    assert opened.runs.bundles.collect(1 << 62) > 0
    assert names(good.parent) == [good.name]


def test_folders_of_one_bundle_are_few(opened: LocalPlatform) -> None:
    """A step that writes a file in each run would fill the disk until the next collection."""
    digest = opened.core.project.manifest().bundle
    with opened.runs.bundles.unpacked(digest) as held:
        write_scratch(held)
        for _ in range(BUNDLE_COPIES_MAX + 3):
            write_scratch(opened.runs.bundles.folder(digest))
        assert held.exists(), "however old: it is in use"
        assert len(list(held.parent.glob(f"{digest}*"))) <= BUNDLE_COPIES_MAX + 1
    numbers = [one.name.partition("-")[2] for one in held.parent.glob(f"{digest}-*")]
    assert max(map(int, numbers)) == BUNDLE_COPIES_MAX + 3, "no name is used twice"


def test_each_run_works_in_a_folder_as_it_was_planned(shop: Any, running: Any) -> None:
    """What a step left would be there for the next run, or its worker would work in the old
    folder."""
    shop.write(BODY)
    with shop.open(executor="pool") as p:
        used = []
        for _ in range(3):
            assert running(p, force=True).state == "finished"
            frame = views(p).frame(version_as_of(p.core, "dev", "dataset:orders", ""))
            used.append(frame["cwd"][0])
        assert len(set(used)) == 3
