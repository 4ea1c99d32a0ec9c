"""The command `why`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sextant.cli import complete
from sextant.cli.look import asset_missing, some
from sextant.cli.output import (
    emit,
    limit_option,
    line,
    mark,
    moment,
    options,
    platform,
    say,
    state,
    table,
)
from sextant.cli.progress import Progress
from sextant.kernel.errors import UsageError
from sextant.kinds.kpi.waterfall_command import parts_of, short

if TYPE_CHECKING:
    from sextant.kernel.answers import Change, Moved, ProofChecked, Why


@click.command()
@click.argument(
    "subject",
    metavar="ASSET|ID",
    required=False,
    default="",
    help="An asset, or the id of a run, release, signal, incident or event.",
    shell_complete=complete.assets,
)
@click.option(
    "--over",
    default="",
    metavar="FROM..TO",
    help="Parts of time of a business number (default: the newest, and the one before it).",
)
@click.option(
    "--prove",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Derive what moved a business number, and write what it takes to do so again.",
)
@click.option(
    "--verify",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="Follow a proof that was written so again, and compare. Exit code 1 where it differs.",
)
@limit_option
@options
def why(
    subject: str,
    over: str,
    prove: Path | None,
    verify: Path | None,
    limit: int,
    env: str | None,
    as_json: bool,
) -> int:
    """Say why an asset is as it is, then what changed upstream of it, newest first: what, when,
    who, and how to undo it. Of a business number also what moved it, and how sure that is: proven,
    likely, or none of ours.

    For the id of a run, release, signal or incident: what happened, then the chain of events that
    caused it."""
    with platform() as p:
        if verify is not None:
            return _verify(p, subject, verify, env or "", as_json=as_json)
        if not subject:
            raise asset_missing(
                p, "why", "an asset, or the id of a run, release, signal, incident or event"
            )
        before, after = parts_of(over)
        asked: dict[str, Any] = {"before": before, "after": after, "env": env or ""}
        if prove is not None:
            with Progress() as progress:
                proof = p.prove_why(subject, **asked, progress=progress)
            prove.write_text(_json(proof) + "\n", encoding="utf-8")
            say(f"wrote the proof to {prove}: `sextant why --verify {prove}` follows it again")
        found = p.why(subject, **asked)
        emit(found, json=as_json, text=lambda: _lines(found, limit))
    return 0


def _verify(p: Any, subject: str, file: Path, env: str, *, as_json: bool) -> int:
    import msgspec

    try:
        proof = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise UsageError(
            "SX-CLI-094", f"{file} is no proof: {error}", hint="`--prove FILE` writes one"
        ) from error
    of, where = str(proof.get("asset", "")), str(proof.get("env", ""))
    with Progress() as progress:
        found: ProofChecked = p.verify_why(
            subject or of, proof=proof, env=env or where, progress=progress
        )

    def lines() -> list[str]:
        if found["holds"]:
            return [
                line(
                    state("ok"),
                    f": {found['partitions']:,} partitions were made anew, and {found['asset']} is "
                    f"in all {found['cases']:,} cases what the proof says",
                )
            ]
        return [
            line(state("failed"), f": the proof of {found['asset']} does not hold"),
            *(line(f"  {one}") for one in found["differs"]),
        ]

    emit(found, json=as_json, text=lines)
    return int(not found["holds"])


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


# ---------------------------------------------------------------- lines


def _lines(found: "Why", limit: int) -> list[str]:
    out = [found["reason"], ""]
    if "chain" in found:
        return out + [
            f"{e['at']}  {e['type']}  {e['subject']}  by {e['actor']}" for e in found["chain"]
        ]
    if "moved" in found:
        out += [*_moved_lines(found["moved"]), ""]
    out.append(f"{found['asset']} in {found['env']}: what changed upstream, newest first")
    for change in found["changes"][:limit]:
        out += _change_lines(change)
    return out


def _change_lines(change: "Change") -> list[str]:
    from sextant.app.why import what_changed

    why = f"  ({change['reason']})" if change["reason"] else ""
    out = [
        (
            f"{moment(change['at'])}Z  {change['asset']}  {what_changed(change)}  by {change['by']}"
            f"  owner {change['owner'] or '-'}{why}"
        )
    ]
    if change["release"]:
        out.append(
            f"    partitions {some(change['partitions'])}   release {change['release']}  "
            f" run {change['run'] or '-'}"
        )
    out.append("    because " + " <- ".join(e["type"] for e in change["chain"]))
    out.append(f"    undo: {change['undo']}")
    return out


def _moved_lines(moved: "Moved") -> list[str]:
    from decimal import Decimal

    out = []
    if moved["causes"]:
        out += table(
            ("sure", "", "cause", "owner", "by", "release", "moved by", "because"),
            [
                (
                    state(one["sure"]),
                    f"{one['probability']:.0%}",
                    one["text"],
                    one["owner"],
                    one["by"],
                    one["release"],
                    short(Decimal(one["amount"])) if one["amount"] else "-",
                    "; ".join([*one["grounds"], " -> ".join(one["path"])]).strip("; "),
                )
                for one in moved["causes"]
            ],
        )
    missing = [one for one in moved["coverage"] if one["state"] != "read"]
    read = len(moved["coverage"]) - len(missing)
    out.append(line(mark(f"  looked at {read} of {len(moved['coverage'])} sources", "dim")))
    out += [
        line(
            mark(f"  {one['asset']} is {one['state']}, last heard of {one['at'] or 'never'}", "dim")
        )
        for one in missing
    ]
    return out + [line(mark(f"  {note}", "dim")) for note in moved["notes"]]
