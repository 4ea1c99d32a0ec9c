"""Code fingerprints: a digest of a function and of all project-local code that it reaches, so that
results can be kept until the code that made them changes. Called by the loader, once per function
and load.

What counts: bytecode compiled from the source without docstrings and without -O, constants,
defaults, closures, the
globals and module attributes that the code names, classes with their bases, what a decorator wraps
- all of it followed
through the project's own files. What does not: comments, docstrings, line numbers, names of files
and functions.
Third-party code is not followed; its distributions are listed with their versions. A global that is
an asset is an edge
of the graph, not code. Where reach cannot be told (getattr, importlib, open, environment, imports
inside a function,
objects that are not plain data) the whole module and the project's modules that it imports count,
and a warning says so.
Bytecode differs between Python's minor versions: the interpreter is part of a project's lock.
"""

import ast
import functools
import hashlib
import importlib.metadata
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from sextant.project.datafiles import READS, DataFiles, not_in_bundle
from sextant.project.sources import (
    Source,
    global_chains,
    imported,
    imports_inside,
    named_in,
    read_source,
    texts,
)

# Names by which code reaches what its text does not show, with what they reach.
_BLIND = {
    "getattr": "a name chosen at run time", "__import__": "a module chosen at run time",
    "importlib": "a module chosen at run time", "import_module": "a module chosen at run time",
    "eval": "code made at run time", "exec": "code made at run time",
    "globals": "a name chosen at run time", "open": "a file", "environ": "the environment",
    "getenv": "the environment",
}  # fmt: skip
_NOT_BLIND = (
    "importlib.util",
    "importlib.metadata",
    "importlib.resources",
)  # look things up, run no code of ours
_DEPTH_MAX = 50_000  # Python frames: a chain of ten thousand functions, each calling the next
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented))
_SELF_DESCRIBING = (
    "datetime",
    "decimal",
    "fractions",
    "pathlib",
    "uuid",
    "zoneinfo",
    "re",
    "typing",
    "types",
    "polars.datatypes",
    "sextant",
)
_STATE_ONLY = (
    "logging",
    "_thread",
    "threading",
    "_contextvars",
    "contextvars",
)  # loggers, locks: no part of the result
_CLASS_NOISE = frozenset(
    {
        "__doc__",
        "__module__",
        "__dict__",
        "__weakref__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
        "__abstractmethods__",
        "_abc_impl",
    }
)


class Fingerprint(NamedTuple):
    """digest: hex SHA-256. modules: third-party distributions reached, `name==version`. warnings:
    reach not followed. files: data files of the project that it reads, with their digests."""

    digest: str
    modules: tuple[str, ...]
    warnings: tuple[str, ...]
    files: dict[str, str]


