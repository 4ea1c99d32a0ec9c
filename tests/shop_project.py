"""A small project in a folder, opened in this process: what the tests of engine, runs and bad input
stand on."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sextant.project import current as composition
from sextant.project import loading
from sextant.project.bundle import digest_of, scan
from sextant.project.config import Config, read_config
from sextant.app.opening import import_project
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import RunReport
from sextant.project.assemble import assemble
from sextant.project.fingerprint import Fingerprints
from sextant.engine.plan import Request
from sextant.kernel.nouns import Manifest, Principal

HEAD = """
import polars as pl
import sextant as sx
ops = sx.team("ops", members=["ann", "bob"])
sx.project("shop", tz="UTC", environments=["dev", "prod"], owner=ops)
days = sx.daily(start="2026-01-01", end="2026-01-05")
"""


def load_here(
    root: Path, config: Config, *, timeout_s: float = 0.0, loader: object = None
) -> Manifest:
    """As `loading.load`, in this process: the loader's own process costs a second each time and is
    tested elsewhere."""
    files = scan(root, config.include, config.written)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ops", "shop")]:
        del sys.modules[name]
    collector = import_project(root, config.module)
    manifest = assemble(collector, fingerprint=Fingerprints(root).of, root=config.module)
    return _replaced(manifest, bundle=digest_of(files), files=files, lock=loading.lock_digest())


def _replaced(noun: Any, **more: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(noun, **more)


class Shop:
    """A project of one file: write it, open platforms on it, run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.toml('module = "ops"\nenvironment = "dev"\n')

    def toml(self, text: str) -> None:
        (self.root / "sextant.toml").write_text(text)

    def write(self, body: str, *, head: str = HEAD) -> None:
        """Write `ops.py`; an open platform sees it after `load`."""
        (self.root / "ops.py").write_text(head + textwrap.dedent(body))

    def edit(self, old: str, new: str) -> None:
        text = (self.root / "ops.py").read_text()
        assert old in text
        (self.root / "ops.py").write_text(text.replace(old, new))

    def open(self, who: str = "ann", **more: Any) -> LocalPlatform:
        more.setdefault("executor", "inline")
        return LocalPlatform(read_config(self.root), principal=Principal(name=who), **more)


_OF_THE_RUN = ("trigger", "break_glass", "progress", "pinned")


def run(p: LocalPlatform, env: str = "dev", *assets: str, **more: Any) -> RunReport:
    """Run a request as whoever opened the platform."""
    also = {name: more.pop(name) for name in _OF_THE_RUN if name in more}
    return p.runs.run(env, Request(assets=assets, **more), by=p.core.authorization.who(), **also)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(composition.loading, "load", load_here)
    yield Shop(tmp_path)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("ops", "shop"):
            del sys.modules[name]


@pytest.fixture
def running() -> Any:
    return run
