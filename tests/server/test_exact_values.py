"""Difficult values through every way out: command line, API, SQL and exports. Each value leaves
exactly, and everywhere as the same text."""

import csv
import io
import json
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_up import Up

from sextant.cli.main import call

_OPS = '''
import datetime as dt
from decimal import Decimal

import polars as pl
import sextant as sx

sx.project("exact", tz="UTC", owner=sx.team("exact", members=["ann"]), environments=["dev"])
at = dt.datetime(1969, 12, 31, 23, 59, 59, 123456)


@sx.dataset(key="id")
def things() -> pl.DataFrame:
    """One difficult value in each cell."""
    return pl.DataFrame(
        {
            "id": range(7),
            "whole": [2**53 + 1, -(2**63), 2**63 - 1, 0, 1234567, -1, None],
            "wide": [Decimal(2**64 + 1), Decimal(-(10**37)), Decimal(0), Decimal(7), Decimal(10), Decimal(-1), None],
            "price": [Decimal("1234.50"), Decimal("0.00"), Decimal("-0.05"), Decimal("99999999.99"), Decimal("10.00"), Decimal("1.20"), None],
            "tiny": [Decimal("0.0000000001"), Decimal("1.5"), Decimal("0E-10"), Decimal("-0.0000001"), Decimal("2"), Decimal("3"), None],
            "real": [0.1 + 0.2, 1e22, 1e-7, float("inf"), float("-inf"), float("nan"), None],
            "short": [0.1, 1234.56, 5145.0, 1.5, -2.5, 16777216.0, None],
            "year": [2013, 2014, -44, 0, 1, 12, None],
            "word": ["", "null", " a", "\\n", "\\N{PARTY POPPER}", '""', None],
            "yes": [True, False, True, False, True, False, None],
            "day": [dt.date(1969, 12, 31), dt.date(2013, 1, 1), dt.date(1900, 1, 1), dt.date(2200, 1, 1), dt.date(1970, 1, 1), dt.date(2000, 2, 29), None],
            "at": [at, dt.datetime(2013, 2, 8), dt.datetime(2013, 2, 8, 12, 30, 0, 500000), at, at, at, None],
            "local": [at, dt.datetime(2013, 2, 8), dt.datetime(2013, 2, 8, 12, 30, 0, 500000), at, at, at, None],
            "prices": [[Decimal("1.50"), None], [], [Decimal("0.05")], [], [], [], []],
            "pair": [{"price": Decimal("1.50"), "n": 2**53 + 1, "x": float("inf")}] * 7,
        },
        schema_overrides={
            "whole": pl.Int64, "wide": pl.Decimal(38, 0), "price": pl.Decimal(10, 2), "tiny": pl.Decimal(18, 10),
            "short": pl.Float32, "at": pl.Datetime("us", "UTC"), "local": pl.Datetime("us"),
            "prices": pl.List(pl.Decimal(10, 2)),
            "pair": pl.Struct({"price": pl.Decimal(10, 2), "n": pl.Int64, "x": pl.Float64}),
        },
    )


totals = sx.sql("totals.sql")
whole = sx.kpi("whole", of=things, measure="sum(year)", grain="")
money = sx.kpi("money", of=things, measure="sum(price)", grain="")
'''
_SQL = "select sum(whole) as whole, sum(year) as year, sum(price) as price from things\n"
_PAIR = {"price": "1.50", "n": 9007199254740993, "x": "Infinity"}
_PAIR_TEXT = '{"price":"1.50","n":9007199254740993,"x":"Infinity"}'
_AT = "1969-12-31T23:59:59.123456"
# column -> its values in JSON, and as text
_EXPECTED: dict[str, tuple[list[Any], list[str]]] = {
    "whole": (
        [9007199254740993, -9223372036854775808, 9223372036854775807, 0, 1234567, -1, None],
        ["9007199254740993", "-9223372036854775808", "9223372036854775807", "0", "1234567", "-1", "null"],
    ),
    "wide": (
        [18446744073709551617, -(10**37), 0, 7, 10, -1, None],
        ["18446744073709551617", "-10000000000000000000000000000000000000", "0", "7", "10", "-1", "null"],
    ),
    "price": (["1234.50", "0.00", "-0.05", "99999999.99", "10.00", "1.20", None],) * 2,
    "tiny": (
        ["0.0000000001", "1.5000000000", "0.0000000000", "-0.0000001000", "2.0000000000", "3.0000000000", None],
    ) * 2,
    "real": (
        [0.30000000000000004, 1e22, 1e-7, "Infinity", "-Infinity", None, None],
        ["0.30000000000000004", "1e22", "1e-7", "Infinity", "-Infinity", "null", "null"],
    ),
    "short": (
        [0.1, 1234.56, 5145.0, 1.5, -2.5, 16777216.0, None],
        ["0.1", "1234.56", "5145.0", "1.5", "-2.5", "16777216.0", "null"],
    ),
    "year": ([2013, 2014, -44, 0, 1, 12, None], ["2013", "2014", "-44", "0", "1", "12", "null"]),
    "word": (
        ["", "null", " a", "\n", "\N{PARTY POPPER}", '""', None],
        ['""', '"null"', '" a"', '"\\n"', "\N{PARTY POPPER}", '"\\"\\""', "null"],
    ),
    "yes": (
        [True, False, True, False, True, False, None],
        ["true", "false", "true", "false", "true", "false", "null"],
    ),
    "day": (["1969-12-31", "2013-01-01", "1900-01-01", "2200-01-01", "1970-01-01", "2000-02-29", None],) * 2,
    "at": (
        [_AT + "Z", "2013-02-08T00:00:00Z", "2013-02-08T12:30:00.500000Z", *[_AT + "Z"] * 3, None],
    ) * 2,
    "local": (
        [_AT, "2013-02-08T00:00:00", "2013-02-08T12:30:00.500000", *[_AT] * 3, None],
    ) * 2,
    "prices": (
        [["1.50", None], [], ["0.05"], [], [], [], []],
        ['["1.50",null]', "[]", '["0.05"]', "[]", "[]", "[]", "[]"],
    ),
    "pair": ([_PAIR] * 7, [_PAIR_TEXT] * 7),
}  # fmt: skip
_COLUMNS = list(_EXPECTED)
_ROWS = [
    {"id": n, **{name: json_values[n] for name, (json_values, _) in _EXPECTED.items()}}
    for n in range(7)
]
_ASK = "SELECT * EXCEPT (_partition) FROM data.things ORDER BY id"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Give a server of a project that has run."""
    root = tmp_path_factory.mktemp("exact") / "project"
    root.mkdir()
    (root / "ops.py").write_text(_OPS)
    (root / "totals.sql").write_text(_SQL)
    (root / "sextant.toml").write_text(
        'module = "ops"\n[server]\napi = "127.0.0.1:0"\ningest = "127.0.0.1:0"\n'
        'sql = "127.0.0.1:0"\n'
    )
    one = Up(root)
    one.begin()
    one.here("run")
    yield one
    assert one.end() == 0


@pytest.fixture(params=["here", "there"])
def sx(
    request: pytest.FixtureRequest,
    up: Up,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Any:
    """Give the command line, in the folder or at the server: words -> what it prints."""
    for name, value in up.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEXTANT_TOKEN", up.token)
    where = (
        ["--project", str(up.root)] if request.param == "here" else ["--server", up.facts["api"]]
    )

    def run(*words: str) -> str:
        code = call([*where, *words])
        found = capfd.readouterr()
        assert code == 0, found.err
        return found.out

    return run


def _http(url: str, token: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(
        url,
        body,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
    return data


def _cells(table: str) -> list[str]:
    """Return the cells of a printed table of one column, without its head."""
    return [line.strip(" ") for line in table.split("\n")[1:-1]]


def test_json_of_the_command_line(sx: Any) -> None:
    """If this fails, a script that reads `--json` gets other numbers than were stored."""
    assert json.loads(sx("show", "things", "--json"))["sample"] == _ROWS
    assert json.loads(sx("query", _ASK, "--json")) == _ROWS
    assert json.loads(sx("export", "things", "--format", "JSON")) == _ROWS
    for command in (("export", "things"), ("query", _ASK, "--format", "JSONEachRow")):
        assert [json.loads(line) for line in sx(*command).splitlines()] == _ROWS, command


@pytest.mark.parametrize("column", _COLUMNS)
def test_tables_of_the_command_line(sx: Any, column: str) -> None:
    """If this fails, a person reads a year as 2,013, or cannot tell no value from no text."""
    texts = [text or "null" for text in _EXPECTED[column][1]]
    assert _cells(sx("query", f"SELECT {column} FROM data.things ORDER BY id")) == texts
    shown = sx("show", "things").split("\n\n")[2].split("\n")
    for line, text in zip(shown[1:], texts, strict=False):
        assert text in line, (line, text)


def test_json_of_the_api(up: Up) -> None:
    """If this fails, a client of the API gets other numbers than were stored."""
    api = up.facts["api"] + "/api/v1"
    assert json.loads(_http(f"{api}/assets/things/rows?form=JSON", up.token)) == _ROWS
    assert json.loads(_http(f"{api}/assets/things", up.token))["sample"] == _ROWS
    for form in ("JSON", "JSONCompact", "JSONEachRow"):
        body = json.dumps({"sql": _ASK, "form": form}).encode()
        answer = _http(f"{api}/query", up.token, body)
        if form == "JSONEachRow":
            assert [json.loads(line) for line in answer.splitlines()] == _ROWS
            continue
        found = json.loads(answer)
        names = [column["name"] for column in found["meta"]]
        assert found["rows"] == 7
        assert [
            dict(zip(names, row, strict=True)) if isinstance(row, list) else row
            for row in found["data"]
        ] == _ROWS


def test_the_sql_endpoint(up: Up) -> None:
    """If this fails, digits are lost on the way to a BI tool. Forms are ClickHouse's own there:
    a decimal is a number, without the zeros at its end unless the client asks for them."""

    def ask(settings: str) -> list[dict[str, Any]]:
        url = f"{up.facts['sql']}/?default_format=JSONEachRow{settings}"
        lines = _http(url, up.token, _ASK.encode()).splitlines()
        return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in lines]

    numbers = ("whole", "wide", "year", "price", "tiny")
    for found, row in zip(ask(""), _ROWS, strict=True):
        for name in numbers:
            want = None if row[name] is None else Decimal(row[name])
            assert found[name] == want, name
        for name in ("word", "yes", "day"):
            assert found[name] == row[name], name
    words = "&output_format_json_quote_decimals=1&output_format_decimal_trailing_zeros=1"
    for found, row in zip(ask(words), _ROWS, strict=True):
        assert (found["price"], found["tiny"]) == (row["price"], row["tiny"])


def test_exports_of_other_forms(sx: Any, up: Up, tmp_path: Path) -> None:
    """If this fails, a file that was exported holds other values than the lake."""
    flat = [name for name in _COLUMNS if name not in ("prices", "pair")]
    only = [word for name in flat for word in ("--column", name)]
    sx("export", "things", "-o", str(tmp_path / "v.csv"), *only)
    cells = list(csv.reader(io.StringIO((tmp_path / "v.csv").read_text(), newline="")))
    assert cells[0] == flat
    for n, line in enumerate(cells[1:]):
        for name, cell in zip(flat, line, strict=True):
            want = _EXPECTED[name][0][n]
            if isinstance(want, float):
                assert float(cell) == want, name
            else:
                text = str(want).lower() if isinstance(want, bool) else str(want)
                assert cell == ("" if want is None else text), name
    lines = (tmp_path / "v.csv").read_text().splitlines()
    assert ',2013,"",' in lines[1]  # an empty text, and no text
    assert lines[-1] == "," * (len(flat) - 1)
    for form in ("Parquet", "Arrow"):
        path = tmp_path / f"v.{form.lower()}"
        sx("export", "things", "-o", str(path))
        table = pq.read_table(path) if form == "Parquet" else pa.ipc.open_file(str(path)).read_all()
        assert table["whole"].to_pylist() == _EXPECTED["whole"][0]
        assert table["wide"].to_pylist()[0] == Decimal(2**64 + 1)
        assert str(table["price"].to_pylist()[0]) == "1234.50"
        assert table["real"].to_pylist()[:5] == [0.1 + 0.2, 1e22, 1e-7, float("inf"), -float("inf")]
        assert table["at"].to_pylist()[0].microsecond == 123456


def test_sums_of_integers_are_numbers(sx: Any) -> None:
    """If this fails, the sum of a column of integers is text for whoever reads the JSON."""
    total = sum(value for value in _EXPECTED["whole"][0] if value is not None)
    (row,) = json.loads(sx("show", "totals", "--json"))["sample"]
    assert row == {"whole": total, "year": 3996, "price": "100001245.64"}
    assert json.loads(sx("query", "SELECT whole, year, price FROM data.totals", "--json")) == [row]
    assert json.loads(sx("kpi", "whole", "--json"))["rows"] == [{"value": 3996}]
    assert json.loads(sx("kpi", "money", "--json"))["rows"] == [{"value": "100001245.64"}]
    assert _cells(sx("kpi", "money").partition("\n")[2]) == ["100001245.64"]
    assert json.loads(sx("query", "SELECT sum(whole) AS n FROM data.things", "--json")) == [
        {"n": total}
    ]
