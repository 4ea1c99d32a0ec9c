"""Turns ClickHouse's answers in JSON into exact values, as `plain` writes them.

ClickHouse's own settings come close (`SETTINGS`). What they leave is done here by the types that an
answer names: decimals without places are numbers, infinities and NaN, instants.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from sextant.formats.values import plain

# one row a line, as JSONEachRow, but with the types that tell what a value is
LINES = "JSONCompactEachRowWithNamesAndTypes"
FORMS = {"JSON": "JSON", "JSONCompact": "JSONCompact", "JSONEachRow": LINES}  # to what is asked
SETTINGS = {
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_decimals": "1",
    "output_format_json_quote_denormals": "1",
    "output_format_json_validate_utf8": "1",
    "output_format_decimal_trailing_zeros": "1",
}
INSTANTS = {"date_time_output_format": "iso"}

_Convert = Callable[[Any], Any]
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_CLOCK = re.compile(r"(-?\d+:\d\d:\d\d)\.(\d{1,9})")
_PIECE = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|[(),\s]|[^(),\s'`]+")
_DEEP_MAX = 100  # types inside of types


def exact(data: bytes, sent: str, asked: str) -> bytes:
    """Return an answer with exact values.

    data   the answer, made under `SETTINGS` and `INSTANTS`;  sent  its format
    asked  the format that was asked for: where it is `JSONEachRow`, `LINES` becomes that
    An answer in another format is returned as it is.
    """
    if sent in ("JSON", "JSONCompact"):
        answer = msgspec.json.decode(data)
        convert = _row([column["type"] for column in answer["meta"]])
        names = [column["name"] for column in answer["meta"]]

        def made(row: Any) -> Any:
            if isinstance(row, list):
                return convert(row)
            return dict(zip(names, convert([row.get(name) for name in names]), strict=True))

        answer["data"] = [made(row) for row in answer["data"]]
        if "totals" in answer:
            answer["totals"] = made(answer["totals"])
        if "extremes" in answer:
            answer["extremes"] = {word: made(row) for word, row in answer["extremes"].items()}
        return msgspec.json.encode(answer)
    if sent == LINES and asked == "JSONEachRow":
        lines = data.splitlines()
        if len(lines) < 2:
            return b""
        names, types = msgspec.json.decode(lines[0]), msgspec.json.decode(lines[1])
        convert = _row(types)
        out = []
        for line in lines[2:]:
            if not line:
                break  # totals follow, which JSONEachRow does not have
            row = dict(zip(names, convert(msgspec.json.decode(line)), strict=True))
            out.append(msgspec.json.encode(row) + b"\n")
        return b"".join(out)
    return data


def _row(types: list[str]) -> Callable[[list[Any]], list[Any]]:
    converts = [_converter(type_) for type_ in types]
    return lambda row: [
        value if convert is None or value is None else convert(value)
        for value, convert in zip(row, converts, strict=True)
    ]


def _converter(type_: str, depth: int = 0) -> _Convert | None:
    """Return what makes a value of a type exact; None where it is so already, or is not known."""
    name, arguments = _taken_apart(type_)
    if depth > _DEEP_MAX:
        return None
    inner = [_converter(one, depth + 1) for one in arguments] if name in _HOLDERS else []
    if name in ("Nullable", "LowCardinality"):
        return inner[0]
    if name == "SimpleAggregateFunction":
        return inner[-1]
    if name == "Array":
        return _of_list(inner[0])
    if name == "Map":
        return _of_map(inner[1])
    if name in ("Tuple", "Nested"):
        parts = [_named(one) for one in arguments]
        converts = [_converter(one, depth + 1) for _, one in parts]
        of_tuple = _of_tuple([part for part, _ in parts], converts)
        return of_tuple if name == "Tuple" else _of_list(of_tuple)
    if name.startswith("Decimal"):
        return int if arguments and arguments[-1] == "0" else None
    if name in ("Float32", "Float64", "BFloat16"):
        return _float
    if name in ("DateTime", "DateTime64"):
        zone = arguments[-1].strip("'") if arguments and arguments[-1].startswith("'") else ""
        return lambda value: _instant(value, zone)
    return _clock if name == "Time64" else None


_HOLDERS = frozenset({"Nullable", "LowCardinality", "SimpleAggregateFunction", "Array", "Map"})


def _of_list(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: [None if one is None else convert(one) for one in values]


def _of_map(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: {
        key: None if one is None else convert(one) for key, one in values.items()
    }


def _of_tuple(names: list[str], converts: list[_Convert | None]) -> _Convert | None:
    if not any(converts):
        return None

    def of_tuple(values: Any) -> Any:
        if isinstance(values, dict):
            by_name = dict(zip(names, converts, strict=True))
            return {
                name: value if value is None or (do := by_name.get(name)) is None else do(value)
                for name, value in values.items()
            }
        return [
            value if value is None or do is None else do(value)
            for value, do in zip(values, converts, strict=True)
        ]

    return of_tuple


def _float(value: Any) -> Any:
    if isinstance(value, str):
        return plain(float(value))
    return float(value)  # 5 is 5.0 here, as everywhere else


def _instant(value: Any, zone: str) -> Any:
    """Return an instant as ISO 8601 in the zone of its column: with its offset, or without one
    where the column has no zone."""
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value  # the query's own SETTINGS asked for another form
    moment, fraction = found[1], _fraction(found[2] or "")
    if zone in ("", "UTC"):
        return moment + fraction + ("Z" if zone else "")
    local = datetime.fromisoformat(moment + "+00:00").astimezone(ZoneInfo(zone)).isoformat()
    return local[:19] + fraction + local[19:].replace("+00:00", "Z")


def _clock(value: Any) -> Any:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    return found[1] + _fraction(found[2]) if found else value


def _fraction(digits: str) -> str:
    """Return the part of a second as `isoformat` has it: none, six digits, or nine of them where
    there are nanoseconds."""
    if not digits.strip("0"):
        return ""
    digits = digits.ljust(9, "0")
    return "." + (digits[:6] if digits.endswith("000") else digits)


def _taken_apart(type_: str) -> tuple[str, list[str]]:
    """Return the name of a type and what stands in its brackets, apart at the outer commas."""
    name, bracket, rest = type_.strip().partition("(")
    if not bracket:
        return name, []
    parts, depth = [""], 0
    for piece in _PIECE.findall(rest):
        depth += (piece == "(") - (piece == ")")
        if depth < 0:
            break
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return name, [part.strip() for part in parts]


def _named(element: str) -> tuple[str, str]:
    """Return name ("" for none) and type of an element of a tuple."""
    pieces = _PIECE.findall(element)
    if len(pieces) < 3 or not pieces[1].isspace():
        return "", element
    name = pieces[0]
    if name.startswith("`"):
        name = re.sub(r"\\(.)|``", lambda found: found[1] or "`", name[1:-1])
    return name, "".join(pieces[2:])
