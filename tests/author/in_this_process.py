"""A project's files to its manifest, in this process and with fingerprints: the loader's own
process costs a second each time."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from sextant.app.opening import import_project
from sextant.kernel.nouns import Manifest
from sextant.project.assemble import assemble
from sextant.project.fingerprint import Fingerprints


def load_files(root: Path, files: Mapping[str, str]) -> Manifest:
    """Return what a project of these files, and no others, declares; its module is `ops`."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, text in {"sextant.toml": 'module = "ops"\n', **files}.items():
        (root / name).write_text(text)
    sys.modules.pop("ops", None)
    sys.dont_write_bytecode = True
    return assemble(import_project(root, "ops"), fingerprint=Fingerprints(root).of, root="ops")
