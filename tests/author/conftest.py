import sys
import textwrap
from pathlib import Path

import pytest

from sextant.app.opening import import_project
from sextant.project.assemble import assemble
from sextant.kernel.errors import ProjectError

# three lines
HEAD = 'import polars as pl\nimport sextant as sx\nsx.project("shop", tz="Europe/Berlin")\n'


@pytest.fixture(autouse=True)
def _clean_imports():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith(
            ("sextant", "polars", "duckdb", "sqlglot", "pandas", "pyarrow", "numpy")
        ):
            file = getattr(sys.modules[name], "__file__", None) or ""
            if "/pytest" in file or "pytest-of" in file:
                del sys.modules[name]


class Project:
    """A project in a folder: write files, load it in this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sextant.toml").write_text('module = "ops"\n')

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))

    def ops(self, body: str) -> None:
        self.write("ops.py", HEAD + textwrap.dedent(body))

    def collect(self, root="ops"):
        sys.modules.pop("ops", None)
        sys.dont_write_bytecode = True
        return import_project(self.root, root)

    def manifest(self, root="ops", **more):
        return assemble(self.collect(root), root=root, **more)

    def error(self) -> ProjectError:
        with pytest.raises(ProjectError) as caught:
            self.manifest()
        return caught.value

    def asset(self, id_):
        found = self.manifest().asset(id_)
        assert found is not None, id_
        return found


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
