"""Rows that others push into a dataset: taken durably, moved into blobs by partition, seen by the
planner as new input.

`take` acknowledges what is committed. `fold`, at the start of every run, moves what waits; from
then on it is part of the plan.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from sextant.app.answers import Pushed
from sextant.engine import keys, streams
from sextant.kernel.clock import NS
from sextant.kernel.errors import BadData, Busy, Conflict, UsageError
from sextant.kernel.limits import (
    INBOX_BATCHES_MAX,
    INBOX_PARTS_MAX,
    NAME_CHARS_MAX,
    PUSHED_ROWS_MAX,
)
from sextant.kernel.nouns import Asset, Manifest, Principal
from sextant.kernel.partitions import ALL, Partitioning
from sextant.kernel.ports import Statement, Write

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform

_REMEMBERED_NS = 7 * 86400 * NS  # so long a batch that comes again is known
_FOLDED = 500  # batches in one move


class RowsFolded(msgspec.Struct, frozen=True):
    """`rows.folded`: batches that became input of a dataset, each (batch, rows, who pushed it), and
    the blobs that hold them."""

    dataset: str
    batches: tuple[tuple[str, int, str], ...]
    blobs: dict[str, str]  # partition -> blob


class Inbox:
    """The pushed rows of one project."""

    def __init__(self, platform: "LocalPlatform") -> None:
        self._p = platform

    def take(
        self, asset: Asset, rows: Sequence[Any], *, batch: str, env: str, by: Principal
    ) -> Pushed:
        """Take rows; they are durable when this returns. UsageError, BadData (nothing is taken
        then), Busy when too much waits."""
        p = self._p
        if asset.table is None or not asset.table.columns:
            raise UsageError(
                "SX-STREAM-011",
                f"`{asset.id}` takes no rows",
                hint="declare it with `sx.stream(...)`; other datasets are made by their functions",
            )
        if not rows or len(rows) > PUSHED_ROWS_MAX:
            raise UsageError(
                "SX-STREAM-012",
                f"a batch of {len(rows)} rows cannot be taken",
                hint=f"from 1 to {PUSHED_ROWS_MAX} rows",
            )
        if len(batch) > NAME_CHARS_MAX:
            raise UsageError(
                "SX-STREAM-013",
                f"the name of the batch has {len(batch)} characters",
                hint=f"at most {NAME_CHARS_MAX}",
            )
        p.allow(by, "push", asset, env)
        values = streams.parse(asset.table.columns, rows)
        _by_partition(asset, values)  # what belongs nowhere is refused before it is taken
        known = p.state.read("inbox_get", (asset.id, batch)) if batch else []
        if known:
            return {"dataset": asset.id, "batch": batch, "rows": int(known[0][0]), "again": True}
        waiting = {row[0]: int(row[1]) for row in p.state.read("inbox_waits")}
        if waiting.get(asset.id, 0) >= INBOX_BATCHES_MAX:
            raise Busy(
                "SX-STREAM-014",
                f"{waiting[asset.id]} batches of `{asset.id}` wait to be published",
                hint="is the server's scheduler running? `sextant status` says what holds it",
                retry_after_s=2.0,
            )
        id_ = p.ids.new("bat")
        name = batch or id_
        body = streams.encode(asset.table.columns, values)
        add = Statement(
            "inbox_add",
            (asset.id, name, id_, len(values), body, str(by), p.clock.now_ns()),
            1,
            f"batch `{name}` was taken before",
        )
        try:
            p.state.commit(Write((add,)))
        except Conflict:  # somebody sent the same at the same time
            return {"dataset": asset.id, "batch": name, "rows": len(values), "again": True}
        p.nudge()
        return {"dataset": asset.id, "batch": name, "rows": len(values), "again": False}

    def fold(self, manifest: Manifest, by: Principal) -> None:
        """Move what waits into blobs, one for each partition; its batches and who sent them are an
        event."""
        p = self._p
        waits = {row[0] for row in p.state.read("inbox_waits")}
        for asset in manifest.assets:
            while (
                asset.id in waits
                and asset.table
                and asset.table.columns
                and self._fold_some(asset, by) == _FOLDED
            ):
                pass
        if waits:
            p.state.commit(
                Write((Statement("inbox_forget", (p.clock.now_ns() - _REMEMBERED_NS,)),))
            )

    def _fold_some(self, asset: Asset, by: Principal) -> int:
        p = self._p
        assert asset.table is not None
        columns = asset.table.columns
        rows = p.state.read("inbox_waiting", (asset.id, _FOLDED))
        if not rows:
            return 0
        values = [value for row in rows for value in streams.decode(columns, bytes(row[2]))]
        now, id_ = p.clock.now_ns(), p.ids.new("inb")
        statements = [
            Statement(
                "inbox_fold", (now, b"", asset.id, row[0]), 1, "another process moved these rows"
            )
            for row in rows
        ]
        blobs: dict[str, str] = {}
        held: dict[str, list[tuple[str, str]]] = {}
        for partition, part, blob, _ in p.state.read("inbox_parts", (asset.id,)):
            held.setdefault(partition, []).append((part, blob))
        for partition, mine in _by_partition(asset, values).items():
            old = held.get(partition, [])
            if len(old) >= INBOX_PARTS_MAX:  # many small ones become one
                earlier = [
                    value for _, blob in old for value in streams.decode(columns, p.blobs.get(blob))
                ]
                mine = earlier + mine  # noqa: PLW2901
                statements += [
                    Statement(
                        "inbox_part_drop",
                        (asset.id, partition, part),
                        1,
                        "another process moved these rows",
                    )
                    for part, _ in old
                ]
            blobs[partition] = p.blobs.put(streams.encode(columns, mine))
            statements.append(
                Statement("inbox_part_add", (asset.id, partition, id_, blobs[partition], len(mine)))
            )
        event = p.event(
            "rows.folded",
            asset.id,
            RowsFolded(asset.id, tuple((row[0], int(row[4]), row[3]) for row in rows), blobs),
            by,
            "",
        )
        try:
            p.state.commit(Write(tuple(statements), (event,)))
        except Conflict:
            return 0  # another process does it
        return len(rows)

    def parts(self, manifest: Manifest) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return dataset -> partition -> the blobs that hold its rows, in the order of arrival."""
        out: dict[str, dict[str, tuple[str, ...]]] = {}
        for asset in manifest.assets:
            if asset.table and asset.table.columns:
                mine = out.setdefault(asset.id, {})
                for partition, _, blob, _ in self._p.state.read("inbox_parts", (asset.id,)):
                    mine[partition] = (*mine.get(partition, ()), blob)
        return out


