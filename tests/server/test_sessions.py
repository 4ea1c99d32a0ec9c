"""Sessions of browsers and sign-in links: who gets one, who sees and ends one, what stands of it in
the ledger."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Serving, serve
from shop_project import Shop
from test_api import Answer, ask

from sextant.app.operations import Operations
from sextant.kernel.clock import NS, ManualClock
from sextant.kernel.errors import NotFound
from sextant.kernel.limits import SESSIONS_PER_PERSON_MAX, SIGN_IN_LINK_S
from sextant.kernel.nouns import SYSTEM

OPS = """
@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})
"""
PASSWORD = "correct horse battery"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000 * NS)


@pytest.fixture
def serving(shop: Shop, clock: ManualClock) -> Iterator[Serving]:
    shop.write(OPS)
    with shop.open(clock=clock) as platform, serve(platform) as one:
        for name, role in (("ann", "admin"), ("bob", "operator"), ("vic", "viewer")):
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role)
        yield one


def sign_in(serving: Serving, name: str) -> dict[str, str]:
    """Return the headers of a signed-in browser."""
    body = {"name": name, "password": PASSWORD}
    return headers(ask(serving, "POST", "/api/v1/session", body=body))


def headers(signed: Answer) -> dict[str, str]:
    assert signed.status == 200, signed.body
    cookie = signed.headers["set-cookie"].partition(";")[0]
    return {"Cookie": cookie, "X_CSRF_Token": signed.json["csrf"]}


def follow(serving: Serving, link: str) -> Answer:
    return ask(serving, "POST", "/api/v1/session/link", body={"link": link})


def events(serving: Serving, type_: str) -> list[dict[str, Any]]:
    found = Operations(serving.platform).events(type=type_).items
    return [{"actor": one["actor"], **one["data"]} for one in found]


def test_a_link_signs_in_once(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a link that was read over a shoulder or left in a terminal opens the server
    again, or it signs in nobody who may act."""
    monkeypatch.setenv("SEXTANT_USER", "zoe")
    secret = serving.platform.access.create_link()
    first = follow(serving, secret)
    assert (first.json["name"], first.json["role"]) == ("zoe", "admin")
    assert all(
        word in first.headers["set-cookie"].lower() for word in ("httponly", "samesite=strict")
    )
    browser = headers(first)
    assert ask(serving, "GET", "/api/v1/accounts", **browser).status == 200
    second = follow(serving, secret)
    assert (second.status, second.json["code"]) == (401, "SX-API-021")
    assert follow(serving, "x" * 43).json["title"] == second.json["title"]
    started = events(serving, "session.started")
    assert [(one["actor"], one["how"]) for one in started] == [("person:zoe", "link")]
    assert serving.refusals.take() == {("127.0.0.1", "link"): 2}


def test_a_link_is_short_lived(serving: Serving, clock: ManualClock) -> None:
    """If this fails, a link of yesterday's terminal opens the server."""
    links = [serving.platform.access.create_link() for _ in range(2)]
    clock.wait(SIGN_IN_LINK_S - 1)
    assert follow(serving, links[0]).status == 200
    clock.wait(1)
    assert follow(serving, links[1]).status == 401


def test_a_link_is_kept_nowhere(serving: Serving) -> None:
    """If this fails, who reads the project's folder, a backup or the ledger signs in with it."""
    secret = serving.platform.access.create_link()
    serving.platform.access.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in serving.platform.core.project.folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    follow(serving, secret)
    assert secret not in str(Operations(serving.platform).events(limit=1000))


def test_links_are_guessed_no_faster_than_passwords(serving: Serving) -> None:
    """If this fails, the path of links is a side door for guessing."""
    found = [follow(serving, f"guess{n}").status for n in range(30)]
    assert set(found) == {401, 429}
    assert (
        ask(serving, "POST", "/api/v1/session/", body={"name": "a", "password": "b"}).status == 429
    )


def test_another_site_signs_nobody_in(serving: Serving) -> None:
    """If this fails, a page of another site signs its reader in as somebody else, who then sees
    what the reader does."""
    body = {"name": "vic", "password": PASSWORD}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        found = ask(serving, "POST", "/api/v1/session", body=body, Sec_Fetch_Site=site)
        assert found.status == status, site
    link = {"link": serving.platform.access.create_link()}
    path = "/api/v1/session/link"
    assert ask(serving, "POST", path, body=link, Sec_Fetch_Site="cross-site").status == 403
    assert ask(serving, "POST", path, body=link).status == 200


