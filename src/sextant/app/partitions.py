"""The partitions of an asset as a strip: how each stands, as runs of equal ones, so that a hundred
thousand are a short answer; and the facts of some. Called by `Operations.partitions`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine import keys
from sextant.engine.history import History
from sextant.engine.plan import Plan, Request
from sextant.kernel.answers import PartitionRun, PartitionSeen, PartitionsSeen
from sextant.kernel.clock import iso, to_datetime
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import (
    PARTITION_CHECKS_READ_MAX,
    PARTITION_HISTORIES_READ_MAX,
    PARTITION_RUNS_MAX,
    PARTITIONS_DETAILED_MAX,
)
from sextant.kernel.nouns import Asset, CheckResult, Part
from sextant.kernel.pages import FAR
from sextant.ledger.projections import stored_run

# How a partition stands, the worst first. Runs that are put together show the worst.
PARTITION_STATES = (
    "failed",  # the newest attempt to make it failed
    "refused",  # the newest attempt was refused by its checks
    "missing",
    "held",
    "stale",
    "waiting",  # an input has no such partition yet
    "due",  # there, and the next run makes it again
    "running",  # a run that goes on is to make it
    "live",
)


class _Standing(NamedTuple):
    """How the partitions of an asset stand, in order, and why where there is something to say."""

    keys: Sequence[str]
    states: Mapping[str, str]
    reasons: Mapping[str, str]
    live: Mapping[str, Part]


def partitions(
    runs: Runs,
    see: Visibility,
    env: str,
    asset: Asset,
    span: tuple[str, str] | None,
    *,
    details: bool,
) -> PartitionsSeen:
    """Return how the partitions of an asset stand in an environment: all, or a range by its first
    and last key; with `details` also the facts of the first 1,000.

    Raises  UsageError for what is not made of partitions, and a key that is not one
    """
    if asset.build is None:
        raise UsageError(
            "SX-PART-008",
            f"`{asset.id}` is not made of partitions",
            hint=f"`sextant show {asset.id}` shows it",
        )
    standing = _standing(runs, see, env, asset)
    shown: Sequence[str] = standing.keys
    if span is not None:
        wanted = set(keys.partitioning(asset).between(*span))
        shown = [key for key in shown if key in wanted]
    found: PartitionsSeen = {
        "asset": asset.id,
        "env": env,
        "grain": keys.partitioning(asset).grain,
        "count": len(shown),
        "states": _counted(Counter(standing.states[key] for key in shown)),
        "runs": strip(shown, standing.states),
    }
    if details:
        listed = shown[:PARTITIONS_DETAILED_MAX]
        found["partitions"] = [_seen(runs.core, asset, key, standing) for key in listed]
        found["cut"] = len(listed) < len(shown)
    return found


def states_of(runs: Runs, see: Visibility, env: str, asset: Asset) -> Mapping[str, str]:
    """Return how every partition of an asset stands in an environment."""
    return _standing(runs, see, env, asset).states


def strip(order: Sequence[str], states: Mapping[str, str]) -> list[PartitionRun]:
    """Return runs of neighbours that stand equally; where those are too many, of so many neighbours
    each, by the worst of them."""
    runs: list[PartitionRun] = []
    for key in order:
        state = states[key]
        if runs and runs[-1]["state"] == state:
            runs[-1]["last"] = key
            runs[-1]["count"] += 1
        else:
            runs.append({"state": state, "first": key, "last": key, "count": 1})
    if len(runs) <= PARTITION_RUNS_MAX:
        return runs
    size = -(-len(order) // PARTITION_RUNS_MAX)
    merged: list[PartitionRun] = []
    for at in range(0, len(order), size):
        cell = order[at : at + size]
        counts = _counted(Counter(states[key] for key in cell))
        one: PartitionRun = {
            "state": next(iter(counts)),
            "first": cell[0],
            "last": cell[-1],
            "count": len(cell),
        }
        if len(counts) > 1:
            one["states"] = counts
        merged.append(one)
    return merged


def _counted(counts: Counter[str]) -> dict[str, int]:
    return {state: counts[state] for state in PARTITION_STATES if counts[state]}


def _standing(runs: Runs, see: Visibility, env: str, asset: Asset) -> _Standing:
    core, id_ = runs.core, asset.id
    manifest = core.project.manifest(env)
    # with what it is made of: what is missing there is made by the same run, and not waited for
    above = (one for one in core.assets.select([f"+{id_}"], env) if manifest.asset(one))
    request = Request(assets=tuple(above), downstream=False, asked=False, look_back=False)
    plan = runs.plan(env, request)
    live = core.versions.parts(id_, core.versions.live_version(env, id_))
    slices = keys.partitioning(asset)
    complete = slices.until(to_datetime(core.clock.now_ns()))
    order = complete if slices.grain in ("none", "static") else sorted({*complete, *live})
    states = {key: "live" if key in live else "missing" for key in order}
    reasons: dict[str, str] = {}
    _of_plan(plan, id_, states, reasons)
    todo = {key for key, state in states.items() if state in ("missing", "due")}
    if todo:
        for key, (state, reason) in _of_attempts(core, see, env, asset, todo).items():
            states[key], reasons[key] = state, reason
        for key in _running(core, env, id_, todo):
            states[key] = "running"
    return _Standing(order, states, reasons, live)


def _of_plan(plan: Plan, id_: str, states: dict[str, str], reasons: dict[str, str]) -> None:
    """Write down what a plan says of partitions that are not just live."""
    for step in plan.steps:
        for item in step.items if step.asset == id_ else ():
            if item.partition in states:
                states[item.partition] = "missing" if item.reason == "missing" else "due"
                reasons[item.partition] = item.reason
    for key, reason in plan.stale.get(id_, {}).items():
        states[key], reasons[key] = "stale", reason
    for key in plan.held.get(id_, ()):
        states[key] = "held"
        reasons[key] = "undone, and neither code nor inputs changed since"
    for key in plan.waiting.get(id_, ()):
        states[key], reasons[key] = "waiting", "an input has no such partition yet"


def _of_attempts(
    core: Core, see: Visibility, env: str, asset: Asset, todo: set[str]
) -> dict[str, tuple[str, str]]:
    """Return what became of the newest attempts to make partitions: failed, or refused by checks;
    as far back as the newest runs go."""
    found: dict[str, tuple[str, str]] = {}
    ended: set[str] = set()
    slices = keys.partitioning(asset)
    rows = core.state.read(
        "runs_page", (FAR, FAR, "", env, env, "", "", PARTITION_HISTORIES_READ_MAX)
    )
    for row in rows:
        for record in reversed(History.open(core.state, row[0]).records):
            if record.asset != asset.id or record.kind != "end":
                continue
            first, _, last = record.step.partition("[")[2].rstrip("]").partition("..")
            made = [first] if not last else slices.between(first, last)
            for key in set(made) - ended:
                ended.add(key)
                if key in todo and not record.ok:
                    found[key] = ("failed", see.record(record).error)
    for key, result in _refusals(core, asset.id).items():
        if key in todo:
            found[key] = ("refused", see.check(result).message)
    return found


def _refusals(core: Core, id_: str) -> dict[str, CheckResult]:
    """Return the partitions whose newest checks of severity error failed, with one that did."""
    newest: dict[str, int] = {}
    found: dict[str, CheckResult] = {}
    rows = core.state.read("checks_page", (FAR, FAR, 0, id_, id_, 0, PARTITION_CHECKS_READ_MAX))
    for seq, _, doc, _, _ in rows:
        result = msgspec.json.decode(doc, type=CheckResult)
        key = result.partition
        is_newest = newest.setdefault(key, seq) == seq
        if key and is_newest and not result.ok and result.severity == "error":
            found[key] = result
    return found


def _running(core: Core, env: str, id_: str, todo: set[str]) -> set[str]:
    """Return the partitions that runs which go on are to make."""
    found: set[str] = set()
    for row in core.state.read("runs_open"):
        run = stored_run(row[3])
        if run.env != env or (run.assets and id_ not in run.assets):
            continue
        first, _, last = run.partitions.partition("..")
        found |= {key for key in todo if not first or first <= key <= (last or first)}
    return found


def _seen(core: Core, asset: Asset, key: str, standing: _Standing) -> PartitionSeen:
    part = standing.live.get(key)
    rows = core.state.read("part_made_by", (asset.id, key, part.digest)) if part else []
    return {
        "partition": key,
        "state": standing.states[key],
        "reason": standing.reasons.get(key, ""),
        "rows": part.rows if part else 0,
        "run": str(rows[0][0]) if rows else "",
        "at": iso(rows[0][1]) if rows else "",
        "code": part.code if part else "",
        "digest": part.digest if part else "",
    }
