"""The types of answers that are not nouns: rows of lists, views put together. JSON-ready.

The views return them, the command line prints them, HTTP sends them, and the API's description is
made from them.
"""

from typing import Any, Generic, NotRequired, TypedDict, TypeVar

import msgspec

from sextant.kernel.nouns import CheckResult, Need, Release

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list, newest first. `next` is what to pass as `after` for the page behind it,
    "" at the end."""

    items: list[T]
    next: str = ""


class FailingRows(TypedDict):
    """`positions`: row numbers from 0, in the order in which the step returned them; none where
    what fails are no rows of the table (groups, rows of a query)."""

    positions: list[int]
    rows: list[dict[str, Any]]


class Project(TypedDict):
    """What a project is, and where commands go that name no environment."""

    project: str
    tz: str
    owner: str
    environment: str
    environments: list[str]
    assets: int
    teams: dict[str, list[str]]
    deputies: dict[str, dict[str, str]]  # team -> who stands in for a member, until when
    problem: str
    problem_lines: list[str]
    version: str


class AssetStatus(TypedDict):
    """What is live of one asset, and what is due. `looks_back`: how far back each run reads a
    source again ("" = it does not); that is not counted in `to_run`."""

    asset: str
    state: str  # failed, waiting, missing, held, stale, due, rolling or live
    owner: str
    tier: int
    version: str
    from_env: str
    published_at: str
    rows: int
    partitions: int
    to_run: dict[str, int]
    looks_back: str
    stale: int
    held: int
    rolling: str  # its release that is being rolled out, or taken back
    held_by_incident: str  # an open incident about one of its inputs
    waiting: int


class SignalSeen(TypedDict):
    """A signal, and when it was closed ("" = open). `onset` and `last_at` are ns since the epoch.

    env      the environment that it is about, "" = none
    repeats  how often its condition was met again, last counted at `last_at`; message and evidence
             are of then
    """

    id: str
    asset: str
    env: str
    kind: str
    severity: str
    message: str
    onset: int
    closed_at: str
    evidence: NotRequired[dict[str, Any]]
    key: NotRequired[str]
    repeats: NotRequired[int]
    last_at: NotRequired[int]


class IncidentSeen(TypedDict):
    """An incident, and when it was closed ("" = open). `assignee`: the team or person that works on
    it; `merged_into`, `split_from`: the incident that took its signals, or that had them before."""

    id: str
    title: str
    assets: list[str]
    signals: list[str]
    state: str
    closed_at: str
    assignee: str
    comments: int
    merged_into: str
    split_from: str
    opened_at: NotRequired[int]


class IncidentEvent(TypedDict):
    """One event of an incident, and the events that caused it, the nearest first.

    change    opened, closed, reopened, commented, assigned, merged, absorbed or split
    comment   what somebody wrote: a comment, or the reason for closing or reopening
    assignee  of `assigned`: to whom
    other     the incident that it was merged into, that it absorbed, or that was split off
    """

    event: str
    at: str
    by: str
    change: str
    comment: str
    assignee: str
    other: str
    because: "list[Link]"


class IncidentShown(IncidentSeen):
    """An incident with its signals and its timeline, the oldest event first. `cut`: there are
    earlier events, which `sextant ledger show` lists."""

    signals_seen: list[SignalSeen]
    timeline: list[IncidentEvent]
    cut: bool


class IncidentNow(TypedDict):
    """How an incident stands after something was done to it.

    open_signals  those of its signals that are not closed
    other         the incident that it was merged into, or that was split off
    """

    incident: str
    state: str
    assignee: str
    comments: int
    open_signals: list[str]
    other: str


class Inbox(TypedDict):
    """Pushed rows of a dataset that are not part of it yet. `batches` and `rows` wait since
    `since` ("" = none does); `refused` counts batches that cannot become rows."""

    dataset: str
    batches: int
    rows: int
    since: str
    refused: int


class Status(TypedDict):
    """The whole of an environment: what is live, stale, held and waiting, and what needs a
    person."""

    project: str
    env: str
    assets: list[AssetStatus]
    signals: list[SignalSeen]
    incidents: list[IncidentSeen]  # open ones
    waiting: list[dict[str, Any]]
    yours: list[str]  # ids of those that wait for approval, and that who asks may approve
    runs_open: list["RunNow"]
    failed_run: str  # the newest run of the environment, if it failed
    inbox: list[Inbox]
    load_problem: str  # of the folder, for who works on it
    folder: str  # the version of the project that it has, where an older one is in force; else ""
    telemetry_off: str  # why, and the command that installs it; "" when it is on


class GraphNode(TypedDict):
    id: str
    kind: str
    owner: str
    tier: int
    mode: str
    description: str
    tags: list[str]
    live_in: list[str]  # environments that have a version of their own of it


class GraphEdge(TypedDict):
    source: str
    target: str
    kind: str


class GraphSeen(TypedDict):
    """Assets, upstream first, and the edges between them. `kinds`: how many there are of each."""

    assets: list[GraphNode]
    edges: list[GraphEdge]
    kinds: dict[str, int]


class ColumnAsset(TypedDict):
    """An asset on the way of a column, with those of its columns that are on the way.

    how         what is known of where its columns come from: query, code (its inputs, but not which
                column of them), pushed, unread (a query that is not understood or was not kept), or
                "" = nothing makes it here
    note        the same in words, where it is not a query
    defined_by  the definition whose values it holds, "" = none
    columns     name -> type; the type is "" where nothing is live
    """

    id: str
    kind: str
    how: str
    note: str
    defined_by: str
    columns: dict[str, str]


class ColumnEdge(TypedDict):
    """What depends on what.

    source_column  "" = the asset as a whole: which of its columns is not known
    target_column  "" = the rows of the asset, or any of its columns
    kind           value: it flows into the value; rows: it decides which rows there are; whole: the
                   asset is read by code, or by a query that is not understood
    """

    source: str
    source_column: str
    target: str
    target_column: str
    kind: str


class ColumnsSeen(TypedDict):
    """What a column is made of and what stands on it, over all steps; or each column of an asset.

    columns  all of the asset that was asked for: name -> type
    assets   upstream first
    cut      what was left out, in words; "" = nothing
    """

    env: str
    asset: str
    column: str
    columns: dict[str, str]
    assets: list[ColumnAsset]
    edges: list[ColumnEdge]
    cut: str


class PictureNode(TypedDict):
    """An asset, or a cluster of several: then `kind` and `owner` are "".

    id      of the asset; of a cluster how it was made, `owner:data/kind:dataset`: it is opened by
            that
    tier    the least of all inside
    state   how it stands; of a cluster the worst inside
    count   assets inside
    states  of a cluster: state -> how many stand so, the worst first
    column  from 0 on, causes before effects
    row     from 0 on, with at least 1 between two of a column
    """

    id: str
    name: str
    kind: str
    owner: str
    tier: int
    state: str
    count: int
    states: dict[str, int]
    column: int
    row: float


class PictureEdge(TypedDict):
    """What stands on what. `count`: edges between the assets inside."""

    source: str
    target: str
    count: int


class Picture(TypedDict):
    """A picture of the graph. `assets`: how many it shows, in clusters or not; `columns`, `rows`:
    its size."""

    nodes: list[PictureNode]
    edges: list[PictureEdge]
    assets: int
    columns: int
    rows: float


class SearchHit(TypedDict):
    """Something that was found, and where it matched.

    noun     asset, check, team, policy, environment, run, release, incident, signal or version
    id       as commands take it; of a check its name
    asset    the asset that it belongs to, "" = none
    matched  id, name, near name (spelled nearly so), or the field: owner, tag, column,
             documentation, member, file ...
    text     what stands there
    """

    noun: str
    id: str
    title: str
    asset: str
    matched: str
    text: str


class Search(TypedDict):
    """What was found, the best first; `cut`: there may be more."""

    hits: list[SearchHit]
    cut: bool


class VersionSeen(TypedDict):
    """One version in the history of an asset: what made it, what it changed, how it stands in an
    environment."""

    version: str
    state: str
    created_at: str
    rows: int
    run: str
    parent: str
    changed: list[str]
    locator: str
    expired: bool


class EventSeen(TypedDict):
    """One entry of the ledger. `data` is its payload, or the word `erased`."""

    seq: int
    id: str
    type: str
    at: str
    actor: str
    subject: str
    cause: str
    data: Any


class Link(TypedDict):
    """One event in a chain of causes."""

    event: str
    type: str
    subject: str
    actor: str
    at: str
    seq: int


class Change(TypedDict):
    """Something that changed upstream of an asset, and how to undo it. `run` made the version
    first."""

    asset: str
    owner: str
    at: str
    release: str
    intent: str
    by: str
    reason: str
    run: str
    version: str
    partitions: list[str]
    changed: str
    chain: list[Link]
    undo: str


class FailedCheck(TypedDict):
    """A check that failed. `is_live`: the rows that it found wrong are live now."""

    asset: str
    name: str
    partition: str
    severity: str
    failed: int
    rows: int
    message: str
    run: str
    version: str
    at: str
    is_live: bool


class PartitionRun(TypedDict):
    """Neighbouring partitions that stand equally; with `states` several that do not (state -> how
    many), of which `state` is the worst."""

    state: str
    first: str
    last: str
    count: int
    states: NotRequired[dict[str, int]]


class PartitionSeen(TypedDict):
    """One partition: how it stands and why; of a live one its rows, the run that made it and when,
    and digests of what made it and of its content."""

    partition: str
    state: str
    reason: str
    rows: int
    run: str
    at: str
    code: str
    digest: str


class PartitionsSeen(TypedDict):
    """How partitions stand: failed, refused, missing, held, stale, waiting, due, running or live.

    states      state -> how many, the worst first
    runs        in order, without gaps
    partitions  the facts of the first ones, when they were asked for; `cut`: there are more
    """

    asset: str
    env: str
    grain: str
    count: int
    states: dict[str, int]
    runs: list[PartitionRun]
    partitions: NotRequired[list[PartitionSeen]]
    cut: NotRequired[bool]


class Frequent(TypedDict):
    """A frequent value of a column, and how many rows have it."""

    value: str
    count: int


class Lengths(TypedDict):
    """Lengths of texts in characters, of bytes in bytes."""

    low: int
    high: int
    mean: float


class ColumnFacts(TypedDict):
    """What the values of a column are like in some partitions. Values are as rows show them: times
    as ISO texts. Of a personal column there are counts only; what a column's type does not have is
    null or empty.

    nulls, nans, infinite  how many; NaN is not among the values, infinities are
    distinct_error         standard error of `distinct`, relative to it; 0 = it is exact
    mean, deviation        of finite values
    quantiles              share -> the value that it reaches
    edges, counts          stretches of equal length, one edge more than counts, and about how many
                           values lie in each
    top, top_exact         most frequent texts or truths; whether their counts are exact
    sampled                quantiles, stretches and `top` are of a sample
    """

    rows: int
    nulls: int
    nans: int
    infinite: int
    distinct: int | None
    distinct_error: float
    low: Any
    high: Any
    mean: Any
    deviation: float | None
    quantiles: dict[str, Any]
    edges: list[Any]
    counts: list[int]
    top: list[Frequent]
    top_exact: bool
    lengths: Lengths | None
    sampled: bool


class ColumnChange(TypedDict):
    """How far a column is from what it was: differences, after less before.

    nulls_share  of the share of rows that are null
    mean         of means; null for what is not a number
    shift        the largest difference between the shares of values below any value, 0 to 1; null
                 for what has no order, or is hidden
    """

    rows: int
    nulls_share: float
    distinct: int | None
    mean: float | None
    shift: float | None


class ColumnSeen(TypedDict):
    """A column: as it is, and as it was in what it is compared with. `hidden`: it is personal."""

    name: str
    type: str
    hidden: bool
    now: ColumnFacts | None
    before: ColumnFacts | None
    change: ColumnChange | None


class ProfileSide(TypedDict):
    """Which partitions of a version are in a profile: `partitions` of them, with `rows`; `missing`
    have none, from the first to the last of them; `damaged`: what is wrong with files."""

    version: str
    partitions: int
    rows: int
    missing: int
    missing_first: str
    missing_last: str
    damaged: list[str]


class ProfileSeen(TypedDict):
    """The columns of a version, beside those of another one where it was asked for."""

    asset: str
    env: str
    now: ProfileSide
    before: ProfileSide | None
    columns: list[ColumnSeen]
    hint: str


class TimelineItem(TypedDict):
    """Something that happened to an asset.

    seq, event  the entry of the ledger
    noun     version, release, run, check, signal, incident, decision, declaration or report
    change   what happened to it, such as created, live, undo live, rejected, failed, closed
    subject  what it is about: an id, or the asset
    because  the events that caused it, the nearest first
    """

    seq: int
    event: str
    at: str
    noun: str
    change: str
    subject: str
    by: str
    reason: str
    version: str
    run: str
    because: list[Link]


class Cause(TypedDict):
    """Something that moved a business number, or may have.

    what         as that of a bar of a waterfall, or: release of another tool
    amount       by how much, and what the number is `without` it, as decimals; "" = not derived
    sure         proven: derived without it; likely: otherwise
    probability  0 to 1
    path         the assets from it to the number, where it was not derived
    grounds      in words
    """

    what: str
    text: str
    asset: str
    owner: str
    by: str
    at: str
    release: str
    amount: str
    without: str
    sure: str
    probability: float
    path: list[str]
    grounds: list[str]
    undo: str


class Coverage(TypedDict):
    """Something that a number stands on: read, stale (not heard of since the time before) or
    absent. `at`: when it was last heard of."""

    asset: str
    state: str
    at: str


class Moved(TypedDict):
    """What moved a business number from one time to another.

    verdict      proven, likely, none of ours, nothing moved, or not derived: changes were made that
                 can matter, and what the number is without them is not known yet
    probability  that the verdict is right; a source that was not read lowers it
    causes       the most probable first
    cost         what has to be derived to know more
    """

    before: "WaterfallSide"
    after: "WaterfallSide"
    difference: str
    restated: "Restated"
    verdict: str
    probability: float
    causes: list[Cause]
    coverage: list[Coverage]
    cost: "DerivationCost"
    notes: list[str]


class PromiseSeen(TypedDict):
    """What a release was expected to do to a business number, and what it did.

    owner     the team of what was released, then
    number    the business number
    promised  with its sign, in percent (`%`) or in the number's unit; `realised` likewise, "" = it
              is not known
    due_at    "" = the release is not live yet
    outcome   open, kept, short, missed, taken back or unknown
    without   what the number had been with nothing changed since just before the release
    sure      proven or likely
    run       that derived it
    """

    release: str
    asset: str
    env: str
    owner: str
    by: str
    number: str
    promised: str
    within_s: float
    text: str
    due_at: str
    outcome: str
    realised: str
    without: str
    sure: str
    run: str
    message: str


class TeamPromises(TypedDict):
    """How a team keeps what it promises; `other`: taken back, or unknown."""

    team: str
    open: int
    kept: int
    short: int
    missed: int
    other: int


class PromisesSeen(TypedDict):
    promises: list[PromiseSeen]
    teams: list[TeamPromises]


class Proof(TypedDict):
    """A difference of a business number, and what it takes to ask for it again: of the same ledger
    it follows the same, whoever asks.

    before, after         parts of time, as the question names them
    known_from, known_to  positions in the ledger, as `#123`
    size, root            of the ledger when it was made (RFC 6962): the root of its first entries
    contents              digest over what all partitions were made of, and by which code
    cases                 sets of changes, as bit masks -> the number with only these; "" = none
    """

    format: str
    asset: str
    env: str
    before: str
    after: str
    known_from: str
    known_to: str
    by: list[str]
    size: int
    root: str
    contents: str
    cases: dict[str, str]
    waterfall: "WaterfallSeen"


class ProofChecked(TypedDict):
    """A proof that was followed again.

    differs     what did not come out as it says; [] = it holds
    partitions  that were made again, by `run`
    cases       in which the number was looked at
    """

    asset: str
    env: str
    holds: bool
    differs: list[str]
    run: str
    partitions: int
    cases: int


class Why(TypedDict):
    """`reason`: a sentence or two. Of an asset: `changes`, newest first. Of a business number also
    what `moved` it. Of the id of a run, release, signal, incident or event: `chain`."""

    reason: str
    asset: NotRequired[str]
    moved: NotRequired[Moved]
    env: NotRequired[str]
    changes: NotRequired[list[Change]]
    subject: NotRequired[str]
    chain: NotRequired[list[Link]]


class KpiCompared(TypedDict):
    """Values of a business number over another time."""

    since: str
    until: str
    total: Any  # over all of that time
    rows: list[dict[str, Any]]


class KpiSeen(TypedDict):
    """Values of a business number; a row holds the dimensions asked for, `bucket` with a grain,
    `value`, and where it was asked for `state`: how the partitions of that bucket stand.

    since, until  the part of time that was asked for, half-open ("" = open); a bucket belongs to it
                  by its start
    hidden        what of it is personal, for who may not see that; a dimension is left out, `value`
                  is masked
    thinned_from  of how many rows these are the first, the last, the least and the greatest ones
    total         the value over the part of time that was asked for
    moved         what each value of the dimensions has moved the number from the time that it is
                  compared with, the greatest first: what the earlier number would have changed by,
                  had only this one changed. Left out where parts do not add up or are too many
    """

    kpi: str
    definition: str
    version: str
    unit: str
    format: str  # how people read a value: a format specification of Python
    over_time: str  # of a stock: which bucket stands for a longer time
    by: list[str]
    grain: str
    goal: str
    goal_value: Any  # over the goal's own window, which ends with the newest bucket
    goal_met: bool | None
    rows: list[dict[str, Any]]
    grains: list[str]  # that it can be read by, the finest first
    dimensions: list[str]  # that it can be split by
    since: str
    until: str
    hidden: NotRequired[list[str]]
    thinned_from: NotRequired[int]
    total: NotRequired[Any]
    compared: NotRequired[KpiCompared]
    moved: NotRequired[list[dict[str, Any]]]


class WaterfallSide(TypedDict):
    """One end of a difference: a number over a part of time (half-open, "" = all of it) as it was
    known at a moment.

    known  the position of that moment in the ledger
    """

    since: str
    until: str
    known_at: str
    known: int
    value: str


class WaterfallBar(TypedDict):
    """A part of a difference. Numbers are decimals as texts, so that no digit is lost.

    what      movement: the rows themselves; rows: other rows of a source; code; definition;
              version: released by hand; undo; earlier: many changes as one; together: changes that
              cannot be told apart (`changes`); not attributed
    of        of a movement by dimensions their values; {} = all others
    sure      proven: derived without it; likely: an interval that reaches 0, or rows that are not
              kept any more
    interval  of a sampled share, 95 %
    without   what the number after would be without this change
    kept      false where rows or code of it are not kept any more
    undo      the command that takes it back; "" = there is none
    """

    what: str
    text: str
    amount: str
    sure: str
    asset: str
    owner: str
    release: str
    by: str
    at: str
    reason: str
    run: str
    version: str
    partitions: int
    undo: str
    of: NotRequired[dict[str, Any]]
    interval: NotRequired[list[str]]
    without: NotRequired[str]
    kept: NotRequired[bool]
    changes: NotRequired[list[Any]]


class Restated(TypedDict):
    """The number over the time before, as it was known then and as it is known now; "" = none."""

    then: str
    now: str
    by: str


class DerivationCost(TypedDict):
    """What has to be derived for an answer; `seconds` is expected."""

    steps: int
    partitions: int
    seconds: float


class BisectStep(TypedDict):
    """A state between two moments that was looked at.

    changes  so many of them, the oldest first, had happened
    state    the number as a decimal, or "passed" or "failed" of a check; "" where it has none
    like     "before" or "after": the moment that it is like; "" = it cannot be told
    message  of a check, or why there is no number
    """

    changes: int
    state: str
    like: str
    message: str


class BisectSeen(TypedDict):
    """The change that turned a number or a check between two moments.

    since, until   the part of time; "" = all of it
    before, after  the states at the two moments
    changes        how many were made between them
    found          that did it: one, or several of which it cannot be told which one
    sure           proven: the state without it and with it was derived; likely: otherwise
    steps          what was looked at, in this order
    runs           that derived
    """

    asset: str
    env: str
    check: str
    unit: str
    format: str
    since: str
    until: str
    before: BisectStep
    after: BisectStep
    changes: int
    found: list[WaterfallBar]
    sure: str
    steps: list[BisectStep]
    runs: list[str]
    notes: list[str]


class WaterfallSeen(TypedDict):
    """A difference of a business number as a sum.

    bars     add up to `difference` exactly; left out while something has to be derived first
    changes  what was changed between the two moments and can matter, oldest first
    cases    sets of changes in which the number is looked at
    sampled  the shares are of some of the orders in which changes can come, with an interval
    run      that derived; "" = all was known
    """

    asset: str
    env: str
    unit: str
    format: str
    by: list[str]
    before: WaterfallSide
    after: WaterfallSide
    difference: str
    restated: Restated
    changes: list[WaterfallBar]
    cases: int
    sampled: bool
    cost: DerivationCost
    run: str
    notes: list[str]
    bars: NotRequired[list[WaterfallBar]]


class SessionSeen(TypedDict):
    """A signed-in browser. `how`: by `password`, or by the `link` that `sextant up` printed."""

    id: str
    person: str
    role: str
    how: str
    created_at: str
    expires_at: str


class EnvironmentSeen(TypedDict):
    name: str
    parent: str
    created_at: str
    frozen: bool  # nothing moves in it
    expires_at: str  # when it goes by itself; "" = never


class Printed(TypedDict):
    """What one attempt of a step printed; while its run goes on, a piece of that."""

    step: str
    attempt: int
    at: str
    text: str


class RunLog(TypedDict):
    """What the steps of a run printed, from a position on.

    after    the position from which it begins: the one that was asked for, unless what came next
             there is gone
    next     where the following question goes on; "" = all of it has been given
    running  the run goes on: more may come
    cut      something before `after` is left out of it; it is kept when the run has ended
    """

    run: str
    printed: list[Printed]
    after: str
    next: str
    running: bool
    cut: bool


class Reported(TypedDict):
    """What was recorded of another tool. `new`: the asset was not known before."""

    asset: str
    type: str
    event: str
    new: bool


class Finding(TypedDict):
    """One thing that `doctor` looked at. `warn`: worth a look, and nothing wrong by itself."""

    name: str
    ok: bool
    warn: bool
    found: str
    hint: str


class DataFinding(TypedDict):
    """A file of a version, or rows in it, that are not what was written. `partitions`: one, or the
    first and the last."""

    asset: str
    version: str
    partitions: str
    file: str
    found: str
    hint: str


class DataChecked(TypedDict):
    """What a check of all data has read and found. `partitions`: different ones whose rows were
    hashed; `recorded`: files that got a digest, which they did not have; `profiled`: files that got
    profiles of their columns; `left_out`: findings beyond the limit."""

    versions: int
    files: int
    size_bytes: int
    partitions: int
    recorded: int
    profiled: int
    findings: list[DataFinding]
    left_out: int
    notes: list[str]


class Collected(TypedDict):
    """What a collection expired, or would."""

    expire: list[str]
    prune_runs: list[str]
    freed_bytes: int


class LedgerFinding(TypedDict):
    table: str
    seq: int
    message: str


class GapSeen(TypedDict):
    """Two checkpoints that stand next to each other, where the second does not name the first: the
    events under each, and the hashes of their notes."""

    size: int
    note: str
    next_size: int
    next_note: str


class Verified(TypedDict):
    """What a verification of the ledger found. `gaps_noted`: gaps between checkpoints that
    `ledger repair` has noted."""

    ok: bool
    events: int
    erased: int
    checkpoints: int
    signed: int
    gaps_noted: int
    witnessed: int
    root: str
    findings: list[LedgerFinding]


class Pushed(TypedDict):
    """Rows that were taken for a dataset. `batch` identifies them; `again`: they had been taken
    before."""

    dataset: str
    batch: str
    rows: int
    again: bool


class BatchSeen(TypedDict):
    """A pushed batch that is not part of its dataset yet: `waiting`, or `refused` with the
    error."""

    batch: str
    state: str
    rows: int
    by: str
    taken_at: str
    error: str


class BatchDropped(TypedDict):
    """A batch that was given up, and how many rows went with it."""

    dataset: str
    batch: str
    rows: int
    dropped: bool


class LogLine(TypedDict):
    """A line of a log as it was sent. `level`: trace, debug, info, warn, error, fatal, or the
    sender's own word; ids are "" where the sender gave none."""

    at: str
    asset: str
    level: str
    body: str
    trace_id: str
    span_id: str
    attributes: dict[str, str]


