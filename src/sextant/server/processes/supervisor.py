"""`sextant up`: starts the processes, starts again what dies or hangs, ends all of them cleanly.

It holds nothing and opens no database, so that it stays small and alive. Each process ends by
itself when the supervisor is gone.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec

from sextant.http.client import NoAnswerError, get
from sextant.kernel import extras
from sextant.kernel.errors import Busy, UsageError, WorldError
from sextant.project.config import OWN, Config, Telemetry, telemetry_missing, telemetry_off
from sextant.server.processes.hold import hold_store
from sextant.server.processes.wire import CoordinatorStart, Ready
from sextant.stores import landlock

FILE = "server.json"
_LOCK = "up.lock"  # held by a supervisor as long as it lives
_TRIES = 20
_READY_S = 60.0  # a process that is not ready by then is started again
_USABLE_S = 10.0  # so long `sextant up` waits for SQL to show data and ledger
_USABLE_LOOK_S = 0.02
_STOP_S = 15.0  # so long a process may take to end
_WAITS_S = (
    0.0,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)  # before a start again, by how many there were in the last minute
_LOOK_S = 5.0  # how often a process is asked whether it works
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DEAF = 6  # so many looks without an answer, and it is taken for hung


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What `.sextant/server.json` holds while a server runs: for this user's own commands, mode
    0600."""

    pid: int
    api: str
    ingest: str
    sql: str
    secret: str
    grpc: str = ""


class Child:
    """One process: started, watched, started again."""

    def __init__(
        self,
        name: str,
        module: str,
        start: Callable[[dict[str, int]], Any],
        health: str,
        said: Callable[[str], None],
    ) -> None:
        self.name, self._module, self._start, self._health, self._say = (
            name,
            module,
            start,
            health,
            said,
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: Ready | None = None
        self.starts: list[float] = []
        self.restarts = 0
        self._deaf = 0
        self._due = 0.0

    def begin(self, environment: dict[str, str], restarts: dict[str, int]) -> None:
        """Start the process and wait until it is ready. WorldError when it does not get there."""
        self.ready = None
        self._deaf = 0
        self.starts = [at for at in self.starts if time.monotonic() - at < 60] + [time.monotonic()]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.process = process
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(self._start(restarts)) + b"\n")
            process.stdin.flush()
        late = threading.Timer(_READY_S, process.kill)
        late.start()
        line = process.stdout.readline()
        late.cancel()
        if not line:
            code = process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorldError(
                "SX-UP-003",
                f"the {self.name} process ended before it was ready ({how})",
                hint="what it said stands above",
            )
        self.ready = msgspec.json.decode(line, type=Ready)
        threading.Thread(target=self._drain, args=(process.stdout,), daemon=True).start()

    @staticmethod
    def _drain(pipe: Any) -> None:
        for line in pipe:  # whatever a library prints is talk
            sys.stderr.buffer.write(line)

    def dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def look(self) -> None:
        """Ask it whether it works; end it when it has not answered for long."""
        try:
            get(self._health, timeout_s=_LOOK_S)
            self._deaf = 0
        except NoAnswerError:
            self._deaf += 1
        if self._deaf >= _DEAF and self.process is not None:
            self._say(f"{self.name} has not answered for {_DEAF * _LOOK_S:g} s: it is ended")
            self.kill()

    def kill(self) -> None:
        """End the process and whatever it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def wait_before(self) -> float:
        """Return when it may be started again (monotonic seconds): sooner the first time than the
        tenth."""
        recent = len([at for at in self.starts if time.monotonic() - at < 60])
        return time.monotonic() + _WAITS_S[min(recent, len(_WAITS_S) - 1)] - _WAITS_S[1]

    def end(self, until: float) -> None:
        """Ask it to end, and kill it when it has not by `until` (monotonic seconds)."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._say(f"{self.name} does not end: killed")
        self.kill()  # and what it left behind
        self.process.wait()


class _Readiness(msgspec.Struct):
    """What the coordinator says at /readyz."""

    waits: list[str]


