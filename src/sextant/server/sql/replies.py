"""How the SQL endpoint answers: content types, compression, and errors as ClickHouse says them.
Called by the endpoint."""

import re
import zlib
from typing import NamedTuple

from sextant.kernel.errors import SextantError

_TYPES = (
    (
        re.compile(r"JSON\w*EachRow\w*|NDJSON|JSONL|JSONLines|PrettyNDJSON"),
        "application/x-ndjson; charset=UTF-8",
    ),
    (re.compile(r"JSON\w*"), "application/json; charset=UTF-8"),
    (re.compile(r"CSVWithNames\w*"), "text/csv; charset=UTF-8; header=present"),
    (re.compile(r"CSV"), "text/csv; charset=UTF-8; header=absent"),
    (re.compile(r"(?:TSV|TabSeparated)\w*"), "text/tab-separated-values; charset=UTF-8"),
    (
        re.compile(r"Pretty\w*|Vertical|Values|TSKV|CustomSeparated\w*|SQLInsert"),
        "text/plain; charset=UTF-8",
    ),
    (re.compile(r"Markdown"), "text/markdown; charset=UTF-8"),
    (re.compile(r"XML"), "application/xml; charset=UTF-8"),
    (re.compile(r"ArrowStream"), "application/vnd.apache.arrow.stream"),
    (re.compile(r"Arrow"), "application/vnd.apache.arrow.file"),
    (re.compile(r"Parquet"), "application/vnd.apache.parquet"),
)
_PACKED_MIN = 1024  # bytes; less is not worth compressing
_WAYS = ("lz4", "zstd", "gzip", "deflate")  # the cheapest first

# ClickHouse's names and numbers of the errors that clients look at (ErrorCodes.cpp).
_NUMBERS = {
    "BAD_ARGUMENTS": 36,
    "ILLEGAL_TYPE_OF_ARGUMENT": 43,
    "UNKNOWN_FUNCTION": 46,
    "UNKNOWN_IDENTIFIER": 47,
    "NOT_IMPLEMENTED": 48,
    "LOGICAL_ERROR": 49,
    "UNKNOWN_TYPE": 50,
    "TYPE_MISMATCH": 53,
    "UNKNOWN_TABLE": 60,
    "SYNTAX_ERROR": 62,
    "UNKNOWN_FORMAT": 73,
    "CANNOT_READ_FROM_FILE_DESCRIPTOR": 74,
    "UNKNOWN_DATABASE": 81,
    "TOO_MANY_ROWS": 158,
    "TIMEOUT_EXCEEDED": 159,
    "TOO_SLOW": 160,
    "TOO_LARGE_STRING_SIZE": 131,
    "ILLEGAL_DIVISION": 153,
    "READONLY": 164,
    "ILLEGAL_AGGREGATION": 184,
    "TOO_MANY_SIMULTANEOUS_QUERIES": 202,
    "NOT_AN_AGGREGATE": 215,
    "MEMORY_LIMIT_EXCEEDED": 241,
    "NO_COMMON_TYPE": 386,
    "QUERY_WAS_CANCELLED": 394,
    "TOO_MANY_ROWS_OR_BYTES": 396,
    "INVALID_SETTING_VALUE": 452,
    "UNKNOWN_QUERY_PARAMETER": 456,
    "BAD_QUERY_PARAMETER": 457,
    "CANNOT_PARSE_TEXT": 6,
    "CANNOT_PARSE_NUMBER": 72,
    "CANNOT_PARSE_DATETIME": 41,
    "NUMBER_OF_ARGUMENTS_DOESNT_MATCH": 42,
    "ACCESS_DENIED": 497,
    "AUTHENTICATION_FAILED": 516,
    "HTTP_LENGTH_REQUIRED": 381,
    "QUERY_IS_TOO_LARGE": 438,
    "TOO_DEEP_AST": 167,
    "TOO_BIG_AST": 168,
    "TOO_DEEP_RECURSION": 306,
    "AMBIGUOUS_IDENTIFIER": 207,
    "UNKNOWN_SETTING": 115,
    "UNEXPECTED_EXPRESSION": 36,
}
# ours -> theirs
_NAMES = {
    "SX-SQL-001": "READONLY",
    "SX-SQL-002": "ACCESS_DENIED",
    "SX-SQL-003": "UNKNOWN_FUNCTION",
    "SX-SQL-004": "UNKNOWN_DATABASE",
    "SX-SQL-005": "INVALID_SETTING_VALUE",
    "SX-SQL-006": "UNKNOWN_TABLE",
    "SX-SQL-007": "SYNTAX_ERROR",
    "SX-SQL-008": "BAD_ARGUMENTS",
    "SX-SQL-009": "UNKNOWN_QUERY_PARAMETER",
    "SX-SQL-010": "UNKNOWN_FORMAT",
    "SX-SQL-011": "AUTHENTICATION_FAILED",
    "SX-SQL-012": "ACCESS_DENIED",
    "SX-SQL-013": "TOO_MANY_SIMULTANEOUS_QUERIES",
    "SX-SQL-014": "QUERY_IS_TOO_LARGE",
    "SX-SQL-015": "TIMEOUT_EXCEEDED",
    "SX-SQL-016": "BAD_ARGUMENTS",
    "SX-SQL-017": "TOO_MANY_ROWS_OR_BYTES",
    "SX-SQL-022": "CANNOT_READ_FROM_FILE_DESCRIPTOR",
    "SX-SQL-034": "MEMORY_LIMIT_EXCEEDED",
    "SX-TELEMETRY-001": "BAD_ARGUMENTS",
    "SX-TELEMETRY-003": "CANNOT_READ_FROM_FILE_DESCRIPTOR",
}
# Clients ask again by themselves after 429, 503 and 504: only what may go better then is answered
# so.
_STATUS = {
    "SX-SQL-011": 401,
    "SX-SQL-014": 413,
    "SX-SQL-015": 408,
    "SX-SQL-017": 400,
    "SX-SQL-034": 400,
    "SX-TELEMETRY-001": 400,
    "SX-TELEMETRY-002": 400,
}
_NAMED = re.compile(r"\s*\(([A-Z][A-Z_]{4,})\)\.?\s*$")


