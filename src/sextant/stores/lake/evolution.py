"""Makes Iceberg schemas from canonical Arrow types, growing with the files that come in. Called by
`iceberg` only.

Columns are never dropped and keep their field ids; data files carry no ids, readers find columns by
the name mapping that stands in the table's properties. A type may become what Iceberg calls a
promotion of it, nothing else.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sextant.kernel.errors import BadData
from sextant.stores.lake.types import PARTITION, canonical_type, merged, type_name

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType, NestedField


def evolve(old: "Schema | None", incoming: "pa.Schema", last_id: int) -> tuple["Schema", int]:
    """Return the schema that holds both, and the highest field id ever given; the same object when
    nothing is new.

    incoming  Arrow schema of new files; a column that it lacks stays, null in the new files
    Raises    BadData naming column, old and new type when the one does not widen to the other
    """
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, StringType

    ids = itertools.count(last_id + 1)
    fields = {field.name: field for field in old.fields} if old else {}
    if old is None:
        fields[PARTITION] = NestedField(
            field_id=next(ids), name=PARTITION, field_type=StringType(), required=False
        )
    changed = old is None
    for field in incoming:
        if field.name == PARTITION:
            continue
        have = fields.get(field.name)
        new = canonical_type(field.type, field.name)
        type_ = _typed(_widened(have, new, field.name), have.field_type if have else None, ids)
        if have is None or have.field_type != type_:
            fields[field.name] = NestedField(
                field_id=have.field_id if have else next(ids),
                name=field.name,
                field_type=type_,
                required=False,
            )
            changed = True
    if not changed and old is not None:
        return old, last_id
    label = fields.pop(PARTITION)  # stays the last column
    return Schema(*fields.values(), label, schema_id=old.schema_id + 1 if old else 0), next(ids) - 1


def to_arrow_schema(schema: "Schema") -> "pa.Schema":
    """Return the canonical Arrow schema of a table, `_partition` included."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _arrow(field.field_type)) for field in schema.fields])


def _widened(have: "NestedField | None", new: "pa.DataType", column: str) -> "pa.DataType":
    if have is None:
        return new
    old = _arrow(have.field_type)
    wide = merged(old, new)
    if wide is None:
        raise BadData(
            "SX-LAKE-004",
            f"column `{column}` is {type_name(old)} in the table and {type_name(new)} in the new "
            "rows",
            hint=(
                f"cast it to {type_name(old)}; only int32 to int64, float32 to float64, a longer "
                "decimal and new fields of a struct widen by themselves"
            ),
        )
    return wide


def _typed(type_: "pa.DataType", old: "IcebergType | None", ids: Iterator[int]) -> "IcebergType":
    """Return the Iceberg type of an Arrow type that is `old` or wider: nested fields keep their
    ids, new ones get fresh ones."""
    import pyarrow as pa
    from pyiceberg.types import ListType, MapType, NestedField, StructType

    if pa.types.is_struct(type_):
        fields = {field.name: field for field in old.fields} if isinstance(old, StructType) else {}
        out = []
        for field in type_.fields:
            have = fields.get(field.name)
            id_ = have.field_id if have else next(ids)
            inner = _typed(field.type, have.field_type if have else None, ids)
            out.append(NestedField(field_id=id_, name=field.name, field_type=inner, required=False))
        return StructType(*out)
    if pa.types.is_large_list(type_):
        had = old if isinstance(old, ListType) else None
        id_ = had.element_id if had else next(ids)
        element = _typed(type_.value_type, had.element_type if had else None, ids)
        return ListType(element_id=id_, element=element, element_required=False)
    if pa.types.is_map(type_):
        was = old if isinstance(old, MapType) else None
        key_id, value_id = (was.key_id, was.value_id) if was else (next(ids), next(ids))
        key = _typed(type_.key_type, was.key_type if was else None, ids)
        value = _typed(type_.item_type, was.value_type if was else None, ids)
        return MapType(
            key_id=key_id, key_type=key, value_id=value_id, value_type=value, value_required=False
        )
    return _leaf(type_)


def _leaf(type_: "pa.DataType") -> "IcebergType":
    from pyiceberg.types import DecimalType

    name = type_name(type_)
    return (
        DecimalType(type_.precision, type_.scale)
        if name.startswith("decimal")
        else _leaves()[name]()
    )


@functools.lru_cache(maxsize=1)
def _leaves() -> dict[str, Callable[[], Any]]:
    from pyiceberg import types as t

    return {
        "bool": t.BooleanType,
        "int32": t.IntegerType,
        "int64": t.LongType,
        "float32": t.FloatType,
        "float64": t.DoubleType,
        "string": t.StringType,
        "binary": t.BinaryType,
        "date": t.DateType,
        "time": t.TimeType,
        "timestamp": t.TimestampType,
        "timestamptz": t.TimestamptzType,
    }


def _arrow(type_: "IcebergType") -> "pa.DataType":
    import pyarrow as pa
    from pyiceberg.types import DecimalType, ListType, MapType, StructType

    from sextant.stores.lake.types import type_of

    if isinstance(type_, StructType):
        return pa.struct([pa.field(field.name, _arrow(field.field_type)) for field in type_.fields])
    if isinstance(type_, ListType):
        return pa.large_list(pa.field("element", _arrow(type_.element_type)))
    if isinstance(type_, MapType):
        return pa.map_(_arrow(type_.key_type), _arrow(type_.value_type))
    if isinstance(type_, DecimalType):
        return pa.decimal128(type_.precision, type_.scale)
    return type_of(next(name for name, make in _leaves().items() if make() == type_))
