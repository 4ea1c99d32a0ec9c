"""A small ledger with something of everything, a project around one, and what an attacker may do to
them. Used by tests and by `bench/ledger.py`.

Each tampering changes a copy of the state file and must make `verify` report something. `database`
attackers can write the file; `key` attackers also hold the signing key and forge a log that is
consistent in itself.
"""

from sextant.kernel.nouns import SYSTEM
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sextant.project.config import Pin, read_config
from sextant.app.operations import Operations
from sextant.app.pin import remove_pin, write_pin
from sextant.app.platform import LocalPlatform
from sextant.engine.history import History, Record
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import UserError, WorldError
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    Edge,
    Event,
    Incident,
    Move,
    Part,
    Release,
    Signal,
    Version,
)
from sextant.kernel.ports import Write
from sextant.ledger import merkle, projections
from sextant.ledger.checkpoint import Checkpoint, Signer, open_signer, rotate, sign_head
from sextant.ledger.erase import erase
from sextant.ledger.log import Ledger, entries, event, payload_hash, subtrees
from sextant.ledger.rebuild import rebuild
from sextant.ledger.verify import Report, verify
from sextant.ledger.witness import Witness
from sextant.stores.state import StateStore, open_reader, open_state
from sextant.stores.statements import load

NOON = 1_700_000_000_000_000_000
ORIGIN = "sextant/flights"
TABLES = ("event", "payload", "node", "checkpoint", *projections.PROJECTED)


class Sample(NamedTuple):
    path: Path
    signer: Signer
    witness: Witness


