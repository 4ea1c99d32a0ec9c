"""The values of a business number in many cases at once: each case is a choice of contents, one for
each partition. One query answers for all of them, from rows that are read once.

Called by `app.waterfall`.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sextant.core import Core
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import DERIVED_DRIVERS_MAX
from sextant.kernel.nouns import FileSet, InputRef, spec_of
from sextant.kinds.dataset.spec import Rows
from sextant.kinds.kpi.series import Span
from sextant.kinds.kpi.spec import Measure

if TYPE_CHECKING:
    import pyarrow as pa

_CASE, _PIECE = "_case", "_piece"
_LABEL = "_partition"
Schema = tuple[tuple[str, str], ...]


class Piece(NamedTuple):
    """The rows of one partition: of values, or of what a measure is taken of."""

    partition: str
    sets: tuple[FileSet, ...]
    schema: Schema


def stored_in(measure: Measure, values: str) -> str:
    """Return the asset from which a measure is added up: its values, or its rows."""
    from sextant.kinds.kpi.measures import needs_rows

    return measure.of if needs_rows(measure) else values


def values(
    core: Core, measure: Measure, tz: str, span: Span, cases: Mapping[int, Sequence[Piece]]
) -> dict[int, Any]:
    """Return the value of a measure over a part of time in each case; None where it has none."""
    import pyarrow as pa

    pieces = list(dict.fromkeys(piece for chosen in cases.values() for piece in chosen))
    if not pieces:
        return dict.fromkeys(cases)
    rows = _read(core, pieces)
    of_piece = _split(rows, len(pieces))
    places = {piece: n for n, piece in enumerate(pieces)}
    rows = rows.drop_columns([_PIECE])
    found: dict[int, Any] = {}
    with _connection(tz) as connection:
        for case, chosen in cases.items():
            # sums of floats depend on their order: in each case that of the partitions
            parts = sorted(chosen, key=lambda piece: piece.partition)
            mine = pa.concat_tables([rows.slice(0, 0), *(of_piece[places[one]] for one in parts)])
            found[case] = defined(_asked(connection, measure, tz, span, mine))
    return found


def _asked(connection: Any, measure: Measure, tz: str, span: Span, rows: "pa.Table") -> Any:
    from sextant.kinds.kpi.measures import rollup_sql

    connection.register("t", rows.combine_chunks())
    query = rollup_sql(
        measure, table="t", grain="", tz=tz, within=span.condition() if measure.grain else ""
    )
    found = connection.sql(query).fetchall()
    return found[0][-1] if found else None


def _split(rows: "pa.Table", n: int) -> "list[pa.Table]":
    """Return the rows of each of `n` pieces, without the column `_piece` by which they are
    sorted."""
    import numpy as np

    ends = np.searchsorted(rows.column(_PIECE).to_numpy(), np.arange(n + 1))
    rows = rows.drop_columns([_PIECE])
    return [rows.slice(ends[k], ends[k + 1] - ends[k]) for k in range(n)]


def _connection(tz: str) -> Any:
    import duckdb

    made = duckdb.connect(
        config={"enable_external_access": "false", "python_enable_replacements": "false"}
    )
    made.execute(f"SET TimeZone = '{tz}'")
    made.execute("SET threads = 1")  # sums of floats depend on their order
    return made


def _read(core: Core, pieces: Sequence[Piece]) -> "pa.Table":
    """Return the rows of pieces with the column `_piece`. What lies in the same files is read
    together."""
    import pyarrow as pa

    from sextant.kinds.dataset.worker import table_of

    groups: dict[tuple[Any, Schema], list[int]] = {}
    for n, piece in enumerate(pieces):
        files = tuple(file for set_ in piece.sets for file in set_.files)
        groups.setdefault((files, piece.schema), []).append(n)
    tables = []
    for (files, schema), members in groups.items():
        place = {pieces[n].partition: n for n in members}
        ref = InputRef(
            name="t",
            asset="",
            sets=(FileSet(files=files, partitions=tuple(sorted(place))),) if files else (),
            spec=spec_of(Rows(lake=str(core.lake.root), schema=schema)),
        )
        table = table_of(ref, labels=True)
        labels = table.column(_LABEL).to_pylist()
        column = pa.array([place[label] for label in labels], pa.int64())
        tables.append(table.drop_columns([_LABEL]).append_column(_PIECE, column))
    # sums of floats depend on their order, which is not to follow from how files are shared
    return pa.concat_tables(_alike(tables), promote_options="permissive").sort_by(_PIECE)


def _alike(tables: Sequence["pa.Table"]) -> "list[pa.Table]":
    """Return tables whose exact numbers have the same type: a column that was an integer has places
    once an older definition of the number had some."""
    import pyarrow as pa

    scales: dict[str, int] = {}
    types: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
            if pa.types.is_decimal(field.type):
                scales[field.name] = max(scales.get(field.name, 0), field.type.scale)
    mixed = {name for name in scales if len(types[name]) > 1}
    out = []
    for table in tables:
        for n, field in enumerate(table.schema):
            is_exact = pa.types.is_decimal(field.type) or pa.types.is_integer(field.type)
            if field.name in mixed and is_exact:
                column = table.column(n).cast(pa.decimal128(38, scales[field.name]))
                table = table.set_column(n, field.name, column)  # noqa: PLW2901 - the same table
        out.append(table)
    return out


def defined(value: Any) -> Any:
    """Return a measure's value; None where it has none, as 0/0 and 1/0 have not."""
    import math

    return None if isinstance(value, float) and not math.isfinite(value) else value