class LogsFound(TypedDict):
    """Lines, newest first.

    cut         there are more lines than were asked for
    scanned     the search text was looked for in the lines, since no index has it
    lines_read  lines that the store read for the answer
    """

    lines: list[LogLine]
    cut: bool
    scanned: bool
    lines_read: int


class ServiceSeen(TypedDict):
    """Something that sent telemetry, and the requests (and messages) that it answered by its spans.

    p95_ns  their 95th percentile of duration; None where there was none
    """

    asset: str
    owner: str
    last_seen: str
    requests: int
    requests_per_s: float
    errors: int
    p95_ns: int | None


class ServicesFound(TypedDict):
    """Services, those with errors first, then the busiest. `length_s`: of the window; `cut`: there
    are more than were asked for."""

    services: list[ServiceSeen]
    length_s: int
    cut: bool


class TraceSeen(TypedDict):
    """A trace in a list. `root`, `asset` and `duration_ns` are its root span's; where that was not
    sent here (`rooted` is false), those of its longest span. A span that was sent twice counts
    once."""

    trace_id: str
    at: str
    asset: str
    root: str
    rooted: bool
    duration_ns: int
    spans: int
    errors: int


class TracesFound(TypedDict):
    """Traces, newest or slowest first.

    cut             there are more than were asked for
    looked_at_some  so many spans meet the conditions that only the newest (or slowest) 100,000 were
                    looked at: traces beyond may be missing
    """

    traces: list[TraceSeen]
    cut: bool
    looked_at_some: bool


