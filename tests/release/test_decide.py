"""`policy.decide` on the cases in tests/cases/policy, and rules that are refused when they are
loaded."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Asset, Need, Principal, Rule
from sextant.authorization.decide import DEFAULT, Decision, Known, check_rules, combine, decide

KNOWN = Known(
    kinds=frozenset({"dataset", "pipeline"}),
    envs=frozenset({"dev", "prod"}),
    teams=frozenset({"ops", "data"}),
)
FOLDER = Path(__file__).parents[1] / "cases" / "policy"
CASES = [
    (f"{file.stem}: {case['why']}", case)
    for file in sorted(FOLDER.glob("*.json"))
    for case in json.loads(file.read_text())
]


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_case(case: dict[str, Any]) -> None:
    """If this failed, someone may do what was forbidden, or is kept from what was allowed."""
    rules: list[Rule] = []
    for rule in case.get("rules", ["DEFAULT"]):
        rules += DEFAULT if rule == "DEFAULT" else [msgspec.convert(rule, Rule)]
    asset = msgspec.convert(case["asset"], Asset) if case["asset"] else None
    said = decide(
        rules,
        msgspec.convert(case["principal"], Principal),
        case["verb"],
        asset,
        case["env"],
        case.get("context"),
    )
    assert said.verdict == case["verdict"], said
    assert said.needs == tuple(msgspec.convert(need, Need) for need in case.get("needs", ())), said
    if "passed" in case or not case.get("context", {}).get("break_glass"):
        assert list(said.passed) == case.get("passed", []), said
    if "reasons" in case:
        assert list(said.reasons) == case["reasons"]
    if "says" in case:
        assert case["says"] in said.reasons[0]


@pytest.mark.parametrize(
    ("when", "code", "words"),
    [
        ("verb = 'release'", "SX-POLICY-010", "is not CEL"),
        ("envv == 'prod'", "SX-POLICY-011", "`envv`"),
        ("asset.teir == 1", "SX-POLICY-011", "`asset.teir`"),
        ("context.broke_glass", "SX-POLICY-011", "`context.broke_glass`"),
        ("asset.tier / 0 == 1", "SX-POLICY-012", "fails on a plain case"),
    ],
)
def test_a_bad_rule_is_refused_when_it_is_loaded(when: str, code: str, words: str) -> None:
    """A misspelt field would make a rule that silently never speaks."""
    with pytest.raises(ProjectError) as caught:
        check_rules([Rule(name="mine", when=when, then="deny", file="ops.py", line=7)], KNOWN)
    assert (caught.value.code, caught.value.where) == (code, "ops.py:7")
    assert words in caught.value.message


def test_a_near_name_is_offered() -> None:
    """The hint is how the mistake is mended."""
    with pytest.raises(ProjectError, match="teir") as caught:
        check_rules([Rule(name="mine", when="asset.teir == 1", then="deny")], KNOWN)
    assert "tier" in caught.value.hint


def test_the_written_default_is_well_formed() -> None:
    """Nobody could do anything."""
    check_rules(DEFAULT, KNOWN)


def test_moves_that_go_together_are_judged_together() -> None:
    """A release of two assets would go live with the approval of one, or past the deny of the
    other."""
    ops, sec, two = Need(count=1, of="ops"), Need(count=1, of="sec"), Need(count=2, of="ops")
    allow, deny = (
        Decision(verdict="allow", passed=("freeze",)),
        Decision(verdict="deny", reasons=("no",)),
    )
    eyes = [
        Decision(verdict="approval", reasons=(name,), needs=needs)
        for name, needs in (("a", (ops, sec)), ("b", (two,)))
    ]
    assert combine([allow, *eyes]) == Decision(
        verdict="approval", reasons=("a", "b"), needs=(two, sec), passed=("freeze",)
    )
    assert combine([*eyes, deny, allow]).reasons == ("no",)
    assert combine([allow, allow]) == allow
    assert combine([]).verdict == "deny"
