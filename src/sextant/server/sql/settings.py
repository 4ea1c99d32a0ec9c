"""FORMAT and SETTINGS of an untrusted query: which formats there are, what may be set and what it
means. Called by the guard and the endpoint."""

import math
import re

from sextant.kernel.errors import Denied, UsageError
from sextant.server.sql.tokens import Token

_FORMAT = re.compile(
    r"Native|Null|Values|Vertical|XML|Markdown|Arrow|ArrowStream|Parquet|ORC|Avro|MsgPack|BSONEachRow|SQLInsert|TSKV|NDJSON|JSONL|JSONLines|PrettyNDJSON"
    r"|(?:CSV|TSV|TSVRaw|TabSeparated|TabSeparatedRaw|RowBinary|CustomSeparated)(?:WithNames(?:AndTypes)?)?"
    r"|JSON(?:Strings|Columns|ColumnsWithMetadata|ObjectEachRow|EachRow|StringsEachRow)?"
    r"|JSONCompact(?:Strings|Columns)?|JSONCompact(?:Strings)?EachRow(?:WithNames(?:AndTypes)?)?"
    r"|Pretty(?:Compact|Space)?(?:NoEscapes)?(?:MonoBlock)?|PrettyJSONEachRow"
)
# Settings that clients send and that change no answer: how fast, how logged, how transported, and
# how *input* would be read.
_WITHOUT_EFFECT = re.compile(
    r"max_threads|max_block_size|max_insert_.*|max_query_size|max_parser_depth|max_concurrent_queries.*|max_(?:download|final|streams)\w*|priority|log_.*"
    r"|send_.*|wait_end_of_query|http_.*|cancel_http_readonly_queries_on_client_close|receive_timeout|send_timeout|connect_timeout\w*|idle_connection_timeout"
    r"|buffer_size|load_balancing|use_uncompressed_cache|use_query_cache|network_compression_\w+|enable_http_compression|date_time_input_format|input_format_\w+"
    r"|async_insert\w*|wait_for_async_insert|insert_\w+|mutations_sync|min_insert_\w+|optimize_\w+|prefer_\w+|query_profiler_\w+|allow_experimental_analyzer|enable_analyzer"
    r"|timeout_before_checking_execution_speed|skip_unavailable_shards|distributed_\w+|memory_\w+|client_protocol_version|select_sequential_consistency"
)
# Limits that a client may lower: setting -> (field of QueryLimits, its ladder). Steps, because the
# store keeps a connection for each combination; a request between two steps gets the next higher
# one, never more than our own limit.
_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_ROWS = tuple(10**n for n in range(10))
_BYTES = tuple(1 << n for n in range(26, 38))
LIMITS: dict[str, tuple[str, tuple[int, ...]]] = {
    "max_execution_time": ("seconds", _SECONDS),
    "max_result_rows": ("rows_result", _ROWS),
    "max_rows_to_read": ("rows_read", _ROWS),
    "max_memory_usage": ("memory_bytes", _BYTES),
    "max_memory_usage_for_user": ("memory_bytes", _BYTES),
}
# Settings that change how values come out and nothing else: given to the connection.
_FLAG = re.compile(r"[01]|true|false")
ANSWERS = {
    "session_timezone": re.compile(r"|[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}"),
    "join_use_nulls": _FLAG, "date_time_output_format": re.compile(r"simple|iso|unix_timestamp"),
    "output_format_json_quote_64bit_integers": _FLAG,
    "output_format_json_quote_64bit_floats": _FLAG, "output_format_json_quote_denormals": _FLAG,
    "output_format_json_quote_decimals": _FLAG, "output_format_json_named_tuples_as_objects": _FLAG,
    "output_format_json_validate_utf8": _FLAG, "output_format_decimal_trailing_zeros": _FLAG,
    "output_format_arrow_string_as_string": _FLAG, "output_format_parquet_string_as_string": _FLAG,
    "output_format_arrow_compression_method": re.compile(r"none|lz4_frame|zstd"),
    "output_format_parquet_compression_method": re.compile(r"none|snappy|lz4|zstd|gzip"),
    "output_format_csv_crlf_end_of_line": _FLAG, "extremes": _FLAG, "final": _FLAG,
    "cast_string_to_dynamic_use_inference": _FLAG,
}  # fmt: skip
# Other settings that change answers are taken only at the value that holds anyway.
_AS_IS = {
    "readonly": ("1", "2"), "result_overflow_mode": ("throw",), "read_overflow_mode": ("throw",),
    "timeout_overflow_mode": ("throw",),
    "output_format_native_encode_types_in_binary_format": ("0", "false"),
    "dialect": ("clickhouse",), "use_client_time_zone": ("0", "1"),
    "allow_experimental_variant_type": ("1",), "allow_experimental_dynamic_type": ("1",),
    "allow_experimental_json_type": ("1",),
    "output_format_binary_write_json_as_string": ("0", "false"),
}  # fmt: skip
_IGNORED_ANY = frozenset({"max_result_bytes", "default_format"})


