"""Parses and formats lengths of time as people write them: `90d`, `36h`, `10m`, `30s`, `2w`."""

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import INTEGER_MAX

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SHORT_SECONDS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def length_s(text: str) -> float:
    """Return the length in seconds. UsageError unless it is a positive number and one of s, m, h,
    d, w, and its nanoseconds fit into 64 bits."""
    return _seconds(text, text[:-1], _SECONDS.get(text[-1:], 0.0))


def duration_ns(text: str) -> int:
    """Return a short length in nanoseconds: `500ms`, `20us`, or as `length_s` reads it. UsageError
    for what is none."""
    short = _SHORT_SECONDS.get(text[-2:])
    seconds = length_s(text) if short is None else _seconds(text, text[:-2], short)
    return round(seconds * 1e9)


def _seconds(text: str, number: str, unit_s: float) -> float:
    try:
        value = float(number) * unit_s
    except ValueError:
        value = -1.0
    if not value > 0:
        raise UsageError(
            "SX-LENGTH-001",
            f"`{text[:60]}` is not a length of time",
            hint="write it as 90d, 36h, 10m or 30s",
        )
    if value * 1e9 > INTEGER_MAX:
        raise UsageError(
            "SX-LENGTH-002",
            f"`{text[:60]}` is too long a time",
            hint="at most 104,000d, which is 285 years",
        )
    return value


def human_s(seconds: float) -> str:
    """Return a length as people read it: `1.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
