"""Runs the commands of documentation pages: `python docs/run.py README.md docs/how-to/*.md`.

Every block marked `sh` is run, in order, in one shell per page and in an empty folder; `sh exit=1`
says which exit code the last
command of the block must have. A page with `<!-- starts: shop -->` begins in a project of `sextant
init shop` that has run once.
`--show` prints what the commands print. Exit code 1 names the page and line that did not do what it
says.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```sh(?: exit=(\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHECK = """
expect() {
  if [ "$1" != "$2" ]; then echo "line $3 ended with exit code $1, not $2" >&2; exit 99; fi
}
"""


class Command(NamedTuple):
    """One command of a page, with what it reads from its here-document."""

    line: int
    text: str
    code: int


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a page in order."""
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(2)) + 1
        found = list(_split(block[2], line))
        for at, (number, command) in enumerate(found):
            yield Command(number, command, int(block[1] or 0) if at == len(found) - 1 else 0)


def _split(block: str, line: int) -> Iterator[tuple[int, str]]:
    lines = block.splitlines()
    at = 0
    while at < len(lines):
        first = at
        end = re.search(r"<<'?(\w+)'?", lines[at])
        while (end and lines[at] != end[1]) or lines[at].endswith("\\"):
            at += 1
        at += 1
        if lines[first].strip():
            yield line + first, "\n".join(lines[first:at])


def run(page: Path, folder: Path, *, show: bool = False) -> str:
    """Run a page's commands in an empty folder; return "" or what went wrong."""
    text = page.read_text(encoding="utf-8")
    script = [_CHECK]
    if "<!-- starts: shop -->" in text:
        script += [
            "sextant init shop >/dev/null && cd shop && sextant run >/dev/null",
            "expect $? 0 0",
        ]
    for command in commands(text):
        script += [
            f"printf '\\n$ %s\\n' {shlex.quote(command.text)}",
            command.text,
            f"expect $? {command.code} {command.line}",
        ]
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    for name, words in (
        ("sextant", [sys.executable, "-m", "sextant.cli.main"]),
        ("python", [sys.executable]),
    ):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (tools / name).chmod(0o755)
    (tools / "activate").write_text("")
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": paths,
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "XDG_STATE_HOME": str(folder / ".state"),
        "SEXTANT_USER": "ann",
    }
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8"
    ) as out:  # no pipe: a server that a page left running would hold it open
        process = subprocess.Popen(
            ["sh", "-c", "\n".join(script)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        out.seek(0)
        said = out.read()
    if show:
        print(said)
    return "" if code == 0 else f"{page}: " + "\n".join(said.splitlines()[-25:])


def main(arguments: list[str]) -> int:
    """Run the pages that are named."""
    worst = 0
    for name in arguments:
        if name.startswith("--"):
            continue
        with tempfile.TemporaryDirectory(prefix="sextant-docs-") as folder:
            problem = run(Path(name), Path(folder), show="--show" in arguments)
        print(
            problem
            or (
                f"{name}: {len(list(commands(Path(name).read_text(encoding='utf-8'))))} "
                "commands did what they say"
            )
        )
        worst = max(worst, int(bool(problem)))
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