class SpanEvent(TypedDict):
    """What happened within a span; an exception has `exception.type` and `exception.message`."""

    at: str
    name: str
    attributes: dict[str, str]


class SpanSeen(TypedDict):
    """A span, and its place in the tree of its trace.

    depth      how many of the shown spans it stands under
    skipped    spans between it and the one above it that are not shown
    note       why it stands at the top where it is no root: its parent is not here, or a circle
    offset_ns  its start, counted from that of the trace
    """

    span_id: str
    parent_span_id: str
    depth: int
    skipped: int
    note: str
    at: str
    offset_ns: int
    duration_ns: int
    asset: str
    name: str
    kind: str
    status: str
    status_message: str
    attributes: dict[str, str]
    resource: dict[str, str]
    events: list[SpanEvent]


class TraceFacts(TypedDict):
    """A trace. `spans` and `errors` count all of it, whatever is shown; `duration_ns` is from the
    first start to the last end.

    under          the span whose part of the trace is shown; "" = all
    shown          spans in `rows`, in the order of the tree: all, or the roots, the errors and the
                   slowest ones, with what stands above them
    hidden         spans that are not shown, of all or of that part; `errors_hidden` of them failed
    """

    trace_id: str
    at: str
    duration_ns: int
    spans: int
    errors: int
    under: str
    shown: int
    hidden: int
    errors_hidden: int
    rows: list[SpanSeen]


