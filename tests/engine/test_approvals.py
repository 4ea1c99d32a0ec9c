"""Several releases approved together, and people who stand in for others."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sextant import testing
from sextant.app.operations import Operations
from sextant.kernel.errors import Conflict, Denied, ProjectError, UsageError
from sextant.kernel.nouns import Principal
from test_project_versions import BOB, EVE, HEAD, ORDERS, in_force, run, write

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAN = Principal(name="dan")
RULE = """
sx.policy("each is seen", when="verb == 'release' && env != 'dev'", then=sx.approval(1, of=eyes))
"""
EYES = 'eyes = sx.team("eyes", members=["bob"], deputies={"dan": "2026-01-07"})\n'


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": HEAD + EYES + RULE + ORDERS}, at=AT, user="ann") as one:
        yield one


def propose(p: testing.TestedPlatform, *envs: str) -> list[str]:
    for env in envs:
        with pytest.raises(Denied, match="1 of eyes"):
            run(p, env=env)
    return [one.id for one in p.runs.releases.open()]


def test_several_are_approved_as_they_were_shown(p: testing.TestedPlatform) -> None:
    """If this fails, a batch that was looked at is another one when it is approved, or half of it
    goes."""
    Operations(p).create_environment("test", "dev")
    run(p, env="dev")
    write(p, HEAD + EYES + RULE + ORDERS + "\n# another one\n")
    p.core.project.load()
    first = propose(p, "prod")
    write(p, HEAD + EYES + RULE + ORDERS + "\n# and another\n")
    (other,) = propose(p, "prod")
    assert other not in first, "a newer one takes its place"
    bob = Operations(p, BOB)
    with pytest.raises(Conflict, match="not what was shown"):
        bob.approve_all([other], "0" * 64)
    shown = bob.to_approve([other])
    assert [one.id for one in shown.releases] == [other]
    with pytest.raises(Denied, match="cannot approve"):
        Operations(p, Principal(name="ann")).approve_all([other], shown.plan)
    assert [one.state for one in bob.approve_all([other, other], shown.plan)] == ["live"]
    with pytest.raises(Conflict, match="waits for nobody"):
        bob.approve_all([other], shown.plan)
    with pytest.raises(UsageError, match="0 releases"):
        bob.to_approve([])


def test_status_says_which_approvals_are_mine(p: testing.TestedPlatform) -> None:
    """If this fails, somebody is asked for an approval that he may not give, or is not asked."""
    (release,) = propose(p, "prod")
    viewer = Principal(name="bob", role="viewer")
    for who, theirs in ((BOB, [release]), (DAN, [release]), (EVE, []), (viewer, [])):
        found = Operations(p, who).status(env="prod")
        assert [one["id"] for one in found["waiting"]] == [release]
        assert found["yours"] == theirs, who
    # who proposed it may not, though he is of the team
    write(p, HEAD + EYES.replace('["bob"]', '["bob", "ann"]') + RULE + ORDERS)
    assert Operations(p, Principal(name="ann")).status(env="prod")["yours"] == []
    Operations(p, BOB).approve(release)
    assert Operations(p, BOB).status(env="prod")["yours"] == []


def test_all_of_a_batch_or_none() -> None:
    """If this fails, what somebody may not approve is skipped, and the rest goes without it."""
    teams = 'eyes = sx.team("eyes", members=["bob"])\nsec = sx.team("sec", members=["eve"])\n'
    rules = (
        "sx.policy('a', when=\"verb == 'release' && asset.name == 'orders' && env == 'prod'\", "
        "then=sx.approval(1, of=eyes))\n"
        "sx.policy('b', when=\"verb == 'release' && asset.name == 'sales' && env == 'prod'\", "
        "then=sx.approval(1, of=sec))\n"
    )
    body = ORDERS + ORDERS.replace("orders", "sales")
    with testing.platform({"ops.py": HEAD + teams + rules + body}, at=AT, user="ann") as p:
        waiting = [run(p, assets=[name]).waiting for name in ("orders", "sales")]
        assert all(waiting)
        bob = Operations(p, BOB)
        shown = bob.to_approve(waiting)
        assert shown.plan == bob.to_approve(waiting[::-1]).plan
        with pytest.raises(Denied, match="not in team `sec`"):
            bob.approve_all(waiting, shown.plan)
        assert {one.state for one in p.runs.releases.open()} == {"waiting"}
        only = bob.to_approve(waiting[:1]).plan
        assert bob.approve_all(waiting[:1], only)[0].state == "live"
        sec = Operations(p, EVE)
        denied = sec.approve_all(waiting[1:], sec.to_approve(waiting[1:]).plan, deny=True)
        assert denied[0].state == "rejected"


def test_a_deputy_stands_in_until_his_last_day(p: testing.TestedPlatform) -> None:
    """If this fails, who stood in for a holiday approves for ever, or nobody does in the
    meantime."""
    (release,) = propose(p, "prod")
    with pytest.raises(Denied, match="not in team"):
        Operations(p, EVE).approve(release)
    assert Operations(p, DAN).approve(release).state == "live"
    assert Operations(p).project()["deputies"] == {"eyes": {"dan": "2026-01-07"}}
    write(p, HEAD + EYES + RULE + ORDERS + "\n# more\n")
    (release,) = propose(p, "prod")
    p.clock.wait(2 * 86400 + 11 * 3600)
    assert p.core.authorization.within(DAN, "prod").teams == ("eyes",)
    p.clock.wait(2 * 3600)
    with pytest.raises(Denied, match="not in team"):
        Operations(p, DAN).approve(release)
    good = in_force(p)
    write(p, (HEAD + EYES + RULE + ORDERS).replace("2026-01-07", "2026-12-31"))
    move = p.core.project.load() and Operations(p).project_move(env="prod")
    assert move is not None
    assert {one["word"] for one in move.changes["weakens"]} == {"deputies"}
    (release,) = propose(p, "prod")
    with pytest.raises(Denied, match="not in team"):
        Operations(p, DAN).approve(release)
    assert in_force(p) == good


@pytest.mark.parametrize(
    ("deputies", "said"),
    [
        ('{"dan": "soon"}', "no day"),
        ('{"dan": 7}', "no day"),
        ('["dan"]', "not a value of `deputies`"),
        ('{"bob": "2026-01-07"}', "a member of team `eyes`"),
    ],
)
def test_a_deputy_needs_an_end(deputies: str, said: str) -> None:
    """If this fails, a slip makes somebody a deputy for ever."""
    eyes = EYES.replace('{"dan": "2026-01-07"}', deputies)
    with (
        pytest.raises(ProjectError, match=said),
        testing.platform({"ops.py": HEAD + eyes + ORDERS}, at=AT),
    ):
        pass
