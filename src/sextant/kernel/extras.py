"""Tells whether an extra of `pyproject.toml` is installed, and makes the error for a missing one.
Imports nothing of what it looks for."""

import importlib.util

from sextant.kernel.errors import MissingExtra

# extra -> the module that shows that it is installed, and what needs it
_EXTRAS = {
    "postgres": ("psycopg", "a state store in Postgres needs"),
    "telemetry": ("chdb", "telemetry and SQL need"),  # with pandas, gRPC and CityHash
}
PANDAS_HINT = 'pip install "sextant-ops[telemetry]" brings pandas; so does `pip install pandas`'


def is_importable(module: str) -> bool:
    """Say whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing_error(extra: str) -> MissingExtra:
    """Return the error that says what needs an extra, and how to install it."""
    what = _EXTRAS[extra][1]
    return MissingExtra(
        "SX-EXTRA-001",
        f"{what} the extra `{extra}`, which is not installed",
        hint=f'pip install "sextant-ops[{extra}]"',
    )


def missing(extra: str) -> MissingExtra | None:
    """Return the error for an extra that is not installed; None for one that is."""
    return None if is_importable(_EXTRAS[extra][0]) else missing_error(extra)


def need(extra: str) -> None:
    """Raise MissingExtra when an extra is not installed."""
    if error := missing(extra):
        raise error
