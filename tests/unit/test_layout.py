"""The layout of the code: what is general knows no kind of asset, and no object knows everything."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import sextant
from sextant.core import Core
from sextant.kernel.kinds import kinds

SOURCE = Path(sextant.__file__).parent
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


def named(folder: Path) -> dict[str, set[str]]:
    """Return file -> its strings that name a kind."""
    # the project is what all the rest is part of: it is no kind among others
    name = re.compile(rf"({'|'.join(kinds().keys() - {'project'})})(?:$|[:._])")
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(SOURCE)
        if file.parts[0] == "kinds" or file == Path("kernel", "builtins.py"):  # its table of rows
            continue
        if path.suffix == ".py":
            texts = [text for _, text in strings(path)]
        elif path.suffix == ".sql":
            texts = re.findall(r"'([^']*)'", path.read_text(encoding="utf-8"))
        else:
            continue
        if those := {text for text in texts if name.match(text)}:
            found[file.as_posix()] = those
    return found


def test_what_is_general_names_no_kind() -> None:
    """If this fails, one more kind of asset needs an edit in code that should not know it; or an
    exception is not needed any more."""
    listed = tomllib.loads((Path(__file__).parent / "kind_names.toml").read_text(encoding="utf-8"))
    assert named(SOURCE) == {file: set(texts) for file, texts in listed.items()}


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