class Fingerprints:
    """Computes fingerprints of functions of the project below `root`; files are read and compiled
    once."""

    def __init__(
        self,
        root: Path,
        *,
        data: Mapping[str, str] | None = None,
        included: Iterable[str] = (),
        left_out: Iterable[str] = (),
    ) -> None:
        """data      path -> digest of the bundle's data files
        included  those that are in it only because `include` names them
        left_out  files of the project's folder that are not in the bundle
        """
        self.root = os.path.realpath(root) + os.sep
        self._digests, self._included = data or {}, tuple(included)
        self._data, self._left_out = DataFiles(self._digests), DataFiles(left_out)
        self._sources: dict[str, Source | None] = {}
        self._local: dict[str, bool] = {}
        self._chains: dict[int, tuple[types.CodeType, set[tuple[str, ...]]]] = {}

    def of(self, function: Callable[..., Any]) -> Fingerprint:
        """Return the fingerprint of a function. Cost: about 0.1 ms a reached function, 2 ms a file
        met first."""
        walk = _Walk(self)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEPTH_MAX))
        try:
            walk.value(function)
        finally:
            sys.setrecursionlimit(limit)
        read = self._data.read_by(walk.texts, reads=walk.reads)
        if not read and walk.reads:  # by names that none of its texts has
            read = self._included
        missing = self._left_out.read_by(walk.texts, reads=walk.reads)
        if missing and isinstance(function, types.FunctionType):
            walk.warn_left_out(function.__code__, missing)
        tops = {top for top in walk.tops if top not in sys.stdlib_module_names and top != "sextant"}
        return Fingerprint(
            walk.digest(),
            tuple(sorted(filter(None, map(_distribution, tops)))),
            tuple(sorted(walk.warnings)),
            {path: self._digests[path] for path in read},
        )

    def is_local(self, file: str | None) -> bool:
        """Say whether a file is one of the project's own (not of an environment that lies inside of
        its folder)."""
        if not file or not os.path.isabs(file):  # `<string>`, `<frozen ...>`
            return False
        if file not in self._local:
            path = os.path.realpath(file)
            self._local[file] = (
                path.startswith(self.root)
                and "site-packages" not in path
                and "dist-packages" not in path
            )
        return self._local[file]

    def module(self, name: str) -> str | None:
        """Return the file of one of the project's modules, "" for a folder without one; None for
        code from elsewhere. Looked up by path: the import machinery would run packages on the
        way."""
        path = self.root + name.replace(".", os.sep)
        found = next(
            (
                file
                for file in (path + ".py", os.path.join(path, "__init__.py"))
                if os.path.isfile(file)
            ),
            None,
        )
        return found or ("" if os.path.isdir(path) else None)

    def relative(self, file: str) -> str:
        return os.path.relpath(os.path.realpath(file), self.root).replace(os.sep, "/")

    def chains(self, code: types.CodeType) -> set[tuple[str, ...]]:
        """Return the global names that code and the functions inside of it load, each with the
        attributes taken from it."""
        if id(code) not in self._chains:
            self._chains[id(code)] = (code, global_chains(code))
        return self._chains[id(code)][1]

    def source(self, file: str) -> Source | None:
        if file not in self._sources:
            self._sources[file] = read_source(file)
        return self._sources[file]


