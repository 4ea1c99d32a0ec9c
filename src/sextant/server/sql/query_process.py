"""A process that runs untrusted queries, one after the other, and may be killed at any
moment: it reads the telemetry store and the lake, and writes nothing that anybody needs.

Forked by the starter (`starter.py`), used by `query_processes.py` over a socket: each message is
its length (4 bytes, big endian) and MessagePack; an answer's data follows its head.
"""

import contextlib
import os
import resource
import shutil
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from sextant.kernel import limits
from sextant.kernel.errors import Bug, SextantError, StorageError, WorldError
from sextant.server.sql.answering import Answerer, Query
from sextant.server.sql.attached import Attached, Table
from sextant.server.sql.catalogue import Published

SIZE = struct.Struct(">I")
FOLDER = "query-"  # of a process's own files, in the telemetry folder's `tmp`


class Begin(msgspec.Struct, frozen=True):
    """The first message: the tables of the store, and the statements that make its functions."""

    tables: list[Table]
    functions: list[str]


class Order(msgspec.Struct, frozen=True):
    """Every other message.

    query    what is to be answered
    changed  tables that changed in the last seconds -> how often in all; those that are read are
             attached again, so that what was written is seen
    published  what is live, when that changed since the last message
    """

    query: Query
    changed: dict[str, int] = {}
    published: Published | None = None


class Head(msgspec.Struct, frozen=True):
    """What stands before the data of an answer; or `problem`, and there is no data. `last`: the
    process is not to be asked again."""

    size: int = 0
    form: str = ""
    encoding: str = ""
    elapsed_ns: int = 0
    problem: dict[str, Any] | None = None
    status: int = 0
    last: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where the process works, known before it is started.

    folder  the telemetry folder
    store   its part that holds the tables' parts: read
    lake    the lake's root: read
    """

    folder: str
    store: str
    lake: str


def serve(link: socket.socket, word: bytes) -> None:
    """Answer questions until the socket is closed. `word` is the Place, in MessagePack."""
    place = msgspec.msgpack.decode(word, type=Place)
    os.umask(0o077)  # chDB makes files and folders by it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(
        resource.RLIMIT_DATA, (limits.SQL_PROCESS_BYTES_MAX, limits.SQL_PROCESS_BYTES_MAX)
    )
    own = Path(place.folder) / "tmp" / f"{FOLDER}{os.getpid()}"
    shutil.rmtree(own, ignore_errors=True)  # of one of an earlier start, with the same number
    try:
        _serve(link, place, own)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _serve(link: socket.socket, place: Place, own: Path) -> None:
    from sextant.server.sql.catalogue import Catalogue
    from sextant.server.sql.landlock import confine
    from sextant.stores.telemetry.chdb import ChdbStore

    confine(own, Path(place.lake), connect=(), also_read=[Path(place.store)])
    begin = msgspec.msgpack.decode(_receive(link), type=Begin)
    store = ChdbStore(own / "store", memory_bytes=limits.SQL_MEMORY_BYTES_MAX * 3 // 2, reads=True)
    for statement in begin.functions:
        store.run(statement)
    attached = Attached(store, begin.tables)
    catalogue = Catalogue(store, Path(place.lake), others=attached)

    def prepare(tables: Iterable[str]) -> None:
        attached.need((of, name) for of, _, name in (one.partition(".") for one in tables))

    answerer = Answerer(store, catalogue, prepare)
    _send(link, msgspec.msgpack.encode(Head()))
    with contextlib.suppress(ConnectionError):
        while data := _receive(link):
            order = msgspec.msgpack.decode(data, type=Order)
            head, found = Head(), b""
            try:
                attached.changed(order.changed)
                if order.published is not None:
                    published = order.published
                    catalogue.apply(
                        published.env,
                        published.tables,
                        published.kpis,
                        published.guarded,
                    )
                try:
                    answer = answerer.answer(order.query)
                except StorageError:
                    # parts that it knew may have been merged and removed while it, or the machine,
                    # stood still
                    attached.again()
                    answer = answerer.answer(order.query)
                found = b"".join(answer.pieces)
                head = Head(len(found), answer.form, answer.encoding, answer.elapsed_ns)
            except SextantError as error:
                head = _no(error, last=isinstance(error, WorldError))
            except MemoryError:
                return  # whoever asked is told that it ended
            except Exception:
                import sys
                import traceback

                traceback.print_exc(file=sys.stderr)
                head = _no(
                    last=True,
                    error=Bug(
                        "SX-SQL-019",
                        "a promise inside Sextant was broken",
                        hint="please report it; the server's log has the traceback",
                    ),
                )
            if _mapped() > limits.SQL_PROCESS_KEPT_BYTES_MAX:
                head = msgspec.structs.replace(head, last=True)
            if head.problem is not None:
                head = msgspec.structs.replace(head, problem=_without_paths(head.problem, place))
            _send(link, msgspec.msgpack.encode(head))
            link.sendall(found)


def _no(error: SextantError, *, last: bool) -> Head:
    return Head(problem=error.problem(), status=error.http_status, last=last)


def _without_paths(problem: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return a problem without the folders in which the server works."""
    shown = {place.store: "<telemetry>", place.folder: "<telemetry>", place.lake: "<lake>"}

    def plain(text: str) -> str:
        for folder, name in shown.items():
            for path in {folder, os.path.realpath(folder)}:
                text = text.replace(path, name)
        return text

    return {
        name: plain(value) if isinstance(value, str) else value for name, value in problem.items()
    }


def _mapped() -> int:
    """Return the memory that counts against SQL_PROCESS_BYTES_MAX."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


def _receive(link: socket.socket) -> bytes:
    """Return the next message; b"" when the other end is closed."""
    head = link.recv(SIZE.size, socket.MSG_WAITALL)
    if len(head) < SIZE.size:
        return b""
    (size,) = SIZE.unpack(head)
    out = bytearray(size)
    view = memoryview(out)
    while view:
        got = link.recv_into(view)
        if not got:
            return b""
        view = view[got:]
    return bytes(out)


def _send(link: socket.socket, message: bytes) -> None:
    link.sendall(SIZE.pack(len(message)) + message)
