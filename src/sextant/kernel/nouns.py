"""The nouns as frozen structs: asset, version, release, run, work order, event and more. Nothing
here does I/O; everything above speaks in these.

An asset's id is `kind:name`. Times are ns since the epoch (UTC). Digests are lower-case hex
SHA-256.
"""

import functools
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, cast

import msgspec

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
Durability = Literal["grouped", "strict"]
Severity = Literal["warn", "error"]
T = TypeVar("T")
NO_SPEC = msgspec.Raw(b"{}")
EdgeKind = Literal[
    "feeds", "trains", "serves", "runs_on", "calls", "measures", "guards", "contains", "shows"
]
# kinds of assets that a rule may name besides those that the registry has: other tools report of
# them, and of others
ASSET_KINDS = (
    "model",
    "service",
    "infra",
    "ruleset",
    "job",
    "host",
    "dashboard",
    "table",
    "topic",
)


class Noun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all nouns have in common: immutable, compared by value, unknown fields ignored on
    reading."""


# ---------------------------------------------------------------- people


class Team(Noun, frozen=True, kw_only=True):
    """A group that owns assets.

    deputies  people who stand in for members -> the last day, of the project's zone, on which they
              do
    """

    name: str
    members: tuple[str, ...] = ()
    deputies: dict[str, str] = {}


SCOPES = ("api", "ingest", "query")


class Principal(Noun, frozen=True, kw_only=True):
    """Who acts: a person, a team's token, or an agent `on_behalf_of` one of them.

    role        viewer, operator or admin of who comes over the network; "" = works on the
                project's own folder
    scopes      what it may be used for: `api`, `ingest`, `query`
    root        the person who answers for it: whoever began the chain of tokens
    makers      who made the token that it came with, the first maker first: `person:ann`,
                `token:ci`
    credential  id of that token, or `account:NAME`; "" = it came with none
    """

    name: str
    kind: Literal["person", "token", "agent", "system"] = "person"
    teams: tuple[str, ...] = ()
    on_behalf_of: str = ""
    role: str = ""
    scopes: tuple[str, ...] = SCOPES
    root: str = ""
    makers: tuple[str, ...] = ()
    credential: str = ""

    @property
    def person(self) -> str:
        """The person who answers for what it does; "" for the platform itself."""
        return self.root or (self.name if self.kind == "person" else self.on_behalf_of)

    @property
    def is_administrator(self) -> bool:
        """Say whether it may do and see everything here: who works on the project's own folder
        could read its files."""
        return self.role in ("", "admin")

    @property
    def is_oneself(self) -> bool:
        """Say whether it is the person himself: not a token that somebody else made in his name,
        and answers for."""
        return self.kind == "person" and self.name == self.person

    @property
    def sender(self) -> str:
        """Who it is, whoever answers for it: `token:ci`, `agent:helper for ann`."""
        text = f"{self.kind}:{self.name}"
        return f"{text} for {self.on_behalf_of}" if self.on_behalf_of else text

    def __str__(self) -> str:
        said = self.on_behalf_of or (self.name if self.kind == "person" else "")
        return self.sender if self.person in ("", said) else f"{self.sender} of {self.person}"


SYSTEM = Principal(name="sextant", kind="system")  # the platform itself


def actor_of(text: str) -> Principal:
    """Return who an actor of an event was, as far as its text says: the reverse of `str`, without
    teams and role. Entries of earlier releases do not name the person of a token."""
    rest, of, root = text.rpartition(" of ")
    who, _, behalf = (rest if of else root).partition(" for ")
    kind, _, name = who.partition(":")
    return Principal(
        name=name,
        kind=cast("Any", kind if kind in ("person", "agent", "system") else "token"),
        on_behalf_of=behalf,
        root=root if of else "",
    )


def person_of(actor: str) -> str:
    """Return the person who answers for an actor of an event, as it says it: ann of `person:ann`,
    `token:ci of ann` and `agent:helper for ann`; "" where it does not say."""
    return actor_of(actor).person


# ---------------------------------------------------------------- assets


class Code(Noun, frozen=True, kw_only=True):
    """Where project code stands and what it was: `entry` is `module:qualname` or a `.sql` path
    inside the bundle; a `stream` has none of its own.

    fingerprint  digest of the function and of all project-local code that it reaches
    modules      distributions that its imports reach, each `name==version`
    warnings     reach that could not be followed (getattr, open ...), shown by `plan`
    files        data files of the bundle that it reads, each with its digest
    """

    language: Literal["python", "sql", "stream"]
    entry: str
    file: str
    line: int = 1
    fingerprint: str = ""
    modules: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = {}


class Input(Noun, frozen=True, kw_only=True):
    """One upstream asset bound to a parameter (Python) or a table name (SQL).

    frame    what the annotation asks for: polars, polars_lazy, pandas, pyarrow, duckdb
    window   "" = the same partition (all of an unpartitioned one); "90d" = that long up to the
             partition's end; "all"
    """

    name: str
    asset: str
    frame: Literal["polars", "polars_lazy", "pandas", "pyarrow", "duckdb", "sql"] = "polars"
    window: str = ""


class CheckSpec(Noun, frozen=True, kw_only=True):
    """A declared test. `check` is a registry id below `check.`; `params` its arguments; `scope`
    where it applies."""

    name: str
    check: str
    params: dict[str, Any] = {}
    severity: Severity = "error"
    scope: Literal["partition", "table", "live"] = "partition"


class Trigger(Noun, frozen=True, kw_only=True):
    """When an asset runs by itself: `cron` (text, in the project's zone) or `inputs` (an input has
    a new version).

    cooldown_s  seconds between the end of a run and the next one for new inputs, at least
    """

    kind: Literal["cron", "inputs"]
    cron: str = ""
    cooldown_s: float = 0.0


StrategyKind = Literal["publish", "direct", "blue_green", "canary", "shadow"]


class Strategy(Noun, frozen=True, kw_only=True):
    """How a release goes live.

    kind    publish: the pointer is all, as for data; direct: all at once; blue_green: beside the
            old version, then all at once; canary: by a growing share; shadow: with copies of the
            traffic whose answers nobody gets, then all at once
    steps   the share of each step in percent, growing; the last one is 100
    step_s  seconds that each step but the last lasts at least
    """

    kind: StrategyKind = "direct"
    steps: tuple[int, ...] = (100,)
    step_s: float = 0.0


class Build(Noun, frozen=True, kw_only=True):
    """How a version of an asset is made."""

    code: Code
    inputs: tuple[Input, ...] = ()
    params: dict[
        str, Any
    ] = {}  # tracked settings: a parameter with a default; part of the memo key
    secrets: dict[
        str, str
    ] = {}  # parameter -> secret name; resolved in the worker only, never part of anything stored
    wants_partition: str = ""  # the parameter that receives `sx.Partition`
    wants_context: str = ""  # the parameter that receives `sx.Context`
    whole_range: bool = False  # one call may make several adjacent partitions at once
    deterministic: bool = True
    durability: Durability = "grouped"
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float = 0.0  # 0 = limits.STEP_TIMEOUT_S
    memory_bytes: int = 0  # 0 = limits.STEP_MEMORY_BYTES_MAX
    pool: str = ""  # a named pool limits how many run at once
    executor: Literal["", "inline", "pool", "subprocess"] = ""
    reads: tuple[str, ...] = ()  # tables and topics of others that its code reads: asset ids


class Asset(Noun, frozen=True, kw_only=True, dict=True):
    """A thing you operate. `managed`: we change it; `observed`: another tool does and we are
    told.

    spec        what only its kind knows of it, as JSON: see `spec_as`
    defined_by  the asset whose definition makes its values: both move together, in one release. ""
                for what stands for itself
    """

    kind: str
    name: str
    mode: Literal["managed", "observed"] = "managed"
    owner: str = ""
    tier: int = 3
    description: str = ""
    tags: tuple[str, ...] = ()
    spec: msgspec.Raw = NO_SPEC
    build: Build | None = None
    defined_by: str = ""
    checks: tuple[CheckSpec, ...] = ()
    on: tuple[Trigger, ...] = ()
    release: Strategy = Strategy()
    lookback: str = ""  # how far back a source looks again for late rows
    on_change: Literal["report", "rebuild"] = "report"
    keep: str = "30d"  # undo window: how long versions that are no longer live keep their bytes
    file: str = ""
    line: int = 0

    @functools.cached_property  # asked for more often than anything else
    def id(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def is_definition(self) -> bool:
        """Say whether its version is what the project declares: nothing makes one."""
        return self.mode == "managed" and self.build is None

    @property
    def follows_inputs(self) -> bool:
        """Say whether it is made again because an input has a new version."""
        return not self.on or any(trigger.kind == "inputs" for trigger in self.on)

    @property
    def is_pushed(self) -> bool:
        """Say whether others push its rows: no code makes them."""
        return self.build is not None and self.build.code.language == "stream"

    def spec_as(self, type_: type[T]) -> T:
        """Return what its kind knows of it, decoded once."""
        return _decoded(self, type_)


def _decoded(holder: "Asset | InputRef | WorkOrder", type_: type[T]) -> T:
    found: T | None = holder.__dict__.get("decoded")
    if found is None:
        found = holder.__dict__["decoded"] = msgspec.json.decode(holder.spec, type=type_)
    return found


def spec_of(spec: msgspec.Struct) -> msgspec.Raw:
    """Return what a kind knows of an asset as `Asset.spec`: equal facts are equal bytes."""
    return msgspec.Raw(msgspec.json.encode(spec, order="sorted"))


def kind_of(id_: str) -> str:
    """Return the kind of an asset, by its id."""
    return id_.partition(":")[0]


def values_by_definition(assets: Iterable[Asset]) -> dict[str, str]:
    """Return definition -> the asset that holds its values, for those that have one."""
    return {asset.defined_by: asset.id for asset in assets if asset.defined_by}


class Edge(Noun, frozen=True, kw_only=True):
    """A typed relation, valid from (inclusive) to (exclusive, 0 = still)."""

    source: str
    target: str
    kind: EdgeKind
    valid_from: int = 0
    valid_to: int = 0


class Need(Noun, frozen=True, kw_only=True):
    """So many people of a team (`of` "" = of any) who must agree; `by`: those who have."""

    count: int
    of: str = ""
    by: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        return len(self.by) >= self.count


class Rule(Noun, frozen=True, kw_only=True):
    """A policy: when the CEL condition `when` holds, then allow, deny, or ask for `approvals`
    people of team `of`.

    `absolute`: a deny that a broken glass does not pass.
    """

    name: str
    when: str
    then: Literal["allow", "deny", "approval"]
    approvals: int = 0
    of: str = ""
    absolute: bool = False
    file: str = ""
    line: int = 0


class ColumnRead(Noun, frozen=True, kw_only=True):
    """A column that a declaration names, to be looked up where the schema is known.

    by         the asset whose declaration it is
    what       the declaration in words, as in "the KPI `x`"
    column     "" stands for SQL that is not understood
    of         assets of which one must have the column
    others     columns that a query has there besides: those of a WITH or a subquery
    qualifier  what stands before the column, in lower case. Where an asset of `scope` has a column
               of that name, it is a struct, and `column` its field
    exact      upper and lower case differ; in SQL they do not
    """

    by: str
    what: str
    column: str
    of: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    qualifier: str = ""
    scope: tuple[str, ...] = ()
    exact: bool = False
    file: str = ""
    line: int = 0


class Manifest(Noun, frozen=True, kw_only=True, dict=True):
    """What the loader found in a project: the hand-over from project code to the coordinator.

    queries  asset id -> the text of the query that makes it: what its columns are made of is read
             from it when somebody asks
    """

    project: str
    tz: str
    owner: str = ""
    environments: tuple[str, ...] = ("dev", "prod")
    follows: tuple[str, ...] = ("dev",)  # environments that have what the folder has
    teams: tuple[Team, ...] = ()
    assets: tuple[Asset, ...] = ()
    column_reads: tuple[ColumnRead, ...] = ()
    queries: dict[str, str] = {}
    policies: tuple[Rule, ...] = ()
    secrets: tuple[str, ...] = ()
    bundle: str = ""  # digest of the content-addressed project files
    files: dict[str, str] = {}  # path inside the bundle -> digest of its bytes
    lock: str = ""  # digest of the interpreter and the distributions
    root: str = ""  # module name under which the project was imported
    v: int = 1  # of its shape, as with events

    def asset(self, id_: str) -> Asset | None:
        return self._by_id.get(id_)

    @functools.cached_property
    def _by_id(self) -> dict[str, Asset]:
        # of two with one id, which assembling refuses, the first
        return {asset.id: asset for asset in reversed(self.assets)}


# ---------------------------------------------------------------- versions


class FileRef(Noun, frozen=True, kw_only=True):
    """A data file of a table: path below the lake's root, and which partitions it holds rows of.

    sha256    hex digest of its bytes as they were written; "" in states of releases that recorded
              none
    profiles  hex digest of the file beside it with the profiles of its columns; "" = it has none;
              `profiles_bytes` is its size
    """

    path: str
    rows: int
    size_bytes: int
    partitions: tuple[str, ...]
    sha256: str = ""
    profiles: str = ""
    profiles_bytes: int = 0


class Part(Noun, frozen=True, kw_only=True):
    """One partition of a dataset's version: the content digest and what made it (both halves of the
    memo key)."""

    partition: str
    digest: str
    rows: int
    code: str = ""  # digest of code fingerprint, settings and environment lock
    inputs: str = ""  # digest of the input partitions' content digests


class Version(Noun, frozen=True, kw_only=True):
    """An immutable state of an asset.

    digest   of its content, or of what was declared
    locator  where its body lies
    spec     of a definition: what was declared, for its kind to read
    """

    asset: str
    digest: str
    parent: str = ""
    locator: str = ""
    run: str = ""
    code: str = ""
    inputs: dict[str, str] = {}  # upstream asset -> version digest: provenance, followed by taint
    parts: tuple[Part, ...] = ()  # only those that differ from the parent
    removed: tuple[str, ...] = ()  # partitions of the parent that are gone
    rows: int = 0
    size_bytes: int = 0
    schema: tuple[tuple[str, str], ...] = ()  # (column, type)
    meta: dict[str, Any] = {}
    spec: msgspec.Raw = NO_SPEC
    created_at: int = 0


# ---------------------------------------------------------------- checks, releases, signals


class CheckResult(Noun, frozen=True, kw_only=True):
    """What a check found. `failed`/`rows` count rows (or groups); `samples` names a blob with
    failing rows, erasable."""

    name: str
    asset: str
    partition: str = ""
    severity: Severity = "error"
    ok: bool
    failed: int = 0
    rows: int = 0
    measured: dict[str, Any] = {}
    message: str = ""
    positions: tuple[
        int, ...
    ] = ()  # row numbers, from 0, in the order in which the step returned them
    samples: str = ""


ReleaseState = Literal[
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
]
OPEN_STATES: tuple[ReleaseState, ...] = (
    "proposed",
    "gated",
    "waiting",
    "rolling",
    "paused",
    "undoing",
    "stuck",
)


class Move(Noun, frozen=True, kw_only=True):
    """One pointer change of a release. `source`/`target` are version digests, "" = none."""

    env: str
    asset: str
    source: str
    target: str


class Release(Noun, frozen=True, kw_only=True):
    """One or more moves through one gate, by one strategy.

    after     the release that must be live first: what this one brings was made from what that one
              brings
    step_at   when its step was reached (ns since 1970)
    due_at    when a driver works on it again (ns since 1970), or nobody may approve it any more
    taken_back  its judge or a person decided that it is undone
    errors    attempts of its step, or of its undo, that failed one after the other
    error     why the last of them failed
    evidence  what its kind measured when it judged it, JSON-ready
    """

    id: str
    state: ReleaseState
    moves: tuple[Move, ...]
    intent: Literal["release", "undo"] = "release"
    strategy: Strategy = Strategy()
    step: int = 0  # index of the strategy's step that is reached
    run: str = ""
    undoes: str = ""
    reason: str = ""
    by: str = ""
    needs: tuple[Need, ...] = ()  # all of them must be met
    approvals: tuple[str, ...] = ()  # who approved, in order
    # with `approvals_of`: how the one need was written before there could be several
    approvals_needed: int = 0
    approvals_of: str = ""
    broke_glass: str = ""
    passed: tuple[str, ...] = ()  # denying rules that the broken glass passed
    # asset -> other environments in which what this release brings was undone
    withdrawn_in: dict[str, tuple[str, ...]] = {}
    after: str = ""
    step_at: int = 0
    due_at: int = 0
    taken_back: bool = False
    errors: int = 0
    error: str = ""
    evidence: dict[str, Any] = {}
    created_at: int = 0
    changed_at: int = 0

    @property
    def asked(self) -> tuple[Need, ...]:
        """Whose approval the policy asks for, met or not."""
        if self.needs or not self.approvals_needed:
            return self.needs
        return (Need(count=self.approvals_needed, of=self.approvals_of, by=self.approvals),)


class Held(msgspec.Struct, frozen=True):
    """What must not be made again after it was undone: a partition, what it was made of, and its
    content."""

    partition: str
    code: str
    inputs: str
    digest: str


class Signal(Noun, frozen=True, kw_only=True):
    """Something noteworthy about an asset at a time.

    env      the environment that it is about; "" = it is about none
    key      tells conditions of one kind, asset and environment apart: one that is met again while
             its signal is open is counted and raises no other; "" = each raises its own
    repeats  how often the condition was met again
    last_at  when it was last counted (ns since 1970); message and evidence are of then
    """

    id: str
    asset: str
    kind: str
    severity: Literal["info", "warn", "error", "critical"]
    message: str
    onset: int
    evidence: dict[str, Any] = {}
    env: str = ""
    key: str = ""
    repeats: int = 0
    last_at: int = 0


class Incident(Noun, frozen=True, kw_only=True):
    """Correlated signals that people work on.

    assignee     the team or person that works on it, "" = nobody
    comments     how many there are; their texts stand in its events
    merged_into  the incident that took its signals and assets
    split_from   the incident that its signals belonged to
    """

    id: str
    title: str
    assets: tuple[str, ...]
    signals: tuple[str, ...]
    state: Literal["open", "closed"] = "open"
    opened_at: int = 0
    assignee: str = ""
    comments: int = 0
    merged_into: str = ""
    split_from: str = ""


# ---------------------------------------------------------------- runs and work


class Resources(Noun, frozen=True, kw_only=True):
    """What one attempt used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes_peak: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class FileSet(Noun, frozen=True, kw_only=True):
    """Some files, and which of their partitions count."""

    files: tuple[FileRef, ...]
    partitions: tuple[str, ...]