class _Walk:
    """One traversal from one function. What is met is written to the hash in a fixed order; what
    was met before is written as its number, so circles end and names do not matter."""

    def __init__(self, owner: Fingerprints) -> None:
        self._owner = owner
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps ids from being used again
        self._open: set[int] = set()  # containers being written: they may hold themselves
        self.tops: set[str] = set()
        self.warnings: set[str] = set()
        self.texts: set[str] = set()
        self.reads = False

    def digest(self) -> str:
        return self._hash.hexdigest()

    def _write(self, *words: object) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            self._hash.update(len(data).to_bytes(4, "big"))
            self._hash.update(data)

    def _met(self, value: object) -> bool:
        if id(value) in self._numbers:
            self._write("again", self._numbers[id(value)])
            return True
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        return False

    # ------------------------------------------------------------ values

    def value(self, value: Any, *, name: str = "", code: types.CodeType | None = None) -> None:
        """Write any object. `name` and `code` say for a warning where it was met."""
        if isinstance(value, _PLAIN):
            self._write(type(value).__name__, self._without_root(repr(value)))
            if isinstance(value, str):
                self.texts.add(self._without_root(value))
        elif getattr(type(value), "__sextant_asset__", False):
            self._write("asset", value.id)
        elif isinstance(value, tuple | list | set | frozenset | dict):
            self._container(value, name, code)
        elif self._met(value):
            return
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._write("method")
            self.value(value.__func__)
            self.value(value.__self__, name=name, code=code)
        elif isinstance(value, types.CodeType):
            self._code(value, {})
        elif isinstance(value, staticmethod | classmethod):
            self._write(type(value).__name__)
            self.value(value.__func__)
        elif isinstance(value, property):
            self._write("property")
            for function in (value.fget, value.fset, value.fdel):
                self.value(function)
        elif isinstance(value, functools.partial):
            self._write("partial")
            for part in (value.func, value.args, value.keywords):
                self.value(part, name=name, code=code)
        elif isinstance(value, functools.cached_property):
            self._write("cached_property")
            self.value(value.func)
        elif isinstance(value, types.ModuleType):
            self._module_value(value, name, code)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._instance(value, name, code)

    def _container(self, value: Any, name: str, code: types.CodeType | None) -> None:
        """Write a container by content: two equal ones are the same, wherever they came from."""
        if id(value) in self._open:
            self._write("circle")
            return
        self._open.add(id(value))
        items = list(value) if isinstance(value, tuple | list) else sorted(value, key=_order)
        self._write(type(value).__name__, len(items))
        for item in items:
            self.value(item, name=name, code=code)
            if isinstance(value, dict):
                self.value(value[item], name=name, code=code)
        self._open.discard(id(value))

    def _without_root(self, text: str) -> str:
        """Take the project's folder off a text: it differs between machines and bundles."""
        return text.replace(self._owner.root, "").replace(self._owner.root.rstrip(os.sep), "")

    def _function(self, function: types.FunctionType) -> None:
        code = function.__code__
        wrapped = getattr(function, "__wrapped__", None)
        if not self._owner.is_local(code.co_filename):
            self._outside(function.__module__, function.__qualname__)
            for cell in function.__closure__ or ():  # what a third-party decorator holds of ours
                held = _cell(cell)
                if self._is_ours(held):
                    self.value(held)
        else:
            self._write("function")
            self._code(code, function.__globals__)
            self.value(function.__defaults__)
            self.value(function.__kwdefaults__)
            for free, cell in sorted(
                zip(code.co_freevars, function.__closure__ or (), strict=True),
                key=lambda pair: pair[0],
            ):
                self._write("cell", free)
                self.value(_cell(cell), name=free, code=code)
        if wrapped is not None:
            self._write("wraps")
            self.value(wrapped)

    def _is_ours(self, value: Any) -> bool:
        if isinstance(value, types.FunctionType):
            return self._owner.is_local(value.__code__.co_filename) or hasattr(value, "__wrapped__")
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        return isinstance(value, type) and self._owner.is_local(getattr(module, "__file__", None))

    def _class(self, cls: type) -> None:
        module = sys.modules.get(cls.__module__)
        if not self._owner.is_local(getattr(module, "__file__", None)):
            self._outside(cls.__module__, cls.__qualname__)
            return
        self._write("class", len(cls.__bases__))
        for base in (*cls.__bases__, type(cls)):
            self.value(base)
        members = {key: member for key, member in vars(cls).items() if key not in _CLASS_NOISE}
        for key in sorted(members):
            member = members[key]
            if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType):
                self._write("slot", key)
            elif isinstance(member, types.FunctionType) and member.__code__.co_filename.startswith(
                "<"
            ):
                self._write("generated", key)  # a dataclass's own methods follow from its fields
            elif key in ("__annotations__", "__annotate__", "__annotations_cache__"):
                continue
            elif key == "__dataclass_params__":
                self._write(repr(member))
            elif key == "__dataclass_fields__":
                for field in member.values():
                    self._write("field", field.name, field.init, field.compare)
                    self.value(field.default_factory)
            elif isinstance(member, cls):  # members of an enumeration
                self._write("member", key, repr(getattr(member, "value", "")))
            else:
                self._write("attribute", key)
                self.value(member, name=f"{cls.__name__}.{key}")
        annotations = vars(cls).get("__annotations__", {})
        for key in sorted(annotations):
            self._write("field", key)
            annotation = annotations[key]
            self._write(repr(annotation)) if not self._is_ours(annotation) else self.value(
                annotation
            )

    def _instance(self, value: Any, name: str, code: types.CodeType | None) -> None:
        kind = type(value)
        module = kind.__module__
        if hasattr(value, "__wrapped__") and callable(
            value
        ):  # functools.cache, and decorators that are objects
            self._outside(module, kind.__qualname__)
            self.value(value.__wrapped__)
        elif isinstance(
            value,
            types.BuiltinFunctionType
            | types.MethodDescriptorType
            | types.WrapperDescriptorType
            | types.MethodWrapperType,
        ):
            self._outside(
                getattr(value, "__module__", None) or "builtins",
                getattr(value, "__qualname__", repr(type(value))),
            )
        elif _stands_in(module, _SELF_DESCRIBING) or kind is range:
            self._outside(module, kind.__qualname__)
            self._write(self._without_root(repr(value)))
            if isinstance(value, PurePath):
                self.texts.add(self._without_root(str(value)))
        elif _stands_in(module, _STATE_ONLY):
            self._outside(module, kind.__qualname__)
        elif self._is_ours(kind) and (state := _state(value)) is not None:
            self._write("instance")
            self.value(kind)
            self.value(state, name=name, code=code)
        else:
            self._outside(module, kind.__qualname__)
            if code is not None:
                self._blind(
                    code,
                    f"`{name}` is a {module}.{kind.__qualname__}, whose content cannot be compared",
                )

    def _module_value(
        self, module: types.ModuleType, name: str, code: types.CodeType | None
    ) -> None:
        file = getattr(module, "__file__", None)
        if self._owner.is_local(file):
            assert file is not None
            self._file(file)
            if code is not None:
                self._warn(code, f"the module `{name}` is used as a value")
        else:
            self._outside(module.__name__, "")

    def _outside(self, module: str, name: str) -> None:
        self._write("outside", module, name)
        self.tops.add(module.partition(".")[0])

    # ------------------------------------------------------------ code

    def _code(self, live: types.CodeType, scope: dict[str, Any]) -> None:
        """Write a function's code object and everything that it names in `scope`."""
        source = (
            self._owner.source(live.co_filename) if self._owner.is_local(live.co_filename) else None
        )
        compiled = source.codes.get((live.co_name, live.co_firstlineno), []) if source else []
        named: dict[str, set[tuple[str, ...]]] = {}
        for code in compiled or [live]:  # several lambdas of one line count together
            self._bytecode(code)
            for chain in self._owner.chains(code):
                named.setdefault(chain[0], set()).add(chain)
        words = {word for chains in named.values() for chain in chains for word in chain}
        self.texts.update(texts(compiled or [live], nested=True))
        self.reads = self.reads or any(
            name in READS for code in compiled or [live] for name in named_in(code)
        )
        if any(
            "find_spec" in chain or chain[:2] == ("importlib", "resources")
            for chains in named.values()
            for chain in chains
        ):
            self.tops.update(text for text in texts(compiled or [live]) if text.isidentifier())
        for line, base, names in imports_inside(live, str(scope.get("__package__") or "")):
            for module in (
                base,
                *(f"{base}.{name}" for name in names if self._owner.module(f"{base}.{name}")),
            ):
                self._import_inside(module, live, line)
        blind = {
            name: chain
            for name, chains in named.items()
            for chain in chains
            if name in _BLIND and not ".".join(chain).startswith(_NOT_BLIND)
        }
        blind |= {word: (word,) for word in words & {"environ", "getenv", "import_module"}}
        shadowed = {name for name in blind if self._is_ours(scope.get(name))}
        for name in sorted(set(blind) - shadowed):
            self._blind(live, f"`{name}` reaches {_BLIND[name]}")
        for name in sorted(named):
            if name in scope:
                self._global(name, named[name], scope[name], live)

    def _bytecode(self, code: types.CodeType) -> None:
        self._write(
            "code",
            code.co_code,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags,
            repr(code.co_names),
            repr(code.co_varnames),
            repr(code.co_freevars),
            repr(code.co_cellvars),
            getattr(code, "co_exceptiontable", b""),
            len(code.co_consts),
        )
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._bytecode(const)
            else:
                self._write(_constant(const))

    def _global(
        self, name: str, chains: set[tuple[str, ...]], value: Any, code: types.CodeType
    ) -> None:
        """Write a global; of a module only the attributes that are named."""
        self._write("global", name)
        if not isinstance(value, types.ModuleType):
            self.value(value, name=name, code=code)
            return
        for chain in sorted(chains):
            found: Any = value
            for depth, attribute in enumerate(chain[1:], 1):
                if not isinstance(found, types.ModuleType):
                    break
                if not self._owner.is_local(
                    getattr(found, "__file__", None)
                ) and not _is_package_of_ours(self._owner, found):
                    break
                found = _attribute(found, attribute)
                self._write("attribute", depth)
            self.value(found, name=".".join(chain), code=code)

    def _import_inside(self, module: str, code: types.CodeType, line: int) -> None:
        """An import inside a function: of the project's own modules, all of their text counts."""
        file = self._owner.module(module)
        if file is None:
            self._outside(module, "")
        elif file:
            self._file(file)
            self._warn(code, f"`{module}` is imported inside of the function", line)

    def _blind(self, code: types.CodeType, what: str) -> None:
        self._file(code.co_filename)
        self._warn(code, what)

    def _warn(self, code: types.CodeType, what: str, line: int = 0) -> None:
        self.warnings.add(
            f"{self._owner.relative(code.co_filename)}:{line or code.co_firstlineno}: "
            f"{what}: all of the module counts as its code"
        )

    def warn_left_out(self, code: types.CodeType, files: Sequence[str]) -> None:
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        place = f"{self._owner.relative(code.co_filename)}:{code.co_firstlineno}"
        self.warnings.add(f"{place}: {not_in_bundle(files[0])}{more}")

    def _file(self, file: str) -> None:
        """Write a whole file, and the project's files that it imports."""
        source = self._owner.source(file)
        if source is None or self._met(source.tree):
            return
        self._write("file", source.dump)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.texts.add(node.value)
            elif isinstance(node, ast.Name | ast.Attribute):
                self.reads = (
                    self.reads or (node.id if isinstance(node, ast.Name) else node.attr) in READS
                )
        package = os.path.dirname(self._owner.relative(file)).replace("/", ".")
        for node in ast.walk(source.tree):
            for name in imported(node, package):
                inner = self._owner.module(name)
                if inner:
                    self._file(inner)
                elif inner is None:
                    self.tops.add(name.partition(".")[0])


