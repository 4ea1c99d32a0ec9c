"""backup, gc, doctor."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, line, platform, state, table, wide

if TYPE_CHECKING:
    from sextant.app.answers import Finding


@click.group()
def backup() -> None:
    """Create, verify and restore backups of state, lake, blobs and key."""


@backup.command("create")
@click.argument("folder", type=click.Path(path_type=Path), help="A new one.")
@json_option
def backup_create(folder: Path, as_json: bool) -> None:
    """Write a backup into a new FOLDER, while runs go on. It holds the signing key: keep it
    safe."""
    with platform() as p:
        done = p.backup(str(folder))
        emit(
            done,
            json=as_json,
            text=lambda: [
                (
                    f"backed up {done['events']} events and {done['files']} files "
                    f"({done['size_bytes']:,} bytes) to {done['folder']}"
                )
            ],
        )


@backup.command("verify")
@click.argument("folder", type=click.Path(path_type=Path), help="Of the backup.")
@json_option
def backup_verify(folder: Path, as_json: bool) -> int:
    """Check every file of a backup, its ledger, and that live data is whole. Exit code 1 with
    findings."""
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
            else [line(state("finding", "warn"), f": {text}") for text in found["findings"]]
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
        done, json=as_json, text=lambda: [f"restored {done['events']} events into {done['folder']}"]
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
@wide
@json_option
def doctor(as_json: bool) -> int:
    """Look for what is wrong with this project and machine. Exit code 1 with a finding."""
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
