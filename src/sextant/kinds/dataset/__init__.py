"""Datasets: tables made of functions, queries and pushed rows, partition by partition."""

from typing import Any

from sextant.kernel.kinds import Kind, Released
from sextant.kinds.dataset.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.dataset.declarations.assets import AuthoredDatasets

    return AuthoredDatasets()


def _released(core: Any) -> Released:
    from sextant.kinds.dataset.publish import DatasetRelease

    return DatasetRelease(core.versions, core.lake)


KIND = Kind(NAME, authored=_authored, released=_released)