# ---------------------------------------------------------------- values


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):
        return "frozenset(" + ",".join(sorted(map(_constant, value))) + ")"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_constant, value)) + ")"
    return f"{type(value).__name__}:{value!r}"


def _order(value: Any) -> str:
    """Return a text to sort by that holds no address."""
    if isinstance(value, tuple | frozenset):
        return "(" + ",".join(map(_order, value)) + ")"
    if isinstance(value, _PLAIN):
        return repr(value)
    name = getattr(value, "__qualname__", "") or getattr(value, "name", "")
    return f"{type(value).__qualname__}:{name}"


def _stands_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet: a function that names itself
        return None


def _state(value: Any) -> dict[str, Any] | None:
    """Return an object's fields; None when they cannot be seen."""
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if hasattr(value, "__dict__"):
        return dict(vars(value))
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} if slots else None


# ---------------------------------------------------------------- modules


def _attribute(module: types.ModuleType, name: str) -> Any:
    missing = f"missing {name}"
    return getattr(module, name, sys.modules.get(f"{module.__name__}.{name}", missing))


def _is_package_of_ours(owner: Fingerprints, module: types.ModuleType) -> bool:
    """Say whether a module without a file is a folder of the project."""
    paths = list(getattr(module, "__path__", ()))
    return (
        bool(paths)
        and getattr(module, "__file__", None) is None
        and all(owner.is_local(path + os.sep + "x") for path in paths)
    )


