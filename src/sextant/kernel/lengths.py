"""Lengths of time and sizes as people write them: `36h`, `90d`, `10m`; `512MB`, `2GB`.

Used by the author's face (to refuse a bad text where it stands) and by whoever acts on such a text later.
"""

import re

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|KB|MB|GB)")
_BYTES = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def length_s(text: str) -> float:
    """Return the seconds of a length such as `36h` (s, m, h, d, w; a day is 24 hours). ValueError if it is not one."""
    match = _LENGTH.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"`{text}` is not a length of time")
    return float(match[1]) * _SECONDS[match[2]]


def size_bytes(text: str) -> int:
    """Return the bytes of a size such as `512MB` (kB, MB, GB; powers of ten). ValueError if it is not one."""
    match = _SIZE.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"`{text}` is not a size")
    return int(float(match[1]) * _BYTES[match[2]])
