"""Optional parts of the installation: the error that names a missing one."""

import sys

import pytest

from sextant.kernel import extras
from sextant.kernel.errors import MissingExtra, from_problem
from sextant.stores.state import open_reader


class Blocked:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ("psycopg", "chdb"):
            raise ModuleNotFoundError(name)


@pytest.fixture
def nothing_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "chdb", "sextant.stores.state.postgres"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Blocked(), *sys.meta_path])


def test_a_missing_extra_is_named_with_its_command(nothing_optional: None) -> None:
    """If this fails, somebody sees ModuleNotFoundError instead of what to type."""
    for extra in ("postgres", "telemetry"):
        error = extras.missing(extra)
        assert error is not None
        assert (error.exit_code, error.http_status) == (3, 503)
        assert error.hint == f'pip install "sextant-ops[{extra}]"'
        with pytest.raises(MissingExtra):
            extras.need(extra)


def test_a_state_in_postgres_needs_its_extra(nothing_optional: None) -> None:
    """If this fails, a project with a state in Postgres ends with a traceback."""
    with pytest.raises(MissingExtra, match="postgres"):
        open_reader("postgresql://nobody@localhost/none")


def test_the_error_comes_back_from_a_server_as_it_is() -> None:
    """If this fails, a command at a server ends with another kind of error than beside it."""
    error = extras.missing_error("telemetry")
    back = from_problem(error.problem(), error.http_status)
    assert type(back) is MissingExtra
    assert (back.code, back.message, back.hint) == (error.code, error.message, error.hint)
