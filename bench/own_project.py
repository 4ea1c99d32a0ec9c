"""A project of its own under `sextant up`, and a table of what clients sent beside what is found.
Used by the scripts that prove unchanged clients: bench/node.py, bench/prometheus.py.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_OPS = """
import sextant as sx
sx.project("clients", tz="UTC", owner=sx.team("clients"), environments=["dev"])
"""
_TOML = """
module = "ops"
environment = "dev"
[server]
api = "127.0.0.1:0"
ingest = "127.0.0.1:0"
sql = "127.0.0.1:0"
grpc = "127.0.0.1:0"
"""
_COUNTED_S = 60.0  # growth is counted once in fifteen seconds; a busy machine takes longer


class Project:
    """The server: its addresses, and SQL at its endpoint."""

    def __init__(self, folder: Path, toml: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ops.py").write_text(_OPS)
        (folder / "sextant.toml").write_text(_TOML + toml)
        command = [sys.executable, "-m", "sextant.cli.main", "--project", str(folder)]
        self.process = subprocess.Popen(
            [*command, "up", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        facts = json.loads(self.process.stdout.readline())
        self.ingest, self.grpc, self.sql = facts["ingest"], facts["grpc"], facts["sql"]
        self.token: str = facts["token"]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a question. OSError when the server cannot be asked."""
        request = urllib.request.Request(
            f"{self.sql}/?default_format=JSONEachRow",
            sql.encode(),
            {"Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def one(self, sql: str) -> Any:
        """Return the only value of an answer; None when it is empty."""
        rows = self.ask(sql)
        return next(iter(rows[0].values())) if rows else None

    def kill_telemetry(self) -> None:
        """Kill the telemetry process with -9, as the kernel does when memory runs out; the
        supervisor starts it again."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        (found,) = (
            int(child)
            for child in children
            if b"sextant.server.processes.telemetry" in Path(f"/proc/{child}/cmdline").read_bytes()
        )
        os.kill(found, signal.SIGKILL)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextlib.contextmanager
def project(folder: Path, toml: str = "") -> Iterator[Project]:
    """Serve a project in a folder, on free ports."""
    one = Project(folder, toml)
    try:
        yield one
    finally:
        one.end()


class Table:
    """What was sent and what is found, a row for each; printed as it grows."""

    def __init__(self) -> None:
        self.wrong = 0
        self._widths = (34, 34, 14, 14)
        self._print("client", "what", "sent", "found", "right")

    def add(
        self, client: str, what: str, sent: Any, found: Any, *, right: bool | None = None
    ) -> None:
        is_right = _equal(sent, found) if right is None else right
        self.wrong += not is_right
        self._print(client, what, sent, found, "yes" if is_right else "NO")

    def _print(self, *words: Any) -> None:
        texts = [f"{word:.6g}" if isinstance(word, float) else str(word) for word in words]
        print(
            "  ".join(
                text.ljust(width) for text, width in zip(texts, (*self._widths, 0), strict=True)
            ).rstrip(),
            flush=True,
        )


def _equal(sent: Any, found: Any) -> bool:
    if isinstance(sent, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(sent, found, rel_tol=1e-9)
    return bool(sent == found)


def eventually(ask: Callable[[], Any], wanted: Any) -> Any:
    """Ask until the answer is the wanted one, or for a minute; return the last answer."""
    end = time.monotonic() + _COUNTED_S
    found = None
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            found = ask()
            if _equal(wanted, found):
                return found
        time.sleep(0.2)
    return found
