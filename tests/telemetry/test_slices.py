"""The intake takes a batch in slices, between which others come: each batch is whole all the same,
and one record of the journal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sextant.formats.telemetry import exposition, remote_write
from sextant.formats.telemetry.batch import Batch, Identity, Samples
from sextant.kernel import limits
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import SextantError
from sextant.http.introspection import Grants
from sextant.server.ingest.endpoint import IngestEndpoint
from sextant.server.protocols.table import BY_NAME
from sextant.http.refusals import Refusals
from sextant.stores.telemetry.intake import Accepted, Intake
from sextant.stores.telemetry.journal import Journal, Record
from sextant.stores.telemetry.series import Series

NOW_MS = 1_700_000_000_000
START = NOW_MS * 1_000_000


class Kept:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.inserts: list[tuple[str, bytes, str]] = []

    def insert(self, table: str, data: bytes, *, token: str) -> None:
        self.inserts.append((table, data, token))

    def query(self, *_: Any, **__: Any) -> bytes:
        return b""

    run = ask = close = query


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def intake(tmp_path: Path, clock: ManualClock) -> Iterator[Intake]:
    one = Intake(Kept(), tmp_path, clock, series=Series(total=5_000), background=False)  # type: ignore[arg-type]
    yield one
    one.close()


def samples(first: int, last: int, *, name: str = "m") -> Batch:
    body = b"".join(b'%s{n="%d"} %d\n' % (name.encode(), n, n) for n in range(first, last))
    return exposition.decode(body, at_ms=NOW_MS)[0]


def rows_of(intake: Intake) -> dict[str, int]:
    """Return table -> rows of everything in the journal's open segment."""
    segment = intake._journal._open
    out: dict[str, int] = {}
    for record in segment.records if segment else ():
        for table, count, _ in record.rows:
            out[table] = out.get(table, 0) + count
    return out


def test_batches_that_are_taken_between_each_others_slices(intake: Intake) -> None:
    """If this fails, a large batch loses series, or samples, to the small ones beside it."""
    waiting = {
        n: intake.steps(samples(n * 500, n * 500 + 1000), protocol="exposition", owner="shop")
        for n in range(4)
    }
    done: dict[int, Accepted] = {}
    rounds = 0
    while waiting:
        rounds += 1
        for n, steps in list(waiting.items()):
            try:
                next(steps)
            except StopIteration as end:
                done[n] = end.value
                del waiting[n]
    assert rounds > 5, "a batch of 1,000 new series is more than one slice"
    for accepted in done.values():
        assert (accepted.taken, accepted.refused) == (1000, {})
        accepted.durable.result(10)
    rows = rows_of(intake)
    assert rows["obs.samples"] == 4000
    assert intake.series.count == 2500
    assert 2500 <= rows["obs.series"] <= 4000, (
        "each batch brings the labels that nobody has written"
    )
    assert intake._journal._open is not None
    assert len(intake._journal._open.records) == 4


def test_a_batch_that_is_refused_in_a_later_slice_takes_nothing(intake: Intake) -> None:
    """If this fails, a request that its sender repeats is taken one and a half times."""
    batch = samples(0, 2000)
    batch.samples[0].keys[-1] = b'm{n="unreadable}'
    with pytest.raises(SextantError):
        intake.accept(batch, protocol="exposition", owner="shop")
    assert rows_of(intake) == {}
    assert intake.accept(samples(0, 10), protocol="exposition", owner="shop").taken == 10
    (written,) = [count for table, count in _open_rows(intake) if table == "obs.series"]
    assert written == 10, "what the refused batch would have written is still to be written"


def _open_rows(intake: Intake) -> list[tuple[str, int]]:
    intake._journal.append(Record(b"", 0, [], [])).result(10)
    assert intake._journal._open is not None
    return [
        (table, count)
        for record in intake._journal._open.records
        for table, count, _ in record.rows
    ]


def test_series_that_come_while_silent_ones_go(intake: Intake, clock: ManualClock) -> None:
    """If this fails, a sample is stored under another series' id."""
    intake.accept(samples(0, 3000), protocol="exposition", owner="shop").durable.result(10)
    clock.wait(2 * limits.SERIES_LIVE_S)  # the 3,000 are silent, and let go of
    steps = intake.steps(samples(3000, 5000), protocol="exposition", owner="shop")
    next(steps)
    clock.wait(0.6 * limits.SERIES_LIVE_S)  # another sweep comes while the batch is on its way
    intake.accept(samples(0, 10), protocol="exposition", owner="other").durable.result(10)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        accepted: Accepted = end.value
    assert accepted.taken == 2000
    codes = [code for space in intake.series._spaces.values() for code in space.values()]
    assert len(codes) == len(set(codes)) == intake.series.count


def test_a_key_that_is_costly_to_read_is_refused_before(intake: Intake) -> None:
    """If this fails, one series of a crafted request holds the event loop."""
    tiny = remote_write.decode(b"\x0a" + _sized(b"\x0a\x00" * 50_000 + _sample()))
    text = exposition.decode(b"m{" + b'a="",' * 50_000 + b"} 1\n", at_ms=NOW_MS)[0]
    long = exposition.decode(b'm{a="' + b"x" * (2 << 20) + b'"} 1\n', at_ms=NOW_MS)[0]
    for batch, protocol, reason in (
        (tiny, "remote_write", "labels_too_many"),
        (text, "exposition", "labels_too_many"),
        (long, "exposition", "label_too_long"),
    ):
        accepted = intake.accept(batch, protocol=protocol, owner="shop")
        assert (accepted.taken, accepted.refused) == (0, {reason: 1})


