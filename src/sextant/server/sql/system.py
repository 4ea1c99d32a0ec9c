"""What untrusted queries see of `system` and `information_schema`: views that know only the open
databases, and nothing of paths and people.

Made once when the process starts. Names of `system` in a query are replaced by these views
(`NAMES`), so tools that look around find what they ask for; what has no view here cannot be read.
"""

from collections.abc import Iterable

from sextant.kernel.ports import Telemetry
from sextant.server.sql.functions import TABLE_FUNCTIONS
from sextant.server.sql.names import SYSTEM
from sextant.server.sql.settings import ANSWERS, LIMITS
from sextant.server.sql.tokens import literal, quoted

OPEN = ("data", "kpi", "obs", "ops")


def _names(names: Iterable[str]) -> str:
    return ", ".join(literal(name) for name in names)


_IN = f"database IN ({_names(OPEN)})"
# Tables of `system` that say nothing about this machine, and stand for themselves.
PLAIN = (
    "one",
    "numbers",
    "numbers_mt",
    "zeros",
    "zeros_mt",
    "data_type_families",
    "formats",
    "time_zones",
    "collations",
    "keywords",
    "aggregate_function_combinators",
)
# Settings that drivers look up, to learn what they may send. Those of `settings.py` may be sent,
# whatever the connection says.
_SETTINGS = (
    *LIMITS,
    *ANSWERS,
    "max_threads",
    "max_block_size",
    "max_query_size",
    "date_time_input_format",
    "input_format_null_as_default",
    "enable_http_compression",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "wait_end_of_query",
    "cancel_http_readonly_queries_on_client_close",
    "async_insert",
    "wait_for_async_insert",
)
_FIXED = ("readonly", "result_overflow_mode", "use_client_time_zone")
# `data` is made of views over Iceberg tables; a tool that lists tables must find tables there.
# Paths and definitions are left empty.
VIEWS = {
    "databases": "SELECT name, 'Atomic' AS engine, '' AS data_path, '' AS metadata_path, uuid, 'Atomic' "
    "AS engine_full, '' AS comment, 0 AS is_external "
    f"FROM system.databases WHERE name IN ({_names((*OPEN, 'system'))})",
    "tables": "SELECT database, name, toUUID('00000000-0000-0000-0000-000000000000') AS uuid, "
    "if(database = 'data', 'IcebergLocal', engine) AS engine, is_temporary, "
    "CAST([], 'Array(String)') AS data_paths, '' AS metadata_path, "
    "metadata_modification_time, CAST([], 'Array(String)') AS dependencies_database, "
    "CAST([], 'Array(String)') AS dependencies_table, '' AS create_table_query, if(database "
    "= 'data', 'IcebergLocal', engine) AS engine_full, '' AS as_select, "
    "partition_key, sorting_key, primary_key, sampling_key, '' AS storage_policy, "
    "total_rows, total_bytes, CAST(NULL, 'Nullable(UInt64)') AS lifetime_rows, "
    "CAST(NULL, 'Nullable(UInt64)') AS lifetime_bytes, comment, has_own_data FROM "
    f"system.tables WHERE {_IN}",
    "columns": "SELECT database, table, name, type, position, default_kind, default_expression, "
    "data_compressed_bytes, data_uncompressed_bytes, marks_bytes, comment, "
    "is_in_partition_key, is_in_sorting_key, is_in_primary_key, is_in_sampling_key, "
    "compression_codec, character_octet_length, numeric_precision, "
    f"numeric_precision_radix, numeric_scale, datetime_precision FROM system.columns WHERE {_IN}",
    "settings": (
        f"SELECT * REPLACE (toUInt8(name IN ({_names(_FIXED)})) AS readonly) FROM "
        f"system.settings WHERE name IN ({_names((*_SETTINGS, *_FIXED))})"
    ),
    "functions": "SELECT name, is_aggregate, case_insensitive, alias_to, description, syntax, arguments, "
    "returned_value, examples, introduced_in, categories "
    "FROM system.functions WHERE origin IN ('System', 'SQLUserDefined')",
    "table_functions": (
        "SELECT name, description FROM system.table_functions WHERE lower(name) IN "
        f"({_names(sorted(TABLE_FUNCTIONS))})"
    ),
    "table_engines": (
        "SELECT name FROM system.table_engines WHERE name IN ('MergeTree', "
        "'ReplacingMergeTree', 'AggregatingMergeTree', 'IcebergLocal', 'View')"
    ),
    "build_options": (
        "SELECT name, value FROM system.build_options WHERE name IN ('VERSION_FULL', "
        "'VERSION_DESCRIBE', 'VERSION_INTEGER')"
    ),
    "dictionaries": "SELECT '' AS database, '' AS name, '' AS status, '' AS type, '' AS comment WHERE 0",
    "user_defined_functions": "SELECT '' AS name WHERE 0",
    # information_schema, in capitals and small letters as ClickHouse has it
    "schemata": (
        "SELECT name AS catalog_name, name AS schema_name, 'default' AS schema_owner, name AS "
        f"CATALOG_NAME, name AS SCHEMA_NAME, 'default' AS SCHEMA_OWNER FROM {SYSTEM}.databases"
    ),
    "information_tables": "SELECT database AS table_catalog, database AS table_schema, name AS table_name, "
    "if(engine = 'View', 'VIEW', 'BASE TABLE') AS table_type, total_rows AS table_rows, "
    "comment AS table_comment, database AS TABLE_CATALOG, database AS TABLE_SCHEMA, name AS "
    "TABLE_NAME, if(engine = 'View', 'VIEW', 'BASE TABLE') AS TABLE_TYPE, "
    f"total_rows AS TABLE_ROWS, comment AS TABLE_COMMENT FROM {SYSTEM}.tables",
    "information_columns": "SELECT database AS table_catalog, database AS table_schema, table AS table_name, name "
    "AS column_name, position AS ordinal_position, "
    "default_expression AS column_default, startsWith(type, 'Nullable') AS is_nullable, "
    "type AS data_type, character_octet_length AS character_maximum_length, "
    "numeric_precision, numeric_scale, datetime_precision, comment AS column_comment, "
    "database AS TABLE_CATALOG, database AS TABLE_SCHEMA, table AS TABLE_NAME, "
    "name AS COLUMN_NAME, position AS ORDINAL_POSITION, default_expression AS "
    "COLUMN_DEFAULT, startsWith(type, 'Nullable') AS IS_NULLABLE, type AS DATA_TYPE, "
    "numeric_precision AS NUMERIC_PRECISION, numeric_scale AS NUMERIC_SCALE, "
    "datetime_precision AS DATETIME_PRECISION, comment AS COLUMN_COMMENT FROM "
    f"{SYSTEM}.columns",
}
_INFORMATION = {
    "schemata": "schemata",
    "tables": "information_tables",
    "columns": "information_columns",
}
# (database, table) as asked -> what stands behind it
NAMES: dict[tuple[str, str], tuple[str, str]] = {
    **{("system", name): ("system", name) for name in PLAIN},
    **{
        ("system", name): (SYSTEM, name)
        for name in VIEWS
        if not name.startswith("information_") and name != "schemata"
    },
    **{
        (schema, asked): (SYSTEM, view)
        for schema in ("information_schema", "INFORMATION_SCHEMA")
        for asked, view in _INFORMATION.items()
    },
    **{
        ("INFORMATION_SCHEMA", asked.upper()): (SYSTEM, view)
        for asked, view in _INFORMATION.items()
    },
}
DATABASES = frozenset({*OPEN, "system", "information_schema", "INFORMATION_SCHEMA"})


def install(store: Telemetry) -> None:
    """Make the open databases and the views. Doing it again changes nothing."""
    for database in (*OPEN, SYSTEM):
        store.run(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    for name, select in VIEWS.items():
        store.run(f"CREATE OR REPLACE VIEW {SYSTEM}.{quoted(name)} AS {select}")
