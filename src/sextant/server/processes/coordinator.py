"""The coordinator process: state, runs, releases, accounts, the HTTP API - and the steady work
around them.

Started by the supervisor (`python -m sextant.server.processes.coordinator`), with what it needs on
standard input. It never runs project code and never opens the telemetry store.
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sextant.app.environments import drop_expired
from sextant.app.keeping import collect_when_due
from sextant.app.platform import LocalPlatform
from sextant.app.promises import settle
from sextant.app.watch import watch
from sextant.engine.plan import Request
from sextant.http.refusals import Refusals
from sextant.http.server import Server, resident, serving
from sextant.http.untrusted import fetch
from sextant.kernel.errors import SextantError, WorldError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import API_THREADS
from sextant.kernel.nouns import SYSTEM, Principal
from sextant.kernel.ports import Write
from sextant.project.config import read_config, telemetry_off
from sextant.server.feed import meter
from sextant.server.feed.feed import Feed
from sextant.server.feed.live import live_tables
from sextant.server.feed.observe import Observer
from sextant.server.feed.scrape import Scraper
from sextant.server.feed.telemetry_client import TelemetryClient
from sextant.server.processes.loops import Loop
from sextant.server.processes.telemetry_off import ClosedPorts, NoTelemetry
from sextant.server.processes.wire import (
    CoordinatorStart,
    Ready,
    end_with_parent,
    read_start,
    say_ready,
)
from sextant.server.protocols.misdirected import Ports

_FEED_S = 0.5  # how far SQL may lag behind the ledger
_OBSERVE_S = 5.0
_METER_S = 15.0
_RELEASES_S = 1.0  # how often a release that is due is noticed
_SHOWN_S = 5.0
_PROMISES_S = 300.0  # how often a promise whose time is over is noticed
_COLLECT_S = 60.0  # how often a collection that is due is noticed
_SEAL_S = 300.0  # how often the head of the ledger is signed
_HEARTBEAT_RETRIES = 2
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Coordinator:
    """One project's coordinator."""

    def __init__(self, start: CoordinatorStart) -> None:
        self.start = start
        config = read_config(Path(start.root))
        self.platform = LocalPlatform(
            config, principal=Principal(name="scheduler", kind="system"), load=False
        )
        self.telemetry_off = telemetry_off(config)
        self.client: TelemetryClient = (
            NoTelemetry()
            if self.telemetry_off
            else TelemetryClient(start.ingest, start.sql, start.secret)
        )
        self.platform.asker = self._ask
        self.refusals = Refusals()
        self._fed = False  # whether SQL has shown data and ledger once
        self._began = self.platform.core.clock.now_ns()
        self._measuring = threading.Lock()
        self._shown: tuple[float, bytes] | None = None  # when it was measured, and the text
        self._noticed: tuple[Any, ...] = ()
        confirmed: set[str] = set()
        self.feed = Feed(
            self.platform,
            self.client,
            tables=lambda: live_tables(self.platform, confirmed=confirmed),
            traces=meter.run_trace,
        )
        self.scraper = Scraper(config.telemetry.scrape, self.client, self.platform.core.clock)
        observer = Observer(self.platform, self.client)
        self._releases = Loop("releases", self.platform.runs.driving.step, every_s=_RELEASES_S)
        self.loops = [
            Loop("notice", self._notice, every_s=_FEED_S),
            self._releases,
            Loop("refusals", self._record_refusals, every_s=5.0),
            Loop("seal", self._seal, every_s=_SEAL_S),
        ]
        if not self.telemetry_off:
            self.loops += [
                Loop("feed", self._feed, every_s=_FEED_S),
                Loop("observe", observer.step, every_s=_OBSERVE_S),
                Loop("meter", self._meter, every_s=_METER_S),
            ]
        if config.telemetry.scrape:
            self.loops.append(Loop("scrape", self.scraper.step, every_s=0.5))
        if config.server.heartbeat:
            self.loops.append(
                Loop("heartbeat", self._heartbeat, every_s=length_s(config.server.heartbeat_every))
            )
        self.loops.append(
            Loop(
                "environments",
                lambda: drop_expired(self.platform.core, self.platform.runs),
                every_s=_COLLECT_S,
            )
        )
        self.loops.append(
            Loop(
                "promises",
                lambda: settle(self.platform.runs, SYSTEM),
                every_s=_PROMISES_S,
            )
        )
        if config.server.collect_every:
            every_s = length_s(config.server.collect_every)
            self.loops.append(
                Loop(
                    "collect",
                    lambda: collect_when_due(
                        self.platform.core, self.platform.runs.bundles, every_s
                    ),
                    every_s=min(_COLLECT_S, every_s),
                )
            )
        self._schedulers: list[threading.Thread] = []
        # environments whose scheduler does not get on; "" = the project cannot be loaded
        self._stumbled: set[str] = set()

    def _served(self) -> str:
        project = self.platform.core.project
        return project.config.environment or project.manifest().environments[0]

    # ------------------------------------------------------------ steady work

    def begin(self) -> None:
        for loop in self.loops:
            loop.start()
        scheduler = threading.Thread(target=self._schedule, name="sextant-scheduler", daemon=True)
        scheduler.start()
        self._schedulers.append(scheduler)

    def _schedule(self) -> None:
        """Load the project; then run what is due, in each environment that is scheduled, beginning
        with runs that were cut off."""
        self._until_done("", self.platform.core.project.load)
        if self.platform.interrupts.interrupted():
            return
        environments = self.platform.core.project.config.server.schedule or (self._served(),)
        for name in environments[1:]:
            thread = threading.Thread(
                target=self._watch, args=(name,), name=f"sextant-scheduler-{name}", daemon=True
            )
            thread.start()
            self._schedulers.append(thread)
        self._watch(environments[0])

    def _watch(self, env: str) -> None:
        p = self.platform
        self._until_done(
            env,
            lambda: watch(
                p.runs,
                env,
                Request(),
                say=_say,
                tell=lambda report: _say(f"run {report.id} {report.state}"),
            ),
        )

    def _until_done(self, env: str, work: Callable[[], Any]) -> None:
        """Do it until it ends by itself: a scheduler that stopped would be missed by nobody."""
        said = ""
        while not self.platform.interrupts.interrupted():
            try:
                work()
            except SextantError as error:
                text = "\n".join(error.lines())
            except Exception:  # a defect: others' work goes on
                text = traceback.format_exc()
            else:
                return
            if text != said:  # once, not every few seconds
                _say(text)
                said = text
            self._stumbled.add(env)
            self.platform.interrupts.pause(5.0)
            self._stumbled.discard(env)

    def _ask(self, sql: str, form: str, params: Mapping[str, str], role: str, person: str) -> bytes:
        self.feed.step()  # what was acknowledged is seen
        return self.client.ask(sql, form, params, role, person)

    def _feed(self) -> None:
        self.feed.step()
        self._fed = True

    def _notice(self) -> None:
        """Wake the schedulers when something was written, by whatever process: rows that were
        pushed, a version that others read."""
        head = self.platform.core.state.read("event_head")
        seen = (head[0][0] if head else -1, *self.platform.core.state.read("inbox_waits"))
        if seen != self._noticed:
            self._noticed = seen
            self.platform.interrupts.nudge()
            self._releases.wake()

    def _seal(self) -> None:
        if self.platform.ledger.size():
            self.platform.sealing.checkpoint()

    def _record_refusals(self) -> None:
        """Write what the endpoints refused into the ledger, summed up."""
        p = self.platform
        with contextlib.suppress(WorldError):  # telemetry keeps them until it is asked again
            for actor, reason, count in msgspec.json.decode(
                self.client.send("POST", "/internal/refusals"), type=list[tuple[str, str, int]]
            ):
                self.refusals.add(actor, reason, count)
        found = self.refusals.take()
        events = [
            p.core.events.make(
                "access.refused",
                actor or "anonymous",
                {"actor": actor, "reason": reason, "count": count},
                SYSTEM,
                "",
            )
            for (actor, reason), count in sorted(found.items())
        ]
        if events:
            p.core.state.commit(Write((), tuple(events)))

    def _heartbeat(self) -> None:
        if self.health()["ok"]:
            heartbeat = self.platform.core.project.config.server.heartbeat
            fetch(heartbeat, private=True, retries=_HEARTBEAT_RETRIES)

    def _meter(self) -> None:
        """Send our own health as metrics, like those of any other service."""
        gauges, counters = self._measured()
        now = self.platform.core.clock.now_ns()
        self.client.send("POST", "/v1/metrics", meter.metrics(now, gauges, counters, self._began))

    def metrics(self) -> bytes:
        """Return our own health as GET /metrics shows it: measured at most once in some seconds,
        whoever asks. WorldError when telemetry does not answer."""
        with self._measuring:
            now = self.platform.core.clock.monotonic_s()
            if not self._shown or now - self._shown[0] >= _SHOWN_S:
                self._shown = now, meter.exposition(*self._measured())
            return self._shown[1]

    def _measured(self) -> tuple[meter.Measured, meter.Measured]:
        """Return gauges and counters of our own health."""
        p = self.platform
        usage = shutil.disk_usage(p.core.project.folder)
        gauges: meter.Measured = {
            ("process.memory.usage", "By"): [({"process": "coordinator"}, float(resident()))],
            ("system.filesystem.usage", "By"): [
                ({"system.filesystem.state": "free"}, float(usage.free)),
                ({"system.filesystem.state": "used"}, float(usage.used)),
            ],
            ("sextant.runs.open", "{run}"): [({}, float(len(p.core.state.read("runs_open"))))],
            ("sextant.releases.open", "{release}"): [({}, float(len(p.runs.releases.open())))],
            ("sextant.signals.open", "{signal}"): [
                ({}, float(p.core.state.read("signals_open_count")[0][0]))
            ],
            ("sextant.inbox.batches", "{batch}"): [
                ({"dataset": row[0]}, float(row[1])) for row in p.core.state.read("inbox_waits")
            ]
            or [({}, 0.0)],
            ("sextant.loop.failing", "{loop}"): [
                ({"loop": loop.name}, float(bool(loop.problem))) for loop in self.loops
            ],
        }
        counters: meter.Measured = {
            ("sextant.ledger.events", "{event}"): [({}, float(p.ledger.size()))],
            ("sextant.restarts", "{restart}"): [
                ({"process": name}, float(count)) for name, count in self.start.restarts.items()
            ]
            or [({"process": "coordinator"}, 0.0)],
        }
        if not self.telemetry_off:
            self._measure_telemetry(gauges, counters)
        return gauges, counters

    def _measure_telemetry(self, gauges: meter.Measured, counters: meter.Measured) -> None:
        """Add the health of the telemetry process, and the costs that only SQL sums up."""
        for name, value in _flat(self.client.health()):
            gauges[(f"sextant.telemetry.{name}", "1")] = [({}, value)]
        costs = self.client.query(
            "SELECT owner, sum(cpu_s) AS cpu_s, sum(bytes_written) AS written FROM "
            "ops.steps GROUP BY owner LIMIT 1000"
        )
        if costs:
            counters[("sextant.cost.cpu", "s")] = [
                ({"owner": row["owner"]}, float(row["cpu_s"])) for row in costs
            ]
            counters[("sextant.cost.written", "By")] = [
                ({"owner": row["owner"]}, float(row["written"])) for row in costs
            ]

    # ------------------------------------------------------------ health, end

    def health(self) -> dict[str, Any]:
        """Return what GET /healthz says. Not ok when the state cannot be read; an unreachable
        telemetry process is reported but does not make the coordinator unhealthy."""
        try:
            self.platform.core.state.read("event_head")
            ok = True
        except SextantError:
            ok = False
        failing = [loop.name for loop in self.loops if loop.problem] + [
            f"scheduler of {env}" if env else "loading" for env in self._stumbled.copy()
        ]
        telemetry = "off" if self.telemetry_off else "away" if "feed" in failing else "ok"
        return {"ok": ok, "telemetry": telemetry, "failing": sorted(failing)} | self._note()

    def readiness(self) -> dict[str, Any]:
        """Return what GET /readyz says: `waits` has what does not answer yet, or not any more."""
        health = self.health()
        waits = [] if health["ok"] else ["state"]
        if self.telemetry_off:  # nothing to wait for
            pass
        elif not self._fed:
            waits.append("sql")  # it shows neither data nor ledger yet
        elif health["telemetry"] != "ok":
            waits.append("telemetry")
        return {"ready": not waits, "waits": waits} | self._note()

    def _note(self) -> dict[str, str]:
        return {"note": self.telemetry_off} if self.telemetry_off else {}

    def end(self) -> None:
        """Stop what runs, let the feed say its last, close."""
        self.platform.interrupts.interrupt()
        for loop in self.loops:
            loop.stop()
        self.scraper.close()
        for thread in self._schedulers:
            thread.join(10.0)
        for loop in self.loops:
            loop.join(2.0)
        with contextlib.suppress(SextantError):
            self._record_refusals()
        if not self.telemetry_off:
            with contextlib.suppress(SextantError):
                self.feed.step()
        self.platform.close()