def test_labels_have_a_budget_of_bytes(
    intake: Intake, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a few hundred thousand series of long labels take all memory."""
    monkeypatch.setattr(limits, "SERIES_BYTES_PER_OWNER_MAX", 100_000)
    wide = "w" * 1_000
    first = intake.accept(samples(0, 200, name=wide), protocol="exposition", owner="shop")
    assert first.taken == 99, "keys of 1,006 to 1,008 bytes"
    assert first.refused == {"series_budget": 101}
    other = intake.accept(samples(0, 9, name=wide), protocol="exposition", owner="other")
    assert other.taken == 9
    clock.wait(2 * limits.SERIES_LIVE_S)  # all of them are silent, and let go of
    again = intake.accept(samples(200, 250, name=wide), protocol="exposition", owner="shop")
    assert (again.taken, again.refused) == (50, {})
    assert intake.series.bytes < 60_000


def _sample() -> bytes:
    from sextant.formats.telemetry.native import varint

    sample = b"\x09" + bytes(7) + b"\x3f\x10" + varint(NOW_MS)
    return b"\x12" + varint(len(sample)) + sample


def _sized(message: bytes) -> bytes:
    from sextant.formats.telemetry.native import varint

    return varint(len(message)) + message


def test_a_large_record_is_read_back(tmp_path: Path, clock: ManualClock) -> None:
    """If this fails, a large batch that was acknowledged is lost by a crash."""
    records = [
        Record(b"k" * 16, START, [("obs.logs", 7, bytes(2 << 20)), ("obs.spans", 1, b"x")], [1, 2]),
        Record(b"", START, [("obs.logs", 1, b"small")], []),
        Record(b"", START, [("obs.logs", 300, b"y" * (3 << 20))], list(range(300))),
    ]
    journal = Journal(tmp_path, clock)
    for record in records:
        journal.append(record).result(10)
    journal.close()
    again = Journal(tmp_path, clock)
    assert [msgspec.structs.astuple(r) for s in again.recovered for r in s.records] == [
        (r.key, r.at_ns, r.rows, r.buckets) for r in records
    ]
    again.close()


def test_a_defect_is_counted(
    intake: Intake, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, nobody sees that requests end in a defect of ours."""
    import asyncio

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(BY_NAME["jsonlines"], "decode", broken)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        endpoint = IngestEndpoint(
            intake,
            Grants("", "secret"),
            clock,
            keep_days={"logs": 14},
            internal="secret",
            refusals=Refusals(),
        )
        scope = {
            "type": "http",
            "path": "/v1/jsonlines",
            "method": "POST",
            "query_string": b"asset=service:x&owner=shop",
            "headers": [(b"content-type", b"application/json"), (b"x-sextant-internal", b"secret")],
        }
        await endpoint(scope, receive, send)
        assert endpoint._refused == {("shop", "jsonlines", "defect"): 1}
        endpoint.close()

    asyncio.run(main())
    assert sent[0]["status"] == 500
    assert b"SX-INTAKE-059" in sent[1]["body"]


def test_series_of_a_batch_stay_its_own_however_the_clock_jumps() -> None:
    """If this fails, a laptop that sleeps between two slices gives one sender's samples the names
    and ids of another's."""
    series = Series()

    def steps(owner: str, now_ms: int) -> Any:
        keys = [f"{owner}_{n}".encode() for n in range(400)]
        part = Samples(
            keys,
            np.full(len(keys), now_ms, np.int64),
            np.arange(len(keys), dtype=np.float64),
            lambda key: Identity([(b"__name__", key)]),
        )
        return series.encode(part, protocol="p", owner=owner, more=(), now_ms=now_ms, oldest_ms=0)

    def whole(work: Any) -> Any:
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    whole(steps("seed", NOW_MS))
    alice = steps("alice", NOW_MS)
    next(alice)
    next(alice)
    later = NOW_MS + int(limits.SERIES_LIVE_S * 1000) + 3_600_000
    whole(steps("bob", later))
    blocks = [rows.block for rows in whole(alice).rows]
    assert not any(b"bob" in block or b"seed" in block for block in blocks)
    assert all(any(f"alice_{n}".encode() in block for block in blocks) for n in (0, 1, 200, 399))
    assert series.by_owner["alice"] == 400


def test_a_budget_is_the_senders_whoever_he_says_that_series_belong_to() -> None:
    """If this fails, one sender fills the share of another."""
    series = Series(per_owner=10)
    keys = [b"m%d" % n for n in range(20)]
    part = Samples(
        keys,
        np.full(len(keys), NOW_MS, np.int64),
        np.ones(len(keys)),
        lambda key: Identity([(b"__name__", key)], owner="victim"),
    )
    work = series.encode(part, protocol="p", owner="mal", more=(), now_ms=NOW_MS, oldest_ms=0)
    while True:
        try:
            next(work)
        except StopIteration as end:
            encoded = end.value
            break
    assert (encoded.taken, encoded.refused) == (10, {"series_budget": 10})
    assert series.by_owner == {"mal": 10}


def test_a_sender_that_goes_away_does_not_stop_the_journal(tmp_path: Path) -> None:
    """If this fails, nothing is acknowledged any more."""
    journal = Journal(tmp_path / "journal", ManualClock(START))
    with journal._writing:
        gone = journal.append(Record(b"", 1, [("obs.logs", 1, b"x")], []))
        gone.cancel()
    journal.append(Record(b"", 1, [("obs.logs", 1, b"y")], [])).result(30)
    journal.close()
