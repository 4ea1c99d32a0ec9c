"""Conditions of rules: what they name, at which verbs they can hold, and that a misspelt name is an
error of the project with its place."""

import pytest

from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Rule
from sextant.authorization.conditions import comparisons, parse, possible_verbs, tokens
from sextant.authorization.decide import FACT_VERBS, VERBS, Known, check_rules

KNOWN = Known(
    kinds=frozenset({"dataset", "pipeline"}),
    envs=frozenset({"dev", "prod"}),
    teams=frozenset({"ops", "data"}),
)


def refused(when: str) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        check_rules([Rule(name="mine", when=when, then="deny", file="ops.py", line=7)], KNOWN)
    assert caught.value.where == "ops.py:7"
    return caught.value


@pytest.mark.parametrize(
    ("when", "near"),
    [
        ("verb == 'relese'", "release"),
        ("'relese' == verb", "release"),
        ("verb != 'relese'", "release"),
        ("verb in ['run', 'relese']", "release"),
        ("!(verb in ['relese'])", "release"),
        ("(verb) == ('relese')", "release"),
        (r"verb == 're\x6cese'", "release"),
        ("verb == r'relese' // or so", "release"),
        ('verb == """relese"""', "release"),
        ("['relese'].exists(word, word == verb)", "release"),
        ("env == 'prdo'", "prod"),
        ("env in ['dev', 'prdo']", "prod"),
        ("asset.kind == 'datset'", "dataset"),
        ("asset['kind'] == 'datset'", "dataset"),
        ("asset.mode == 'managd'", "managed"),
        ("asset.owner == 'opss'", "ops"),
        ("'opss' in principal.teams", "ops"),
        ("principal.teams.exists(team, team == 'opss')", "ops"),
        ("principal.teams.all(team, team in ['opss'])", "ops"),
        ("principal.kind == 'persn'", "person"),
        ("principal.role == 'admn'", "admin"),
        ("context.intent == 'relase'", "release"),
        ("env == 'prod' ? verb == 'relese' : false", "release"),
        ("size(['a'].filter(x, verb == 'relese')) > 0", "release"),
    ],
)
def test_a_misspelt_value_is_refused_with_a_near_one(when: str, near: str) -> None:
    """The rule would silently never match: four deny rules did nothing."""
    error = refused(when)
    assert error.code == "SX-POLICY-013"
    assert f"did you mean {near}" in error.hint


@pytest.mark.parametrize(
    "when",
    [
        "verb == 'release' && env == 'prod' && asset.kind == 'pipeline'",
        "env.startsWith('pr-') || asset.name == 'anything' || principal.name != 'ann'",
        "asset.name == 'verb == \\'relese\\''",  # a string that looks like a condition
        "true // verb == 'relese'",
        "asset.owner == '' || principal.role == ''",  # none, and who works in the folder
        "':' + verb == ':release'",
        "'data' in principal.teams && asset.owner in ['ops', 'data']",
        "asset.kind == 'model'",  # ships, before there is one
        "verb == 'run' || context.rows > 5",
        "!(verb in ['run', 'push']) && context.rows > 5",
        "principal.teams.exists(asset_, asset_ == 'ops')",
        *(f"verb == '{verb}'" for verb in VERBS),
    ],
)
def test_a_rule_of_known_names_is_taken(when: str) -> None:
    """Somebody who wrote what is right could not load his project."""
    check_rules([Rule(name="mine", when=when, then="deny")], KNOWN)


def test_what_is_known_is_said() -> None:
    """Environments that are created later are legal: the hint says how a rule reaches them."""
    error = refused("env == 'staging'")
    assert "known are dev, prod" in error.hint
    assert "sx.project(environments=[...])" in error.hint
    assert "env.startsWith('pr-')" in error.hint


@pytest.mark.parametrize("when", ["asset['teir'] == 1", "asset.teir.x == 1", "has(asset.teir)"])
def test_a_misspelt_field_is_found_however_it_is_written(when: str) -> None:
    """Only `asset.teir` was looked for."""
    assert refused(when).code == "SX-POLICY-011"


@pytest.mark.parametrize(
    "when",
    [
        "verb == 'run' && context.rows > 1000",
        "context.rows > 1000 && (verb == 'run' || verb == 'push')",
        "verb in ['erase', 'env'] && context.break_glass",
        "verb == 'push' && context.partitions > 3",
        "!(verb != 'check') && context.checks_failed > 0",
        "verb == 'run' && context.withdrawn_elsewhere",
    ],
)
def test_a_fact_that_is_not_known_at_the_verb_is_refused(when: str) -> None:
    """The rule would be asked with an empty fact, and never match."""
    error = refused(when)
    assert error.code == "SX-POLICY-014"
    assert "it is known at" in error.hint


def test_a_rule_that_no_verb_fulfils_is_refused() -> None:
    assert refused("verb == 'run' && verb == 'release'").code == "SX-POLICY-014"


def test_a_condition_that_is_no_truth_value_is_refused() -> None:
    assert refused("asset.tier").code == "SX-POLICY-015"


def test_a_condition_nested_too_deeply_is_an_error_of_the_project() -> None:
    assert refused("(" * 900 + "true" + ")" * 900).code == "SX-POLICY-010"


def test_every_fact_has_its_verbs() -> None:
    from sextant.authorization.decide import FIELDS

    assert set(FACT_VERBS) == set(FIELDS["context"])
    assert {verb for verbs in FACT_VERBS.values() for verb in verbs} <= set(VERBS)


def test_the_verbs_of_a_condition() -> None:
    verbs = frozenset(VERBS)
    assert possible_verbs(parse("verb in ['run', 'push'] && env == 'dev'"), verbs) == {
        "run",
        "push",
    }
    assert possible_verbs(parse("!(verb == 'run' || verb == 'push')"), verbs) == verbs - {
        "run",
        "push",
    }
    assert possible_verbs(parse("!(verb == 'run' && env == 'dev')"), verbs) == verbs
    assert list(comparisons(parse("x.all(e, e == 'a')"))) == [("x", "a")]


def test_strings_are_read_as_cel_reads_them() -> None:
    """A quote inside of a string would end it here and not there."""
    import cel

    for text in (
        r"'a\'b'",
        r'"a\"b"',
        r"'\141\x62\u0063\U00000064\n\\'",
        r"r'\n'",
        "'''it's'''",
        '"""a "quoted" one"""',
        r"R'''\'''",
    ):
        only = tokens(text)
        assert [token.text for token in only] == [cel.compile(text).execute({})]
