"""What a request to the SQL endpoint asks for, as ClickHouse's HTTP interface has it. Called by the
endpoint.

Source: ClickHouse documentation, "HTTP interface": the query stands in `query`, in the body, or in
both, one after the other; `param_x` binds `{x:Type}`; all other parameters are settings.
"""

import email.message
import email.parser
import email.policy
import zlib
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from sextant.kernel.errors import Denied, UsageError
from sextant.kernel.limits import (
    SQL_BODY_BYTES_MAX,
    SQL_MEMORY_BYTES_MAX,
    SQL_RESULT_BYTES_MAX,
    SQL_ROWS_MAX,
    SQL_SECONDS_MAX,
)
from sextant.kernel.ports import QueryLimits
from sextant.server.sql.settings import LIMITS, format_of, setting

OURS = QueryLimits(
    seconds=SQL_SECONDS_MAX,
    memory_bytes=SQL_MEMORY_BYTES_MAX,
    rows_result=SQL_ROWS_MAX,
    bytes_result=SQL_RESULT_BYTES_MAX,
)
# Parameters about the transport: sessions hold nothing here (nobody can make temporary tables), and
# a role is what the token says.
_TRANSPORT = frozenset({
    "query", "database", "default_format", "query_id", "session_id", "session_timeout",
    "session_check", "close_session", "quota_key", "role", "compress", "client_protocol_version",
    "stacktrace", "enable_http_compression", "wait_end_of_query", "user",
})  # fmt: skip
_FIELDS_MAX = 1_000  # parameters of one request


class Question(NamedTuple):
    """A query as it was sent.

    sql       its text
    form      the format to answer in, unless the text names one
    database  where tables without a database are looked for
    params    `{name:Type}` -> value, as ClickHouse reads it (with TSV's escapes)
    settings  what was asked for of the guard's `LIMITS` and `ANSWERS`
    id        the client's own name for the query, "" for none
    blocks    the answer is to come in ClickHouse's own compressed blocks (`compress=1`)
    revision  of the protocol, as the client says it; 0 for none
    """

    sql: str
    form: str
    database: str
    params: dict[str, str]
    settings: tuple[tuple[str, str], ...]
    id: str
    blocks: bool
    revision: int


