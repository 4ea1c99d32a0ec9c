"""Decides what would run and why, before anything runs. Pure: it reads a manifest and a `Scene`,
and returns a `Plan`.

A partition is *missing* (never made), *stale* (code, settings or inputs changed), *held* (its
making was undone), or
up to date. Missing ones and those whose inputs changed are planned by themselves; those whose code
changed only when
asked for (`stale=True`, a named asset with named partitions) or where the author said
`on_change="rebuild"`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from sextant.engine import keys
from sextant.engine.holds import Holds, is_source
from sextant.kernel.answers import ProjectMove
from sextant.kernel.clock import to_datetime
from sextant.kernel.errors import NotFound, ProjectError, UsageError
from sextant.kernel.kinds import kinds, takes_time
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import PARTITIONS_PER_STEP_MAX, STEPS_MAX
from sextant.kernel.nouns import (
    Asset,
    Input,
    Manifest,
    Part,
    Strategy,
    Version,
    values_by_definition,
)
from sextant.kernel.partitions import ALL, Partitioning

Reason = Literal[
    "missing",
    "code changed",
    "inputs changed",
    "input runs",
    "looks back",
    "forced",
    "definition changed",
]


Unchecked = dict[str, dict[str, str]]  # asset -> input -> why it could not be looked up


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Empty `assets` means all.

    partitions  a first and last key, both included, that limit what is named; what reads it follows
                by its own mapping, so a window or a total beyond the range is made again too
    """

    assets: tuple[str, ...] = ()
    partitions: tuple[str, str] | None = None
    stale: bool = False
    force: bool = False
    downstream: bool = True  # also what reads the named assets
    look_back: bool = True
    # False: a schedule names the assets, nobody asked for what is only stale by its code
    asked: bool = True
    # what is derived follows an undo, whatever its triggers are, where its release takes no time
    undo: bool = False


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is live, held and known when the plan is made."""

    env: str
    now: int
    live: Mapping[str, Mapping[str, Part]]  # asset -> partition -> Part
    versions: Mapping[str, str]  # asset -> live version digest
    held: Holds = Holds()
    made: Mapping[
        str, Mapping[tuple[str, str, str], str]
    ] = {}  # asset -> (partition, code, inputs) -> content digest
    pushed: Mapping[
        str, Mapping[str, str]
    ] = {}  # asset -> partition -> digest of the rows that were pushed for it
    # (asset, partition, code, inputs) -> other environments in which what was made of it was undone
    undone_elsewhere: Mapping[tuple[str, str, str, str], tuple[str, ...]] = {}
    records: Mapping[str, Version] = {}  # asset -> record of its live version
    costs: Mapping[
        str, tuple[float, float]
    ] = {}  # asset -> (seconds, bytes) a partition, from past runs
    rolling: Mapping[str, str] = {}  # asset -> its release that is being rolled out, or taken back
    due: frozenset[str] = frozenset()  # whose instant of cron has come, and was not acted on


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One partition that would be made. `inputs` is "" while an input is still to be made in the
    same run; `reused`: a kept version has it, as far as can be told before."""

    partition: str
    reason: Reason
    code: str
    inputs: str = ""
    reused: bool = False


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """Adjacent partitions of one asset, made by one work order."""

    id: str
    asset: str
    items: tuple[Item, ...]
    deps: tuple[str, ...] = ()
    seconds: float | None = None  # expected, None = never run
    size_bytes: float | None = None

    @property
    def partitions(self) -> tuple[str, ...]:
        return tuple(item.partition for item in self.items)


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """An asset whose version is its definition and which differs from the live one."""

    asset: str
    source: str
    target: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`up_to_date`, `stale`, `held`, `waiting`: asset -> count or partitions that will not run, and
    why not."""

    env: str
    steps: tuple[PlannedStep, ...] = ()
    definitions: tuple[Definition, ...] = ()
    up_to_date: dict[str, int] = {}
    stale: dict[str, dict[str, str]] = {}  # asset -> partition -> reason; reported, not run
    stale_seconds: dict[str, float] = {}  # asset -> expected cost of making what is stale again
    held: dict[str, tuple[str, ...]] = {}
    held_by: dict[str, str] = {}  # asset -> the undone definition that holds it
    waiting: dict[str, tuple[str, ...]] = {}  # an input has no such partition yet
    # asset -> its release that is on its way: nothing of it is made until that has ended
    rolling: dict[str, str] = {}
    # asset -> how its release is rolled out, where that takes time
    strategies: dict[str, Strategy] = {}
    warnings: tuple[str, ...] = ()
    # asset -> reason -> what changed: inputs, files, settings; as far as it is known
    causes: dict[str, dict[str, tuple[str, ...]]] = {}
    # asset -> input -> why the columns that it names there could not be looked up
    unchecked: dict[str, dict[str, str]] = {}
    # asset -> columns that are personal because of what they are made of, and not declared so
    personal: dict[str, tuple[str, ...]] = {}
    project: ProjectMove | None = None  # what the folder would bring before anything runs

    @property
    def seconds(self) -> float:
        return sum(step.seconds or 0.0 for step in self.steps)


def order(manifest: Manifest) -> list[Asset]:
    """Return the assets with a build, upstream first, but for those of kinds whose package is
    gone. ProjectError names a cycle."""
    found: tuple[tuple[str, ...], list[Asset]] | None = manifest.__dict__.get("order")
    known = tuple(kinds())
    if found is None or found[0] != known:
        found = manifest.__dict__["order"] = (known, _ordered(manifest))
    return list(found[1])


def _ordered(manifest: Manifest) -> list[Asset]:
    by_id = {
        asset.id: asset
        for asset in manifest.assets
        if asset.build is not None and asset.kind in kinds()
    }
    graph = {
        id_: {i.asset for i in asset.build.inputs if i.asset in by_id}
        for id_, asset in by_id.items()
        if asset.build
    }
    for id_, asset in sorted(
        by_id.items()
    ):  # a table to compare with comes first, unless it stands on what is compared
        graph[id_] |= {
            to for to in compared_with(asset) if to in by_id and id_ not in _reach(graph, to)
        }
    try:
        sorter = TopologicalSorter(graph)
        sorter.prepare()
        out: list[Asset] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            out += [by_id[id_] for id_ in ready]
            sorter.done(*ready)
    except CycleError as error:
        path = " -> ".join(error.args[1])
        raise ProjectError(
            "SX-PLAN-001",
            f"assets read each other in a circle: {path}",
            hint="break the circle at one of them",
        ) from error
    return out


def compared_with(asset: Asset) -> set[str]:
    """Return the ids of the tables that an asset's checks compare it with (foreign keys), itself
    not included."""
    return {
        to
        for check in asset.checks
        if (to := str(check.params.get("to", "")).rpartition(".")[0]) and to != asset.id
    }


def _reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found, stack = {start}, [start]
    while stack:
        more = graph[stack.pop()] - found
        found |= more
        stack += more
    return found


def select(manifest: Manifest, request: Request) -> set[str]:
    """Return the ids of the assets that a request is about. NotFound for an unknown name."""
    ordered = order(manifest)
    if not request.assets:
        return {asset.id for asset in ordered}
    known = {asset.id for asset in manifest.assets}
    chosen = set()
    for name in request.assets:
        if name not in known:
            raise NotFound(
                "SX-PLAN-002",
                f"there is no asset `{name}`",
                hint="`sextant graph` lists the assets",
            )
        chosen.add(name)
    values = values_by_definition(manifest.assets)
    chosen |= {values[name] for name in chosen if name in values}
    if request.downstream:
        for asset in ordered:
            if asset.build and any(i.asset in chosen for i in asset.build.inputs):
                chosen.add(asset.id)
    return chosen


def check_range(manifest: Manifest, request: Request) -> None:
    """UsageError when a range lies outside of everything that it could mean."""
    if request.partitions is None:
        return
    assets = [
        a for a in manifest.assets if a.build and (not request.assets or a.id in request.assets)
    ]
    outside = []
    for asset in assets:
        slices = keys.partitioning(asset)
        if slices.grain in ("none", "static"):
            return
        first, last = request.partitions
        if slices.between(_fit(slices, first, "start"), _fit(slices, last, "end")):
            return
        until = f" and ends before {slices.end}" if slices.end else ""
        outside.append(f"`{asset.id}` begins on {slices.start}{until}")
    if outside:
        raise UsageError(
            "SX-PLAN-009",
            f"there are no partitions `{'..'.join(dict.fromkeys(request.partitions))}`",
            hint="; ".join(outside[:3]),
        )


def plan(manifest: Manifest, scene: Scene, request: Request) -> Plan:
    """Return what `request` means in `scene`. UserError for unknown assets, bad partitions;
    ProjectError for a cycle."""
    chosen = select(manifest, request)
    planned: dict[str, dict[str, Item]] = {}
    steps: list[PlannedStep] = []
    step_of: dict[tuple[str, str], str] = {}
    out = Plan(env=scene.env)
    warnings: list[str] = []
    assets = {asset.id: asset for asset in manifest.assets}
    for asset in order(manifest):
        if asset.id not in chosen or asset.build is None:
            continue
        warnings += [f"{asset.id}: {text}" for text in asset.build.code.warnings]
        items = _items(asset, assets, scene, request, planned, out)
        planned[asset.id] = items
        warnings += _undone_elsewhere(asset, items, scene)
        for chunk in chunks(keys.partitioning(asset), list(items)):
            step = _step(asset, assets, [items[key] for key in chunk], step_of, scene)
            steps.append(step)
            for key in chunk:
                step_of[(asset.id, key)] = step.id
    if len(steps) > STEPS_MAX:
        raise ProjectError(
            "SX-PLAN-003",
            f"the plan has {len(steps)} steps, more than {STEPS_MAX}",
            hint="narrow it with --partition",
        )
    warnings += [
        f"{asset.id}: there is no kind `{asset.kind}`: its package is not installed, or broken"
        for asset in manifest.assets
        if asset.kind not in kinds() and (not request.assets or asset.id in request.assets)
    ]
    values = values_by_definition(manifest.assets)
    definitions: list[Definition] = []
    for a in manifest.assets:
        if not a.is_definition or a.kind not in kinds():
            continue
        target, live = keys.definition_digest(a), scene.versions.get(a.id, "")
        if not target:  # no run makes it live
            continue
        asked = not request.assets or a.id in chosen or values.get(a.id) in chosen
        if not asked or live == target:
            continue
        if (a.id, ALL, target, "") not in scene.held:
            definitions.append(Definition(asset=a.id, source=live, target=target))
        elif a.id not in values:  # else its values say so
            out.held[a.id] = (ALL,)
    return msgspec.structs.replace(
        out,
        steps=tuple(steps),
        definitions=tuple(definitions),
        strategies={
            # a first version has nothing beside which it could be rolled out
            step.asset: assets[step.asset].release
            if step.asset in scene.versions
            else Strategy(kind="direct")
            for step in steps
            if takes_time(step.asset)
        },
        warnings=tuple(warnings),
    )


def _items(
    asset: Asset,
    assets: Mapping[str, Asset],
    scene: Scene,
    request: Request,
    planned: Mapping[str, Mapping[str, Item]],
    out: Plan,
) -> dict[str, Item]:
    assert asset.build is not None
    slices = keys.partitioning(asset)
    code = keys.code_digest(asset)
    live = scene.live.get(asset.id, {})
    made = scene.made.get(asset.id, {})
    named = asset.id in request.assets and request.asked
    asked = (
        request.stale
        or (named and request.partitions is not None)
        or (named and slices.grain == "none")
        or asset.on_change == "rebuild"
    )
    follows = (
        asset.follows_inputs
        or asset.id in request.assets
        or asset.id in scene.due
        or (request.undo and not takes_time(asset.id))
    )
    look_back = (
        _looked_back(asset, slices, scene.now)
        if request.look_back and request.partitions is None
        else frozenset()
    )
    if _definition_held(asset, assets, scene):
        out.held[asset.id] = tuple(_wanted(slices, request, asset, scene, live))
        out.held_by[asset.id] = asset.defined_by
        return {}
    if asset.id in scene.rolling:
        out.rolling[asset.id] = scene.rolling[asset.id]
        return {}
    items: dict[str, Item] = {}
    stale: dict[str, str] = {}
    held: list[str] = []
    waiting: list[str] = []
    fresh = 0
    source = is_source(asset)
    reads = [
        InputReader(i, assets.get(i.asset), slices, scene, _made_before(i.asset, planned))
        for i in asset.build.inputs
    ]
    wanted = _wanted(slices, request, asset, scene, live)
    pushed = scene.pushed.get(asset.id, {})
    if asset.is_pushed:
        wanted = [
            key
            for key in sorted({*wanted, *(() if request.partitions else pushed)})
            if key in pushed
        ]
    elif request.partitions is None:
        wanted = sorted({*wanted, *_open(asset, assets, slices, scene, planned)})
    asked_for = set(wanted)
    nothing = keys.inputs_digest([])  # of a source: the same for a hundred thousand partitions
    if request.partitions is not None and not named:
        wanted = sorted({*wanted, *_beyond(reads, live)})
    if _definition_moves(
        asset, assets, scene
    ):  # a KPI is never half of one meaning: all that is live follows
        wanted = sorted({*wanted, *live})
    for key in wanted:
        ready, runs, inputs = True, False, ""
        found: list[tuple[str, str, str]] = [("pushed", key, pushed[key])] if key in pushed else []
        for read in reads:
            state = read.at(key, found)
            ready = ready and state != "absent"
            runs = runs or state == "runs"
        if key not in asked_for and not runs:
            continue
        part = live.get(key)
        if not ready:
            if part is None:
                waiting.append(key)
            continue
        if not runs:
            inputs = keys.inputs_digest(found) if found else nothing
            if (asset.id, key, code, inputs) in scene.held and not request.force:
                if source and key in look_back:  # it may have been mended: content decides
                    items[key] = Item(partition=key, reason="looks back", code=code, inputs=inputs)
                elif part is not None and scene.held.is_answered_by(asset, part):
                    fresh += 1  # made again since, and good: live is what it would be
                else:
                    held.append(key)
                continue
        reason = _reason(part, code, inputs, runs=runs, made=made, key=key)
        if request.force and request.assets and not named:
            pass  # force is for what was named; what reads it decides by content
        elif request.force:
            reason = "forced"
        if reason is None and key in look_back:
            reason = "looks back"
        if reason is None:
            fresh += 1
        elif (reason == "code changed" and not asked) or (
            reason in ("inputs changed", "input runs") and not follows
        ):
            stale[key] = reason
        else:
            items[key] = Item(partition=key, reason=reason, code=code, inputs=inputs)
    out.up_to_date[asset.id] = fresh
    if stale:
        out.stale[asset.id] = stale
        out.stale_seconds[asset.id] = scene.costs.get(asset.id, (0.0, 0.0))[0] * len(stale)
    if held:
        out.held[asset.id] = tuple(held)
    if waiting:
        out.waiting[asset.id] = tuple(waiting)
    return items


def _made_before(upstream: str, planned: Mapping[str, Mapping[str, Item]]) -> Mapping[str, Item]:
    """Return what this plan makes of an input before it is read: nothing where the input's release
    takes time, for then what is live is read."""
    return {} if takes_time(upstream) else planned.get(upstream, {})


def _undone_elsewhere(asset: Asset, items: Mapping[str, Item], scene: Scene) -> list[str]:
    """Say which partitions would be made of what was undone in another environment. Of a source
    that is known only when it has been read."""
    if is_source(asset):
        return []
    where: dict[tuple[str, ...], list[str]] = {}
    for key, item in items.items():
        found = scene.undone_elsewhere.get((asset.id, key, item.code, item.inputs))
        if found:
            where.setdefault(found, []).append(key)
    return [
        f"{asset.id}: {len(keys)} partitions ({keys[0]} .. {keys[-1]}) would be made of what was "
        f"undone in {', '.join(environments)}"
        for environments, keys in where.items()
    ]


def _definition_held(asset: Asset, assets: Mapping[str, Asset], scene: Scene) -> bool:
    """Say whether these are the values of a kpi whose declared definition was undone: nothing is
    computed by it then."""
    metric = assets.get(asset.defined_by)
    return metric is not None and (metric.id, ALL, keys.definition_digest(metric), "") in scene.held


def _definition_moves(asset: Asset, assets: Mapping[str, Asset], scene: Scene) -> bool:
    """Say whether these are the values of a kpi whose live definition is not the declared one."""
    metric = assets.get(asset.defined_by)
    return metric is not None and scene.versions.get(metric.id, "") not in (
        "",
        keys.definition_digest(metric),
    )


def _reason(
    part: Part | None,
    code: str,
    inputs: str,
    *,
    runs: bool,
    made: Mapping[tuple[str, str, str], str],
    key: str,
) -> Reason | None:
    if part is None:
        return "missing"
    if runs:
        return "input runs"
    if part.code == code and part.inputs == inputs:
        return None
    if made.get((key, code, inputs)) == part.digest:
        return None
    return "inputs changed" if part.inputs != inputs else "code changed"


class InputReader:
    """Looks up, for one input, what a partition reads: appends (name, partition, digest) and says
    whether it is there."""

    def __init__(
        self,
        bound: Input,
        upstream: Asset | None,
        slices: Partitioning,
        scene: Scene,
        planned: Mapping[str, Item],
    ) -> None:
        self._bound = bound
        self._parts = scene.live.get(bound.asset, {})
        self._planned = planned
        self._slices = slices
        self._upstream = keys.partitioning(upstream) if upstream else Partitioning()
        self._same = self._upstream == slices and not bound.window
        # no row may have been pushed for a slice
        self._gaps = upstream is not None and upstream.is_pushed
        self._whole = (
            self._upstream.grain == "none"
            or bound.window == "all"
            or (slices.grain == "none" and not bound.window)
        )
        self._whole_digest = keys.content_of(self._parts) if self._whole and self._parts else ""
        self._order = (
            sorted(set(self._parts) | set(planned)) if bound.window and not self._whole else []
        )

    def may_run(self, live: Mapping[str, Part]) -> set[str]:
        """Return the partitions among `live` that `at` may call "runs"."""
        if not self._planned:
            return set()
        return set(live).intersection(self._planned) if self._same else set(live)

    def at(self, key: str, found: list[tuple[str, str, str]]) -> Literal["here", "runs", "absent"]:
        name = self._bound.name
        if self._whole:
            if self._planned:
                return "runs"
            if not self._parts:
                return "absent"
            found.append((name, "*", self._whole_digest))
            return "here"
        state: Literal["here", "runs", "absent"] = "here"
        wanted = (
            [key]
            if self._same
            else reads(self._bound, self._upstream, self._slices, key, self._order)
        )
        for upstream_key in wanted:
            if upstream_key in self._planned:
                state = "runs" if state == "here" else state
            elif (part := self._parts.get(upstream_key)) is not None:
                found.append((name, upstream_key, part.digest))
            elif not self._gaps:
                state = "absent"
        return (
            state if any(one in self._planned or one in self._parts for one in wanted) else "absent"
        )


def reads(
    bound: Input, upstream: Partitioning, slices: Partitioning, key: str, existing: Sequence[str]
) -> list[str]:
    """Return the upstream partitions that partition `key` reads: the overlapping ones, or those of
    the window that exist. A window without an end of its own ends with what exists."""
    if not bound.window:
        return upstream.overlapping(slices, key)
    there = [(name, upstream.partition(name)) for name in existing]
    end = slices.partition(key).end or max(
        (one.end for _, one in there if one.end is not None), default=None
    )
    if end is None:
        return []
    start = _before(end, bound.window).timestamp()
    out = []
    for name, other in there:
        if (
            other.start is not None
            and other.end is not None
            and other.start.timestamp() >= start
            and other.end <= end
        ):
            out.append(name)
    return out


def _wanted(
    slices: Partitioning, request: Request, asset: Asset, scene: Scene, live: Mapping[str, Part]
) -> Iterable[str]:
    if request.partitions is None or slices.grain == "none":
        if slices.grain in ("none", "static"):
            return slices.until(to_datetime(scene.now))
        return sorted({*slices.until(to_datetime(scene.now)), *live})
    first, last = request.partitions
    if slices.grain == "static":
        return (
            slices.between(first, last)
            if first in slices.names or asset.id in request.assets
            else slices.names
        )
    return slices.between(_fit(slices, first, "start"), _fit(slices, last, "end"))


def without_inputs(asset: Asset, assets: Mapping[str, Asset], scene: Scene) -> set[str]:
    """Return the live partitions of an asset that read something of which nothing is live."""
    slices = keys.partitioning(asset)
    reads = [
        InputReader(bound, assets.get(bound.asset), slices, scene, {})
        for bound in (asset.build.inputs if asset.build else ())
    ]
    return {
        key
        for key in scene.live.get(asset.id, {})
        if any(read.at(key, []) == "absent" for read in reads)
    }


def _beyond(reads: Sequence["InputReader"], live: Mapping[str, Part]) -> set[str]:
    """Return the live partitions that may read something that runs, wherever they lie: a range
    limits what is named, and what reads it follows."""
    out: set[str] = set()
    for read in reads:
        out |= read.may_run(live)
    return out


def _open(
    asset: Asset,
    assets: Mapping[str, Asset],
    slices: Partitioning,
    scene: Scene,
    planned: Mapping[str, Mapping[str, Item]],
) -> set[str]:
    """Return the slices that have begun and not ended, and for which an input has rows already:
    pushed rows do not wait for midnight."""
    out: set[str] = set()
    if asset.build is None or slices.grain in ("none", "static"):
        return out
    complete = to_datetime(scene.now)
    for bound in asset.build.inputs:
        upstream = assets.get(bound.asset)
        other = keys.partitioning(upstream) if upstream else Partitioning()
        if bound.window or other.grain in ("none", "static"):
            continue
        for key in {*scene.live.get(bound.asset, {}), *_made_before(bound.asset, planned)}:
            slice_ = other.partition(key)
            if slice_.start is not None and slice_.end is not None and slice_.end > complete:
                mine = slices.key_at(slice_.start)
                if slices.holds(mine):
                    out.add(mine)
    return out


def _fit(slices: Partitioning, key: str, side: Literal["start", "end"]) -> str:
    """Return the key of this grain at the start or end of a slice named in any time grain (2013-01
    for days)."""
    for grain in ("daily", "monthly", "hourly"):
        if grain == slices.grain:
            try:
                return slices.partition(key).key
            except Exception:  # noqa: S112 - another grain's form; tried next
                continue
        try:
            slice_ = Partitioning(grain=grain, tz=slices.tz).partition(key)
        except Exception:  # noqa: S112
            continue
        assert slice_.start is not None
        assert slice_.end is not None
        return slices.key_at(slice_.start if side == "start" else _instant_before(slice_.end))
    return slices.partition(key).key  # raises the error that shows the right form


def _instant_before(at: datetime) -> datetime:
    return at.astimezone(UTC) - timedelta(microseconds=1)


def _before(at: datetime, length: str) -> datetime:
    """Return the instant a length earlier: days and weeks by the calendar of its zone, hours and
    less by the clock."""
    back = timedelta(seconds=length_s(length))
    if length[-1] in "dw":
        return (at.replace(tzinfo=None) - back).replace(tzinfo=at.tzinfo)
    return (at.astimezone(UTC) - back).astimezone(at.tzinfo)


def _looked_back(asset: Asset, slices: Partitioning, now: int) -> frozenset[str]:
    if not asset.lookback or slices.grain in ("none", "static"):
        return frozenset()
    since = _before(to_datetime(now).astimezone(ZoneInfo(slices.tz)), asset.lookback)
    recent = [
        key
        for key in slices.until(to_datetime(now))
        if (end := slices.partition(key).end) is not None and end > since
    ]
    return frozenset(recent)


def chunk_prefix(grain: str, key: str) -> str:
    """Return what partitions must share to be made by one step: the month of a day, the day of an
    hour, the year of a month."""
    width = {"daily": 7, "hourly": 10, "monthly": 4}.get(grain)
    return key[:width] if width else key


def chunks(slices: Partitioning, wanted: list[str]) -> list[list[str]]:
    """Return partitions as one step each makes them: neighbours of a month, day or year."""
    if slices.grain in ("none", "static"):
        return [[key] for key in wanted]
    out: list[list[str]] = []
    for key in wanted:
        if (
            out
            and len(out[-1]) < PARTITIONS_PER_STEP_MAX
            and chunk_prefix(slices.grain, out[-1][0]) == chunk_prefix(slices.grain, key)
        ):
            out[-1].append(key)
        else:
            out.append([key])
    return out


def _step(
    asset: Asset,
    assets: Mapping[str, Asset],
    items: list[Item],
    step_of: Mapping[tuple[str, str], str],
    scene: Scene,
) -> PlannedStep:
    assert asset.build is not None
    deps: set[str] = set()
    slices = keys.partitioning(asset)
    for bound in asset.build.inputs:
        upstream = assets.get(bound.asset)
        if upstream is None or takes_time(upstream.id):
            continue
        other = keys.partitioning(upstream)
        if other == slices and not bound.window:
            deps |= {
                step_of[(bound.asset, item.partition)]
                for item in items
                if (bound.asset, item.partition) in step_of
            }
        else:  # windows and other grains: wait for all of it, its partitions may still change
            deps |= {id_ for (name, _), id_ in step_of.items() if name == bound.asset}
    for to in compared_with(asset):  # as it will be
        deps |= {id_ for (name, _), id_ in step_of.items() if name == to}
    cost = scene.costs.get(asset.id)
    name = items[0].partition if len(items) == 1 else f"{items[0].partition}..{items[-1].partition}"
    return PlannedStep(
        id=f"{asset.id}[{name}]",
        asset=asset.id,
        items=tuple(items),
        deps=tuple(sorted(deps)),
        seconds=cost[0] * len(items) if cost else None,
        size_bytes=cost[1] * len(items) if cost else None,
    )
