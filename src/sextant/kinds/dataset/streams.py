"""Rows that others push: what a declared row is, and how all that were pushed for a partition
become its content.

A partition's content is a pure function of its parts, in the order of arrival: where rows share a
key the last one holds, and a key that was deleted, or pushed for another partition later, is gone.
So a dataset of pushed rows is planned, remembered and made again as any other.
`bodies.py` reads rows as they are sent, `app/inbox.py` takes and keeps them, and decides when they
are published.
"""

import bisect
import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import BadData, BadRow, BadRows
from sextant.kernel.limits import (
    BAD_ROWS_SHOWN_MAX,
    PUBLISH_EVERY_S_MAX,
    PUBLISH_EVERY_S_MIN,
    PUBLISH_REST_FACTOR,
)

if TYPE_CHECKING:
    import pyarrow as pa


Columns = tuple[tuple[str, str], ...]
Row = tuple[Any, ...]
DELETED = "_deleted"  # beside the columns of a row: true deletes the row of its key
INFINITIES = ("Infinity", "-Infinity")  # JSON has no numbers for them
_INT64 = range(-(1 << 63), 1 << 63)
TYPES: dict[str, Any] = {
    "bool": bool,
    "int64": Annotated[int, msgspec.Meta(ge=_INT64[0], le=_INT64[-1])],
    "float64": float | Literal["Infinity", "-Infinity"],
    "string": str,
    "date": date,
    "timestamptz": Annotated[datetime, msgspec.Meta(tz=True)],
    "timestamp": Annotated[datetime, msgspec.Meta(tz=False)],
}
_DECIMAL = re.compile(r"decimal\(([1-9]\d?), ?(\d{1,2})\)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"(\.\d{6})(\d+)")  # of a second, finer than is stored
_SPELLED = {
    "date": "2026-01-31",
    "timestamptz": "2026-01-31T10:00:00Z, with its offset",
    "timestamp": "2026-01-31T10:00:00, without an offset",
}


class Unfit(Exception):
    """A value that a column cannot hold; says why, without the value."""


class PushedRows(NamedTuple):
    """Rows in the order in which they were pushed, as values in the order of the columns.

    deleted  places of those that delete the row of their key; only its columns count
    """

    rows: list[Row]
    deleted: tuple[int, ...] = ()


class Part(NamedTuple):
    """What one fold adds to a partition: first the keys whose rows moved to another partition, or
    were deleted, go; then rows come.

    key    the columns of `moved`: as they were when it was written
    """

    rows: list[Row]
    key: tuple[str, ...] = ()
    moved: tuple[Row, ...] = ()


def is_type(text: str) -> bool:
    """Say whether a column of pushed rows can have this type."""
    match = _DECIMAL.fullmatch(text)
    return text in TYPES or bool(match and int(match[2]) <= int(match[1]) <= 38)


def fingerprint(columns: Columns) -> str:
    """Return what stands for the code of a dataset of pushed rows: its columns, and this way of
    putting rows together."""
    return hashlib.sha256(msgspec.json.encode(["stream-1", columns])).hexdigest()


# ---------------------------------------------------------------- values


@functools.lru_cache(maxsize=256)
def converter(type_: str) -> Callable[[Any], Any]:
    """Return what turns a value as it was sent into the one that a column stores: equal to it, or
    Unfit says why not. A value is not None.

    JSON's values are taken as JSON spells them (dates and times as text), those of Arrow and of
    kept rows as they are; NaN is a missing value, None.
    """
    if type_.startswith("decimal"):
        match = _DECIMAL.fullmatch(type_)
        assert match is not None
        return functools.partial(_decimal, type_, int(match[1]), int(match[2]))
    return {
        "bool": _bool,
        "int64": _int64,
        "float64": _float64,
        "string": _string,
        "date": _date,
        "timestamptz": _timestamptz,
        "timestamp": _timestamp,
    }[type_]


def not_a(value: Any, type_: str) -> Unfit:
    """Return what is wrong with a value of another kind than its column."""
    kinds: tuple[tuple[Any, str], ...] = (
        (bool, "true or false"),
        ((int, float, Decimal), "a number"),
        (str, "text"),
        (datetime, "a time"),
        (date, "a date"),
        (list, "a list"),
        (dict, "an object"),
    )
    kind = next((kind for types, kind in kinds if isinstance(value, types)), "something else")
    return Unfit(f"{kind} is not {type_}")


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise not_a(value, "bool")
    return value


def _int64(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        kind = "a number with a point or exponent" if isinstance(value, float | Decimal) else ""
        raise Unfit(f"{kind} is not int64") if kind else not_a(value, "int64")
    if value not in _INT64:
        raise Unfit("the number lies outside of int64")
    return value


def _float64(value: Any) -> float | None:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            near = float(value)
        except OverflowError:
            near = 0.0
        if near != value:
            raise Unfit("float64 does not hold this whole number exactly")
        return near
    if value == "NaN":
        return None
    if value in INFINITIES:
        return float(value)
    raise not_a(value, "float64")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise not_a(value, "string")
    return value


def _decimal(type_: str, precision: int, scale: int, value: Any) -> Decimal:
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            raise not_a(value, type_) from None
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise not_a(value, type_)
    fitted = _fitted(precision, scale, value)
    if fitted is None:
        raise Unfit(f"the value does not fit {type_}")
    return fitted


def _fitted(precision: int, scale: int, value: Decimal) -> Decimal | None:
    """Return a number in the scale of its column; None when that would change it."""
    if not value.is_finite():
        return None
    plain = _shortest(value)
    if not plain:
        return Decimal(0).scaleb(-scale)  # and not -0, which no table holds
    places = plain.adjusted() - len(plain.as_tuple().digits) + 1  # of its last digit: -2 = 0.01
    if plain.adjusted() >= precision - scale or places < -scale:
        return None
    return Context(prec=precision + 1).quantize(plain, Decimal(1).scaleb(-scale))


def _shortest(value: Decimal) -> Decimal:
    """Return a decimal without trailing zeros, and without rounding."""
    digits = max(1, len(value.as_tuple().digits))
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN).normalize(value)


def _date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return _in_time(value, "date")  # type: ignore[no-any-return]


def _timestamptz(value: Any) -> datetime:
    if not isinstance(value, datetime):
        value = _in_time(value, "timestamptz")
    if value.tzinfo is None:
        raise Unfit(f"a time without an offset is not timestamptz: {_SPELLED['timestamptz']}")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise Unfit("the instant lies outside of the years 1 to 9999 (UTC)") from None
    return value  # type: ignore[no-any-return]


def _timestamp(value: Any) -> datetime:
    if not isinstance(value, datetime):
        value = _in_time(value, "timestamp")
    if value.tzinfo is not None:
        raise Unfit(f"a time with an offset is not timestamp: {_SPELLED['timestamp']}")
    return value  # type: ignore[no-any-return]


def _in_time(value: Any, type_: str) -> Any:
    """Return text as a date or a time."""
    if not isinstance(value, str):
        raise not_a(value, type_)
    if fine := _FRACTION.search(value):
        if fine[2].strip("0"):
            raise Unfit("the time is finer than a microsecond")
        value = value.replace(fine[0], fine[1])
    try:
        return msgspec.convert(value, type=date if type_ == "date" else datetime)
    except msgspec.ValidationError:
        raise Unfit(f"the text is not {type_}, as in {_SPELLED[type_]}") from None


def fit(columns: Columns, pushed: PushedRows) -> PushedRows:
    """Return rows as their columns store them. BadRows names those with a value that its column
    cannot hold."""
    places = [
        (place, name, converter(type_))
        for place, (name, type_) in enumerate(columns)
        if type_ == "timestamptz" or type_.startswith("decimal")
    ]
    if not places:
        return pushed
    bad = BadRowList()
    out = []
    for number, row in enumerate(pushed.rows):
        values = list(row)
        for place, name, convert in places:
            if values[place] is None:
                continue
            try:
                values[place] = convert(values[place])
            except Unfit as error:
                bad.add(number, name, str(error))
        out.append(tuple(values))
    if bad.count:
        raise BadRows(
            "SX-STREAM-017",
            f"{bad.count:,} of {len(out):,} rows do not fit their columns",
            rows=bad.rows,
            count=bad.count,
            hint="correct the value, or give the column a wider type",
        )
    return PushedRows(out, pushed.deleted)


class BadRowList:
    """Rows of one batch that cannot be taken, in their order: all are counted, the first are
    named."""

    def __init__(self) -> None:
        self.rows: list[BadRow] = []
        self.places: set[int] = set()

    @property
    def count(self) -> int:
        return len(self.places)

    def add(self, row: int, column: str, reason: str) -> None:
        """Name a row, by the first thing that is wrong with it."""
        if row not in self.places:
            self.places.add(row)
            bisect.insort(self.rows, BadRow(row, column, reason))
            del self.rows[BAD_ROWS_SHOWN_MAX:]

    def holds(self, row: int) -> bool:
        return row in self.places


# ---------------------------------------------------------------- rows as they are kept


class _Kept(msgspec.Struct):
    """Rows as they are kept: arrays in the order of `columns`. Earlier versions kept an array of
    rows alone, or without `columns`: in the order that the columns had then.

    key, moved  of a part
    deleted     of a batch that waits
    """

    rows: msgspec.Raw
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    moved: msgspec.Raw = msgspec.Raw(b"[]")
    deleted: tuple[int, ...] = ()


def encode(columns: Columns, pushed: PushedRows) -> bytes:
    """Return a batch as it is kept."""
    kept: dict[str, Any] = _encoded(columns, pushed.rows)
    return msgspec.json.encode(
        kept | ({"deleted": pushed.deleted} if pushed.deleted else {}), order="sorted"
    )


def decode(columns: Columns, body: bytes) -> PushedRows:
    """Return a kept batch. BadData when the columns no longer have these types."""
    kept = _kept(body)
    return PushedRows(_decoded(columns, kept), kept.deleted)


def encode_part(columns: Columns, part: Part) -> bytes:
    """Return a part as it is kept."""
    kept: dict[str, Any] = _encoded(columns, part.rows)
    if part.moved:
        types = dict(columns)
        own = tuple((name, types[name]) for name in part.key)
        kept |= {"key": part.key, "moved": _spelled(own, part.moved)}
    return msgspec.json.encode(kept, order="sorted")


def decode_part(columns: Columns, body: bytes) -> Part:
    """Return a kept part. BadData when the columns no longer have these types."""
    kept = _kept(body)
    types = dict(columns)
    missing = [name for name in kept.key if name not in types]
    if missing:
        raise _outgrown(
            f"rows were moved or deleted by column `{missing[0]}`, which the stream lacks now"
        )
    moved = _rows(tuple((name, types[name]) for name in kept.key), kept.moved)
    return Part(_decoded(columns, kept), kept.key, tuple(moved))


def _kept(body: bytes) -> _Kept:
    if body[:1] == b"[":
        return _Kept(msgspec.Raw(body))
    return msgspec.json.decode(body, type=_Kept)


def _encoded(columns: Columns, rows: Sequence[Row]) -> dict[str, Any]:
    return {"columns": [name for name, _ in columns], "rows": _spelled(columns, rows)}


def _spelled(columns: Columns, rows: Sequence[Row]) -> Iterable[Any]:
    """Return rows as JSON can hold them: infinity, which it would hold as null, as text."""
    places = [place for place, (_, type_) in enumerate(columns) if type_ == "float64"]
    if not any(row[place] in (math.inf, -math.inf) for place in places for row in rows):
        return rows
    out: list[Any] = []
    for row in rows:
        values = list(row)
        for place in places:
            if values[place] in (math.inf, -math.inf):
                values[place] = INFINITIES[values[place] < 0]
        out.append(values)
    return out


def _decoded(columns: Columns, kept: _Kept) -> list[Row]:
    """Return kept rows in the order of the columns: those that came later are null."""
    names = [name for name, _ in columns]
    if not kept.columns or list(kept.columns) == names:
        return _rows(columns, kept.rows)
    types = dict(columns)
    rows = _rows(tuple((name, types.get(name, "")) for name in kept.columns), kept.rows)
    places = [
        kept.columns.index(name) if name in kept.columns else len(kept.columns) for name in names
    ]
    return [tuple(row[place] for place in places) for row in ((*row, None) for row in rows)]


@functools.lru_cache(maxsize=256)
def _row_type(columns: Columns) -> type[msgspec.Struct]:
    """Return the type of a kept row. Every column may be missing (null); one without a type is not
    looked at."""
    fields = [
        (
            f"c{n}",
            (Decimal if type_.startswith("decimal") else TYPES[type_] if type_ else Any) | None,
            None,
        )
        for n, (_, type_) in enumerate(columns)
    ]
    return msgspec.defstruct("Row", fields, array_like=True)


def _rows(columns: Columns, body: msgspec.Raw) -> list[Row]:
    kind = _row_type(columns)
    try:
        rows = [msgspec.structs.astuple(row) for row in msgspec.json.decode(body, type=list[kind])]  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise _outgrown(str(error)) from error
    places = [place for place, (_, type_) in enumerate(columns) if type_ == "float64"]
    for number, row in enumerate(rows if places and b'Infinity"' in bytes(body) else ()):
        if any(isinstance(row[place], str) for place in places):
            values = list(row)
            for place in places:
                values[place] = None if values[place] is None else float(values[place])
            rows[number] = tuple(values)
    return rows


def _outgrown(what: str) -> BadData:
    return BadData(
        "SX-STREAM-018",
        f"pushed rows do not fit the columns that the stream has now: {what}",
        hint="give the columns the types again under which the rows were pushed",
    )


# ---------------------------------------------------------------- keys and content


def key_digest(key: Sequence[str], values: Row) -> bytes | None:
    """Return 16 bytes that stand for a row's key: equal for equal values, whatever their spelling.
    None for a key with a null in it: such rows are never the same."""
    if None in values:
        return None
    plain = [_plain(value) for value in values]
    return hashlib.sha256(msgspec.json.encode([list(key), *plain])).digest()[:16]


def _plain(value: Any) -> Any:
    """Return the one spelling of a key's value: 1.10 and 1.1, an instant in any zone."""
    if isinstance(value, Decimal):
        return str(_shortest(value)) if value else "0"  # and not -0
    if isinstance(value, float):
        return value + 0.0  # -0.0 is 0.0
    if isinstance(value, datetime) and value.tzinfo is not None:
        return (value - _EPOCH) // timedelta(microseconds=1)
    return value


def places_of(columns: Columns, key: Sequence[str]) -> list[int]:
    """Return where the columns of a key stand in a row."""
    names = [name for name, _ in columns]
    return [names.index(name) for name in key]


def rows_of(columns: Columns, bodies: Sequence[bytes]) -> list[Row]:
    """Return the rows that the parts of a partition leave, in the order of arrival: those of one
    key all, but for rows that moved away or were deleted."""
    kept: list[list[Row]] = []
    moved: dict[tuple[str, ...], set[Row]] = {}  # by parts that came later
    for body in reversed(bodies):
        part = decode_part(columns, body)
        rows = part.rows
        for key, gone in moved.items():
            places = places_of(columns, key)
            rows = [row for row in rows if tuple(row[place] for place in places) not in gone]
        kept.append(rows)
        if part.moved:
            moved.setdefault(part.key, set()).update(part.moved)
    return [row for rows in reversed(kept) for row in rows]


def last_of(columns: Columns, rows: Sequence[Row], key: Sequence[str]) -> list[Row]:
    """Return, of rows that share a key (none of it null), the last."""
    places = places_of(columns, key)
    if not places:
        return list(rows)
    last: dict[Any, Row] = {}
    for n, row in enumerate(rows):
        mine = tuple(row[place] for place in places)
        # a row without its key is left for the checks to refuse
        mark: Any = mine if None not in mine else n
        last.pop(mark, None)
        last[mark] = row
    return list(last.values())


def fold(columns: Columns, parts: Sequence[tuple[str, bytes]], key: Sequence[str]) -> "pa.Table":
    """Return the content of a partition: what its parts leave, and of rows that share a key the
    last.

    parts   (blob, its body), in the order of arrival; one blob may come twice
    Raises  BadData that names blob, row and column of a value that cannot be stored
    """
    import pyarrow as pa

    from sextant.stores.lake import types

    try:
        rows = last_of(columns, rows_of(columns, [body for _, body in parts]), key)
        arrays = [
            pa.array([row[n] for row in rows], type=types.type_of(type_))
            for n, (_, type_) in enumerate(columns)
        ]
    except (BadData, pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        for blob, body in reversed(parts):  # a later row replaces what was wrong before
            try:
                fit(columns, PushedRows(decode_part(columns, body).rows))
            except BadData as found:
                raise BadData(
                    found.code,
                    f"blob `{blob[:12]}` of pushed rows: {found.message}",
                    hint=(
                        "`sextant ledger show --type rows.folded --data` names its batches; "
                        f"{found.hint}, or push the row again, corrected, under its key"
                    ),
                ) from error
        raise _outgrown(str(error)) from error
    return pa.table(arrays, names=[name for name, _ in columns])


def next_publish_at(published_at: int, cost_s: float) -> int:
    """Return the earliest time (ns) of the next publish of a stream that a schedule may make.

    published_at  when the last one ended, 0 = never
    cost_s        how long that one took: every publish writes whole partitions, so it pauses for a
                  multiple of its cost
    """
    rest_s = min(max(PUBLISH_EVERY_S_MIN, PUBLISH_REST_FACTOR * cost_s), PUBLISH_EVERY_S_MAX)
    return published_at + int(rest_s * NS) if published_at else 0