def _flat(found: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Return the numbers of a nested answer under dotted names."""
    out: list[tuple[str, float]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            out += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out.append((f"{prefix}{name}", float(value)))
    return out


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run until told to stop."""
    from sextant.server.api.endpoint import ApiEndpoint

    start = read_start(CoordinatorStart)
    try:
        coordinator = Coordinator(start)
    except SextantError as error:
        _say("\n".join(error.lines()))
        return error.exit_code
    p = coordinator.platform
    host = start.api.rpartition(":")[0]
    first = p.access.first()
    hosts = (*_LOOPBACK, host.strip("[]"), *p.core.project.config.server.hosts)
    api = ApiEndpoint(
        p,
        health=coordinator.health,
        metrics=coordinator.metrics,
        readiness=coordinator.readiness,
        hosts=hosts,
        secure=p.core.project.config.server.secure,
        internal=start.secret,
        refusals=coordinator.refusals,
        catch_up=coordinator.feed.step,
        ports=Ports(ingest=start.ingest, sql=start.sql),
    )

    off = [urlsplit(url).netloc for url in (start.ingest, start.sql) if coordinator.telemetry_off]
    closed = ClosedPorts(off) if off else None

    class Telling(Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            asyncio.get_running_loop().set_default_executor(
                ThreadPoolExecutor(API_THREADS, thread_name_prefix="sextant-api")
            )
            if closed:
                await closed.start()
            coordinator.begin()
            say_ready(
                Ready(
                    api=f"http://{start.api}",
                    token=first["secret"] if first else "",
                    link=p.access.create_link() if start.link else "",
                )
            )

        async def shutdown(self, sockets: Any = None) -> None:
            await super().shutdown(sockets)
            if closed:
                await closed.stop()

    server = Telling(serving(api, start.api, keep_alive_s=30, connections_max=500))

    def stop() -> None:
        p.interrupts.interrupt()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
    end_with_parent(stop)
    server.run()
    coordinator.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
