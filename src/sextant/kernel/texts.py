"""Checks texts that callers send: bounded, and without characters that a terminal or a page obeys.

A *line* is one line of printable text, such as a name. *Prose* may have several lines. A *raw*
text, such as a query, is only bounded. A *link* is a line that leads to a web page.
"""

import re
import unicodedata
from typing import Literal

from sextant.kernel.errors import UsageError

Kind = Literal["line", "prose", "raw", "link"]

# RFC 3986 with a host, without a user: `https://bank.example@elsewhere` leads elsewhere
_LINK = re.compile(
    r"https?://(?:[^\s/?#@:\[\]\\]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?#][^\s\\]*)?",
    re.IGNORECASE,
)
_JOINERS = frozenset("\u200c\u200d")  # spelling of Persian and Hindi; emoji of several people
# of Unicode's general categories: controls, halves of characters, formats (among them what turns
# the direction of text, Unicode Standard Annex 9) and separators of lines
_REFUSED = frozenset(("Cc", "Cs", "Cf", "Zl", "Zp"))


def check_text(kind: Kind, what: str, text: str, most: int) -> None:
    """Refuse a text that is not of a kind, or longer than `most` characters. UsageError names
    `what` it is and the character."""
    if len(text) > most:
        raise UsageError(
            "SX-TEXT-001",
            f"`{what}` has {len(text):,} characters",
            hint=f"at most {most:,}; link to longer text, or keep it in a file",
        )
    at = _first_refused(kind, text)
    if at >= 0:
        raise UsageError(
            "SX-TEXT-002",
            f"`{what}` holds U+{ord(text[at]):04X} at character {at + 1}, which is not printable",
            hint="one line of printable text"
            if kind in ("line", "link")
            else "printable text, newlines and tabs"
            if kind == "prose"
            else "text without NUL",
        )
    if kind == "link" and text and not _LINK.fullmatch(text):
        raise UsageError(
            "SX-TEXT-003",
            f"`{what}` is not the address of a web page",
            hint="it begins with https:// or http://, and names a host, no user",
        )


def is_line(text: str, most: int) -> bool:
    """Say whether a text is one line of printable text of 1 to `most` characters."""
    return 0 < len(text) <= most and _first_refused("line", text) < 0


def _first_refused(kind: Kind, text: str) -> int:
    """Return the place of the first character that a kind of text may not hold; -1 for none."""
    if text.isprintable():
        return -1
    if kind == "raw":
        return next((at for at, char in enumerate(text) if char == "\0" or _is_half(char)), -1)
    if kind == "prose":
        for at, char in enumerate(text):
            if (
                char not in "\n\t"
                and char not in _JOINERS
                and unicodedata.category(char) in _REFUSED
            ):
                return at
        return -1
    return next(at for at, char in enumerate(text) if not char.isprintable())


def _is_half(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"  # half a character of UTF-16: cannot be written
