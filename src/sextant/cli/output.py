"""How commands open the platform and print: tables for people, JSON with `--json`, progress on
stderr.

Colour, the width of tables and the pager are decided here and nowhere else. A command says what a
text means (`state`, `mark`) and which lines there are. Off a terminal there is no colour, no pager,
and nothing is cut.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, Self

import click

from sextant.cli import complete
from sextant.kernel.limits import PAGE_ROWS_MAX

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.app.platform import LocalPlatform

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
wide = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, given: _set_wide(context) if given else None,
    help="Show tables whole, also where they are wider than the terminal.",
)
env_option = click.option(
    "--env",
    default=None,
    metavar="NAME",
    help="The environment (default: the project's).",
    shell_complete=complete.environments,
)
# Assets as every command selects them: see `engine.selection`.
BARS = "▁▂▃▄▅▆▇█"  # heights of a bar that is one character
_NAME = re.compile(r"(?!tag:|owner:|kind:|path:)[\w:]+")
select_argument = click.argument(
    "assets",
    nargs=-1,
    metavar="[SELECT]...",
    help="`orders`, `+orders`, `orders+2`, `tag:daily`, `owner:`, `kind:`, `path:` (default: all).",
    shell_complete=complete.selections,
)
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)  # all but tab and new line; and what turns the direction of text
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?(e[+-]?\d+)?")
_ESCAPE = re.compile("\\x1b\\[[0-9;]*m")
_LEAST = 8  # characters that a shortened column keeps
_WORD = 40  # a value of so many characters without a blank is an id (a UUID has 36): never cut
_GAP = "  "  # between columns

Tone = Literal["good", "warn", "bad", "head", "dim"]
_ESCAPES: dict[str, str] = {"good": "32", "warn": "33", "bad": "31", "head": "1", "dim": "2"}
_WORDS: dict[Tone, str] = {  # the first words of states and severities, by what they mean
    "good": "live ok finished met up",
    "warn": (
        "warn waits waiting stale held paused pushed open cancelled withdrawn rolled_back missing"
    ),
    "bad": (
        "failed FAILED FAIL refused REFUSED rejected BROKEN MISSED LOOK WRONG error fatal critical "
        "stuck"
    ),
}
_MEANS = {word: tone for tone, words in _WORDS.items() for word in words.split()}


limit_option = click.option(
    "--limit",
    default=20,
    type=click.IntRange(1, PAGE_ROWS_MAX),
    metavar="N",
    help="How many (default 20).",
)


def _set_wide(context: click.Context) -> None:
    context.find_root().obj["wide"] = True


def is_name(text: str) -> bool:
    """Say whether what selects assets is the name or id of one."""
    return _NAME.fullmatch(text) is not None


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
        try:
            yield there
        finally:
            there.close()
        return
    from sextant.app.operations import Operations

    with local_platform(sound=sound, **more) as p, p.interrupts.interruptible():
        yield Operations(p)


@contextmanager
def local_platform(*, sound: bool = False, **more: Any) -> "Iterator[LocalPlatform]":
    """Open the project of the command's context in this process, whatever server there is."""
    from sextant.app.platform import LocalPlatform

    start = click.get_current_context().find_root().obj["project"]
    with LocalPlatform.open(Path(start) if start else None, drafts=True, **more) as p:
        problem = p.core.project.problem
        _warn(problem.lines() if problem is not None and not sound else [])
        yield p


def _warn(lines: Iterable[str]) -> None:
    for n, text in enumerate(lines):
        if n == 0:
            say(
                line(
                    state("warning", "warn"),
                    ": the folder has a mistake; what is in force is used",
                )
            )
        say(f"  {text}")


class Marked(str):
    """A text whose parts mean something. Put together with others by `line` it keeps its marks; as
    a plain text it has none."""

    __slots__ = ("parts",)
    parts: tuple[tuple[str, Tone | None], ...]

    def __new__(cls, parts: Iterable[tuple[str, Tone | None]]) -> Self:
        kept = tuple((str(text), tone) for text, tone in parts)
        made = super().__new__(cls, "".join(text for text, _ in kept))
        made.parts = kept
        return made


def mark(text: str, tone: Tone) -> Marked:
    """Return a text that means something."""
    return Marked([(text, tone)])


def state(text: str, like: str = "") -> str:
    """Return a state or severity, marked by what its first word means, or what `like` means."""
    tone = _MEANS.get((like or text).partition(" ")[0].rstrip(":"))
    return mark(text, tone) if tone else text


