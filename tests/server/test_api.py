"""The endpoint of the API, its sessions, its stream and its description, over real HTTP."""

from sextant.kernel.nouns import SYSTEM
from sextant.app import reports
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from served import INTERNAL, Serving, serve
from shop_project import Shop

from sextant.app.platform import LocalPlatform
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Denied
from sextant.kernel.limits import SIGN_INS_BURST
from sextant.kernel.nouns import Principal

_OPS = """
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id")


@sx.dataset(partition=days)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key]})
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    serving: Serving, method: str, path: str, *, token: str = "", body: Any = None, **headers: str
) -> Answer:
    """Send one request; headers with _ for -."""
    link = http.client.HTTPConnection(urllib.parse.urlsplit(serving.url).netloc, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if raw is not None:
        sent.setdefault("Content-Type", "application/json")
    link.request(method, path, raw, sent)
    answer = link.getresponse()
    out = Answer(
        answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    )
    link.close()
    return out


@pytest.fixture
def serving(shop: Shop) -> Iterator[Serving]:
    shop.write(_OPS)
    with shop.open() as platform, serve(platform) as one:
        yield one


def test_nothing_but_health_is_open(serving: Serving) -> None:
    """If this fails, somebody without a token sees what a company does."""
    assert ask(serving, "GET", "/healthz").status == 200
    for path in (
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/api/v1/stream",
        "/api/v1/ledger/events",
        "/nowhere",
        "/metrics",
    ):
        found = ask(serving, "GET", path)
        assert found.status == 401, path
        assert found.headers["content-type"] == "application/problem+json"
        assert found.headers["www-authenticate"].startswith("Bearer")
        assert found.json["code"] == "SX-API-001"
    assert ask(serving, "POST", "/internal/introspect", body={"token": "x"}).status == 401
    assert serving.refusals.take()[("127.0.0.1", "token")] == 6


@pytest.mark.parametrize("kind", ["wrong", "expired", "revoked", "other scope"])
def test_a_token_that_is_no_good(serving: Serving, kind: str) -> None:
    """If this fails, a token opens the endpoint that should not."""
    p = serving.platform
    made = p.access.create_token(
        "ci", by=SYSTEM, scopes=("ingest",) if kind == "other scope" else ()
    )
    token = made["secret"]
    if kind == "wrong":
        token = token[:-4] + "AAAA"
    if kind == "revoked":
        p.access.revoke_token(made["id"], by=SYSTEM)
    if kind == "expired":
        late = ManualClock(p.core.clock.now_ns() + 91 * 86400 * 10**9)
        p.access._core = p.core._replace(clock=late)
    found = ask(serving, "GET", "/api/v1/status", token=token)
    assert (found.status, found.json["code"]) == (
        (403, "SX-API-003") if kind == "other scope" else (401, "SX-API-001")
    )


def test_a_role_that_may_only_look(serving: Serving) -> None:
    """If this fails, a viewer changes what is live, or the refusal leaves no trace."""
    viewer, operator = serving.token("viewer"), serving.token("operator")
    assert ask(serving, "GET", "/api/v1/status", token=viewer).status == 200
    for path, body in (
        ("/api/v1/runs", {}),
        ("/api/v1/assets/orders/rollbacks", {}),
        ("/api/v1/environments", {"name": "pr-1", "parent": "dev"}),
    ):
        found = ask(serving, "POST", path, token=viewer, body=body)
        assert (found.status, found.json["code"]) == (403, "SX-API-008"), path
    assert ask(serving, "GET", "/api/v1/accounts", token=operator).status == 403
    who = f"token:viewer of {serving.platform.core.authorization.principal.name}"
    assert any(actor == who for actor, _ in serving.refusals.take())


def test_ownership_decides_for_operators(serving: Serving) -> None:
    """If this fails, an operator of one team releases what another team owns."""
    stranger = serving.token("operator", name="web-ci", teams=("web",))
    owner = serving.token("operator", name="ops-ci", teams=("ops",))
    report = ask(serving, "POST", "/api/v1/runs", token=owner, body={"assets": ["orders"]}).json
    assert report["state"] == "finished", report
    found = ask(serving, "POST", "/api/v1/assets/orders/rollbacks", token=stranger, body={})
    assert found.status == 403, found.body


def test_an_agent_acts_for_somebody(serving: Serving) -> None:
    """If this fails, what an agent did cannot be told from what its person did."""
    agent = serving.token(
        "operator", name="helper", kind="agent", teams=("ops",), on_behalf_of="ann"
    )
    assert (
        ask(
            serving,
            "POST",
            "/api/v1/reports",
            token=agent,
            body={"kind": "release", "asset": "service:web", "version": "v1"},
        ).status
        == 200
    )
    events = ask(serving, "GET", "/api/v1/ledger/events?subject=service:web", token=agent).json[
        "items"
    ]
    assert events[0]["actor"] == "agent:helper for ann"


def test_nobody_gives_more_than_he_has(serving: Serving) -> None:
    """If this fails, a viewer makes himself an administrator."""
    viewer = serving.token("viewer", name="eve", kind="person")
    for body in (
        {"name": "x", "role": "admin"},
        {"name": "x", "teams": ["ops"]},
        {"name": "ann", "kind": "person"},
        {"name": "x", "kind": "agent", "on_behalf_of": "ann"},
    ):
        assert ask(serving, "POST", "/api/v1/tokens", token=viewer, body=body).status == 403, body
    mine = ask(serving, "POST", "/api/v1/tokens", token=viewer, body={"name": "x", "days": 1})
    assert mine.json["secret"].startswith("sxt_")
    listed = ask(serving, "GET", "/api/v1/tokens", token=viewer).json
    assert {one["name"] for one in listed} == {"eve", "x"}
    assert "secret" not in listed[0]


def test_a_session_needs_its_csrf_token(serving: Serving) -> None:
    """If this fails, a page of another site can act through somebody's browser."""
    p = serving.platform
    p.access.create_account(
        "ann", "correct horse battery", by=SYSTEM, role="operator", teams=("ops",)
    )
    wrong = ask(
        serving, "POST", "/api/v1/session", body={"name": "ann", "password": "wrong wrong wrong"}
    )
    nobody = ask(
        serving, "POST", "/api/v1/session", body={"name": "bob", "password": "wrong wrong wrong"}
    )
    assert (wrong.status, wrong.json) == (nobody.status, nobody.json) == (401, wrong.json)
    signed = ask(
        serving,
        "POST",
        "/api/v1/session",
        body={"name": "ann", "password": "correct horse battery"},
    )
    cookie = signed.headers["set-cookie"]
    assert all(word in cookie.lower() for word in ("httponly", "samesite=strict"))
    mine = cookie.partition(";")[0]
    body = {"kind": "release", "asset": "service:web", "version": "v1"}
    assert ask(serving, "GET", "/api/v1/status", Cookie=mine).status == 200
    assert (
        ask(serving, "POST", "/api/v1/reports", body=body, Cookie=mine).json["code"] == "SX-API-007"
    )
    assert (
        ask(
            serving,
            "POST",
            "/api/v1/reports",
            body=body,
            Cookie=mine,
            X_CSRF_Token=signed.json["csrf"],
        ).status
        == 200
    )
    out = ask(serving, "DELETE", "/api/v1/session", Cookie=mine)
    assert (out.status, out.json["code"]) == (403, "SX-API-007"), "another page signs nobody out"
    assert ask(serving, "GET", "/api/v1/status", Cookie=mine).status == 200
    again = ask(
        serving,
        "POST",
        "/api/v1/session",
        body={"name": "ann", "password": "correct horse battery"},
        Cookie=mine,
    )
    assert again.status == 200, "who signs in anew has no token of the new session yet"
    newer = again.headers["set-cookie"].partition(";")[0]
    csrf = again.json["csrf"]
    assert ask(serving, "DELETE", "/api/v1/session", Cookie=newer, X_CSRF_Token=csrf).status == 204
    assert ask(serving, "GET", "/api/v1/status", Cookie=newer).status == 401
    p.access.disable_account("ann", by=SYSTEM)
    assert ask(serving, "GET", "/api/v1/status", Cookie=mine).status == 401
    assert ask(serving, "DELETE", "/api/v1/session", Cookie=mine).status in (204, 401)


