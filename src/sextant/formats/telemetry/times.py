"""Parses times as loggers write them, to nanoseconds since the epoch, without losing a digit.

Called by the formats whose senders choose how a time is written: JSON lines and CloudEvents.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

_NS = 1_000_000_000
# RFC 3339 and what is near it: a blank or slashes, a comma before the fraction, no zone (UTC),
# Java's name of the zone behind the offset
_ISO = re.compile(
    r"\s*(\d{4})[-/](\d\d)[-/](\d\d)[Tt _]\s*(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,18}))?)?"
    # Go's own form repeats the zone by its name, and says the monotonic clock
    r"\s*(?:([Zz]|UTC|GMT)|([+-])(\d\d):?(\d\d)?(?: [A-Z]{1,5})?(?: m=[+-][0-9.]{1,24})?)?"
    r"(?:\[[^\]]{0,64}\])?\s*",
    re.ASCII,
)
_BASIC = re.compile(r"\d{8}T\d{6}.{0,40}", re.ASCII)  # ISO 8601 without hyphens
# 02/Jan/2006:15:04:05 -0700, of Apache and nginx
_APACHE = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})", re.ASCII)
_NUMBER = re.compile(r"\d{9,20}(?:\.\d{0,18})?", re.ASCII)
_TEXT_CHARS_MAX = 100  # of a time
_EPOCH = date(1970, 1, 1).toordinal()
_EPOCH_AT = datetime(1970, 1, 1, tzinfo=UTC)
_QUICK_CHARS_MAX = 26  # with six digits of a second: of more, the library loses some
_FIRST_S = 100_000_000  # 1973: a smaller number is a duration or a count, and no time
# below 10^11 a number counts seconds (to the year 5138), below 10^14 milliseconds (from 1973), ...
_DIGITS = ((10**11, 9), (10**14, 6), (10**17, 3), (10**20, 0))


def time_ns(value: Any, text: str = "") -> int | None:
    """Return nanoseconds since the epoch; None for what cannot be read as a time after 1970.

    value   text (RFC 3339 and its relatives, RFC 2822, Apache's), a number of seconds,
            milliseconds, microseconds or nanoseconds by its size, or such a number as text; an
            object of seconds and nanoseconds, or with `$date`
    text    a number as it stood in the JSON: a float has fewer digits
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _of_number(value, "")
    if isinstance(value, float):
        return _of_number_text(text or repr(value))
    if isinstance(value, dict):
        return _of_object(value)
    return None


def is_instant(value: Any) -> bool:
    """Say whether a value names a moment and not a day."""
    return not isinstance(value, str) or ":" in value or bool(_NUMBER.fullmatch(value))


def _of_text(text: str) -> int | None:
    if len(text) > _TEXT_CHARS_MAX:
        return None
    if _NUMBER.fullmatch(text):  # the library reads 1796081260000000007 as a day of 1796
        return _of_number_text(text)
    quick = _quickly(text)
    if quick is not None:
        return _after_1970(quick)
    found = _ISO.fullmatch(text)
    if found is None:
        return _of_other_text(text)
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups("")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    seconds = int(second or 0)
    # a leap second is counted as the first of the next minute
    if int(hour) > 23 or int(minute) > 59 or seconds > 60:
        return None
    offset = int(hours or 0) * 3600 + int(minutes or 0) * 60
    at = days * 86_400 + int(hour) * 3600 + int(minute) * 60 + seconds
    at += offset if sign == "-" else -offset
    return _after_1970(at * _NS + int(fraction[:9].ljust(9, "0")))


def _quickly(text: str) -> int | None:
    """Return nanoseconds of what the library reads without a loss, None for other text."""
    if len(text) > _QUICK_CHARS_MAX + (text[-1:] == "Z"):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH_AT
    return (since.days * 86_400 + since.seconds) * _NS + since.microseconds * 1000


def _of_other_text(text: str) -> int | None:
    from email.utils import parsedate_to_datetime

    apache = _APACHE.fullmatch(text)
    if apache:
        text = f"{apache[1]} {apache[2]} {apache[3]} {apache[4]} {apache[5]}"
    try:
        at = datetime.fromisoformat(text) if _is_iso(text) else parsedate_to_datetime(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return _after_1970((at - _EPOCH_AT) // timedelta(microseconds=1) * 1000)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _is_iso(text: str) -> bool:
    return bool(_BASIC.fullmatch(text)) or (len(text) == 10 and text[4:5] == "-")


def _of_number_text(text: str) -> int | None:
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (not fraction or fraction.isdigit())):
        try:  # 1.7e9
            number = float(text)
            whole, _, fraction = f"{number:.9f}".partition(".")
            if not whole.isdigit():
                return None
        except (ValueError, OverflowError):
            return None
    return _of_number(int(whole), fraction) if len(whole) <= 20 else None


def _of_number(whole: int, fraction: str) -> int | None:
    for most, digits in _DIGITS:
        if whole < most:
            if digits == 9 and whole < _FIRST_S:
                return None
            unit: int = 10**digits
            return whole * unit + (int(fraction[:digits].ljust(digits, "0")) if digits else 0)
    return None


def _of_object(value: dict[str, Any]) -> int | None:
    if "$date" in value and not isinstance(value["$date"], dict):  # MongoDB
        return time_ns(value["$date"])
    for seconds, nanoseconds in (("seconds", "nanos"), ("epochSecond", "nanoOfSecond")):
        whole, rest = value.get(seconds), value.get(nanoseconds, 0)
        if isinstance(whole, str) and whole.isascii() and whole.isdigit() and len(whole) < 12:
            whole = int(whole)
        if isinstance(whole, int) and isinstance(rest, int) and 0 <= rest < _NS:
            return _after_1970(whole * _NS + rest) if abs(whole) < 10**11 else None
    return None


def _after_1970(at: int) -> int | None:
    """Return a time that can be one: Go writes the year 1 for none."""
    return at if at >= 0 else None
