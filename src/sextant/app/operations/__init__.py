"""Every command as a method, with its row: in this process (`Operations`), or at a server
(`app/remote.py`), with the same answers and errors. A module for each noun.

`env=""` means the environment that the project names; lists come in pages, newest first.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sextant.app.operations.assets import AssetOperations
from sextant.app.operations.ledger import LedgerOperations
from sextant.app.operations.people import PeopleOperations
from sextant.app.operations.project import ProjectOperations
from sextant.app.operations.pushed import PushedOperations
from sextant.app.operations.releases import ReleaseOperations
from sextant.app.operations.row import Operation, rows_of
from sextant.app.operations.runs import RunOperations
from sextant.app.operations.signals import SignalOperations
from sextant.app.operations.telemetry import TelemetryOperations
from sextant.app.operations.upkeep import UpkeepOperations
from sextant.app.texts import checks_texts


class Operations(
    ProjectOperations,
    AssetOperations,
    RunOperations,
    ReleaseOperations,
    SignalOperations,
    PushedOperations,
    LedgerOperations,
    TelemetryOperations,
    PeopleOperations,
    UpkeepOperations,
):
    """What one principal may see and do. Each operation is permitted before it does anything."""


OPERATIONS = rows_of(*Operations.__bases__)  # in the order of the nouns
Platform = Operations  # what a server offers has the same methods


def _permitted(operation: Operation, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is permitted before it does anything."""

    @functools.wraps(method)
    def permitted(self: Operations, *args: Any, **kwargs: Any) -> Any:
        self._permit(operation, inspect.signature(method).bind(self, *args, **kwargs).arguments)
        return method(self, *args, **kwargs)

    return permitted


for _one in OPERATIONS:
    setattr(Operations, _one.name, _permitted(_one, getattr(Operations, _one.name)))
checks_texts(Operations, OPERATIONS)  # around that: what is refused stands in the ledger too
