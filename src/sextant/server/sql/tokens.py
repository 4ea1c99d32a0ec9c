"""ClickHouse's own one-line rendering of a query, cut into tokens. Called by the guard and the
rewriting of names.

Only text that `formatQuerySingleLine` made is read here: keywords are in capitals, aliases carry
AS, there are no comments, strings stand in single quotes and quoted names in backquotes, both with
backslash escapes. What does not look so is refused, not guessed.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from sextant.kernel.errors import Denied

_TOKEN = re.compile(
    r"""(?P<space>\ +)
      | (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<quoted>`(?:[^`\\]|\\.)*`)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<sign>[^\s'`"\w\#;$\\])""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of the text: `start` and `end` are offsets in characters."""

    kind: Literal["string", "quoted", "word", "number", "sign"]
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The name that a word or a quoted name stands for; "" for anything else."""
        if self.kind == "quoted":
            return self.text[1:-1]
        return self.text if self.kind == "word" else ""


def tokens(text: str) -> list[Token]:
    """Cut a rendered query into tokens. ValueError (with what is odd) for text that is not as
    ClickHouse renders it."""
    out: list[Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"`{text[at : at + 20]}`")
        kind = found.lastgroup
        piece = found[0]
        # A name with a line break or an escaped quote could pass for something else where names are
        # printed bare.
        if kind == "quoted" and ("\\" in piece or not piece[1:-1].isprintable()):
            raise ValueError(f"the name {piece}")
        if kind != "space":
            if out and out[-1].end == at and out[-1].text + piece in ("--", "/*"):
                raise ValueError(f"`{out[-1].text}{piece}`")
            out.append(Token(kind, piece, at, found.end()))  # type: ignore[arg-type]  # the groups' names are the kinds
        at = found.end()
    return out


def replaced(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """Return the text with the pieces [start, end) replaced; the pieces do not overlap."""
    out: list[str] = []
    at = 0
    for start, end, new in sorted(changes):
        out += [text[at:start], new]
        at = end
    return "".join([*out, text[at:]])


def quoted(name: str) -> str:
    """Return a name in backquotes. ValueError for one that needs escapes."""
    if not name or "\\" in name or "`" in name or not name.isprintable():
        raise ValueError(f"the name {name!r}")
    return f"`{name}`"


def literal(text: str) -> str:
    """Return a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def cut(text: str) -> list[Token]:
    try:
        return tokens(text)
    except ValueError as error:
        raise Denied(
            "SX-SQL-008",
            f"{error} cannot stand in a query",
            hint="use names without backslashes, quotes and control characters",
        ) from error
