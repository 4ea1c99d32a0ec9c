"""ledger: show, verify, prove, checkpoint, erase, rotate."""

from pathlib import Path
from typing import Any

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, platform, say, table
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PAGE_ROWS_MAX


@click.group()
def ledger() -> None:
    """Show, verify and prove the ledger: every decision and fact, each with its cause."""


@ledger.command("show")
@click.argument("subject", required=False, default="", metavar="[SUBJECT]")
@click.option("--limit", default=20, type=click.IntRange(1, PAGE_ROWS_MAX), metavar="N", help="How many (default 20).")
@click.option("--before", default=1 << 62, metavar="SEQ", help="Only events before this one.")
@click.option("--data", is_flag=True, help="With their payloads.")
@json_option
def show(subject: str, limit: int, before: int, data: bool, as_json: bool) -> None:
    """List events, newest first: all, or those about SUBJECT (an asset, release, run ...)."""
    with platform(load=False) as p:
        found = p.views.events(subject=subject, limit=limit, before=before)

        def lines() -> list[str]:
            out = table(("seq", "at (UTC)", "event", "subject", "actor", "id"), [(str(e["seq"]), e["at"][:19], e["type"], e["subject"], e["actor"], e["id"]) for e in found])
            if data:
                import msgspec

                out += [f"{e['seq']}: {msgspec.json.encode(e['data']).decode()}" for e in found]
            return out

        emit(found, json=as_json, text=lines)


@ledger.command("verify")
@click.option("--witness", "witness_file", type=click.Path(path_type=Path, exists=True), help="A witness kept elsewhere (default: yours).")
@click.option("--no-projections", is_flag=True, help="Do not rebuild and compare the tables that answer questions.")
@json_option
def verify(witness_file: Path | None, no_projections: bool, as_json: bool) -> int:
    """Verify all of it: hashes, order, causes, signatures, the witness, and that every table follows from it. Exit code 1 with a finding."""
    from sextant.ledger.verify import verify as run
    from sextant.ledger.witness import Witness, load_witness

    with platform(load=False, confirm=False) as p:
        witness = Witness.parse(witness_file.read_text()) if witness_file else load_witness(p.sealing.witness_path)
        public = p.sealing.signer().public if p.sealing.key_path.exists() else None
        report = run(p.state, public=public, witness=witness, projections=not no_projections)
        seals = [] if no_projections else p.views.broken_seals()
        found: dict[str, Any] = {
            "ok": report.ok and not seals, "events": report.events, "erased": report.erased, "checkpoints": report.checkpoints, "signed": report.signed,
            "witnessed": report.witnessed, "root": report.root,
            "findings": [{"table": f.table, "seq": f.seq, "message": f.message} for f in report.findings] + [{"table": "history", "seq": -1, "message": text} for text in seals],
        }  # fmt: skip

        def lines() -> list[str]:
            if found["ok"]:
                return [f"ok: {report.events:,} events, {report.signed:,} signed, {report.witnessed:,} witnessed, {report.erased} erased", f"root {report.root}"]
            return [f"WRONG {f['table']}" + (f" at {f['seq']}" if f["seq"] >= 0 else "") + f": {f['message']}" for f in found["findings"]]

        emit(found, json=as_json, text=lines)
        if report.ok and not report.witnessed:
            say("note: without a witness, who has both database and key could have rewritten all of it unseen")
        return int(not found["ok"])


@ledger.command("prove")
@click.argument("seq", type=int)
@click.option("--since", type=click.Path(path_type=Path, exists=True), help="An older witness: prove that the log continues it.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the bundle here (default: stdout).")
def prove(seq: int, since: Path | None, output: Path | None) -> None:
    """Prove that event SEQ stands in the signed log, as a JSON bundle that verifies offline:

    python -m sextant.ledger.standalone BUNDLE.json --key KEY"""
    import msgspec

    from sextant.ledger.prove import prove as make
    from sextant.ledger.witness import Witness

    with platform(load=False) as p:
        p.sealing.checkpoint()
        bundle = make(p.state.read, seq, public=p.sealing.signer().public, since=Witness.parse(since.read_text()).note if since else "")
        text = msgspec.json.format(msgspec.json.encode(bundle)).decode()
        if output:
            output.write_text(text + "\n", encoding="utf-8")
            say(f"wrote {output}; check it with: python -m sextant.ledger.standalone {output} --key {bundle['key']}")
        else:
            click.echo(text)


@ledger.command("checkpoint")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Also write it as a witness file, to keep elsewhere.")
@json_option
def checkpoint(output: Path | None, as_json: bool) -> None:
    """Sign the head of the ledger and keep it as your witness. Put it into a git tag or a mail, and it is everybody's."""
    from sextant.ledger.witness import Witness

    with platform(load=False) as p:
        note = p.sealing.checkpoint()
        if not note:
            raise UsageError("SX-CLI-009", "the ledger is empty", hint="run something first")
        if output:
            output.write_text(Witness(p.sealing.signer().public, note).text(), encoding="utf-8")
        emit({"note": note, "public": p.sealing.signer().public}, json=as_json, text=note.splitlines)


@ledger.command("erase")
@click.argument("seq", type=int)
@click.option("--reason", required=True, metavar="TEXT", help="Why; itself kept in the ledger.")
@json_option
def erase(seq: int, reason: str, as_json: bool) -> None:
    """Erase the payload of event SEQ. The event and every proof stay valid; what it said is gone."""
    from sextant.ledger.erase import erase as run

    with platform(load=False) as p:
        p.allow(p.who(), "erase", None, "")
        receipt = run(p.state, seq, reason=reason, actor=str(p.who()), ids=p.ids)
        emit({"erased": seq, "event": receipt.first}, json=as_json, text=lambda: [f"the payload of event {seq} is erased; event {receipt.first} says so. Backups made before still hold it."])


@ledger.command("rotate")
@json_option
def rotate(as_json: bool) -> None:
    """Replace the signing key; the change is announced by an event that both keys sign."""
    from sextant.ledger.checkpoint import rotate as run

    with platform(load=False) as p:
        p.allow(p.who(), "rotate", None, "")
        new = run(p.state, p.sealing.signer(), origin=p.sealing.origin, clock=p.clock, ids=p.ids, actor=str(p.who()))
        p.sealing.checkpoint()
        emit({"public": new.public, "file": str(new.path)}, json=as_json, text=lambda: [f"new key {new.public} in {new.path}"])
