"""Values that leave: what JSON says is the value again, and no two values look alike to people."""

import datetime as dt
import json
import math
import struct
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from sextant.formats import clickhouse_json
from sextant.formats.values import plain, text

_CHARACTERS = 'aZ09 \t\n\r"\\,{}[]nul\x00\x1b\x7f\x9bäß北\N{PARTY POPPER}\u202e\u2028'


def _number(random: Random) -> Any:
    kind = random.randrange(4)
    if kind == 0:
        return random.randrange(-(1 << random.randrange(1, 200)), 1 << random.randrange(1, 200))
    if kind == 1:
        found = struct.unpack("<d", random.randbytes(8))[0]
        return found if math.isfinite(found) else float(random.randrange(1000))
    digits = tuple(random.randrange(10) for _ in range(random.randrange(1, 39)))
    return Decimal((random.randrange(2), digits, -random.randrange(len(digits) + 5)))


def _value(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(9 if depth < 3 else 7)
    if kind < 3:
        return _number(random)
    if kind == 3:
        return random.choice([None, True, False, math.inf, -math.inf, math.nan])
    if kind == 4:
        return "".join(random.choices(_CHARACTERS, k=random.randrange(5)))
    if kind == 5:
        moment = dt.datetime(1, 1, 1) + dt.timedelta(days=random.randrange(3_000_000))
        moment += dt.timedelta(microseconds=random.randrange(86_400_000_000))
        zone = random.choice([None, dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=45))])
        return random.choice([moment.date(), moment.time(), moment.replace(tzinfo=zone)])
    if kind == 6:
        return random.randbytes(random.randrange(4))
    if kind == 7:
        return [_value(random, depth + 1) for _ in range(random.randrange(4))]
    return {f"k{n}": _value(random, depth + 1) for n in range(random.randrange(4))}


def _back(found: Any, value: Any) -> Any:
    """Return what a reader of JSON makes of `found`, who knows the kind of `value`."""
    if isinstance(value, dict):
        assert list(found) == list(value)
        return {name: _back(found[name], one) for name, one in value.items()}
    if isinstance(value, list):
        assert len(found) == len(value)
        return [_back(*pair) for pair in zip(found, value, strict=True)]
    if isinstance(value, Decimal):
        assert isinstance(found, int if value.as_tuple().exponent == 0 else str)
        assert isinstance(found, int) or "e" not in found.lower()
        back = Decimal(found)
        assert back.as_tuple().exponent == value.as_tuple().exponent
        return back
    if isinstance(value, float):
        return math.nan if found is None else float(found)
    if isinstance(value, bytes):
        return bytes.fromhex(found)
    if isinstance(value, (dt.date, dt.time)):
        return type(value).fromisoformat(found)
    return found