class MetricSeen(TypedDict):
    """A metric in a list. `stored_as`: the names of its samples; a histogram has several."""

    metric: str
    kind: str
    unit: str
    series: int
    last_seen: str
    stored_as: list[str]


class MetricsFound(TypedDict):
    """Metrics by name; `cut`: there are more."""

    metrics: list[MetricSeen]
    cut: bool


class SeriesSeen(TypedDict):
    """What the series with these labels come to: their sum, in each step of time.

    of      the labels; {} = all series
    series  how many were summed up
    points  (seconds since the epoch, value) of each step that has one
    trace   a trace that an exemplar of these series names; "" = none does
    """

    of: dict[str, str]
    last: Any
    lowest: Any
    highest: Any
    series: int
    points: list[tuple[int, Any]]
    trace: str


class HistogramSeen(TypedDict):
    """What histograms with these labels took: how many values, their sum and average. None:
    nothing to divide, or no sum was sent.

    quantiles  level -> the value below which that share of them lies
    points     (seconds since the epoch, values, average, the quantile of the first level) of each
               step
    trace      the trace of the largest value that an exemplar names, which is `trace_value`;
               "" = none does
    """

    of: dict[str, str]
    count: Any
    sum: Any
    average: Any
    quantiles: dict[str, Any]
    points: list[tuple[int, Any, Any, Any]]
    trace: str
    trace_value: Any


