"""Maps each type of event to the statements that update the projected tables. Called by the ledger
while sealing, and to rebuild.

A projection is a pure function of one event: (sequence number, time, payload) -> named statements,
idempotent. Every fact in a projected table comes from a payload, so the tables rebuild equal from
the ledger; an erased payload projects nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import (
    OPEN_STATES,
    Asset,
    CheckResult,
    Edge,
    Held,
    Incident,
    Part,
    Principal,
    Release,
    Signal,
    Version,
)

Rows = Iterable[tuple[str, Sequence[Any]]]
Projection = Callable[[int, int, bytes], Rows]
T = TypeVar("T")

# Goes up when a projection changes what it writes: tables of an older version are made again when a
# project is opened.
PROJECTIONS_VERSION = 4

# Tables that `rebuild` empties and fills again, parents first.
PROJECTED = (
    "project", "asset", "edge", "env", "pointer", "version", "part", "made", "provenance",
    "withdrawn", "held", "answered", "tainted", "run", "release", "release_move", "open_move",
    "check_result", "signal", "incident", "tick",
)  # fmt: skip


class ProjectLoaded(msgspec.Struct, frozen=True):
    """`project.loaded`: the folder has a version, and so have the environments that follow it.

    manifest  digest of its blob
    bundle    JSON: digest of the files, and of the blob that they are packed in
    version   of the project; "" in events of earlier releases
    envs      that have it from here on
    """

    project: str
    manifest: str
    bundle: str = ""
    version: str = ""
    envs: tuple[str, ...] = ()


class AssetDeclared(msgspec.Struct, frozen=True):
    asset: Asset
    edges: tuple[Edge, ...] = ()
    ended: tuple[Edge, ...] = ()


class EnvCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """`env.created`, `env.dropped`.

    parent      what it falls through to; "" = nothing
    pointers    of one that is frozen: asset, version and release of all that it shows, for good
    expires_at  when it goes by itself, ns since 1970; 0 = never
    """

    name: str
    parent: str = ""
    frozen: bool = False
    pointers: tuple[tuple[str, str, str], ...] = ()
    expires_at: int = 0


class RunChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`run.started`, `run.finished`: `ticks` are the cron instants (asset -> ns) that it acts
    on."""

    id: str
    env: str
    state: str
    trigger: str = ""
    by: str = ""
    who: Principal | None = None  # the same, with teams and role: a resumed run is still his
    assets: tuple[str, ...] = ()
    partitions: str = ""
    bundle: str = ""
    manifest: str = ""
    mode: str = ""
    steps: int = 0
    computed: int = 0
    reused: int = 0
    failed: int = 0
    rows: int = 0
    wall_s: float = 0.0
    error: str = ""
    seal: str = ""
    started_at: int = 0
    finished_at: int = 0
    ticks: dict[str, int] = {}  # cron instants that were acted on
    due: dict[str, int] = {}  # those that the run is to act on; they count when it has finished
    retry_of: str = ""  # the run that this one tries again


def stored_run(doc: Any) -> RunChanged:
    """Return what a row of the table `run` says. Damaged when it was changed."""
    return _stored(doc, RunChanged, "a run")


