"""Rows as they are sent: JSON, lines of JSON, Arrow and Parquet, read by the columns of a stream.

Called by `app/inbox.py` for what clients send. A body is taken whole or not at all: each value is
stored as what was sent, or its row is named. `columnar.py` reads Arrow and Parquet, in a process of
its own.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import (
    PUSHED_ROWS_MAX,
    PUSHED_VALUES_MAX,
    REQUEST_BYTES_MAX,
)
from sextant.kinds.dataset.streams import (
    DELETED,
    INFINITIES,
    TYPES,
    BadRowList,
    Columns,
    PushedRows,
    Unfit,
    converter,
)

JSON = "application/json"
LINES = "application/x-ndjson"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
COLUMNAR = (ARROW_STREAM, ARROW_FILE, PARQUET)
CONTENT_TYPES = (JSON, LINES, ARROW_STREAM, ARROW_FILE, PARQUET)

_Take = Callable[[Any], Any]
# finds where a value ends, also of what is not quite JSON
_read = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str).raw_decode
_SPACE = re.compile(r"[ \t\r\n]*")


class Body(NamedTuple):
    """A body before its rows are read.

    data   of JSON the array of rows alone
    batch  the name of the batch, "" when it has none
    """

    content_type: str
    data: bytes
    batch: str
    env: str


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    batch: str = ""
    env: str = ""


class _Sent(_Named, forbid_unknown_fields=True, kw_only=True):
    rows: msgspec.Raw


def opened(
    rows: Sequence[Mapping[str, Any]] | bytes, content_type: str, *, batch: str, env: str
) -> Body:
    """Return rows, or a body as it was sent, with the name of its batch.

    content_type  of a body; rows need none
    batch, env    as the request's address says; JSON may say them beside its rows instead
    Raises        UsageError for another content type, a body that is too large or not JSON
    """
    if not isinstance(rows, bytes):
        rows, content_type = as_json(rows), JSON
    kind = content_type.partition(";")[0].strip().lower() or JSON
    if kind not in CONTENT_TYPES:
        raise UsageError(
            "SX-STREAM-024",
            f"rows do not come as `{content_type[:100]}`",
            hint=f"one of {', '.join(CONTENT_TYPES)}",
        )
    if len(rows) > REQUEST_BYTES_MAX:
        raise UsageError(
            "SX-STREAM-025",
            f"the rows take {len(rows):,} bytes",
            hint=f"at most {REQUEST_BYTES_MAX:,} at once; send the others as another batch",
        )
    if kind != JSON or rows.lstrip()[:1] == b"[":
        return Body(kind, rows, batch, env)
    try:
        sent = msgspec.json.decode(rows, type=_Sent)
    except msgspec.ValidationError as error:
        raise _not_json(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sent = _members(rows)
    for name, beside, inside in (("batch", batch, sent.batch), ("env", env, sent.env)):
        if beside and inside and beside != inside:
            raise UsageError(
                "SX-STREAM-027",
                f"the address says {name} `{beside}`, the body `{inside}`",
                hint="say it once",
            )
    return Body(kind, bytes(sent.rows), batch or sent.batch, env or sent.env)


def as_json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows of Python values as a body in JSON. UsageError for a value that JSON has no word
    for."""

    def spelled(value: Any) -> Any:
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return INFINITIES[value < 0]
        return value

    try:
        return msgspec.json.encode(
            [{name: spelled(value) for name, value in row.items()} for row in rows]
        )
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        raise _not_json(error) from error


def read(columns: Columns, key: Sequence[str], body: Body, bad: BadRowList) -> PushedRows:
    """Return the rows of a body as values that their columns store. Arrow and Parquet are read in a
    process of their own.

    bad     gets the rows that cannot be taken; the answer holds something else in their places
    Raises  UsageError when there are no rows or too many, BadData when the body is damaged, unpacks
            to too much or has a column of a type that does not become the stream's
    """
    reading = Reading(columns, tuple(key), bad)
    if body.content_type == JSON:
        return reading.json(body.data)
    if body.content_type == LINES:
        return reading.lines(body.data)
    from sextant.kinds.dataset.unpack import read_apart

    return read_apart(columns, key, body, bad)


