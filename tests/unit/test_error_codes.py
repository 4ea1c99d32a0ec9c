"""Each code of an error has one meaning: one kind, and one text - or several texts of one meaning,
which is written down here."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

# codes that are raised with different texts, and what all of them mean
MEANINGS = {
    "SX-ACCESS-014": "somebody gives a name that is not his to give",
    "SX-API-001": "nobody is signed in",
    "SX-API-002": "too many requests",
    "SX-BUNDLE-003": "a stored bundle is not what was packed",
    "SX-CHECK-002": "the query of a check is wrong",
    "SX-API-003": "a token does not open this",
    "SX-CHECK-008": "a check is declared without something that it needs",
    "SX-CLI-040": "something in a file is too large to be sent",
    "SX-CONF-001": "there is no project here",
    "SX-CONF-004": "a setting of the project's file is wrong",
    "SX-CONF-005": "a setting of the server is wrong",
    "SX-CONF-006": "the pin of the ledger is malformed",
    "SX-DATA-001": "a declared column is not there",
    "SX-INTAKE-010": "a line of the exposition format is malformed",
    "SX-INTAKE-040": "a body is not a CloudEvent",
    "SX-INTAKE-050": "nobody can say whom a token stands for",
    "SX-INTAKE-054": "a body is of a type or encoding that is not read",
    "SX-INTAKE-055": "a body is too large",
    "SX-INTAKE-056": "a compressed body cannot be unpacked",
    "SX-KPI-003": "a condition is not one that can be asked",
    "SX-LAKE-003": "a stored file is not what was written",
    "SX-LAKE-005": "a table cannot hold a type",
    "SX-LAKE-006": "what a function returned is no table",
    "SX-LAKE-007": "the names of columns do not make a table",
    "SX-LAKE-010": "the time column cannot say into which partition a row belongs",
    "SX-LAKE-012": "a column of nulls has no type",
    "SX-LAKE-014": "a table is asked for by another grain than its own",
    "SX-LAKE-015": "a file does not lie in its partition",
    "SX-LAKE-016": "names of columns differ by case only",
    "SX-LEDGER-021": "the signing key is missing",
    "SX-LEDGER-023": "the signing key is unusable",
    "SX-LEDGER-030": "a text is no witness",
    "SX-LEDGER-032": "the database holds another ledger",
    "SX-LEDGER-036": "the newest checkpoint is not the ledger's",
    "SX-OUT-002": "another machine does not answer",
    "SX-OUT-005": "an address that must not be called",
    "SX-PLAN-008": "a selection has nothing that is made here",
    "SX-POLICY-001": "the policy says no",
    "SX-POLICY-014": "a rule can never match",
    "SX-PROJ-002": "a setting is not known",
    "SX-PROJ-003": "a name, or the list of environments, is wrong",
    "SX-PROJ-005": "a name is taken twice",
    "SX-PROJ-010": "the arguments of a check are wrong",
    "SX-PROJ-011": "a foreign key leads nowhere",
    "SX-PROJ-012": "a size or length is malformed",
    "SX-PROJ-013": "the project's calendar is wrong",
    "SX-PROJ-015": "what a policy says then is wrong",
    "SX-PROJ-017": "a trigger is wrong",
    "SX-PROJ-019": "a setting has a value that it cannot have",
    "SX-PROJ-020": "a setting needs a partition of time",
    "SX-PROJ-030": "the declared columns are wrong",
    "SX-PROJ-031": "a role names a column that is not declared",
    "SX-PROJ-034": "`inputs` names what is not read",
    "SX-PROJ-040": "a file cannot be read",
    "SX-PROJ-043": "a header of SQL is malformed",
    "SX-PROJ-050": "a measure cannot be taken",
    "SX-PROJ-052": "the grain of a measure does not fit its dataset",
    "SX-PROJ-055": "`public` is wrong",
    "SX-RELEASE-001": "a release is in another state",
    "SX-RELEASE-009": "it is live already",
    "SX-REMOTE-004": "the connection to a server broke",
    "SX-RUN-016": "nothing of a run failed",
    "SX-SECRET-003": "the file of secrets is malformed",
    "SX-SQL-001": "a statement that does more than read",
    "SX-SQL-002": "a function that cannot be called",
    "SX-SQL-004": "there is no such database",
    "SX-SQL-005": "a setting that cannot be given",
    "SX-SQL-007": "a query is no text that can be read",
    "SX-SQL-011": "nobody is signed in at the SQL endpoint",
    "SX-SQL-013": "too many queries",
    "SX-SQL-016": "a body that is not read",
    "SX-STATE-003": "another process writes",
    "SX-STATE-004": "the database is damaged",
    "SX-STEP-CANCELLED": "a step was cancelled",
    "SX-STEP-DIED": "a worker ended",
    "SX-STREAM-028": "a column of a pushed file cannot be read",
    "SX-STREAM-029": "a pushed file is too large once unpacked",
    "SX-TELEMETRY-003": "the telemetry store failed",
}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load()


def shape(text: str) -> str:
    """Return a text without the names of its values: `there is no run *`."""
    out, depth = [], 0
    for char in text:
        depth += (char == "‹") - (char == "›")
        if char == "›":
            out.append("*")
        elif not depth:
            out.append(char)
    return "".join(out)


def ambiguous(table: dict[str, list[tuple[str, str, str]]], known: dict[str, str]) -> list[str]:
    """Return codes of several kinds, and codes of several texts without a meaning in `known`."""
    found = []
    for code, entries in table.items():
        kinds = {kind for kind, _, _ in entries if kind}
        texts = {shape(message) for _, message, _ in entries if message}
        if len(kinds) > 1 or (len(texts) > 1 and code not in known):
            found.append(code)
    return sorted(found)


def several_texts(table: dict[str, list[tuple[str, str, str]]]) -> set[str]:
    return {
        code
        for code, entries in table.items()
        if len({shape(message) for _, message, _ in entries if message}) > 1
    }


def test_each_code_has_one_meaning(generate: ModuleType) -> None:
    """If this fails, two different errors carry one code, and the reference cannot tell them apart.
    Give the new one a code of its own; or, where both mean the same, say it in MEANINGS."""
    assert ambiguous(generate.error_table(), MEANINGS) == []


def test_no_meaning_is_left_over(generate: ModuleType) -> None:
    """If this fails, a second text may come to a code whose meaning is not looked at any more."""
    assert set(MEANINGS) - several_texts(generate.error_table()) == set()


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('raise UsageError("SX-A-1", "one"); raise NotFound("SX-A-001", "one")', []),
        ('raise UsageError("SX-A-001", f"no {a}"); raise UsageError("SX-A-001", f"no {b}")', []),
        ('raise UsageError("SX-A-001", "one"); raise NotFound("SX-A-001", "one")', ["SX-A-001"]),
        ('raise UsageError("SX-A-001", "one"); raise UsageError("SX-A-001", "two")', ["SX-A-001"]),
        (
            'raise ProjectError("SX-A-001", "no column"); '
            'x = {"error_code": "SX-A-001", "error": "the check failed"}',
            ["SX-A-001"],
        ),
        ('note("SX-A-001", "one"); raise WorldError("SX-A-001", "one")', ["SX-A-001"]),
    ],
)
def test_the_sweep_finds_a_second_meaning(
    generate: ModuleType, source: str, codes: list[str]
) -> None:
    """If this fails, the test above asserts nothing: the one before it did, and two meanings of
    SX-CHECK-001 stood side by side."""
    table: dict[str, list[tuple[str, str, str]]] = {}
    for code, entry in generate._codes(ast.parse(source)):
        table.setdefault(code, []).append(entry)
    assert ambiguous(table, {}) == codes
    assert ambiguous(table, dict.fromkeys(codes, "a meaning")) == [
        code for code in codes if len({kind for kind, _, _ in table[code] if kind}) > 1
    ]
