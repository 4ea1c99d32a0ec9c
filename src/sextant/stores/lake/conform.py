"""Turns what functions and queries return into rows of a table: one set of columns for all
partitions of a step, each value unchanged, or a refusal that names it. Called by workers and by
`testing`.

A column gets its type from, in this order: what the dataset declares, what the table has (where
that changes no value, or widens), the other partitions of the same step, and the input's column of
that name where pandas lost it. A column without a value has no type of its own. NaN means that a
value is missing and becomes null; -0.0 becomes 0.0; infinity is a value.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sextant.kernel.errors import BadData
from sextant.stores.lake.digest import holds_floats, plain_zero, with_floats
from sextant.stores.lake.types import (
    PARTITION,
    Schema,
    canonical_type,
    cast,
    first_refused,
    merged,
    said,
    type_name,
    type_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

Parts = list[tuple[str, "pa.Table"]]

# What Python's calendar holds, which is what every reader of a table can show: days from 1970, and
# microseconds.
_DAYS = (-719_162, 2_932_896)
_MICROSECONDS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_OF_A_DAY = (0, 86_399_999_999)
_WHOLE_MAX = {
    32: 1 << 24,
    64: 1 << 53,
}  # whole numbers up to this are exact as floats of so many bits
_DECLARE = 'say its type: columns={"...": "string"} of the dataset, or cast it in the step'


def conform(
    parts: Sequence[tuple[str, "pa.Table"]],
    *,
    table: Schema = (),
    declared: Schema = (),
    inputs: Schema = (),
) -> Parts:
    """Return the partitions of one step with one set of canonical columns, all of them nullable.

    parts     (partition, rows as they were returned), types as they come
    table     (column, type) pairs of the table that they go into
    declared  pairs that the dataset promises: a value that does not fit is refused
    inputs    pairs of what the step reads, for pandas' columns of Python objects
    Raises    BadData naming partition or row, column and value
    """
    import pyarrow as pa

    empty = [rows for _, rows in parts if not rows.num_columns and not rows.num_rows]
    names = list(dict.fromkeys(name for _, rows in parts for name in rows.column_names))
    if len(empty) == len(parts):  # no rows, and not a word about their columns
        names = [name for name, _ in declared or table]
    if not names:
        raise BadData(
            "SX-LAKE-007", "a table without columns was returned", hint="return at least one column"
        )
    for _, rows in parts:
        _refuse_names(rows.schema, ())
    _refuse_names(pa.schema([(name, pa.null()) for name in names]), [name for name, _ in table])
    lacking = [name for name, _ in declared if name not in names]
    if lacking:
        raise BadData(
            "SX-DATA-001",
            f"there is no column `{lacking[0]}`, which columns= declares",
            hint=f"there are {', '.join(names[:20])}",
        )
    wanted, known, likely = dict(declared), dict(table), dict(inputs)
    made: list[list[pa.ChunkedArray]] = [[] for _ in parts]
    fields = []
    for name in names:
        column = _Column(
            name,
            [
                (key, rows.column(name) if name in rows.column_names else None)
                for key, rows in parts
            ],
            [rows.num_rows for _, rows in parts],
        )
        type_ = column.type_in(wanted.get(name), known.get(name), likely.get(name))
        fields.append(pa.field(name, type_))
        for columns, one in zip(made, column.as_type(type_), strict=True):
            columns.append(one)
    schema = pa.schema(fields)
    return [
        (key, pa.table(columns, schema=schema))
        for (key, _), columns in zip(parts, made, strict=True)
    ]


class _Column:
    """One column in all partitions of a step."""

    def __init__(
        self,
        name: str,
        parts: Sequence[tuple[str, "pa.ChunkedArray | None"]],
        heights: Sequence[int],
    ) -> None:
        self.name = name
        self._heights = heights
        self._parts = [(key, _canonical(part, name)) for key, part in parts]

    def type_in(self, declared: str | None, table: str | None, likely: str | None) -> "pa.DataType":
        """Return the type that all partitions get. BadData when there is none."""
        if declared is not None:
            return type_of(declared)
        # without a value in it, a column says nothing about its type where something else does
        full = [one for one in self._parts if not _is_void(one[1])] or self._parts
        if table is not None:
            live = type_of(table)
            if all(one is None or _exactly(one, live) is not None for _, one in full):
                return live
        found = self._merged(full)
        if table is not None:
            found = merged(type_of(table), found) or found
        if likely is not None and _is_vague(found):
            hinted = type_of(likely)
            if all(one is None or _exactly(one, hinted) is not None for _, one in full):
                found = hinted
        if _has_null(found):
            raise BadData(
                "SX-LAKE-012",
                f"column `{self.name}` holds only "
                + ("nulls" if found == _null() else "nulls and empty lists")
                + " and has no type",
                hint=_DECLARE,
            )
        return found

    def as_type(self, type_: "pa.DataType") -> Iterator["pa.ChunkedArray"]:
        """Yield the partitions' columns in this type. BadData naming a value that does not fit."""
        import pyarrow as pa

        for (key, column), height in zip(self._parts, self._heights, strict=True):
            if column is None:
                yield pa.chunked_array([pa.nulls(height, type_)])
                continue
            typed = _exactly(column, type_)
            if typed is None:
                row = first_refused(column, lambda some: _must(_exactly(some, type_)))
                raise BadData(
                    "SX-LAKE-005",
                    f"column `{self.name}`, row {row}{_of(key, self._parts)}: "
                    f"{said(column, row)} does not fit into {type_name(type_)}",
                    hint="convert it in the step that returns it, or declare a wider type",
                )
            _refuse_times(typed, self.name)
            yield _without_nan(typed)

    def _merged(self, parts: "Sequence[tuple[str, pa.ChunkedArray | None]]") -> "pa.DataType":
        found: pa.DataType = _null()
        first = ""
        for key, column in parts:
            if column is None:
                continue
            wide = merged(found, column.type)
            if wide is None:
                wide = self._one_kind(parts)
                if wide is not None:
                    return wide
                raise BadData(
                    "SX-DATA-002",
                    f"column `{self.name}` is {type_name(found)} in partition {first} and "
                    f"{type_name(column.type)} in {key}",
                    hint=f"convert it to one type in the step, or {_DECLARE}",
                )
            if wide != found:
                found, first = wide, key
        return found

    def _one_kind(
        self, parts: "Sequence[tuple[str, pa.ChunkedArray | None]]"
    ) -> "pa.DataType | None":
        """Return one of the types that all values fit exactly: pandas makes floats of whole numbers
        on a day that has a gap, and decimals as short as the day's longest."""
        import pyarrow as pa

        held = [column for _, column in parts if column is not None]
        types = list(dict.fromkeys(column.type for column in held))
        decimals = [type_ for type_ in types if pa.types.is_decimal(type_)]
        if decimals:
            scale = max(type_.scale for type_ in decimals)
            whole = max(type_.precision - type_.scale for type_ in decimals)
            if whole + scale <= 38:
                types.append(pa.decimal128(whole + scale, scale))
        for type_ in sorted(types, key=_preference):
            if all(_exactly(column, type_) is not None for column in held):
                return type_
        return None


