"""The decode process: reads large untrusted requests, one after the other, and answers with what
they mean. Started by `decode_processes.py`; knows neither the store nor a secret.

The libraries that decode are C: a crafted body makes them take memory, or hold the interpreter, for
as long as they like. Here that ends at this process's own limits.

A request is its lengths, a head and the body; an answer is its length, a head, and columns as
bytes, in the order in which the head counts them.
"""

import contextlib
import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sextant.formats.telemetry.batch import Batch, Budget, Cells, Rows, Samples, Span, TooMuch
from sextant.kernel import limits
from sextant.kernel.errors import SextantError, UsageError
from sextant.server.protocols.port import Identify, Incoming, Parsed, decode, defect
from sextant.server.protocols.table import BY_NAME

REQUEST = struct.Struct("<II")  # lengths of head and body
ANSWER = struct.Struct("<I")  # length of the head
_CHUNK = 5_000  # keys or spans that are read at once: a millisecond or two of the interpreter


class Request(msgspec.Struct, array_like=True):
    """`Incoming` without its body."""

    protocol: str
    path: str
    content_type: str
    headers: dict[str, str]
    query: dict[str, str]
    owner: str
    now_ns: int
    oldest_ns: dict[str, int]
    again: bool
    seconds: float


class Reply(msgspec.Struct, array_like=True):
    """What a request means, or why it cannot be taken.

    rows     table and number of rows; a part each
    samples  their number, for each group; its parts are times, values, and keys in chunks
    cells    number of parts with the cells of its histograms, for each group; then come as many
             as `starts` says with the starts of its increments
    spans    number of parts with spans
    kinds    number of parts with what is said of metrics
    sizes    of all parts, bytes
    last     the process ends after this answer
    first    as of the batch
    status   of the problem, where that is not the one of its kind
    """

    problem: dict[str, Any] | None = None
    status: int = 0
    rows: list[tuple[str, int]] = []
    samples: list[int] = []
    cells: list[int] = []
    starts: list[int] = []
    spans: int = 0
    sizes: list[int] = []
    services: dict[str, str] = {}
    refused: dict[str, int] = {}
    timed: bool = True
    more: list[tuple[bytes, bytes]] = []
    kinds: int = 0
    last: bool = False
    first: str = ""


_KEYS = msgspec.msgpack.Decoder(list[bytes]).decode
_KINDS = msgspec.msgpack.Decoder(list[tuple[bytes, tuple[str, str]]]).decode
_CELLS = msgspec.msgpack.Decoder(list[tuple[int, Cells]]).decode
_STARTS = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
_SPANS = msgspec.msgpack.Decoder(list[Span]).decode


def reply_of(parsed: Parsed) -> tuple[Reply, list[bytes]]:
    """Return what a request means, as a head and parts."""
    batch = parsed.batch
    tables: dict[str, list[Rows]] = {}
    for rows in batch.rows:
        tables.setdefault(rows.table, []).append(rows)
    parts = [b"".join([rows.block for rows in those]) for those in tables.values()]
    cells: list[int] = []
    starts: list[int] = []
    for samples in batch.samples:
        parts += [samples.ts.tobytes(), samples.values.tobytes(), *_chunks(samples.keys)]
        those = list(_chunks(list(samples.cells.items())))
        cells.append(len(those))
        parts += those
        those = list(_chunks(list(samples.starts.items())))
        starts.append(len(those))
        parts += those
    spans, kinds = list(_chunks(batch.spans)), list(_chunks(list(parsed.kinds.items())))
    reply = Reply(
        rows=[(table, sum(rows.rows for rows in those)) for table, those in tables.items()],
        samples=[len(samples.keys) for samples in batch.samples],
        cells=cells,
        starts=starts,
        spans=len(spans),
        services=batch.services,
        refused=batch.refused,
        timed=batch.timed,
        first=batch.first,
        more=list(parsed.more),
        kinds=len(kinds),
    )
    parts += [*spans, *kinds]
    reply.sizes = [len(part) for part in parts]
    return reply, parts


