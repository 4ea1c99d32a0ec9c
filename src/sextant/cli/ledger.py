"""ledger: show, verify, prove, checkpoint, erase, rotate, pin, repair."""

from pathlib import Path

import click

from sextant.cli import complete
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    line,
    local_platform,
    moment,
    platform,
    put,
    say,
    state,
    table,
    wide,
)
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PAGE_ROWS_MAX


@click.group()
def ledger() -> None:
    """Show, verify and prove the ledger: every decision and fact, each with its cause."""


@ledger.command("show")
@click.argument(
    "subject",
    required=False,
    default="",
    metavar="[SUBJECT]",
    help="Whatever events are about: an asset, release, run ... (default: all).",
    shell_complete=complete.assets,
)
@click.option(
    "--limit",
    default=20,
    type=click.IntRange(1, PAGE_ROWS_MAX),
    metavar="N",
    help="How many (default 20).",
)
@click.option("--before", default=0, metavar="SEQ", help="Only events before this one.")
@click.option(
    "--type",
    "kind",
    default="",
    metavar="TYPE",
    help="Only events of this type, such as release.live.",
)
@click.option("--data", is_flag=True, help="With their payloads.")
@wide
@json_option
def show(subject: str, limit: int, before: int, kind: str, data: bool, as_json: bool) -> None:
    """List events, newest first: all, or those about SUBJECT (an asset, release, run ...)."""
    with platform(load=False) as p:
        found = p.events(
            subject=subject, type=kind, limit=limit, after=f"{before}:" if before else ""
        ).items

        def lines() -> list[str]:
            out = table(
                ("seq", "at (UTC)", "event", "subject", "actor", "id"),
                [
                    (str(e["seq"]), moment(e["at"]), e["type"], e["subject"], e["actor"], e["id"])
                    for e in found
                ],
                spare=("id", "actor"),
            )
            if data:
                import msgspec

                out += [f"{e['seq']}: {msgspec.json.encode(e['data']).decode()}" for e in found]
            return out

        emit(found, json=as_json, text=lines)


@ledger.command("verify")
@click.option(
    "--witness",
    "witness_file",
    type=click.Path(path_type=Path, exists=True),
    help="A witness kept elsewhere (default: yours).",
)
@click.option(
    "--no-projections",
    is_flag=True,
    help="Do not rebuild and compare the tables that answer questions.",
)
@json_option
def verify(witness_file: Path | None, no_projections: bool, as_json: bool) -> int:
    """Verify all of it: hashes, order, causes, signatures, the witness, and that every table
    follows from it. Exit code 1 with a finding."""
    with platform(load=False, confirm=False) as p:
        found = p.verify(
            witness=witness_file.read_text(encoding="utf-8") if witness_file else "",
            projections=not no_projections,
        )

        def lines() -> list[str]:
            if found["ok"]:
                return [
                    line(
                        state("ok"),
                        f": {found['events']:,} events, {found['signed']:,} signed, "
                        f"{found['witnessed']:,} witnessed, {found['erased']} erased",
                        f", {found['gaps_noted']} gaps between checkpoints noted"
                        if found["gaps_noted"]
                        else "",
                    ),
                    f"root {found['root']}",
                ]
            return [
                line(
                    state("WRONG"),
                    f" {f['table']}",
                    f" at {f['seq']}" if f["seq"] >= 0 else "",
                    f": {f['message']}",
                )
                for f in found["findings"]
            ]

        emit(found, json=as_json, text=lines)
        if found["ok"] and not found["witnessed"]:
            say(
                "note: without a witness, who has both database and key could have "
                "rewritten all of it unseen"
            )
        return int(not found["ok"])


