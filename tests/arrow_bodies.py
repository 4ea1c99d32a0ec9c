"""Tables as bodies of pushed rows."""

import io
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from sextant.kinds.dataset import bodies


def packed(table: pa.Table, form: str, **options: Any) -> bytes:
    """Return a table as a body."""
    out = io.BytesIO()
    if form == bodies.PARQUET:
        pq.write_table(table, out, **options)
        return out.getvalue()
    make = pa.ipc.new_file if form == bodies.ARROW_FILE else pa.ipc.new_stream
    with make(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return out.getvalue()
