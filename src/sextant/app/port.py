"""`Platform`: every command as a method. In this process (`operations.py`) or at a server
(`remote.py`), with the same answers and errors.

`env=""` means the environment that the project names; lists come in pages, newest first.
`OPERATIONS` says where each method stands in the HTTP API and what it needs of who asks; the
routes, the client and the API's description are made from it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

from sextant.kernel.answers import (
    AccountSeen,
    BatchDropped,
    BatchSeen,
    Collected,
    DataChecked,
    EnvironmentSeen,
    EventSeen,
    FailingRows,
    Finding,
    GapSeen,
    GraphSeen,
    IncidentSeen,
    KpiSeen,
    LogsFound,
    MetricFacts,
    MetricsFound,
    Page,
    Printed,
    Project,
    Pushed,
    Reported,
    RunReport,
    SignalSeen,
    Status,
    TokenMade,
    TokenSeen,
    TraceFacts,
    TracesFound,
    Verified,
    VersionSeen,
    Why,
)
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import CheckResult, Noun, Release
from sextant.kinds.dataset.plan import Plan

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may


Of = Literal["", "asset", "batch", "env", "plan", "release", "report", "rows", "run", "signal"]


class RunProgress(Noun, frozen=True, kw_only=True):
    """What a run says while it goes on: how far it is, or whom it waits for.

    step     the step that has started or ended
    ended    steps that have ended, of `total`
    rows     made by those
    running  steps that run now, the oldest first
    """

    step: str = ""
    ended: int = 0
    total: int = 0
    rows: int = 0
    running: tuple[str, ...] = ()
    waits: str = ""


Progress = Callable[[RunProgress], None]


class Platform(Protocol):
    """One project, here or at a server."""

    # ------------------------------------------------------------ looking

    def project(self) -> Project:
        """Return what the project is, and its mistake if its newest state cannot be loaded."""
        ...

    def status(self, *, assets: Sequence[str] = (), env: str = "") -> Status:
        """Return what is live, stale, held and waiting in an environment, and what needs a
        person; of the selected assets, or of all."""
        ...

    def plan(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        only: bool = False,
        env: str = "",
    ) -> Plan:
        """Return what would run, why, and what it will cost. Changes nothing.

        assets     what is selected: `orders`, `+orders`, `tag:daily` ...; none = all
        partition  one key, or a range `A..B`
        only       without what reads the selected assets
        """
        ...

    def graph(self, *, assets: Sequence[str] = ()) -> GraphSeen:
        """Return assets and the edges between them: all, or those that are selected (`+orders`:
        what `orders` is made of; `orders+`: what is made of it)."""
        ...

    def show(
        self, asset: str, *, as_of: str = "", limit: int = 10, partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        """Return an asset's facts and the first rows of a version: the live one, one named by 4 or
        more digits, or what was live at a time."""
        ...

    def count(
        self, asset: str, *, as_of: str = "", partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        """Return the number of rows of a version, or of one of its partitions."""
        ...

    def rows(
        self,
        asset: str,
        *,
        form: str = "JSON",
        as_of: str = "",
        partition: str = "",
        columns: Sequence[str] = (),
        env: str = "",
    ) -> bytes:
        """Return the rows of a version of a dataset: JSON, JSONEachRow, CSVWithNames, Arrow,
        ArrowStream or Parquet.

        Personal columns are left out for whoever comes over the network and is no administrator;
        Denied when all are.
        """
        ...

    def versions(
        self, asset: str, *, limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[VersionSeen]:
        """Return the versions of an asset: what made them, what they changed, how they stand in
        `env`."""
        ...

    def diff(self, a: str, *, b: str = "", env: str = "") -> dict[str, Any]:
        """Return what differs between two states, each `asset`, `asset@version`, `asset@time` or
        `asset@env:name`: schema, partitions, rows by key."""
        ...

    def kpi(
        self,
        name: str,
        *,
        by: Sequence[str] = (),
        grain: str = "",
        where: str = "",
        as_of: str = "",
        env: str = "",
    ) -> KpiSeen:
        """Return a business number: over all time, or by dimensions and grain (5m, 15m, 1h, 1d, 1w,
        1mo, 1q, 1y). Ratios are never averaged."""
        ...

    def why(self, subject: str, *, env: str = "") -> Why:
        """Return the reason in words, then what changed upstream of an asset, newest first, or the
        chain of events that caused a run, release, signal, incident or event."""
        ...

    def runs(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[dict[str, Any]]:
        """Return runs; `env=""` means of all environments."""
        ...

    def run_facts(self, run: str) -> dict[str, Any]:
        """Return a run with its steps, attempts, resources and checks."""
        ...

    def log(self, *, run: str = "", step: str = "") -> list[Printed]:
        """Return what the steps of a run printed; `run=""` means the newest."""
        ...

    def releases(
        self,
        *,
        asset: str = "",
        state: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[dict[str, Any]]:
        """Return releases; `env=""` means of all environments."""
        ...

    def release_facts(self, release: str) -> dict[str, Any]:
        """Return a release with its events."""
        ...

    def checks(
        self, *, asset: str = "", failed: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[dict[str, Any]]:
        """Return results of checks: of all assets or of one, all or only those that failed."""
        ...

    def signals(
        self,
        *,
        asset: str = "",
        kind: str = "",
        open_only: bool = False,
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[SignalSeen]:
        """Return signals."""
        ...

    def incidents(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[IncidentSeen]:
        """Return incidents."""
        ...

    def environments(self) -> list[EnvironmentSeen]:
        """Return environments and what they fall through to."""
        ...

    def environment_diff(self, a: str, b: str) -> dict[str, Any]:
        """Return what differs between two environments: code, versions, partitions, rows, KPIs."""
        ...

    def events(
        self,
        *,
        subject: str = "",
        type: str = "",  # noqa: A002 - CloudEvents' word
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[EventSeen]:
        """Return entries of the ledger: all, those about a subject, those of a type."""
        ...

    def verify(self, *, witness: str = "", projections: bool = True) -> Verified:
        """Verify the ledger: hashes, order, causes, signatures, the witness (its text; "" = this
        user's own), and that every table follows from it."""
        ...

    def prove(self, seq: int, *, since: str = "") -> dict[str, Any]:
        """Return a proof that event `seq` stands in the signed log; `since`, the text of an older
        witness: that the log continues it."""
        ...

    def doctor(self) -> list[Finding]:
        """Look for what is wrong with the project and its machine."""
        ...

    def check_data(self, *, progress: Progress | None = None) -> DataChecked:
        """Read every file of the lake that a kept version names, compare it with what was recorded
        when it was written, and its rows with the version's content. Files of which nothing was
        recorded get a digest when their rows are right."""
        ...

    # ------------------------------------------------------------ doing

    def run(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        force: bool = False,
        only: bool = False,
        trigger: str = "manual",
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> RunReport:
        """Make what is missing or has changed inputs, check it, publish it. A crashed run is taken
        up first. `assets` and `only` as for `plan`."""
        ...

    def cancel(self, run: str) -> dict[str, Any]:
        """Stop a run that this process or server works on. What it has made is used by the next
        one."""
        ...

    def failing_rows(self, asset: str, sample: str) -> FailingRows:
        """Return the rows that a check kept as evidence, with personal columns masked: the first
        20. `sample` is that of the check's result. NotFound, also where the principal does not see
        what checks of the asset found."""
        ...

    def check(self, asset: str, *, env: str = "") -> list[CheckResult]:
        """Run all checks of an asset on what is live."""
        ...

    def release(
        self,
        asset: str,
        *,
        version: str = "",
        source: str = "",
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> Release:
        """Make a version of an asset live, through the gate: `version`, or what is live in
        environment `source`."""
        ...

    def unhold(self, asset: str, version: str, *, env: str = "") -> dict[str, Any]:
        """Lift the mark of a withdrawn version, so that it may be chosen again."""
        ...

    def rollback(
        self,
        asset: str,
        *,
        version: str = "",
        reason: str = "undone by hand",
        downstream: bool = True,
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> RunReport:
        """Undo the release that brought a version ("" = the live one): only the partitions that it
        changed go back, and what was derived follows."""
        ...

    def approve(self, release: str, *, deny: bool = False, reason: str = "") -> Release:
        """Approve (or deny) a release that waits. Who proposed it cannot approve it."""
        ...

    def create_environment(self, name: str, parent: str) -> dict[str, Any]:
        """Create an environment that sees everything of `parent` until it has versions of its own.
        Copies nothing."""
        ...

    def drop_environment(self, name: str) -> dict[str, Any]:
        """Drop an environment; its versions lose their pointer and expire with the others."""
        ...

    def report(
        self,
        kind: Literal["release", "run", "check"],
        asset: str,
        *,
        version: str = "",
        state: str = "",
        name: str = "",
        message: str = "",
        url: str = "",
        owner: str = "",
        upstream: Sequence[str] = (),
        downstream: Sequence[str] = (),
        cause: str = "",
        env: str = "",
    ) -> Reported:
        """Record what another tool did: a release, run or check of an observed asset."""
        ...

    def close_signal(self, signal: str, reason: str) -> dict[str, Any]:
        """Close a signal: somebody has looked at it."""
        ...

    def push(
        self,
        dataset: str,
        rows: Sequence[Mapping[str, Any]] | bytes,
        *,
        content_type: str = "application/json",
        batch: str = "",
        env: str = "",
    ) -> Pushed:
        """Take rows for a dataset that is declared with `sx.stream`: durable when it returns,
        published through the gate soon after. All are taken, or none.

        rows          objects, or a body: JSON (an array of objects, or an object of `rows`, `batch`
                      and `env`), lines of JSON, Arrow or Parquet. A row with `_deleted` true
                      deletes the row of its key
        content_type  of a body
        batch         identifies the rows among the sender's own: the same once more is taken once,
                      other rows of that name are a Conflict; "" = every call is new
        """
        ...

    def batches(
        self, dataset: str, *, refused: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[BatchSeen]:
        """Return the pushed batches that are not part of a dataset yet: those that wait to be
        published, and those that were refused with the reason."""
        ...

    def drop_batch(
        self, dataset: str, batch: str, reason: str, *, sender: str = "", env: str = ""
    ) -> BatchDropped:
        """Give up a pushed batch that waits or was refused: its rows are gone, its name is free
        again. `sender`: who pushed it, such as `token:shop`; "" = oneself, or the only one with a
        batch of that name."""
        ...

    def collect(self, *, history: str = "", dry_run: bool = False) -> Collected:
        """Delete the bytes that nothing keeps: no pointer, open release, undo window or provenance.
        Records stay."""
        ...

    def backup(self, folder: str) -> dict[str, Any]:
        """Write a backup into a new folder (of the machine where the project is), while runs go
        on."""
        ...

    def checkpoint(self) -> dict[str, str]:
        """Sign the head of the ledger and return the note and the public key."""
        ...

    def erase(self, seq: int, reason: str) -> dict[str, Any]:
        """Erase the payload of an event. The event and every proof stay valid."""
        ...

    def rotate(self) -> dict[str, str]:
        """Replace the signing key; the change is announced by an event that both keys sign."""
        ...

    def repair(self, reason: str) -> list[GapSeen]:
        """Note the gaps between checkpoints by signed events, so that verification accepts exactly
        these; return the newly noted ones."""
        ...

    # ------------------------------------------------------------ telemetry

    def query(self, sql: str, *, form: str = "JSON", params: dict[str, str] | None = None) -> bytes:
        """Answer a question in ClickHouse's SQL over data, telemetry, ledger and KPIs, in one of
        its formats. Read-only."""
        ...

    def search_logs(
        self,
        *,
        search: str = "",
        exact: bool = False,
        asset: str = "",
        attributes: Sequence[str] = (),
        level: str = "",
        trace: str = "",
        since: str = "1h",
        until: str = "",
        limit: int = PAGE_ROWS,
    ) -> LogsFound:
        """Return the newest log lines that meet all conditions, of everything that sends any (what
        the steps of one run printed: `log`).

        search      words and "phrases"; a line has all of them, in any case, as a part of its text
                    or of an attribute's value
        exact       the words stand in the text as they are written, as whole words: an index finds
                    them however long ago
        asset       an id, or a name that only one asset has
        attributes  each KEY=VALUE, of the line or of what sent it
        level       at least so severe: trace, debug, info, warn, error, fatal
        since       a length back from now, such as 30m, or a time; `until` likewise
        """
        ...

    def traces(
        self,
        *,
        asset: str = "",
        name: str = "",
        attributes: Sequence[str] = (),
        failed: bool = False,
        min_duration: str = "",
        slowest: bool = False,
        since: str = "1h",
        until: str = "",
        limit: int = 20,
    ) -> TracesFound:
        """Return the newest traces, or the slowest ones, that meet all conditions.

        asset, name, attributes  a span of the trace is of this asset, has this in its name, and
                                 these KEY=VALUE (of its own or of what sent it)
        failed                   only traces with an error
        min_duration             only those that took at least so long, such as 500ms or 2s
        since                    a length back from now, or a time; `until` likewise. A trace that
                                 began before is shown whole
        """
        ...

    def trace_facts(self, trace: str, *, under: str = "", limit: int = 500) -> TraceFacts:
        """Return a trace by its id, its first 4 or more digits, or a `traceparent`: how many spans
        and errors it has, and at most `limit` of its spans as a tree. Of a larger one the roots,
        the errors and the slowest are chosen.

        under  a span's id, or its first digits: it, and what stands below it
        """
        ...

    def metrics(
        self, *, search: str = "", asset: str = "", since: str = "1h", limit: int = PAGE_ROWS
    ) -> MetricsFound:
        """Return metrics that had a value lately, by name; a histogram is one.

        search  a part of the name
        since   a length back from now, or a time
        """
        ...

    def metric(
        self,
        name: str,
        *,
        by: Sequence[str] = (),
        labels: Sequence[str] = (),
        asset: str = "",
        rate: bool = False,
        quantiles: Sequence[str] = (),
        since: str = "1h",
        until: str = "",
        limit: int = PAGE_ROWS,
    ) -> MetricFacts:
        """Return the series of a metric: last, lowest and highest value, and how it went; of a
        histogram how many values it took, their average and quantiles.

        name    as it was sent: also that of a histogram, without `_total`, with `.` or `_`
        by      sum up by these labels; none = each series by itself
        labels  only series with these LABEL=VALUE
        rate    growth each second, from five minutes to five minutes; of a counter
        quantiles  levels from 0 to 1, of a histogram; none = 0.5, 0.95 and 0.99
        since   a length back from now, or a time; `until` likewise
        """
        ...

    # ------------------------------------------------------------ people

    def tokens(self) -> list[TokenSeen]:
        """Return the tokens: all for an administrator, else one's own."""
        ...

    def create_token(
        self,
        name: str,
        *,
        kind: Literal["person", "token", "agent"] = "token",
        role: Role = "viewer",
        scopes: Sequence[str] = (),
        teams: Sequence[str] = (),
        on_behalf_of: str = "",
        days: int = 90,
    ) -> TokenMade:
        """Make a token for a person, a team or an agent on behalf of one; its secret is in the
        answer and nowhere else."""
        ...

    def revoke_token(self, token: str) -> dict[str, Any]:
        """Revoke a token."""
        ...

    def hand_token(self, token: str, person: str) -> TokenSeen:
        """Let another person answer for a token, and for all that were made with it: for when
        somebody leaves."""
        ...

    def accounts(self) -> list[AccountSeen]:
        """Return the accounts."""
        ...

    def create_account(
        self, name: str, password: str, *, role: Role = "viewer", teams: Sequence[str] = ()
    ) -> AccountSeen:
        """Make an account for a person."""
        ...

    def disable_account(self, name: str) -> dict[str, Any]:
        """Disable an account; its tokens and sessions end."""
        ...

    def close(self) -> None: ...


class Operation(NamedTuple):
    """Where a method of `Platform` stands in the HTTP API, and who may use it. Path parameters are
    its arguments of that name; the others are query parameters of a GET, fields of a JSON body
    otherwise.

    role   the least that is needed of who comes over the network
    verb   what the policy is asked about, `read` where nothing is changed: what one may read
           follows from role and scope
    of     what it does that to, so that the policy sees it before anything is done: the asset,
           batch, release, run, signal or environment that is named, a report with the edges that
           it draws; `plan`: each asset that follows from it, asked by the run itself; `rows`: asked
           when they have said where they go; "" = the project
    body   the argument that is the request's body as it was sent, with its content type as
           `content_type`; the others are query parameters then
    scope  what the token must open
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    role: Role
    verb: str
    of: Of = ""
    body: str = ""
    scope: str = "api"


OPERATIONS: tuple[Operation, ...] = (
    Operation("project", "GET", "/project", "viewer", "read"),
    Operation("status", "GET", "/status", "viewer", "read"),
    Operation("plan", "GET", "/plan", "viewer", "read"),
    Operation("graph", "GET", "/graph", "viewer", "read"),
    Operation("show", "GET", "/assets/{asset}", "viewer", "read"),
    Operation("count", "GET", "/assets/{asset}/count", "viewer", "read"),
    Operation("rows", "GET", "/assets/{asset}/rows", "viewer", "read"),
    Operation("versions", "GET", "/assets/{asset}/versions", "viewer", "read"),
    Operation("check", "POST", "/assets/{asset}/checks", "operator", "check", "plan"),
    Operation("release", "POST", "/assets/{asset}/releases", "operator", "release", "plan"),
    Operation("rollback", "POST", "/assets/{asset}/rollbacks", "operator", "rollback", "plan"),
    Operation("unhold", "POST", "/assets/{asset}/unhold", "operator", "unhold", "asset"),
    Operation("diff", "GET", "/diff", "viewer", "read"),
    Operation("kpi", "GET", "/kpis/{name}", "viewer", "read"),
    Operation("why", "GET", "/why/{subject}", "viewer", "read"),
    Operation("runs", "GET", "/runs", "viewer", "read"),
    Operation("run", "POST", "/runs", "operator", "run", "plan"),
    Operation("run_facts", "GET", "/runs/{run}", "viewer", "read"),
    Operation("cancel", "POST", "/runs/{run}/cancel", "operator", "run", "run"),
    Operation("log", "GET", "/log", "viewer", "read"),
    Operation("releases", "GET", "/releases", "viewer", "read"),
    Operation("release_facts", "GET", "/releases/{release}", "viewer", "read"),
    Operation("approve", "POST", "/releases/{release}/approvals", "operator", "approve", "release"),
    Operation("checks", "GET", "/checks", "viewer", "read"),
    Operation("failing_rows", "GET", "/assets/{asset}/failing-rows", "viewer", "read"),
    Operation("signals", "GET", "/signals", "viewer", "read"),
    Operation("close_signal", "POST", "/signals/{signal}/close", "operator", "signal", "signal"),
    Operation("incidents", "GET", "/incidents", "viewer", "read"),
    Operation("environments", "GET", "/environments", "viewer", "read"),
    Operation("create_environment", "POST", "/environments", "operator", "env", "env"),
    Operation("drop_environment", "DELETE", "/environments/{name}", "operator", "env", "env"),
    Operation("environment_diff", "GET", "/environments/{a}/diff/{b}", "viewer", "read"),
    Operation("report", "POST", "/reports", "operator", "report", "report"),
    Operation("push", "POST", "/datasets/{dataset}/rows", "operator", "push", "rows", body="rows"),
    Operation("batches", "GET", "/datasets/{dataset}/batches", "viewer", "read"),
    Operation(
        "drop_batch", "POST", "/datasets/{dataset}/batches/drop", "operator", "drop", "batch"
    ),
    Operation("events", "GET", "/ledger/events", "viewer", "read"),
    Operation("verify", "POST", "/ledger/verify", "viewer", "read"),
    Operation("prove", "POST", "/ledger/events/{seq}/proof", "viewer", "read"),
    Operation("checkpoint", "POST", "/ledger/checkpoints", "operator", "checkpoint"),
    Operation("erase", "POST", "/ledger/events/{seq}/erase", "admin", "erase"),
    Operation("rotate", "POST", "/ledger/rotate", "admin", "rotate"),
    Operation("repair", "POST", "/ledger/repair", "admin", "repair"),
    Operation("query", "POST", "/query", "viewer", "read", scope="query"),
    Operation("search_logs", "GET", "/telemetry/logs", "viewer", "read", scope="query"),
    Operation("traces", "GET", "/telemetry/traces", "viewer", "read", scope="query"),
    Operation("trace_facts", "GET", "/telemetry/traces/{trace}", "viewer", "read", scope="query"),
    Operation("metrics", "GET", "/telemetry/metrics", "viewer", "read", scope="query"),
    # its name is no part of the path: some have a `/`
    Operation("metric", "GET", "/telemetry/metric", "viewer", "read", scope="query"),
    Operation("collect", "POST", "/collect", "admin", "collect"),
    Operation("backup", "POST", "/backups", "admin", "backup"),
    Operation("doctor", "GET", "/doctor", "viewer", "read"),
    Operation("check_data", "POST", "/doctor/data", "admin", "inspect"),
    Operation("tokens", "GET", "/tokens", "viewer", "read"),
    Operation("create_token", "POST", "/tokens", "viewer", "token"),
    Operation("revoke_token", "DELETE", "/tokens/{token}", "viewer", "token"),
    Operation("hand_token", "POST", "/tokens/{token}/hand", "admin", "hand"),
    Operation("accounts", "GET", "/accounts", "admin", "read"),
    Operation("create_account", "POST", "/accounts", "admin", "account"),
    Operation("disable_account", "DELETE", "/accounts/{name}", "admin", "account"),
)