class Supervisor:
    """The processes of one project."""

    def __init__(self, config: Config, *, say: Callable[[str], None], link: bool = False) -> None:
        """link  make a link that signs in, to be shown on a terminal only"""
        self.config, self._say = config, say
        self.folder = config.root / OWN
        self._stop = threading.Event()
        self._lock: TextIO | None = None
        self._secret = secrets.token_urlsafe(32)
        self.children: list[Child] = []
        self._store: int | None = None
        self._published = False
        self.token = ""
        self.link = ""
        self._wants_link = link
        self.telemetry_off = telemetry_missing(config)

    def start(self) -> Address:
        """Start everything; return where it can be asked. Busy when the project is up already;
        WorldError for a taken port; MissingExtra when the project file has settings for telemetry
        that is not installed."""
        if self.telemetry_off and self.config.telemetry != Telemetry():
            raise self.telemetry_off
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._take_lock()
        if self.telemetry_off:
            self._say(telemetry_off(self.config))
        else:
            check_sql(self.config.server.sql)
            self._store = hold_store(self.folder, unless=self._stop.is_set)
        addresses = {
            name: claim(name, getattr(self.config.server, name))
            for name in ("api", "ingest", "sql")
        }
        grpc = self._claim_grpc()
        address = Address(
            pid=os.getpid(),
            secret=self._secret,
            grpc=f"http://{grpc}" if grpc else "",
            **{name: f"http://{one}" for name, one in addresses.items()},
        )
        telemetry = telemetry_start(
            self.config,
            ingest=addresses["ingest"],
            grpc=grpc,
            sql=addresses["sql"],
            api=address.api,
            secret=self._secret,
        )

        def coordinator_start(restarts: dict[str, int]) -> CoordinatorStart:
            return CoordinatorStart(
                root=str(self.config.root),
                api=addresses["api"],
                ingest=address.ingest,
                sql=address.sql,
                secret=self._secret,
                restarts=restarts,
                link=self._wants_link and not restarts,  # one that starts again is not read
            )

        self.children = (
            []
            if self.telemetry_off
            else [
                Child(
                    "telemetry",
                    "sextant.server.processes.telemetry",
                    lambda _: telemetry,
                    f"{address.ingest}/healthz",
                    self._say,
                )
            ]
        )
        self.children.append(
            Child(
                "coordinator",
                "sextant.server.processes.coordinator",
                coordinator_start,
                f"{address.api}/healthz",
                self._say,
            )
        )
        problems: list[WorldError] = []

        def begin(child: Child) -> None:
            try:
                child.begin(working_environment(child.name), {})
            except WorldError as error:
                problems.append(error)

        both = [threading.Thread(target=begin, args=(child,)) for child in self.children]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        if problems:
            self.shut()
            raise problems[0]
        if not any(child.ready and child.ready.grpc for child in self.children):
            address = msgspec.structs.replace(address, grpc="")  # somebody was quicker
        self._wait_until_usable(f"{address.api}/readyz")
        self.token = next((c.ready.token for c in self.children if c.ready and c.ready.token), "")
        self.link = next((c.ready.link for c in self.children if c.ready and c.ready.link), "")
        self._publish(address)
        return address

    def _claim_grpc(self) -> str:
        """Return where OTLP over gRPC is taken, "" when it cannot be: no reason not to start."""
        if not self.config.server.grpc or self.telemetry_off:
            return ""
        if not extras.is_importable("grpc"):
            self._say(f"OTLP over gRPC is off: {extras.missing_error('telemetry').hint}")
            return ""
        try:
            return claim("grpc", self.config.server.grpc)
        except WorldError as error:
            self._say(f"OTLP over gRPC is off: {error.message}; {error.hint}")
            return ""

    def _wait_until_usable(self, url: str) -> None:
        """Wait until API, telemetry and SQL answer together. A long ledger that is fed for the
        first time is not waited for: that is said."""
        late = time.monotonic() + _USABLE_S
        while not self._stop.is_set():
            waits = ["api"]
            with contextlib.suppress(NoAnswerError, msgspec.MsgspecError):
                answer = get(url, timeout_s=_LOOK_S)
                waits = msgspec.json.decode(answer.body, type=_Readiness).waits
            if not waits:
                return
            if time.monotonic() > late:
                self._say(f"not ready yet: {', '.join(waits)}; {url} says when")
                return
            self._stop.wait(_USABLE_LOOK_S)

    def watch(self) -> None:
        """Start again what dies, until `stop`."""
        looked = time.monotonic()
        while not self._stop.wait(0.05):
            for child in self.children:
                if child.dead():
                    self._again(child)
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                for child in self.children:
                    if not child.dead():
                        child.look()

    def _again(self, child: Child) -> None:
        if child.ready is not None:  # seen for the first time
            assert child.process is not None
            code = child.process.returncode
            self._say(
                f"{child.name} ended "
                f"({f'signal {-code}' if code < 0 else f'exit code {code}'}); the others go "
                "on; it is started again"
            )
            child.kill()
            child.ready = None
            child._due = child.wait_before()
        if time.monotonic() < child._due or self._stop.is_set():
            return
        child.restarts += 1
        try:
            child.begin(
                working_environment(child.name), {one.name: one.restarts for one in self.children}
            )
            self._say(f"{child.name} is ready again")
        except WorldError as error:
            self._say(error.message)
            child._due = child.wait_before()

    def stop(self) -> None:
        """End the watch; `shut` does the rest."""
        self._stop.set()

    def shut(self) -> None:
        """End the processes, the coordinator first: it still has something to say to telemetry."""
        until = time.monotonic() + _STOP_S
        for child in reversed(self.children):
            child.end(until)
        if self._published:  # another server's stays
            (self.folder / FILE).unlink(missing_ok=True)
            self._published = False
        if self._store is not None:
            os.close(self._store)
            self._store = None
        if self._lock is not None:
            self._lock.close()

    def _take_lock(self) -> None:
        self._lock = open(self.folder / _LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the server
        for _ in range(_TRIES):  # a command that looks whether a server runs holds it for a moment
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        else:
            self._lock.seek(0)
            pid = self._lock.read().strip()
            raise Busy(
                "SX-UP-001",
                f"this project is up already, by process {pid}",
                hint=f"`kill {pid}` ends it",
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _publish(self, address: Address) -> None:
        temporary = self.folder / f".{FILE}.{os.getpid()}"
        with os.fdopen(
            os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.encode(address))
        temporary.rename(self.folder / FILE)
        self._published = True


def telemetry_start(
    config: Config, *, ingest: str, sql: str, api: str, secret: str, grpc: str = ""
) -> dict[str, Any]:
    """Return what the telemetry process needs to know; see `telemetry.py`."""
    folder = config.root / OWN
    return {
        "folder": str(folder / "telemetry"),
        "lake": str(config.lake_folder),
        "ingest": ingest,
        "grpc": grpc,
        "sql": sql,
        "api": api,
        "secret": secret,
        "retention": config.telemetry.keep,
        "clickhouse": config.telemetry.clickhouse,
        "series_max": config.telemetry.series_max,
    }


def working_environment(name: str) -> dict[str, str]:
    """Return the environment of a process: telemetry runs untrusted SQL and gets none of what
    stands in ours."""
    if name != "telemetry":
        return dict(os.environ)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "OPENBLAS_CORETYPE")
    }
    return {**kept, "TZ": "UTC"}


