"""The layout of the code: what is general knows no kind of asset, and no object knows everything."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sextant
from sextant.core import Core
from sextant.kernel.kinds import kinds

SOURCE = Path(sextant.__file__).parent
# nothing below the kinds may name one
GENERAL = ("authorization", "engine", "formats", "http", "ledger", "release", "stores")
LINES_MAX = {"app/platform.py": 120, "app/runs.py": 250}


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module, without docstrings, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


@pytest.mark.parametrize("package", GENERAL)
def test_what_is_general_names_no_kind(package: str) -> None:
    """If this fails, one more kind of asset needs an edit in a package that should not know it."""
    name = re.compile(rf"({'|'.join(kinds())})(?:$|[:._])")
    found = [
        f"{path.relative_to(SOURCE)}:{line} {text[:40]!r}"
        for path in sorted((SOURCE / package).rglob("*.py"))
        for line, text in strings(path)
        if name.match(text)
    ]
    found += [
        f"{path.relative_to(SOURCE)} {text!r}"
        for path in sorted((SOURCE / package).rglob("*.sql"))
        for text in re.findall(r"'([^']*)'", path.read_text(encoding="utf-8"))
        if name.match(text)
    ]
    assert not found


def test_no_object_knows_everything() -> None:
    """If this fails, the hub grows again that components were freed from."""
    assert len(Core._fields) <= 10
    assert {
        name: lines
        for name, most in LINES_MAX.items()
        if (lines := (SOURCE / name).read_text(encoding="utf-8").count("\n")) > most
    } == {}


_RUN = """
import sys
from pathlib import Path
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform

with LocalPlatform.open(Path(sys.argv[1])) as p:
    assert Operations(p).run().state == "finished"
heavy = ("polars", "duckdb", "chdb", "sextant.kinds.dataset.worker")
print([name for name in heavy if name in sys.modules])
"""


def test_a_coordinator_loads_no_engine_of_rows(tmp_path: Path) -> None:
    """If this fails, what only workers need stays in the memory of a server."""
    (tmp_path / "sextant.toml").write_text('module = "ops"\n')
    (tmp_path / "ops.py").write_text(
        "import polars as pl\n"
        "import sextant as sx\n"
        "sx.project('shop')\n"
        "@sx.dataset(key='id', checks=[sx.not_null('n')])\n"
        "def numbers():\n"
        "    return pl.DataFrame({'id': [1, 2], 'n': [2, 4]})\n"
        "sx.kpi('total', of=numbers, measure='sum(n)', grain='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
