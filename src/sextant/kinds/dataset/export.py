"""The rows of a version in a format: what leaves by the API, by `sextant export`, and into
notebooks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.core import Core
from sextant.formats.values import plain, records
from sextant.kernel.errors import BadData, Denied, UsageError
from sextant.kernel.kinds import Sees
from sextant.kernel.limits import EXPORT_BYTES_MAX
from sextant.kinds.dataset.spec import KIND, table_spec
from sextant.kinds.dataset.views import check_kept, check_partition
from sextant.release.as_of import version_as_of

if TYPE_CHECKING:
    import pyarrow as pa

_PLACES_MAX = 6  # of decimals that Arrow never writes with an exponent


def rows(
    core: Core,
    env: str,
    name: str,
    *,
    form: str,
    as_of: str = "",
    partition: str = "",
    columns: Sequence[str] = (),
    see: Sees | None = None,
    bounded: bool = True,
) -> bytes:
    """Return the rows of a version of a dataset.

    form       a key of FORMS;  as_of  a version by its first digits, or what was live at a time; ""
               = what is live
    columns    which, in this order; () = all
    see        leaves out the columns that somebody may not see; None = all are there
    bounded    refuse what is too large to be held for somebody at the other end of a connection
    Raises     NotFound for what is not there, or has expired; UsageError for a format or column
               that is not there; BadData for a column that the format cannot hold; Denied when
               nothing may be seen
    """
    if form not in FORMS:
        raise UsageError(
            "SX-EXPORT-001", f"rows cannot be given as `{form}`", hint=f"one of {', '.join(FORMS)}"
        )
    asset = core.assets.find(name)
    if asset.kind != KIND:
        raise UsageError(
            "SX-EXPORT-002",
            f"`{asset.id}` has no rows",
            hint=(
                "the values of a KPI lie in `kpi_NAME`; `sextant show` tells the facts of other "
                "assets"
            ),
        )
    version = version_as_of(core, env, asset.id, as_of)
    check_kept(core, version)
    wanted = None
    if partition:
        check_partition(asset, version, core.versions.parts(asset.id, version.digest), partition)
        wanted = [partition]
    files = [
        one
        for one in (core.lake.files(version.locator) if version.locator else ())
        if wanted is None or partition in one.partitions
    ]
    if bounded and sum(one.size_bytes for one in files) > EXPORT_BYTES_MAX:
        raise UsageError(
            "SX-EXPORT-003",
            f"the files of `{asset.id}` are larger than {EXPORT_BYTES_MAX >> 20} MiB",
            hint=(
                "ask for one partition at a time, or read the lake's files: "
                "docs/how-to/read-the-lake.md"
            ),
        )
    from sextant.stores.lake import frames

    hidden = see.hidden_columns(version) if see else ()
    schema = tuple(column for column in version.schema if column[0] not in hidden)
    if hidden and not schema:
        raise Denied(
            "SX-EXPORT-005",
            f"all columns of `{asset.id}` are personal",
            hint="an administrator can read them; public= of the asset lists what is not personal",
        )
    table = frames.read(
        core.lake.root,
        files,
        partitions=wanted,
        columns=columns or None,
        frame="pyarrow",
        schema=schema,
        key=table_spec(asset).key,
        of=f"{version.asset}@{version.digest[:12]}",
    )
    return FORMS[form](table)


def _stream(table: "pa.Table") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _file(table: "pa.Table") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _csv(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    sink = pa.BufferOutputStream()
    columns = [_csv_column(column) for column in table.columns]
    try:
        pa.csv.write_csv(pa.table(columns, names=table.column_names), sink)
    except pa.ArrowInvalid as error:
        raise BadData(
            "SX-EXPORT-004",
            f"a column cannot be written as CSV: {error}",
            hint="ask for JSON, Arrow or Parquet, or leave the column out",
        ) from error
    return bytes(sink.getvalue().to_pybytes())


def _csv_column(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return a column whose cells CSV writes as `plain` does: as it is, where Arrow does so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    t = column.type
    if pa.types.is_floating(t):
        # NaN is missing
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, t), column)
        as_text = bool(pc.any(pc.is_inf(column)).as_py())
    else:
        # Arrow writes decimals with an exponent from seven places on, and bytes as they are
        as_text = (
            (pa.types.is_decimal(t) and t.scale > _PLACES_MAX)
            or pa.types.is_temporal(t)
            or pa.types.is_binary(t)
            or pa.types.is_large_binary(t)
        ) and not pa.types.is_date(t)
    if not as_text:
        return column
    cells = [plain(value) for value in column.to_pylist()]
    texts = [None if cell is None else str(cell) for cell in cells]
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def _json(table: "pa.Table") -> bytes:
    return msgspec.json.encode(records(table))


def _lines(table: "pa.Table") -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in records(table))


# Names as ClickHouse has them, so that `query` and `rows` are asked alike. Values of JSON and CSV
# are as `formats.values` writes them.
FORMS: dict[str, Callable[[Any], bytes]] = {
    "JSON": _json,
    "JSONEachRow": _lines,
    "CSVWithNames": _csv,
    "Arrow": _file,
    "ArrowStream": _stream,
    "Parquet": _parquet,
}
