"""Escapes in labels of the exposition format are read once, from left to right."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.formats.telemetry.exposition import _plain

_UNITS = st.sampled_from([b"\\\\", b"\\n", b'\\"', b"a", b"n", b"b c", b"\xc3\xa9"])


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(_UNITS, max_size=30).map(b"".join))
def test_each_escape_is_read_once_from_left_to_right(text: bytes) -> None:
    slow = re.sub(rb"\\(.)", lambda found: b"\n" if found[1] == b"n" else found[1], text)
    assert _plain(text) == slow