@ledger.command("prove")
@click.argument("seq", type=int, help="The number of an event; `sextant ledger show` lists them.")
@click.option(
    "--since",
    type=click.Path(path_type=Path, exists=True),
    help="The witness that the reader has: prove that the log continues it.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Write the bundle here (default: stdout).",
)
def prove(seq: int, since: Path | None, output: Path | None) -> None:
    """Prove that event SEQ stands in the signed log, as a JSON bundle that verifies offline:

    python -m sextant.ledger.standalone BUNDLE.json --witness WITNESS

    WITNESS (or --key KEY) is what the reader got before and elsewhere, by `ledger checkpoint -o`.
    With the key that stands in the bundle nothing is proven."""
    import msgspec

    with platform(load=False) as p:
        bundle = p.prove(seq, since=since.read_text(encoding="utf-8") if since else "")
        text = msgspec.json.format(msgspec.json.encode(bundle)).decode()
        if output:
            output.write_text(text + "\n", encoding="utf-8")
            say(
                f"wrote {output}; whoever has a witness from elsewhere checks it with: "
                f"python -m sextant.ledger.standalone {output} --witness WITNESS"
            )
        else:
            put(text + "\n")


@ledger.command("checkpoint")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Also write it as a witness file, to keep elsewhere.",
)
@json_option
def checkpoint(output: Path | None, as_json: bool) -> None:
    """Sign the head of the ledger and keep it as your witness. Put it into a git tag or a mail, and
    it is everybody's."""
    from sextant.ledger.witness import Witness

    with platform(load=False) as p:
        signed = p.checkpoint()
        if output:
            output.write_text(Witness(signed["public"], signed["note"]).text(), encoding="utf-8")
        emit(signed, json=as_json, text=signed["note"].splitlines)


@ledger.command("erase")
@click.argument("seq", type=int, help="The number of the event.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; itself kept in the ledger.")
@json_option
def erase(seq: int, reason: str, as_json: bool) -> None:
    """Erase the payload of event SEQ. The event and every proof stay valid; what it said is
    gone."""
    with platform(load=False) as p:
        done = p.erase(seq, reason)
        emit(
            done,
            json=as_json,
            text=lambda: [
                (
                    f"the payload of event {seq} is erased; event {done['event']} says so. "
                    "Backups made before still hold it."
                )
            ],
        )


@ledger.command("rotate")
@json_option
def rotate(as_json: bool) -> None:
    """Replace the signing key; the change is announced by an event that both keys sign."""
    with platform(load=False) as p:
        new = p.rotate()
        emit(new, json=as_json, text=lambda: [f"new key {new['public']} in {new['file']}"])


@ledger.command("pin")
@click.option(
    "--local",
    is_flag=True,
    help="Leave sextant.toml, which pins another machine's ledger; trust this one here only.",
)
@json_option
def pin(local: bool, as_json: bool) -> None:
    """Pin the ledger in sextant.toml as it stands: its id and its public key.

    A ledger of this version is pinned when it begins. One of an older version is pinned by this
    command, after it has been verified with its key and with your witness; so is a new key that
    another machine has rotated in. Works in the project's folder only."""
    from sextant.app.pin import line_of

    if click.get_current_context().find_root().obj["server"]:
        raise UsageError(
            "SX-CLI-049",
            "a ledger is pinned in the project's folder, not over the network",
            hint="run it there, without --server and SEXTANT_SERVER",
        )
    with local_platform(load=False, confirm=False) as p:
        taken = p.sealing.take(p.core.authorization.who(), local=local)
        emit(
            {"id": taken.id, "public": taken.public, "local": local},
            json=as_json,
            text=lambda: (
                [f"ledger {taken.id} is trusted at this place; sextant.toml stays as it is"]
                if local
                else ["pinned in sextant.toml:", line_of(taken)]
            ),
        )


@ledger.command("repair")
@click.option(
    "--reason", required=True, metavar="TEXT", help="Why there is a gap; itself kept in the ledger."
)
@json_option
def repair(reason: str, as_json: bool) -> None:
    """Note, by signed events, the places where a checkpoint does not name the one in front of it.

    `ledger verify` then accepts exactly these gaps, and counts them. Older versions left such gaps
    when commands ended at the same moment. Look at what `ledger verify` says first: a checkpoint
    that somebody took out leaves a gap as well."""
    with platform(load=False) as p:
        noted = p.repair(reason)

        def lines() -> list[str]:
            return [
                f"noted: the checkpoint of {gap['next_size']:,} events does not name the one of "
                f"{gap['size']:,}"
                for gap in noted
            ] or ["there is no gap that is not noted"]

        emit(noted, json=as_json, text=lines)