class Refusal(NamedTuple):
    """An error as ClickHouse answers it."""

    status: int
    number: int
    text: str


def refusal(error: SextantError, version: str) -> Refusal:
    """Return an error as the clients of ClickHouse read it: `Code: N. DB::Exception: what. hint.
    (NAME) (version V)`."""
    found = _NAMED.search(error.message)
    name = (
        found[1]
        if found and error.code.startswith(("SX-TELEMETRY-", "SX-SQL-007"))
        else _NAMES.get(error.code, "LOGICAL_ERROR")
    )
    message = (_NAMED.sub("", error.message) if found else error.message).rstrip(".")
    status = _STATUS.get(error.code, error.http_status)
    if name == "TIMEOUT_EXCEEDED":
        status = 408
    number = _NUMBERS.get(name, 1002)
    hint = f". {error.hint}" if error.hint else ""
    return Refusal(
        status,
        number,
        (
            f"Code: {number}. DB::Exception: {message}{hint} [{error.code}]. ({name}) (version "
            f"{version})\n"
        ),
    )


HELLO = "SELECT displayName(), version(), revision(), timezone()"


def hello(version: str, revision: int) -> bytes:
    """Return the answer to `HELLO` as a Native block of a protocol revision.

    Clients in Go (Grafana's plugin among them) read their first answer in the form of their own
    revision, and those after it in the form that this answer names: 0, the plain one. Source:
    ClickHouse, Formats/NativeWriter.cpp and Core/BlockInfo.h.
    """

    def text(value: str) -> bytes:
        data = value.encode()
        return bytes([len(data)]) + data  # a length below 128 is one byte

    # no overflows, no bucket; none out of order
    info = b"\x01\x00\x02\xff\xff\xff\xff" + (b"\x03\x00" if revision >= 54480 else b"") + b"\x00"
    custom = b"\x00" if revision >= 54454 else b""  # a plain serialization
    columns = (
        ("displayName()", "String", text("sextant")),
        ("version()", "String", text(version)),
        ("revision()", "UInt32", bytes(4)),
        ("timezone()", "String", text("UTC")),
    )
    return (
        info
        + b"\x04\x01"
        + b"".join(text(name) + text(kind) + custom + value for name, kind, value in columns)
    )


def content_type(form: str) -> str:
    """Return the content type of an output format."""
    return next(
        (kind for pattern, kind in _TYPES if pattern.fullmatch(form)), "application/octet-stream"
    )


def packed(data: bytes, accepted: str) -> tuple[bytes, str]:
    """Return an answer compressed in a way that the client takes, and that way; "" where it is not
    compressed."""
    if len(data) < _PACKED_MIN:
        return data, ""
    takes = {}
    for one in accepted.lower().split(","):
        way, _, weight = one.partition(";")
        takes[way.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    way = next((way for way in _WAYS if takes.get(way)), "")
    if way in ("lz4", "zstd"):
        import cramjam

        return bytes(
            cramjam.lz4.compress(data) if way == "lz4" else cramjam.zstd.compress(data, 1)
        ), way
    if way:
        packer = zlib.compressobj(1, wbits=31 if way == "gzip" else 15)
        return packer.compress(data) + packer.flush(), way
    return data, ""
