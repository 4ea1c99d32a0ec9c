"""Replaces what is not UTF-8 in a text, so that one broken text does not cost the records beside
it.

Called by the formats after a body could not be read. What is broken becomes U+FFFD, the replacement
character, as in every browser.
"""

import re

# one escape of JSON; a pair of surrogates is one character, a lone one is none
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_BOM = b"\xef\xbb\xbf"


def is_utf8(text: bytes) -> bool:
    """Say whether bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def repaired(text: bytes) -> bytes:
    """Return bytes as UTF-8."""
    return text.decode("utf-8", "replace").encode()


def repaired_json(text: bytes) -> bytes:
    """Return JSON as UTF-8, and without lone surrogates among its escapes: JavaScript writes half
    an emoji as `\\ud83d` where a text was cut."""
    return _ESCAPE.sub(_whole, repaired(text))


def without_bom(text: bytes) -> bytes:
    """Return text without the mark that some programs of Windows put before it."""
    return text.removeprefix(_BOM)


def _whole(escape: "re.Match[bytes]") -> bytes:
    return b"\\ufffd" if escape[2] else escape[0]
