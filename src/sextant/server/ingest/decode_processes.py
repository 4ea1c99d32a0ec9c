"""Decodes large requests in processes of their own (`decode_process.py`): started when one comes,
kept warm for a while, ended when idle, and replaced when a request takes one down.

Called by the ingest endpoint, on the event loop.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

import sextant
from sextant.kernel import limits
from sextant.kernel.errors import Busy, StorageError, from_problem
from sextant.server.ingest.decode_process import (
    ANSWER,
    REQUEST,
    Reply,
    Request,
    parsed_from,
    too_costly,
)
from sextant.server.protocols.port import Incoming, Parsed, Protocol

_PATIENCE = 3  # so many times its processor time a request may take, on a machine that is busy
_HEAD_BYTES_MAX = 64 << 20  # of an answer's head: services and kinds of metrics
# imports the package from its own folder: confined, a process may not list the folder around it
_START = """
import importlib.util, sys
path = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "sextant", path + "/__init__.py", submodule_search_locations=[path]
)
sys.modules["sextant"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from sextant.server.ingest.decode_process import main
main()
"""
_TIMEVAL = struct.Struct("@ll")


class Decoders:
    """The decode processes of one event loop; `decode` may be called any number of times at
    once."""

    def __init__(
        self,
        most: int = limits.DECODERS_MAX,
        *,
        seconds: float = limits.DECODE_S,
        idle_s: float = limits.DECODER_IDLE_S,
    ) -> None:
        """most  processes;  seconds  of one request;  idle_s  after which a process ends"""
        self._seconds, self._idle_s = seconds, idle_s
        self._turns = asyncio.Semaphore(most)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="decode")
        self._all: set[_Decoder] = set()
        self._idle: list[_Decoder] = []
        self._sweep: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a turn, until what was decoded is not needed any more: so no more of it is in memory
        than there are turns. Busy when none comes."""
        try:
            async with asyncio.timeout(limits.DECODE_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Busy(
                "SX-INTAKE-064",
                "too many large requests wait to be decoded",
                hint="send again later, or smaller batches; nothing was taken",
                retry_after_s=limits.RETRY_AFTER_S,
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    async def decode(
        self, protocol: Protocol, incoming: Incoming, *, again: bool = False
    ) -> Parsed:
        """Return what a request means; a turn is held. SextantError as `Protocol.decode`;
        UsageError also when decoding takes more memory or time than a request may."""
        one = self._idle.pop() if self._idle else _Decoder(self._seconds)
        self._all.add(one)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, one.decode, protocol, incoming, again
            )
        except asyncio.CancelledError:
            one.kill()  # its thread comes back then, too
            raise
        finally:
            if one.is_usable:
                self._keep(one)
            else:
                self._all.discard(one)

    def pids(self) -> list[int]:
        """Return the processes that there are."""
        return [one.pid for one in self._all if one.pid]

    def close(self) -> None:
        """End all processes, busy or not."""
        if self._sweep is not None:
            self._sweep.cancel()
        for one in self._all:
            one.kill()
        self._threads.shutdown()
        for one in self._all:
            one.end()
        self._all.clear()
        self._idle.clear()

    def _keep(self, one: "_Decoder") -> None:
        one.idle_since = time.monotonic()
        self._idle.append(one)
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        self._sweep = None
        late = time.monotonic() - self._idle_s + 0.001
        for one in [one for one in self._idle if one.idle_since <= late]:
            self._idle.remove(one)
            self._all.discard(one)
            self._threads.submit(one.end)
        if self._idle:
            due = min(one.idle_since for one in self._idle) - late
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(due, self._end_idle)


class _Decoder:
    """One process, used by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.is_usable = False
        self.idle_since = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def decode(self, protocol: Protocol, incoming: Incoming, again: bool) -> Parsed:
        """Return what a request means; the process is usable afterwards, or has ended."""
        head = msgspec.msgpack.encode(
            Request(
                protocol.name,
                incoming.path,
                incoming.content_type,
                # no protocol reads others, and a token is nothing for that process
                {
                    name: value
                    for name, value in incoming.headers.items()
                    if name.startswith("ce-") or name == "idempotency-key"
                },
                dict(incoming.query),
                incoming.owner,
                incoming.now_ns,
                dict(incoming.oldest_ns),
                again,
                self._seconds,
            )
        )
        is_warm = self.is_usable
        self.is_usable = False
        try:
            if not is_warm:
                self._start()
            try:
                self._send(head, incoming.body)
            except (BrokenPipeError, ConnectionResetError):
                if not is_warm:
                    raise
                self._start()  # it had ended since its last request
                self._send(head, incoming.body)
            reply, parsed = self._receive(protocol)
        except (_EndedError, TimeoutError, BlockingIOError, ConnectionError) as error:
            raise too_costly(self._post_mortem(error)) from error
        finally:
            if not self.is_usable:
                self.end()
        if reply.problem is not None:
            refused = from_problem(reply.problem, int(reply.problem.get("status", 500)))
            refused.status = reply.status
            raise refused
        return parsed

    def end(self) -> None:
        """End the process, of which nobody waits for an answer."""
        self.kill()
        if self._link is not None:
            self._link.close()

    def kill(self) -> None:
        """End the process, whatever it does. Any thread: who waits for its answer gets an error."""
        self.is_usable = False
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)  # whoever reads from it comes back
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self.end()
        here, there = socket.socketpair()
        for what in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            here.setsockopt(
                socket.SOL_SOCKET, what, _TIMEVAL.pack(1 + int(_PATIENCE * self._seconds), 0)
            )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, sextant.__path__[0]],
                stdin=there.fileno(),
                stdout=sys.stderr.fileno(),
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            here.close()
            raise StorageError(
                "SX-INTAKE-065",
                f"the process that decodes large requests cannot be started: {error.strerror}",
                hint="is there memory, and room for processes? Small requests are taken meanwhile",
                retry_after_s=limits.RETRY_AFTER_S,
            ) from error
        finally:
            there.close()
        self._link = here

    def _send(self, head: bytes, body: bytes) -> None:
        assert self._link is not None
        self._link.sendall(REQUEST.pack(len(head), len(body)) + head)
        self._link.sendall(body)

    def _receive(self, protocol: Protocol) -> tuple[Reply, Parsed]:
        (size,) = ANSWER.unpack(self._read(ANSWER.size))
        if size > _HEAD_BYTES_MAX:
            raise _EndedError
        reply = msgspec.msgpack.decode(self._read(size), type=Reply)
        parsed = parsed_from(reply, self._read, protocol.identify)
        self.is_usable = not reply.last
        return reply, parsed

    def _read(self, size: int) -> bytes:
        """Return the next bytes, in one piece and without the interpreter. _EndedError when they do
        not come."""
        assert self._link is not None
        if not size:
            return b""
        data = self._link.recv(size, socket.MSG_WAITALL)
        if len(data) < size:
            raise _EndedError
        return data

    def _post_mortem(self, error: Exception) -> str:
        """Say what became of the process."""
        ended = self._process.poll() if self._process else None
        if ended is None and not isinstance(error, _EndedError | ConnectionError):
            return f"it takes more than {self._seconds:g} s"
        if self._process is not None and ended is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = self._process.wait(1.0)
        if ended == -signal.SIGXCPU:
            return f"it takes more than {self._seconds:g} s of processor time"
        return "it took the process that reads it down; it takes too much memory, or is damaged"


class _EndedError(Exception):
    """The process ended, or answered nothing in time."""
