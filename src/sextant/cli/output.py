"""How commands open the platform and print: tables for people, JSON with `--json`, progress on
stderr."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sextant.formats.values import plain
from sextant.formats.values import text as text_of

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform
    from sextant.app.port import Platform, RunProgress

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
env_option = click.option(
    "--env", default=None, metavar="NAME", help="The environment (default: the project's)."
)
# Assets as every command selects them: see `engine.selection`.
select_argument = click.argument("assets", nargs=-1, metavar="[SELECT]...")
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)  # all but tab and new line; and what turns the direction of text
_BAR = 24  # characters of the progress bar


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command about a project has."""
    return env_option(as_json(command))


@contextmanager
def platform(*, sound: bool = False, **more: Any) -> "Iterator[Platform]":
    """Give the project of the command's context: in its folder, or at the server that `--server` or
    SEXTANT_SERVER names.

    sound  the command refuses a project with a mistake by itself: nothing is said of its last good
           state

    While it is open, a first Ctrl-C stops a run in this process cleanly; a run at a server goes on
    there.
    """
    address = click.get_current_context().find_root().obj["server"]
    if address:
        from sextant.app.remote import connect

        there = connect(address, os.environ.get("SEXTANT_TOKEN", ""))
        _warn(there.project()["problem_lines"] if more.get("load", True) and not sound else [])
        try:
            yield there
        finally:
            there.close()
        return
    from sextant.app.operations import Operations

    with local_platform(sound=sound, **more) as p, p.interruptible():
        yield Operations(p)


@contextmanager
def local_platform(*, sound: bool = False, **more: Any) -> "Iterator[LocalPlatform]":
    """Open the project of the command's context in this process, whatever server there is."""
    from sextant.app.platform import LocalPlatform

    start = click.get_current_context().find_root().obj["project"]
    with LocalPlatform.open(Path(start) if start else None, drafts=True, **more) as p:
        _warn(p.load_problem.lines() if p.load_problem is not None and not sound else [])
        yield p


def _warn(lines: Iterable[str]) -> None:
    for n, line in enumerate(lines):
        if n == 0:
            click.echo("warning: the project has a mistake; its last good state is used", err=True)
        say(f"  {line}")


def emit(
    value: Any, *, json: bool, text: Callable[[], Iterable[str]], compact: bool = False
) -> None:
    """Print a value as JSON (`compact`: on one line, for a stream of values), or as the lines of
    `text`."""
    if json:
        import msgspec

        raw = msgspec.json.encode(value, enc_hook=plain, order="deterministic")
        sys.stdout.write((raw if compact else msgspec.json.format(raw)).decode() + "\n")
        if compact:
            sys.stdout.flush()  # somebody follows
        return
    for line in text():
        click.echo(harmless(line))


def say(text: str) -> None:
    """Talk to the person, on stderr."""
    click.echo(harmless(text), err=True)


def harmless(text: str) -> str:
    """Return text as a terminal may see it: what a service logged, or a tool reported, must not
    move its cursor, rename it or hide lines."""
    return (
        text
        if text.isprintable()
        else _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> list[str]:
    """Return aligned lines of names and counts; numbers to the right. No rows: a line that says so.

    Values of the user's data go through `values_table`, which never groups digits.
    """
    return _aligned(
        head, [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    )


def values_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return aligned lines of values of the user's data, each as `formats.values.text` writes
    it."""
    return _aligned(head, [[text_of(value) for value in row] for row in rows])


def _aligned(head: Sequence[str], cells: list[list[str]]) -> list[str]:
    if not cells:
        return ["(none)"]
    numeric = [all(_is_number(row[n]) for row in cells) for n in range(len(head))]
    widths = [max(len(str(head[n])), *(len(row[n]) for row in cells)) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            value.rjust(widths[n]) if numeric[n] else value.ljust(widths[n])
            for n, value in enumerate(row)
        ).rstrip()

    return [line([str(h) for h in head]), *map(line, cells)]


def _is_number(text: str) -> bool:
    return (
        text in ("", "null")
        or text.replace(",", "")
        .replace(".", "")
        .replace("-", "")
        .replace("e", "")
        .replace("+", "")
        .isdigit()
    )


def short(digest: str) -> str:
    return digest[:12]


class Progress:
    """A line on stderr that follows the steps; silent where nobody watches."""

    def __init__(self, total: int = 0) -> None:
        self._total, self._done, self._rows = total, 0, 0
        self._live = sys.stderr.isatty()

    def __call__(self, done: "RunProgress") -> None:
        if done.waits:
            say(f"waiting: {done.waits}")
            return
        self._done += 1
        self._rows += done.rows
        if not self._live:
            return
        total = max(self._total, self._done)
        full = _BAR * self._done // total
        sys.stderr.write(
            f"\r[{'#' * full}{'.' * (_BAR - full)}] {self._done}/{total} steps, "
            f"{self._rows:,} rows  {done.step[:48]:48}"
        )
        sys.stderr.flush()

    def end(self) -> None:
        if self._live and self._done:
            sys.stderr.write("\r" + " " * 120 + "\r")
            sys.stderr.flush()