def _preference(type_: "pa.DataType") -> int:
    import pyarrow as pa

    t = pa.types
    return 0 if t.is_integer(type_) else 1 if t.is_decimal(type_) else 2


def _canonical(column: "pa.ChunkedArray | None", name: str) -> "pa.ChunkedArray | None":
    """Return a column in its own canonical type; what has none yet keeps `null` in its place."""
    if column is None:
        return None
    return cast(column, _with_null(column.type, name), name)


def _with_null(type_: "pa.DataType", name: str) -> "pa.DataType":
    """Return the canonical form of a type that may have no type in places: nulls, empty lists."""
    import pyarrow as pa

    t = pa.types
    if not _has_null(type_):
        return canonical_type(type_, name)
    if t.is_struct(type_):
        return pa.struct([(f.name, _with_null(f.type, f"{name}.{f.name}")) for f in type_.fields])
    if t.is_map(type_):
        return pa.map_(_with_null(type_.key_type, name), _with_null(type_.item_type, name))
    if t.is_null(type_):
        return type_
    return pa.large_list(pa.field("element", _with_null(type_.value_type, name)))


def _has_null(type_: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        return _has_null(type_.value_type)
    return pa.types.is_null(type_) or any(
        _has_null(type_.field(i).type) for i in range(type_.num_fields)
    )


def _is_void(column: "pa.ChunkedArray | None") -> bool:
    return column is None or column.null_count == len(column)


def _is_vague(type_: "pa.DataType") -> bool:
    """Say whether pandas holds values as objects, so that a type is guessed from those there."""
    import pyarrow as pa

    t = pa.types
    return bool(t.is_null(type_) or t.is_decimal(type_) or t.is_nested(type_))


def _exactly(column: "pa.ChunkedArray", type_: "pa.DataType") -> "pa.ChunkedArray | None":
    """Return a canonical column in another canonical type; None when a value would change."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t = pa.types
    own = column.type
    if own == type_:
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), type_)])
    try:
        if t.is_floating(own) and t.is_integer(type_):
            # larger ones have been rounded on their way: who knows what they were
            if not _all(pc.less(pc.abs(column), float(_WHOLE_MAX[own.bit_width]))):
                return None
            return column.cast(type_, safe=True)
        if t.is_integer(own) and t.is_floating(type_):
            most = _WHOLE_MAX[type_.bit_width]
            if not _all(pc.and_(pc.less_equal(column, most), pc.greater_equal(column, -most))):
                return None
            return column.cast(type_, safe=True)
        if t.is_integer(own) and t.is_decimal(type_):
            return column.cast(pa.decimal128(38, min(type_.scale, 19))).cast(type_, safe=True)
        if (t.is_integer(own) and t.is_integer(type_)) or (
            t.is_decimal(own) and (t.is_decimal(type_) or t.is_integer(type_))
        ):
            return column.cast(type_, safe=True)
        if merged(own, type_) == type_:
            return column.cast(type_)
    except pa.ArrowInvalid:
        return None
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([pa.array(column.to_pylist(), type=type_)])
    return None


def _all(flags: "pa.ChunkedArray") -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(flags, min_count=0).as_py())


def _must(column: "pa.ChunkedArray | None") -> "pa.ChunkedArray":
    if column is None:
        raise ValueError
    return column


def _of(key: str, parts: Sequence[tuple[str, object]]) -> str:
    return f" of partition {key}" if len(parts) > 1 else ""


def _null() -> "pa.DataType":
    import pyarrow as pa

    return pa.null()


# ---------------------------------------------------------------- names


def _refuse_names(schema: "pa.Schema", table: Sequence[str]) -> None:
    """Refuse names that a table or SQL cannot tell apart; `table`: the names that exist already."""
    names = [field.name for field in schema]
    _refuse_alike(names, "column")
    for field in schema:
        _refuse_inside(field.type, field.name)
    if any(name.casefold() == PARTITION for name in names):
        raise BadData(
            "SX-LAKE-007",
            f"column `{PARTITION}` is the platform's own",
            hint="leave it out, or rename it",
        )
    if "" in names:
        raise BadData(
            "SX-LAKE-007", "a column has no name", hint="give each column a name of its own"
        )
    by_case = {name.casefold(): name for name in table if name not in names}
    for name in names:
        other = by_case.get(name.casefold())
        if other is not None and name not in table:
            raise BadData(
                "SX-LAKE-016",
                f"column `{name}` was returned, and the table has `{other}`: they differ by case "
                "only",
                hint=f"call it `{other}`; SQL cannot tell the two apart",
            )


def _refuse_inside(type_: "pa.DataType", place: str) -> None:
    import pyarrow as pa

    if pa.types.is_struct(type_):
        names = [field.name for field in type_.fields]
        _refuse_alike(names, f"field of `{place}`")
    for i in range(type_.num_fields):
        inner = type_.field(i)
        _refuse_inside(inner.type, f"{place}.{inner.name}")


def _refuse_alike(names: Sequence[str], what: str) -> None:
    if len({name.casefold() for name in names}) == len(names):
        return
    for name in names:
        count = names.count(name)
        if count > 1:
            raise BadData(
                "SX-LAKE-007",
                f"{what} `{name}` occurs {count} times",
                hint="give each a name of its own",
            )
        alike = [other for other in names if other.casefold() == name.casefold()]
        if len(alike) > 1:
            raise BadData(
                "SX-LAKE-016",
                f"{what} names {' and '.join(f'`{one}`' for one in alike)} differ by case only",
                hint="rename one of them: SQL cannot tell them apart",
            )


# ---------------------------------------------------------------- values


def _without_nan(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return floats with null for NaN and 0.0 for -0.0, also inside of nestings."""
    import pyarrow as pa

    if not holds_floats(column.type):
        return column
    return pa.chunked_array(
        [with_floats(chunk, _missing) for chunk in column.chunks], type=column.type
    )


def finite(table: "pa.Table", column: str) -> "pa.Table":
    """Return rows with null for infinity in a column: what a division by nothing gives has no
    value. Other types than floats have no infinity."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = table.schema.get_field_index(column)
    values = table.column(place)
    if not pa.types.is_floating(values.type):
        return table
    none = pa.nulls(1, values.type)[0]
    values = pc.if_else(pc.is_finite(values), values, none)
    return table.set_column(place, table.schema.field(place), values)


def _missing(floats: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    none = pa.nulls(1, floats.type)[0]
    return pc.if_else(pc.is_nan(floats), none, pc.add(floats, plain_zero(floats.type)))


def _refuse_times(column: "pa.ChunkedArray", name: str) -> None:
    """Refuse dates and times that readers cannot hold, also inside of nestings."""
    for leaf in _times(column):
        low, high = _bounds(leaf.type)
        found = _ends(leaf)
        if found is None or (low <= found[0] and found[1] <= high):
            continue
        rows = _numbers(leaf).to_pylist()
        row = next(
            n for n, value in enumerate(rows) if value is not None and not low <= value <= high
        )
        where = f", row {row}" if leaf is column else ""
        raise BadData(
            "SX-LAKE-017",
            f"column `{name}`{where}: {said(leaf, row)} (UTC) lies outside of the years 1 to 9999, "
            "or of a day",
            hint="use null for `for ever`, or the last instant of a year before: "
            "9999-12-31T00:00:00+00:00",
        )


def _times(column: "pa.ChunkedArray") -> "Iterator[pa.ChunkedArray]":
    """Yield the columns of dates and times that a column consists of."""
    import pyarrow as pa

    t = pa.types
    if t.is_date(column.type) or t.is_timestamp(column.type) or t.is_time(column.type):
        yield column
    elif t.is_struct(column.type):
        for child in column.flatten():
            yield from _times(child)
    elif t.is_map(column.type):
        for chunk in column.chunks:
            yield from _times(pa.chunked_array([chunk.keys]))
            yield from _times(pa.chunked_array([chunk.items]))
    elif t.is_large_list(column.type):
        for chunk in column.chunks:
            yield from _times(pa.chunked_array([chunk.flatten()]))


def _bounds(type_: "pa.DataType") -> tuple[int, int]:
    import pyarrow as pa

    if pa.types.is_date(type_):
        return _DAYS
    return _OF_A_DAY if pa.types.is_time(type_) else _MICROSECONDS


def _numbers(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow as pa

    whole = pa.int32() if column.type.bit_width == 32 else pa.int64()
    return pa.chunked_array([chunk.view(whole) for chunk in column.chunks], type=whole)


def _ends(column: "pa.ChunkedArray") -> tuple[int, int] | None:
    import pyarrow.compute as pc

    ends = pc.min_max(_numbers(column)).as_py()
    return None if ends["min"] is None else (ends["min"], ends["max"])
