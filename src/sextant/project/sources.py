"""A project's source files as the fingerprint needs them: code objects without docstrings, and what
they name. Pure reading; nothing here is run.
"""

import ast
import dis
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]


class Source(NamedTuple):
    """One file: its tree without docstrings, and the code objects compiled from it by (name, first
    line)."""

    tree: ast.Module
    codes: dict[tuple[str, int], list[types.CodeType]]
    dump: bytes


def read_source(file: str) -> Source | None:
    try:
        with open(file, "rb") as handle:
            tree = ast.parse(handle.read(), file)
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
            and node.body
        ):
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[:1] = (
                    []
                    if len(node.body) > 1 or isinstance(node, ast.Module)
                    else [ast.copy_location(ast.Pass(), first)]
                )
    dump = ast.dump(tree).encode()
    _flatten(tree, 1)
    codes: dict[tuple[str, int], list[types.CodeType]] = {}
    # optimize=0: asserts count, whether or not this interpreter runs with -O.
    todo = [compile(tree, file, "exec", dont_inherit=True, optimize=0)]
    while todo:
        code = todo.pop()
        codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return Source(tree, codes, dump)


def _flatten(node: ast.AST, line: int) -> None:
    """Put everything in a function on its first line: where lines break, the compiler may leave a
    NOP."""
    decorators = getattr(node, "decorator_list", [])
    for child in ast.iter_child_nodes(node):
        keeps = (
            isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
            or child in decorators
        )
        own = child.lineno if keeps else line  # type: ignore[attr-defined]
        if hasattr(child, "lineno"):
            child.lineno = child.end_lineno = own  # type: ignore[attr-defined]
            child.col_offset = child.end_col_offset = 0  # type: ignore[attr-defined]
        _flatten(child, own)


def global_chains(code: types.CodeType) -> set[tuple[str, ...]]:
    """Return the global names that code and the functions inside of it load, each with the
    attributes taken from it."""
    found: set[tuple[str, ...]] = set()
    chain: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            chain = (*chain, step.argval)
        elif step.opname not in ("CACHE", "EXTENDED_ARG", "NOP"):
            found.add(chain)
            chain = (step.argval,) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else ()
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= global_chains(const)
    return found - {()}


def imports_inside(
    live: types.CodeType, package: str
) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield (line, absolute module, names taken from it) of the import statements inside of
    functions."""
    todo = [live]
    while todo:
        code = todo.pop()
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        if _IMPORT_NAME not in code.co_code[::2]:
            continue
        line = code.co_firstlineno
        recent: list[Any] = []
        for step in dis.get_instructions(code):
            line = step.positions.lineno if step.positions and step.positions.lineno else line
            if step.opname == "IMPORT_NAME":
                level = recent[-2] if len(recent) >= 2 and isinstance(recent[-2], int) else 0
                yield (
                    line,
                    _absolute(step.argval, level, package),
                    recent[-1] if recent and isinstance(recent[-1], tuple) else (),
                )
            elif step.opname.startswith("LOAD_CONST") or step.opname == "LOAD_SMALL_INT":
                recent = [*recent[-1:], step.argval]


def named_in(code: types.CodeType) -> Iterator[str]:
    """Yield the globals and attributes that code names, and the functions inside of it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from named_in(const)


def texts(codes: list[types.CodeType], *, nested: bool = False) -> Iterator[str]:
    """Yield the texts among the constants of code, and of the functions inside of it; `nested`: in
    constant tuples too."""
    for code in codes:
        for const in code.co_consts:
            if isinstance(const, str):
                yield const
            elif isinstance(const, types.CodeType):
                yield from texts([const], nested=nested)
            elif nested and isinstance(const, tuple | frozenset):
                yield from (one for one in const if isinstance(one, str))


def imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node.module or "", node.level, package)
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return []


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    parts = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parts, *([name] if name else [])])
