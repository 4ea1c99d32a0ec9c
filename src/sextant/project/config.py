"""`sextant.toml`: where a project begins and what it runs on. Read by the platform before anything
else."""

import base64
import difflib
import getpass
import glob
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from sextant.kernel import extras
from sextant.kernel.errors import MissingExtra, NotFound, ProjectError, UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import POOL_WORKERS_MAX

FILE = "sextant.toml"
OWN = ".sextant"  # the platform's folder in the project's
_PUBLIC_BYTES = 32  # of an Ed25519 key (RFC 8032)
# Endings of what stands beside a SQLite database and beside a key: by SQLite, migrations, locks.
_BESIDE = ("-wal", "-shm", "-journal", ".before-*", ".lock", ".new", ".partial", ".*.partial")


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: where `sextant up` listens and what it does by itself. Port 0 lets the machine
    choose.

    api              address of the HTTP API
    ingest           address where telemetry comes in (OTLP's standard port)
    grpc             address where OTLP comes in over gRPC (its standard port); "" = nowhere. The
                     server runs without it when the port is taken, and says so
    sql              address of the ClickHouse endpoint (its standard port)
    hosts            further names under which the server may be asked, when it stands behind a
                     proxy or is not on loopback
    secure           true behind a proxy that speaks https: cookies go over https only
    schedule         environments in which what is due is run: [] = the default one
    heartbeat        URL that is asked so long as all is well: a monitor elsewhere notices when it
                     stops
    heartbeat_every  how often
    collect_every    how often versions whose undo window has passed expire, and their files go, as
                     by `sextant gc`: "" = never
    """

    api: str = "127.0.0.1:7780"
    ingest: str = "127.0.0.1:4318"
    grpc: str = "127.0.0.1:4317"
    sql: str = "127.0.0.1:8123"
    hosts: tuple[str, ...] = ()
    secure: bool = False
    schedule: tuple[str, ...] = ()
    heartbeat: str = ""
    heartbeat_every: str = "60s"
    collect_every: str = "1h"


class Scrape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[telemetry.scrape]]`: a target whose metrics are fetched.

    job      name of what is scraped; its asset is `service:JOB` when `asset` says nothing
    url      http(s) address of its metrics
    every    how often
    timeout  how long one answer may take
    asset    the asset that the metrics are of
    owner    the team that owns it, and whose budget of series counts
    private  whether the address may be one of this machine or its network
    """

    job: str
    url: str
    every: str = "15s"
    timeout: str = "10s"
    asset: str = ""
    owner: str = ""
    private: bool = True


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: where metrics, logs and traces are kept, for how long, and what is fetched.

    clickhouse  http(s)://user:password@host:port of a ClickHouse; "" = chDB below `.sextant/`
    keep        how long: samples, rollups, logs, spans, events
    series_max  live series of one owner, 0 = the limit; samples of a new one beyond it are refused
    scrape      `[[telemetry.scrape]]`: targets whose metrics are fetched
    """

    clickhouse: str = ""
    keep: dict[str, str] = {}
    series_max: int = 0
    scrape: tuple[Scrape, ...] = ()


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ledger`: the ledger that belongs to this project, written when the first command begins
    it. Neither is taken from the database: who can change the database alone cannot change them.

    id      of the ledger: names its key and its witness
    public  the public key (Ed25519, base 64) that its checkpoints and key rotations go back to
    """

    id: str
    public: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a project.

    root         folder of `sextant.toml`
    module       dotted name of the author's module below it; the file may write a path,
                 `flights/ops.py`
    state        state store: "" = SQLite below `.sextant/`, or postgresql://...
    schema       schema of the state in Postgres, one for each project
    lake         folder of the data, relative to the project's: "" = below `.sextant/`
    environment  the one that commands mean when they name none: "" = the first of the project
    pools        name -> how many steps of that pool run at once
    workers      worker processes; 0 = as many as there are processors, at most 4
    key          file of the key that signs the ledger: "" = in the user's configuration folder
    ledger       id and public key of the ledger, written by Sextant
    server       `[server]`: what `sextant up` listens to
    telemetry    `[telemetry]`: metrics, logs and traces
    include      globs of further files that belong to the project's bundle, such as `seeds/*.csv`
    """

    root: Path
    module: str
    state: str = ""
    schema: str = "sextant"
    lake: str = ""
    environment: str = ""
    pools: dict[str, int] = {}
    workers: int = 0
    include: tuple[str, ...] = ()
    key: str = ""
    ledger: Pin | None = None
    server: Server = Server()
    telemetry: Telemetry = Telemetry()

    @property
    def lake_folder(self) -> Path:
        return self.root / Path(self.lake).expanduser() if self.lake else self.root / OWN / "lake"

    @property
    def state_address(self) -> Path | str:
        """The SQLite file, or the connection string of Postgres."""
        from sextant.stores.state import is_postgres

        if is_postgres(self.state):
            return self.state
        return self.root / (Path(self.state).expanduser() if self.state else f"{OWN}/state.db")

    @property
    def key_file(self) -> Path | None:
        """The file of the signing key; None for the user's configuration folder."""
        return self.root / Path(self.key).expanduser() if self.key else None

    @property
    def written(self) -> tuple[Path, ...]:
        """Files and folders that the platform writes, wherever the settings put them."""
        state = self.state_address
        files = [file for file in (state, self.key_file) if isinstance(file, Path)]
        beside = (
            found
            for file in files
            for ending in _BESIDE
            for found in file.parent.glob(glob.escape(file.name) + ending)
        )
        return (self.root / OWN, self.lake_folder, *files, *beside)


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    module: str
    state: str = ""
    schema: str = "sextant"
    lake: str = ""
    environment: str = ""
    pools: dict[str, int] = {}
    workers: int = 0
    include: tuple[str, ...] = ()
    key: str = ""
    ledger: Pin | None = None
    server: Server = Server()
    telemetry: Telemetry = Telemetry()


def find_config(start: Path) -> Path:
    """Return the folder of the nearest `sextant.toml`, from `start` upwards. NotFound when there is
    none."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise NotFound(
        "SX-CONF-001",
        f"there is no {FILE} in `{start}` or above it",
        hint="`sextant init NAME` writes a project, `--project DIR` names one",
    )


def read_config(root: Path) -> Config:
    """Return the settings of the project in folder `root`. ProjectError with the line for what is
    wrong in the file."""
    try:
        text = (root / FILE).read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotFound(
            "SX-CONF-001",
            f"there is no {FILE} in `{root}`",
            hint="`sextant init NAME` writes a project",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found = re.search(r"line (\d+)", str(error))
        raise ProjectError(
            "SX-CONF-002",
            f"{FILE} is not TOML: {error}",
            hint='as in `module = "ops"`',
            where=f"{FILE}:{found[1] if found else 1}",
        ) from error
    known = _Keys.__struct_fields__
    for key in raw:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"it knows {', '.join(known)}"
            raise ProjectError(
                "SX-CONF-003", f"{FILE} has no setting `{key}`", hint=hint, where=_where(text, key)
            )
    try:
        keys = msgspec.convert(raw, _Keys)
    except msgspec.ValidationError as error:
        key = (
            re.search(r"\$(?:\.\w+)*\.(\w+)(?:\[\d+\])?`?$", str(error))
            or re.search(r"`(\w+)`$", str(error))
            or ["", "module"]
        )[1]
        hint = (
            'say where the project begins: `module = "ops"`'
            if "missing" in str(error)
            else "see the reference of sextant.toml"
        )
        raise ProjectError(
            "SX-CONF-004",
            f"`{key}` of {FILE}: {str(error).split(' - at')[0]}",
            hint=hint,
            where=_where(text, key),
        ) from error
    for pool, size in keys.pools.items():
        if size < 1:
            raise ProjectError(
                "SX-CONF-004",
                f"the pool `{pool}` lets {size} steps run",
                hint="at least 1",
                where=_where(text, pool),
            )
    if not 0 <= keys.workers <= POOL_WORKERS_MAX:
        raise ProjectError(
            "SX-CONF-004",
            f"`workers` is {keys.workers}",
            hint=f"from 0 (as many as processors) to {POOL_WORKERS_MAX}",
            where=_where(text, "workers"),
        )
    _check_pin(keys.ledger, text)
    _check_server(keys, text)
    fields: dict[str, Any] = {name: getattr(keys, name) for name in known} | {
        "module": _module(keys.module, text)
    }
    return Config(root=root.resolve(), **fields)


def telemetry_missing(config: Config) -> MissingExtra | None:
    """Return the error that says that this installation keeps no telemetry and answers no SQL; None
    when it does. A ClickHouse server needs no extra."""
    return None if config.telemetry.clickhouse else extras.missing("telemetry")


def telemetry_off(config: Config) -> str:
    """Return one line that says why telemetry is off and how to install it; "" when it is on."""
    error = telemetry_missing(config)
    return f"telemetry is off: {error.message}; {error.hint}" if error else ""


def is_ledger_id(text: str) -> bool:
    """Say whether a text can be the id of a ledger: it becomes part of the names of files."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None


def _check_pin(pin: Pin | None, text: str) -> None:
    if pin is None:
        return
    if not is_ledger_id(pin.id):
        raise ProjectError(
            "SX-CONF-006",
            f"`id` of `ledger` in {FILE} is `{pin.id}`",
            hint="as Sextant wrote it: `prj_` and letters and digits",
            where=_where(text, "ledger"),
        )
    try:
        size = len(base64.b64decode(pin.public, validate=True))
    except ValueError:
        size = 0
    if size != _PUBLIC_BYTES:
        raise ProjectError(
            "SX-CONF-006",
            f"`public` of `ledger` in {FILE} is not a public key",
            hint="as Sextant wrote it: 32 bytes in base 64",
            where=_where(text, "ledger"),
        )


def _check_server(keys: _Keys, text: str) -> None:
    """Refuse addresses, lengths and targets that cannot be meant."""
    for name in ("api", "ingest", "grpc", "sql"):
        if name == "grpc" and not keys.server.grpc:
            continue
        host, _, port = getattr(keys.server, name).rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ProjectError(
                "SX-CONF-005",
                f"`{name}` of {FILE} is `{getattr(keys.server, name)}`",
                hint="host and port, as in `127.0.0.1:7780`",
                where=_where(text, name),
            )
    if keys.server.heartbeat and not keys.server.heartbeat.startswith(("http://", "https://")):
        raise ProjectError(
            "SX-CONF-005",
            f"`heartbeat` of {FILE} is `{keys.server.heartbeat}`",
            hint="https://host/path",
            where=_where(text, "heartbeat"),
        )
    lengths = [
        ("heartbeat_every", keys.server.heartbeat_every),
        *([("collect_every", keys.server.collect_every)] if keys.server.collect_every else []),
        *keys.telemetry.keep.items(),
        *((s.job, length) for s in keys.telemetry.scrape for length in (s.every, s.timeout)),
    ]
    for name, length in lengths:
        try:
            length_s(length)
        except UsageError as error:
            raise ProjectError(
                "SX-CONF-005",
                f"`{name}` of {FILE}: {error.message}",
                hint="write it as `30d`, `12h` or `15s`",
                where=_where(text, name),
            ) from error
    unknown = set(keys.telemetry.keep) - {"samples", "rollups", "logs", "spans", "events"}
    if unknown:
        raise ProjectError(
            "SX-CONF-005",
            f"`keep` of {FILE} names `{min(unknown)}`",
            hint="samples, rollups, logs, spans, events",
            where=_where(text, "keep"),
        )
    for target in keys.telemetry.scrape:
        if not target.url.startswith(("http://", "https://")):
            raise ProjectError(
                "SX-CONF-005",
                f"the target `{target.job}` of {FILE} is `{target.url}`",
                hint="http://host:port/metrics",
                where=_where(text, "url"),
            )


def _module(written: str, text: str) -> str:
    """Return the dotted name for a module written as name or as path."""
    name = (
        written.removesuffix(".py")
        .replace(os.sep, "/")
        .strip("/")
        .removesuffix("/__init__")
        .replace("/", ".")
    )
    if not all(part.isidentifier() for part in name.split(".")):
        raise ProjectError(
            "SX-CONF-004",
            f"`{written}` is not a module",
            hint='write `module = "flights.ops"` or `module = "flights/ops.py"`',
            where=_where(text, "module"),
        )
    return name


def _where(text: str, key: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[=\].]", line):
            return f"{FILE}:{number}"
    return f"{FILE}:1"


def login() -> str:
    """Return who works on this machine: what SEXTANT_USER says, else the login name."""
    try:
        return os.environ.get("SEXTANT_USER") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
