"""Datasets: tables made of functions, queries and pushed rows, partition by partition."""

from typing import Any

from sextant.kernel.kinds import Kind, Released


def _released(core: Any) -> Released:
    from sextant.kinds.dataset.publish import DatasetRelease

    return DatasetRelease(core.versions, core.lake)


KIND = Kind("dataset", released=_released)
