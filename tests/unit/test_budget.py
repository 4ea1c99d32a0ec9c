"""Start-up: what is imported is counted, not timed, so that this never flakes."""

import subprocess
import sys

HEAVY = {
    "polars", "pyarrow", "duckdb", "pyiceberg", "pandas", "numpy", "sqlglot", "cryptography", "cel",
    "rich", "asyncio", "psycopg", "pydantic", "cronsim", "platformdirs",
}  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running `code`."""
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stdout.splitlines()[-1].split())


def test_importing_sextant_loads_nothing_heavy() -> None:
    """If this fails, every script and notebook that imports the author's face pays for what it may
    never use."""
    modules = loaded_after("import sextant")
    assert not modules & HEAVY
    assert len([name for name in modules if name.startswith("sextant")]) == 1
    assert "msgspec" not in modules


def test_help_loads_nothing_heavy() -> None:
    """If this fails, `sextant --help` and every completion of a shell becomes slow."""
    modules = loaded_after("from sextant.cli.main import call\ncall(['--help'])")
    assert not modules & {*HEAVY, "msgspec", "decimal"}
    assert len(modules) < 260


def test_reading_commands_do_not_load_what_only_workers_need() -> None:
    """If this fails, opening a platform imports the data libraries before anything is asked of
    them."""
    modules = loaded_after("import sextant.app.platform")
    assert not modules & {
        "polars",
        "duckdb",
        "pandas",
        "pyiceberg",
        "sqlglot",
        "cel",
        "cryptography",
    }