def read_question(query: bytes, headers: Mapping[str, str], body: bytes) -> Question:
    """Return what a request asks. UsageError for what is malformed, Denied for what may not be
    given.

    query    the URL's query string;  headers  with names in small letters;  body  as it came
    """
    try:
        fields = dict(
            parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        )
    except ValueError as error:
        raise UsageError(
            "SX-SQL-016",
            f"more than {_FIELDS_MAX} parameters are not read here",
            hint="put long lists of values into one parameter, as an Array",
        ) from error
    kind = headers.get("content-type", "")
    if fields.get("decompress") == "1":
        raise UsageError(
            "SX-SQL-016",
            "compressed blocks are not read here",
            hint="send the query as text: leave decompress out",
        )
    text = _plain(body, headers.get("content-encoding", ""))
    if kind.startswith("multipart/form-data"):
        fields |= _multipart(text, kind)
        text = b""
    if (
        text[:64].lstrip()[:6].upper() == b"INSERT"
        or fields.get("query", "")[:64].lstrip()[:6].upper() == "INSERT"
    ):  # rows follow, in any format
        raise Denied(
            "SX-SQL-001",
            "this endpoint only reads, and INSERT does not",
            hint="data is changed by publishing; rows of telemetry go to the ingest endpoint",
        )
    try:
        sent = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            "SX-SQL-007", "the query is not UTF-8", hint="send the query as text"
        ) from error
    sql = "\n".join(part for part in (fields.get("query", ""), sent) if part)
    settings: list[tuple[str, str]] = []
    for name, value in fields.items():
        if name not in _TRANSPORT and not name.startswith("param_") and name != "decompress":
            if name in ("password", "key"):
                raise Denied(
                    "SX-SQL-011",
                    "a token in the address ends up in logs",
                    hint="send it as the password of Basic, as Bearer, or as X-ClickHouse-Key",
                )
            settings += setting(name, value)
    form = headers.get("x-clickhouse-format") or fields.get("default_format") or "TabSeparated"
    database = fields.get("database") or headers.get("x-clickhouse-database") or "data"
    return Question(
        sql=sql,
        form=format_of(form),
        database="data" if database == "default" else database,
        params={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
        settings=tuple(settings),
        id=fields.get("query_id", "")[:128],
        blocks=fields.get("compress") == "1",
        revision=int(revision)
        if (revision := fields.get("client_protocol_version", "")).isdecimal() and len(revision) < 9
        else 0,
    )


def granted(settings: tuple[tuple[str, str], ...]) -> tuple[QueryLimits, dict[str, str]]:
    """Return our limits, lowered to what was asked for, and the settings of answers.

    Limits come in steps of a ladder, because the store keeps connections for each combination.
    """
    values = {
        "seconds": OURS.seconds,
        "memory_bytes": OURS.memory_bytes,
        "rows_read": OURS.rows_read,
        "rows_result": OURS.rows_result,
        "bytes_result": OURS.bytes_result,
    }
    for name, value in settings:
        if name not in LIMITS:
            continue
        field, ladder = LIMITS[name]
        step = next((one for one in ladder if one >= float(value)), ladder[-1])
        values[field] = min(values[field] or step, step)
    limits = QueryLimits(
        seconds=float(values["seconds"]),
        memory_bytes=int(values["memory_bytes"]),
        rows_read=int(values["rows_read"]),
        rows_result=int(values["rows_result"]),
        bytes_result=int(values["bytes_result"]),
    )
    return limits, {name: value for name, value in settings if name not in LIMITS}


def _plain(body: bytes, encoding: str) -> bytes:
    """Return the body unpacked, whatever it unpacks to no larger than the limit."""
    if encoding in ("", "identity"):
        return body
    too_large = UsageError(
        "SX-SQL-016",
        f"the body is cut off, or larger than {SQL_BODY_BYTES_MAX >> 10} KiB",
        hint="send the query as text",
    )
    try:
        if encoding in ("gzip", "deflate"):
            unpacker = zlib.decompressobj(31 if encoding == "gzip" else 15)
            text = unpacker.decompress(body, SQL_BODY_BYTES_MAX)
            if not unpacker.eof:
                raise too_large
            return text
        if encoding in ("lz4", "zstd"):
            import cramjam

            room = bytearray(SQL_BODY_BYTES_MAX)
            try:
                size = (cramjam.lz4 if encoding == "lz4" else cramjam.zstd).decompress_into(
                    body, room
                )
            except cramjam.DecompressionError as error:
                raise too_large from error
            return bytes(room[:size])
    except zlib.error as error:
        raise too_large from error
    raise UsageError(
        "SX-SQL-016",
        f"a body in `{encoding[:40]}` is not read here",
        hint="send the query as text, or in gzip, deflate, zstd or lz4",
    )


def _multipart(body: bytes, kind: str) -> dict[str, str]:
    """Return the fields of a form (RFC 7578): `query` and parameters. Files would be tables of the
    client's own, which are not taken."""
    malformed = UsageError(
        "SX-SQL-016",
        "the form is malformed, or has no fields, or too many",
        hint="send `query` and `param_...`, as UTF-8",
    )
    if not kind.isprintable():
        raise malformed
    form = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(
        b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + body
    )
    parts = form.get_payload()
    if not isinstance(parts, list) or not 0 < len(parts) <= _FIELDS_MAX:
        raise malformed
    out = {}
    for part in parts:
        assert isinstance(part, email.message.Message)
        if part.get_filename() is not None:
            raise Denied(
                "SX-SQL-001",
                "tables of your own cannot be sent along",
                hint="put values into parameters, or rows into a dataset",
            )
        name, data = (
            part.get_param("name", header="content-disposition"),
            part.get_payload(decode=True),
        )
        if not isinstance(name, str) or not isinstance(data, bytes):
            raise malformed
        try:
            out[name] = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed from error
    return out