class MetricFacts(TypedDict):
    """A metric and its series: `series`, or `histogram` where it is stored as one.

    metric     the name that was meant;  stored_as  those of its samples
    rate       `series` has growth a second
    step_s     seconds of one step
    cut        there are more series than were asked for
    """

    metric: str
    kind: str
    unit: str
    stored_as: list[str]
    rate: bool
    step_s: int
    series: list[SeriesSeen]
    histogram: list[HistogramSeen]
    cut: bool


class TokenSeen(TypedDict):
    """A token, without its secret. `root`: the person who answers for it; `stopped`: why it opens
    nothing, "" when it does."""

    id: str
    name: str
    kind: str
    role: str
    scopes: list[str]
    teams: list[str]
    on_behalf_of: str
    root: str
    made_by: str
    created_at: str
    expires_at: str
    revoked_at: str
    used_at: str
    stopped: str


class TokenMade(TokenSeen):
    """A new token with its secret, which is shown once and stored nowhere."""

    secret: str


class AccountSeen(TypedDict):
    """A person's account on the server."""

    name: str
    role: str
    teams: list[str]
    created_at: str
    disabled: bool


class StepSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that did not end well."""

    step: str
    error: str
    code: str = ""
    hint: str = ""
    where: str = ""
    log: str = ""


# of a release that does not become live without a person
BAD_STATES = ("paused", "rejected", "undoing", "rolled_back", "stuck")


class ReleaseSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A release of a run as it stands. `due_at`: when it is worked on again (ns since 1970);
    `after`: the release that must be live first."""

    id: str
    state: str
    assets: tuple[str, ...]
    intent: str = "release"
    strategy: str = "publish"
    step: int = 0
    steps: int = 1
    reason: str = ""
    due_at: int = 0
    after: str = ""

    @classmethod
    def of(cls, release: Release) -> "ReleaseSummary":
        """Return what is said of a release."""
        return cls(
            id=release.id,
            state=release.state,
            assets=tuple(move.asset for move in release.moves),
            intent=release.intent,
            strategy=release.strategy.kind,
            step=release.step,
            steps=len(release.strategy.steps),
            reason=release.error or release.reason,
            due_at=release.due_at,
            after=release.after,
        )