def line(*parts: str) -> str:
    """Return the parts as one text, marks included."""
    if not any(isinstance(part, Marked) for part in parts):
        return "".join(parts)
    return Marked(
        one
        for part in parts
        for one in (part.parts if isinstance(part, Marked) else ((part, None),))
    )


def emit(
    value: Any, *, json: bool, text: Callable[[], Iterable[str]], compact: bool = False
) -> None:
    """Print a value as JSON (`compact`: on one line, for a stream of values), or as the lines of
    `text`. At a terminal, lines that do not fit on the screen are shown by the pager when the
    command has ended; a stream never is."""
    if json:
        import msgspec

        from sextant.formats.values import plain

        raw = msgspec.json.encode(value, enc_hook=plain, order="deterministic")
        put((raw if compact else msgspec.json.format(raw)).decode() + "\n")
        return
    lines = [_painted(one, sys.stdout) for one in text()]
    shown = "".join(f"{one}\n" for one in lines)
    pager = [] if compact or not is_terminal(sys.stdout) else _pager(lines)
    if pager:  # whoever reads it for long holds nothing open
        click.get_current_context().find_root().call_on_close(lambda: _page(pager, shown))
    else:
        put(shown)


def put(data: str | bytes) -> None:
    """Write to stdout, at once. When whoever reads it has enough (`| head`), the command ends
    without a word."""
    if sys.stdout is None:
        return
    try:
        if isinstance(data, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()


def stop_writing() -> NoReturn:
    """End the command: nobody reads its output any more. What is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise click.exceptions.Exit(0)


def nobody_reads() -> bool:
    """Say whether stdout is a pipe whose other end has closed."""
    import select

    watched = select.poll()
    try:
        watched.register(1, 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    except OSError:
        return False


def say(text: str) -> None:
    """Talk to the person, on stderr."""
    try:
        click.echo(_painted(text, sys.stderr), err=True, color=True)
    except BrokenPipeError:  # nobody listens; the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def colours(stream: IO[str] | None) -> bool:
    """Say whether a stream is written in colour: at a terminal that can, or where it is forced;
    never against NO_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if os.environ.get(name, "0") not in ("", "0"):
            return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _painted(text: str, stream: IO[str] | None) -> str:
    if not isinstance(text, Marked) or not colours(stream):
        return harmless(text)
    return "".join(
        f"\x1b[{_ESCAPES[tone]}m{harmless(part)}\x1b[0m" if tone and part else harmless(part)
        for part, tone in text.parts
    )


def harmless(text: str) -> str:
    """Return text as a terminal may see it: what a service logged, or a tool reported, must not
    move its cursor, rename it or hide lines."""
    return (
        str(text)
        if text.isprintable()
        else _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    )


def _pager(lines: Sequence[str]) -> list[str]:
    """Return the command that shows these lines; [] when they fit on the screen, or nobody wants
    one."""
    import shlex
    import shutil

    given = click.get_current_context().find_root().obj or {}
    if given.get("no_pager") or os.environ.get("TERM") == "dumb":
        return []
    columns, rows = shutil.get_terminal_size()
    if sum(max(1, -(-width(_ESCAPE.sub("", one)) // columns)) for one in lines) < rows:
        return []
    named = os.environ.get("SEXTANT_PAGER", os.environ.get("PAGER", "less -FRX"))
    return shlex.split(named)


def _page(pager: list[str], text: str) -> None:
    """Show a text by a pager. Ctrl-C belongs to the pager; leaving it early is no failure."""
    import signal
    import subprocess

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with subprocess.Popen(
            pager, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ}
        ) as shown:
            shown.communicate(text.encode(errors="replace"))
    except OSError:  # there is no such program
        put(text)
    finally:
        signal.signal(signal.SIGINT, before)


def moment(time: str, *, digits: int = 0) -> str:
    """Return one of the platform's own times (ISO 8601, UTC) as people read it: to the second, or
    with so many digits of it."""
    return time[: 20 + digits if digits else 19]


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | int]],
    *,
    spare: Sequence[str] = (),
) -> list[str]:
    """Return aligned lines of names and counts; numbers to the right. No rows: a line that says so.

    At a terminal the columns of texts are shortened so that a line fits, the longest first; numbers
    and single words (ids, names, times) never are. Columns that then have no room are left out,
    those of `spare` first, then from the right, and named below. `--wide` shows all.

    Values of the user's data go through `values_table`, which never groups digits.
    """
    cells = [
        [
            f"{cell:,}"
            if isinstance(cell, int)
            else cell.replace("\n", " ")
            if "\n" in cell
            else cell
            for cell in row
        ]
        for row in rows
    ]
    return _aligned(head, cells, spare=spare)


