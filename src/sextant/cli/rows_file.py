"""A file of rows, cut into batches that one request can carry. Called by `sextant push`.

The cuts depend on the file alone, so that a repeated command names the same batches. What is sent
is judged by who takes it; here is only looked at what it takes to cut.
"""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from sextant.formats import arrow, parquet
from sextant.kernel.errors import BadData, BadRow, BadRows, UsageError
from sextant.kernel.limits import PUSHED_ARRAY_BYTES_MAX, PUSHED_CUT_ROWS, REQUEST_BYTES_MAX
from sextant.kinds.dataset import bodies

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK = 1 << 20
_BODY_BYTES = REQUEST_BYTES_MAX // 2  # of a body in Arrow, before what the format puts around it


class Cut(NamedTuple):
    """A part of a file that is one batch.

    first  place of its first row in the file, from 0
    lines  the line of each of its rows, from 1; empty for a file that has no lines
    """

    content_type: str
    data: bytes
    first: int
    lines: tuple[int, ...] = ()


class RowsFile:
    """A file that is open, or standard input."""

    def __init__(self, file: BinaryIO) -> None:
        self.name = file.name if isinstance(file.name, str) else "standard input"
        self._file = file if file.seekable() else _spooled(file)

    def digest(self) -> str:
        """Return the name that the content has as a batch."""
        self._file.seek(0)
        made = hashlib.sha256()
        while data := self._file.read(_CHUNK):
            made.update(data)
        return f"sha256:{made.hexdigest()[:32]}"

    def cuts(self) -> Iterator[Cut]:
        """Yield the parts of the file, in order; it is told by its first bytes what it is. BadData,
        UsageError when it cannot be cut."""
        self._file.seek(0)
        head = self._file.read(_CHUNK)
        self._file.seek(0)
        for suffix, magic in ((".parquet", (parquet.MAGIC,)), (".arrow", _ARROW)):
            if head.startswith(magic):
                return self._arrow(is_parquet=suffix == ".parquet")
            if self.name.endswith(suffix):
                raise self._damaged("it does not begin so")
        if head.lstrip()[:1] == b"[":
            return self._array()
        return self._lines()

    def error(self, error: BadRows, cut: Cut) -> BadRows:
        """Return an error about rows of a cut by their lines, or places, in the file."""
        unit = "line" if cut.lines else "row"
        rows = [
            BadRow(cut.lines[row.row] if cut.lines else cut.first + row.row, row.column, row.reason)
            for row in error.rows
        ]
        return BadRows(
            error.code,
            error.what,
            hint=error.hint,
            where=self.name,
            rows=rows,
            count=error.count,
            unit=unit,
        )

    def _lines(self) -> Iterator[Cut]:
        lines: list[bytes] = []
        numbers: list[int] = []
        size = first = number = 0
        while line := self._file.readline(REQUEST_BYTES_MAX + 1):
            number += 1
            if len(line) > REQUEST_BYTES_MAX:
                raise UsageError(
                    "SX-CLI-040",
                    f"a row takes more than {REQUEST_BYTES_MAX >> 20} MiB",
                    hint="rows come one on each line",
                    where=f"{self.name}, line {number}",
                )
            if not line.strip():
                continue
            if lines and (size + len(line) > REQUEST_BYTES_MAX or len(lines) == PUSHED_CUT_ROWS):
                yield Cut(bodies.LINES, b"".join(lines), first, tuple(numbers))
                first, size, lines, numbers = first + len(lines), 0, [], []
            lines.append(line)
            numbers.append(number)
            size += len(line)
        if lines:
            yield Cut(bodies.LINES, b"".join(lines), first, tuple(numbers))

    def _array(self) -> Iterator[Cut]:
        data = self._file.read(PUSHED_ARRAY_BYTES_MAX + 1)
        if len(data) > PUSHED_ARRAY_BYTES_MAX:
            raise UsageError(
                "SX-CLI-040",
                f"the array takes more than {PUSHED_ARRAY_BYTES_MAX >> 20} MiB",
                hint="write one object on each line: such a file is read piece by piece",
                where=self.name,
            )
        try:
            rows = msgspec.json.decode(data, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if len(data) > REQUEST_BYTES_MAX:
                raise BadData(
                    "SX-CLI-041",
                    f"not rows in JSON: {error}",
                    hint="one JSON object on each line, or one array of objects",
                    where=self.name,
                ) from error
            yield Cut(bodies.JSON, data, 0)  # who takes it names the row
            return
        if len(data) <= REQUEST_BYTES_MAX and len(rows) <= PUSHED_CUT_ROWS:
            yield Cut(bodies.JSON, data, 0)
            return
        some: list[bytes] = []
        size = first = 0
        for raw in rows:
            row = bytes(raw)
            if some and (size + len(row) + 3 > REQUEST_BYTES_MAX or len(some) == PUSHED_CUT_ROWS):
                yield Cut(bodies.JSON, b"[" + b",".join(some) + b"]", first)
                first, size, some = first + len(some), 0, []
            some.append(row)
            size += len(row) + 1
        yield Cut(bodies.JSON, b"[" + b",".join(some) + b"]", first)

    def _arrow(self, *, is_parquet: bool) -> Iterator[Cut]:
        import pyarrow as pa

        try:
            first = 0
            batches = _of_parquet(self._file) if is_parquet else _of_arrow(self._file)
            for table in _regrouped(batches):
                yield Cut(bodies.ARROW_STREAM, _stream(table), first)
                first += table.num_rows
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> BadData:
        return BadData(
            "SX-CLI-043",
            f"the file cannot be read as Arrow or Parquet: {what}",
            hint="is it whole, and does its name say what it is?",
            where=self.name,
        )


_ARROW = (arrow.FILE_MAGIC, arrow.STREAM_MAGIC)


def _spooled(file: BinaryIO) -> BinaryIO:
    """Return what comes from a pipe as a file, since it is read twice: for its name and to cut
    it."""
    out = tempfile.TemporaryFile()  # noqa: SIM115 - the process holds it until it ends
    while data := file.read(_CHUNK):
        out.write(data)
    return out


def _of_parquet(file: BinaryIO) -> "Iterable[pa.RecordBatch]":
    from pyarrow import parquet as pq

    from sextant.kinds.dataset import columnar

    opened = pq.ParquetFile(file)
    columnar.check_parquet(opened.metadata)
    return opened.iter_batches(batch_size=PUSHED_CUT_ROWS)  # type: ignore[no-any-return]


def _of_arrow(file: BinaryIO) -> "Iterable[pa.RecordBatch]":
    import pyarrow as pa

    head = file.read(len(arrow.FILE_MAGIC))
    file.seek(0)
    if head != arrow.FILE_MAGIC:
        return pa.ipc.open_stream(file)  # type: ignore[no-any-return]
    opened = pa.ipc.open_file(file)
    return (opened.get_batch(place) for place in range(opened.num_record_batches))


def _regrouped(batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.Table]":
    """Yield tables that a body has room for: small batches together, large ones in halves."""
    import pyarrow as pa

    held: list[pa.Table] = []
    rows = size = 0
    for batch in batches:
        whole = _decoded(pa.Table.from_batches([batch]))
        for table in _sliced(whole):
            if held and (
                rows + table.num_rows > PUSHED_CUT_ROWS or size + table.nbytes > _BODY_BYTES
            ):
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
            held.append(table)
            rows, size = rows + table.num_rows, size + table.nbytes
    if held:
        yield pa.concat_tables(held)


def _sliced(table: "pa.Table") -> "Iterator[pa.Table]":
    for first in range(0, table.num_rows, PUSHED_CUT_ROWS):
        yield from _halved(table.slice(first, PUSHED_CUT_ROWS))


def _halved(table: "pa.Table") -> "Iterator[pa.Table]":
    if table.num_rows > 1 and table.nbytes > _BODY_BYTES:
        half = table.num_rows // 2
        yield from _halved(table.slice(0, half))
        yield from _halved(table.slice(half))
    else:
        yield table


def _decoded(table: "pa.Table") -> "pa.Table":
    """Return a table without dictionaries: each part would carry the whole of them."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table.column(place).cast(field.type.value_type)
            table = table.set_column(place, field.name, plain)
    return table


def _stream(table: "pa.Table") -> bytes:
    import pyarrow as pa

    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()
