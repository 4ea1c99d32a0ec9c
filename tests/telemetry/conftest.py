"""One telemetry process and one server that knows tokens, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, serve
from telemetry_process import Telemetry, telemetry

from sextant import testing

_OPS = (
    'import sextant as sx\n\nsx.project("shop", tz="UTC", owner=sx.team("shop", '
    'members=["ann"]), environments=["dev"])\n'
)


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Serving]:
    with testing.platform({"ops.py": _OPS}) as platform, serve(platform) as serving:
        yield serving


@pytest.fixture(scope="module")
def process(coordinator: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    with telemetry(
        tmp_path_factory.mktemp("telemetry"), api=coordinator.url, series_max=2000
    ) as one:
        yield one


@pytest.fixture(scope="module")
def token(coordinator: Serving) -> str:
    return coordinator.token(
        "operator", name="shop-ci", teams=("shop",), scopes=("ingest", "query")
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")
