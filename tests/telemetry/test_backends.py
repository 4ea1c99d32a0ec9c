"""One suite for both backends of the telemetry store."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("backend", ["chdb", "clickhouse"])
def test_the_suite(backend: str, tmp_path: Path) -> None:
    """If this fails, a backend does not do what the other does."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("backend_suite.py")), backend, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("ok\n"), done.stderr


def test_a_server_that_is_away(tmp_path: Path) -> None:
    """If this fails, a wrong address hangs, or its error does not say so."""
    from sextant.kernel.errors import StorageError, UsageError
    from sextant.stores.telemetry.clickhouse import ClickHouseStore

    with pytest.raises(StorageError, match="does not answer"):
        ClickHouseStore("http://127.0.0.1:9").run("SELECT 1")
    with pytest.raises(UsageError):
        ClickHouseStore("127.0.0.1")
    assert not list(tmp_path.iterdir())
