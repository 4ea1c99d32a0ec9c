"""From an edit to its first step at a server: `python bench/uploads.py [--repeat 10] [--files 200]`.

A server (`sextant up`) works on a project of some files; a copy of the folder stands for a laptop.
Each repetition changes one file there and runs one partition in an environment of its own with the
command line: what is missing is uploaded, loaded, released to the environment, and run. Measured is
the time from the start of the command until the step's own code runs at the server (its clock is
the same), and until the command ends, with the ledger durable as always. Between them, the same
partition with the same files (`--force`), so that what the upload costs is seen apart. Prints one
JSON line.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OPS = """
import time

import polars as pl
import sextant as sx

team = sx.team("shop", members=["ann"])
sx.project("shop", tz="UTC", owner=team, environments=["dev", "prod"])


@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"ran": [time.time()], "n": [0]})
"""
ADDRESSES = "".join(f'{name} = "127.0.0.1:0"\n' for name in ("api", "ingest", "sql"))
TOML = f'module = "ops"\nenvironment = "dev"\n\n[server]\n{ADDRESSES}grpc = ""\n'


def sextant(folder: Path, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from sextant.cli.main import main; main()", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--files", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as temporary:
        print(json.dumps(measure(Path(temporary), arguments.repeat, arguments.files)))


def measure(top: Path, repeat: int, files: int) -> dict[str, Any]:
    server, laptop = top / "server", top / "laptop"
    server.mkdir()
    (server / "sextant.toml").write_text(TOML)
    (server / "ops.py").write_text(OPS)
    (server / "parts").mkdir()
    for n in range(files):
        (server / "parts" / f"part{n}.py").write_text(f'"""Part {n}."""\n' + "x = 1\n" * 300)
    sextant(server, "run")
    sextant(server, "run", "--env", "prod")
    shutil.copytree(server, laptop, ignore=shutil.ignore_patterns(".sextant"))
    log = top / "up.log"
    with open(log, "wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-c", "from sextant.cli.main import main; main()", "up"],
            cwd=server,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        while not (found := re.search(r"api +(http\S+)(?s:.*)(sxt_\S+)", log.read_text())):
            if up.poll() is not None:
                raise SystemExit(f"the server ended before it was ready:\n{log.read_text()}")
            time.sleep(0.1)
        return repeated(laptop, repeat, found[1], found[2])
    finally:
        up.terminate()
        up.wait()


def repeated(laptop: Path, repeat: int, url: str, token: str) -> dict[str, Any]:
    at = {"SEXTANT_SERVER": url, "SEXTANT_TOKEN": token}
    sextant(laptop, "env", "create", "pr-7", "--from", "prod", **at)
    seen: dict[str, list[float]] = {}
    for n in range(repeat + 1):
        for what in ("changed", "same"):
            if what == "changed":
                (laptop / "ops.py").write_text(OPS.replace("[0]", f"[{n + 1}]"))
            started = time.time()
            words = ["backfill", "orders", "--force", "--only", "--env", "pr-7"]
            sextant(laptop, *words, **at)
            ended = time.time()
            shown = json.loads(sextant(laptop, "show", "orders", "--env", "pr-7", "--json", **at))
            (row,) = shown["sample"]
            assert row["n"] == n + 1, row
            if n:  # the first starts workers
                seen.setdefault(f"{what}: first step after s", []).append(row["ran"] - started)
                seen.setdefault(f"{what}: command s", []).append(ended - started)
    return {
        "bench": "uploads",
        "repeat": repeat,
        **{
            name: {
                "median": round(statistics.median(values), 3),
                "range": [round(min(values), 3), round(max(values), 3)],
            }
            for name, values in seen.items()
        },
        "target s": 1.0,
    }


if __name__ == "__main__":
    main()