def _by_partition(
    asset: Asset, values: Sequence[tuple[Any, ...]]
) -> dict[str, list[tuple[Any, ...]]]:
    """Return rows by the partition that they belong to. BadData for a row without a time, or of a
    time before the first partition."""
    slices = keys.partitioning(asset)
    assert asset.table is not None
    if slices.grain == "none":
        return {ALL: list(values)}
    place = [name for name, _ in asset.table.columns].index(asset.table.time)
    out: dict[str, list[tuple[Any, ...]]] = {}
    for n, value in enumerate(values):
        at = value[place]
        if at is None:
            raise BadData(
                "SX-STREAM-015",
                (
                    f"row {n}, column `{asset.table.time}`: it is missing, and says into which "
                    "partition the row belongs"
                ),
                hint="give every row its time",
            )
        key = _key(slices, at)
        if not slices.holds(key):
            raise BadData(
                "SX-STREAM-016",
                (
                    f"row {n}, column `{asset.table.time}`: {at.isoformat()} lies outside of "
                    "the partitions"
                ),
                hint=f"they begin with {slices.start}"
                + (f" and end before {slices.end}" if slices.end else ""),
            )
        out.setdefault(key, []).append(value)
    return out


def _key(slices: Partitioning, at: Any) -> str:
    if isinstance(at, dt.datetime):
        return slices.key_at(at)
    return slices.key_at(dt.datetime(at.year, at.month, at.day, tzinfo=ZoneInfo(slices.tz)))
