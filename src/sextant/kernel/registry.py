"""Dotted ids to code, without importing it: the one visible table of what Sextant and plug-in
packages bring - checks, kinds, and what layers above are reached by.

A row is `id -> "module:attribute"`. Nothing behind a row is imported before `load`. Other packages
add rows by the entry-point group `sextant.plugins` (a function that returns rows). They are asked
when an id is unknown, or all ids below a name are wanted. A plug-in that is broken brings nothing,
and stops nobody else: `problems` says what is wrong with it.
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from sextant.kernel.builtins import ROWS
from sextant.kernel.errors import NotFound, ProjectError

_ROWS: dict[str, str] = dict(ROWS)
_problems: dict[str, str] = {}  # plug-in -> what is wrong with it
_scanned = False


def register(rows: Iterable[tuple[str, str]]) -> None:
    """Add rows, all or none. ProjectError when an id is taken by another target, or a row is
    none."""
    added: dict[str, str] = {}
    for row in rows:
        if not (isinstance(row, tuple) and len(row) == 2 and all(isinstance(x, str) for x in row)):
            raise ProjectError(
                "SX-REG-005", f"`{row!r}` is not a row", hint='("check.acme.even", "acme:even")'
            )
        name, target = row
        if _ROWS.get(name, added.get(name, target)) != target or ":" not in target:
            raise ProjectError(
                "SX-REG-001",
                f"two targets for the id `{name}`: `{_ROWS.get(name, added.get(name))}` and "
                f"`{target}`",
                hint="an id has one target, `module:attribute`; choose another id",
            )
        added[name] = target
    _ROWS.update(added)


def names(namespace: str) -> list[str]:
    """Return the ids below `namespace.`, sorted; those of plug-ins too."""
    _scan_plugins()
    return sorted(name for name in _ROWS if name.startswith(namespace + "."))


def has(name: str) -> bool:
    """Say whether an id is registered; plug-ins are asked when it is not known."""
    if name not in _ROWS:
        _scan_plugins()
    return name in _ROWS


def is_own(name: str) -> bool:
    """Say whether an id stands for something that ships with Sextant."""
    return _ROWS.get(name, "").startswith("sextant.")


def targets(namespace: str) -> list[str]:
    """Return what the ids below `namespace.` that are known by now stand for."""
    return [target for name, target in _ROWS.items() if name.startswith(namespace + ".")]


def load(name: str) -> Any:
    """Import and return what stands behind an id. NotFound lists the neighbours; ProjectError for
    a plug-in that does not have what it says."""
    if not has(name):
        near = difflib.get_close_matches(name, _ROWS, n=3) or names(name.rsplit(".", 1)[0])[:5]
        raise NotFound(
            "SX-REG-002",
            f"nothing is registered as `{name}`",
            hint=f"did you mean {', '.join(near) or 'another name'}?",
        )
    target = _ROWS[name]
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if module.partition(".")[0] == "sextant":
            raise
        raise ProjectError(
            "SX-REG-004",
            f"`{name}` cannot be loaded from `{target}`: {type(error).__name__}: {error}",
            hint="mend or remove the package that brings it",
        ) from error


def problems() -> dict[str, str]:
    """Return what is wrong with plug-ins, by their names."""
    _scan_plugins()
    return dict(_problems)


def _scan_plugins() -> None:
    global _scanned  # noqa: PLW0603 - the registry is the one module-level state
    if _scanned:
        return
    _scanned = True
    from importlib.metadata import entry_points

    for point in entry_points(group="sextant.plugins"):
        try:
            register(point.load()())
        except Exception as error:  # whatever it raises, the rest goes on
            _problems[point.name] = f"{type(error).__name__}: {error}"