def exact(value: Any) -> Decimal | None:
    """Return a value as the decimal that people are shown, without losing a digit; None for none.

    Raises  UsageError for a value that is no number
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise UsageError(
            "SX-DERIVE-004",
            f"a value of {type(value).__name__} has no difference",
            hint="ask for a number",
        )
    return value if isinstance(value, Decimal) else Decimal(repr(value))


# ---------------------------------------------------------------- drivers


class Driver(NamedTuple):
    """What the rows of one value of some dimensions have moved a number. `of` is () for all others
    together."""

    of: tuple[Any, ...]
    share: Fraction


def drivers(
    core: Core,
    measure: Measure,
    tz: str,
    by: Sequence[str],
    sides: tuple[tuple[Span, Sequence[Piece]], tuple[Span, Sequence[Piece]]],
) -> list[Driver]:
    """Return what each value of dimensions has moved a measure between two times, the greatest
    first: shares that add up to the difference, over all orders in which they could have moved.

    sides  the time before and the time after, each with its rows
    Raises  UsageError for a measure that is taken over time, or a dimension that it does not have
    """
    from sextant.engine.shares import cases, shares
    from sextant.kinds.kpi.measures import bucket_sql, needs_rows, rollup_sql

    for dimension in by:
        if dimension not in measure.by:
            raise UsageError(
                "SX-KPI-001",
                f"the measure has no dimension `{dimension}`",
                hint=f"it has {', '.join(measure.by) or 'none'}",
            )
    if measure.over_time:
        raise UsageError(
            "SX-DERIVE-005",
            "a number that is taken over time has no drivers that add up",
            hint="leave out --by",
        )
    rowwise = needs_rows(measure)
    pieces = [(n, piece) for n, (_, chosen) in enumerate(sides) for piece in chosen]
    if not pieces:
        return []
    with _connection(tz) as connection:
        connection.register("rows_", _read(core, [piece for _, piece in pieces]))
        import pyarrow as pa

        connection.register(
            "sides_",
            pa.table({_PIECE: list(range(len(pieces))), "_side": [side for side, _ in pieces]}),
        )
        named = ", ".join('"' + one.replace('"', '""') + '"' for one in by)
        # values are stored with their bucket, rows are not
        add = f", {bucket_sql(measure, tz)} AS bucket" if rowwise and measure.grain else ""
        inside = " OR ".join(
            f"(_side = {n} AND ({span.condition() or 'true'}))" if measure.grain else f"_side = {n}"
            for n, (span, _) in enumerate(sides)
        )
        connection.execute(
            f"CREATE TEMP TABLE sided AS SELECT * FROM (SELECT s._side, r.* EXCLUDE ({_PIECE})"
            f"{add} FROM rows_ r JOIN sides_ s USING ({_PIECE})) WHERE {inside}"
        )
        segments = connection.sql(f"SELECT DISTINCT {named} FROM sided ORDER BY ALL").fetchall()
        by_case = msgspec.structs.replace(measure, by=(*measure.by, _CASE), grain="")

        def ask(group: Mapping[tuple[Any, ...], int], masks: Sequence[int]) -> dict[int, Fraction]:
            """Return the value of each case: the groups in its mask as they were after."""
            listed = [(mask, n, mask >> n & 1) for mask in masks for n in set(group.values())]
            connection.register(
                "chosen_",
                pa.table(
                    {
                        _CASE: pa.array([one[0] for one in listed], pa.int64()),
                        "_group": pa.array([one[1] for one in listed], pa.int64()),
                        "_side": pa.array([one[2] for one in listed], pa.int64()),
                    }
                ),
            )
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE groups_ AS "
                f"SELECT DISTINCT {named}, CAST(0 AS BIGINT) AS _group FROM sided LIMIT 0"
            )
            connection.executemany(
                f"INSERT INTO groups_ VALUES ({', '.join('?' * (len(by) + 1))})",
                [(*segment, n) for segment, n in group.items()],
            )
            same = " AND ".join(
                f"s.{one} IS NOT DISTINCT FROM g.{one}" for one in named.split(", ")
            )
            connection.execute(
                f"CREATE OR REPLACE TEMP VIEW t AS SELECT c.{_CASE}, s.* EXCLUDE (_side) FROM "
                f"sided s JOIN groups_ g ON {same} JOIN chosen_ c ON c._group = g._group AND "
                "c._side = s._side"
            )
            query = rollup_sql(by_case, table="t", by=[_CASE], grain="", tz=tz)
            table = connection.sql(query).to_arrow_table()
            found = dict(
                zip(table.column(_CASE).to_pylist(), table.column("value").to_pylist(), strict=True)
            )
            return {mask: _number(found.get(mask)) for mask in masks}

        most = DERIVED_DRIVERS_MAX if not rowwise else DERIVED_DRIVERS_MAX // 2
        each = {segment: n for n, segment in enumerate(segments)}
        if len(segments) > most:
            alone: dict[tuple[Any, ...], Fraction] = {}
            for start in range(0, len(segments), 32):
                some = segments[start : start + 32]
                # what is asked about apart, and all others
                group = {
                    segment: some.index(segment) if segment in some else len(some)
                    for segment in segments
                }
                found = ask(group, [0, *(1 << n for n in range(len(some)))])
                for n, segment in enumerate(some):
                    alone[segment] = abs(found[1 << n] - found[0])
            first = sorted(segments, key=lambda one: (-alone[one], str(one)))[: most - 1]
            each = {one: first.index(one) if one in first else most - 1 for one in segments}
            names: list[tuple[Any, ...]] = [*first, ()]
        else:
            names = list(segments)
        free = [0] * len(names)
        all_cases = cases(free, 1 << len(names))
        assert all_cases is not None
        found = ask(each, all_cases)
        shared = shares(free, all_cases, found)
    out = [Driver(of, share) for of, share in zip(names, shared, strict=True)]
    return sorted(out, key=lambda one: (one.of == (), -abs(one.share), str(one.of)))


def _number(value: Any) -> Fraction:
    found = exact(defined(value))
    return Fraction(found) if found is not None else Fraction(0)