class InputRef(Noun, frozen=True, kw_only=True, dict=True):
    """An input of a work order: where its body lies.

    spec   what its kind says of it to who reads it
    reads  partition being made -> input partitions it reads; None = every call reads everything
    """

    name: str
    asset: str
    version: str = ""
    frame: str = "polars"
    sets: tuple[FileSet, ...] = ()
    spec: msgspec.Raw = NO_SPEC
    reads: dict[str, tuple[str, ...]] | None = None

    def spec_as(self, type_: type[T]) -> T:
        """Return what its kind says of it, decoded once."""
        return _decoded(self, type_)


class WorkOrder(Noun, frozen=True, kw_only=True, dict=True):
    """All that a worker needs, and all that it gets. The answer is a `WorkResult`; only the
    coordinator commits.

    references  assets that checks compare with
    spec        what the asset's kind says to its worker
    blobs       the blob store's root as this worker sees it
    pushed      partition -> blobs of what others sent for it, in the order of arrival
    audit       run the checks of `asset` on the one input instead of making partitions
    """

    id: str
    run: str
    step: str
    attempt: int
    fence: int
    asset: Asset
    partitions: tuple[str, ...]
    inputs: tuple[InputRef, ...] = ()
    references: tuple[InputRef, ...] = ()
    bundle: str = ""
    root: str = ""
    tz: str = "UTC"
    spec: msgspec.Raw = NO_SPEC
    blobs: str = ""
    project: str = ""  # the unpacked bundle
    secrets: dict[str, str] = {}  # parameter -> name; the worker asks for the value
    environment: dict[str, str] = {}
    now: int = 0
    expires_at: int = 0
    pushed: dict[str, tuple[str, ...]] = {}
    audit: bool = False

    def spec_as(self, type_: type[T]) -> T:
        """Return what the asset's kind says to its worker, decoded once."""
        return _decoded(self, type_)


