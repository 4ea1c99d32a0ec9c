"""The collector: what a project declares while the loader imports it. There is no other memory of
declarations.

Outside a collector a declaration only returns its object, so unit tests of plain functions need
nothing set up. Inside one, a mistake is noted and the import goes on, so that one load reports
every mistake there is.
"""

import difflib
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sextant.kernel import registry
from sextant.kernel.errors import ProjectError, joined
from sextant.kernel.limits import NAME_CHARS_MAX
from sextant.kernel.nouns import Rule, Team

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Place(NamedTuple):
    """Where something stands in the project's files. `line` counts from 1."""

    file: str
    line: int


class Problem(msgspec.Struct, frozen=True):
    """One mistake of a project: what, how to mend it, where."""

    code: str
    message: str
    hint: str
    place: Place


class ProjectInfo(NamedTuple):
    """What `sx.project` said."""

    name: str
    tz: str
    owner: str
    environments: tuple[str, ...]
    follows: tuple[str, ...]
    year_starts: int
    place: Place


class Collector:
    """Holds what one import of a project declared.

    declared   the declaration objects, in order
    functions  asset id -> the plain function, for workers
    queries    asset id -> DuckDB SQL over tables named like the inputs, for workers
    checks     `module:qualname` -> the function of a Python check, for workers
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.project: ProjectInfo | None = None
        self.declared: list[Any] = []
        self.teams: list[tuple[Team, Place]] = []
        self.rules: list[tuple[Rule, Place]] = []
        self.secrets: set[str] = set()
        self.functions: dict[str, Callable[..., Any]] = {}
        self.queries: dict[str, str] = {}
        self.checks: dict[str, Callable[..., Any]] = {}
        self.problems: list[Problem] = []

    def relative(self, file: str) -> str:
        """Return a file's path below the project's root with forward slashes; as it is when it
        stands elsewhere."""
        if not os.path.isabs(file):
            return file
        inside = os.path.relpath(os.path.realpath(file), self.root)
        return file if inside.startswith("..") else inside.replace(os.sep, "/")

    def note(self, code: str, message: str, *, place: Place, hint: str = "") -> None:
        """Remember a mistake and go on."""
        self.problems.append(Problem(code, message, hint, place))

    def raise_problems(self) -> None:
        """Raise one ProjectError that lists every mistake, in the order of the files' lines.
        Nothing happens without one."""
        found = sorted(
            set(self.problems), key=lambda p: (self.relative(p.place.file), p.place.line, p.message)
        )
        if not found:
            return
        errors = [
            ProjectError(p.code, p.message, hint=p.hint, where=self.where(p.place)) for p in found
        ]
        raise joined("SX-PROJ-001", f"the project has {len(errors)} mistakes", errors)

    def where(self, place: Place) -> str:
        """Return `file:line`, the file relative to the project's root."""
        return f"{self.relative(place.file)}:{place.line}"


_open: ContextVar[Collector | None] = ContextVar("sextant_collector", default=None)


@contextmanager
def collecting(root: Path) -> Iterator[Collector]:
    """Open a collector: what is declared inside the block registers in it."""
    collector = Collector(root)
    token = _open.set(collector)
    try:
        yield collector
    finally:
        _open.reset(token)


def current() -> Collector | None:
    """Return the open collector, if any."""
    return _open.get()


def caller() -> Place:
    """Return the place in the author's file that called into a package that brings words."""
    ours = {target.partition(".")[0].partition(":")[0] for target in registry.targets("word")}
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").partition(".")[0] in ours
    ):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


def report(code: str, message: str, *, hint: str = "", place: Place | None = None) -> None:
    """Note a mistake in the open collector; without one, raise it as ProjectError."""
    at = place or caller()
    collector = current()
    if collector is None:
        raise ProjectError(code, message, hint=hint, where=f"{at.file}:{at.line}")
    collector.note(code, message, hint=hint, place=at)


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint: the known names that resemble `name`, else the first few there are."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        scores = [difflib.SequenceMatcher(None, one, name).ratio() for one in close]
        close = [one for one, score in zip(close, scores, strict=True) if score > scores[0] - 0.1]
        return f"did you mean {' or '.join(f'`{c}`' for c in close)}?"
    if not names:
        return "there is none"
    return f"there are {', '.join(f'`{n}`' for n in names[:8])}{' ...' if len(names) > 8 else ''}"


def fitting(
    setting: str, value: Any, kinds: type | tuple[type, ...], expected: str, instead: Any
) -> Any:
    """Return a value that a declaration was given; `instead`, with a mistake reported, for one of
    another kind. `expected` says in words what fits. Truth values are no numbers."""
    listed = kinds if isinstance(kinds, tuple) else (kinds,)
    if isinstance(value, listed) and (bool in listed or not isinstance(value, bool)):
        return value
    report("SX-PROJ-019", f"`{reprlib.repr(value)}` is not a value of `{setting}`", hint=expected)
    return instead


def fitting_text(setting: str, value: Any, instead: str = "") -> str:
    """Return a text that a declaration was given, as `fitting`."""
    text: str = fitting(setting, value, str, "a text", instead)
    return text


def fitting_texts(setting: str, values: Iterable[Any]) -> tuple[str, ...]:
    """Return those of some values that are texts; others are reported, as `fitting`."""
    texts = []
    for one in values:
        if isinstance(one, str):
            texts.append(one)
        else:
            fitting_text(setting, one)
    return tuple(texts)


def fitting_list(setting: str, value: Any, expected: str) -> tuple[Any, ...]:
    """Return a list that a declaration was given, as `fitting`. A text is none, and a set has no
    order."""
    return tuple(fitting(setting, value, (list, tuple), expected, ()))


def refuse_unknown(verb: str, unknown: Iterable[str], known: Iterable[str] | None) -> None:
    """Report every keyword that `verb` does not have."""
    names = list(known or ())
    for keyword in unknown:
        report("SX-PROJ-002", f"`{verb}` has no setting `{keyword}`", hint=near(keyword, names))


def name_problem(what: str, name: str) -> tuple[str, str] | None:
    """Return what is wrong with a name and how to mend it: it is lower-case letters, digits and
    `_`, starting with a letter; projects and teams are not named in code or SQL and may have `-`
    too."""
    hyphens = what in ("project", "team")
    if not _NAME.fullmatch(name.replace("-", "_") if hyphens else name):
        return (
            f"`{name}` is not a name for a {what}",
            f"lower-case letters, digits{', -' if hyphens else ''} and _, starting with a letter",
        )
    if len(name) > NAME_CHARS_MAX:
        return (
            f"the name of {what} `{name[:20]}...` has {len(name)} characters",
            f"at most {NAME_CHARS_MAX}",
        )
    return None