class Machine:
    """Clock, ids and randomness of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock(NOON)
        self.ids = Ids(self.clock, self.random)

    def open(self, path: Path) -> StateStore:
        return open_state(path, Ledger(self.clock, salts=self.random.randbytes), clock=self.clock)


def story(machine: Machine, days: int) -> list[Event]:
    """Return events of all kinds: a project whose dataset is made, checked and released day by
    day."""
    told: list[Event] = []

    def tell(type_: str, subject: str, data: Any, cause: str = "") -> str:
        told.append(event(machine.ids, type_, subject, data, actor="person:ann", cause=cause))
        return told[-1].id

    asset = Asset(kind="dataset", name="flights", owner="ops", tier=1)
    edge = Edge(source="dataset:planes", target="dataset:flights", kind="feeds")
    loaded = tell(
        "project.loaded", "project:flights", projections.ProjectLoaded("flights", "m1", "b1")
    )
    tell("asset.declared", asset.id, projections.AssetDeclared(asset, edges=(edge,)), loaded)
    tell(
        "asset.observed",
        "host:a",
        projections.AssetDeclared(Asset(kind="host", name="a", mode="observed")),
        loaded,
    )
    tell(
        "asset.retired",
        "host:a",
        projections.AssetDeclared(Asset(kind="host", name="a", mode="observed")),
        loaded,
    )
    for env in ("prod", "dev", "pr-1"):
        tell(
            "env.created",
            f"env:{env}",
            projections.EnvCreated(env, "" if env == "prod" else "prod"),
            loaded,
        )
    tell("env.dropped", "env:pr-1", projections.EnvCreated("pr-1", "prod"), loaded)
    live = ""
    for day in range(days):
        run, digest, release = f"run_{day}", f"{day:064x}", f"release_{day}"
        started = tell(
            "run.started",
            run,
            projections.RunChanged(
                id=run, env="prod", state="running", ticks={asset.id: NOON + day}
            ),
            loaded,
        )
        part = Part(
            partition=f"2013-01-{day:02d}", digest=digest, rows=800 + day, code="c", inputs="i"
        )
        version = Version(
            asset=asset.id,
            digest=digest,
            parent=live,
            locator=f"flights/{day}.json",
            run=run,
            inputs={"dataset:planes": "p"},
            parts=(part,),
            removed=("2012-12-31",) if day == 3 else (),
            rows=800 + day,
            size_bytes=10_000,
        )
        made = tell("version.created", asset.id, projections.VersionCreated(version), started)
        results = tuple(
            CheckResult(
                name=name, asset=asset.id, partition=part.partition, ok=day % 7 != n, failed=day
            )
            for n, name in enumerate(("not_null", "unique"))
        )
        checked = tell(
            "checks.completed",
            asset.id,
            projections.ChecksCompleted(run, asset.id, digest, results),
            made,
        )
        bad = day % 7 == 0
        moves = (Move(env="prod", asset=asset.id, source=live, target=digest),)
        proposed = tell(
            "release.proposed",
            release,
            Release(id=release, state="proposed", moves=moves, run=run),
            checked,
        )
        tell(
            f"release.{'rejected' if bad else 'live'}",
            release,
            Release(id=release, state="rejected" if bad else "live", moves=moves, run=run),
            proposed,
        )
        if bad:
            raised = tell(
                "signal.raised",
                asset.id,
                Signal(
                    id=f"signal_{day}",
                    asset=asset.id,
                    kind="check",
                    severity="error",
                    message="no origin",
                    onset=NOON,
                ),
                checked,
            )
            opened = tell(
                "incident.opened",
                f"incident_{day}",
                Incident(
                    id=f"incident_{day}",
                    title="bad",
                    assets=(asset.id,),
                    signals=(f"signal_{day}",),
                ),
                raised,
            )
            tell(
                "signal.repeated",
                f"signal_{day}",
                projections.SignalRepeated(
                    id=f"signal_{day}", asset=asset.id, at=NOON, count=1, message="no origin"
                ),
                checked,
            )
            tell(
                "incident.changed",
                f"incident_{day}",
                projections.IncidentChanged(
                    id=f"incident_{day}",
                    change="commented",
                    facts=projections.IncidentFacts(
                        assets=(asset.id,), signals=(f"signal_{day}",), comments=1
                    ),
                    comment="seen",
                ),
            )
            tell(
                "version.withdrawn",
                asset.id,
                projections.VersionWithdrawn(
                    "prod",
                    asset.id,
                    digest,
                    release,
                    "bad",
                    (projections.Held(part.partition, "c", "i", digest),),
                ),
                opened,
            )
            tell(
                "version.tainted",
                "dataset:daily",
                projections.VersionTainted("dataset:daily", digest, asset.id, digest),
                opened,
            )
            tell(
                "version.confirmed",
                asset.id,
                projections.VersionConfirmed(
                    asset.id,
                    (
                        Part(
                            partition="2013-01-01",
                            digest=digest,
                            rows=1,
                            code=digest,
                            inputs=digest,
                        ),
                    ),
                ),
                opened,
            )
            part = Part(partition="2013-01-01", digest=digest, rows=1, code=digest, inputs=digest)
            tell(
                "hold.answered",
                asset.id,
                projections.HoldAnswered("prod", asset.id, (part,)),
                opened,
            )
            if day % 2:
                tell(
                    "version.unheld",
                    asset.id,
                    projections.VersionUnheld("prod", asset.id, digest),
                    opened,
                )
                tell("signal.closed", asset.id, projections.Closed(f"signal_{day}"), opened)
                tell(
                    "incident.closed",
                    f"incident_{day}",
                    projections.Closed(f"incident_{day}"),
                    opened,
                )
        else:
            live = digest
            tell(
                "version.relocated",
                asset.id,
                projections.VersionRelocated(asset.id, digest, f"flights/{day}-month.json"),
                made,
            )
        tell(
            "run.finished",
            run,
            projections.RunChanged(
                id=run, env="prod", state="done", rows=800, started_at=NOON, finished_at=NOON + day
            ),
            started,
        )
    tell(
        "version.expired", asset.id, projections.VersionRelocated(asset.id, f"{1:064x}", ""), loaded
    )
    tell(
        "release.proposed",
        "release_open",
        Release(
            id="release_open",
            state="proposed",
            moves=(Move(env="dev", asset=asset.id, source="", target=live),),
        ),
        loaded,
    )
    tell("note.taken", asset.id, {"text": "a type without a projection"})
    return told


def make_sample(folder: Path, *, days: int = 40, seed: int = 1) -> Sample:
    """Write a ledger of some 6 events a day: two checkpoints, a rotated key, an erased payload, and
    a witness of its head."""
    machine = Machine(seed)
    path = folder / "sample.db"
    state = machine.open(path)
    signer = open_signer(state, folder / "keys" / "key.pem")
    told = story(machine, days)
    for at, one in enumerate(told):
        if at == len(told) // 3:
            state.flush()
            signer = rotate(
                state,
                signer,
                origin=ORIGIN,
                clock=machine.clock,
                ids=machine.ids,
                actor="person:ann",
            )
        machine.clock.wait(0.001)
        state.commit(Write(events=(one,)))
    raised = next(
        entry.envelope.seq
        for entry in entries(state.read, "events_after", (0, 1_000))
        if entry.envelope.type == "signal.raised"
    )
    erase(state, raised, reason="asked to", actor="person:ann", ids=machine.ids)
    sign_head(state, signer, origin=ORIGIN, clock=machine.clock)
    witness = Witness(signer.public, state.read("checkpoint_last")[0][1])
    state.close()
    return Sample(path, signer, witness)


def check(path: Path, sample: Sample) -> Report:
    reader = open_reader(str(path))
    try:
        return verify(reader, public=sample.signer.public, witness=sample.witness, workers=1)
    finally:
        reader.close()


def copy(source: Path, target: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(source, target)


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]] | None:
    """Return all rows of a ledger, None when they cannot be read."""
    database = sqlite3.connect(path)
    try:
        return {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    finally:
        database.close()


def tamper(sample: Sample, target: Path, rng: random.Random) -> str:
    """Make a copy and change it as one who can write the database; return what was done."""
    while True:
        copy(sample.path, target)
        kind = rng.choice(
            ("cell", "cell", "cell", "file", "delete", "insert", "reorder", "truncate", "fork")
        )
        if kind == "file":
            done = _flip_in_file(target, rng)
        elif kind in ("truncate", "fork"):
            done = forge(sample, target, rng, kind, signed=False)
        else:
            database = sqlite3.connect(target, isolation_level=None)
            try:
                done = {
                    "cell": _flip_cell,
                    "delete": _delete,
                    "insert": _insert,
                    "reorder": _reorder,
                }[kind](database, rng)
            except (sqlite3.IntegrityError, OverflowError):  # the database did not let him
                done = ""
            finally:
                database.close()
        if done and contents(target) != contents(sample.path):
            return f"{kind}: {done}"
        if done and kind == "file" and not check(target, sample).ok:
            return f"{kind}: {done}"  # an index, or the database's own structure


def _flip_in_file(target: Path, rng: random.Random) -> str:
    data = bytearray(target.read_bytes())
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    target.write_bytes(data)
    return f"bit {bit} of byte {at}"


def _row(
    database: sqlite3.Connection, rng: random.Random
) -> tuple[str, int, tuple[Any, ...], list[str]]:
    table = rng.choice(
        [table for table in TABLES if database.execute(f"SELECT 1 FROM {table}").fetchone()]
    )
    rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
    row = rng.choice(rows)
    return (
        table,
        row[0],
        row[1:],
        [info[1] for info in database.execute(f"PRAGMA table_info({table})")],
    )


def flipped(value: Any, rng: random.Random) -> Any:
    """Return a value with one bit changed."""
    if isinstance(value, int):
        return value ^ 1 << rng.randrange(60)
    if not value:
        return "x" if isinstance(value, str) else b"x"
    data = bytearray(value if isinstance(value, bytes) else value.encode())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8 if isinstance(value, bytes) else 7)
    return bytes(data) if isinstance(value, bytes) else data.decode(errors="replace")


def _flip_cell(database: sqlite3.Connection, rng: random.Random) -> str:
    table, rowid, row, names = _row(database, rng)
    at = rng.randrange(len(row))
    database.execute(
        f"UPDATE {table} SET {names[at]} = ? WHERE rowid = ?", (flipped(row[at], rng), rowid)
    )
    return f"{table}.{names[at]} of row {rowid}"


def _delete(database: sqlite3.Connection, rng: random.Random) -> str:
    table, rowid, _, _ = _row(database, rng)
    database.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
    return f"{table} row {rowid}"


def _insert(database: sqlite3.Connection, rng: random.Random) -> str:
    table, rowid, row, _ = _row(database, rng)
    if table in (
        "event",
        "payload",
        "checkpoint",
    ):  # a forged event, well numbered, is a fork: see there
        row = (row[0] + 10_000, *row[1:])
    else:
        row = tuple(flipped(value, rng) for value in row)
    if table == "event":
        row = (row[0], row[1] + "x", *row[2:])
    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    return f"{table} like row {rowid}"


def _reorder(database: sqlite3.Connection, rng: random.Random) -> str:
    table = rng.choice(("event", "payload", "node", "checkpoint"))
    rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
    one, two = rng.sample(rows, 2) if len(rows) > 1 else (rows[0], rows[0])
    names = [info[1] for info in database.execute(f"PRAGMA table_info({table})")]
    kept = 2 if table == "node" else 1  # the places stay, what stands there changes
    database.execute("DROP INDEX IF EXISTS event_id")
    for row, other in ((one, two), (two, one)):
        database.execute(
            (
                f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in names[kept:])} WHERE "
                "rowid = ?"
            ),
            (*other[1 + kept :], row[0]),
        )
    if table == "event":
        database.execute("CREATE UNIQUE INDEX event_id ON event (id)")
    return f"{table} rows {one[0]} and {two[0]}"


def forge(
    sample: Sample,
    target: Path,
    rng: random.Random,
    kind: str,
    *,
    signed: bool,
    origin: str = ORIGIN,
) -> str:
    """Write another log, consistent in itself, in the place of the real one: signed with the
    sample's key, or with the checkpoints that are left."""
    copy(sample.path, target)
    database = sqlite3.connect(target, isolation_level=None)
    rows = database.execute(
        "SELECT e.envelope, p.salt, p.body FROM event e LEFT JOIN payload p ON p.seq = "
        "e.seq ORDER BY e.seq"
    ).fetchall()
    count, at = len(rows), rng.randrange(len(rows))
    if kind == "truncate":
        del rows[at:]
    elif kind == "delete":
        del rows[at]
    elif kind == "reorder":
        other = rng.choice([place for place in range(count) if place != at])
        rows[at], rows[other] = rows[other], rows[at]
    else:
        at = rng.choice(
            [
                place
                for place, row in enumerate(rows)
                if json.loads(row[0])["type"] == "run.finished" and b'"rows":800' in row[2]
            ]
        )
        said, body = json.loads(rows[at][0]), rows[at][2].replace(b'"rows":800', b'"rows":900')
        said["hash"] = payload_hash(rows[at][1], body)
        rows[at] = (json.dumps(said, separators=(",", ":")).encode(), rows[at][1], body)
    database.execute("BEGIN")
    for table in ("event", "payload", "node"):
        database.execute(f"DELETE FROM {table}")
    tree = merkle.Frontier()
    time = NOON
    for seq, (envelope, salt, body) in enumerate(rows):
        said = json.loads(envelope)
        time = max(time, said["time"])
        said |= {"seq": seq, "time": time}
        envelope = json.dumps(said, separators=(",", ":")).encode()
        columns = (seq, said["id"], said["type"], said["subject"], said["cause"], time, envelope)
        database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", columns)
        if body is not None:
            database.execute("INSERT INTO payload VALUES (?, ?, ?)", (seq, salt, body))
        database.executemany(
            "INSERT INTO node VALUES (?, ?, ?)", tree.append(merkle.leaf_hash(envelope))
        )
    subtree = subtrees(
        lambda name, params: database.execute(
            load("sextant.stores.state")[name].text, params
        ).fetchall()
    )
    database.execute("DELETE FROM checkpoint WHERE size > ?", (len(rows),))
    if signed and rows:  # he has only the newest key, so he starts the checkpoints anew
        database.execute("DELETE FROM checkpoint")
        note = sample.signer.note(
            Checkpoint(origin, len(rows), merkle.root(len(rows), subtree), time)
        )
        database.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (len(rows), note, time))
    database.execute("COMMIT")
    database.close()
    machine = Machine(0)
    state = machine.open(target)
    rebuild(state)
    state.close()
    return f"{kind} at {at} of {count}{' signed' if signed else ''}"


