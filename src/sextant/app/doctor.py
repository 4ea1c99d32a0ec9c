"""Looks at a project and its machine for what is wrong or will be soon, and says how to mend it."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import msgspec

from sextant.app.access import Access
from sextant.app.past import silent_rules
from sextant.app.sealing import Sealing
from sextant.app.telemetry.asking import Ask
from sextant.authorization.authority import known_names
from sextant.authorization.decide import check_rules
from sextant.core import Core
from sextant.engine.bodies import blob_of
from sextant.kernel import registry
from sextant.kernel.answers import Finding
from sextant.kernel.clock import iso, to_datetime
from sextant.kernel.errors import SextantError
from sextant.ledger.signals import open_incidents
from sextant.project.config import telemetry_missing
from sextant.project.versions import project_id
from sextant.release.publish import Publisher
from sextant.release.releases import open_releases, takes_time
from sextant.stores import landlock

_FREE_BYTES_MIN = 1 << 30
# the machine's clock may lie so far behind the newest event before it is worth a word
_CLOCK_BEHIND_S = 5.0


def examine(
    core: Core,
    *,
    sealing: Sealing,
    publisher: Publisher,
    access: Callable[[], Access],
    ask: Ask,
    paths: bool = True,
) -> list[Finding]:
    """Return one entry for each thing looked at: name, ok, found, hint.

    paths  also say where the key, the witness and the folder lie
    """
    out: list[Finding] = []

    def say(name: str, ok: bool, found: str, hint: str = "", *, warn: bool = False) -> None:
        said = [found, hint if warn or not ok else ""]
        if not paths:
            said = [
                sealing.without_paths(text).replace(
                    str(core.project.folder), "the project's folder"
                )
                for text in said
            ]
        out.append({"name": name, "ok": ok, "warn": warn, "found": said[0], "hint": said[1]})

    say(
        "python",
        sys.version_info >= (3, 11),
        sys.version.split()[0],
        "Sextant needs Python 3.11 or newer",
    )
    free = shutil.disk_usage(core.project.folder).free
    say(
        "disk",
        free >= _FREE_BYTES_MIN,
        f"{free / (1 << 30):.1f} GiB free",
        "free some space; `sextant gc` deletes what nothing keeps",
    )
    mode = stat.S_IMODE(core.project.folder.stat().st_mode)
    say(
        "folder",
        not mode & 0o007,
        f"{core.project.folder} has mode {mode:04o}",
        f"chmod 700 {core.project.folder}",
    )
    problem = core.project.problem
    say(
        "project",
        problem is None,
        problem.message.splitlines()[0]
        if problem
        else f"{len(core.project.manifest().assets)} assets",
        (problem.hint or problem.where) if problem else "",
    )
    for env, found in _in_force(core):
        say(f"project in {env}", True, found)
    for name, warn, found, hint in _rules(core, publisher, access):
        say(name, warn, found, hint, warn=warn)
    differs = zone_differs(core.project.manifest().tz, core.clock.now_ns())
    say(
        "time zone",
        not differs,
        f"Python and DuckDB know {core.project.manifest().tz} differently from {differs} on"
        if differs
        else f"Python and DuckDB know {core.project.manifest().tz} alike",
        "update the machine's zone data (tzdata): days and hours would be cut at two places",
    )
    damage = core.state.integrity()
    say(
        "state",
        not damage,
        damage[0] if damage else "the database is sound",
        "`sextant ledger verify`, then `sextant backup restore`",
    )
    head = core.state.read("event_head")
    behind = (head[0][2] - core.clock.now_ns()) / 1e9 if head else 0.0
    say(
        "clock",
        behind < _CLOCK_BEHIND_S,
        f"{behind:.0f} s behind the newest event"
        if behind >= _CLOCK_BEHIND_S
        else "goes with the ledger",
        "set the machine's clock; new events carry the newest event's time until it has caught up",
    )
    try:
        signer = sealing.signer()
        say("key", True, f"{sealing.key_path} ({signer.public[:12]}...)")
    except SextantError as error:
        say("key", False, error.message, error.hint)
    try:
        sealing.confirm()
        say(
            "witness",
            sealing.witness_path.exists(),
            str(sealing.witness_path),
            "the next command that writes keeps one",
        )
    except SextantError as error:
        say("witness", False, error.message, error.hint)
    pinned, how = sealing.state_of_pin()
    say("pin", pinned, how, "`sextant ledger pin`, in the project's folder")
    missing = _missing_files(core)
    say(
        "lake",
        not missing,
        f"{len(missing)} files are missing, such as {missing[0]}"
        if missing
        else "every live version has its files",
        "restore them from a backup, or make the partitions again with --force",
    )
    stuck = [row[0] for row in core.state.read("runs_open")]
    say(
        "runs",
        not stuck,
        f"{len(stuck)} were not finished" if stuck else "none is open",
        "the next `sextant run` takes them up",
    )
    broken = registry.problems()
    say(
        "plug-ins",
        not broken,
        "; ".join(f"{name}: {text}" for name, text in broken.items()) or "none is broken",
        "mend or remove the package: what it brings is missing",
    )
    half_done = [
        one
        for one in open_releases(core.state)
        if one.state == "stuck" or (one.state != "waiting" and not takes_time(one))
    ]
    say(
        "releases",
        not half_done,
        f"{len(half_done)} are half done" if half_done else "none is half done",
        "the next `sextant run` takes them up; `sextant releases` shows those that are stuck",
    )
    withdrawn = open_incidents(core.state)
    say(
        "incidents",
        not withdrawn,
        f"{len(withdrawn)} open" if withdrawn else "none is open",
        "`sextant incidents` lists them",
    )
    if (core.project.folder / "access.db").exists():
        orphans = access().without_person()
        say(
            "tokens",
            not orphans,
            f"nobody answers for {len(orphans)}, which open nothing: "
            + ", ".join(f"{one['name']} ({one['id']})" for one in orphans[:3])
            if orphans
            else "somebody answers for each",
            "`sextant token hand ID PERSON`, or `sextant token revoke ID`",
        )
    for secret in core.project.manifest().secrets:
        say(
            f"secret {secret}",
            _has_secret(core, secret),
            "set" if _has_secret(core, secret) else "not set",
            f"export {secret}=..., or a line in {core.project.secrets_file} (mode 0600)",
        )
    confines = landlock.version()
    held = (
        "files and connections"
        if confines >= 4
        else "files, not connections"
        if confines
        else "nothing"
    )
    say(
        "landlock",
        bool(confines),
        f"the kernel confines what answers SQL: {held}",
        (
            "SQL stays on loopback; Linux 5.13 and later have Landlock (it must be switched on: "
            "`lsm=landlock,...`)"
        ),
    )
    last = core.state.read("checkpoint_last")
    say(
        "checkpoint",
        bool(last) or not head,
        f"{last[0][0]} events signed at {iso(last[0][2])[:19]}Z"
        if last
        else "nothing is signed yet",
        "`sextant ledger checkpoint` signs",
    )
    off = telemetry_missing(core.project.config)
    if off:
        say("telemetry", True, f"off: {off.message}", off.hint, warn=True)
    rates = None if off else _rates(core, ask)
    if rates:
        say("rates", True, *rates, warn=True)
    return out


# the growth of counters that an older version counted: when this one's began, if there is some
_RATES_SQL = (
    "SELECT toString(toStartOfFiveMinutes(toTimeZone(at, 'UTC'))) AS since FROM "
    "obs.schema_version WHERE name = '002_growth' AND (SELECT count() FROM (SELECT 1 FROM "
    "obs.rollups WHERE exact = 0 LIMIT 1)) > 0"
)


def _rates(core: Core, ask: Ask) -> tuple[str, str] | None:
    """Return since when growth is counted as it is now, and what that means; None where nothing was
    counted otherwise."""
    if not (core.project.folder / "telemetry" / "store").exists():
        return None
    try:
        rows = ask(_RATES_SQL, "JSONEachRow", {}, "admin", "").splitlines()
    except SextantError as error:
        return error.message, error.hint
    if not rows:
        return None
    since = msgspec.json.decode(rows[0])["since"]
    return (
        f"right from {since} UTC on",
        (
            "before, several processes of one service were counted as one, and increments (delta "
            "temporality) not at all: `exact` of obs.rates is 0"
        ),
    )


def _in_force(core: Core) -> Iterator[tuple[str, str]]:
    """Yield for each environment what of the project is in force there, and since when."""
    project = core.project
    id_ = project_id(project.manifest().project)
    for env, *_ in core.state.read("envs"):
        live = core.versions.live(env).get(id_)
        if project.follows(env):
            yield env, "follows the folder"
        elif live is None:
            yield env, f"nothing was released to it; `sextant run --env {env}` does"
        else:
            how = f"by release {live.release}" if live.release else "by what was loaded last"
            of = f" of {live.env}" if live.env != env else ""
            yield env, f"version {live.version[:12]}{of} since {iso(live.moved_at)[:16]}, {how}"


def _rules(
    core: Core, publisher: Publisher, access: Callable[[], Access]
) -> list[tuple[str, bool, str, str]]:
    """Return what is to be said of the project's rules: name, whether it is a warning only, found,
    hint."""
    try:
        for manifest in core.project.manifests():
            check_rules(manifest.policies, known_names(core.state, manifest))
        looked_at, silent = silent_rules(core, publisher, access)
    except SextantError as error:  # written before its names were checked, or what it names is gone
        return [("rules", False, error.message, error.hint)]
    return [
        (
            f"rule {rule.name}",
            True,
            f"matched none of the last {looked_at:,} recorded actions",
            f"see whether its condition says what is meant: {rule.when} ({rule.file}:{rule.line})",
        )
        for rule in silent
        if looked_at
    ]


def zone_differs(tz: str, now_ns: int) -> str:
    """Return the first hour, from a year before to two years after now, at which Python's zone data
    and DuckDB's give a zone another local time; "" when they agree."""
    import duckdb

    zone = ZoneInfo(tz)
    start = to_datetime(now_ns).replace(minute=0, second=0, microsecond=0) - timedelta(days=365)
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT n, timezone(?, ? + to_hours(n)) FROM range(?) AS r(n) ORDER BY n",
            [tz, start, 3 * 365 * 24],
        ).fetchall()
    for hours, local in found:
        at = start + timedelta(hours=hours)
        if at.astimezone(zone).replace(tzinfo=None) != local:
            return f"{at:%Y-%m-%d %H:%M} UTC"
    return ""


def _missing_files(core: Core) -> list[str]:
    live = {(row[1], row[2]) for row in core.state.read("pointers_all")}
    out = []
    for asset, digest, locator, _ in core.state.read("versions_kept"):
        blob = blob_of(locator)
        if (asset, digest) in live and blob:
            out += [] if core.blobs.has(blob) else [f"{asset}: the blob {blob}"]
        elif (asset, digest) in live and locator:
            try:
                out += [
                    file.path
                    for file in core.lake.files(locator)
                    if not os.path.exists(core.lake.root / file.path)
                ]
            except SextantError as error:
                out.append(f"{asset}: {error.message}")
    return out


def _has_secret(core: Core, name: str) -> bool:
    from sextant.project.secrets import LocalSecrets

    try:
        LocalSecrets(core.project.secrets_file).get(name)
    except SextantError:
        return False
    return True
