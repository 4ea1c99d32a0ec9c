"""Feeds telemetry from the ledger, so that SQL sees decisions and data beside metrics and logs.

`ops`: entries of the ledger as they are, and what follows from them as rows that newer rows
replace; the entries go last, so their
highest number is how far the feed has come, and a feed that broke off is repeated without harm.
`data`, `kpi`: which files are live.
What the runs did goes the way of any other telemetry: traces and logs after OpenTelemetry's
conventions for CI/CD.
"""

import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import Damaged, UserError
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import Asset, Incident, Release, Signal, kind_of
from sextant.ledger.erase import PayloadErased
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import (
    AssetDeclared,
    ChecksCompleted,
    Closed,
    IncidentChanged,
    IncidentClosed,
    RunChanged,
    SignalRepeated,
    VersionCreated,
)
from sextant.ledger.signals import find_incident, find_signal
from sextant.server.feed.ops import Row, kinds_shown, lines, row_of_kind, tables
from sextant.server.feed.telemetry_client import TelemetryClient

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_PAGE = 2_000
_FAR = 1 << 62
_MOVES_POINTERS = ("release.", "version.", "env.", "project.", "asset.")
_SIGNAL_PAYLOADS: dict[str, Any] = {
    "signal.raised": Signal,
    "signal.repeated": SignalRepeated,
    "signal.closed": Closed,
}
_INCIDENT_PAYLOADS: dict[str, Any] = {
    "incident.opened": Incident,
    "incident.changed": IncidentChanged,
    "incident.closed": IncidentClosed,
}
_LOG_BYTES_MAX = 256 << 10  # of one step's output; the whole of it stays in the run's log

Rows = dict[str, list[Row]]


