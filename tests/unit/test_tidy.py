"""What keeps the tree in order: settings, commands and exports are documented; nothing of this
machine stands in a file."""

import re
import subprocess
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

    from sextant.cli.main import cli
    from sextant.cli.table import COMMANDS

    context = click.Context(cli)
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert line.endswith("."), name


def test_statements_are_all_used() -> None:
    """If this fails, a statement is kept that nobody runs, or one is run that does not exist."""
    sql = (ROOT / "src/sextant/stores/state/statements.sql").read_text(encoding="utf-8")
    names = set(re.findall(r"^-- name: (\w+)", sql, re.MULTILINE))
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in tracked()
        if path.suffix == ".py" and "src" in path.parts
    )
    used = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', code))
    assert names - used == set()


def test_error_codes_are_unique_to_one_message() -> None:
    """If this fails, two different errors carry one code and the reference cannot tell them apart:
    same code, same area."""
    areas: dict[str, set[str]] = {}
    for path in tracked():
        if path.suffix == ".py" and "src" in path.parts:
            for code in re.findall(
                r'"(SX-[A-Z]+)-(?:\d+|[A-Z]+)"', path.read_text(encoding="utf-8")
            ):
                areas.setdefault(code, set()).add(path.parent.name)
    assert areas, "no codes found: the pattern is wrong"