class ToApprove(msgspec.Struct, frozen=True, kw_only=True):
    """Releases that are to be approved together, as they are shown.

    plan  names exactly these, and what each of them does
    """

    releases: tuple[Release, ...]
    plan: str


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an upload.

    version  of the project; "" = files are missing, and nothing was recorded
    missing  digests of files whose content has to be sent
    notes    what is different from where it came from, and works all the same
    """

    version: str = ""
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ProjectMove(msgspec.Struct, frozen=True, kw_only=True):
    """What a version of the project would bring to an environment: that of the folder, or one that
    was uploaded.

    source, target  the version in force there ("" = none yet), and the other one
    older           the other one was made before: it takes back what came since
    commit          of git, that it was made at; "" = none
    uncommitted     the first files that differ from it
    changes         what differs, as `sextant diff` says it
    verdict         what is in force there says: allow, approval or deny
    reasons         its rules that speak
    needs           who must approve
    """

    env: str
    asset: str
    source: str
    target: str
    older: bool = False
    commit: str = ""
    uncommitted: tuple[str, ...] = ()
    changes: dict[str, Any] = {}
    verdict: str = "allow"
    reasons: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()


class RunProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a run is while it goes on, and what its answer streams meanwhile; or whom it waits
    for.

    step     the step that has started or ended
    ended    steps that have ended, well or not, of `total`
    failed   of these, the ones that failed
    skipped  steps that will not run: something that they stand on failed
    left     steps that have not begun
    rows     made by those that ended
    running  steps that run now, the oldest first, the first 16; `since` says since when (ns since
             1970)
    seconds_left  until all have ended, by how long steps of the same assets took; None = not known
    at       when this was so (ns since 1970)
    """

    step: str = ""
    ended: int = 0
    total: int = 0
    rows: int = 0
    running: tuple[str, ...] = ()
    waits: str = ""
    failed: int = 0
    skipped: int = 0
    left: int = 0
    since: dict[str, int] = {}
    seconds_left: float | None = None
    at: int = 0


