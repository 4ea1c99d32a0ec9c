"""One person answers for every token: attacks by who has a token of his own, over the network."""

from sextant.kernel.nouns import SYSTEM
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Serving, serve
from shop_project import Shop, run
from test_api import Answer, ask

from sextant.app.access import Access
from sextant.app.operations import Operations
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import Denied
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Write

DAY_NS = 86400 * 10**9
OPS = """
web = sx.team("web", members=["eve"])
sx.policy(
    "a second pair of eyes",
    when="verb == 'release' && env == 'prod'",
    then=sx.approval(1, of=ops),
)
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id", owner=web)

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0]})

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
"""


@pytest.fixture
def serving(shop: Shop) -> Iterator[Serving]:
    shop.write(OPS)
    with shop.open(who="root") as platform, serve(platform) as one:
        run(platform)
        yield one


def person(serving: Serving, name: str, role: str = "operator", **more: Any) -> str:
    """Return a token by which a person comes in, as one makes it on the project's folder."""
    return serving.token(role, name=name, kind="person", **more)


def make(serving: Serving, token: str, name: str, **more: Any) -> Answer:
    return ask(serving, "POST", "/api/v1/tokens", token=token, body={"name": name, **more})


def secret(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(answer.json["secret"])


def propose(serving: Serving, token: str) -> str:
    """Run into prod, where what the folder has waits for a second pair of eyes; return the
    release."""
    found = ask(serving, "POST", "/api/v1/runs", token=token, body={"env": "prod"})
    assert (found.status, found.json["code"]) == (403, "SX-PROJ-097"), found.body
    newest = ask(serving, "GET", "/api/v1/releases?env=prod&state=waiting", token=token)
    return str(newest.json["items"][0]["id"])


def approve(serving: Serving, token: str, release: str) -> int:
    return ask(
        serving, "POST", f"/api/v1/releases/{release}/approvals", token=token, body={}
    ).status


def open_door(serving: Serving, token: str) -> int:
    return ask(serving, "GET", "/api/v1/status", token=token).status


# ---------------------------------------------------------------- agents


@pytest.mark.parametrize("kind", ["token", "person"])
@pytest.mark.parametrize("role", ["operator", "admin"])
def test_an_agent_makes_no_token_but_an_agents(serving: Serving, kind: str, role: str) -> None:
    """If this fails, an agent sheds what holds for agents: it publishes to prod without a person's
    eyes, and breaks the glass."""
    agent = serving.token(role, name="helper", kind="agent", on_behalf_of="ann")
    assert make(serving, agent, "plain", kind=kind, role=role).status == 403
    other = make(serving, agent, "other", kind="agent", role=role, on_behalf_of="bob")
    assert other.status == 403, "for whom it does not act itself"
    child = make(serving, agent, "child", kind="agent", role=role)
    assert (child.json["root"], child.json["on_behalf_of"]) == ("ann", "ann")


def test_an_agent_says_of_nobody_who_he_is(serving: Serving) -> None:
    """If this fails, an administrator's agent makes a person who approves what it proposes."""
    agent = serving.token("admin", name="helper", kind="agent", on_behalf_of="ann")
    body = {"name": "puppet", "password": "correct horse battery", "role": "operator"}
    assert ask(serving, "POST", "/api/v1/accounts", token=agent, body=body).status == 403
    own = serving.platform.access.tokens(SYSTEM)[0]["id"]
    handed = ask(serving, "POST", f"/api/v1/tokens/{own}/hand", token=agent, body={"person": "x"})
    assert handed.status == 403


# ---------------------------------------------------------------- approvals


@pytest.mark.parametrize("way", ["token of a token", "agent of a team", "agent of a token"])
def test_nobody_approves_what_he_answers_for(serving: Serving, way: str) -> None:
    """If this fails, one person is both pairs of eyes."""
    ann, bob = person(serving, "ann"), person(serving, "bob")
    if way == "agent of a team":
        proposer = make(
            serving, ann, "helper", kind="agent", role="operator", on_behalf_of="ops", teams=["ops"]
        )
    else:
        first = make(serving, ann, "ci", role="operator", teams=["ops"])
        kind = "agent" if way == "agent of a token" else "token"
        proposer = make(serving, secret(first), "ci-2", kind=kind, role="operator", teams=["ops"])
    release = propose(serving, secret(proposer))
    assert approve(serving, ann, release) == 403
    assert approve(serving, bob, release) == 200


def test_an_administrator_is_one_person_whatever_tokens_he_makes(serving: Serving) -> None:
    """If this fails, an administrator makes a token in another's name and approves his own
    release with it; or two of them, and is two people."""
    boss = person(serving, "boss", "admin")
    puppets = [
        secret(make(serving, boss, name, kind="person", role="operator", teams=["ops"]))
        for name in ("ann", "bob")
    ]
    release = propose(serving, boss)
    assert [approve(serving, one, release) for one in puppets] == [403, 403]
    ids = [t["id"] for t in serving.platform.access.tokens(SYSTEM)]
    seen = next(t for t in serving.platform.access.tokens(SYSTEM) if t["name"] == "ann")
    assert (seen["root"], len(ids)) == ("boss", 3)
    handed = ask(
        serving, "POST", f"/api/v1/tokens/{seen['id']}/hand", token=boss, body={"person": "ann"}
    )
    assert handed.json["root"] == "ann", "now it is hers, and the ledger says who gave it"
    assert approve(serving, puppets[0], release) == 200


def test_who_broke_the_glass_does_not_close_its_signal(serving: Serving) -> None:
    """If this fails, nobody else ever looks at what was done past the policy."""
    ann, bob = person(serving, "ann"), person(serving, "bob")
    ci = secret(make(serving, ann, "ci", role="operator", teams=["ops"]))
    body = {"env": "prod", "break_glass": "the shop is down"}
    assert ask(serving, "POST", "/api/v1/runs", token=ci, body=body).status == 200
    found, *_ = ask(serving, "GET", "/api/v1/signals?kind=glass.broken", token=ann).json["items"]
    path = f"/api/v1/signals/{found['id']}/close"
    for token in (ci, ann):
        assert ask(serving, "POST", path, token=token, body={"reason": "fine"}).status == 403
    assert ask(serving, "POST", path, token=bob, body={"reason": "looked"}).status == 200


# ---------------------------------------------------------------- children


def test_a_child_ends_with_those_it_was_made_with(serving: Serving) -> None:
    """If this fails, who was sent away keeps a token that he made in time."""
    p = serving.platform
    ann = serving.platform.access.create_token(
        "ann", by=SYSTEM, kind="person", role="operator", days=30
    )
    child = secret(make(serving, ann["secret"], "ci", role="operator"))
    grandchild = secret(make(serving, child, "ci-2", role="operator", days=365))
    assert [open_door(serving, one) for one in (child, grandchild)] == [200, 200]
    now = p.core.clock.now_ns()
    p.access._core = p.core._replace(clock=ManualClock(now + 31 * DAY_NS))
    assert [open_door(serving, one) for one in (child, grandchild)] == [401, 401], "she has ended"
    p.access._core = p.core._replace(clock=ManualClock(now))
    p.access.revoke_token(ann["id"], by=SYSTEM)
    assert [open_door(serving, one) for one in (child, grandchild)] == [401, 401]


def test_a_disabled_account_takes_its_tokens_along(serving: Serving) -> None:
    """If this fails, a leaver's tokens, and what they made, go on."""
    p = serving.platform
    p.access.create_account("ann", "correct horse battery", by=SYSTEM, role="operator")
    signed = ask(
        serving,
        "POST",
        "/api/v1/session",
        body={"name": "ann", "password": "correct horse battery"},
    )
    cookie = signed.headers["set-cookie"].partition(";")[0]
    made = ask(
        serving,
        "POST",
        "/api/v1/tokens",
        body={"name": "ci", "role": "operator"},
        Cookie=cookie,
        X_CSRF_Token=signed.json["csrf"],
    )
    child = make(serving, secret(made), "ci-2", role="operator")
    p.access.disable_account("ann", by=SYSTEM)
    assert [open_door(serving, secret(one)) for one in (made, child)] == [401, 401]
    p.access.hand_token(made.json["id"], "bob", by=SYSTEM)
    assert [open_door(serving, secret(one)) for one in (made, child)] == [200, 200], "CI goes on"
    roots = {t["name"]: t["root"] for t in p.access.tokens(SYSTEM)}
    assert (roots["ci"], roots["ci-2"]) == ("bob", "bob")
    actors = [e["actor"] for e in Operations(p).events(type="token.handed").items]
    assert actors == ["system:sextant"]


def test_nobody_gives_a_scope_or_a_day_that_he_has_not(serving: Serving) -> None:
    """If this fails, a token for one thing makes one for everything, for ever."""
    p = serving.platform
    short = p.access.create_token("ci", by=SYSTEM, role="operator", scopes=("api",), days=2)
    assert make(serving, short["secret"], "asks", scopes=["query"]).status == 403
    assert make(serving, short["secret"], "boss", role="admin").status == 403
    child = make(serving, short["secret"], "more", role="operator", days=700)
    assert child.json["scopes"] == ["api"]
    assert child.json["expires_at"] <= short["expires_at"]
    asked = ask(serving, "POST", "/api/v1/query", token=secret(child), body={"sql": "SELECT 1"})
    assert (asked.status, asked.json["code"]) == (403, "SX-API-003")


def test_a_line_of_tokens_has_an_end(serving: Serving) -> None:
    """If this fails, each request walks a line that somebody made as long as he liked."""
    token, statuses = serving.token("operator"), []
    for n in range(10):
        made = make(serving, token, f"t{n}", role="operator")
        statuses.append(made.status)
        token = made.json.get("secret", token)
    assert statuses == [200] * 7 + [400] * 3


# ---------------------------------------------------------------- what is others'


def test_another_teams_stream_is_not_filled(serving: Serving) -> None:
    """If this fails, any operator writes rows into another team's numbers."""
    stranger = serving.token("operator", name="ops-ci", teams=("ops",))
    path = "/api/v1/datasets/prices/rows"
    body = [{"id": "a", "price": 1.0}]
    assert ask(serving, "POST", path, token=stranger, body=body).status == 403
    assert ask(serving, "POST", path, token=person(serving, "eve"), body=body).status == 200


def test_a_name_of_a_batch_cannot_be_squatted(serving: Serving) -> None:
    """If this fails, somebody takes the name that a shop will use, and its rows are swallowed with
    an answer that says that they are there."""
    one, other = (
        serving.token("operator", name=name, teams=("web",)) for name in ("squatter", "shop")
    )
    path = "/api/v1/datasets/prices/rows?batch=day-1"
    assert ask(serving, "POST", path, token=one, body=[{"id": "x", "price": 0.0}]).status == 200
    rows = [{"id": "a", "price": 1.0}]
    first, again = (ask(serving, "POST", path, token=other, body=rows) for _ in range(2))
    assert (first.json["again"], again.json["again"]) == (False, True)
    changed = ask(serving, "POST", path, token=other, body=[{"id": "a", "price": 2.0}])
    assert (changed.status, changed.json["code"]) == (409, "SX-STREAM-032")
    run(serving.platform)
    assert Operations(serving.platform).count("prices")["rows"] == 2
    late = ask(serving, "POST", path, token=other, body=[{"id": "a", "price": 3.0}])
    assert late.status == 409, "also when they have become rows"


def test_two_senders_batches_are_told_apart_when_one_is_dropped(serving: Serving) -> None:
    """If this fails, an administrator drops the wrong rows."""
    one, other = (serving.token("operator", name=name, teams=("web",)) for name in ("a", "b"))
    path = "/api/v1/datasets/prices"
    for token in (one, other):
        body = [{"id": "x", "price": 0.0}]
        assert ask(serving, "POST", f"{path}/rows?batch=n", token=token, body=body).status == 200
    boss, drop = serving.token(), {"batch": "n", "reason": "no"}
    assert ask(serving, "POST", f"{path}/batches/drop", token=boss, body=drop).status == 409
    whose = {**drop, "sender": "token:a"}
    assert ask(serving, "POST", f"{path}/batches/drop", token=boss, body=whose).status == 200
    left = ask(serving, "GET", f"{path}/batches", token=boss).json["items"]
    assert [one["by"] for one in left] == ["token:b of root"]


def report(serving: Serving, token: str, asset: str, **more: Any) -> int:
    body = {"kind": "release", "asset": asset, "version": "v1", **more}
    return ask(serving, "POST", "/api/v1/reports", token=token, body=body).status


def test_a_report_takes_nothing_over(serving: Serving) -> None:
    """If this fails, an operator makes another team's service his own, says that it failed, or
    draws it into a number's causes."""
    eve = serving.token("operator", name="web-ci", teams=("web",))
    ops = serving.token("operator", name="ops-ci", teams=("ops",))
    assert report(serving, ops, "service:pay", owner="ops") == 200
    for more in ({}, {"owner": "web"}, {"state": "rolled_back"}):
        assert report(serving, eve, "service:pay", **more) == 403, more
    assert report(serving, eve, "service:shop", owner="ops") == 403, "a claim for others"
    assert report(serving, eve, "service:shop", owner="web", downstream=["kpi:revenue"]) == 403
    assert report(serving, eve, "service:shop", owner="web", downstream=["service:pay"]) == 403
    assert report(serving, ops, "service:pay", downstream=["dataset:orders"]) == 200
    graph = ask(serving, "GET", "/api/v1/graph", token=eve).json
    owners = {one["id"]: one.get("owner", "") for one in graph["assets"]}
    assert owners["service:pay"] == "ops", "a report that names no owner changes none"
    assert "service:shop" not in owners, "nothing of what was refused is there"


def test_what_nobody_owns_is_claimed_by_who_saw_it_first(serving: Serving) -> None:
    """If this fails, an operator makes what another reports on his team's, and locks him out."""
    first, late = person(serving, "ann"), person(serving, "eve")
    assert report(serving, first, "service:free") == 200
    assert report(serving, late, "service:free") == 200
    assert report(serving, late, "service:free", upstream=["dataset:orders"]) == 200
    assert report(serving, late, "service:free", owner="web") == 403
    assert report(serving, first, "service:free", owner="ops") == 200


def test_others_environments_stay(serving: Serving) -> None:
    """If this fails, an operator takes away what another works in."""
    eve, ann = person(serving, "eve"), person(serving, "ann")
    body = {"name": "pr-1", "parent": "dev"}
    ci = secret(make(serving, ann, "ci", role="operator"))
    assert ask(serving, "POST", "/api/v1/environments", token=ci, body=body).status == 200
    assert ask(serving, "DELETE", "/api/v1/environments/pr-1", token=eve).status == 403
    again = ask(serving, "POST", "/api/v1/environments", token=eve, body=body)
    assert again.json["code"] == "SX-ENV-003", "the name is taken"
    assert ask(serving, "DELETE", "/api/v1/environments/pr-1", token=ann).status == 200
    assert ask(serving, "POST", "/api/v1/environments", token=eve, body=body).status == 200, "free"


def test_others_signals_stay_open(serving: Serving) -> None:
    """If this fails, an operator hides what another team must see."""
    eve, ann = person(serving, "eve"), person(serving, "ann")
    assert report(serving, ann, "service:pay", owner="ops", state="rejected") == 200
    (found,) = ask(serving, "GET", "/api/v1/signals?asset=service:pay", token=eve).json["items"]
    path = f"/api/v1/signals/{found['id']}/close"
    assert ask(serving, "POST", path, token=eve, body={"reason": "hush"}).status == 403
    assert ask(serving, "POST", path, token=ann, body={"reason": "mended"}).status == 200


# ---------------------------------------------------------------- ways round


def test_a_token_in_anothers_name_owns_nothing_of_its_maker(serving: Serving) -> None:
    """If this fails, whoever gets a token from an administrator revokes the administrator's own,
    drops what is his, and sends agents on his behalf."""
    boss = serving.platform.access.create_token("boss", by=SYSTEM, kind="person", role="admin")
    bob = secret(make(serving, boss["secret"], "bob", kind="person", role="operator"))
    body = {"name": "of-boss", "parent": "dev"}
    path = "/api/v1/environments"
    assert ask(serving, "POST", path, token=boss["secret"], body=body).status == 200
    assert ask(serving, "DELETE", f"{path}/of-boss", token=bob).status == 403
    assert [one["name"] for one in ask(serving, "GET", "/api/v1/tokens", token=bob).json] == ["bob"]
    revoked = ask(serving, "DELETE", f"/api/v1/tokens/{boss['id']}", token=bob)
    assert revoked.status == 404
    assert make(serving, bob, "x", kind="agent", on_behalf_of="boss").status == 403


def test_noise_does_not_hide_who_made_something(serving: Serving) -> None:
    """If this fails, many entries about an environment or an asset hide the one that says whose it
    is."""
    p, eve, ann = serving.platform, person(serving, "eve"), person(serving, "ann")
    body = {"name": "keep", "parent": "dev"}
    assert ask(serving, "POST", "/api/v1/environments", token=ann, body=body).status == 200
    assert report(serving, ann, "service:free") == 200
    noise = [
        p.core.events.make(type_, subject, {}, Principal(name="eve"), "")
        for type_, subject in (("decision.denied", "keep"), ("release.reported", "service:free"))
        for _ in range(10_050)
    ]
    p.core.state.commit(Write((), tuple(noise)))
    assert ask(serving, "DELETE", "/api/v1/environments/keep", token=eve).status == 403
    assert report(serving, eve, "service:free", upstream=["dataset:orders"]) == 200
    assert report(serving, eve, "service:free", owner="web") == 403


def test_entries_of_others_cannot_be_written_under_the_ledgers_subjects(serving: Serving) -> None:
    """If this fails, reports about `ledger:keys` push the announcement of a key out of sight, or an
    environment that is called as a signal hides who raised it."""
    p, ann = serving.platform, person(serving, "ann")
    assert report(serving, ann, "ledger:keys") == 400
    signal = p.core.ids.new("sig")
    body = {"name": signal, "parent": "dev"}
    answer = ask(serving, "POST", "/api/v1/environments", token=ann, body=body)
    assert (answer.status, answer.json["code"]) == (400, "SX-ENV-002")


def test_rows_are_for_every_environment(serving: Serving) -> None:
    """If this fails, an agent names another environment, and its rows go to prod unseen."""
    agent = serving.token(
        "operator", name="helper", kind="agent", on_behalf_of="eve", teams=("web",)
    )
    rows = [{"id": "a", "price": 1.0}]
    for env in ("dev", "prod", ""):
        path = f"/api/v1/datasets/prices/rows?env={env}"
        assert ask(serving, "POST", path, token=agent, body=rows).status == 403, env


def test_a_flood_of_refusals_stays_small(serving: Serving) -> None:
    """If this fails, whoever is refused fills the ledger, which is never pruned."""
    p, eve = serving.platform, person(serving, "eve")
    clock = p.core.authorization._clock = ManualClock(p.core.clock.now_ns())
    assert report(serving, person(serving, "ann"), "service:pay", owner="ops") == 200
    for _ in range(30):
        assert report(serving, eve, "service:pay") == 403
    assert len(Operations(p).events(type="decision.denied").items) == 1
    clock.set(clock.now_ns() + 61 * 10**9)
    assert report(serving, eve, "service:pay") == 403
    newest = Operations(p).events(type="decision.denied").items[0]
    assert newest["data"]["times_before"] == 29


def test_an_agent_does_not_use_up_its_persons_tokens(serving: Serving) -> None:
    """If this fails, an agent that runs wild keeps its person from making a token."""
    agent = serving.token("viewer", name="helper", kind="agent", on_behalf_of="ann")
    made = [make(serving, agent, f"a{n}", kind="agent").status for n in range(22)]
    assert made == [200] * 20 + [400] * 2


def test_a_resumed_run_is_still_of_who_started_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, what an agent began goes to prod without a person's eyes when its process
    dies, or the person who answers for it approves it."""
    shop.write(OPS)
    agent = Principal(
        name="helper", kind="agent", on_behalf_of="ann", root="ann", role="operator", teams=("ops",)
    )

    def dies(*_a: object, **_k: object) -> None:
        raise KeyboardInterrupt

    with shop.open(who="root") as p:
        p.runs.project.move("prod", by=Principal(name="root"), break_glass="the first of all")
        monkeypatch.setattr(p.runs.publisher, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            Operations(p, agent).run(env="prod", assets=["orders"])
    with shop.open(who="root") as p:
        p.runs.resuming.resume_crashed("prod", by=SYSTEM)
        (release,) = Operations(p).releases(env="prod", state="waiting").items
        assert release["by"] == "agent:helper for ann"
        with pytest.raises(Denied):
            Operations(p, Principal(name="ann", role="operator")).approve(release["id"])


# ---------------------------------------------------------------- tokens of earlier releases

_BEFORE = """
DROP TABLE token;
CREATE TABLE token (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT NOT NULL, teams TEXT NOT NULL,
  on_behalf_of TEXT NOT NULL, made_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL, used_at INTEGER NOT NULL);
PRAGMA user_version = 1;
"""


def test_tokens_of_earlier_releases_get_a_person_or_stop(shop: Shop) -> None:
    """If this fails, an upgrade lets tokens through for which nobody answers, or stops those of
    which the ledger knows who made them."""
    shop.write(OPS)
    with shop.open(who="root") as p:
        path: Path = p.access.store.path
        p.access.close()
        del p.__dict__["access"]
        made = [  # name, kind, who made it
            ("first", "token", "system:sextant"),
            ("ann", "person", "person:root"),
            ("ci", "token", "person:ann"),
            ("ci-2", "token", "token:ci"),
            ("helper", "agent", "token:ci"),
            ("shed", "token", "agent:helper for token:ci"),
            ("orphan", "token", "token:gone"),
            ("unsaid", "token", ""),
        ]
        with sqlite3.connect(path) as db:
            db.executescript(_BEFORE)
            for n, (name, kind, by) in enumerate(made):
                row = (
                    name,
                    bytes([n]),
                    name,
                    kind,
                    "operator",
                    "api",
                    "",
                    "",
                    by,
                    n,
                    1 << 62,
                    0,
                    0,
                )
                db.execute(f"INSERT INTO token VALUES ({', '.join('?' * 13)})", row)
                if by:
                    kind_, _, rest = by.partition(":")
                    maker, _, behalf = rest.partition(" for ")
                    actor = Principal(name=maker, kind=kind_, on_behalf_of=behalf)  # type: ignore[arg-type]
                    event = p.core.events.make("token.created", name, {"id": name}, actor, "")
                    p.core.state.commit(Write((), (event,)))
        db.close()
        access = Access(p.core)
        tokens = {one["id"]: one for one in access.tokens(SYSTEM)}
        assert {name: one["root"] for name, one in tokens.items() if one["root"]} == {
            "ann": "ann",
            "ci": "ann",
            "ci-2": "ann",
            "helper": "ann",
        }
        stopped = {name for name, one in tokens.items() if one["stopped"]}
        assert stopped == {"first", "shed", "orphan", "unsaid"}
        assert {one["id"] for one in access.without_person()} == stopped
        access.revoke_token("ci", by=SYSTEM)
        assert {one["id"] for one in access.tokens(SYSTEM) if one["stopped"]} == {
            *stopped,
            "ci",
            "ci-2",
            "helper",
        }, "they hang on what they were made with"
        assert access.hand_token("first", "root", by=SYSTEM)["stopped"] == ""
        access.close()
