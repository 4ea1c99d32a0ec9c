"""Checks compare exactly, whatever the widths of the types: judged by Python's own numbers."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sextant as sx
from sextant import testing
from sextant.kernel.errors import ProjectError

D = Decimal
TYPES: dict[str, tuple[Any, Any]] = {
    "int32": (pl.Int32, st.integers(-3, 3) | st.sampled_from([2**31 - 1, -(2**31)])),
    "int64": (pl.Int64, st.integers(-3, 3) | st.sampled_from([2**31, 2**53 + 1, 2**63 - 1])),
    "float64": (pl.Float64, st.sampled_from([0.0, 1.0, 1.5, 2.5, float(2**53), math.inf, 1e300])),
    "float32": (pl.Float32, st.sampled_from([0.0, 1.0, 1.5, 16777216.0])),
    "decimal": (pl.Decimal(10, 2), st.sampled_from([D("1.00"), D("1.50"), D("99999999.99")])),
    "long decimal": (pl.Decimal(38, 4), st.sampled_from([D("1.0000"), D("1.5001"), D(2**53 + 1)])),
}
NUMBERS = st.one_of(*(values for _, values in TYPES.values()))


def _exact(value: Any) -> Any:
    return value if isinstance(value, float) and math.isinf(value) else Fraction(value)


@st.composite
def columns(draw: Any) -> tuple[Any, list[Any]]:
    type_, values = TYPES[draw(st.sampled_from(list(TYPES)))]
    return type_, draw(st.lists(st.none() | values, max_size=5))


def frame(name: str, column: tuple[Any, list[Any]]) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(column[1], dtype=column[0])})


@settings(max_examples=150, deadline=None)
@given(columns(), columns())
def test_a_foreign_key_finds_what_is_equal(mine: Any, other: Any) -> None:
    """A key would be missing because the other table has a wider type, or found by rounding."""
    (found,) = testing.check(
        sx.foreign_key("a", to="t.b"), frame("a", mine), references={"t": frame("b", other)}
    )
    known = {_exact(value) for value in other[1] if value is not None}
    missing = [value for value in mine[1] if value is not None and _exact(value) not in known]
    assert (found.failed, found.ok) == (len(missing), not missing), found.message


@settings(max_examples=150, deadline=None)
@given(columns(), st.lists(NUMBERS.filter(math.isfinite), min_size=1, max_size=4))
def test_accepted_numbers_are_those_that_are_equal(mine: Any, listed: list[Any]) -> None:
    """1.5 would accept 1, and a number beyond a column's range break the check."""
    (found,) = testing.check(sx.accepted_values("a", listed), frame("a", mine))
    known = {_exact(value) for value in listed}
    odd = [value for value in mine[1] if value is not None and _exact(value) not in known]
    assert found.failed == len(odd), found.message


@settings(max_examples=150, deadline=None)
@given(columns(), NUMBERS.filter(math.isfinite), NUMBERS.filter(math.isfinite))
@example((pl.Float64, [2.0**53]), 2**53 + 1, 2**53 + 1)
@example((pl.Float64, [2.0**53 + 2]), 2**53 + 1, 2**53 + 1)
@example((pl.Float64, [2.0**53]), Decimal(2**53 + 1), 2**53 + 1)
@example((pl.Float64, [1e300]), 0, 1e300)
@example((pl.Float64, [1e300]), 0, 10**300)
@example((pl.Float64, [2.0**53 + 2]), 2**53 + 1, Decimal(2**53 + 1))
def test_bounds_are_exact(mine: Any, one: Any, other: Any) -> None:
    """A bound with more digits than the column would be rounded into letting a bad row through."""
    low, high = sorted((one, other), key=_exact)
    (found,) = testing.check(sx.between("a", low, high), frame("a", mine))
    out = [
        value
        for value in mine[1]
        if value is not None and not _exact(low) <= _exact(value) <= _exact(high)
    ]
    assert found.failed == len(out), found.message