def test_a_disabled_person_has_no_way_in(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, somebody who was sent away goes on by a link, or by a session that began with
    one."""
    monkeypatch.setenv("SEXTANT_USER", "bob")
    browser = headers(follow(serving, serving.platform.access.create_link()))
    link = serving.platform.access.create_link()
    serving.platform.access.disable_account("bob", by=SYSTEM)
    assert ask(serving, "GET", "/api/v1/status", **browser).status == 401
    assert follow(serving, link).status == 401


def test_each_sees_his_own_sessions(serving: Serving) -> None:
    """If this fails, a viewer learns who works when, or an administrator cannot tell who is in."""
    browsers = {name: sign_in(serving, name) for name in ("ann", "bob", "vic", "bob")}
    seen = {
        name: [one["person"] for one in ask(serving, "GET", "/api/v1/sessions", **browser).json]
        for name, browser in browsers.items()
    }
    assert seen["vic"] == ["vic"]
    assert seen["bob"] == ["bob", "bob"]
    assert sorted(seen["ann"]) == ["ann", "bob", "bob", "vic"]
    text = ask(serving, "GET", "/api/v1/sessions", **browsers["ann"]).body.decode()
    for browser in browsers.values():
        assert browser["Cookie"].partition("=")[2] not in text
        assert browser["X_CSRF_Token"] not in text
    program = serving.token("operator", name="bob")
    assert ask(serving, "GET", "/api/v1/sessions", token=program).json == []
    robot = serving.token("admin", name="robot", kind="agent", on_behalf_of="ann")
    assert ask(serving, "GET", "/api/v1/sessions", token=robot).json == []


def test_who_may_end_a_session(serving: Serving) -> None:
    """If this fails, anybody signs others out, or a lost laptop stays signed in."""
    ann, bob, vic = (sign_in(serving, name) for name in ("ann", "bob", "vic"))
    found = ask(serving, "GET", "/api/v1/sessions", **ann).json
    ids = {one["person"]: one["id"] for one in found}

    def revoke(id_: str, browser: dict[str, str]) -> Answer:
        return ask(serving, "DELETE", f"/api/v1/sessions/{id_}", **browser)

    unknown = revoke("ses_none", vic)
    others = revoke(ids["bob"], vic)
    assert (others.status, others.json["code"]) == (unknown.status, unknown.json["code"])
    assert (others.status, others.json["code"]) == (404, "SX-ACCESS-028")
    robot = serving.token("admin", name="robot", kind="agent", on_behalf_of="ann")
    assert ask(serving, "DELETE", f"/api/v1/sessions/{ids['bob']}", token=robot).status == 404
    assert ask(serving, "GET", "/api/v1/status", **bob).status == 200
    assert revoke(ids["vic"], vic).status == 200, "a viewer ends his own"
    assert ask(serving, "GET", "/api/v1/status", **vic).status == 401
    assert revoke(ids["bob"], ann).status == 200
    assert ask(serving, "GET", "/api/v1/status", **bob).status == 401
    assert revoke(ids["bob"], ann).status == 404
    ended = events(serving, "session.ended")
    assert [(one["actor"], one["person"]) for one in ended] == [
        ("person:ann", "bob"),
        ("person:vic", "vic"),
    ]


def test_sessions_of_one_person_have_an_end(serving: Serving, clock: ManualClock) -> None:
    """If this fails, a script that signs in for each request fills the store."""
    access = serving.platform.access
    account = access.store.account("vic")
    assert account
    by = access._person(account)
    cookies = []
    for _ in range(SESSIONS_PER_PERSON_MAX + 1):
        cookies.append(access._begin_session("vic", "password", by)[0])
        clock.wait(1)
    assert access.session(cookies[0]) is None
    assert access.session(cookies[1]) is not None
    with pytest.raises(NotFound):
        access.revoke_session("ses_none", by=by)


def test_up_shows_the_link_on_a_terminal_only(tmp_path: Path) -> None:
    """If this fails, a link to an administrator's session stands in a log, or a person at a terminal
    gets none."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "ops.py").write_text(
        'import sextant as sx\nsx.project("shop", tz="UTC", owner=sx.team("ops"))\n'
    )
    ports = "".join(f'{name} = "127.0.0.1:0"\n' for name in ("api", "ingest", "grpc", "sql"))
    (root / "sextant.toml").write_text(f'module = "ops"\n[server]\n{ports}')
    up = [sys.executable, "-m", "sextant.cli.main", "--project", str(root), "up"]
    near, far = pty.openpty()
    shown = _until_ready(up, near, stdout=far, stderr=subprocess.DEVNULL)
    assert re.search(r"/#signin=[\w-]{40,}", shown), shown
    read, write = os.pipe()
    assert "signin" not in _until_ready(up, read, stdout=write, stderr=subprocess.STDOUT)


def _until_ready(command: list[str], source: int, **more: Any) -> str:
    """Start a server, and return what it printed until it was ready, and when it ended."""
    process = subprocess.Popen(command, **more)
    os.close(more["stdout"])
    shown = b""
    try:
        while b"sql " not in shown or not shown.endswith(b"\n"):
            shown += os.read(source, 65536)
        process.send_signal(signal.SIGTERM)
        while True:
            piece = os.read(source, 65536)
            if not piece:
                break
            shown += piece
    except OSError:  # a terminal whose other end is closed
        pass
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        os.close(source)
    return shown.decode()
