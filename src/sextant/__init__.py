"""Sextant: operate services, infrastructure, data, models, security and business numbers as one
graph.

This is the author's face: `import sextant as sx`. Names are loaded when they are used, so importing
it costs next to nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sextant.app.notebook import open as open  # noqa: A004 - `sx.open`; not in __all__, where it would hide Python's own
    from sextant.author.checks import (
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
    from sextant.author.declare import (
        approval,
        cron,
        daily,
        dataset,
        goal,
        hourly,
        kpi,
        monthly,
        policy,
        project,
        secret,
        sql,
        static,
        stream,
        team,
        window,
    )
    from sextant.kernel.partitions import Partition
    from sextant.kinds.dataset.context import Context

_HOMES = {
    "sextant.app.notebook": ("open",),
    "sextant.author.checks": (
        "accepted_values",
        "between",
        "check",
        "foreign_key",
        "fresh",
        "matches",
        "not_null",
        "row_count",
        "schema",
        "sql_check",
        "unique",
    ),
    "sextant.author.declare": (
        "approval",
        "cron",
        "daily",
        "dataset",
        "goal",
        "hourly",
        "kpi",
        "monthly",
        "policy",
        "project",
        "secret",
        "sql",
        "static",
        "stream",
        "team",
        "window",
    ),
    "sextant.kinds.dataset.context": ("Context",),
    "sextant.kernel.partitions": ("Partition",),
}
_EXPORTS = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Context", "Partition", "accepted_values", "approval", "between", "check", "cron", "daily",
    "dataset", "foreign_key", "fresh", "goal", "hourly", "kpi", "matches", "monthly", "not_null",
    "policy", "project", "row_count", "schema", "secret", "sql", "sql_check", "static", "stream",
    "team", "unique", "window",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module `sextant` has no attribute `{name}`")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])


class _Face(ModuleType):
    """Importing a subpackage sets it as an attribute of its parent: `sextant.project`, the package,
    must not hide `project`, the author's word."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _EXPORTS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
