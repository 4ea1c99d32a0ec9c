"""The processes that decode large requests: what one request does to one of them is nobody else's
matter."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import pytest

from sextant.formats.telemetry import native
from sextant.formats.telemetry.batch import Budget
from sextant.kernel.errors import BadData, UsageError
from sextant.server.ingest.decode_processes import Decoders
from sextant.server.protocols.port import Parsed, Protocol, Incoming, decode
from sextant.server.protocols.table import BY_NAME

T = TypeVar("T")
NOW = time.time_ns()
LINES = b"".join(b'{"msg": "line %d", "ts": %d}\n' % (n, NOW) for n in range(20_000))


def run(work: Callable[[Decoders], Awaitable[T]], **settings: float) -> T:
    async def main() -> T:
        decoders = Decoders(**settings)  # type: ignore[arg-type]
        try:
            return await work(decoders)
        finally:
            decoders.close()

    return asyncio.run(main())


def request(name: str, body: bytes, content_type: str = "text/plain") -> tuple[Protocol, Incoming]:
    protocol = BY_NAME[name]
    query = {"job": "x", "asset": "service:x"}
    oldest = dict.fromkeys(("logs", "spans", "events", "samples"), 0)
    incoming = Incoming(protocol.paths[0], content_type, {}, query, body, "shop", NOW, oldest)
    return protocol, incoming


def same(one: Parsed, other: Parsed) -> bool:
    for a, b in zip(one.batch.samples, other.batch.samples, strict=True):
        assert a.keys == b.keys
        assert np.array_equal(a.ts, b.ts)
        assert np.array_equal(a.values, b.values, equal_nan=True)
        assert a.read is b.read
    assert [(rows.table, rows.rows, rows.block) for rows in one.batch.rows] == [
        (rows.table, rows.rows, rows.block) for rows in other.batch.rows
    ]
    assert (one.more, dict(one.kinds)) == (other.more, dict(other.kinds))
    assert one.batch.timed == other.batch.timed
    assert (one.batch.services, one.batch.refused) == (other.batch.services, other.batch.refused)
    return one.batch.spans == other.batch.spans


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("jsonlines", LINES),
        (
            "exposition",
            b"# TYPE m counter\n" + b"".join(b'm{n="%d"} %d\n' % (n, n) for n in range(12_000)),
        ),
    ],
    ids=["jsonlines", "exposition"],
)
def test_another_process_says_the_same(name: str, body: bytes) -> None:
    """If this fails, what a large request means depends on who has read it."""
    protocol, incoming = request(name, body)
    apart = run(lambda decoders: decoders.decode(protocol, incoming))
    assert same(apart, decode(protocol, incoming, Budget()))


def test_a_bad_body_is_an_error_and_the_process_goes_on() -> None:
    """If this fails, each mistake of a sender costs the start of a process."""

    async def work(decoders: Decoders) -> None:
        await decoders.decode(*request("jsonlines", LINES))
        (pid,) = decoders.pids()
        with pytest.raises(BadData, match="line 1 is no JSON object"):
            await decoders.decode(*request("jsonlines", b"no JSON\n" + b"\n" * 20_000))
        await decoders.decode(*request("jsonlines", LINES))
        assert decoders.pids() == [pid]

    run(work, most=1)


def test_a_body_that_takes_the_memory_is_refused_and_those_behind_it_are_not() -> None:
    """If this fails, one crafted body fails the requests of others, or takes the machine."""
    spans = b"\x12\x00" * (15 << 20)  # 15 million empty messages: two bytes each, a hundred read
    scope = b"\x12" + native.varint(len(spans)) + spans
    body = b"\x0a" + native.varint(len(scope)) + scope

    async def work(decoders: Decoders) -> None:
        bomb = request("otlp", body, "application/x-protobuf")
        bomb = (bomb[0], bomb[1]._replace(path="/v1/traces"))
        good = request("jsonlines", LINES)
        refused, *taken = await asyncio.gather(
            decoders.decode(*bomb),
            *(decoders.decode(*good) for _ in range(3)),
            return_exceptions=True,
        )
        assert isinstance(refused, UsageError)
        assert refused.code == "SX-INTAKE-063"
        assert "memory" in refused.message
        assert [parsed.batch.rows[0].rows for parsed in taken if isinstance(parsed, Parsed)] == (
            [20_000] * 3
        )

    run(work, most=1)


def test_a_body_that_takes_the_time_is_refused_and_those_behind_it_are_not() -> None:
    """If this fails, a few crafted bodies hold everybody's large requests for ever."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b"{}," * (7 << 20) + b"{}]}]}]}"

    async def work(decoders: Decoders) -> None:
        slow = asyncio.create_task(decoders.decode(*request("otlp", body, "application/json")))
        behind = asyncio.create_task(decoders.decode(*request("jsonlines", LINES)))
        with pytest.raises(UsageError, match="more than 1 s") as caught:
            await slow
        assert caught.value.code == "SX-INTAKE-063"
        assert (await behind).batch.rows[0].rows == 20_000

    run(work, most=1, seconds=1)


def test_a_process_that_has_died_meanwhile_is_replaced() -> None:
    """If this fails, a large request fails because of the one before it."""

    async def work(decoders: Decoders) -> None:
        await decoders.decode(*request("jsonlines", LINES))
        (pid,) = decoders.pids()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays to be found
        assert (await decoders.decode(*request("jsonlines", LINES))).batch.rows[0].rows == 20_000
        assert decoders.pids() != [pid]

    run(work, most=1)


def test_an_idle_process_ends() -> None:
    """If this fails, a server that decodes nothing holds the memory of two more interpreters."""

    async def work(decoders: Decoders) -> None:
        await decoders.decode(*request("jsonlines", LINES))
        (pid,) = decoders.pids()
        while decoders.pids():
            await asyncio.sleep(0.01)
        with pytest.raises(ChildProcessError):
            while True:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    run(work, idle_s=0.01)


def test_no_more_is_decoded_than_there_are_turns_for() -> None:
    """If this fails, what was decoded piles up before the intake, uncounted."""

    async def main(decoders: Decoders) -> None:
        async with decoders.turn():
            waiting = asyncio.ensure_future(decoders.turn().__aenter__())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting

    run(main, most=1)