def test_a_name_of_another_site_is_not_answered(serving: Serving) -> None:
    """If this fails, a page in a browser reaches the server under its own name (DNS rebinding)."""
    found = ask(serving, "GET", "/healthz", Host="evil.example")
    assert found.json["code"] == "SX-API-006"


def test_every_answer_carries_the_headers(serving: Serving) -> None:
    """If this fails, a browser may guess, frame or store what it should not."""
    for path in ("/healthz", "/api/v1/status"):
        headers = ask(serving, "GET", path, token=serving.token("viewer")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_a_flood_is_told_to_slow_down(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one caller takes the server away from the others."""
    clock = ManualClock(serving.platform.core.clock.now_ns())
    pace = serving.api.authentication._pace
    monkeypatch.setattr(pace, "_clock", clock)
    monkeypatch.setattr(pace, "_per_s", 2.0)
    token, other = serving.token("viewer", name="flood"), serving.token("viewer", name="quiet")
    answers = [ask(serving, "GET", "/api/v1/project", token=token).status for _ in range(6)]
    assert answers == [200] * 4 + [429] * 2
    assert ask(serving, "GET", "/api/v1/project", token=other).status == 200
    assert ask(serving, "GET", "/api/v1/project", token=token).headers["retry-after"]
    clock.wait(1.0)
    assert ask(serving, "GET", "/api/v1/project", token=token).status == 200


def test_what_makes_no_sense_is_a_problem_document(serving: Serving) -> None:
    """If this fails, a wrong request gets a traceback, or is half done."""
    admin = serving.token()
    for method, path, body, status, code in (
        ("GET", "/api/v1/assets/ordesr", None, 404, "SX-PLAN-002"),
        ("GET", "/api/v1/runs?limit=0", None, 400, "SX-PAGE-002"),
        ("GET", "/api/v1/runs?limit=many", None, 400, "SX-API-011"),
        ("GET", "/api/v1/runs?after=zzz", None, 400, "SX-PAGE-001"),
        ("POST", "/api/v1/runs", {"asssets": ["orders"]}, 400, "SX-API-011"),
        ("POST", "/api/v1/runs", b"{", 400, "SX-API-012"),
        ("POST", "/api/v1/reports", {"kind": "party", "asset": "service:web"}, 400, "SX-API-011"),
        (
            "POST",
            "/api/v1/datasets/prices/rows",
            {"rows": [{"id": "a", "price": "dear"}]},
            422,
            "SX-STREAM-010",
        ),
        ("POST", "/api/v1/datasets/orders/rows", {"rows": []}, 400, "SX-STREAM-011"),
        ("PUT", "/api/v1/runs", {}, 405, "SX-API-012"),
        ("GET", "/api/v1/nothing", None, 404, "SX-API-010"),
    ):
        found = ask(serving, method, path, token=admin, body=body)
        assert found.headers["content-type"] == "application/problem+json", (path, found.body)
        assert found.status == status, (path, found.body)
        assert found.json["title"], path
        assert found.json["code"] == code or not code, (path, found.body)
    large = ask(
        serving,
        "POST",
        "/api/v1/datasets/prices/rows",
        token=admin,
        body=b'{"rows": [' + b" " * (17 << 20) + b"]}",
    )
    assert large.status == 413


def test_lists_come_in_pages(serving: Serving) -> None:
    """If this fails, a page repeats or leaves out entries, or a filter does not hold."""
    admin = serving.token()
    for number in range(7):
        assert (
            ask(
                serving,
                "POST",
                "/api/v1/reports",
                token=admin,
                body={"kind": "release", "asset": "service:web", "version": f"v{number}"},
            ).status
            == 200
        )
    whole = ask(
        serving, "GET", "/api/v1/ledger/events?type=release.reported&limit=100", token=admin
    ).json
    assert len(whole["items"]) == 7
    assert "next" not in whole or not whole["next"]
    seen, after = [], ""
    while True:
        page = ask(
            serving,
            "GET",
            f"/api/v1/ledger/events?type=release.reported&limit=3&after={after}",
            token=admin,
        ).json
        seen += page["items"]
        after = page.get("next", "")
        if not after:
            break
    assert seen == whole["items"]


def _lines(
    serving: Serving, path: str, token: str, **headers: str
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    link = http.client.HTTPConnection(urllib.parse.urlsplit(serving.url).netloc, timeout=30)
    link.request("GET", path, headers={"Authorization": f"Bearer {token}", **headers})
    return link, link.getresponse()


def _event(answer: http.client.HTTPResponse) -> dict[str, str]:
    """Return the next event of a stream; comments are passed over."""
    out: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if not line and "data" in out:
            return out
        name, _, value = line.partition(": ")
        if name:
            out[name] = value
    raise AssertionError("the stream ended")


def test_the_stream_is_resumed_where_it_broke(serving: Serving) -> None:
    """If this fails, who listens misses an event or sees one twice."""
    admin = serving.token()

    def report(version: str) -> None:
        assert (
            ask(
                serving,
                "POST",
                "/api/v1/reports",
                token=admin,
                body={"kind": "release", "asset": "service:web", "version": version},
            ).status
            == 200
        )

    link, answer = _lines(serving, "/api/v1/stream?types=release.reported", admin)
    assert answer.getheader("content-type") == "text/event-stream"
    answer.readline()  # from here on
    report("v1")
    first = _event(answer)
    assert json.loads(first["data"])["data"]["version"] == "v1"
    assert first["event"] == "release.reported"
    link.close()
    report("v2")
    report("v3")
    link, answer = _lines(
        serving, "/api/v1/stream?types=release.reported", admin, **{"Last-Event-ID": first["id"]}
    )
    assert [json.loads(_event(answer)["data"])["data"]["version"] for _ in range(2)] == ["v2", "v3"]
    link.close()
    assert (
        ask(serving, "GET", "/api/v1/stream?after=yesterday", token=admin).json["code"]
        == "SX-API-013"
    )


def test_a_slow_reader_holds_nobody_up(serving: Serving) -> None:
    """If this fails, one reader that takes nothing stops the stream of all others."""
    admin = serving.token()
    host, port = urllib.parse.urlsplit(serving.url).netloc.split(":")
    slow = socket.create_connection((host, int(port)))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(
        (
            "GET /api/v1/stream?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f"{admin}\r\n\r\n"
        ).encode()
    )
    link, answer = _lines(serving, "/api/v1/stream?types=release.reported", admin)
    answer.readline()
    p = serving.platform
    for number in range(60):  # more than fits into the buffers of a socket
        reports.report(
            p.core,
            "dev",
            "release",
            "service:web",
            version=f"v{number}",
            message="x" * 20_000,
            by=SYSTEM,
        )
    assert [json.loads(_event(answer)["data"])["data"]["version"] for _ in range(60)] == [
        f"v{number}" for number in range(60)
    ]
    link.close()
    slow.close()


def test_a_run_tells_how_far_it_is(serving: Serving) -> None:
    """If this fails, a long run at a server looks dead."""
    link = http.client.HTTPConnection(urllib.parse.urlsplit(serving.url).netloc, timeout=30)
    link.request(
        "POST",
        "/api/v1/runs",
        b"{}",
        {
            "Authorization": f"Bearer {serving.token()}",
            "Content-Type": "application/json",
            "Accept": "application/x-ndjson",
        },
    )
    lines = [json.loads(line) for line in link.getresponse().read().splitlines() if line.strip()]
    assert [next(iter(line)) for line in lines][-1] == "result"
    assert {next(iter(line)) for line in lines[:-1]} == {"done"}
    assert lines[-1]["result"]["state"] == "finished"


def test_introspection_is_for_our_own_processes(serving: Serving) -> None:
    """If this fails, the endpoints of telemetry cannot tell who comes, or anybody can try out
    tokens."""
    token = serving.token("operator", name="ci", teams=("ops",), scopes=("ingest",))
    found = ask(
        serving, "POST", "/internal/introspect", body={"token": token}, X_Sextant_Internal=INTERNAL
    ).json
    assert found["active"]
    assert (found["name"], found["owner"], found["scopes"]) == ("ci", "ops", ["ingest"])
    assert (
        ask(
            serving,
            "POST",
            "/internal/introspect",
            body={"token": token + "x"},
            X_Sextant_Internal=INTERNAL,
        ).json["active"]
        is False
    )


def test_the_first_token_is_made_once(shop: Shop) -> None:
    """If this fails, each start of a server makes another administrator."""
    shop.write(_OPS)
    with shop.open() as platform:
        first = platform.access.first()
        assert first
        assert platform.access.first() is None
        assert platform.access.grant(first["secret"])
        assert (
            first["secret"].encode()
            not in (platform.core.project.folder / "access.db").read_bytes()
        )
        assert (platform.core.project.folder / "access.db").stat().st_mode & 0o777 == 0o600


def test_the_description_follows_from_the_code(shop: Shop, serving: Serving) -> None:
    """If this fails, the API's description in the docs is not what the server does; `python
    docs/generate.py` makes it again."""
    from pathlib import Path

    served = ask(serving, "GET", "/api/v1/openapi.json", token=serving.token("viewer")).json
    kept = json.loads(
        (Path(__file__).parents[2] / "docs/reference/openapi.json").read_text(encoding="utf-8")
    )
    assert served == kept


# ---------------------------------------------------------------- attacks


@pytest.mark.parametrize("kind", ["token", "agent", "person"])
def test_a_name_is_no_membership(serving: Serving, kind: str) -> None:
    """If this fails, an operator makes a token that is called as a reviewer, and approves his own
    release."""
    p = serving.platform
    ann = Principal(name="ann", kind="person", role="operator", teams=("ops",))
    if kind == "person":
        for by in (
            ann,
            Principal(name="bob", kind="token", role="operator"),
            Principal(name="bob", kind="agent", role="operator", on_behalf_of="ann"),
        ):
            with pytest.raises(Denied):
                p.access.create_token("bob", by=by, kind="person", role="operator")
        return
    shop_team = p.core.project.manifest().teams[0]
    made = p.access.create_token(shop_team.members[0], by=ann, kind=kind, role="operator")
    grant = p.access.grant(made["secret"])
    assert grant
    assert p.core.authorization.who(grant.principal).teams == ()


def test_a_token_of_anothers_name_is_refused(serving: Serving) -> None:
    """If this fails, the ledger says that the administrator did what a viewer did, and the viewer
    sees his tokens."""
    p = serving.platform
    p.access.create_token("admin", by=SYSTEM, role="admin")
    eve = Principal(name="tool", kind="token", role="viewer", root="eve")
    with pytest.raises(Denied):
        p.access.create_token("admin", by=eve)
    assert p.access.create_token("admin", by=eve, kind="agent")["on_behalf_of"] == "eve"


def test_a_stranger_with_odd_credentials_is_answered(serving: Serving) -> None:
    """If this fails, a header that is no text breaks a endpoint instead of being refused."""
    for header in (
        "Basic \xe9\xe9\xe9",
        "Basic ====",
        "Basic /w==",
        "Bearer \xe9",
        "Bearer",
        "\xe9",
    ):
        assert ask(serving, "GET", "/api/v1/status", Authorization=header).status == 401, header


def test_refusals_stay_few(serving: Serving) -> None:
    """If this fails, a viewer fills the ledger: each path that he may not write to is an event of
    its own."""
    viewer = serving.token("viewer")
    for n in range(30):
        assert ask(serving, "POST", f"/api/v1/runs/run_{n}/cancel", token=viewer).status == 403
    who = f"token:viewer of {serving.platform.core.authorization.principal.name}"
    assert serving.refusals.take() == {(who, "operator with api for cancel"): 30}
    for n in range(500):
        serving.refusals.add(f"10.0.0.{n}", f"reason {n}")
    found = serving.refusals.take()
    assert len(found) <= 101
    assert sum(found.values()) == 500


@pytest.fixture
def stopped(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock by which tries to sign in are counted."""
    monkeypatch.setattr(serving.api.authentication._sign_ins, "_clock", ManualClock(10**18))


@pytest.mark.usefixtures("stopped")
def test_passwords_cannot_be_guessed_fast(serving: Serving) -> None:
    """If this fails, somebody tries a list of passwords, each of which costs us a tenth of a second
    of a core."""
    tries = [
        ask(serving, "POST", "/api/v1/session", body={"name": "eve", "password": "wrong"}).status
        for _ in range(SIGN_INS_BURST + 3)
    ]
    assert tries == [401] * SIGN_INS_BURST + [429] * 3
    assert ask(serving, "GET", "/api/v1/status", token=serving.token("viewer")).status == 200


def test_a_revoked_token_ends_its_stream(serving: Serving) -> None:
    """If this fails, whoever was sent away goes on listening to all that happens."""
    p = serving.platform
    made = p.access.create_token("ear", by=SYSTEM)
    link, answer = _lines(serving, "/api/v1/stream", made["secret"])
    assert answer.status == 200
    p.access.revoke_token(made["id"], by=SYSTEM)  # an event, which wakes the stream
    reports.report(p.core, "dev", "release", "service:secret", version="v1", by=SYSTEM)
    assert b"service:secret" not in answer.read(), "the stream has ended"
    link.close()


def test_positions_of_a_stream_are_numbers(serving: Serving) -> None:
    """If this fails, an odd position ends in a defect instead of a refusal."""
    for after in ("--5", "%C2%B2", "1e3", "9" * 40):
        assert (
            ask(
                serving, "GET", f"/api/v1/stream?after={after}", token=serving.token("viewer")
            ).status
            == 400
        ), after


@pytest.mark.parametrize(
    "path",
    [
        "//internal/introspect",
        "//internal//introspect",
        "/api/v1//internal/introspect",
        "//internal/openapi",
        "/internal/introspect/",
        "/internal//introspect",
    ],
)
def test_no_spelling_of_a_path_opens_the_inner_door(serving: Serving, path: str) -> None:
    """If this fails, whoever has some token gets through the endpoint of our own processes."""
    for method in ("GET", "POST"):
        assert ask(
            serving,
            method,
            path,
            token=serving.token("admin"),
            body={"token": "x"} if method == "POST" else None,
        ).status in (401, 404)


@pytest.mark.usefixtures("stopped")
def test_the_pace_of_signing_in_has_no_side_door(serving: Serving) -> None:
    """If this fails, who has a token tries passwords by another spelling of the path."""
    token = serving.token("viewer")
    tries = {
        ask(
            serving,
            "POST",
            "/api/v1/session/",
            token=token,
            body={"name": "eve", "password": "wrong"},
        ).status
        for _ in range(SIGN_INS_BURST + 3)
    }
    assert tries == {401, 429}


def test_a_body_that_nests_too_deep_is_refused(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a body of brackets is taken for a defect of ours, with a traceback in the log
    for each."""
    for path, code in (("reports", "SX-API-016"), ("datasets/prices/rows", "SX-STREAM-026")):
        for body in (b"[" * 100_000, b'{"rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
            found = ask(
                serving,
                "POST",
                f"/api/v1/{path}",
                token=serving.token("operator", teams=("ops",)),
                body=body,
            )
            assert (found.status, found.json["code"]) == (400, code)
    assert "Traceback" not in capfd.readouterr().err


def test_a_backup_into_itself_is_refused(serving: Serving, shop: Shop) -> None:
    """If this fails, a backup copies itself into itself until the disk is full."""
    p = serving.platform
    for folder in (
        p.core.project.folder / "backup",
        p.core.lake.root / "backup",
        p.core.blobs.root / "deep" / "backup",
    ):
        found = ask(
            serving,
            "POST",
            "/api/v1/backups",
            token=serving.token("admin"),
            body={"folder": str(folder)},
        )
        assert (found.status, found.json["code"]) == (400, "SX-BACKUP-007")
        assert not folder.exists()
    found = ask(
        serving,
        "POST",
        "/api/v1/backups",
        token=serving.token("admin"),
        body={"folder": "/proc/backup"},
    )
    assert (found.status, found.json["code"]) == (503, "SX-API-017"), (
        "what the machine refuses is no defect"
    )


def test_an_edit_is_seen_by_the_next_command(serving: Serving, shop: Shop) -> None:
    """If this fails, a command at a server still warns of a mistake that has been mended."""
    token = serving.token("viewer")
    shop.write("def (")
    assert ask(serving, "GET", "/api/v1/project", token=token).json["problem_lines"]
    shop.write(_OPS)
    assert ask(serving, "GET", "/api/v1/project", token=token).json["problem_lines"] == []