def tamper_with_key(sample: Sample, target: Path, rng: random.Random) -> str:
    """Replace the log as one who holds database and key; return what was done."""
    return forge(
        sample, target, rng, rng.choice(("truncate", "fork", "delete", "reorder")), signed=True
    )


# ---------------------------------------------------------------- a project: pin, key, witness


class Project(NamedTuple):
    """A project with its ledger, run history, key, witness and pin. `pristine` is a copy of all of
    it; `attacker` a key that somebody else has made."""

    folder: Path
    pristine: Path
    attacker: Signer
    id: str
    is_pinned: bool

    @property
    def database(self) -> Path:
        return self.folder / "shop" / ".sextant" / "state.db"

    @property
    def key(self) -> Path:
        return self.folder / "home" / "keys" / f"{self.id}.pem"

    def restore(self) -> None:
        """Put everything back as it was. The place stays the same: the witness is found by it."""
        for name in ("shop", "home"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(self.pristine / name, self.folder / name)

    def open(self, *, confirm: bool) -> LocalPlatform:
        root = self.folder / "shop"
        return LocalPlatform(
            read_config(root), load=False, confirm=confirm, home=self.folder / "home"
        )

    def verify(self) -> list[str]:
        """Return what `ledger verify` says, or the error with which it ends. A bug passes on."""
        try:
            with self.open(confirm=False) as p:
                verified = Operations(p).verify()
        except (UserError, WorldError) as error:
            return [error.code]
        said = [f"{one['table']}: {one['message']}" for one in verified["findings"]]
        assert bool(said) != verified["ok"]
        return said

    def do_something(self) -> None:
        """Do what an ordinary command does: open, write, sign. It may be refused."""
        try:
            with self.open(confirm=True) as p:
                p.core.state.commit(
                    Write((), (p.core.events.make("note.taken", "a", {}, SYSTEM, ""),))
                )
                p.sealing.checkpoint()
        except (UserError, WorldError):
            return


def make_project(folder: Path, *, days: int = 8, seed: int = 1, pinned: bool = True) -> Project:
    """Write a project: a story of some days, runs with sealed history, a rotated key."""
    root, pristine = folder / "shop", folder / "pristine"
    root.mkdir(parents=True)
    (root / "sextant.toml").write_text('module = "ops"\n')
    machine = Machine(seed)
    with LocalPlatform(read_config(root), load=False, home=folder / "home") as p:
        for one in story(machine, days):
            p.core.state.commit(Write(events=(one,)))
        p.sealing.checkpoint()
        for n in range(4):
            run = f"run_sealed_{n}"
            history = History(run)
            facts = projections.RunChanged(id=run, env="prod", state="running")
            p.core.state.commit(
                Write((), (p.core.events.make("run.started", run, facts, SYSTEM, ""),))
            )
            steps = (Record(kind="end", step=f"step {k}", rows=800 + k) for k in range(3 + n))
            p.core.state.commit(Write(tuple(history.add(record) for record in steps)))
            facts = projections.RunChanged(
                id=run, env="prod", state="finished", finished_at=NOON + n, seal=history.seal
            )
            p.core.state.commit(
                Write((), (p.core.events.make("run.finished", run, facts, SYSTEM, ""),))
            )
        signer = rotate(
            p.core.state,
            p.sealing.signer(),
            origin=p.sealing.origin,
            clock=p.core.clock,
            ids=p.core.ids,
            actor="person:ann",
        )
        write_pin(root, Pin(id=p.sealing.project_id, public=signer.public))
        p.core.state.commit(Write((), (p.core.events.make("note.taken", "a", {}, SYSTEM, ""),)))
        p.sealing.checkpoint()
        id_ = p.sealing.project_id
    database = sqlite3.connect(root / ".sextant" / "state.db")
    database.execute("PRAGMA journal_mode = DELETE")  # one file, to copy
    database.close()
    if not pinned:
        remove_pin(root)
    for name in ("shop", "home"):
        shutil.copytree(folder / name, pristine / name)
    attacker = Signer.create(folder / "attacker" / "key.pem")
    return Project(folder, pristine, attacker, id_, pinned)


def _other_id(project: Project, rng: random.Random) -> str:
    new = rng.choice(("", "prj_other", project.id[:-1] + "x", "../../x", None))
    with _writing(project) as database:
        if new is None:
            database.execute("DELETE FROM meta WHERE key = 'project_id'")
        else:
            database.execute("UPDATE meta SET value = ? WHERE key = 'project_id'", (new,))
    return f"id {new!r}"


def _rewritten(project: Project, rng: random.Random, *, origin: str, signed: bool) -> str:
    """Rewrite the past: signed by the attacker's key, or not at all."""
    source = Sample(
        project.pristine / "shop" / ".sextant" / "state.db",
        project.attacker,
        Witness(project.attacker.public, ""),
    )
    kind = rng.choice(("truncate", "fork", "delete", "reorder"))
    done = forge(source, project.database, rng, kind, signed=signed, origin=origin)
    if not signed:
        with _writing(project) as database:
            database.execute("DELETE FROM checkpoint")
    return done


def _other_id_rewritten(project: Project, rng: random.Random) -> str:
    done = _rewritten(project, rng, origin=ORIGIN, signed=False)
    return f"{done}, {_other_id(project, rng)}"


def _other_key(project: Project, rng: random.Random) -> str:
    origin = rng.choice((f"sextant/{project.id}", "sextant/prj_other"))
    done = _rewritten(project, rng, origin=origin, signed=True)
    with _writing(project) as database:
        id_ = origin.removeprefix("sextant/")
        database.execute("UPDATE meta SET value = ? WHERE key = 'project_id'", (id_,))
    return f"{done}, as {origin}"


def _witness_removed(project: Project, rng: random.Random) -> str:
    change = rng.choice((_other_id, _other_id_rewritten, _other_key))
    done = change(project, rng)
    shutil.rmtree(project.folder / "home" / "witness")
    return f"{done}, witness removed"


def _unsigned(project: Project, rng: random.Random) -> str:
    if rng.random() < 0.5 and project.is_pinned:
        shutil.rmtree(project.folder / "home" / "witness")
    return _rewritten(project, rng, origin=ORIGIN, signed=False)


def _key_gone(project: Project, rng: random.Random) -> str:
    change = rng.choice((_other_id, _other_key, _unsigned, None))
    done = change(project, rng) if change else "as it is"
    project.key.unlink()
    return f"{done}, key removed"


def _emptied(project: Project, rng: random.Random) -> str:
    if rng.random() < 0.5:
        project.database.unlink()
        return "file"
    with _writing(project) as database:
        tables = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            if table != "meta" or rng.random() < 0.5:
                database.execute(f"DELETE FROM {table}")
    return "rows"


def _history(project: Project, rng: random.Random) -> str:
    """Change a row of the run history. A history that is gone as a whole may have been pruned."""
    while True:
        with _writing(project) as database:
            rows = database.execute("SELECT rowid, run, n, body FROM history").fetchall()
            rowid, run, n, body = rng.choice(rows)
            what = rng.choice(("body", "type", "delete", "n", "run", "insert", "swap", "words"))
            change, values = "UPDATE history SET body = ? WHERE rowid = ?", (body, rowid)
            if what == "body":
                values = (flipped(body, rng), rowid)
            elif what == "type":
                values = (rng.choice((7, 1.5, "text", b"", b"{", b"[]", 1 << 62)), rowid)
            elif what == "words":
                values = (body.replace(b'"rows":80', b'"rows":"x'), rowid)
            elif what == "delete":
                change, values = "DELETE FROM history WHERE rowid = ?", (rowid,)
            elif what == "n":
                change = "UPDATE history SET n = ? WHERE rowid = ?"
                values = (rng.choice((99, -1, "x", 1.5)), rowid)
            elif what == "run":
                change = "UPDATE history SET run = ? WHERE rowid = ?"
                values = (rng.choice(("run_sealed_0", "run_nowhere", "", 7, b"x")), rowid)
            elif what == "insert":
                change, values = "INSERT INTO history VALUES (?, ?, ?)", (run, n + 50, body)
            else:
                other = rng.choice(rows)
                database.execute(change, (other[3], rowid))
                values = (body, other[0])
            try:
                database.execute(change, values)
            except sqlite3.IntegrityError:  # the database did not let him
                continue
            if database.execute("SELECT rowid, run, n, body FROM history").fetchall() != rows:
                return f"{what} of {run} {n}"


PROJECT_KINDS: dict[str, Callable[[Project, random.Random], str]] = {
    "other-id": _other_id,
    "other-id-rewritten": _other_id_rewritten,
    "other-key": _other_key,
    "witness-removed": _witness_removed,
    "unsigned": _unsigned,
    "key-gone": _key_gone,
    "emptied": _emptied,
    "history": _history,
}
NEEDS_PIN = ("witness-removed",)  # nothing else is left outside of the database


def project_missed(project: Project, rng: random.Random, kind: str) -> str:
    """Restore a project and tamper with it once. Return what was done when that was missed, "" when
    it was found: at once, and still after another command, which makes no key."""
    project.restore()
    done = PROJECT_KINDS[kind](project, rng)
    if not project.verify():
        return done
    if rng.random() < 0.2:
        had_key = project.key.exists()
        project.do_something()
        if project.key.exists() != had_key or not project.verify():
            return f"{done}, then a command"
    return ""


@contextmanager
def _writing(project: Project) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(project.database, isolation_level=None)
    try:
        yield database
    finally:
        database.close()