def values_table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: str = ""
) -> list[str]:
    """Return aligned lines of values of the user's data, each as `formats.values.text` writes it.
    Fitted to the terminal as by `table`; a long value without blanks may be shortened too."""
    from sextant.formats.values import text as text_of

    cells = [[text_of(value) for value in row] for row in rows]
    return _aligned([harmless(one) for one in head], cells, indent=indent, word=_WORD)


def _aligned(
    head: Sequence[str],
    cells: list[list[str]],
    *,
    indent: str = "",
    spare: Sequence[str] = (),
    word: int | None = None,
) -> list[str]:
    """Return lines of cells; `word`: a text without blanks that is longer may be shortened too."""
    if not cells:
        return [f"{indent}(none)"]
    shown = list(range(len(head)))
    numeric = [all(_is_number(row[n]) for row in cells) for n in shown]
    widths = [max(map(width, (head[n], *(row[n] for row in cells)))) for n in shown]
    room = _room() - len(indent)
    if room > 0 and _taken(widths) > room:
        texts = [
            n
            for n in shown
            if not numeric[n]
            and (any(" " in row[n] for row in cells) or (word is not None and widths[n] > word))
        ]
        least = [min(w, _LEAST) if n in texts else w for n, w in enumerate(widths)]
        going = [*(head.index(name) for name in spare), *reversed(shown)]
        for n in dict.fromkeys(going):
            if n and _taken([least[one] for one in shown]) > room:
                shown.remove(n)
        _shorten(widths, shown, texts, room)

    def aligned(row: Sequence[str]) -> str:
        parts = [indent]
        for n in shown:
            value = _cut(row[n], widths[n])
            pad = " " * (widths[n] - width(value))
            parts += [_GAP] if n else []
            parts += [pad, value] if numeric[n] else [value, pad]
        while parts and not parts[-1].strip():
            parts.pop()
        return line(*parts[:-1], _rstripped(parts[-1])) if parts else ""

    out = [aligned([mark(one, "head") for one in head]), *map(aligned, cells)]
    left_out = ", ".join(name for n, name in enumerate(head) if n not in shown)
    if left_out:
        note = f"{indent}--wide also shows {left_out}"
        out.append(mark(_cut(note, room), "dim"))
    return out


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _rstripped(text: str) -> str:
    if not text.endswith(" "):
        return text
    if isinstance(text, Marked):
        return Marked(
            [
                (one.rstrip() if n == len(text.parts) - 1 else one, tone)
                for n, (one, tone) in enumerate(text.parts)
            ]
        )
    return text.rstrip()


def _room() -> int:
    """Return how many characters a line of a table may have; 0 = as many as there are."""
    context = click.get_current_context(silent=True)
    given = (context.find_root().obj if context else None) or {}
    if not is_terminal(sys.stdout) or given.get("wide"):
        return 0
    import shutil

    return shutil.get_terminal_size().columns


def _shorten(widths: list[int], shown: list[int], texts: list[int], room: int) -> None:
    """Shorten the columns `texts`, the longest first, until the shown ones have room or all are at
    their least."""
    while (over := _taken([widths[n] for n in shown]) - room) > 0:
        by_width = sorted({widths[n] for n in shown if n in texts}, reverse=True)
        if not by_width or by_width[0] <= _LEAST:
            return
        longest = [n for n in shown if n in texts and widths[n] == by_width[0]]
        below = max(_LEAST, by_width[1] if len(by_width) > 1 else 0)
        by = min(by_width[0] - below, -(-over // len(longest)))
        for n in longest:
            widths[n] -= by


def _cut(text: str, room: int) -> str:
    """Return text in so many characters of the terminal, an ellipsis at the end of what is cut."""
    if width(text) <= room:
        return text
    used, kept = 0, 0
    for kept, one in enumerate(text):  # noqa: B007 - how many fit
        used += width(one)
        if used > room - 1:
            break
    shown = str(text)[:kept] + "…"
    return Marked([(shown, text.parts[0][1])]) if isinstance(text, Marked) else shown


def width(text: str) -> int:
    """Return how many characters of a terminal a text takes: East Asian wide ones take two, those
    that stand on another one none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0
        if unicodedata.combining(one) or one in "\u200b\u200d\ufe0f"
        else 2
        if unicodedata.east_asian_width(one) in "WF"
        else 1
        for one in text
    )


def _is_number(text: str) -> bool:
    return text in ("", "null") or _NUMBER.fullmatch(text) is not None


def short(digest: str) -> str:
    return digest[:12]