class Feed:
    """The feed of one project. `step` is called again and again by a loop."""

    def __init__(
        self,
        platform: "LocalPlatform",
        client: TelemetryClient,
        *,
        tables: Callable[[], tuple[str, Any, Any, Sequence[str]]],
        traces: Callable[[RunChanged, Sequence[Any]], bytes],
    ) -> None:
        """tables  returns what `data` and `kpi` are to show, and the assets whose texts only
                   administrators see; traces  a run and its records as an
        OTLP request"""
        self._p, self._client, self._tables, self._traces = platform, client, tables, traces
        self._position = -1  # of the newest entry that telemetry has; -1 = ask
        self._shown = ""
        self._boot = ""
        self._traced_ns = int(
            length_s(platform.core.project.config.telemetry.keep.get("spans", "14d")) * NS
        )  # older ones would not be kept
        self._erased: list[int] = []
        self._stepping = threading.Lock()

    def step(self) -> None:
        """Bring telemetry up to the head of the ledger. WorldError when it does not answer;
        repeated later. Any thread."""
        with self._stepping:
            self._step()

    def _step(self) -> None:
        boot = str(self._client.health().get("boot", ""))
        if boot != self._boot:  # it was started (again): ask what it has
            self._position, self._shown, self._boot = -1, "", boot
        if self._position < 0:
            found = self._client.query(
                "SELECT max(seq) + 1 AS next FROM fed.events WHERE seq < 4611686018427387904"
            )
            self._position = (
                int(found[0]["next"])
                if found and self._client.query("SELECT 1 AS one FROM fed.events LIMIT 1")
                else 0
            )
            self._fill()
        moved = not self._shown
        while True:
            page = entries(self._p.core.state.read, "events_after", (self._position, _PAGE))
            if not page:
                break
            moved = self._feed(page) or moved
            self._position = page[-1].envelope.seq + 1
            if len(page) < _PAGE:
                break
        if moved:
            self.show()

    def _fill(self) -> None:
        """Fill tables of kinds that are new to what telemetry has already."""
        if not self._position:
            return
        read = self._p.core.state.read
        ids = [id_ for id_, *_ in read("assets")]
        for kind, name in kinds_shown().items():
            if self._client.query(f"SELECT 1 AS one FROM fed.{name} LIMIT 1"):
                continue
            for id_ in (one for one in ids if kind_of(one) == kind):
                rows: Rows = {one: [] for one in tables()}
                for digest, *_ in read("versions", (id_, _FAR, _FAR)):
                    about = (f"{id_}@{digest}", "version.created", 1)
                    for entry in entries(read, "events_of_both", about):
                        if not entry.is_erased:
                            self._understood(entry, rows, [])
                if rows[name]:
                    token = f"ops-{name}-filled-{id_}-{len(rows[name])}"
                    self._client.insert(f"fed.{name}", lines(tables()[name], rows[name]), token)

    def show(self) -> None:
        """Tell telemetry which tables are live, if it does not know."""
        env, shown, kpis, guarded = self._tables()
        body = msgspec.json.encode({"env": env, "tables": shown, "kpis": kpis, "guarded": guarded})
        digest = hashlib.sha256(body).hexdigest()
        if digest != self._shown:
            self._client.send("POST", "/internal/tables", body)
            self._shown = digest

    def _feed(self, found: Sequence[Entry]) -> bool:
        """Send some entries; say whether they may have moved what is live."""
        out: Rows = {name: [] for name in tables()}
        finished: list[RunChanged] = []
        moved = False
        for entry in found:
            seal = entry.envelope
            out["events"].append(_event_row(entry, fed=seal.seq))
            moved = moved or seal.type.startswith(_MOVES_POINTERS)
            if not entry.is_erased:
                self._understood(entry, out, finished)
        for run in finished:
            self._follow_run(run, out)
        first, last = found[0].envelope.seq, found[-1].envelope.seq
        for name in tables():  # the entries last: their number says how far everything has come
            if out[name]:
                self._client.insert(
                    f"fed.{name}", lines(tables()[name], out[name]), f"ops-{name}-{first}-{last}"
                )
        for gone in self._erased:
            for name in tables():
                self._client.run(
                    f"ALTER TABLE fed.{name} DELETE WHERE seq = {gone}"
                )  # a row of a view that follows from it goes too
            for entry in entries(self._p.core.state.read, "event_by_seq", (gone,)):
                row = _event_row(entry, fed=last)
                self._client.insert(
                    "fed.events", lines(tables()["events"], [row]), f"ops-erased-{gone}"
                )
        self._erased.clear()
        return moved

    def _understood(self, entry: Entry, out: Rows, finished: list[RunChanged]) -> None:
        """Append the rows that an entry means; of one of a newer or older Sextant, or that its kind
        does not understand, the entry is shown, and what follows is not."""
        try:
            self._follow(entry, out, finished)
        except (msgspec.ValidationError, msgspec.DecodeError, UserError) as error:
            seal = entry.envelope
            print(
                f"feed: entry {seal.seq} ({seal.type}) is not understood: {error}",
                file=sys.stderr,
                flush=True,
            )

    def _follow(self, entry: Entry, out: Rows, finished: list[RunChanged]) -> None:
        """Append the rows that an entry means."""
        kind, seq, at = entry.envelope.type, entry.envelope.seq, entry.envelope.time
        if kind in ("run.started", "run.finished"):
            run = entry.read(RunChanged)
            out["runs"].append(_row("runs", run, seq=seq))
            if kind == "run.finished":
                finished.append(run)
        elif kind == "version.created":
            created = entry.read(VersionCreated).version
            # older versions wrote this type again when a later run made the same content
            version = self._p.core.versions.get(created.asset, created.digest)
            out["versions"].append(
                _row(
                    "versions",
                    version,
                    version=version.digest,
                    created_at=version.created_at,
                    seq=seq,
                )
            )
            found = row_of_kind(version, seq)
            if found:
                out[found[0]].append(found[1])
        elif kind.startswith("release.") and kind != "release.reported":
            release = entry.read(Release)
            env, moved = (
                release.moves[0].env if release.moves else "",
                [move.asset for move in release.moves],
            )
            out["releases"].append(
                _row(
                    "releases",
                    release,
                    env=env,
                    assets=moved,
                    created_at=release.created_at or at,
                    changed_at=at,
                    seq=seq,
                )
            )
        elif kind == "checks.completed":
            done = entry.read(ChecksCompleted)
            out["checks"] += [
                _row(
                    "checks",
                    one,
                    ok=int(one.ok),
                    asset=one.asset or done.asset,
                    seq=seq,
                    n=n,
                    at=at,
                    run=done.run,
                    version=done.version,
                )
                for n, one in enumerate(done.results)
            ]
        elif kind in _SIGNAL_PAYLOADS:  # as it stands now: a row of a later entry says the same
            stored = find_signal(self._p.core.state, entry.read(_SIGNAL_PAYLOADS[kind]).id)
            if stored is not None:
                row = _row("signals", stored.signal, closed_at=stored.closed_at, seq=seq)
                out["signals"].append(row)
        elif kind in _INCIDENT_PAYLOADS:
            now = find_incident(self._p.core.state, entry.read(_INCIDENT_PAYLOADS[kind]).id)
            if now is not None:
                row = _row("incidents", now.incident, closed_at=now.closed_at, seq=seq)
                out["incidents"].append(row)
        elif kind == "payload.erased":
            self._erased.append(int(entry.read(PayloadErased).seq))
        elif kind in ("asset.declared", "asset.observed", "asset.retired"):
            self._follow_asset(
                entry.read(AssetDeclared),
                seq,
                at,
                out,
                retired=kind == "asset.retired",
            )

    def _follow_asset(
        self, declared: AssetDeclared, seq: int, at: int, out: Rows, *, retired: bool
    ) -> None:
        asset: Asset = declared.asset
        out["assets"].append(
            _row("assets", asset, declared_at=at, retired_at=at if retired else 0, seq=seq)
        )
        for edge in declared.edges:
            out["edges"].append(
                {
                    "source": edge.source,
                    "target": edge.target,
                    "kind": edge.kind,
                    "valid_from": edge.valid_from or at,
                    "valid_to": 0,
                    "seq": seq,
                }
            )
        for edge in declared.ended:
            since = [
                row[3]
                for row in self._p.core.state.read(
                    "edges_ended", (edge.source, edge.target, edge.kind, at)
                )
            ]
            out["edges"] += [
                {
                    "source": edge.source,
                    "target": edge.target,
                    "kind": edge.kind,
                    "valid_from": start,
                    "valid_to": at,
                    "seq": seq,
                }
                for start in since
            ]

    def _follow_run(self, run: RunChanged, out: Rows) -> None:
        """Append a finished run's steps; send its trace, and what its steps printed, as
        telemetry."""
        from sextant.engine.history import History

        records = History.open(self._p.core.state, run.id).records
        for one in records:
            if one.kind == "end":
                used = one.resources
                out["steps"].append(
                    {
                        "run": run.id,
                        "step": one.step,
                        "attempt": one.attempt,
                        "asset": one.asset,
                        "owner": one.owner,
                        "ok": int(one.ok),
                        "rows": one.rows,
                        "wall_s": used.wall_s,
                        "cpu_s": used.cpu_s,
                        "memory_bytes_peak": used.memory_bytes_peak,
                        "bytes_read": used.bytes_read,
                        "bytes_written": used.bytes_written,
                        "error_code": one.error_code,
                        "error": one.error,
                        "ended_at": one.at,
                        "seq": 0,
                    }
                )
        if records and self._p.core.clock.now_ns() - run.finished_at < self._traced_ns:
            self._client.send("POST", "/v1/traces", self._traces(run, records))
            logs = [
                (one, self._log(one.log))
                for one in records
                if one.log and self._p.core.blobs.has(one.log)
            ]
            if logs:
                from sextant.server.feed import meter

                self._client.send("POST", "/v1/logs", meter.step_logs(run, logs))

    def _log(self, blob: str) -> str:
        """Return what a step printed, or that it was changed since."""
        try:
            return self._p.core.blobs.get(blob)[:_LOG_BYTES_MAX].decode(errors="replace")
        except Damaged as error:  # one changed log does not hold up the feed
            return error.message


def _row(table: str, noun: Any, **more: Any) -> Row:
    """Return a row of a table: what the noun has under the names of its columns, and `more`."""
    return {name: getattr(noun, name) for name, _ in tables()[table] if hasattr(noun, name)} | more


def _event_row(entry: Entry, *, fed: int) -> Row:
    """Return an entry as a row of `ops.events`."""
    seal = entry.envelope
    shown = entry.shown
    return {
        **{name: getattr(seal, name) for name in ("id", "type", "actor", "subject", "cause")},
        "seq": seal.seq,
        "at": seal.time,
        "data": shown if isinstance(shown, str) else msgspec.json.encode(shown).decode(),
        "fed": fed,
    }
