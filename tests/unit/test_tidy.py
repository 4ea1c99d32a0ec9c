"""What keeps the tree in order: settings, commands and exports are documented; nothing of this
machine stands in a file."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    """Return the files git knows, or skip where there is no git checkout."""
    try:
        out = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in out.stdout.splitlines() if (ROOT / name).is_file()]


def test_requirements_name_packages_and_versions_only() -> None:
    """If this fails, an install step depends on one particular address."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"://|--index|--find-links|--extra", text), name
        assert all("==" in line for line in text.splitlines() if line and line[0] not in " #-")


def test_every_command_of_the_table_exists_and_its_help_says_something() -> None:
    """If this fails, a command is listed that cannot be called, or one without a sentence of
    help."""
    import click

    from sextant.cli.main import about, cli

    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert about(name).endswith("."), name


def test_what_is_imported_is_declared() -> None:
    """If this fails, an import works only because somebody else's package brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w.-]", one)[0].lower() for some in listed for one in some}
    brought_by = importlib.metadata.packages_distributions()
    imported: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"sextant", "_typeshed"}
    assert len(foreign) > 20
    assert {
        name for name in foreign if not {one.lower() for one in brought_by.get(name, ())} & declared
    } == set()


@pytest.mark.parametrize("store", ["state", "accounts"])
def test_statements_are_all_used(store: str) -> None:
    """If this fails, a statement is kept that nobody runs, or one is run that does not exist."""
    sql = (ROOT / f"src/sextant/stores/{store}/statements.sql").read_text(encoding="utf-8")
    names = set(re.findall(r"^-- name: (\w+)", sql, re.MULTILINE))
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in tracked()
        if path.suffix == ".py" and "src" in path.parts
    )
    used = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', code))
    assert names - used == set()


_READ_STORED_BYTES = ("ledger/log.py", "ledger/verify.py", "ledger/prove.py")


def payload_queries() -> set[str]:
    """Return the names of the statements that select stored payloads."""
    sql = (ROOT / "src/sextant/stores/state/statements.sql").read_text(encoding="utf-8")
    return set(re.findall(r"^-- name: (\w+)\nSELECT [^\n]*\bp\.body\b", sql, re.MULTILINE))


def outside_the_ledgers_log(source: str) -> list[int]:
    """Return the lines that build an event by hand, or select stored payloads without `entries`."""
    queries = payload_queries()
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("Event", "nouns.Event"):
            found.append(node.lineno)
        names = {called, *(ast.unparse(argument) for argument in node.args)}
        selects = any(
            isinstance(argument, ast.Constant) and argument.value in queries
            for argument in node.args
        )
        if selects and not names & {"entries", "log.entries"}:
            found.append(node.lineno)
    return found


def test_events_are_built_and_read_by_one_module() -> None:
    """If this fails, an event is sealed with an old version of its type, or an old payload is read
    as if it had today's shape."""
    assert {"events_after", "event_by_id", "events_page"} <= payload_queries()
    for bad in (
        'Event(id="a")',
        'nouns.Event(id="a")',
        'rows = state.read("events_after", (0, 1))',
        'thread(state.read, "event_by_id", ("a",))',
    ):
        assert outside_the_ledgers_log(bad), bad
    for good in ("threading.Event()", 'thread(entries, state.read, "events_after", (0, 1))'):
        assert not outside_the_ledgers_log(good), good
    for path in tracked():
        if path.suffix == ".py" and "src" in path.parts:
            if path.as_posix().endswith(_READ_STORED_BYTES):
                continue
            assert outside_the_ledgers_log(path.read_text(encoding="utf-8")) == [], path
