"""Lengths of time as people write them: `90d`, `36h`, `10m`, `30s`, `2w`."""

from sextant.kernel.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SHORT_NS = {"ms": 1e6, "us": 1e3, "ns": 1.0}


def length_s(text: str) -> float:
    """Return the length in seconds. UsageError unless it is a positive number and one of s, m, h,
    d, w."""
    try:
        value = float(text[:-1]) * _SECONDS[text[-1:]]
    except (ValueError, KeyError):
        value = -1.0
    if not value > 0 or value == float("inf"):
        raise UsageError(
            "SX-LENGTH-001",
            f"`{text}` is not a length of time",
            hint="write it as 90d, 36h, 10m or 30s",
        )
    return value


def duration_ns(text: str) -> int:
    """Return a short length in nanoseconds: `500ms`, `20us`, or as `length_s` reads it. UsageError
    for what is none."""
    unit = text[-2:]
    if unit in _SHORT_NS:
        return round(length_s(f"{text[:-2]}s") * _SHORT_NS[unit])
    return round(length_s(text) * 1e9)


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
