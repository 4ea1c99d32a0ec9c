"""Rows that others push: what a declared row is, and how all that were pushed for a partition
become its content.

A partition's content is a pure function of its parts, in the order of arrival: where rows share a
key the last one holds, and a key that was pushed for another partition later is gone. So a dataset
of pushed rows is planned, remembered and made again as any other.
`app/inbox.py` takes and keeps the rows, and decides when they are published.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from sextant.kernel.clock import NS
from sextant.kernel.errors import BadData
from sextant.kernel.limits import (
    PUBLISH_EVERY_S_MAX,
    PUBLISH_EVERY_S_MIN,
    PUBLISH_REST_FACTOR,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from sextant.kernel.nouns import Asset

Columns = tuple[tuple[str, str], ...]
Row = tuple[Any, ...]
TYPES: dict[str, Any] = {
    "bool": bool,
    "int64": Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)],
    "float64": float,
    "string": str,
    "date": date,
    "timestamptz": Annotated[datetime, msgspec.Meta(tz=True)],
    "timestamp": Annotated[datetime, msgspec.Meta(tz=False)],
}
_DECIMAL = re.compile(r"decimal\(([1-9]\d?), ?(\d{1,2})\)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Part(NamedTuple):
    """What one fold adds to a partition: first the keys whose rows moved to another partition go,
    then rows come.

    key    the columns of `moved`: as they were when it was written
    """

    rows: list[Row]
    key: tuple[str, ...] = ()
    moved: tuple[Row, ...] = ()


def is_stream(asset: "Asset") -> bool:
    """Tell whether an asset's rows are pushed by others."""
    return asset.build is not None and asset.build.code.language == "stream"


def is_type(text: str) -> bool:
    """Say whether a column of pushed rows can have this type."""
    match = _DECIMAL.fullmatch(text)
    return text in TYPES or bool(match and int(match[2]) <= int(match[1]) <= 38)


def fingerprint(columns: Columns) -> str:
    """Return what stands for the code of a dataset of pushed rows: its columns, and this way of
    putting rows together."""
    return hashlib.sha256(msgspec.json.encode(["stream-1", columns])).hexdigest()


@functools.lru_cache(maxsize=256)
def row_type(columns: Columns, *, array_like: bool) -> type[msgspec.Struct]:
    """Return the type of one row: an object as clients send it, or an array as it is kept. Every
    column may be missing (null)."""
    fields = [
        (f"c{n}", (Decimal if type_.startswith("decimal") else TYPES[type_]) | None, None)
        for n, (_, type_) in enumerate(columns)
    ]
    names = {f"c{n}": name for n, (name, _) in enumerate(columns)}
    return msgspec.defstruct(
        "Row", fields, rename=names, array_like=array_like, forbid_unknown_fields=not array_like
    )


def parse(columns: Columns, rows: Sequence[Any]) -> list[Row]:
    """Return pushed rows as values, in the order of the columns. BadData names the row (from 0),
    the column and what is wrong."""
    kind = row_type(columns, array_like=False)
    out = []
    for n, row in enumerate(rows):
        try:
            out.append(msgspec.structs.astuple(msgspec.convert(row, kind)))
        except msgspec.ValidationError as error:
            what, _, at = str(error).partition(" - at `$")
            place = f"row {n}" + (f", column `{at.strip('.`')}`" if at else "")
            raise BadData(
                "SX-STREAM-010",
                f"{place}: {what}",
                hint=f"the columns are {', '.join(f'{name} {type_}' for name, type_ in columns)}",
            ) from error
    return fit(columns, out)


def fit(columns: Columns, rows: list[Row]) -> list[Row]:
    """Return rows with decimals in the scale of their columns. BadData names the row (from 0) and
    the column of a value that the column's type cannot hold."""
    narrow = [
        (place, name, type_)
        for place, (name, type_) in enumerate(columns)
        if type_ == "timestamptz" or type_.startswith("decimal")
    ]
    if not narrow:
        return rows
    out = []
    for n, row in enumerate(rows):
        values = list(row)
        for place, name, type_ in narrow:
            if values[place] is None:
                continue
            fitted = _fitted(type_, values[place])
            if fitted is None:
                raise BadData(
                    "SX-STREAM-017",
                    f"row {n}, column `{name}`: the value does not fit {type_}",
                    hint="correct the value, or give the column a wider type",
                )
            values[place] = fitted
        out.append(tuple(values))
    return out


def _fitted(type_: str, value: Any) -> Any:
    """Return a value as its column stores it; None when it cannot."""
    if isinstance(value, datetime):
        try:
            value.astimezone(UTC)
        except OverflowError:  # the year 1 or 9999, and an offset that leads out of it
            return None
        return value
    match = _DECIMAL.fullmatch(type_)
    assert match is not None
    precision, scale = int(match[1]), int(match[2])
    if not value.is_finite():
        return None
    plain = _shortest(value)
    places = plain.adjusted() - len(plain.as_tuple().digits) + 1  # of its last digit: -2 = 0.01
    if plain and (plain.adjusted() >= precision - scale or places < -scale):
        return None
    return Context(prec=precision + 1).quantize(plain, Decimal(1).scaleb(-scale))


def _shortest(value: Decimal) -> Decimal:
    """Return a decimal without trailing zeros, and without rounding."""
    digits = max(1, len(value.as_tuple().digits))
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN).normalize(value)


def encode(columns: Columns, rows: Iterable[Row]) -> bytes:
    """Return rows as they are kept: a JSON array of arrays."""
    del columns
    return msgspec.json.encode([list(row) for row in rows])


def decode(columns: Columns, body: bytes) -> list[Row]:
    """Return kept rows as values. BadData when the columns no longer have these types."""
    return _rows(columns, msgspec.Raw(body))


def encode_part(columns: Columns, part: Part) -> bytes:
    """Return a part as it is kept: its rows alone, or an object when keys have moved away."""
    if not part.moved:
        return encode(columns, part.rows)
    return msgspec.json.encode({"key": part.key, "moved": part.moved, "rows": part.rows})


def decode_part(columns: Columns, body: bytes) -> Part:
    """Return a kept part. BadData when the columns no longer have these types."""
    if body[:1] != b"{":
        return Part(decode(columns, body))
    kept = msgspec.json.decode(body, type=_KeptPart)
    types = dict(columns)
    missing = [name for name in kept.key if name not in types]
    if missing:
        raise _outgrown(f"rows have moved by column `{missing[0]}`, which the stream lacks now")
    moved = _rows(tuple((name, types[name]) for name in kept.key), kept.moved)
    return Part(_rows(columns, kept.rows), kept.key, tuple(moved))


class _KeptPart(msgspec.Struct):
    key: tuple[str, ...]
    moved: msgspec.Raw
    rows: msgspec.Raw


def _rows(columns: Columns, body: msgspec.Raw) -> list[Row]:
    kind = row_type(columns, array_like=True)
    try:
        return [msgspec.structs.astuple(row) for row in msgspec.json.decode(body, type=list[kind])]  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise _outgrown(str(error)) from error


def _outgrown(what: str) -> BadData:
    return BadData(
        "SX-STREAM-018",
        f"pushed rows do not fit the columns that the stream has now: {what}",
        hint="give the columns the types again under which the rows were pushed",
    )


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
    key all, but for rows that moved away."""
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
                fit(columns, decode_part(columns, body).rows)
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