def parsed_from(reply: Reply, part: Callable[[int], bytes], identify: Identify) -> Parsed:
    """Return what `reply_of` made its head and parts of; `part` reads the next one of a length."""
    import numpy as np

    sizes = iter(reply.sizes)

    def read() -> bytes:
        return part(next(sizes))

    batch = Batch(services=reply.services, refused=reply.refused, timed=reply.timed)
    batch.first = reply.first
    batch.rows = [Rows(table, count, read()) for table, count in reply.rows]
    for count, parts, more in zip(reply.samples, reply.cells, reply.starts, strict=True):
        assert identify is not None
        ts, values = np.frombuffer(read(), np.int64), np.frombuffer(read(), np.float64)
        keys: list[bytes] = []
        while len(keys) < count:
            keys += _KEYS(read())
        cells: dict[int, Cells] = {}
        for _ in range(parts):
            cells.update(_CELLS(read()))
        starts: dict[int, int] = {}
        for _ in range(more):
            starts.update(_STARTS(read()))
        batch.samples.append(Samples(keys, ts, values, identify, cells, starts))
    for _ in range(reply.spans):
        batch.spans += _SPANS(read())
    kinds: dict[bytes, tuple[str, str]] = {}
    for _ in range(reply.kinds):
        kinds.update(_KINDS(read()))
    return Parsed(batch, tuple(reply.more), kinds)


def _chunks(values: list[Any]) -> Iterator[bytes]:
    return (
        msgspec.msgpack.encode(values[start : start + _CHUNK])
        for start in range(0, len(values), _CHUNK)
    )


def too_costly(what: str) -> UsageError:
    """Return the error of a request that is not decoded within the limits."""
    return UsageError(
        "SX-INTAKE-063",
        f"the request cannot be decoded: {what}",
        hint="send smaller batches; nothing was taken",
        status=413,
    )


def _answer(request: Request, body: bytes) -> tuple[Reply, list[bytes]]:
    incoming = Incoming(
        request.path,
        request.content_type,
        request.headers,
        request.query,
        body,
        request.owner,
        request.now_ns,
        request.oldest_ns,
    )
    try:
        return reply_of(decode(BY_NAME[request.protocol], incoming, Budget(), again=request.again))
    except SextantError as error:
        if "alloc failed" in str(error.__cause__):  # protobuf's MemoryError
            return _too_large()
        kind = {"kind": "UsageError"} if isinstance(error, TooMuch) else {}
        return Reply(problem={**error.problem(), **kind}, status=error.status), []
    except MemoryError:
        return _too_large()
    except Exception:  # a defect is answered too, and seen in the log
        import traceback

        traceback.print_exc(file=sys.stderr)
        return Reply(problem=defect().problem()), []


def _too_large() -> tuple[Reply, list[bytes]]:
    costly = too_costly("it takes too much memory")
    return Reply(problem=costly.problem(), status=costly.status, last=True), []


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.DECODE_MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most, hard))


def _limit_processor(seconds: float) -> None:
    """Leave this process the time of one request, rounded up: beyond it the kernel ends it, also
    when nobody waits for it any more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


def main() -> None:
    """Answer requests from the socket on standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the parent ends this process
    gc.disable()  # a batch has no cycles, and is large
    link = socket.socket(fileno=0)
    _limit()
    with contextlib.suppress(ConnectionError):
        while head := link.recv(REQUEST.size, socket.MSG_WAITALL):
            said, size = REQUEST.unpack(head)
            request = msgspec.msgpack.decode(link.recv(said, socket.MSG_WAITALL), type=Request)
            _limit_processor(request.seconds)
            reply, parts = _answer(request, link.recv(size, socket.MSG_WAITALL) if size else b"")
            reply.last = reply.last or size > limits.DECODER_KEPT_BYTES_MAX
            answer = msgspec.msgpack.encode(reply)
            link.sendall(b"".join([ANSWER.pack(len(answer)), answer, *parts]))
            del request, parts
            if reply.last:
                break
    os._exit(0)  # nothing is held that wants closing, and a large heap takes its time


if __name__ == "__main__":
    main()