class PartOutput(Noun, frozen=True, kw_only=True):
    """One partition that a worker wrote."""

    partition: str
    digest: str
    rows: int
    files: tuple[FileRef, ...] = ()


class WorkResult(Noun, frozen=True, kw_only=True):
    """A worker's answer."""

    order: str
    attempt: int
    fence: int
    ok: bool
    outputs: tuple[PartOutput, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    schema: tuple[tuple[str, str], ...] = ()
    resources: Resources = Resources()
    log: str = ""
    error_code: str = ""
    error: str = ""
    hint: str = ""
    where: str = ""
    retryable: bool = False


# ---------------------------------------------------------------- the ledger


class Event(Noun, frozen=True, kw_only=True):
    """One entry of the ledger before it is sealed, CloudEvents-shaped. `data` is JSON; `cause` is
    the id of the event that brought this one about, "" for what comes from outside. `time` is set
    by the ledger."""

    id: str
    type: str  # dotted, past tense: `release.proposed`
    subject: str  # the asset, release, run ... it is about
    actor: str
    data: msgspec.Raw
    cause: str = ""
    v: int = 1
    time: int = 0


class Envelope(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """What is hashed into the tree, as stored, byte for byte. `hash` is hex SHA-256(salt + payload
    bytes)."""

    seq: int
    id: str
    type: str
    v: int
    time: int
    actor: str
    subject: str
    cause: str
    hash: str
