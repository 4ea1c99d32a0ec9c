"""Telemetry as bytes on the wire, and senders that do little besides sending. Used by
bench/telemetry.py.

Remote write 1.0 is written by hand from the specification, as a Prometheus sends it: one sample a
series, labels sorted, snappy. Requests are made before they are timed.
"""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import cramjam
from telemetry_data import STEP_MS, Fleet

from sextant.formats.telemetry.native import varint

PER_REQUEST = 2_000  # what Prometheus sends in one request when it has enough
CONNECTIONS = 4


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return the label fields of a TimeSeries."""
    return b"".join(
        field(1, field(1, name.encode()) + field(2, value.encode()))
        for name, value in sorted(pairs)
    )


class Scrapes:
    """A fleet's scrapes as bodies of remote write, a list for each connection: a series stays on
    its connection, so its samples keep their order."""

    def __init__(
        self,
        fleet: Fleet,
        start_ms: int,
        *,
        per_request: int = PER_REQUEST,
        connections: int = CONNECTIONS,
    ) -> None:
        self.fleet, self.at_ms = fleet, start_ms
        prefixes = [labels(fleet.labels(i)) for i in range(fleet.count)]
        order = sorted(
            range(fleet.count), key=lambda i: (fleet.target[i], i)
        )  # a target's series stand together
        self._heads = [
            b"\x0a" + varint(len(prefix) + 18) + prefix + b"\x12\x10\x09" for prefix in prefixes
        ]
        self._noughts = [
            b"\x0a" + varint(len(prefix) + 9) + prefix + b"\x12\x07" for prefix in prefixes
        ]
        self._lanes: list[list[list[int]]] = [[] for _ in range(connections)]
        for n, first in enumerate(range(0, fleet.count, per_request)):
            self._lanes[n % connections].append(order[first : first + per_request])

    def step(self) -> list[list[bytes]]:
        """Return the bodies of one scrape of everything, by connection."""
        values, offsets, heads, noughts = (
            self.fleet.step().tolist(),
            self.fleet.offset_ms.tolist(),
            self._heads,
            self._noughts,
        )
        pack, at_ms = struct.Struct("<d").pack, self.at_ms
        times = {offset: b"\x10" + varint(at_ms + offset) for offset in set(offsets)}
        out: list[list[bytes]] = []
        for lane in self._lanes:
            bodies = []
            for block in lane:
                parts = [
                    heads[i] + pack(values[i]) + times[offsets[i]]
                    if values[i]
                    else noughts[i] + times[offsets[i]]
                    for i in block
                ]
                bodies.append(bytes(cramjam.snappy.compress_raw(b"".join(parts))))
            out.append(bodies)
        self.at_ms += STEP_MS
        return out


WORDS = (
    "request response handled order customer invoice payment cache lookup upstream timeout "
    "retry session token refreshed queue worker job batch "
    "committed partition rebalanced index query slow connection pool exhausted accepted "
    "closed by peer user signed in out cart item price updated"
).split()


def log_bodies(
    lines: int, *, per_request: int, start_ns: int, seed: int = 3, span_ns: int = 50_000
) -> Iterator[bytes]:
    """Yield ExportLogsServiceRequests: a service's lines with four attributes, three in four with a
    trace, `needle` in the body of every 100,000th."""
    luck = random.Random(seed)
    common = [
        field(6, field(1, key) + field(2, field(1, value)))
        for key, value in (
            (b"http.request.method", b"GET"),
            (b"http.route", b"/api/orders/{id}"),
            (b"thread.name", b"worker-3"),
        )
    ]
    severities = (
        [(b"\x10\x09", b"INFO")] * 17 + [(b"\x10\x0d", b"WARN")] * 2 + [(b"\x10\x11", b"ERROR")]
    )
    trace = luck.randbytes(16)
    for first in range(0, lines, per_request):
        service = luck.randrange(20)
        resource = b"".join(
            field(1, field(1, key) + field(2, field(1, value)))
            for key, value in (
                (b"service.name", b"service-%d" % service),
                (b"service.version", b"1.4.%d" % (service % 7)),
                (b"host.name", b"node-%d" % (service % 9)),
                (b"deployment.environment.name", b"prod"),
            )
        )
        records = []
        for n in range(first, min(lines, first + per_request)):
            if n % 8 == 0:
                trace = luck.randbytes(16)
            number, name = severities[luck.randrange(20)]
            text = (
                " ".join(luck.choices(WORDS, k=9))
                + f" id={luck.randrange(10**8)} took {luck.randrange(2000)} ms"
            )
            if n % 100_000 == 99_999:
                text += " needle haystack"
            at = struct.pack("<Q", start_ns + n * span_ns)
            ids = field(9, trace) + field(10, luck.randbytes(8)) if n % 4 else b""
            records.append(
                field(
                    2,
                    b"\x09"
                    + at
                    + number
                    + field(3, name)
                    + field(5, field(1, text.encode()))
                    + b"".join(common)
                    + field(
                        6,
                        field(1, b"http.response.status_code")
                        + field(2, b"\x18" + varint(200 + luck.randrange(5))),
                    )
                    + ids
                    + b"\x59"
                    + at,
                )
            )
        yield field(
            1, field(1, resource) + field(2, field(1, field(1, b"shop.web")) + b"".join(records))
        )


def post(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request, ready to send."""
    sent = {"Host": host, "Content-Length": str(len(body)), **headers}
    return (
        f"POST {path} HTTP/1.1\r\n".encode()
        + "".join(f"{name}: {value}\r\n" for name, value in sent.items()).encode()
        + b"\r\n"
        + body
    )


class Link:
    """One connection that sends ready-made requests one after the other, again when it is told to
    wait."""

    def __init__(self, host: str) -> None:
        name, _, port = host.rpartition(":")
        self._socket = socket.create_connection((name, int(port)), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""
        self.waited = 0

    def send(self, request: bytes) -> bytes:
        """Return the body of the answer."""
        while True:
            self._socket.sendall(request)
            status, body = self._answer()
            if status < 300:
                return body
            if status not in (429, 503):
                raise RuntimeError(f"{status}: {body[:300]!r}")
            self.waited += 1
            time.sleep(
                0.05
            )  # sooner than the second that is asked for, so that the server is never without work

    def once(self, request: bytes) -> int:
        """Return the status of the answer, whatever it is."""
        self._socket.sendall(request)
        return self._answer()[0]

    def _answer(self) -> tuple[int, bytes]:
        data = self._left
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if b"transfer-encoding: chunked" in lines:
            while not rest.endswith(b"0\r\n\r\n"):
                rest += self._more()
            length = len(rest)
        while len(rest) < length:
            rest += self._more()
        self._left = rest[length:]
        return int(lines[0].split()[1]), rest[:length]

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise RuntimeError("the server closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def send_all(host: str, lanes: Sequence[Iterable[bytes]]) -> tuple[float, int]:
    """Send ready-made requests, each list on a connection of its own; return seconds and how often
    a sender was told to wait."""
    links = [Link(host) for _ in lanes]
    errors: list[BaseException] = []

    def work(link: Link, lane: Iterable[bytes]) -> None:
        try:
            for request in lane:
                link.send(request)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(links, lanes, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for link in links:
        link.close()
    if errors:
        raise errors[0]
    return took, sum(link.waited for link in links)


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Do something on one processor; what is started stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[number % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
