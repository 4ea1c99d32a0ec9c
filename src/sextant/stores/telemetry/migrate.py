"""The schema of the telemetry store, in numbered steps, and how long each table keeps its rows.

Called once when a store is opened. The version stands in the store itself (`obs.schema_version`). A
step that was interrupted is run again: its statements say IF NOT EXISTS or OR REPLACE.
"""

import re
from collections.abc import Mapping
from importlib import resources

from sextant.kernel.errors import StorageError, UsageError
from sextant.kernel.ports import Telemetry

# table -> the expression of the time a row is of
_TIMES = {
    "samples": "toDateTime(ts)",
    "logs": "toDateTime(ts)",
    "spans": "toDateTime(ts)",
    "events": "toDateTime(ts)",
    "exemplars_seen": "toDateTime(ts)",
    "rollups": "bucket",
    "histogram_cells": "toDateTime(ts)",
    "histogram_rollups": "bucket",
}
# tables that keep their rows as long as another
_AS = {
    "histogram_cells": "samples",
    "histogram_rollups": "rollups",
    "exemplars_seen": "spans",  # they lead to spans
}
DAYS = {
    "samples": 30,
    "logs": 14,
    "spans": 14,
    "events": 90,
    "rollups": 400,
}  # what the migrations say


def migrate(store: Telemetry, retention_days: Mapping[str, int] | None = None) -> None:
    """Bring a store to the newest schema and set the ages.

    retention_days  table (`samples`, `logs`, `spans`, `events`, `rollups`) -> days that its rows
                    are kept
    Raises          StorageError when the store was made by a newer Sextant; UsageError for an
                    unknown table
    """
    days = {**DAYS, **(retention_days or {})}
    unknown = sorted(set(days) - set(DAYS))
    if unknown:
        raise UsageError(
            "SX-TELEMETRY-012",
            f"there is no retention of `{unknown[0]}`",
            hint=f"retention is set for {', '.join(sorted(DAYS))}",
        )
    steps = _steps()
    store.run("CREATE DATABASE IF NOT EXISTS obs")
    store.run(
        "CREATE TABLE IF NOT EXISTS obs.schema_version (version UInt32, name String, at "
        "DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY version"
    )
    done = int(store.query("SELECT max(version) FROM obs.schema_version", form="TSV"))
    if done > len(steps):
        raise StorageError(
            "SX-TELEMETRY-008",
            f"the telemetry store has schema {done}, this Sextant knows {len(steps)}",
            hint=(
                "it was opened by a newer Sextant: install that one, or start with an empty folder"
            ),
        )
    for number, (name, text) in enumerate(steps, 1):
        if number <= done:
            continue
        for statement in statements(text):
            store.run(statement)
        store.run(f"INSERT INTO obs.schema_version (version, name) VALUES ({number}, '{name}')")
    _keep(store, days | {table: days[other] for table, other in _AS.items()})


def _keep(store: Telemetry, days: Mapping[str, int]) -> None:
    made = store.query(
        (
            "SELECT name, create_table_query FROM system.tables WHERE database = 'obs' AND "
            "engine LIKE '%MergeTree'"
        ),
        form="TSVRaw",
    ).decode()
    now = dict(re.findall(r"CREATE TABLE obs\.(\w+)[^\n]*TTL [^\n]*toIntervalDay\((\d+)\)", made))
    for table, length in days.items():
        if int(now.get(table, 0)) != length:
            store.run(
                f"ALTER TABLE obs.{table} MODIFY TTL {_TIMES[table]} + INTERVAL {int(length)} DAY"
            )


def _steps() -> list[tuple[str, str]]:
    folder = resources.files("sextant.stores.telemetry") / "migrations"
    return [
        (file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    ]


def statements(text: str) -> list[str]:
    """Return the statements of a migration, without comment lines."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in lines.split(";\n") if statement.strip()]
