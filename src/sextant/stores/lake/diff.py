"""Compares two states of a table: rows by key, or as multisets without one, and columns. Called by
`frames`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.formats.values import plain
from sextant.kernel.limits import SAMPLES_PER_CHECK_MAX

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of rows, a few of them as JSON-able samples, and what happened to the columns.

    changed_columns  column -> number of rows in which its value differs
    samples          `added` and `removed` rows; `changed`: {"key": {...}, "before": {...}, "after":
                     {...}}, differing columns only
    columns          column -> (type before, type after), "" where it does not exist
    by_key           False when there is no key, or it is not unique: then a changed row counts as
                     one removed and one added
    """

    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int = 0
    changed_columns: dict[str, int] = {}
    samples: dict[str, list[dict[str, Any]]] = {}
    columns: dict[str, tuple[str, str]] = {}
    by_key: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.changed or self.columns)


def diff(before: "pa.Table", after: "pa.Table", key: Sequence[str] = ()) -> Diff:
    """Return what has to happen to `before` to become `after`. Both are canonical tables; row order
    does not count."""
    import polars as pl

    from sextant.stores.lake.types import schema_of

    old_types, new_types = dict(schema_of(before)), dict(schema_of(after))
    columns = {
        name: (old_types.get(name, ""), new_types.get(name, ""))
        for name in [*old_types, *(n for n in new_types if n not in old_types)]
        if old_types.get(name) != new_types.get(name)
    }
    old, new = (
        pl.from_arrow(before.select(list(old_types))),
        pl.from_arrow(after.select(list(new_types))),
    )
    assert isinstance(old, pl.DataFrame)
    assert isinstance(new, pl.DataFrame)
    shared = [name for name in old_types if name in new_types]
    old, new = _alike(without_nan(old), without_nan(new), shared)
    if key and set(key) <= set(shared) and _identifies(old, key) and _identifies(new, key):
        return _by_key(old, new, list(key), shared, columns)
    return _as_multisets(old, new, shared, columns)


def without_nan(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Return rows with null for NaN: both mean that a value is missing."""
    import polars as pl

    floats = [name for name, type_ in frame.schema.items() if type_.is_float()]
    if not floats:
        return frame
    filled = frame.lazy().with_columns(pl.col(floats).fill_nan(None))
    return filled.collect(engine="in-memory")  # streaming costs a day more than its checks


def _by_key(
    old: "pl.DataFrame",
    new: "pl.DataFrame",
    key: list[str],
    shared: list[str],
    columns: dict[str, tuple[str, str]],
) -> Diff:
    import polars as pl

    values = [name for name in shared if name not in key]
    added = new.join(old, on=key, how="anti", nulls_equal=True)
    removed = old.join(new, on=key, how="anti", nulls_equal=True)
    both = old.select(key + values).join(
        new.select(key + values), on=key, how="inner", nulls_equal=True, suffix=_AFTER
    )
    differs = both.select(
        *key, *[pl.col(name).ne_missing(pl.col(name + _AFTER)).alias(name) for name in values]
    )
    mask = (
        differs.select(pl.any_horizontal(pl.col(values))).to_series()
        if values
        else pl.Series([], dtype=pl.Boolean)
    )
    counts = {name: int(differs[name].sum()) for name in values}
    samples = []
    for row, flags in zip(
        both.filter(mask).head(SAMPLES_PER_CHECK_MAX).iter_rows(named=True) if values else (),
        differs.filter(mask).head(SAMPLES_PER_CHECK_MAX).iter_rows(named=True) if values else (),
        strict=True,
    ):
        moved = [name for name in values if flags[name]]
        samples.append(
            {
                "key": {name: plain(row[name]) for name in key},
                "before": {name: plain(row[name]) for name in moved},
                "after": {name: plain(row[name + _AFTER]) for name in moved},
            }
        )
    return Diff(
        rows_before=old.height,
        rows_after=new.height,
        added=added.height,
        removed=removed.height,
        changed=int(mask.sum()),
        changed_columns={name: count for name, count in counts.items() if count},
        columns=columns,
        samples={"added": _rows(added), "removed": _rows(removed), "changed": samples},
    )


_AFTER = "\0after"  # no column of a table is called so


def _as_multisets(
    old: "pl.DataFrame", new: "pl.DataFrame", shared: list[str], columns: dict[str, tuple[str, str]]
) -> Diff:
    import polars as pl

    count = "\0count"
    if shared:
        signed = pl.concat(
            [
                old.select(shared).with_columns(pl.lit(-1).alias(count)),
                new.select(shared).with_columns(pl.lit(1).alias(count)),
            ]
        )
        balance = signed.group_by(shared, maintain_order=True).agg(pl.col(count).sum())
        added, removed = balance.filter(pl.col(count) > 0), balance.filter(pl.col(count) < 0)
        more, less = int(added[count].sum()), -int(removed[count].sum())
        samples = {"added": _rows(added.drop(count)), "removed": _rows(removed.drop(count))}
    else:
        more, less, samples = new.height, old.height, {"added": _rows(new), "removed": _rows(old)}
    return Diff(
        rows_before=old.height,
        rows_after=new.height,
        added=more,
        removed=less,
        samples=samples,
        columns=columns,
        by_key=False,
    )


def _alike(
    old: "pl.DataFrame", new: "pl.DataFrame", shared: Sequence[str]
) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    """Give shared columns one type, so that a widened column compares by value: numbers by value,
    decimals and integers to the last digit, everything else as text."""
    import polars as pl

    for name in shared:
        a, b = old.schema[name], new.schema[name]
        if a != b:
            target: Any = (
                (_exact(a, b) if not (a.is_float() or b.is_float()) else pl.Float64)
                if a.is_numeric() and b.is_numeric()
                else pl.String
            )
            old, new = (
                old.with_columns(pl.col(name).cast(target)),
                new.with_columns(pl.col(name).cast(target)),
            )
    return old, new


def _exact(a: "pl.DataType", b: "pl.DataType") -> "pl.DataType":
    """Return a type that holds the values of two types of integers or decimals."""
    import polars as pl

    if a.is_integer() and b.is_integer():
        return pl.Int64()
    scales = [t.scale for t in (a, b) if isinstance(t, pl.Decimal)]
    return pl.Decimal(38, max(scales))


def _identifies(frame: "pl.DataFrame", key: Sequence[str]) -> bool:
    return frame.select(key).n_unique() == frame.height if frame.height else True


def _rows(frame: "pl.DataFrame") -> list[dict[str, Any]]:
    return [
        {name: plain(value) for name, value in row.items()}
        for row in frame.head(SAMPLES_PER_CHECK_MAX).iter_rows(named=True)
    ]
