"""Finds what looks like a secret in a project's files, by the forms that vendors publish for their
keys and tokens. Pure.

A line that says `not a secret` is left out: an example, a test's own key.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sextant.kernel.errors import ProjectError

ALLOWED = "not a secret"  # in a comment on the same line
_FOUND_MAX = 20  # of one file
_SHOWN = 5  # in one message
_BEFORE, _AFTER = 160, 1_200  # characters around an anchor that a form may reach


class _Form(NamedTuple):
    """What a kind of secret looks like, by its vendor's documentation: texts that every one has,
    and the whole. Only forms that nothing else has: a long random word is a digest more often than
    a password."""

    what: str
    anchors: tuple[str, ...]
    whole: re.Pattern[str]


def _form(what: str, anchors: str, whole: str) -> _Form:
    return _Form(what, tuple(anchors.split()), re.compile(whole))


_FORMS = (
    _Form(
        "a private key",
        ("PRIVATE KEY",),
        re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    ),
    _form("an access key of AWS", "AKIA ASIA", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    _form(
        "a token of GitHub",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255})\b",
    ),
    _form("a token of GitLab", "glpat- gldt- glrt-", r"\bgl(?:pat|dt|rt)-[A-Za-z0-9_.-]{20,255}"),
    _form("a token of Slack", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}"),
    _form(
        "a webhook of Slack",
        "hooks.slack.com/services/",
        r"\bhooks\.slack\.com/services/T\w{6,20}/B\w{6,20}/\w{16,64}",
    ),
    _form("an API key of Google", "AIza", r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _form("an OAuth secret of Google", "GOCSPX-", r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    _form("a key of Stripe", "k_live_", r"\b[rs]k_live_[A-Za-z0-9]{16,255}"),
    _form("a token of npm", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _form("a token of PyPI", "pypi-AgE", r"\bpypi-AgE[A-Za-z0-9_-]{50,1000}"),
    _form("a key of OpenAI", "sk-", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,255}"),
    _form("a key of Anthropic", "sk-ant-", r"\bsk-ant-[a-z0-9]{1,10}-[A-Za-z0-9_-]{20,255}"),
    _form("a token of Hugging Face", "hf_", r"\bhf_[A-Za-z]{34}\b"),
    _form("a key of SendGrid", "SG.", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _form("a token of Databricks", "dapi", r"\bdapi[0-9a-f]{32}\b"),
    _form("a token of DigitalOcean", "_v1_", r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
    _form("a token of Vault", "hvs. hvb. hvr.", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,500}"),
    _form("an account key of Azure", "AccountKey=", r"\bAccountKey=[A-Za-z0-9+/]{86}=="),
    _form("a token of Sextant", "sxt_", r"\bsxt_[A-Za-z0-9_-]{20,255}"),
    _form(
        "a password in an address",
        "://",
        # one on this machine, and one that is only named (`{password}`, `$PASSWORD`), is none
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@'\"{}$<>%]{1,100}:[^\s/:@'\"{}$<>*]{3,256}@"
        r"(?!localhost\b|127\.|\[::1\]|example\.)[A-Za-z0-9.-]+",
    ),
)


class Suspect(NamedTuple):
    """A line that seems to hold a secret of some kind. The secret itself is not repeated."""

    line: int
    what: str


def suspects(content: bytes) -> list[Suspect]:
    """Return the lines of a file that seem to hold a secret, the first ones of each form."""
    text = content.decode(errors="replace")
    found: dict[Suspect, None] = {}
    for form in _FORMS:
        for place in _places(text, form):
            start = text.rfind("\n", 0, place) + 1
            end = text.find("\n", place)
            if ALLOWED not in text[start : end if end >= 0 else None]:
                found[Suspect(text.count("\n", 0, place) + 1, form.what)] = None
            if len(found) >= _FOUND_MAX:
                return sorted(found)
    return sorted(found)


def _places(text: str, form: _Form) -> Iterator[int]:
    """Yield where a text has a secret of a form."""
    for anchor in form.anchors:
        at = text.find(anchor)
        while at >= 0:
            start = max(0, at - _BEFORE)
            match = form.whole.search(text, start, at + _AFTER)
            if match is not None and match.start() <= at < match.end():
                yield match.start()
                at = text.find(anchor, match.end())
            else:
                at = text.find(anchor, at + 1)


def refuse_secrets(contents: Mapping[str, bytes]) -> None:
    """ProjectError where a file (path -> content) seems to hold a secret."""
    found = [
        f"`{path}:{one.line}` {one.what}"
        for path, content in sorted(contents.items())
        for one in suspects(content)
    ]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ProjectError(
            "SX-UPLOAD-011",
            f"this looks like secrets: {', '.join(found[:_SHOWN])}{more}; nothing is uploaded",
            hint='write `sx.secret("NAME")` instead, and replace the secret if others have seen '
            f"it; a line that says `{ALLOWED}` is let through",
        )
