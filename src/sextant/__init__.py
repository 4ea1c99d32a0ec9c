"""Sextant: operate services, infrastructure, data, models, security and business numbers as one
graph.

This is the author's face: `import sextant as sx`. Names are loaded when they are used, so importing
it costs next to nothing.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sextant.app.notebook import open as open  # noqa: A004 - `sx.open`; not in __all__, where it would hide Python's own
    from sextant.kernel.partitions import Partition
    from sextant.kinds.board.declare import board, panel
    from sextant.kinds.dataset.context import Context
    from sextant.kinds.dataset.declarations.checks import (
        accepted_values,
        between,
        check,
        foreign_key,
        fresh,
        matches,
        not_null,
        row_count,
        schema,
        sql_check,
        unique,
    )
    from sextant.kinds.dataset.declarations.declare import dataset, sql, stream, window
    from sextant.kinds.kpi.declare import goal, kpi
    from sextant.kinds.project.declare import project
    from sextant.project.words import (
        approval,
        cron,
        daily,
        hourly,
        inputs,
        monthly,
        policy,
        secret,
        static,
        team,
    )

__all__ = [
    "Context", "Partition", "accepted_values", "approval", "between", "board", "check", "cron",
    "daily", "dataset", "foreign_key", "fresh", "goal", "hourly", "inputs", "kpi", "matches",
    "monthly", "not_null", "panel", "policy", "project", "row_count", "schema", "secret", "sql",
    "sql_check", "static", "stream", "team", "unique", "window",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return a word: each is a row `word.NAME` of the registry, also those of plug-ins."""
    if name.startswith("_"):
        raise AttributeError(f"module `sextant` has no attribute `{name}`")
    from sextant.kernel import registry
    from sextant.kernel.errors import NotFound

    try:
        value = registry.load(f"word.{name}")
    except NotFound:
        raise AttributeError(f"module `sextant` has no attribute `{name}`") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from sextant.kernel import registry

    return sorted(id_.partition(".")[2] for id_ in registry.names("word"))


class _Face(ModuleType):
    """Importing a subpackage sets it as an attribute of its parent: `sextant.project`, the package,
    must not hide `project`, the author's word."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
