"""What decoding and encoding of our own save beside the plain libraries: the log decoder of OTLP
beside opentelemetry-proto's classes, blocks in ClickHouse's Native format beside Arrow by pyarrow.
`python bench/decode.py [repetitions]`.

Processor seconds of the whole process for a million log lines or samples, from the body to rows in
the store: decoding, encoding, insert and merges of chDB. Interleaved; the same rows each time. No
journal and no HTTP, which are the same for both: so a share here is more than the share of all
ingest.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import numpy as np
import pyarrow as pa
from telemetry_wire import log_bodies

from sextant.formats.telemetry import native, otlp_bodies, otlp_logs
from sextant.formats.telemetry.otlp import pairs, value
from sextant.formats.telemetry.records import SEVERITIES, Log, columns_of, log_rows
from sextant.stores.telemetry import migrate
from sextant.stores.telemetry.chdb import ChdbStore

LINES, PER_REQUEST = 200_000, 2_000
SAMPLES, SERIES = 2_000_000, 5_000


def by_classes(body: bytes, now_ns: int) -> list[Any]:
    """Return the rows of a request, read by the classes of opentelemetry-proto."""
    out = []
    for group in otlp_bodies.message("logs").FromString(body).resource_logs:
        resource = pairs(group.resource.attributes)
        for scope in group.scope_logs:
            rows = [
                Log(
                    one.time_unix_nano,
                    one.observed_time_unix_nano or now_ns,
                    one.severity_number,
                    SEVERITIES[one.severity_number].encode(),
                    value(one.body),
                    one.event_name.encode(),
                    one.trace_id.hex().encode(),
                    one.span_id.hex().encode(),
                    pairs(one.attributes),
                )
                for one in scope.log_records
            ]
            out.append(
                log_rows(
                    columns_of(rows),
                    asset="service:bench",
                    owner="bench",
                    scope=scope.scope.name.encode(),
                    resource=resource,
                )
            )
    return out


def logs(store: ChdbStore, bodies: list[bytes], token: str, *, plain: bool) -> None:
    now_ns = time.time_ns()
    blocks = []
    for body in bodies:
        rows = (
            by_classes(body, now_ns)
            if plain
            else otlp_logs.logs(body, owner="bench", now_ns=now_ns, oldest_ns=0).rows
        )
        blocks += [one.block for one in rows if one.table == "obs.logs"]
    for start in range(0, len(blocks), 20):
        store.insert("obs.logs", b"".join(blocks[start : start + 20]), token=f"{token}{start}")


def samples(store: ChdbStore, token: str, *, plain: bool) -> None:
    names = [b"metric_%d" % n for n in range(50)]
    random = np.random.default_rng(1)
    series = random.integers(0, 1 << 63, SERIES).astype(np.uint64)
    start_ms = int(time.time() * 1000) - 3_600_000
    for step in range(SAMPLES // SERIES // 20):
        codes = np.tile(np.arange(SERIES), 20)
        ts = start_ms + np.repeat(np.arange(20) + step * 20, SERIES) * 15_000 // 10
        mantissa = codes * 100 + step
        scale = np.zeros(len(codes), np.uint8)
        if plain:
            words = pa.DictionaryArray.from_arrays(
                (codes % 50).astype(np.int32), pa.array([one.decode() for one in names])
            )
            table = pa.table(
                {
                    "metric": words,
                    "series": series[codes],
                    "ts": pa.array(ts, pa.timestamp("ms", "UTC")),
                    "mantissa": mantissa,
                    "scale": scale,
                }
            )
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            store.insert(
                "obs.samples",
                sink.getvalue().to_pybytes(),
                token=f"{token}{step}",
                form="ArrowStream",
            )
        else:
            block = native.block(
                len(codes),
                (
                    ("metric", "LowCardinality(String)", native.words(names, codes % 50)),
                    ("series", "UInt64", native.numbers(series[codes])),
                    ("ts", "DateTime64(3, 'UTC')", native.numbers(ts.astype(np.int64))),
                    ("mantissa", "Int64", native.numbers(mantissa)),
                    ("scale", "UInt8", native.numbers(scale)),
                ),
            )
            store.insert("obs.samples", block, token=f"{token}{step}")


def main() -> int:
    """Measure; print one line for each figure."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bodies = list(log_bodies(LINES, per_request=PER_REQUEST, start_ns=time.time_ns() - 10**12))
    ways: dict[str, tuple[int, Callable[[ChdbStore, str, bool], None]]] = {
        "otlp log lines": (LINES, lambda s, t, plain: logs(s, bodies, t, plain=plain)),
        "samples": (SAMPLES, lambda s, t, plain: samples(s, t, plain=plain)),
    }
    spent: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        store = ChdbStore(Path(folder) / "store")
        migrate.migrate(store)
        for repetition in range(repetitions):
            for name, (count, run) in ways.items():
                for plain in (False, True) if repetition % 2 else (True, False):
                    store.run("TRUNCATE TABLE obs.logs")
                    store.run("TRUNCATE TABLE obs.samples")
                    before = time.process_time()
                    run(store, f"{repetition}{plain}", plain)
                    seconds = (time.process_time() - before) * 1e6 / count
                    spent.setdefault((name, plain), []).append(seconds)
        store.close()
    for name in ways:
        own, other = spent[name, False], spent[name, True]
        print(
            json.dumps(
                {
                    "bench": "decode",
                    "what": f"CPU s of a million {name}, from body to table",
                    "own": [round(statistics.median(own), 2), round(min(own), 2), round(max(own), 2)],
                    "plain": [
                        round(statistics.median(other), 2), round(min(other), 2), round(max(other), 2)
                    ],
                    "saved": round(1 - statistics.median(own) / statistics.median(other), 3),
                    "n": repetitions,
                }
            )
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
