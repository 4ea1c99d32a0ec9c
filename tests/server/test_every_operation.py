"""Every operation, by every kind of caller, against the table in tests/cases/access; and every verb,
by a rule that denies it, here and over the network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Serving, serve
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.operations import OPERATIONS, Platform
from sextant.app.operations.row import Operation
from sextant.app.remote import connect
from sextant.kernel.errors import Denied, SextantError, WorldError
from sextant.kernel.ports import Write
from sextant.project.loading import python
from sextant.authorization.decide import VERBS

CASES = Path(__file__).parents[1] / "cases" / "access"
OPS = """
web = sx.team("web", members=["eve"])
prices = sx.stream("prices", columns={"id": "string", "price": "float64"}, key="id", owner=ops)

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0]})

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
"""
CALLERS = (
    "nobody",
    "ingest",  # a token that opens telemetry's intake only
    "viewer",
    "api",  # a viewer's token that does not open SQL
    "stranger",  # an operator of a team that owns nothing here
    "operator",  # of the team that owns what is asked about
    "agent",  # of that team
    "admin",
    "robot",  # an administrator's agent
)
WRITES = [one for one in OPERATIONS if one.verb != "read"]


def arguments(p: LocalPlatform, caller: str) -> dict[str, dict[str, Any]]:
    """Return arguments for every operation, of things that are there: others' where somebody
    owns them."""
    owner = Operations(p)
    signal = _signal(owner)
    opened = p.core.events.incident("pay is down", ["service:pay"], [signal])
    p.core.state.commit(Write((), (opened,)))
    incident = opened.subject
    owner.push("prices", [{"id": caller, "price": 1.0}], batch=f"of-{caller}")
    if "theirs" not in {one["name"] for one in owner.environments()}:
        owner.create_environment("theirs", "dev")
    a_run = owner.runs(env="dev").items[0]["id"]
    release = owner.releases(env="dev").items[0]["id"]
    orders = {"asset": "orders"}
    return {
        "show": orders,
        "graph_columns": orders,
        "count": orders,
        "rows": orders,
        "versions": orders,
        "partitions": orders,
        "profile": orders,
        "timeline": orders,
        "changes": orders,
        "waterfall": {"asset": "revenue"},
        "derive_waterfall": {"asset": "revenue"},
        "bisect": {"asset": "revenue", "known_from": "1h"},
        "prove_why": {"asset": "revenue"},
        "verify_why": {"asset": "revenue", "proof": {}},
        "failed_checks": orders,
        "check": orders,
        "release": {**orders, "source": "dev", "env": "prod"},
        "promise": {"release": release, "expects": ["kpi:revenue +3% in 28d"]},
        "promote": {"source": "dev", "env": "prod"},
        "upload": {"files": {"ops.py": "0" * 64}, "python": python(), "env": "prod"},
        "rollback": orders,
        "rollback_plan": orders,
        "undo_plan": {"who": "root", "since": "1d"},
        "undo": {"who": "root", "since": "1d", "plan": "0" * 64},
        "unhold": {**orders, "version": owner.versions("orders").items[0]["version"]},
        "diff": {"a": "orders", "b": "orders@env:prod"},
        "kpi": {"name": "revenue"},
        "search": {"q": "orders"},
        "why": {"subject": "orders"},
        "run": {"assets": ["orders"]},
        "run_facts": {"run": a_run},
        "cancel": {"run": a_run},
        "retry": {"run": a_run},
        "release_facts": {"release": release},
        "approve": {"release": release},
        "to_approve": {"releases": [release]},
        "approve_all": {"releases": [release], "plan": "0" * 64},
        "pause_release": {"release": release, "reason": "lunch"},
        "continue_release": {"release": release, "reason": "fed"},
        "abort_release": {"release": release, "reason": "wrong"},
        "resolve_release": {"release": release, "to": "back", "reason": "by hand"},
        "drive_release": {"release": release},
        "failing_rows": {**orders, "sample": "0" * 64},
        "close_signal": {"signal": signal, "reason": "seen"},
        "incident_facts": {"incident": incident},
        "close_incident": {"incident": incident, "reason": "done"},
        "reopen_incident": {"incident": incident, "reason": "not done"},
        "comment_incident": {"incident": incident, "comment": "seen"},
        "assign_incident": {"incident": incident, "assignee": "ops"},
        "merge_incident": {"incident": incident, "into": "inc_none"},
        "split_incident": {"incident": incident, "signals": [signal]},
        "create_environment": {"name": f"of-{caller}", "parent": "dev"},
        "drop_environment": {"name": "theirs"},
        "environment_diff": {"a": "dev", "b": "prod"},
        "report": {"kind": "release", "asset": "service:pay", "version": "v2"},
        "push": {"dataset": "prices", "rows": [{"id": "a", "price": 1.0}]},
        "batches": {"dataset": "prices"},
        "drop_batch": {"dataset": "prices", "batch": f"of-{caller}", "reason": "wrong"},
        "prove": {"seq": 0},
        "erase": {"seq": 10**6, "reason": "asked to"},
        "repair": {"reason": "nothing is wrong"},
        "query": {"sql": "SELECT 1"},
        "trace_facts": {"trace": "0" * 32},
        "metric": {"name": "requests"},
        "collect": {"dry_run": True},
        "backup": {"folder": str(p.core.project.root)},
        "create_token": {"name": f"of-{caller}"},
        "revoke_token": {"token": "tok_none"},
        "hand_token": {"token": "tok_none", "person": "ann"},
        "revoke_session": {"session": "ses_none"},
        "create_account": {"name": f"of-{caller}", "password": "correct horse battery"},
        "disable_account": {"name": "nobody"},
    }


def _signal(owner: Operations) -> str:
    """Return an open signal about a service that the team `ops` owns."""
    open_ones = owner.signals(asset="service:pay", open_only=True).items
    if not open_ones:
        owner.report("check", "service:pay", owner="ops", name="smoke", state="failed")
        open_ones = owner.signals(asset="service:pay", open_only=True).items
    return str(open_ones[0]["id"])


@pytest.fixture
def serving(shop: Shop) -> Iterator[Serving]:
    shop.write(OPS)
    with shop.open(who="root") as platform, serve(platform) as one:
        run(platform)
        yield one


def token_of(serving: Serving, caller: str) -> str:
    token: Callable[..., str] = serving.token
    return {
        "nobody": lambda: "",
        "ingest": lambda: token("operator", name="shop", scopes=("ingest",)),
        "viewer": lambda: token("viewer"),
        "api": lambda: token("viewer", name="board", scopes=("api",)),
        "stranger": lambda: token("operator", name="eve", kind="person"),
        "operator": lambda: token("operator", name="ann", kind="person"),
        "agent": lambda: token(
            "operator", name="helper", kind="agent", teams=("ops",), on_behalf_of="ann"
        ),
        "admin": lambda: token("admin"),
        "robot": lambda: token("admin", name="robot", kind="agent", on_behalf_of="ann"),
    }[caller]()


def answer(target: Platform, operation: Operation, given: dict[str, Any]) -> str:
    """Return `yes`, or 401 or 403: what is wrong with the request beyond that does not matter."""
    try:
        getattr(target, operation.name)(**given.get(operation.name, {}))
    except WorldError:
        raise
    except SextantError as error:
        return {"SX-API-001": "401", "SX-API-009": "401"}.get(
            error.code, "403" if isinstance(error, Denied) else "yes"
        )
    return "yes"


def test_every_operation_by_every_caller(serving: Serving) -> None:
    """If this fails, somebody may do what he must not, or may not what he must."""
    found: dict[str, list[str]] = {one.name: [] for one in OPERATIONS}
    for caller in CALLERS:
        given = arguments(serving.platform, caller)
        there = connect(serving.url, token_of(serving, caller))
        for operation in OPERATIONS:
            found[operation.name].append(answer(there, operation, given))
            if operation.name == "close_signal":
                _signal(Operations(serving.platform))
        there.close()
    lines = (CASES / "operations.txt").read_text(encoding="utf-8").splitlines()
    head, *rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert head == ["operation", *CALLERS]
    assert {row[0]: row[1:] for row in rows} == found


def test_every_operation_has_a_verb() -> None:
    """If this fails, an operation changes something that no rule can forbid."""
    known = (CASES / "without-a-verb.txt").read_text(encoding="utf-8").split()
    assert [one.name for one in OPERATIONS if one.verb not in (*VERBS, "read")] == known == []
    assert [one.name for one in OPERATIONS if one.verb == "read" and one.of] == []
    unused = set(VERBS) - {one.verb for one in OPERATIONS}
    assert unused == {"link", "pin"}, "a report's edges; a command of the folder alone"


@pytest.mark.parametrize("operation", WRITES, ids=[one.name for one in WRITES])
@pytest.mark.parametrize("where", ["here", "over the network"])
def test_a_rule_can_forbid_every_write(shop: Shop, operation: Operation, where: str) -> None:
    """If this fails, a rule that forbids a verb does not fire, or fires when it is done already."""
    shop.write(OPS)
    with shop.open(who="root") as p, serve(p) as serving:
        run(p)
        given = arguments(p, "root")
        shop.write(f'{OPS}\nsx.policy("no", when="verb == \'{operation.verb}\'", then="deny")\n')
        p.core.project.load()
        here: Platform = Operations(p)
        there = connect(serving.url, serving.token())
        before = p.ledger.size()
        assert answer(here if where == "here" else there, operation, given) == "403"
        there.close()
        written = [one["type"] for one in Operations(p).events().items[: p.ledger.size() - before]]
        assert set(written) <= {"decision.denied"}