def _alike(a: Any, b: Any) -> bool:
    """Say whether two values are the same, of the same kind; NaN is itself."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_alike(*pair) for pair in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def test_json_says_the_value() -> None:
    """If this fails, somebody who reads our JSON with exact numbers has another value."""
    random = Random(1)
    for _ in range(20_000):
        value = _value(random)
        for encode in (msgspec.json.encode, json.dumps):
            found = json.loads(encode(plain(value)))
            assert _alike(_back(found, value), value), value
        assert text(plain(value)) == text(value)


def test_no_two_texts_look_alike() -> None:
    """If this fails, a missing value, an empty text and the word null look the same in a table, or
    a text breaks out of its line."""
    random = Random(2)
    words = {"", "null", '"', '""', '"null"', '"\\n"', "\n", "\\n", " ", "a", "a ", "Infinity"}
    words |= {"".join(random.choices(_CHARACTERS, k=random.randrange(5))) for _ in range(20_000)}
    seen = {text(None): None}
    for word in sorted(words):
        shown = text(word)
        assert shown not in seen, (word, seen[shown])
        assert shown == shown.strip()
        assert not any(c in shown for c in "\t\n\r\x00\x1b\x7f\x9b\u202e\u2028")
        assert shown == word or json.loads(shown) == word
        seen[shown] = word


@pytest.mark.parametrize(
    ("value", "json_value", "shown"),
    [
        (Decimal("1234.50"), "1234.50", "1234.50"),
        (Decimal("1E-10"), "0.0000000001", "0.0000000001"),
        (Decimal("1E+3"), 1000, "1000"),
        (Decimal("NaN"), None, "null"),
        (2013, 2013, "2013"),
        (1234.56, 1234.56, "1234.56"),
        (5145.0, 5145.0, "5145.0"),
        (1e22, 1e22, "1e22"),
        ("1,234.6", "1,234.6", "1,234.6"),
        (True, True, "true"),
        ([1, None, "a b"], [1, None, "a b"], '[1,null,"a b"]'),
        (dt.datetime(2013, 2, 8, tzinfo=dt.UTC), "2013-02-08T00:00:00Z", "2013-02-08T00:00:00Z"),
        (bytearray(b"\x00\xff"), "00ff", "00ff"),
    ],
)
def test_forms(value: Any, json_value: Any, shown: str) -> None:
    assert _alike(plain(value), json_value)
    assert text(value) == shown


def test_numbers_of_numpy() -> None:
    """If this fails, what a check written with NumPy measured is text in the ledger."""
    import numpy as np

    assert _alike(plain({"n": np.int64(6), "x": np.float64(0.5)}), {"n": 6, "x": 0.5})
    assert plain(np.float32("inf")) == "Infinity"


@pytest.mark.parametrize(
    ("type_", "sent", "exact"),
    [
        ("Decimal(38, 0)", "6", 6),
        ("Nullable(Decimal(76, 0))", None, None),
        ("Decimal(10, 2)", "1234.50", "1234.50"),
        ("Float64", 5, 5.0),
        ("LowCardinality(Nullable(Float32))", "nan", None),
        ("Array(Array(Float64))", [["inf"], [1]], [["Infinity"], [1.0]]),
        ("Map(String, Decimal(9, 0))", {"a": "1"}, {"a": 1}),
        ("Tuple(Decimal(9, 0), String)", ["1", "1"], [1, "1"]),
        (
            "Tuple(x Decimal(9, 0), `a \\`), b` Enum8('a, (' = 1, 'it\\'s' = 2), z Float64)",
            {"x": "1", "a `), b": "a, (", "z": "-inf"},
            {"x": 1, "a `), b": "a, (", "z": "-Infinity"},
        ),
        ("SimpleAggregateFunction(sum, Decimal(38, 0))", "7", 7),
        ("DateTime64(9, 'UTC')", "2013-02-08T00:00:00.000000001Z", "2013-02-08T00:00:00.000000001Z"),
        ("DateTime64(3)", "2013-02-08T00:00:00.120Z", "2013-02-08T00:00:00.120000"),
        ("DateTime('Europe/Berlin')", "2013-07-08T00:00:00Z", "2013-07-08T02:00:00+02:00"),
        ("DateTime('UTC')", 1360281600, 1360281600),
        ("Time64(6)", "05:00:00.500000", "05:00:00.500000"),
        ("Time64(6)", "05:00:00.000000", "05:00:00"),
        ("Variant(Float64, String)", "inf", "inf"),
        ("Nullable(Nothing)", None, None),
        ("(((", "x", "x"),
    ],
)  # fmt: skip
def test_answers_of_clickhouse(type_: str, sent: Any, exact: Any) -> None:
    """If this fails, `sextant query` shows a value otherwise than `sextant show`."""
    meta = [{"name": "v", "type": type_}]
    for form, row in (("JSON", {"v": sent}), ("JSONCompact", [sent])):
        data = json.dumps({"meta": meta, "data": [row], "totals": row, "rows": 1}).encode()
        found = json.loads(clickhouse_json.exact(data, form, form))
        for one in (found["data"][0], found["totals"]):
            assert _alike(one["v"] if form == "JSON" else one[0], exact)
    lines = b"\n".join(json.dumps(line).encode() for line in (["v"], [type_], [sent]))
    found = clickhouse_json.exact(lines + b"\n", clickhouse_json.LINES, "JSONEachRow")
    assert _alike(json.loads(found), {"v": exact})
    assert clickhouse_json.exact(lines, clickhouse_json.LINES, clickhouse_json.LINES) == lines
