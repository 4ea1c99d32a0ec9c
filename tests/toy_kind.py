"""Installs the package of the toy kind (`toy/notices.py`) as pip would: for this process, and for
the workers and loaders that it starts."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sextant
from sextant.kernel import kinds, registry

SOURCE = Path(__file__).parent / "toy" / "notices.py"


@contextmanager
def installed(folder: Path, source: str = "") -> Iterator[None]:
    """Install it in a folder. `source`: its text, if not as it stands."""
    info = folder / "notices-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(SOURCE, folder / "notices.py")
    if source:
        (folder / "notices.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: notices\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sextant.plugins]\nnotices = notices:rows\n")
    caches = (kinds.kinds, kinds.facts, kinds.authored, kinds.made)
    try:
        with _found(folder):
            for cache in caches:
                cache.cache_clear()
            yield
    finally:
        for word in ("notice", "blue_green", "canary", "shadow"):
            vars(sextant).pop(word, None)
        for cache in caches:
            cache.cache_clear()


@contextmanager
def _found(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "notices", raising=False)
        patch.setattr(registry, "_ROWS", dict(registry._ROWS))
        patch.setattr(registry, "_problems", {})
        patch.setattr(registry, "_scanned", False)
        yield