class Reading:
    """Reads one body."""

    def __init__(self, columns: Columns, key: tuple[str, ...], bad: BadRowList) -> None:
        self.columns, self.bad = columns, bad
        names = [name for name, _ in columns]
        self._key_places = [(names.index(name), name) for name in key]

    def check_size(self, rows: int) -> None:
        """Refuse a batch that has no rows, or takes too much memory."""
        most = min(PUSHED_ROWS_MAX, PUSHED_VALUES_MAX // len(self.columns))
        if not 1 <= rows <= most:
            raise UsageError(
                "SX-STREAM-012",
                f"a batch of {rows:,} rows cannot be taken",
                hint=f"from 1 to {most:,} rows, of {len(self.columns)} columns each",
            )

    # ------------------------------------------------------------ JSON

    def json(self, data: bytes) -> PushedRows:
        self._check_count(data.count(b"{"), lambda: len(_elements(data)))
        kind = _sent_type(self.columns)
        try:
            return self._fast(msgspec.json.decode(data, type=list[kind]))  # type: ignore[valid-type]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Unfit):
            return self._slow(_elements(data))

    def lines(self, data: bytes) -> PushedRows:
        def rows() -> list[bytes]:
            return [line for line in data.split(b"\n") if line.strip()]

        self._check_count(data.count(b"\n") + 1, lambda: len(rows()))
        kind = _sent_type(self.columns)
        try:
            return self._fast(msgspec.json.Decoder(kind).decode_lines(data))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Unfit):
            return self._slow(rows())

    def _check_count(self, most: int, count: Callable[[], int]) -> None:
        """Refuse too many rows before they are read: objects of no bytes take memory too."""
        if not 1 <= most <= PUSHED_VALUES_MAX // len(self.columns) or most > PUSHED_ROWS_MAX:
            self.check_size(count())

    def _fast(self, sent: Sequence[msgspec.Struct]) -> PushedRows:
        """Return rows of which each value is of its column's kind. Unfit when one is not the value
        that would be stored."""
        self.check_size(len(sent))
        takes = [
            (place, converter(type_))
            for place, (_, type_) in enumerate(self.columns)
            if type_ not in ("bool", "int64", "string")
        ]
        rows, deleted = [], []
        for number, row in enumerate(sent):
            *values, is_deleted = msgspec.structs.astuple(row)
            for place, take in takes:
                if values[place] is not None:
                    values[place] = take(values[place])
            if is_deleted:
                values = self.key_alone(number, values)
                deleted.append(number)
            rows.append(tuple(values))
        return PushedRows(rows, tuple(deleted))

    def _slow(self, sent: Sequence[bytes | msgspec.Raw]) -> PushedRows:
        """Return rows value by value, and name those that cannot be taken."""
        self.check_size(len(sent))
        places = {name: place for place, (name, _) in enumerate(self.columns)}
        takes = [_taker(type_) for _, type_ in self.columns]
        rows, deleted = [], []
        for number, raw in enumerate(sent):
            values: list[Any] = [None] * len(takes)
            rows.append(tuple(values))
            try:
                row = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            except msgspec.ValidationError:
                self.bad.add(number, "", "it is not an object")
                continue
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.bad.add(number, "", f"it is not JSON: {error}")
                continue
            except RecursionError:
                self.bad.add(number, "", "it nests too deep")
                continue
            is_deleted = False
            for name, value in row.items():
                try:
                    if name == DELETED:
                        is_deleted = bool(_taker("bool")(value))
                    elif name in places:
                        values[places[name]] = takes[places[name]](value)
                    else:
                        self.bad.add(number, name, "the stream has no such column")
                except Unfit as error:
                    self.bad.add(number, name, str(error))
            if is_deleted:
                values = self.key_alone(number, values)
                deleted.append(number)
            rows[-1] = tuple(values)
        return PushedRows(rows, tuple(deleted))

    def key_alone(self, row: int, values: Sequence[Any]) -> list[Any]:
        """Return a deletion without the values that it does not need. A row that does not say which
        key is named."""
        if not self._key_places:
            self.bad.add(row, DELETED, "the stream has no key by which a row could be deleted")
        for place, name in self._key_places:
            if values[place] is None:
                self.bad.add(row, name, "it is missing, and part of the key to delete")
        places = [place for place, _ in self._key_places]
        return [value if place in places else None for place, value in enumerate(values)]


