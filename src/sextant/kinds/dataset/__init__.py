"""Datasets: tables made of functions, queries and pushed rows, partition by partition."""

from typing import Any

from sextant.kernel.kinds import Kind, Released, Sees, Shown
from sextant.kinds.dataset.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.dataset.declarations.assets import AuthoredDatasets

    return AuthoredDatasets()


def _made() -> Any:
    from sextant.kinds.dataset.made import MadeDatasets

    return MadeDatasets()


def _released(core: Any) -> Released:
    from sextant.kinds.dataset.released import DatasetRelease

    return DatasetRelease(core)


def _shown(core: Any, see: Sees) -> Shown:
    from sextant.kinds.dataset.views import ShownDatasets

    return ShownDatasets(core, see)


KIND = Kind(NAME, authored=_authored, made=_made, released=_released, shown=_shown)