@functools.cache
def _distribution(top: str) -> str | None:
    """Return `name==version` of the distributions that provide a top-level module; None for code
    without one."""
    found = {one.metadata["Name"] for one, provides in _installed() if provides(top)}
    return " ".join(f"{name}=={importlib.metadata.version(name)}" for name in sorted(found)) or None


@functools.cache
def _installed() -> list[tuple[importlib.metadata.Distribution, Callable[[str], bool]]]:
    """Return what is installed, each with what says whether it has a top-level module: as
    `importlib.metadata.packages_distributions`, which takes longer than importing most projects,
    because it makes an object of each file."""
    found: list[tuple[importlib.metadata.Distribution, Callable[[str], bool]]] = []
    for one in importlib.metadata.distributions():
        declared = (one.read_text("top_level.txt") or "").split()
        record = one.read_text("RECORD") or ""
        if not declared and not record:
            declared = [f.with_suffix("").parts[0] for f in one.files or () if f.suffix == ".py"]
        found.append((one, functools.partial(_provides, declared, record)))
    return found


def _provides(declared: Sequence[str], record: str, top: str) -> bool:
    """Say whether a distribution has a top-level module, by what it declares, or else by the list
    of its files."""
    if declared or top not in record:
        return top in declared
    name = re.escape(top)
    return bool(re.search(rf'^"?{name}(?:/[^\n]*)?\.py"?,', record, re.MULTILINE))
