"""Iceberg schemas: from canonical Arrow types, growing with the files that come in. Called by
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
from sextant.stores.lake.types import PARTITION, canonical_type, type_name

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType


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
        type_ = _merged(
            have.field_type if have else None,
            canonical_type(field.type, field.name),
            field.name,
            ids,
        )
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


def _merged(
    old: "IcebergType | None", new: "pa.DataType", column: str, ids: Iterator[int]
) -> "IcebergType":
    """Return the narrowest type that reads both, new nested fields with fresh ids."""
    import pyarrow as pa
    from pyiceberg.types import ListType, MapType, NestedField, StructType

    if pa.types.is_struct(new) and (old is None or isinstance(old, StructType)):
        fields = {field.name: field for field in old.fields} if old else {}
        for field in new.fields:
            have = fields.get(field.name)
            id_ = have.field_id if have else next(ids)
            type_ = _merged(
                have.field_type if have else None, field.type, f"{column}.{field.name}", ids
            )
            fields[field.name] = NestedField(
                field_id=id_, name=field.name, field_type=type_, required=False
            )
        return StructType(*fields.values())
    if pa.types.is_large_list(new) and (old is None or isinstance(old, ListType)):
        id_ = old.element_id if old else next(ids)
        element = _merged(
            old.element_type if old else None, new.value_type, f"{column}.element", ids
        )
        return ListType(element_id=id_, element=element, element_required=False)
    if pa.types.is_map(new) and (old is None or isinstance(old, MapType)):
        key_id, value_id = (old.key_id, old.value_id) if old else (next(ids), next(ids))
        key = _merged(old.key_type if old else None, new.key_type, f"{column}.key", ids)
        value = _merged(old.value_type if old else None, new.item_type, f"{column}.value", ids)
        return MapType(
            key_id=key_id, key_type=key, value_id=value_id, value_type=value, value_required=False
        )
    fresh = _leaf(new) if not pa.types.is_nested(new) else None
    if fresh is None or (old is not None and (wider := _wider(old, fresh)) is None):
        before = type_name(_arrow(old)) if old else ""
        raise BadData(
            "SX-LAKE-004",
            f"column `{column}` is {before} in the table and {type_name(new)} in the new rows",
            hint=(
                f"cast it to {before}; only int32 to int64, float32 to float64 and a longer "
                "decimal widen by themselves"
            ),
        )
    return fresh if old is None else wider


def _wider(old: "IcebergType", new: "IcebergType") -> "IcebergType | None":
    """Return the one of two leaf types that Iceberg reads both as, None if there is none."""
    from pyiceberg.types import DecimalType, DoubleType, FloatType, IntegerType, LongType

    if old == new:
        return old
    for narrow, wide in ((IntegerType(), LongType()), (FloatType(), DoubleType())):
        if {old, new} == {narrow, wide}:
            return wide
    if isinstance(old, DecimalType) and isinstance(new, DecimalType) and old.scale == new.scale:
        return max(old, new, key=lambda type_: type_.precision)
    return None


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
