"""Confines this process with Landlock: which files and ports it may use from now on, for good.
Called by `server/sql/landlock.py`; `doctor` asks `version`.

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h. The three
system calls have the same numbers on every architecture; the C library has no functions for them.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from sextant.kernel.errors import Bug, StorageError

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_UNDER_PATH, _TO_PORT = 1, 2
_NO_NEW_PRIVILEGES = 38  # prctl
# Rights over files: EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR ..
# MAKE_SYM; then REFER (2), TRUNCATE (3), IOCTL_DEV (5).
_EXECUTE, _WRITE, _READ, _LIST = 1, 1 << 1, 1 << 2, 1 << 3
_FIRST = (1 << 13) - 1
_SINCE = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
# what can be granted for something that is no folder
_OF_FILES = _EXECUTE | _WRITE | _READ | 1 << 14 | 1 << 15
_DEVICES = 1 << 6 | 1 << 11 | 1 << 15  # MAKE_CHAR, MAKE_BLOCK, IOCTL_DEV: granted to nobody
_CONNECT = 1 << 1  # since 4
_SCOPES = 1 | 2  # since 6: abstract sockets, signals to others


def version() -> int:
    """Return the version of Landlock's interface in this kernel; 0 when there is none, or it is
    switched off."""
    if not sys.platform.startswith("linux"):
        return 0
    found = ctypes.CDLL(None, use_errno=True).syscall(
        _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)
    )
    return max(0, int(found))


def restrict(
    *,
    read: Iterable[Path],
    write: Iterable[Path],
    execute: Iterable[Path],
    connect: Iterable[int] | None,
) -> int:
    """Leave this process only these rights, from now on and for all its threads and children to
    come.

    read     files, and folders with all below them, that may be read (and libraries among them
             loaded: that is a read and a mapping, which is not what EXECUTE is about)
    write    the same, for reading, writing, making and removing
    execute  programs that may be started: files, and none but these
    connect  TCP ports that may be connected to; None = any. Kernels before 6.7 cannot say no: then
             any, too
    Returns the version of Landlock, 0 when the kernel has none and nothing is restricted. What does
    not exist is left out.
    Raises Bug when other threads run already, which would stay free; StorageError when the kernel
    refuses.
    """
    abi = version()
    if not abi:
        return 0
    if len(os.listdir("/proc/self/task")) > 1:
        raise Bug(
            "SX-SQL-030",
            "a process can be confined only before it starts threads",
            hint="confine it first, then open the store",
        )
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        found = int(libc.syscall(*arguments))
        if found < 0:
            raise StorageError(
                "SX-SQL-031",
                f"the kernel does not confine this process: {os.strerror(ctypes.get_errno())}",
                hint="`sextant doctor` says what this machine has",
            )
        return found

    files = _FIRST | sum(right for since, right in _SINCE.items() if abi >= since)
    ports = _CONNECT if connect is not None and abi >= 4 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attribute = struct.pack("=QQQ", files, ports, _SCOPES)[:size]
    programs = [*execute]
    ruleset = call(_CREATE, attribute, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, rights in (
            (read, _READ | _LIST),
            (programs + (_loaders() if programs else []), _EXECUTE | _READ),
            (write, files & ~_DEVICES & ~_EXECUTE),
        ):
            for path in paths:
                try:
                    there = os.open(path, os.O_PATH | os.O_CLOEXEC)
                except (FileNotFoundError, PermissionError, NotADirectoryError):
                    continue
                try:
                    granted = rights & files if os.path.isdir(path) else rights & files & _OF_FILES
                    call(
                        _ADD,
                        ctypes.c_int(ruleset),
                        ctypes.c_int(_UNDER_PATH),
                        struct.pack("=Qi", granted, there),
                        ctypes.c_uint32(0),
                    )
                finally:
                    os.close(there)
        for port in connect or () if ports else ():
            call(
                _ADD,
                ctypes.c_int(ruleset),
                ctypes.c_int(_TO_PORT),
                struct.pack("=QQ", _CONNECT, port),
                ctypes.c_uint32(0),
            )
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise StorageError(
                "SX-SQL-031",
                f"the kernel does not confine this process: {os.strerror(ctypes.get_errno())}",
                hint="`sextant doctor` says what this machine has",
            )
        call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


def _loaders() -> list[Path]:
    """Return the dynamic loader of this process, which the kernel executes before a program that
    is linked to libraries."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        found = {line.split(maxsplit=5)[-1].strip() for line in maps}
    return [Path(one) for one in sorted(found) if os.path.basename(one).startswith("ld-")]
