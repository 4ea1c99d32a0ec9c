"""Bodies of pushed rows in Arrow and Parquet, read by the columns of a stream.

Called in a process of its own (`unpack.py`): a crafted body can take the readers down. How much it
unpacks to is known before it is unpacked, and each value is stored as what was sent, or its row is
named.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sextant.formats import arrow, parquet
from sextant.kernel.errors import BadData
from sextant.kernel.limits import (
    PUSHED_FOOTER_BYTES_MAX,
    PUSHED_ROWS_MAX,
    PUSHED_UNPACKED_BYTES_MAX,
)
from sextant.kinds.dataset.bodies import ARROW_FILE, PARQUET, Body, Reading
from sextant.kinds.dataset.streams import (
    DELETED,
    BadRowList,
    Columns,
    PushedRows,
    Row,
    Unfit,
    converter,
)

if TYPE_CHECKING:
    import pyarrow as pa


def read(columns: Columns, key: Sequence[str], body: Body, bad: BadRowList) -> PushedRows:
    """Return the rows of a body as values that their columns store; see `bodies.read`."""
    reading = Reading(columns, tuple(key), bad)
    if body.content_type == PARQUET:
        return _rows(reading, _parquet(body.data, reading.check_size))
    return _rows(reading, _arrow(body.data, body.content_type == ARROW_FILE, reading.check_size))


def _rows(reading: Reading, table: "pa.Table") -> PushedRows:
    reading.check_size(table.num_rows)
    types = dict(reading.columns)
    names = table.column_names
    for name in names:
        if names.count(name) > 1 or (name not in types and name != DELETED):
            raise BadData(
                "SX-STREAM-028",
                (
                    f"column `{name}`: "
                    + (
                        f"it is there {names.count(name)} times"
                        if names.count(name) > 1
                        else "the stream has no such column"
                    )
                ),
                hint=_hint(reading.columns),
            )
    text = 0
    for column in table.columns:
        text += _text_size(column)
        if text > PUSHED_UNPACKED_BYTES_MAX:
            raise _bomb()
    nothing = [None] * table.num_rows
    values = [
        _values(reading, name, type_, table.column(name)) if name in names else nothing
        for name, type_ in reading.columns
    ]
    rows: list[Row] = list(zip(*values, strict=True))
    deleted: tuple[int, ...] = ()
    if DELETED in names:
        marks = _values(reading, DELETED, "bool", table.column(DELETED))
        deleted = tuple(number for number, mark in enumerate(marks) if mark)
        for number in deleted:
            rows[number] = tuple(reading.key_alone(number, rows[number]))
    return PushedRows(rows, deleted)


def _values(reading: Reading, name: str, type_: str, column: "pa.ChunkedArray") -> list[Any]:
    """Return the values of a column as they are stored, and name the rows of those that cannot
    be."""
    take = _taker_of_arrow(type_, column.type)
    if take is None:
        raise BadData(
            "SX-STREAM-028",
            f"column `{name}`: Arrow's type {column.type} does not become {type_}",
            hint=_hint(reading.columns),
        )
    out: list[Any] = []
    for chunk in column.chunks:
        for value in _plain(chunk):
            try:
                out.append(None if value is None else take(value))
            except Unfit as error:
                reading.bad.add(len(out), name, str(error))
                out.append(None)
    return out


def _hint(columns: Columns) -> str:
    return f"the columns are {', '.join(f'{name} {type_}' for name, type_ in columns)}"


# ---------------------------------------------------------------- values


def _taker_of_arrow(type_: str, sent: "pa.DataType") -> Callable[[Any], Any] | None:
    """Return what turns a value of Arrow's type, as `_plain` gives it, into the one that a column
    stores; None when values of that type are something else."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(sent):
        sent = sent.value_type
    convert = converter(type_)
    if t.is_null(sent):
        return convert
    if type_ == "string":
        return _decode_text if _is_text(sent) else None
    if type_ in ("timestamptz", "timestamp"):
        if not t.is_timestamp(sent) or bool(sent.tz) != (type_ == "timestamptz"):
            return None
        return functools.partial(_at, sent.unit, bool(sent.tz))
    allowed = {
        "bool": t.is_boolean(sent),
        "int64": t.is_integer(sent),
        "float64": t.is_integer(sent) or t.is_floating(sent),
        "date": t.is_date(sent),
    }.get(type_, t.is_integer(sent) or t.is_decimal(sent))
    if not allowed:
        return None
    if type_ == "date":
        return functools.partial(_on, t.is_date64(sent))
    return convert


