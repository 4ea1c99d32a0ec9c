"""Signals of failed checks: raised by `check`, closed when the same check passes."""

from sextant.kernel.nouns import SYSTEM
from seen import checked
from seen import checked
from typing import Any

import pytest
from shop_project import Shop

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.nouns import Signal
from sextant.kernel.ports import Write

_OPS = """
bad_n = ["2026-01-03"]
bad_m = ["2026-01-03"]

@sx.dataset(partition=days, key="id", checks=[sx.between("n", 0, 100), sx.between("m", 0, 100)])
def orders(day: sx.Partition) -> pl.DataFrame:
    n, m = (500.0 if day.key in bad else 1.0 for bad in (bad_n, bad_m))
    return pl.DataFrame({"id": [day.key], "n": [n], "m": [m]})

@sx.dataset(checks=[sx.between("n", 0, 100)])
def planes() -> pl.DataFrame:
    return pl.DataFrame({"n": [500.0]})
"""


@pytest.fixture
def failing(shop: Shop, running: Any) -> Any:
    """A project whose live rows fail three checks in `dev` and in `prod`, with a signal for each."""
    shop.write(_OPS)
    with shop.open() as p:
        for env in ("dev", "prod"):
            running(p, env, break_glass="the board meets")
            for asset in ("orders", "planes"):
                checked(p, env, asset, by=p.core.authorization.who())
        yield p


def open_checks(p: LocalPlatform) -> set[tuple[str, str, str]]:
    """Return (environment, asset, check) of every open signal of a failed check."""
    return {
        (s["evidence"]["env"], s["asset"].partition(":")[2], s["evidence"]["check"])
        for s in Operations(p).signals(kind="check.failed", open_only=True).items
    }


ALL = {
    (env, asset, check)
    for env in ("dev", "prod")
    for asset, check in (
        ("orders", "between(n, 0, 100)"),
        ("orders", "between(m, 0, 100)"),
        ("planes", "between(n, 0, 100)"),
    )
}


def closings(p: LocalPlatform) -> list[tuple[str, str]]:
    """Return (type, subject's asset) of what caused each signal of a check to close."""
    kinds = {s["id"]: s["kind"] for s in Operations(p).signals().items}
    out = []
    for event in Operations(p).events(type="signal.closed").items:
        if kinds[event["subject"]] == "check.failed":
            (cause,) = [e for e in Operations(p).events().items if e["id"] == event["cause"]]
            out.append((cause["type"], cause["subject"].partition("@")[0]))
    return out


def mend(shop: Shop, p: LocalPlatform, *names: str) -> None:
    for name in names:
        shop.edit(f'{name} = ["2026-01-03"]', f"{name} = []")
    p.core.project.load()


def test_a_check_that_passes_closes_its_signal(
    failing: LocalPlatform, shop: Shop, running: Any
) -> None:
    """Signals would stay open for ever, and people stop looking at them; or those of another check,
    asset or environment would be closed unseen."""
    assert open_checks(failing) == ALL
    mend(shop, failing, "bad_n")
    running(
        failing,
        "dev",
        "dataset:orders",
        partitions=("2026-01-03", "2026-01-03"),
        stale=True,
        break_glass="m is bad still",
    )
    assert open_checks(failing) == ALL, "a run of one partition says nothing of the others"
    checked(failing, "dev", "orders", by=failing.core.authorization.who())
    assert open_checks(failing) == ALL - {("dev", "orders", "between(n, 0, 100)")}
    assert closings(failing) == [("checks.completed", "dataset:orders")]
    (closed,) = [
        s for s in Operations(failing).signals(kind="check.failed").items if s["closed_at"]
    ]
    assert "because of `checks.completed`" in Operations(failing).why(closed["id"])["reason"]


def test_a_run_whose_version_passes_closes_the_signals(
    failing: LocalPlatform, shop: Shop, running: Any
) -> None:
    """The usual cure is a run: nobody would check by hand after it."""
    mend(shop, failing, "bad_n", "bad_m")
    running(failing, "dev", "dataset:orders", stale=True)
    left = {one for one in ALL if one[:2] != ("dev", "orders")}
    assert open_checks(failing) == left
    assert set(closings(failing)) == {("checks.completed", "dataset:orders")}


def test_what_is_not_live_closes_nothing(shop: Shop, running: Any) -> None:
    """A signal about live rows would close though a release with better ones still waits."""
    shop.write(_OPS)
    with shop.open() as p:
        running(p, "dev", break_glass="the board meets")
        checked(p, "dev", "orders", by=p.core.authorization.who())
        mend(shop, p, "bad_n", "bad_m")
        (shop.root / "ops.py").write_text(
            (shop.root / "ops.py").read_text()
            + '\nsx.policy("eyes", when="verb == \'release\'", then=sx.approval(1, of=ops))\n'
        )
        p.core.project.load()
        report = running(p, "dev", "dataset:orders", stale=True)
        assert report.waiting
        assert len(open_checks(p)) == 2


def test_signals_of_older_versions_are_known_by_their_words(
    failing: LocalPlatform, shop: Shop, running: Any
) -> None:
    """Signals that were open when Sextant was upgraded would stay open for ever."""
    live = {
        env: failing.core.versions.live_version(env, "dataset:orders") for env in ("dev", "prod")
    }
    for id_, message, version in (
        ("sig_old", "dataset:orders: between(n, 0, 100): 1 of 5 rows fail", live["dev"]),
        ("sig_other_check", "dataset:orders: between(n2): 1 of 5 rows fail", live["dev"]),
        ("sig_elsewhere", "dataset:orders: between(n, 0, 100): 1 of 5 rows fail", "0" * 64),
    ):
        signal = Signal(
            id=id_,
            asset="dataset:orders",
            kind="check.failed",
            severity="error",
            message=message,
            onset=failing.core.clock.now_ns(),
            evidence={"version": version},
        )
        raised = failing.core.events.make("signal.raised", id_, signal, SYSTEM, "")
        failing.core.state.commit(Write((), (raised,)))
    mend(shop, failing, "bad_n")
    running(
        failing,
        "dev",
        "dataset:orders",
        partitions=("2026-01-03", "2026-01-03"),
        stale=True,
        break_glass="m is bad still",
    )
    checked(failing, "dev", "orders", by=failing.core.authorization.who())
    still = {s["id"] for s in Operations(failing).signals(open_only=True).items}
    assert still & {"sig_old", "sig_other_check", "sig_elsewhere"} == {
        "sig_other_check",
        "sig_elsewhere",
    }


def test_a_reported_check_that_passes_closes_its_signal(shop: Shop) -> None:
    """A failed smoke test would need a person after the next deployment has passed it."""
    shop.write("")
    with shop.open() as p:
        ops = Operations(p)
        for name in ("smoke", "load"):
            ops.report("check", "service:web", name=name, state="failed")
        ops.report("check", "service:web", name="smoke", state="ok", env="prod")
        assert len(open_checks(p)) == 2
        ops.report("check", "service:web", name="smoke", state="ok")
        (left,) = ops.signals(open_only=True).items
        assert left["evidence"]["check"] == "load"
        assert closings(p) == [("check.reported", "service:web")]
        assert "--state ok" in ops.why(left["id"])["reason"]
