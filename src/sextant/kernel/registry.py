"""Maps dotted ids to code without importing it, so that a layer reaches those above it by id.

A row is `id -> "module:attribute"`. Nothing behind a row is imported before `load`. Other packages
add rows by the entry-point group `sextant.plugins` (a function that yields rows); it is scanned
only when an id is unknown.
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from sextant.kernel.builtins import ROWS
from sextant.kernel.errors import Bug, NotFound

_ROWS: dict[str, str] = dict(ROWS)
_scanned = False


def register(rows: Iterable[tuple[str, str]]) -> None:
    """Add rows. Bug if an id is taken by another target."""
    for name, target in rows:
        if _ROWS.setdefault(name, target) != target:
            raise Bug(
                "SX-REG-001", f"two targets for the id `{name}`: `{_ROWS[name]}` and `{target}`"
            )


def names(namespace: str) -> list[str]:
    """Return the ids below `namespace.`, sorted."""
    return sorted(name for name in _ROWS if name.startswith(namespace + "."))


def load(name: str) -> Any:
    """Import and return what stands behind an id. NotFound lists the neighbours."""
    if name not in _ROWS:
        _scan_plugins()
    target = _ROWS.get(name)
    if target is None:
        near = difflib.get_close_matches(name, _ROWS, n=3) or names(name.rsplit(".", 1)[0])[:5]
        raise NotFound(
            "SX-REG-002",
            f"nothing is registered as `{name}`",
            hint=f"did you mean {', '.join(near) or 'another name'}?",
        )
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _scan_plugins() -> None:
    global _scanned  # noqa: PLW0603 - the registry is the one module-level state
    if _scanned:
        return
    _scanned = True
    from importlib.metadata import entry_points

    for point in entry_points(group="sextant.plugins"):
        register(point.load()())