def running(folder: Path) -> Address | None:
    """Return where the server of a project's `.sextant` folder can be asked; None when none runs
    (the file of one that was killed stays)."""
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=Address)
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return found
    except (FileNotFoundError, PermissionError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    return None


def check_sql(address: str) -> None:
    """Refuse to run SQL of other machines where the kernel cannot confine the process
    that answers it."""
    host = address.rpartition(":")[0].strip("[]")
    if host not in _LOOPBACK and not landlock.version():
        raise UsageError(
            "SX-UP-004",
            (
                f"`sql` cannot listen at {address}: this kernel has no Landlock to confine the "
                "process that answers SQL"
            ),
            hint=(
                "keep it on 127.0.0.1, and reach it through a tunnel or a proxy of your own; "
                "Linux 5.13 and later have Landlock"
            ),
        )


def claim(name: str, address: str) -> str:
    """Return host:port that is free now; port 0 becomes a number. WorldError that names the setting
    for a taken one."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host.strip("[]"), int(port)))
        except OSError as error:
            why = {
                errno.EADDRINUSE: "another program has that port; port 0 chooses a free one",
                errno.EACCES: "ports below 1024 belong to the system",
            }.get(
                error.errno or 0,
                (
                    "that is no address of this machine: 127.0.0.1 is for programs here, "
                    "0.0.0.0 for all networks"
                ),
            )
            raise WorldError(
                "SX-UP-002",
                f"`{name}` cannot listen at {address}: {error.strerror}",
                hint=f"set `{name}` of [server] in sextant.toml; {why}",
            ) from error
        return f"{host}:{one.getsockname()[1]}"
