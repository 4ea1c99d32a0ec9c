"""The peers of bench/telemetry.py: VictoriaMetrics and Prometheus as Debian packages, fetched by
the system's own package manager, run from a folder."""

import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry_wire import on_core

from sextant.server.processes.supervisor import claim

PACKAGES = {"victoria-metrics": "victoria-metrics", "prometheus": "prometheus"}
DURABILITY = {
    "victoria-metrics": "answers before it is on disk: written from memory every few seconds",
    "prometheus": "answers when it is in the write-ahead log, which is not fsynced",
    "sextant": "answers when it is fsynced",
}


class NotHere(Exception):
    """A peer is not to be had; says why."""


def programs(folder: Path) -> dict[str, Path]:
    """Return name -> program, unpacked below `folder`. NotHere when the system has no such
    packages."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NotHere("no Debian packages on this system")
    out = {}
    for name, package in PACKAGES.items():
        done = subprocess.run(
            ["apt-get", "download", package],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        found = sorted(folder.glob(f"{package}_*.deb"))
        if done.returncode or not found:
            raise NotHere(f"{package} cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
        subprocess.run(["dpkg", "-x", str(found[-1]), str(folder)], check=True)
        out[name] = folder / "usr/bin" / package
    return out


def version(program: Path) -> str:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).splitlines()[0][:100]


class Peer:
    """One running peer: `host` takes remote write at /api/v1/write."""

    def __init__(self, name: str, program: Path, folder: Path, core: int) -> None:
        self.name, self.folder, self.host = name, folder, claim(name, "127.0.0.1:0")
        command = {
            "victoria-metrics": [
                str(program),
                f"-storageDataPath={folder}",
                f"-httpListenAddr={self.host}",
                "-retentionPeriod=10y",
                "-loggerLevel=ERROR",
            ],
            "prometheus": [
                str(program),
                "--web.enable-remote-write-receiver",
                f"--storage.tsdb.path={folder}",
                f"--web.listen-address={self.host}",
                f"--config.file={folder}.yml",
                "--log.level=error",
            ],
        }[name]
        Path(f"{folder}.yml").write_text("global: {}\n")
        with on_core(core):
            self.process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        until = time.monotonic() + 30
        while True:
            try:
                self.get("/health" if name == "victoria-metrics" else "/-/ready")
                break
            except (OSError, AssertionError):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise NotHere(f"{name} does not start") from None
                time.sleep(0.05)

    def get(self, path: str) -> bytes:
        link = http.client.HTTPConnection(self.host, timeout=600)
        link.request("GET", path)
        answer = link.getresponse()
        data = answer.read()
        link.close()
        assert answer.status < 300, data
        return data

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def peer(name: str, program: Path, core: int = 0) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory(prefix="sextant-peer-") as folder:
        one = Peer(name, program, Path(folder) / "data", core)
        try:
            yield one
        finally:
            one.end()