# ---------------------------------------------------------------- values of JSON


@functools.lru_cache(maxsize=256)
def _sent_type(columns: Columns) -> type[msgspec.Struct]:
    """Return the type of a row as it is sent in JSON: its columns, each of which may be missing,
    and whether it is a deletion. What text stands for is looked at by converters."""
    kinds: dict[str, Any] = {
        "bool": bool,
        "int64": TYPES["int64"],
        "float64": int | float | str,
    }
    fields = [
        (f"c{n}", (Decimal if type_.startswith("decimal") else kinds.get(type_, str)) | None, None)
        for n, (_, type_) in enumerate(columns)
    ]
    names = {f"c{n}": name for n, (name, _) in enumerate(columns)}
    return msgspec.defstruct(
        "Sent",
        [*fields, ("deleted", bool | None, None)],
        rename=names | {"deleted": DELETED},
        forbid_unknown_fields=True,
    )


def _taker(type_: str) -> _Take:
    """Return what turns the text of a value in JSON into the one that is stored."""
    convert = converter(type_)

    def take(raw: msgspec.Raw) -> Any:
        text = bytes(raw)
        try:
            if type_.startswith("decimal") and text[:1] in b"-0123456789":
                return convert(msgspec.json.decode(text, type=Decimal))
            value = msgspec.json.decode(text)
        except UnicodeDecodeError:
            raise Unfit("the text is not UTF-8") from None
        except RecursionError:
            raise Unfit("the value nests too deep") from None
        except msgspec.MsgspecError:
            what = "the text is not JSON" if text[:1] == b'"' else f"the number is not {type_}"
            raise Unfit(what) from None
        return None if value is None else convert(value)

    return take


def _elements(data: bytes) -> Sequence[bytes | msgspec.Raw]:
    """Return the elements of an array, each as it was written: one of them may not be JSON as it
    should be (half a surrogate pair, NaN), and is named then. UsageError when it is no array."""
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    text = data.decode(errors="surrogateescape")
    out: list[bytes] = []
    try:
        at = _mark(text, 0, "[")
        while True:
            _, end = _read(text, at)
            out.append(text[at:end].encode(errors="surrogateescape"))
            at = _mark(text, end, "")
            if text[at : at + 1] == "]":
                break
            at = _mark(text, at, ",")
        _end(text, at)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from error
    return out


def _members(data: bytes) -> _Sent:
    """Return an object with rows of which some are not JSON as they should be. UsageError."""
    text = data.decode(errors="surrogateescape")
    found: dict[str, msgspec.Raw] = {}
    try:
        at = _mark(text, 0, "{")
        while True:
            name, end = _read(text, at)
            at = _mark(text, _mark(text, end, ""), ":")
            _, end = _read(text, at)
            found[name] = msgspec.Raw(text[at:end].encode(errors="surrogateescape"))
            at = _mark(text, end, "")
            if text[at : at + 1] == "}":
                break
            at = _mark(text, at, ",")
        _end(text, at)
        rows = found.pop("rows", msgspec.Raw(b"[]"))
        others = {name: msgspec.json.decode(value) for name, value in found.items()}
        sent = msgspec.convert(others, type=_Named)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_json(error) from error
    return _Sent(batch=sent.batch, env=sent.env, rows=rows)


def _end(text: str, at: int) -> None:
    if _mark(text, at + 1, "") != len(text):
        raise ValueError(f"it goes on behind its end (byte {at})")


def _mark(text: str, at: int, mark: str) -> int:
    """Return where the next thing begins behind a mark. ValueError when the mark is not there."""
    match = _SPACE.match(text, at)
    at = match.end() if match else at
    if not mark:
        return at
    if text[at : at + 1] != mark:
        raise ValueError(f"`{mark}` is missing (byte {at})")
    return _mark(text, at + 1, "")


def _not_json(error: Exception) -> UsageError:
    return UsageError(
        "SX-STREAM-026",
        f"the body is not rows in JSON: {error}",
        hint='an array of objects, or {"batch": "NAME", "rows": [...]}',
    )
