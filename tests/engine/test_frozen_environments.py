"""Environments that are kept as they are, and those that go by themselves."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sextant import testing
from sextant.app.environments import drop_expired
from sextant.app.operations import Operations
from sextant.kernel.errors import UsageError, UserError
from sextant.ledger.rebuild import rebuild
from test_project_versions import HEAD, ORDERS, run, write

AT = datetime(2026, 1, 5, tzinfo=UTC)
KPI = "\nsx.kpi('total', of=orders, measure='sum(n)', grain='')\n"


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": HEAD + ORDERS + KPI}, at=AT, user="ann") as one:
        run(one)
        Operations(one).create_environment("q3-close", "prod", frozen=True)
        write(one, HEAD + (ORDERS + KPI).replace("[1, 2]", "[1, 2, 3]"))
        run(one, stale=True)
        yield one


def test_a_frozen_environment_stays_as_it_was(p: testing.TestedPlatform) -> None:
    """If this fails, the quarter that was closed has other numbers a week later."""
    ask = Operations(p)
    assert p.views.kpi("prod", "total")["rows"][0]["value"] == 6
    assert p.views.kpi("q3-close", "total")["rows"][0]["value"] == 3
    assert p.views.kpi("prod", "total", as_of="q3-close")["rows"][0]["value"] == 3
    assert ask.count("orders", env="prod", as_of="q3-close")["rows"] == 2
    assert p.core.project.manifest("q3-close") != p.core.project.manifest("prod")
    p.clock.wait(400 * 86400)
    ask.collect()
    assert p.views.count("q3-close", "orders") == 2, "what it shows is kept"
    rebuild(p.core.state)
    assert p.views.count("q3-close", "orders") == 2
    seen = {one["name"]: one for one in ask.environments()}
    assert (seen["q3-close"]["frozen"], seen["prod"]["frozen"]) == (True, False)


def test_nothing_moves_in_a_frozen_environment(p: testing.TestedPlatform) -> None:
    """If this fails, somebody corrects a number that was signed."""
    ask = Operations(p)
    live = p.core.versions.live("q3-close")
    for act in (
        lambda: ask.run(env="q3-close"),
        lambda: ask.run(env="q3-close", pinned=True),
        lambda: ask.release("orders", source="prod", env="q3-close"),
        lambda: ask.rollback("orders", env="q3-close"),
        lambda: ask.run(env="q3-close", break_glass="I want to"),
    ):
        with pytest.raises(UserError, match="frozen"):
            act()
    assert p.core.versions.live("q3-close") == live
    ask.create_environment("again", "q3-close")
    run(p, env="again", stale=True)
    assert p.views.count("again", "orders") == 3
    assert p.views.count("q3-close", "orders") == 2
    ask.drop_environment("again")
    ask.drop_environment("q3-close")
    with pytest.raises(UserError, match="no environment"):
        ask.status(env="q3-close")


def test_an_environment_goes_when_its_time_has_come(p: testing.TestedPlatform) -> None:
    """If this fails, what was tried in a pull request is kept for ever; or goes while others stand
    on it."""
    ask = Operations(p)
    ask.create_environment("pr-1", "prod", keep="3d")
    ask.create_environment("pr-2", "pr-1")
    with pytest.raises(UsageError, match="length of time"):
        ask.create_environment("pr-3", "prod", keep="soon")
    p.clock.wait(2 * 86400)
    assert drop_expired(p.core, p.runs) == []
    p.clock.wait(2 * 86400)
    assert drop_expired(p.core, p.runs) == [], "pr-2 falls through to it"
    ask.drop_environment("pr-2")
    ask.collect()
    assert {"pr-1", "pr-2"}.isdisjoint(one["name"] for one in ask.environments())
    (gone,) = [one for one in ask.events(type="env.dropped").items if one["subject"] == "pr-1"]
    assert gone["actor"] == "system:sextant"


def test_a_frozen_environment_decides_nothing_elsewhere() -> None:
    """If this fails, a rule that was given up last year still judges who may erase."""
    rule = "sx.policy('nothing is erased', when=\"verb == 'erase'\", then='deny')\n"
    with testing.platform({"ops.py": HEAD + rule + ORDERS}, at=AT, user="ann") as p:
        run(p)
        Operations(p).create_environment("old", "prod", frozen=True)
        write(p, HEAD + ORDERS)
        run(p)
        p.core.authorization.allow(p.who(), "erase", None, "")
