"""What the command line prints of what others wrote."""

import pytest

from sextant.cli.output import emit, harmless, say, table


def test_a_terminal_is_not_at_the_mercy_of_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a line that a service logged clears the screen of whoever reads it, or writes
    a title, or hides what follows."""
    evil = "ok\x1b[2J\x1b]0;owned\x07\r\x9b31mhidden\u202egnp"
    emit({}, json=False, text=lambda: table(("log",), [(evil,)]))
    say(evil)
    found = capsys.readouterr()
    for text in (found.out, found.err):
        assert not any(c in text for c in "\x1b\x07\r\x9b\u202e")
        assert "\\x1b[2J" in text


def test_honest_text_stays_as_it_is() -> None:
    """If this fails, names in other scripts, tabs or several lines cannot be read any more."""
    for text in ("Zürich 北京 \N{GREEK SMALL LETTER ALPHA}", "a\tb\nc", ""):
        assert harmless(text) == text