class RunNow(TypedDict):
    """A run that has not ended, and how far it is."""

    id: str
    env: str
    trigger: str
    by: str
    started_at: int
    progress: RunProgress


class RunReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run did. `state`: finished, refused (a check said no), failed, cancelled."""

    id: str
    env: str
    state: str
    steps: int = 0
    computed: int = 0
    reused: int = 0
    rows: int = 0
    wall_s: float = 0.0
    release: str = ""
    published: dict[str, str] = {}
    rejected: dict[str, str] = {}  # asset -> release id
    held: dict[str, tuple[str, ...]] = {}  # asset -> partitions that came out as what was undone
    failed: tuple[StepSummary, ...] = ()
    skipped: tuple[str, ...] = ()
    warned: tuple[CheckResult, ...] = ()
    broken: tuple[CheckResult, ...] = ()  # foreign keys of live tables that this run broke
    refused: tuple[CheckResult, ...] = ()
    # asset -> other environments in which what this run brought was undone
    withdrawn_in: dict[str, tuple[str, ...]] = {}
    waiting: str = ""  # the release waits for approval
    releases: tuple[ReleaseSummary, ...] = ()  # one for each release of the run
    rolling: dict[str, str] = {}  # asset -> its earlier release that is on its way: nothing made
    # asset -> how many partitions are stale by their code, and were not asked for
    stale: dict[str, int] = {}
    resumed: bool = False
    project: str = ""  # the version of the project that the run has put in force before

    @property
    def exit_code(self) -> int:
        taken_back = not self.id  # a release that was not live yet: as it was asked for
        states = ("stuck",) if taken_back else BAD_STATES
        if self.state == "finished" and any(one.state in states for one in self.releases):
            return 1
        return {"finished": 0, "refused": 1, "cancelled": 130}.get(self.state, 3)


class TakenBack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An asset that an undo takes back.

    version     that is live, and `before` the one whose content comes back; "" = none
    restored    partitions that go back to what they were, `removed` those that were not there
    partitions  their keys: the first 1,000
    """

    asset: str
    version: str
    before: str = ""
    restored: int = 0
    removed: int = 0
    partitions: tuple[str, ...] = ()


