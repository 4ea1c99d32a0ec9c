"""Starts query processes, one whenever the telemetry process asks.

A process that has opened chDB must not fork, and what it starts once it is confined could not read
its own place below /proc, which chDB needs. So a small process is forked before both, and forks the
others. It knows beforehand what they run, and none of the secrets that the telemetry process gets:
all that it can be told, but for one word at the beginning, is to start one more, or to end one that
it has started.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from sextant.kernel.errors import StorageError

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOOK_S = 1.0  # so often those that have ended are taken off the kernel's list
_START, _KILL = b"start", b"kill "
_MESSAGE_BYTES = 16 << 10


class Started(NamedTuple):
    """A process, and our end of the socket on which it waits for questions."""

    pid: int
    socket: socket.socket


class Starter:
    """The client of the starter process. `start` and `kill` may be called from any thread.

    run   what each process does with its socket and the word that `begin` gave
    Must be made before this process has threads, and before it knows secrets.
    """

    def __init__(self, run: Callable[[socket.socket, bytes], None]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _serve(theirs, run)
        theirs.close()
        self._control = ours

    def begin(self, word: bytes) -> None:
        """Say once what each process is told, before the first is started."""
        self._control.send(word)

    def start(self) -> Started:
        """Start a process. StorageError when the system has none left."""
        try:
            with self._lock:
                self._control.send(_START)
                said, found, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        except OSError as error:
            raise _failed(str(error.strerror)) from error
        if not found:
            raise _failed(said.decode(errors="replace") or "the process that starts them has ended")
        return Started(int(said), socket.socket(fileno=found[0]))

    def kill(self, pid: int) -> None:
        """End a process that was started here, whatever it does."""
        with contextlib.suppress(OSError), self._lock:
            self._control.send(_KILL + str(pid).encode())

    def has_ended(self) -> bool:
        """Say whether the starter is gone, and what it had started with it: then nothing can be
        started any more."""
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # it was said before
            return True

    def close(self) -> None:
        """End the starter and all that it has started."""
        self._control.close()


def _failed(why: str) -> StorageError:
    return StorageError(
        "SX-SQL-033",
        f"no process could be started for the query: {why}",
        hint="look at the memory and the number of processes of this machine, and ask again",
    )


def _serve(control: socket.socket, run: Callable[[socket.socket, bytes], None]) -> None:
    """Be the starter, until the other end of the socket is closed. Never returns."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends with the process that it serves
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):  # the supervisor's pipes
        os.dup2(nothing, descriptor)
    os.close(nothing)
    running: set[int] = set()
    word = control.recv(_MESSAGE_BYTES)
    try:
        while word:
            ready, _, _ = select.select([control], [], [], _LOOK_S)
            running -= {pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]}
            if not ready:
                continue
            message = control.recv(_MESSAGE_BYTES)
            if not message:
                break
            if message == _START:
                _start(control, lambda link: run(link, word), running)
            elif message.startswith(_KILL):
                pid = int(message[len(_KILL) :])
                if pid in running:  # not taken off the list yet, so the number is still its own
                    os.kill(pid, signal.SIGKILL)
    finally:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _end_with(starter: int) -> None:
    """Have the kernel end this process when the starter ends, however that comes."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != starter:  # it has ended already
        os._exit(1)


def _start(control: socket.socket, run: Callable[[socket.socket], None], running: set[int]) -> None:
    starter = os.getpid()
    try:
        ours, theirs = socket.socketpair()
        pid = os.fork()
    except OSError as error:
        control.send(os.strerror(error.errno or 0).encode()[:_MESSAGE_BYTES])
        return
    if pid == 0:
        code = 1
        try:
            _end_with(starter)
            control.close()
            theirs.close()
            run(ours)
            code = 0
        finally:
            os._exit(code)
    ours.close()
    running.add(pid)
    socket.send_fds(control, [str(pid).encode()], [theirs.fileno()])
    theirs.close()