def test_not_a_number_is_missing_in_every_check() -> None:
    """It would be in no range, be equal to nothing, and pass `not_null`."""
    rows = pl.DataFrame({"x": [1.0, math.nan]})
    checks = (
        sx.not_null("x"),
        sx.between("x", 0, 2),
        sx.accepted_values("x", [1]),
        sx.sql_check("q", "select * from this where isnan(x)"),
    )
    assert [found.failed for found in testing.check(checks, rows)] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sx.accepted_values("x", [1, "a"]), "mixes numbers and text"),
        (lambda: sx.accepted_values("x", [True, 1]), "mixes numbers and truth values"),
        (lambda: sx.accepted_values("x", [math.nan]), "has the value nan"),
        (lambda: sx.accepted_values("x", [{1}]), "has the value {1}"),
        (lambda: sx.between("x", math.nan, 1), "has the bound nan"),
        (lambda: sx.between("x", True, 1), "has the bound True"),
        (lambda: sx.between("x", "a", 1), "mixes numbers and text"),
        (lambda: sx.between("x", D("1.5"), 1), "is empty"),
        (lambda: sx.between("x", date(2026, 1, 2), date(2026, 1, 1)), "is empty"),
        (lambda: sx.row_count(0.5), "has the bound 0.5"),
        (lambda: sx.schema({"x": "varchar"}), "`varchar` is not a column type"),
        (lambda: sx.matches("x", "(?=a)"), "not a regular expression of this check"),
    ],
)
def test_a_wrong_check_is_found_when_the_project_is_loaded(make: Any, said: str) -> None:
    """It would fail each day's run instead, with a library's words."""
    with pytest.raises(ProjectError, match=said.replace("(", r"\(")):
        make()


def test_dates_and_decimals_can_be_written_as_such() -> None:
    """An author would have to know how a manifest spells them."""
    rows = pl.DataFrame({
        "d": [date(2026, 1, 1)],
        "t": [datetime(2026, 1, 1, tzinfo=UTC)],
        "m": pl.Series([D("1.50")], dtype=pl.Decimal(10, 2)),
    })  # fmt: skip
    checks = (
        sx.accepted_values("d", [date(2026, 1, 1), None]),
        sx.accepted_values("t", [datetime(2026, 1, 1, tzinfo=UTC)]),
        sx.accepted_values("m", [D("1.5")]),
        sx.between("m", D("1.495"), D("1.505")),
        sx.between("t", datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC)),
    )
    assert [found.failed for found in testing.check(checks, rows)] == [0, 0, 0, 0, 0]


KEYS = """
import polars as pl, sextant as sx
sx.project("k")
days = sx.daily(start="2026-01-01")
@sx.dataset(partition=days, key="id", checks=[sx.foreign_key("manager", to="employees.id")])
def employees(day: sx.Partition) -> pl.DataFrame:
    n = int(day.key[-2:])
    return pl.DataFrame({"id": [n], "manager": [LATER if n < 2 else n - 1]}, schema={"id": pl.Int64, "manager": pl.Int64})
"""


@pytest.mark.parametrize(("later", "ok"), [(3, True), (7, False), (None, True)])
def test_a_foreign_key_into_its_own_table_asks_the_whole_table(later: Any, ok: bool) -> None:
    """A manager who was hired later, or lies in another partition, would refuse the employee."""
    at = datetime(2026, 1, 4, tzinfo=UTC)
    files = {"ops.py": KEYS.replace("LATER", repr(later))}
    with testing.platform(files, at=at, executor="inline") as p:
        report = p.runs.run("dev", testing.Request(), by=p.core.authorization.who())
        assert (report.state == "finished") == ok
        if ok:
            (seen,) = [
                c
                for c in p.runs.check(
                    "dev", p.core.assets.find("employees"), by=p.core.authorization.who()
                )
                if c.name.startswith("foreign")
            ]
            assert seen.ok
            again = p.runs.run("dev", testing.Request(), by=p.core.authorization.who())
            assert again.state == "finished"
        else:
            assert "foreign_key" in str([(c.name, c.message) for c in report.refused])
