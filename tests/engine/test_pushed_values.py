"""A value that is pushed is folded, stored and read back as it was sent, or its row is refused by
name: nothing between."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from arrow_bodies import packed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kinds.dataset import streams
from sextant.kinds.dataset import columnar
from sextant.kinds.dataset import bodies
from sextant.kernel.errors import BadRows
from sextant.stores.lake import frames

TYPES = (
    "bool",
    "int64",
    "float64",
    "string",
    "date",
    "timestamptz",
    "timestamp",
    "decimal(5,2)",
    "decimal(38,0)",
    "decimal(38,38)",
)


def is_json(text: str) -> bool:
    """Say whether a value can stand in JSON as it is; NaN and Infinity in what some write."""
    try:
        json.loads(text, parse_int=str)
    except ValueError:
        return False
    return True


_EDGES = [
    *("true", "1", "0", "-0", "-0.0", "1.0", "1e2", "1E+2", "0.5", "1.10", "0.001", "999.99"),
    *("1000", "9007199254740993", "9223372036854775807", "9223372036854775808", "1e400", "1e-400"),
    *("-9223372036854775808", "1" * 38, "1" * 39, "1" * 5000, "0." + "1" * 38, "0." + "1" * 39),
    *("1.1" + "0" * 60, "0E+9999", "1E+999999", "NaN", "Infinity", "-Infinity", "1_0", ""),
    *("2026-01-31", "0001-01-01", "9999-12-31", "2026-02-30", "0000-01-01", "2026-01-31T00:00:00"),
    *("2026-01-31T10:00:00Z", "2026-01-31T10:00:00.123456Z", "2026-01-31T10:00:00.1234567Z"),
    *("2026-01-31T10:00:00.123456000Z", "2026-01-31T10:00:00.9999999+01:00", "a\\u0000b"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z"),
    *("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.9999999", "2026-01-31T10:00:00-00:30"),
    *("0001-01-01T00:00:00", "\\ud800", "\\ud83d\\ude00", "\\u0000", "null", "[1]", '{"a": 1}'),
]  # fmt: skip
_EDGES_RAW = [*filter(is_json, _EDGES), *(f'"{edge}"' for edge in _EDGES if '"' not in edge)]
_raw = st.one_of(
    st.sampled_from(_EDGES_RAW),
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.decimals(allow_nan=False).map(lambda n: f'"{n}"'),
    st.text(st.characters(exclude_categories=("Cs",))).map(json.dumps),
    st.dates().map(lambda day: f'"{day.isoformat()}"'),
    st.datetimes(
        timezones=st.one_of(
            st.none(),
            st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
        )
    ).map(lambda at: f'"{at.isoformat()}"'),
    st.tuples(st.datetimes(), st.from_regex(r"\.[0-9]{1,12}(Z|\+01:00)?", fullmatch=True)).map(
        lambda pair: f'"{pair[0].replace(microsecond=0).isoformat()}{pair[1]}"'
    ),
)


def meant(text: str, type_: str) -> Any:
    """Return what a value in JSON means to a person who knows the column; ValueError for nothing
    that the column has."""
    if text == "null":
        return None
    is_text, value = text[:1] == '"', None
    if is_text:
        value = json.loads(text)
        value.encode()  # half a surrogate pair is no text
    if type_ == "string" and is_text:
        return value
    if type_ == "bool" and text in ("true", "false"):
        return text == "true"
    if type_ == "int64" and not is_text and text.lstrip("-").isdigit() and len(text) < 30:
        return int(text)
    if type_ == "float64" and not is_text:
        number = float(text)
        if math.isfinite(number) and (set(".eE") & set(text) or int(text) == number):
            return number
    if type_ == "float64" and value in ("Infinity", "-Infinity", "NaN"):
        return None if value == "NaN" else float(value)
    if type_.startswith("decimal") and text not in ("true", "false") and text[:1] not in "[{":
        return Decimal(value if is_text else text)
    if type_ == "date" and is_text:
        return date.fromisoformat(value)
    if type_.startswith("timestamp") and is_text and "T" in value:
        seconds, _, rest = value.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        if len(digits) > 6:
            if digits[6:].strip("0"):
                raise ValueError("finer than is stored")
            value = f"{seconds}.{digits[:6]}{rest[len(digits) :]}"
        at = datetime.fromisoformat(value)
        if (at.tzinfo is not None) == (type_ == "timestamptz"):
            return at.astimezone(UTC) if at.tzinfo else at
    raise ValueError("another kind")


def is_stored(value: Any, type_: str) -> bool:
    """Say whether the table's type has the value."""
    if value is None:
        return True
    if type_ == "int64":
        return bool(-(1 << 63) <= value < 1 << 63)
    if type_.startswith("decimal"):
        precision, scale = json.loads(type_.replace("decimal(", "[").replace(")", "]"))
        if not value.is_finite():
            return False
        if not value:
            return True
        sign, digits, exponent = value.as_tuple()
        plain = "".join(map(str, digits)).lstrip("0")
        kept = plain.rstrip("0")
        exponent += len(plain) - len(kept)
        return exponent >= -scale and len(kept) + exponent <= precision - scale
    return True


def stored(columns: streams.Columns, rows: streams.PushedRows, root: Path) -> list[dict[str, Any]]:
    """Return rows as they are read back from a file, after they were kept twice."""
    kept = streams.fit(columns, streams.decode(columns, streams.encode(columns, rows)))
    body = streams.encode_part(columns, streams.Part(kept.rows))
    table = streams.fold(columns, [("blob", body)], ())
    file = frames.store(
        table, ["all"], root=root, path="rows.parquet", sizes=[("all", table.num_rows)]
    )
    back = pq.read_table(root / file.path)
    return back.select([name for name, _ in columns]).to_pylist()


