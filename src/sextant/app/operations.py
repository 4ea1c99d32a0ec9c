"""`Platform` in this process: one principal's view of a `LocalPlatform`. The command line opens
one; the server one for each request.

Everything here is thin: each operation is permitted, resolves names and calls what does it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sextant.app import environments, permission, reports, signals
from sextant.app.port import OPERATIONS, Operation, Progress, Role, RunProgress
from sextant.app.telemetry import logs
from sextant.app.telemetry import metrics as metrics_
from sextant.app.telemetry import traces as traces_
from sextant.app.telemetry.asking import Asking
from sextant.app.texts import checks_texts
from sextant.app.views import Views, event_seen
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine import history
from sextant.engine.execute import Done, Task
from sextant.engine.leases import worker_of
from sextant.formats.values import plain
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
    LedgerFinding,
    LogsFound,
    MetricFacts,
    MetricsFound,
    Page,
    Printed,
    Project,
    Pushed,
    Reported,
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
from sextant.kernel.errors import BadData, NotFound, SextantError, UsageError
from sextant.kernel.limits import NAME_CHARS_MAX, PAGE_ROWS, PAGE_ROWS_MAX, RUNNING_SHOWN_MAX
from sextant.kernel.nouns import CheckResult, Principal, Release
from sextant.kernel.texts import check_text
from sextant.kinds.dataset import bodies
from sextant.kinds.dataset.inbox import columns_of
from sextant.kinds.dataset.plan import Plan, Request, check_range
from sextant.ledger.log import entries

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform
    from sextant.kernel.answers import RunReport


_OWN_TRIGGERS = ("schedule", "undo")  # what becomes of a run follows from these


class Operations:
    """What one principal may see and do. Closing it leaves the platform open: that belongs to
    whoever opened it.

    Each method of the table of operations is asked for in `permission` first.
    """

    def __init__(
        self,
        platform: "LocalPlatform",
        by: Principal | None = None,
        *,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        """refused  is told why a role or scope did not reach"""
        self._p, self._core = platform, platform.core
        self._by = by
        self._refused = refused

    def _permit(self, operation: Operation, given: Mapping[str, Any]) -> None:
        """Raise Denied unless the principal may use an operation with these arguments."""
        why = permission.refusal(operation, self._by or self._core.authorization.principal)
        if why is not None:
            if self._refused is not None:
                self._refused(f"{operation.role} with {operation.scope} for {operation.name}")
            raise why
        if operation.verb != "read":
            env = self._env(str(given.get("env", ""))) if operation.of else ""
            permission.ask(self._core, self._p.runs.inbox, operation, self._who(), given, env)

    @functools.cached_property
    def _views(self) -> Views:
        personal = self._p.runs.personal
        see = Visibility(personal, sees_personal=self._who().is_administrator)
        return Views(self._core, self._p.runs, see)

    def _who(self) -> Principal:
        return self._core.authorization.who(self._by)

    def _env(self, env: str) -> str:
        """Return the environment asked for, or the project's default. NotFound."""
        name = (
            env
            or self._core.project.config.environment
            or self._core.project.manifest().environments[0]
        )
        self._core.project.manifest()
        self._core.project.check_environment(name)
        return name

    def _every(self, env: str) -> str:
        if env:
            self._core.project.check_environment(env)
        return env

    def _id(self, asset: str) -> str:
        return self._core.assets.find(asset).id if asset else ""

    # ------------------------------------------------------------ looking

    def project(self) -> Project:
        core = self._core
        manifest = (
            core.project.load()
        )  # whoever asks first wants to know of an edit that is broken, or mended
        problem = core.project.problem
        return {
            "project": manifest.project,
            "tz": manifest.tz,
            "owner": manifest.owner,
            "environment": core.project.config.environment or manifest.environments[0],
            "environments": [str(e["name"]) for e in self._views.envs()],
            "assets": len(manifest.assets),
            "teams": {t.name: list(t.members) for t in manifest.teams},
            "problem": problem.message if problem else "",
            "problem_lines": problem.lines() if problem else [],
            "version": _version(),
        }

    def status(self, *, assets: Sequence[str] = (), env: str = "") -> Status:
        return self._views.status(self._env(env), self._core.assets.select(assets))

    def plan(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        only: bool = False,
        env: str = "",
    ) -> Plan:
        request = self._request(assets, partition, stale=stale, downstream=not only)
        return self._p.runs.plans.checked_plan(self._env(env), request)

    def _request(self, assets: Sequence[str], partition: str, **more: Any) -> Request:
        self._core.project.load_sound()  # a server has been up for long: the files may be newer
        return request_of(self._core, assets, partition, **more)

    def graph(self, *, assets: Sequence[str] = ()) -> GraphSeen:
        return self._views.graph(self._core.assets.select(assets))

    def show(
        self, asset: str, *, as_of: str = "", limit: int = 10, partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        return self._views.show(
            self._env(env), asset, as_of=as_of, limit=_rows(limit, least=0), partition=partition
        )

    def count(
        self, asset: str, *, as_of: str = "", partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        return {
            "asset": self._id(asset),
            "rows": self._views.count(self._env(env), asset, as_of=as_of, partition=partition),
        }

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
        from sextant.kinds.dataset.export import rows

        role = self._who().role  # "" = works on the project's own folder
        return rows(
            self._core,
            self._env(env),
            asset,
            form=form,
            as_of=as_of,
            partition=partition,
            columns=tuple(columns),
            see=self._views.see,
            bounded=role != "",
        )

    def versions(
        self, asset: str, *, limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[VersionSeen]:
        return self._views.versions(self._env(env), asset, limit=_rows(limit), after=after)

    def diff(self, a: str, *, b: str = "", env: str = "") -> dict[str, Any]:
        return self._views.diff(self._env(env), a, b)

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
        found = self._views.kpi(
            self._env(env), name, by=tuple(by), grain=grain, where=where, as_of=as_of
        )
        rows = [plain(row) for row in found["rows"]]
        return {**found, "rows": rows, "goal_value": plain(found["goal_value"])}

    def why(self, subject: str, *, env: str = "") -> Why:
        from sextant.app.why import why

        return why(self._core, self._views, self._env(env), subject)

    def runs(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[dict[str, Any]]:
        return self._views.runs(env=self._every(env), state=state, limit=_rows(limit), after=after)

    def run_facts(self, run: str) -> dict[str, Any]:
        return self._views.run(run)

    def log(self, *, run: str = "", step: str = "") -> list[Printed]:
        if not run:
            newest = self._views.runs(limit=1).items
            run = newest[0]["id"] if newest else ""
        elif not self._core.state.read("run_get", (run,)):
            raise NotFound(
                "SX-RUN-003", f"there is no run `{run}`", hint="`sextant runs` lists them"
            )
        return self._views.log(run, step) if run else []

    def releases(
        self,
        *,
        asset: str = "",
        state: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[dict[str, Any]]:
        return self._views.releases(
            env=self._every(env),
            asset=self._id(asset),
            state=state,
            limit=_rows(limit),
            after=after,
        )

    def release_facts(self, release: str) -> dict[str, Any]:
        return {
            **msgspec.to_builtins(self._views.see.release(self._p.runs.releases.get(release))),
            "events": self._views.events(subject=release).items,
        }

    def checks(
        self, *, asset: str = "", failed: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[dict[str, Any]]:
        return self._views.checks(
            asset=self._id(asset), failed=failed, limit=_rows(limit), after=after
        )

    def failing_rows(self, asset: str, sample: str) -> FailingRows:
        return self._views.failing_rows(self._id(asset), sample)

    def signals(
        self,
        *,
        asset: str = "",
        kind: str = "",
        open_only: bool = False,
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[SignalSeen]:
        return self._views.signals(
            asset=asset, kind=kind, open_only=open_only, limit=_rows(limit), after=after
        )

    def incidents(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[IncidentSeen]:
        return self._views.incidents(state=state, limit=_rows(limit), after=after)

    def environments(self) -> list[EnvironmentSeen]:
        self._core.project.manifest()
        return self._views.envs()

    def environment_diff(self, a: str, b: str) -> dict[str, Any]:
        return self._views.env_diff(a, b)

    def events(
        self,
        *,
        subject: str = "",
        type: str = "",  # noqa: A002 - CloudEvents' word
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[EventSeen]:
        return self._views.events(subject=subject, kind=type, limit=_rows(limit), after=after)

    def verify(self, *, witness: str = "", projections: bool = True) -> Verified:
        from sextant.ledger.verify import verify
        from sextant.ledger.witness import Witness

        core, more = self._core, []
        try:
            known = Witness.parse(witness) if witness else self._p.sealing.seen()
        except BadData as error:
            if witness:
                raise
            known = None
            more.append(("witness", error.message))
        more += self._p.sealing.findings()
        try:
            public = self._p.sealing.public() or None
        except SextantError:  # the findings say so
            public = self._p.sealing.anchor.public or None
        report = verify(
            core.state,
            public=public,
            witness=known,
            origin=self._p.sealing.origin,
            projections=projections,
        )
        if projections:
            try:
                more += [("history", text) for text in history.broken(core.state.read)]
            except (SextantError, TypeError, ValueError, LookupError) as error:
                more.append(("history", f"it cannot be read: {error}"))
        return {
            "ok": report.ok and not more,
            "events": report.events,
            "erased": report.erased,
            "checkpoints": report.checkpoints,
            "signed": report.signed,
            "gaps_noted": report.gaps_noted,
            "witnessed": report.witnessed,
            "root": report.root,
            "findings": [
                LedgerFinding(table=f.table, seq=f.seq, message=f.message) for f in report.findings
            ]
            + [LedgerFinding(table=table, seq=-1, message=text) for table, text in more],
        }

    def prove(self, seq: int, *, since: str = "") -> dict[str, Any]:
        from sextant.ledger.prove import prove
        from sextant.ledger.witness import Witness

        core = self._core
        self._p.sealing.checkpoint()
        found: dict[str, Any] = msgspec.to_builtins(
            prove(
                core.state.read,
                seq,
                public=self._p.sealing.signer().public,
                since=Witness.parse(since).note if since else "",
                payload=not any(
                    self._views.see.hides_event(event_seen(entry))
                    for entry in entries(core.state.read, "event_by_seq", (seq,))
                ),
            )
        )
        return found

    def doctor(self) -> list[Finding]:
        from sextant.app.doctor import examine

        p = self._p
        return examine(
            self._core,
            sealing=p.sealing,
            publisher=p.runs.publisher,
            access=lambda: p.access,
            ask=p.ask,
            paths=self._who().is_administrator,
        )

    def check_data(self, *, progress: Progress | None = None) -> DataChecked:
        from sextant.app.data_check import check_data

        return check_data(self._core, by=self._who(), progress=progress)

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
    ) -> "RunReport":
        if trigger in _OWN_TRIGGERS:
            raise UsageError(
                "SX-RUN-010",
                f"`{trigger}` is what Sextant itself starts a run for",
                hint="leave it out, or say it in another word",
            )
        request = self._request(assets, partition, stale=stale, force=force, downstream=not only)
        follower = _Follower(progress)
        report = self._p.runs.run(
            self._env(env),
            request,
            by=self._who(),
            trigger=trigger,
            on_start=follower.started,
            progress=follower.ended,
            break_glass=break_glass,
            waits=_waits(progress),
            check_columns=True,
        )
        return self._views.see.report(report)

    def cancel(self, run: str) -> dict[str, Any]:
        if run not in {row[0] for row in self._core.state.read("runs_open")}:
            raise NotFound(
                "SX-RUN-006", f"run `{run}` is not running", hint="`sextant runs` lists them"
            )
        elsewhere = worker_of(self._core.state, run)
        if elsewhere:
            raise UsageError(
                "SX-RUN-007",
                f"run `{run}` is worked on by {elsewhere}",
                hint="Ctrl-C there stops it; a server's runs are cancelled with --server URL",
            )
        self._p.runs.execution.cancelled.add(run)
        return {"run": run, "cancelling": True}

    def check(self, asset: str, *, env: str = "") -> list[CheckResult]:
        found = self._p.runs.check(self._env(env), self._core.assets.find(asset), by=self._who())
        return [self._views.see.check(one) for one in found]

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
        if bool(version) == bool(source):
            raise UsageError(
                "SX-CLI-006",
                "a release needs a version or --from ENV",
                hint=f"`sextant versions {asset}` lists versions",
            )
        self._core.project.load_sound()
        released = self._p.runs.release(
            self._env(env),
            self._core.assets.find(asset),
            version=version,
            source=source,
            by=self._who(),
            break_glass=break_glass,
            waits=_waits(progress),
        )
        return self._views.see.release(released)

    def unhold(self, asset: str, version: str, *, env: str = "") -> dict[str, Any]:
        core, name = self._core, self._env(env)
        found = core.assets.find(asset)
        digest = core.versions.find(found.id, version)
        self._p.runs.releases.unhold(name, found.id, digest, self._who())
        return {"asset": found.id, "version": digest, "unheld": True, "env": name}

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
    ) -> "RunReport":
        follower = _Follower(progress)
        report = self._p.runs.undo(
            self._env(env),
            self._id(asset),
            by=self._who(),
            reason=reason,
            version=version,
            downstream=downstream,
            break_glass=break_glass,
            on_start=follower.started,
            progress=follower.ended,
            waits=_waits(progress),
        )
        return self._views.see.report(report)

    def approve(self, release: str, *, deny: bool = False, reason: str = "") -> Release:
        core = self._core
        proposer = core.authorization.person_behind(self._p.runs.releases.get(release).by)
        approved = self._p.runs.releases.approve(
            release, self._who(), deny=deny, reason=reason, proposer=proposer
        )
        if approved.state == "live":
            self._p.runs.checks.check_children(approved, by=self._who())
        return self._views.see.release(approved)

    def create_environment(self, name: str, parent: str) -> dict[str, Any]:
        environments.create(self._core, name, parent, by=self._who())
        return {"name": name, "parent": parent}

    def drop_environment(self, name: str) -> dict[str, Any]:
        environments.drop(self._core, self._p.runs, name, by=self._who())
        return {"name": name, "dropped": True}

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
        return reports.report(
            self._core,
            self._env(env),
            kind,
            asset,
            version=version,
            state=state,
            name=name,
            message=message,
            url=url,
            owner=owner,
            upstream=tuple(upstream),
            downstream=tuple(downstream),
            cause=cause,
            by=self._who(),
        )

    def close_signal(self, signal: str, reason: str) -> dict[str, Any]:
        signals.close(self._core, signal, reason, by=self._who())
        return {"signal": signal, "closed": True}

    def push(
        self,
        dataset: str,
        rows: Sequence[Mapping[str, Any]] | bytes,
        *,
        content_type: str = bodies.JSON,
        batch: str = "",
        env: str = "",
    ) -> Pushed:
        asset = self._core.assets.stream(dataset)
        columns_of(asset)
        body = bodies.opened(rows, content_type, batch=batch, env=env)
        check_text("line", "batch", body.batch, NAME_CHARS_MAX)  # the body may name it
        self._env(body.env)
        for where in self._core.project.manifest().environments:  # the rows come to each of them
            self._core.authorization.allow(self._who(), "push", asset, where)
        return self._p.runs.inbox.take(asset, body, by=self._who())

    def batches(
        self, dataset: str, *, refused: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[BatchSeen]:
        return self._views.batches(
            self._core.assets.stream(dataset), refused=refused, limit=_rows(limit), after=after
        )

    def drop_batch(
        self,
        dataset: str,
        batch: str,
        reason: str,
        *,
        sender: str = "",
        env: str = "",  # noqa: ARG002 - what the policy is asked about
    ) -> BatchDropped:
        return self._p.runs.inbox.drop(
            self._core.assets.stream(dataset), batch, reason=reason, sender=sender, by=self._who()
        )

    def collect(self, *, history: str = "", dry_run: bool = False) -> Collected:
        from sextant.app.keeping import collect

        return collect(
            self._core, self._p.runs.bundles, history=history, dry_run=dry_run, by=self._who()
        )

    def backup(self, folder: str) -> dict[str, Any]:
        from sextant.app.backup import create

        return create(self._core, self._p.sealing, Path(folder))

    def checkpoint(self) -> dict[str, str]:
        note = self._p.sealing.checkpoint()
        if not note:
            raise UsageError("SX-CLI-009", "the ledger is empty", hint="run something first")
        return {"note": note, "public": self._p.sealing.signer().public}

    def erase(self, seq: int, reason: str) -> dict[str, Any]:
        from sextant.ledger.erase import erase

        core, by = self._core, self._who()
        receipt = erase(core.state, seq, reason=reason, actor=str(by), ids=core.ids)
        return {"erased": seq, "event": receipt.first}

    def rotate(self) -> dict[str, str]:
        new = self._p.sealing.rotate(self._who())
        return {"public": new.public, "file": str(new.path)}

    def repair(self, reason: str) -> list[GapSeen]:
        from sextant.ledger.gaps import note_gaps

        core, by = self._core, self._who()
        noted = note_gaps(
            core.state,
            self._p.sealing.signer(),
            origin=self._p.sealing.origin,
            ids=core.ids,
            actor=str(by),
            reason=reason,
        )
        self._p.sealing.checkpoint()
        return [
            GapSeen(size=g.size, note=g.note, next_size=g.next_size, next_note=g.next_note)
            for g in noted
        ]

    # ------------------------------------------------------------ telemetry

    def query(self, sql: str, *, form: str = "JSON", params: dict[str, str] | None = None) -> bytes:
        who = self._who()  # who has the folder has all of it
        return self._p.ask(sql, form, params or {}, who.role or "admin", who.person)

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
        return logs.search_logs(
            self._asking(),
            search=search,
            exact=exact,
            asset=asset,
            attributes=attributes,
            level=level,
            trace=trace,
            since=since,
            until=until,
            limit=_rows(limit),
        )

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
        return traces_.traces(
            self._asking(),
            asset=asset,
            name=name,
            attributes=attributes,
            failed=failed,
            min_duration=min_duration,
            slowest=slowest,
            since=since,
            until=until,
            limit=limit,
        )

    def trace_facts(self, trace: str, *, under: str = "", limit: int = 500) -> TraceFacts:
        return traces_.trace_facts(self._asking(), trace, under=under, limit=limit)

    def metrics(
        self, *, search: str = "", asset: str = "", since: str = "1h", limit: int = PAGE_ROWS
    ) -> MetricsFound:
        return metrics_.metrics(
            self._asking(), search=search, asset=asset, since=since, limit=_rows(limit)
        )

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
        return metrics_.metric(
            self._asking(),
            name,
            by=by,
            labels=labels,
            asset=asset,
            rate=rate,
            quantiles=quantiles,
            since=since,
            until=until,
            limit=_rows(limit),
        )

    def _asking(self) -> Asking:
        return Asking(self._core, self._p.ask, self._who())

    # ------------------------------------------------------------ people

    def tokens(self) -> list[TokenSeen]:
        return self._p.access.tokens(self._who())

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
        return self._p.access.create_token(
            name,
            by=self._who(),
            kind=kind,
            role=role,
            scopes=scopes,
            teams=teams,
            on_behalf_of=on_behalf_of,
            days=days,
        )

    def revoke_token(self, token: str) -> dict[str, Any]:
        self._p.access.revoke_token(token, by=self._who())
        return {"token": token, "revoked": True}

    def hand_token(self, token: str, person: str) -> TokenSeen:
        return self._p.access.hand_token(token, person, by=self._who())

    def accounts(self) -> list[AccountSeen]:
        return self._p.access.accounts()

    def create_account(
        self, name: str, password: str, *, role: Role = "viewer", teams: Sequence[str] = ()
    ) -> AccountSeen:
        return self._p.access.create_account(name, password, by=self._who(), role=role, teams=teams)

    def disable_account(self, name: str) -> dict[str, Any]:
        self._p.access.disable_account(name, by=self._who())
        return {"account": name, "disabled": True}

    def close(self) -> None:
        """Nothing is held."""


def _permitted(operation: Operation, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is permitted before it does anything."""

    @functools.wraps(method)
    def permitted(self: Operations, *args: Any, **kwargs: Any) -> Any:
        self._permit(operation, inspect.signature(method).bind(self, *args, **kwargs).arguments)
        return method(self, *args, **kwargs)

    return permitted


for _one in OPERATIONS:
    setattr(Operations, _one.name, _permitted(_one, getattr(Operations, _one.name)))
checks_texts(Operations)  # around that: what is refused stands in the ledger too


def request_of(core: Core, assets: Sequence[str], partition: str, **more: Any) -> Request:
    """Return what a person asks for. NotFound where the selection has nothing that is made here."""
    chosen = core.assets.select(assets)
    made = tuple(id_ for id_ in chosen if core.project.manifest().asset(id_) is not None)
    if assets and not made:
        raise NotFound(
            "SX-PLAN-008",
            f"nothing of {', '.join(chosen)} is made by this project",
            hint="observed assets are changed by other tools: `sextant why ASSET` shows them",
        )
    request = Request(assets=made, partitions=span(partition), **more)
    check_range(core.project.manifest(), request)
    return request


def span(text: str) -> tuple[str, str] | None:
    """Return the first and last key of `A..B`, or of one partition. UsageError."""
    if not text:
        return None
    first, dots, last = text.partition("..")
    if not first or (dots and not last):
        raise UsageError(
            "SX-CLI-001",
            f"`{text}` is not a range of partitions",
            hint="write 2013-02-01..2013-02-28, or one partition",
        )
    return first, last or first


def _rows(limit: int, *, least: int = 1) -> int:
    if not least <= limit <= PAGE_ROWS_MAX:
        raise UsageError(
            "SX-PAGE-002",
            f"a page of {limit} rows cannot be had",
            hint=f"from {least} to {PAGE_ROWS_MAX}",
        )
    return limit


class _Follower:
    """Counts the steps of a run for whoever follows it. Called by the run's own thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._ended = self._total = self._rows = 0
        self._running: dict[str, None] = {}

    def started(self, task: Task, total: int) -> None:
        self._total = total
        self._running[task.id] = None
        self._tell(task)

    def ended(self, task: Task, done: Done) -> None:
        self._running.pop(task.id, None)
        self._ended += 1
        self._rows += done.rows
        self._tell(task)

    def _tell(self, task: Task) -> None:
        if self._progress is not None:
            self._progress(
                RunProgress(
                    step=task.id,
                    ended=self._ended,
                    total=max(self._total, self._ended),
                    rows=self._rows,
                    running=tuple(self._running)[:RUNNING_SHOWN_MAX],
                )
            )


def _waits(progress: Progress | None) -> Callable[[str], None]:
    """Return what is told whom a run waits for: a person's commands always wait in line."""
    return lambda text: progress(RunProgress(waits=text)) if progress is not None else None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sextant-ops")
    except PackageNotFoundError:
        return "source"