class MadeAgain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an undo derives again of an asset: partitions, how many of them are taken from kept
    versions, and seconds of work for the others (None = nobody knows)."""

    asset: str
    partitions: int = 0
    reused: int = 0
    seconds: float | None = 0.0


class RollbackPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an undo of an asset's release would do.

    release     that is undone, by whom (`by`), when and why it was made
    aborts      it is rolled out now, and would be aborted
    verdict     what the rules say to whoever asks: allow or deny; `reasons`: the rules that speak.
                An undo waits for nobody's approval
    problem     why it cannot be undone, with the error's code and hint; "" = it can
    """

    env: str
    asset: str
    release: str = ""
    by: str = ""
    at: str = ""
    reason: str = ""
    aborts: bool = False
    taken_back: tuple[TakenBack, ...] = ()
    made_again: tuple[MadeAgain, ...] = ()
    verdict: str = "allow"
    reasons: tuple[str, ...] = ()
    problem: str = ""
    code: str = ""
    hint: str = ""


class UndoItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One move of a release that is to be taken back. `action`: undo what is live, abort what is
    rolled out, refuse what waits. `problem`: why it cannot be."""

    env: str
    asset: str
    release: str
    action: str
    version: str
    before: str = ""
    by: str = ""
    at: int = 0
    problem: str = ""


class UndoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be taken back of what an actor did since an instant (ns since 1970), newest first.

    impossible  what cannot be, with its problems
    left        type of event -> how many of the actor's no undo takes back
    digest      names exactly this plan
    """

    who: str
    since: int
    env: str
    impossible: tuple[UndoItem, ...]
    items: tuple[UndoItem, ...]
    left: dict[str, int]
    digest: str


class UndoDone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one item of a plan: the releases that took it back, or why not."""

    item: UndoItem
    releases: tuple[ReleaseSummary, ...] = ()
    error: str = ""
    code: str = ""


class UndoReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken back. `runs`: those that derived again what stands on it."""

    plan: UndoPlan
    done: tuple[UndoDone, ...]
    runs: tuple[str, ...] = ()
