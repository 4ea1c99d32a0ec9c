"""How far a run is: counted, estimated, and seen from another process."""

from collections.abc import Iterator
from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.progress import Counting, live_runs, progress_of
from sextant.engine.execute import Done, Task
from sextant.kernel.answers import RunProgress
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import UserError
from sextant.ledger.projections import RunChanged

OPS = """
@sx.dataset(checks=[sx.between("id", 0, 1)])
def bad() -> pl.DataFrame:
    return pl.DataFrame({"id": [7]})

@sx.dataset()
def behind(bad: pl.DataFrame) -> pl.DataFrame:
    return bad

@sx.dataset()
def good() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})
"""


@pytest.fixture
def p(shop: Shop) -> Iterator[LocalPlatform]:
    shop.write(OPS)
    with shop.open() as platform:
        yield platform


def _counting(p: LocalPlatform, clock: Any, **more: Any) -> Counting:
    tasks = [Task(id=f"{name}{n}", asset=name) for name in ("a", "b") for n in range(3)]
    core = p.core._replace(clock=clock)
    live_runs(core).begin("run_1", set(), 0)
    seconds = {task.id: more.get(task.asset) for task in tasks}
    return Counting(core, "run_1", tasks, seconds=seconds, slots=2, told=None)


def test_the_rest_is_estimated_by_what_steps_took(p: LocalPlatform) -> None:
    """If this fails, the time that is left is made up: it ignores what earlier runs took, what this
    run shows, how many steps run at once, or says a number where nothing is known."""
    clock = ManualClock()
    known = _counting(p, clock, a=10.0, b=20.0)
    assert known.now().seconds_left == 45.0  # 90 s of work, two at once
    first = Task(id="a0", asset="a")
    known.started(first, 6)
    clock.wait(4.0)
    now = known.now()
    assert (now.running, now.left, now.seconds_left) == (("a0",), 5, 43.0)
    known.ended(first, Done(rows=5))
    clock.wait(1.0)
    assert known.now().seconds_left == (2 * 4.0 + 60.0) / 2  # steps of a take 4 s now
    unknown = _counting(p, clock, a=10.0)
    assert unknown.now().seconds_left is None


def test_what_another_process_sees(p: LocalPlatform) -> None:
    """If this fails, a run is seen only by who started it, or its time left stands still."""
    clock = ManualClock()
    counting = _counting(p, clock, a=10.0, b=20.0)
    counting.started(Task(id="a0", asset="a"), 6)
    facts = RunChanged(id="run_1", env="dev", state="running", steps=6)
    core = p.core._replace(clock=clock)
    seen = progress_of(core, facts)
    assert seen == counting.now()
    assert seen.since == {"a0": clock.now_ns()}
    clock.wait(5.0)
    later = progress_of(core, facts)
    assert later.seconds_left == pytest.approx((seen.seconds_left or 0) - 5.0)
    counting.ended(Task(id="a0", asset="a"), Done(ok=False))
    counting.ended(Task(id="a1", asset="a"), Done(ok=False, skipped=True))
    clock.wait(1.0)
    counting.look()
    seen = progress_of(core, facts)
    assert (seen.ended, seen.failed, seen.skipped, seen.left) == (1, 1, 1, 4)


def test_a_run_says_how_far_it_came(p: LocalPlatform) -> None:
    """If this fails, who started a run, or looks at it later, is told another number of steps than
    there were."""
    told: list[RunProgress] = []
    report = Operations(p).run(progress=told.append)
    assert [(one.ended, one.total) for one in told[-1:]] == [(2, 3)]
    assert told[-1].failed == 1
    facts = Operations(p).run_facts(report.id)["progress"]
    assert (facts["ended"], facts["total"], facts["failed"], facts["skipped"]) == (2, 3, 1, 1)
    assert live_runs(p.core).progress(report.id) == b"", "an ended run is not running"


def test_each_step_says_why_it_ran_and_what_it_cost(p: LocalPlatform, shop: Shop) -> None:
    """If this fails, nobody knows afterwards why a step ran, by which definition, or what it
    cost."""
    first = Operations(p).run()
    steps = {one["asset"]: one for one in Operations(p).run_facts(first.id)["steps_recorded"]}
    assert [one["why"] for one in steps.values()] == [("never made",)] * 3
    assert all(len(one["code"]) == 64 for one in steps.values())
    used = steps["dataset:good"]["resources"]
    assert used["memory_bytes_peak"] > 0
    assert used["bytes_written"] > 0
    shop.edit('{"id": [1, 2]}', '{"id": [1, 3]}')
    p.core.project.load()
    second = run(p, "dev", "dataset:good", stale=True)
    (again,) = Operations(p).run_facts(second.id)["steps_recorded"]
    assert again["why"] == ("code changed (ops.py)",)
    assert again["code"] != steps["dataset:good"]["code"]
    third = run(p, "dev", "dataset:good", force=True)
    (forced,) = Operations(p).run_facts(third.id)["steps_recorded"]
    assert forced["why"] == ("asked for",)


def test_a_run_is_tried_again(p: LocalPlatform, shop: Shop) -> None:
    """If this fails, a retry makes again what was good, leaves out what was blocked, or nobody can
    tell that the two runs belong together."""
    owner = Operations(p)
    failed = owner.run()
    assert failed.state == "refused"
    shop.edit('{"id": [7]}', '{"id": [1]}')
    again = owner.retry(failed.id)
    assert (again.state, again.computed) == ("finished", 2)
    assert sorted(again.published) == ["dataset:bad", "dataset:behind"]
    facts, old = owner.run_facts(again.id), owner.run_facts(failed.id)
    assert (facts["retry_of"], facts["trigger"]) == (failed.id, "retry")
    assert facts["assets"] == ("dataset:bad", "dataset:behind")
    assert old["retries"] == [again.id]
    started = next(
        one for one in owner.events(subject=again.id).items if one["type"] == "run.started"
    )
    finished = next(
        one for one in owner.events(subject=failed.id).items if one["type"] == "run.finished"
    )
    assert started["cause"] == finished["id"]


def test_what_cannot_be_tried_again_says_why(p: LocalPlatform, shop: Shop) -> None:
    """If this fails, a retry does nothing without a word, or starts what nobody asked for."""
    owner = Operations(p)
    failed = owner.run()
    fine = owner.run(assets=["good"], force=True)
    for id_, code in (("run_none", "003"), (fine.id, "016")):
        assert _refused(owner, id_) == f"SX-RUN-{code}"
    undo = owner.rollback("good", reason="a test")
    assert _refused(owner, undo.id) == "SX-RUN-015"
    facts = RunChanged(id="run_2", env="dev", state="running", started_at=p.core.clock.now_ns())
    p.core.state.commit(_write(p, facts))
    assert _refused(owner, "run_2") == "SX-RUN-014"
    text = (shop.root / "ops.py").read_text()
    (shop.root / "ops.py").write_text(
        text[: text.index("@sx.dataset")] + text[text.rindex("@sx.dataset") :]
    )
    assert _refused(owner, failed.id) == "SX-RUN-017"


def _refused(owner: Operations, run_id: str) -> str:
    with pytest.raises(UserError) as refused:
        owner.retry(run_id)
    return refused.value.code


def _write(p: LocalPlatform, facts: RunChanged) -> Any:
    from sextant.kernel.ports import Write

    return Write((), (p.core.events.make("run.started", facts.id, facts),))
