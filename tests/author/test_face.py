"""`import sextant`: what it offers and what it must not load."""

import subprocess
import sys

import sextant
from sextant.kernel import registry


def test_every_name_of_the_face_loads_and_is_listed_for_type_checkers():
    """A name that is promised and does not work, or works and is not seen by mypy."""
    import ast
    import inspect

    assert sextant.__all__ == sorted(sextant.__all__, key=lambda n: (n.islower(), n))
    for name in sextant.__all__:
        assert getattr(sextant, name).__name__ == name
    tree = ast.parse(inspect.getsource(sextant))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    # `open` is not for `from sextant import *`: it would hide Python's own.
    words = {id_.partition(".")[2] for id_ in registry.names("word")}
    assert typed == {*sextant.__all__, "open"} == words == set(dir(sextant))
    assert sextant.open.__module__ == "sextant.app.notebook"


def test_importing_loads_nothing_heavy():
    """Every command would wait for libraries that it does not use."""
    code = (
        "import sys; import sextant; bad = "
        "{'polars','pyarrow','duckdb','click','rich','asyncio','msgspec','sqlglot','numpy','inspect'} "
        "& set(sys.modules); print(sorted(bad));"
        "import sextant as sx; sx.dataset; sx.Context; sx.daily(start='2024-01-01');"
        "print(sorted({'polars','pyarrow','duckdb','click','rich','asyncio','sqlglot','numpy','pandas'} "
        "& set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == "[]\n[]\n"


def test_a_package_of_the_same_name_does_not_hide_the_authors_word():
    """`sx.project(...)` would be a module as soon as anything imports the package
    `sextant.project`."""
    code = (
        "import sextant as sx; import sextant.project; print(callable(sx.project)); from "
        "sextant.project import __name__ as n; print(n)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == "True\nsextant.project\n"


def test_an_unknown_name_is_an_attribute_error():
    """hasattr and copy would behave oddly."""
    assert not hasattr(sextant, "model")