def tail(text: str, found: list[Token]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Take FORMAT and SETTINGS off the end. Returns the text before them, the format ("" for none),
    and the settings that mean something."""
    depth, start = 0, len(found)
    for index, token in enumerate(found):
        depth += (token.text in "([{") - (token.text in ")]}") if token.kind == "sign" else 0
        follows = found[index + 1].name if index + 1 < len(found) else ""
        if depth == 0 and token.kind == "word" and follows and index:
            last = index + 2 == len(found)
            if (
                token.text == "SETTINGS" and index + 2 < len(found) and found[index + 2].text == "="
            ) or (token.text == "FORMAT" and (last or found[index + 2].text == "SETTINGS")):
                start = index
                break
    if start == len(found):
        return text, "", ()
    form, limits, index = "", [], start
    while index < len(found):
        if found[index].text == "FORMAT" and found[index].kind == "word" and index + 1 < len(found):
            form = format_of(found[index + 1].name)
            index += 2
        elif (
            found[index].text in ("SETTINGS", ",")
            and index + 3 < len(found)
            and found[index + 2].text == "="
        ):
            minus = found[index + 3].text == "-"
            value = found[index + 3 + minus] if index + 3 + minus < len(found) else found[-1]
            if value.kind == "sign":
                raise Denied(
                    "SX-SQL-005",
                    f"the setting `{found[index + 1].name}` cannot be given",
                    hint="settings with a list as their value are not taken",
                )
            plain = value.text[1:-1] if value.kind == "string" else value.text
            limits += setting(found[index + 1].name, ("-" if minus else "") + plain)
            index += 4 + minus
        else:
            raise Denied(
                "SX-SQL-005",
                "FORMAT and SETTINGS can stand only at the end of the whole query",
                hint="leave them out of subqueries and branches of UNION",
            )
    return text[: found[start].start].rstrip(), form, tuple(limits)


def format_of(name: str) -> str:
    """Return the name of an output format. UsageError for one that is not offered."""
    if not _FORMAT.fullmatch(name):
        raise UsageError(
            "SX-SQL-010",
            f"there is no format `{name[:60]}`",
            hint=(
                "there are Native, JSON..., CSV..., TSV..., Arrow, ArrowStream, Parquet, "
                "RowBinary..., Pretty... and a few more"
            ),
        )
    return name


def setting(name: str, value: str) -> list[tuple[str, str]]:
    """Return what a client's setting means: a limit that it lowers, a form of answers, or nothing.
    Denied for one that would change rights."""
    if name in LIMITS:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if number < 0 or not math.isfinite(number):
            raise Denied(
                "SX-SQL-005",
                f"`{name}` cannot be `{value[:40]}`",
                hint="give a number; 0 asks for the limit that holds anyway",
            )
        return [(name, value)] if number else []
    if name in ANSWERS and ANSWERS[name].fullmatch(value):
        return [(name, {"true": "1", "false": "0"}.get(value, value))] if value else []
    if (
        name in _IGNORED_ANY
        or value in _AS_IS.get(name, ())
        or (_WITHOUT_EFFECT.fullmatch(name) and name not in _AS_IS)
    ):
        return []
    raise Denied(
        "SX-SQL-005",
        f"the setting `{name[:80]}` cannot be given here",
        hint=(
            "limits can be lowered, and forms of answers chosen; what would change rights is "
            "refused: leave it out"
        ),
    )