@pytest.mark.parametrize("type_", TYPES)
def test_a_value_in_json_is_stored_as_it_was_sent_or_refused(type_: str, tmp_path: Path) -> None:
    """If this fails, a value is acknowledged and then changed, lost, or stops a partition; or a
    value that could be stored is refused."""
    columns = (("id", "int64"), ("value", type_))
    counts = {"taken": 0, "refused": 0}

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(_raw)
    @example("null")
    def holds(raw: str) -> None:
        for form, body in (
            (bodies.JSON, f'[{{"id": 1}}, {{"id": 2, "value": {raw}}}]'),
            (bodies.LINES, f'{{"id": 1}}\n{{"id": 2, "value": {raw}}}\n'),
        ):
            bad = streams.BadRowList()
            sent = bodies.opened(body.encode(), form, batch="", env="")
            rows = bodies.read(columns, (), sent, bad)
            try:
                value = meant(raw, type_)
            except (ValueError, ArithmeticError, OverflowError):
                expected = None
            else:
                expected = (value,) if is_stored(value, type_) else None
            if bad.count:
                assert expected is None, (raw, bad.rows)
                assert [row.row for row in bad.rows] == [1]
                assert bad.rows[0].column in ("value", "")
                assert bad.rows[0].reason
                counts["refused"] += 1
                continue
            assert expected is not None, raw
            assert stored(columns, rows, tmp_path)[1]["value"] == expected[0]
            counts["taken"] += 1

    holds()
    for edge in _EDGES_RAW:
        holds.hypothesis.inner_test(edge)  # type: ignore[attr-defined]
    assert min(counts.values()) > 5, counts


_ARROW: dict[str, Any] = {
    "bool": st.tuples(st.just(pa.bool_()), st.booleans()),
    "int64": st.sampled_from([(pa.int8(), -1), (pa.uint64(), (1 << 64) - 1), (pa.uint64(), 5)]),
    "float64": st.sampled_from(
        [(pa.float32(), 0.5), (pa.float64(), math.inf), (pa.float64(), math.nan)]
        + [(pa.int64(), (1 << 53) + 1), (pa.int64(), 1 << 53)]
    ),
    "string": st.tuples(
        st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]),
        st.text(st.characters(exclude_categories=("Cs",))),
    ),
    "date": st.one_of(
        st.tuples(st.just(pa.date32()), st.integers(-1_000_000, 4_000_000)),
        st.tuples(st.just(pa.date64()), st.integers(-1000, 1000).map(lambda n: n * 86_400_000)),
    ),
    "timestamptz": st.tuples(
        st.sampled_from([pa.timestamp(unit, "UTC") for unit in ("s", "ms", "us", "ns")]),
        st.integers(-(1 << 62), 1 << 62),
    ),
    "timestamp": st.tuples(
        st.sampled_from([pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")]),
        st.one_of(st.integers(-(1 << 62), 1 << 62), st.integers(-9_999, 9_999)),
    ),
    "decimal(5,2)": st.tuples(
        st.sampled_from([pa.decimal128(12, 4), pa.decimal256(40, 4), pa.decimal64(12, 4)]),
        st.integers(-99_999_999, 99_999_999).map(lambda n: Decimal(n).scaleb(-4)),
    ),
}


@pytest.mark.parametrize("type_", sorted(_ARROW))
@pytest.mark.parametrize("form", [bodies.ARROW_STREAM, bodies.ARROW_FILE, bodies.PARQUET])
def test_a_value_in_arrow_is_stored_as_it_was_sent_or_refused(
    type_: str, form: str, tmp_path: Path
) -> None:
    """If this fails, a column of Arrow or Parquet comes to other values than it was sent with."""
    columns = (("value", type_),)

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(_ARROW[type_], st.booleans())
    def holds(pair: tuple[pa.DataType, Any], dictionary: bool) -> None:
        kind, value = pair
        storage = pa.int64() if pa.types.is_timestamp(kind) or kind == pa.date64() else kind
        storage = pa.int32() if kind == pa.date32() else storage
        array = pa.array([None, value], storage).view(kind)
        plain = (pa.bool_(), pa.string_view(), pa.decimal64(12, 4))  # no dictionaries of them
        if dictionary and kind not in plain:
            array = array.dictionary_encode()
        try:
            body = packed(pa.table({"value": array}), form)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            assert form == bodies.PARQUET  # which has fewer types
            return
        bad = streams.BadRowList()
        rows = columnar.read(columns, (), bodies.opened(body, form, batch="", env=""), bad)
        unit = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}.get(getattr(kind, "unit", ""), 0)
        if bad.count:
            assert [row.row for row in bad.rows] == [1]
            assert bad.rows[0].column == "value"
            if unit:
                micros, rest = divmod(value * 10**6, unit)
                years = micros / 1e6 / 86400 / 365.2425 + 1970
                assert rest or not 1 <= years < 10_000
            elif type_.startswith("decimal"):
                assert not is_stored(value, type_)
            return
        back = stored(columns, rows, tmp_path)[1]["value"]
        if unit:
            zone = UTC if type_ == "timestamptz" else None
            since = back - datetime(1970, 1, 1, tzinfo=zone)
            assert since // timedelta(microseconds=1) * unit == value * 10**6
        elif type_ == "date":
            days = value if kind == pa.date32() else value // 86_400_000
            assert back == date(1970, 1, 1) + timedelta(days=days)
        elif isinstance(value, float) and math.isnan(value):
            assert back is None
        else:
            assert back == value

    holds()