def _stored(doc: Any, type_: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(doc, type=type_)
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise Damaged(
            "SX-LEDGER-014",
            f"what is stored of {what} cannot be read: {error}",
            hint="`sextant ledger verify` says what was changed",
        ) from error


class VersionCreated(msgspec.Struct, frozen=True):
    version: Version


class VersionReused(msgspec.Struct, frozen=True, kw_only=True):
    """`version.reused`: a run in `env` made content that exists as a version already;
    `version.restored`: made it again after its rows had expired. Its record stays that of the run
    that first made it; what this run adds are `inputs` that lead to the same content, `parts` with
    the code and inputs that made them, and whether the checks `refused` it this time."""

    asset: str
    digest: str
    env: str
    run: str
    release: str
    locator: str = ""
    parts: tuple[Part, ...] = ()
    inputs: dict[str, str] = {}
    refused: tuple[str, ...] = ()


class VersionConfirmed(msgspec.Struct, frozen=True):
    """Code or inputs changed and made the same content again: nothing to publish, but no longer
    stale."""

    asset: str
    parts: tuple[Part, ...]


class VersionRelocated(msgspec.Struct, frozen=True):
    asset: str
    digest: str
    locator: str


class HoldAnswered(msgspec.Struct, frozen=True):
    """`hold.answered`: what is held was made again, as these contents; what differs from what was
    undone is published."""

    env: str
    asset: str
    parts: tuple[Part, ...]


class VersionWithdrawn(msgspec.Struct, frozen=True):
    env: str
    asset: str
    version: str
    release: str
    reason: str
    held: tuple[Held, ...] = ()


class VersionUnheld(msgspec.Struct, frozen=True):
    env: str
    asset: str
    version: str


class VersionTainted(msgspec.Struct, frozen=True):
    asset: str
    version: str
    source: str
    source_version: str


class ChecksCompleted(msgspec.Struct, frozen=True):
    run: str
    asset: str
    version: str
    results: tuple[CheckResult, ...]


class PromiseMade(msgspec.Struct, frozen=True, kw_only=True):
    """`promise.made`: what a release is expected to do to a business number.

    asset, owner  what is released first, and whose it was then
    amount        a decimal with its sign; `relative`: in percent of the number without the release
    within_s      the time over which the number is looked at, from when the release is live
    """

    release: str
    asset: str
    env: str
    owner: str
    kpi: str
    amount: str
    relative: bool
    within_s: float
    text: str


class PromiseSettled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`promise.settled`: the time of a promise is over.

    outcome   kept; short: the right way, not so far; missed; taken back: the release was undone;
              unknown, for the reason in `message`
    realised  as `amount` of the promise; amount: by how much the release has moved the number
    without   what the number had been with nothing changed since just before the release
    """

    release: str
    kpi: str
    outcome: str
    realised: str = ""
    amount: str = ""
    without: str = ""
    sure: str = ""
    run: str = ""
    message: str = ""


class Closed(msgspec.Struct, frozen=True):
    id: str


class SignalRepeated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`signal.repeated`: the condition of an open signal was met again at `at`, with this message
    and evidence. `count`: how often since it was raised."""

    id: str
    asset: str
    at: int
    count: int
    message: str
    evidence: dict[str, Any] = {}


def stored_signal(doc: Any, repeated: Any) -> Signal:
    """Return what a row of the table `signal` says. Damaged when it was changed."""
    signal = _stored(doc, Signal, "a signal")
    now: dict[str, Any] = {}
    if repeated:
        last = _stored(repeated, SignalRepeated, "a signal")
        now = {
            "repeats": last.count,
            "last_at": last.at,
            "message": last.message,
            "evidence": last.evidence,
        }
    # earlier releases named environment and check in the evidence alone
    now["env"] = signal.env or str(signal.evidence.get("env", ""))
    now["key"] = signal.key or str(signal.evidence.get("check", ""))
    return msgspec.structs.replace(signal, **now)


class IncidentClosed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`incident.closed`: `comment` is the reason that a person gave."""

    id: str
    assets: tuple[str, ...] = ()
    comment: str = ""


class IncidentFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changes about an incident, beside its state."""

    assets: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    assignee: str = ""
    comments: int = 0
    merged_into: str = ""


class IncidentChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`incident.changed`: one change, and the incident's facts after it. Its title stands in
    `incident.opened` alone, so that one erasure removes it.

    comment  what somebody wrote: the comment, or the reason for reopening
    other    the incident that it was merged into, that it absorbed, or that was split off
    """

    id: str
    change: Literal["commented", "assigned", "reopened", "merged", "absorbed", "split"]
    facts: IncidentFacts
    comment: str = ""
    other: str = ""


def stored_incident(doc: Any, changed: Any, closed_at: int) -> Incident:
    """Return what a row of the table `incident` says. Damaged when it was changed."""
    incident = _stored(doc, Incident, "an incident")
    now: dict[str, Any] = {"state": "closed" if closed_at else "open"}
    if changed:
        facts = _stored(changed, IncidentFacts, "an incident")
        now |= {name: getattr(facts, name) for name in IncidentFacts.__struct_fields__}
    return msgspec.structs.replace(incident, **now)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _project_loaded(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=ProjectLoaded)
    yield "project_set", (data.project, data.manifest, time)
    for env in data.envs:
        yield "pointer_set", (env, f"project:{data.project}", data.version, "", time)


def _asset_declared(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=AssetDeclared)
    asset = data.asset
    yield (
        "asset_set",
        (asset.id, asset.kind, asset.mode, asset.owner, asset.tier, _json(asset), time),
    )
    for edge in data.ended:
        yield "edge_end", (time, edge.source, edge.target, edge.kind)
    for edge in data.edges:
        yield "edge_set", (edge.source, edge.target, edge.kind, edge.valid_from or time)


def _asset_retired(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=AssetDeclared)
    yield "asset_retire", (time, data.asset.id)
    for edge in data.ended:
        yield "edge_end", (time, edge.source, edge.target, edge.kind)


def _env_created(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=EnvCreated)
    yield from _env_emptied(data.name)  # whatever an environment of this name had before
    yield "env_set", (data.name, data.parent, time)
    if data.frozen or data.expires_at:
        yield "env_settings", (int(data.frozen), data.expires_at, data.name)
    for asset, version, release in data.pointers:
        yield "pointer_set", (data.name, asset, version, release, time)


def _env_dropped(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=EnvCreated)
    yield "env_drop", (time, data.name)
    yield from _env_emptied(data.name)


def _env_emptied(name: str) -> Rows:
    for drop in (
        "env_pointers_drop",
        "env_held_drop",
        "env_answered_drop",
        "env_withdrawn_drop",
        "env_ticks_drop",
    ):
        yield drop, (name,)


def _run(_seq: int, time: int, body: bytes) -> Rows:
    run = msgspec.json.decode(body, type=RunChanged)
    started = run.started_at or time
    yield "run_set", (run.id, run.env, run.state, _json(run), started, run.finished_at, run.seal)
    for asset, at in run.ticks.items():
        yield "tick_set", (run.env, asset, at)


def _version_created(_seq: int, time: int, body: bytes) -> Rows:
    version = msgspec.json.decode(body, type=VersionCreated).version
    created = version.created_at or time
    meta = {name: value for name, value in version.meta.items() if name != "refused"}
    doc = _json(msgspec.structs.replace(version, parts=(), created_at=created, meta=meta))
    yield (
        "version_add",
        (
            version.asset,
            version.digest,
            version.parent,
            version.locator,
            version.run,
            version.code,
            version.rows,
            version.size_bytes,
            doc,
            created,
            _refused(version.meta.get("refused", ())),
        ),
    )
    yield from _parts(version.asset, version.digest, version.parts)
    for name in version.removed:
        yield "part_add", (version.asset, version.digest, name, "", -1, "", "")
    for upstream, upstream_version in version.inputs.items():
        yield "provenance_add", (version.asset, version.digest, upstream, upstream_version)


def _version_reused(_seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionReused)
    yield "version_reuse", (data.locator, _refused(data.refused), data.asset, data.digest)
    yield from _parts(data.asset, data.digest, data.parts)
    for upstream, upstream_version in data.inputs.items():
        yield "provenance_add", (data.asset, data.digest, upstream, upstream_version)


def _parts(asset: str, digest: str, parts: Iterable[Part]) -> Rows:
    for part in parts:
        yield (
            "part_add",
            (asset, digest, part.partition, part.digest, part.rows, part.code, part.inputs),
        )


def _refused(reasons: Sequence[str]) -> str:
    return _json(reasons) if reasons else ""


def _version_confirmed(_seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionConfirmed)
    for part in data.parts:
        yield "made_add", (data.asset, part.partition, part.code, part.inputs, part.digest)


def _version_relocated(_seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionRelocated)
    yield "version_relocate", (data.locator, data.asset, data.digest)


def _version_expired(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionRelocated)
    yield "version_expire", (time, data.asset, data.digest)


def _version_withdrawn(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionWithdrawn)
    yield "withdrawn_add", (data.env, data.asset, data.version, data.release, data.reason, time)
    for held in data.held:
        yield (
            "held_add",
            (
                data.env,
                data.asset,
                held.partition,
                held.code,
                held.inputs,
                data.version,
                held.digest,
            ),
        )


def _hold_answered(_seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=HoldAnswered)
    for part in data.parts:
        yield (
            "answered_set",
            (data.env, data.asset, part.partition, part.code, part.inputs, part.digest),
        )


def _version_unheld(_seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionUnheld)
    yield "withdrawn_remove", (data.env, data.asset, data.version)
    yield "held_remove", (data.env, data.asset, data.version)
    yield "tainted_remove", (data.asset, data.version)


def _version_tainted(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=VersionTainted)
    yield "tainted_add", (data.asset, data.version, data.source, data.source_version, time)


def _checks_completed(seq: int, _time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=ChecksCompleted)
    for n, result in enumerate(data.results):
        yield (
            "check_result_add",
            (
                seq,
                n,
                data.run,
                data.asset,
                data.version,
                result.name,
                result.partition,
                int(result.ok),
                result.severity,
                _json(result),
            ),
        )


def _release(_seq: int, time: int, body: bytes) -> Rows:
    release = msgspec.json.decode(body, type=Release)
    env = release.moves[0].env if release.moves else ""
    doc = _json(msgspec.structs.replace(release, changed_at=time))
    yield (
        "release_set",
        (
            release.id,
            env,
            release.state,
            release.step,
            release.intent,
            release.run,
            doc,
            release.created_at or time,
            time,
        ),
    )
    for move in release.moves:
        yield "release_move_add", (release.id, move.env, move.asset, move.source, move.target)
    if release.state in OPEN_STATES:
        for move in release.moves:
            yield "open_move_add", (move.env, move.asset, release.id)
        return
    yield "open_move_remove", (release.id,)
    if release.state == "live":
        for move in release.moves:
            if move.target:
                yield "pointer_set", (move.env, move.asset, move.target, release.id, time)
            else:
                yield "pointer_delete", (move.env, move.asset)


def _signal_raised(_seq: int, _time: int, body: bytes) -> Rows:
    signal = msgspec.json.decode(body, type=Signal)
    yield (
        "signal_set",
        (signal.id, signal.asset, signal.kind, signal.severity, _json(signal), signal.onset),
    )


def _signal_repeated(_seq: int, _time: int, body: bytes) -> Rows:
    repeated = msgspec.json.decode(body, type=SignalRepeated)
    yield "signal_repeat", (_json(repeated), repeated.id)


def _signal_closed(_seq: int, time: int, body: bytes) -> Rows:
    yield "signal_close", (time, msgspec.json.decode(body, type=Closed).id)


def _incident_opened(_seq: int, time: int, body: bytes) -> Rows:
    incident = msgspec.json.decode(body, type=Incident)
    yield "incident_set", (incident.id, incident.state, _json(incident), incident.opened_at or time)


def _incident_closed(_seq: int, time: int, body: bytes) -> Rows:
    yield "incident_close", (time, msgspec.json.decode(body, type=IncidentClosed).id)


def _incident_changed(_seq: int, time: int, body: bytes) -> Rows:
    data = msgspec.json.decode(body, type=IncidentChanged)
    yield "incident_change", (_json(data.facts), data.id)
    if data.change == "merged":
        yield "incident_close", (time, data.id)
    elif data.change == "reopened":
        yield "incident_reopen", (data.id,)


PROJECTIONS: dict[str, Projection] = {
    "project.loaded": _project_loaded,
    "asset.declared": _asset_declared,
    "asset.observed": _asset_declared,
    "asset.retired": _asset_retired,
    "env.created": _env_created,
    "env.dropped": _env_dropped,
    "run.started": _run,
    "run.finished": _run,
    "version.created": _version_created,
    "version.reused": _version_reused,
    "version.restored": _version_reused,
    "version.confirmed": _version_confirmed,
    "version.relocated": _version_relocated,
    "version.expired": _version_expired,
    "version.withdrawn": _version_withdrawn,
    "version.unheld": _version_unheld,
    "hold.answered": _hold_answered,
    "version.tainted": _version_tainted,
    "checks.completed": _checks_completed,
    **{
        f"release.{state}": _release
        for state in (
            "proposed",
            "gated",
            "waiting",
            "rolling",
            "paused",
            "undoing",
            "live",
            "rejected",
            "rolled_back",
            "superseded",
            "stuck",
        )
    },
    "signal.raised": _signal_raised,
    "signal.repeated": _signal_repeated,
    "signal.closed": _signal_closed,
    "incident.opened": _incident_opened,
    "incident.changed": _incident_changed,
    "incident.closed": _incident_closed,
}


def project(type_: str, seq: int, time: int, body: bytes) -> Rows:
    """Return the statements that this event means; nothing for a type that only records."""
    projection = PROJECTIONS.get(type_)
    return projection(seq, time, body) if projection else ()
