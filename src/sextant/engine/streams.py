"""Rows that others push: what a declared row is, and how all that were pushed for a partition
become its content.

A partition's content is a pure function of what was pushed for it: in the order of arrival, and
where rows share a key the last one
holds. So a dataset of pushed rows is planned, remembered and made again as any other.
`app/inbox.py` takes and keeps the rows.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from sextant.kernel.errors import BadData

if TYPE_CHECKING:
    import pyarrow as pa

Columns = tuple[tuple[str, str], ...]
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


def parse(columns: Columns, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
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
    return out


def encode(columns: Columns, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Return rows as they are kept: a JSON array of arrays."""
    del columns
    return msgspec.json.encode([list(row) for row in rows])


def decode(columns: Columns, body: bytes) -> list[tuple[Any, ...]]:
    """Return kept rows as values."""
    kind = row_type(columns, array_like=True)
    return [msgspec.structs.astuple(row) for row in msgspec.json.decode(body, type=list[kind])]  # type: ignore[valid-type]


def fold(columns: Columns, bodies: Iterable[bytes], key: Sequence[str]) -> "pa.Table":
    """Return the content of a partition: the kept rows in order; of those that share a key (none of
    it null) the last."""
    import pyarrow as pa

    from sextant.stores.lake import types

    rows = [row for body in bodies for row in decode(columns, body)]
    names = [name for name, _ in columns]
    places = [names.index(name) for name in key]
    if places:
        last: dict[Any, tuple[Any, ...]] = {}
        for n, row in enumerate(rows):
            mine = tuple(row[place] for place in places)
            # a row without its key is left for the checks to refuse
            mark: Any = mine if None not in mine else n
            last.pop(mark, None)
            last[mark] = row
        rows = list(last.values())
    arrays = [
        pa.array([row[n] for row in rows], type=types.type_of(type_))
        for n, (_, type_) in enumerate(columns)
    ]
    return pa.table(arrays, names=names)