def _is_text(type_: "pa.DataType") -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_))


def _plain(chunk: "pa.Array") -> list[Any]:
    """Return the values of an array: text as bytes, times as numbers of their unit, since Python's
    own may not hold them."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(chunk.type):
        values = _plain(chunk.dictionary)
        return [None if place is None else values[place] for place in chunk.indices.to_pylist()]
    if _is_text(chunk.type):
        chunk = chunk.view(_bytes_type(chunk.type))
        chunk.validate(full=True)
    elif t.is_timestamp(chunk.type) or t.is_date64(chunk.type):
        chunk = chunk.view(pa.int64())
    elif t.is_date32(chunk.type):
        chunk = chunk.view(pa.int32())
    return chunk.to_pylist()  # type: ignore[no-any-return]


def _bytes_type(text: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_string_view(text):
        return pa.binary_view()
    return pa.large_binary() if pa.types.is_large_string(text) else pa.binary()


def _text_size(column: "pa.ChunkedArray") -> int:
    """Return how many bytes the text of a column takes when each row has its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def sizes(array: "pa.Array") -> "pa.Array":
        if pa.types.is_string_view(array.type):
            return pa.array([len(v) if v else 0 for v in array.view(pa.binary_view()).to_pylist()])
        return pc.binary_length(array.view(_bytes_type(array.type)))

    total = 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type) and _is_text(chunk.type.value_type):
            total += pc.sum(sizes(chunk.dictionary).take(chunk.indices)).as_py() or 0
        elif _is_text(chunk.type):
            total += pc.sum(sizes(chunk)).as_py() or 0
    return total


def _decode_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unfit("the text is not UTF-8") from None


_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _at(unit: str, is_instant: bool, value: int) -> datetime:
    micros, rest = divmod(value * 1_000_000, _PER_S[unit])
    if rest:
        raise Unfit("the time is finer than a microsecond")
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except OverflowError:
        raise Unfit("the time lies outside of the years 1 to 9999") from None
    return at if is_instant else at.replace(tzinfo=None)


def _on(in_ms: bool, value: int) -> date:
    days, rest = divmod(value, 86_400_000) if in_ms else (value, 0)
    if rest:
        raise Unfit("the date has a time of day")
    try:
        return date(1970, 1, 1) + timedelta(days=days)
    except OverflowError:
        raise Unfit("the date lies outside of the years 1 to 9999") from None


# ---------------------------------------------------------------- bodies that unpack


def _arrow(data: bytes, is_file: bool, check: Callable[[int], None]) -> "pa.Table":
    """Return a body in Arrow's format; a file is a stream with something around it."""
    import pyarrow as pa

    if is_file:
        if data[: len(arrow.FILE_MAGIC)] != arrow.FILE_MAGIC:
            raise _damaged("it does not begin as an Arrow file")
        data = data[arrow.FILE_HEAD_BYTES :]
    rows = size = 0
    try:
        messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(data))
        for message in messages:
            takes = arrow.unpacked(
                message.metadata.to_pybytes(),
                message.body.to_pybytes() if message.body else b"",
            )
            rows, size = rows + takes.rows, size + takes.size
            if size > PUSHED_UNPACKED_BYTES_MAX:
                raise _bomb()
        check(rows)
        with pa.ipc.open_stream(
            pa.py_buffer(data), options=pa.ipc.IpcReadOptions(use_threads=False)
        ) as reader:
            table = reader.read_all()
        _validate(table)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _damaged(str(error)) from error
    return table


