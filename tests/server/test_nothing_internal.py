"""What an error says over HTTP: nothing of classes, modules, statements, files of the machine."""

import http.client
import json
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator

import pytest
from served import Serving, serve

from sextant import testing
from sextant.kernel.errors import Bug, Conflict, StorageError, UsageError, from_problem

_OPS = (
    'import sextant as sx\nimport polars as pl\n\nsx.project("shop", tz="UTC", '
    'owner=sx.team("shop"), environments=["dev"])\n\n@sx.dataset(key="id")\n'
    'def orders() -> pl.DataFrame:\n    return pl.DataFrame({"id": [1]})\n'
)
_INTERNAL = re.compile(
    r"[A-Z]\w*(?:Error|Exception|Request)\b|Traceback|msgspec|litestar|sqlite|duckdb|psycopg|"
    r"sextant\.(?!toml)|\b[pq]_\w+|\bdata: |NoneType|object has no|int\(\)|isoformat|/tmp|/dev/shm",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with testing.platform({"ops.py": _OPS}) as platform, serve(platform) as one:
        yield one


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/events?after=zzz", None, "SX-PAGE-001"),
        ("GET", "/assets/orders/versions?after=99999999999999999999999", None, "SX-PAGE-001"),
        ("GET", "/assets/orders/versions?after=9999999999999999999", None, "SX-PAGE-001"),
        ("GET", "/assets/orders?as_of=-1", None, "SX-VERSION-006"),
        ("GET", "/assets/orders?limit=zzz", None, "SX-API-011"),
        ("GET", "/diff?b=x", None, "SX-API-011"),
        ("POST", "/signals/x/close", b"null", "SX-API-011"),
        ("POST", "/signals/x/close", b"[]", "SX-API-011"),
        ("POST", "/signals/x/close", b"{", "SX-API-012"),
        ("POST", "/signals/x/close", b'{"reason": 1}', "SX-API-011"),
        ("POST", "/signals/x/close", b'{"reason": "a", "other": 1}', "SX-API-011"),
        ("POST", "/reports", b'{"kind": "zzz", "asset": "job:a"}', "SX-API-011"),
        ("POST", f"/ledger/events/{10**30}/proof", b"{}", "SX-TEXT-005"),
        ("POST", f"/ledger/events/{10**30}/erase", b'{"reason": "a"}', "SX-TEXT-005"),
        ("POST", "/tokens", b'{"name": "a", "days": 1000000000000000000000000}', "SX-TEXT-005"),
    ],
)
def test_a_request_that_is_wrong(
    serving: Serving, method: str, path: str, body: bytes | None, code: str
) -> None:
    """If this fails, an answer tells how the inside is named, or is an answer of 500."""
    path = path.replace("/events?", "/ledger/events?", 1) if path.startswith("/events") else path
    link = http.client.HTTPConnection(urllib.parse.urlsplit(serving.url).netloc, timeout=30)
    headers = {
        "Authorization": f"Bearer {serving.token()}",
        "Content-Type": "application/json",
    }
    link.request(method, f"/api/v1{path}", body, headers)
    answer = link.getresponse()
    said = json.loads(answer.read())
    link.close()
    assert (said["code"], answer.status < 500) == (code, True), said
    text = " | ".join(str(said.get(key, "")) for key in ("title", "detail", "hint", "where"))
    assert not _INTERNAL.search(text), text


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_causes_of_libraries_stay_here() -> None:
    """If this fails, the text of a library's exception goes to whoever asked."""
    inner = sqlite3.IntegrityError("UNIQUE constraint failed: held.env")
    error = chained(Conflict("SX-STATE-002", "it exists", where="/srv/shop/state.db"), inner)
    assert isinstance(error, Conflict)
    assert "held.env" in "\n".join(error.lines()), "who runs it sees the cause"
    problem = error.problem()
    assert "detail" not in problem
    assert problem["where"] == ""


def test_causes_of_our_own_are_told() -> None:
    """If this fails, `caused by` is lost between a server and a command."""
    error = chained(UsageError("SX-A-001", "no"), StorageError("SX-A-002", "the disk is full"))
    assert isinstance(error, UsageError)
    assert error.problem()["detail"] == "caused by: the disk is full"
    again = from_problem(error.problem(), 400)
    assert again.lines()[1] == "  caused by: the disk is full"


def test_a_defect_tells_its_code_only() -> None:
    """If this fails, an answer of 500 describes the defect."""
    problem = Bug("SX-STATE-006", "statement held_add: no column env", where="held_add").problem()
    assert problem["code"] == "SX-STATE-006"
    assert "held" not in json.dumps(problem)
