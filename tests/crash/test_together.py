"""Three processes that run, push, report and sign on one ledger at the same time."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import together

SECONDS = 3.0
SECONDS_WITH_STOPS = together.STOPPED_S + 3.0  # one process at least is stopped past its lease
VARIANTS = ({"jump": True}, {"stop": True}, {"namespace": True})


def seconds(variant: dict[str, bool]) -> float:
    return SECONDS_WITH_STOPS if variant.get("stop") else SECONDS


def check(found: dict[str, Any]) -> None:
    for fault in together.WRONG:
        assert not found[fault], found
    assert found["signed"] == found["events"]
    for done in ("runs", "pushes", "publishes of rows", "reports", "seals"):
        assert found.get(done, 0) >= 1, found


@pytest.fixture(params=VARIANTS, ids=lambda variant: next(iter(variant)))
def variant(request: pytest.FixtureRequest) -> dict[str, bool]:
    if "namespace" in request.param and not together.may_be_apart():
        pytest.skip("no pid namespaces here")
    return request.param


def test_three_processes_on_sqlite(tmp_path: Path, variant: dict[str, bool]) -> None:
    """What a process was told to be done would be gone, or the ledger wrong, because others worked
    at the same time: with a process that is stopped, a clock that jumps, a container beside it."""
    check(together.together(tmp_path, seconds(variant), seed=3, **variant))


def test_three_processes_on_postgres(
    tmp_path: Path, postgres_server: str, postgres_schema: str, variant: dict[str, bool]
) -> None:
    """As on SQLite, where one lock of the file hides some of it."""
    check(
        together.together(
            tmp_path,
            seconds(variant),
            seed=3,
            state=postgres_server,
            schema=postgres_schema,
            **variant,
        )
    )
