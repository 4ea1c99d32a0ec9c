"""backup, gc, doctor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, line, platform, state, table, wide
from sextant.cli.progress import Progress

if TYPE_CHECKING:
    from sextant.kernel.answers import DataChecked, Finding


@click.group()
def backup() -> None:
    """Create, verify and restore backups of state, lake, blobs and key."""


@backup.command("create")
@click.argument("folder", type=click.Path(path_type=Path), help="A new one.")
@json_option
def backup_create(folder: Path, as_json: bool) -> int:
    """Write a backup into a new FOLDER, while runs go on. It holds the signing key: keep it
    safe. Exit code 1 when a file that was copied is not what was written."""
    with platform() as p:
        done = p.backup(str(folder))
        emit(
            done,
            json=as_json,
            text=lambda: [
                (
                    f"backed up {done['events']} events and {done['files']} files "
                    f"({done['size_bytes']:,} bytes) to {done['folder']}"
                ),
                *_damaged(done),
            ],
        )
        return int(bool(done["damaged"]))


def _damaged(done: dict[str, Any]) -> list[str]:
    return [line(state("damaged", "warn"), f": {text}") for text in done["damaged"]]


@backup.command("verify")
@click.argument("folder", type=click.Path(path_type=Path), help="Of the backup.")
@json_option
def backup_verify(folder: Path, as_json: bool) -> int:
    """Check every file of a backup, its ledger, and that data is what the ledger says. Exit code 1
    with findings."""
    from sextant.app.backup import verify

    found = verify(folder)
    emit(
        found,
        json=as_json,
        text=lambda: (
            [
                (
                    f"the backup of {found['created_at']} is whole: {found['events']} events, "
                    f"{found['files']} files"
                )
            ]
            if found["ok"]
            else [
                *(line(state("finding", "warn"), f": {text}") for text in found["findings"]),
                *_damaged(found),
            ]
        ),
    )
    return int(not found["ok"])


@backup.command("restore")
@click.argument("folder", type=click.Path(path_type=Path), help="Of the backup.")
@click.argument("target", type=click.Path(path_type=Path), help="The project's folder.")
@json_option
def backup_restore(folder: Path, target: Path, as_json: bool) -> None:
    """Put a backup into the project folder TARGET, which must have no .sextant yet. The project's
    own files come from version control."""
    from sextant.app.backup import restore

    done = restore(folder, target)
    emit(
        done,
        json=as_json,
        text=lambda: [
            f"restored {done['events']} events into {done['folder']}",
            *_damaged(done),
        ],
    )


@click.command()
@click.option(
    "--history",
    default="",
    metavar="LENGTH",
    help="Also prune the step history of runs older than this, such as 90d.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def gc(history: str, dry_run: bool, as_json: bool) -> None:
    """Delete the bytes that nothing keeps: no pointer, open release, undo window or provenance.
    Records stay."""
    with platform() as p:
        done = p.collect(history=history, dry_run=dry_run)
        verb = "would expire" if dry_run else "expired"
        emit(
            done,
            json=as_json,
            text=lambda: [
                (
                    f"{verb} {len(done['expire'])} versions, {len(done['prune_runs'])} run "
                    f"histories; {done['freed_bytes']:,} bytes freed"
                )
            ],
        )


def _marked(finding: "Finding") -> str:
    if not finding["ok"]:
        return "LOOK"
    return "note" if finding["warn"] else "ok"


@click.command()
@click.option("--data", is_flag=True, help="Read and compare every file of the lake and its rows.")
@wide
@json_option
def doctor(data: bool, as_json: bool) -> int:
    """Look for what is wrong with this project and machine. Exit code 1 with a finding."""
    if data:
        return _check_data(as_json)
    with platform() as p:
        found = p.doctor()
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("", "what", "found", "mend"),
                [
                    (
                        state("LOOK" if not f["ok"] else "note" if f["warn"] else "ok"),
                        f["name"],
                        f["found"],
                        f["hint"],
                    )
                    for f in found
                ],
            ),
        )
        return int(not all(f["ok"] for f in found))


def _check_data(as_json: bool) -> int:
    with platform() as p:
        with Progress(unit="versions") as progress:
            done = p.check_data(progress=progress)
        emit(done, json=as_json, text=lambda: _data_lines(done))
        return int(bool(done["findings"]))


def _data_lines(done: "DataChecked") -> list[str]:
    out = [
        line(
            state("finding", "warn"),
            f": {found['asset']}@{found['version'][:12]}"
            f"{', ' if found['partitions'] else ''}{found['partitions']}: "
            f"{'`' + found['file'] + '` ' if found['file'] else ''}{found['found']}",
        )
        for found in done["findings"]
    ]
    if done["left_out"]:
        out.append(f"and {done['left_out']:,} more")
    if done["findings"]:
        out.append(f"hint: {done['findings'][0]['hint']}")
    out += [f"note: {text}" for text in done["notes"]]
    if done["recorded"]:
        out.append(
            f"recorded the digest of {done['recorded']:,} files that had none; their rows are "
            "those of their versions"
        )
    if done["profiled"]:
        out.append(f"made the profiles of {done['profiled']:,} files of their rows")
    read = (
        f"{done['files']:,} files ({done['size_bytes']:,} bytes) of {done['versions']:,} versions, "
        f"{done['partitions']:,} partitions"
    )
    all_right = "" if done["findings"] else ": all of it is what was written"
    return [*out, f"compared {read}{all_right}"]
