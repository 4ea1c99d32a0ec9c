"""The command that gives rows to a dataset: push."""

import itertools
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sextant.cli import complete
from sextant.cli.output import emit, moment, options, platform, say, state, table, wide
from sextant.kernel.errors import BadRows, SextantError, UsageError

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.cli.rows_file import RowsFile
    from sextant.kernel.answers import BatchSeen, Page


@click.command()
@click.argument(
    "dataset", help="One that is declared with sx.stream.", shell_complete=complete.assets
)
@click.argument(
    "file",
    type=click.File("rb"),
    metavar="[FILE|-]",
    required=False,
    help="JSON lines, a JSON array, Arrow or Parquet; `-` is standard input.",
)
@click.option(
    "--batch",
    default="",
    metavar="ID",
    help="Identifies the rows: the same once more is taken once (default: a digest of the file).",
)
@click.option(
    "--list", "listed", is_flag=True, help="Show the batches that wait or were refused instead."
)
@click.option(
    "--drop",
    default="",
    metavar="BATCH",
    help="Give up a batch that waits or was refused instead: its rows are gone.",
)
@click.option(
    "--sender",
    default="",
    metavar="WHO",
    help="Of the batch that is dropped, as --list shows it (default: you, or the only one).",
)
@click.option("--reason", default="", metavar="TEXT", help="Why it is dropped; kept in the ledger.")
@wide
@options
def push(
    dataset: str,
    file: BinaryIO | None,
    batch: str,
    listed: bool,
    drop: str,
    sender: str,
    reason: str,
    env: str | None,
    as_json: bool,
) -> int:
    """Give rows to a dataset that is declared with sx.stream: JSON lines, one JSON array, Arrow or
    Parquet. A row whose column _deleted is true deletes the row of its key.

    Durable when it returns; published by the next run, or soon by the server. A large file goes in
    several batches, ID/1, ID/2 and so on: the same command again sends what was not taken yet. A
    batch that cannot become rows is refused, with a signal; --list shows it and --drop gives it
    up."""
    if [file is not None, listed, bool(drop)].count(True) != 1:
        raise UsageError(
            "SX-CLI-042",
            "push needs a file, --list or --drop BATCH",
            hint=f"`sextant push {dataset} FILE` gives rows, `-` reads them from standard input",
        )
    with platform() as p:
        if listed:
            return _batches(p.batches(dataset), as_json)
        if drop:
            gone = p.drop_batch(dataset, drop, reason, sender=sender, env=env or "")
            emit(
                gone,
                json=as_json,
                text=lambda: [f"{gone['rows']:,} rows of batch {gone['batch']} are dropped"],
            )
            return 0
        assert file is not None
        from sextant.cli.rows_file import RowsFile

        done = _send(p, dataset, RowsFile(file), batch, env or "")
        emit(done, json=as_json, text=lambda: [_sum(done)])
        return 0


def _send(p: "Platform", dataset: str, rows: "RowsFile", batch: str, env: str) -> dict[str, Any]:
    """Push a file in as many batches as it takes. Returns what was taken in all; `batches` counts
    them, `again` says that all had been taken before."""
    name = batch or rows.digest()
    cuts = rows.cuts()
    first = list(itertools.islice(cuts, 2))
    done: list[Any] = []
    live = sys.stderr.isatty()
    for number, cut in enumerate(itertools.chain(first, cuts), 1):
        own = name if len(first) < 2 else f"{name}/{number}"
        try:
            done.append(
                p.push(dataset, cut.data, content_type=cut.content_type, batch=own, env=env)
            )
        except SextantError as error:
            if done:
                say(
                    f"{sum(one['rows'] for one in done):,} rows of {len(done)} batches are taken; "
                    "the same command again goes on behind them"
                )
            if isinstance(error, BadRows):
                raise rows.error(error, cut) from None
            raise
        if live and len(first) > 1:
            taken = sum(one["rows"] for one in done)
            sys.stderr.write(f"\r{taken:,} rows of {number} batches")
            sys.stderr.flush()
    if live and len(first) > 1:
        sys.stderr.write("\r" + " " * 60 + "\r")
    if not done:
        raise UsageError("SX-CLI-044", f"{rows.name} holds no rows", hint="nothing was pushed")
    return {
        "dataset": done[0]["dataset"],
        "batch": name,
        "rows": sum(one["rows"] for one in done),
        "again": all(one["again"] for one in done),
        "batches": len(done),
        "rows_again": sum(one["rows"] for one in done if one["again"]),
    }


def _sum(done: dict[str, Any]) -> str:
    many = done["batches"] > 1
    what = f"{done['rows']:,} rows of " + (f"{done['batches']} batches " if many else "batch ")
    what += f"{done['batch']}/1 to /{done['batches']}" if many else done["batch"]
    if done["again"]:
        return f"{what} had been taken before"
    before = f", {done['rows_again']:,} of them before" if done["rows_again"] else ""
    return f"{what} are taken for {done['dataset']}{before}"


def _batches(found: "Page[BatchSeen]", as_json: bool) -> int:
    """Print batches. Exit code 1 when one was refused."""
    columns = ("batch", "state", "rows", "by", "since (UTC)", "error")
    emit(
        found,
        json=as_json,
        text=lambda: (
            table(
                columns,
                [
                    (
                        b["batch"],
                        state(b["state"]),
                        b["rows"],
                        b["by"],
                        moment(b["taken_at"]),
                        b["error"],
                    )
                    for b in found.items
                ],
            )
            if found.items
            else ["no batch waits, and none was refused"]
        ),
    )
    return int(any(one["state"] == "refused" for one in found.items))