def _parquet(data: bytes, check: Callable[[int], None]) -> "pa.Table":
    """Return a body in Parquet."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        if parquet.footer_size(data) > PUSHED_FOOTER_BYTES_MAX:
            raise BadData(
                "SX-STREAM-029",
                f"the footer of the Parquet file takes more than {PUSHED_FOOTER_BYTES_MAX:,} bytes",
                hint="write it with fewer row groups, or with less about them",
            )
        metadata = pq.read_metadata(pa.BufferReader(data))
        check(metadata.num_rows)
        texts = check_parquet(metadata)
        size = 0
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                size += _chunk_size(data, metadata.row_group(group).column(place))
                if size > PUSHED_UNPACKED_BYTES_MAX:
                    raise _bomb()
        # text stays in dictionaries: a small file repeats a long one for every row
        with pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts) as file:
            table = file.read(use_threads=False)
        _validate(table)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _damaged(str(error)) from error
    return table


def check_parquet(metadata: Any) -> list[str]:
    """Return the columns of a Parquet file that hold text. BadData for a column whose values cannot
    be those of a stream, whatever is in it."""
    texts = []
    for place in range(metadata.num_columns):
        column = metadata.schema.column(place)
        if column.max_repetition_level or column.name != column.path:
            raise BadData(
                "SX-STREAM-028",
                f"column `{column.path}`: it is nested",
                hint="a value is a number, a text, a time, true or false",
            )
        if column.physical_type == "INT96":
            raise BadData(
                "SX-STREAM-028",
                f"column `{column.path}`: INT96 is not a time that is read exactly",
                hint="write times as timestamps of a unit, in microseconds for example",
            )
        if column.physical_type == "BYTE_ARRAY":
            texts.append(column.path)
    return texts


def _chunk_size(data: bytes, chunk: Any) -> int:
    """Return how many bytes the pages of a column chunk take, unpacked."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    size = 0
    for page in parquet.pages(data, start, chunk.total_compressed_size):
        size += page.size
        if page.encoding not in (-1, *parquet.ENCODINGS):
            raise BadData(
                "SX-STREAM-028",
                f"column `{chunk.path_in_schema}`: it is written in an encoding that is not read",
                hint=f"write it as one of {', '.join(sorted(parquet.ENCODINGS.values()))}",
            )
        if page.values > PUSHED_ROWS_MAX:
            raise _bomb()
    return size


def _validate(table: "pa.Table") -> None:
    """Raise ArrowInvalid for arrays that point out of themselves. Whether text is UTF-8 is asked
    row by row."""
    for column in table.columns:
        for chunk in column.chunks:
            for array in (chunk, getattr(chunk, "dictionary", None)):
                if array is not None and not _is_text(array.type):
                    array.validate(full=not _holds_text(array.type))
                elif array is not None:
                    array.view(_bytes_type(array.type)).validate(full=True)
            if hasattr(chunk, "indices"):
                _validate_indices(chunk)


def _holds_text(type_: "pa.DataType") -> bool:
    return bool(getattr(type_, "value_type", None))


def _validate_indices(chunk: "pa.DictionaryArray") -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    chunk.indices.validate(full=True)
    ends = pc.min_max(chunk.indices).as_py()
    if ends["min"] is not None and not 0 <= ends["min"] <= ends["max"] < len(chunk.dictionary):
        raise pa.ArrowInvalid("an index points out of its dictionary")


def _bomb() -> BadData:
    return BadData(
        "SX-STREAM-029",
        f"the body unpacks to more than {PUSHED_UNPACKED_BYTES_MAX >> 20} MiB",
        hint="send fewer rows at once",
    )


def _damaged(what: str) -> BadData:
    return BadData(
        "SX-STREAM-030",
        f"the body is damaged: {what}",
        hint="is it of the kind that its content type says?",
    )
