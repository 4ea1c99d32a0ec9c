"""Checks of data. Most cases are data: tests/cases/checks/<check>.json, name -> table, check,
params, and what to expect."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import polars as pl
import pytest

from sextant.kernel import registry
from sextant.kinds.dataset.checks import evaluate
from sextant.kernel.clock import from_datetime
from sextant.kernel.errors import ProjectError
from sextant.kernel.limits import SAMPLES_PER_CHECK_MAX
from sextant.kernel.nouns import CheckResult, CheckSpec
from sextant.stores.lake import frames

FOLDER = Path(__file__).parents[1] / "cases" / "checks"
CASES = [
    pytest.param(case, id=f"{path.stem}: {name}")
    for path in sorted(FOLDER.glob("*.json"))
    for name, case in json.loads(path.read_text()).items()
]


def table(columns: dict[str, list[Any]]) -> pl.DataFrame:
    def series(name: str, type_: str, values: list[Any]) -> pl.Series:
        if type_ == "Datetime":
            return pl.Series(
                name,
                [datetime.fromisoformat(value) for value in values],
                dtype=pl.Datetime("us", "UTC"),
            )
        if type_ == "Date":
            return pl.Series(name, [date.fromisoformat(value) for value in values], dtype=pl.Date)
        return pl.Series(
            name,
            [float("nan") if value == "NaN" else value for value in values],
            dtype=getattr(pl, type_),
        )

    return pl.DataFrame([series(name, *column) for name, column in columns.items()])


def run(
    check: str, frame: pl.DataFrame, params: dict[str, Any], **more: Any
) -> tuple[CheckResult, bytes]:
    spec = CheckSpec(name="case", check=f"check.dataops.{check}", params=params)
    return evaluate([spec], frame, asset="dataset:t", partition="2013-02-09", **more)[0]


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any]) -> None:
    """The check would let bad rows through, stop good ones, or say something else than what is
    wrong."""
    more: dict[str, Any] = {
        "references": {
            asset: table(columns) for asset, columns in case.get("references", {}).items()
        }
    }
    more |= {name: case[name] for name in ("time", "personal") if name in case}
    more["expect_schema"] = [tuple(pair) for pair in case.get("expect_schema", [])]
    if "now" in case:
        more["now_ns"] = from_datetime(datetime.fromisoformat(case["now"]))
    if "error" in case:
        with pytest.raises(ProjectError) as caught:
            run(case["check"], table(case["table"]), case["params"], **more)
        assert caught.value.code == case["error"]
        assert caught.value.hint
        return
    result, sample = run(case["check"], table(case["table"]), case["params"], **more)
    found = msgspec.to_builtins(result) | {
        name: getattr(result, name) for name in ("failed", "rows", "measured")
    }
    found |= {"positions": list(result.positions), "sample": json.loads(sample) if sample else None}
    assert {name: found[name] for name in case["expect"]} == case["expect"]
    assert (result.asset, result.partition, result.name) == ("dataset:t", "2013-02-09", "case")


def test_every_check_has_a_row_and_cases() -> None:
    """A check would exist that nobody can reach by its id, or that no case exercises."""
    kinds = {id_.removeprefix("check.dataops.") for id_ in registry.names("check.dataops")}
    assert {registry.load(f"check.dataops.{kind}").__name__ for kind in kinds} == kinds
    assert {path.stem for path in FOLDER.glob("*.json")} | {"python"} == kinds


def test_one_bad_check_does_not_spoil_the_others() -> None:
    """A check that cannot be computed would hide what the others found, in whatever order they
    stand."""
    frame = pl.DataFrame({"a": [1, None, 300], "s": ["x", "y", "x"]})
    specs = [
        CheckSpec(name="1", check="check.dataops.between", params={"column": "nope", "low": 0}),
        CheckSpec(
            name="2", check="check.dataops.not_null", params={"columns": ["a"]}, severity="warn"
        ),
        CheckSpec(name="3", check="check.dataops.between", params={"column": "s", "low": 0}),
        CheckSpec(name="4", check="check.dataops.unique", params={"columns": ["s"]}),
        CheckSpec(name="5", check="check.dataops.row_count", params={"low": 1}),
    ]
    results = [result for result, _ in evaluate(specs, frame, asset="dataset:t")]
    assert [(r.name, r.ok, r.failed, r.severity) for r in results] == [
        ("1", False, 3, "error"),
        ("2", False, 1, "warn"),
        ("3", False, 3, "error"),
        ("4", False, 1, "error"),
        ("5", True, 0, "error"),
    ]


def test_samples_are_limited() -> None:
    """A bad day would store all its rows as evidence."""
    frame = pl.DataFrame({"a": [None] * 500}, schema={"a": pl.Int64})
    result, sample = run("not_null", frame, {"columns": ["a"]})
    assert result.failed == 500
    assert result.positions == tuple(range(SAMPLES_PER_CHECK_MAX))
    assert len(json.loads(sample)["rows"]) == SAMPLES_PER_CHECK_MAX


class Verdict:
    ok, failed, message, measured = False, 7, "seven are odd", {"odd": 7}


@pytest.mark.parametrize(
    ("function", "ok", "failed", "message"),
    [
        (lambda frame: frame.height == 2, True, 0, "`f` says yes"),
        (lambda frame: frame["a"].to_numpy().sum() == 0, False, 1, "`f` says no"),
        (lambda frame: frame.filter(pl.col("a") > 1), False, 1, "case: 1 of 2 rows fail (50 %)"),
        (lambda frame: frame.lazy().filter(pl.col("a") > 9), True, 0, "case: all 2 rows pass"),
        (
            lambda frame: frame.to_pandas().query("a > 0"),
            False,
            2,
            "case: 2 of 2 rows fail (100 %)",
        ),
        (lambda frame: frame.to_arrow().slice(1), False, 1, "case: 1 of 2 rows fail (50 %)"),
        (lambda frame: Verdict(), False, 7, "seven are odd"),
        (
            lambda frame: 1 / 0,
            False,
            2,
            "cannot be checked: `f` raised ZeroDivisionError: division by zero",
        ),
    ],
)
def test_functions(function: Any, ok: bool, failed: int, message: str) -> None:
    """A project's own check would be misread, or its exception would stop the run instead of
    failing the check."""
    result, _ = run(
        "python", pl.DataFrame({"a": [1, 2]}), {"function": "f"}, functions={"f": function}
    )
    assert (result.ok, result.failed, result.message) == (ok, failed, message)


def test_functions_that_are_wrong() -> None:
    """A function that returns nothing, or is not there, would pass."""
    frame = pl.DataFrame({"a": [1]})
    for functions, code in (({"f": lambda frame: None}, "SX-CHECK-006"), ({}, "SX-CHECK-005")):
        with pytest.raises(ProjectError) as caught:
            run("python", frame, {"function": "f"}, functions=functions)
        assert caught.value.code == code
    for check, code in (("betwen", "SX-CHECK-007"), ("between", "SX-CHECK-008")):
        with pytest.raises(ProjectError) as caught:
            run(check, frame, {})
        assert caught.value.code == code


def test_pandas_is_not_needed_to_check() -> None:
    """Frames of failing rows from pandas would lose their values on the way into a sample."""
    _, sample = run(
        "python",
        pl.DataFrame({"a": [1, 2]}),
        {"function": "f"},
        functions={"f": lambda frame: pd.DataFrame({"a": [2]})},
    )
    assert json.loads(sample)["rows"] == [{"a": 2}]
