"""The guard and its parts: functions, settings, tokens, judgements that are kept."""

from pathlib import Path

import pytest
from sql_endpoint import World

from sextant.kernel.errors import Denied, UsageError
from sextant.server.sql import functions, known
from sextant.server.sql.settings import format_of, setting
from sextant.server.sql.tokens import tokens


def test_every_function_of_this_clickhouse_was_looked_at(world: World) -> None:
    """A function that a later version brings is refused until somebody has looked at it: then
    `python -m sextant.server.sql.functions`."""
    names, aggregates, version = functions.listed(world.store)
    wanted = functions.render(names, aggregates, version)
    assert Path(known.__file__).read_text(encoding="utf-8") == wanted


def test_every_table_function_that_is_open_makes_rows_of_its_arguments(world: World) -> None:
    there = (
        world.store.query("SELECT lower(name) FROM system.table_functions", form="TSV")
        .decode()
        .split()
    )
    assert set(there) >= functions.TABLE_FUNCTIONS - {
        "sqlstandardvalues",
        "generate_series",
        "null",
    }
    assert not functions.TABLE_FUNCTIONS & {
        "file",
        "url",
        "s3",
        "remote",
        "executable",
        "merge",
        "input",
        "python",
        "loop",
        "dictionary",
    }


def test_endings_of_aggregates() -> None:
    assert all(
        functions.allowed(name)
        for name in (
            "sumIf",
            "uniqExactArrayIf",
            "avgOrNull",
            "quantilesStateIf",
            "argMaxMergeState",
            "sumMap",
            "countDistinct",
        )
    )
    assert not any(
        functions.allowed(name) for name in ("fileIf", "sumFile", "nothingIf", "sumIfX", "")
    )


def test_combinators_are_those_of_this_clickhouse(world: World) -> None:
    there = (
        world.store.query(
            "SELECT lower(name) FROM system.aggregate_function_combinators", form="TSV"
        )
        .decode()
        .split()
    )
    assert set(functions.COMBINATORS) <= set(there)


@pytest.mark.parametrize(
    ("name", "value", "means"),
    [
        ("max_execution_time", "5", [("max_execution_time", "5")]),
        ("max_execution_time", "0", []),
        ("max_threads", "4", []),
        ("log_comment", "x", []),
        ("join_use_nulls", "true", [("join_use_nulls", "1")]),
        (
            "session_timezone",
            "America/Argentina/Salta",
            [("session_timezone", "America/Argentina/Salta")],
        ),
        ("session_timezone", "", []),
        ("readonly", "2", []),
        ("result_overflow_mode", "throw", []),
        (
            "output_format_arrow_compression_method",
            "zstd",
            [("output_format_arrow_compression_method", "zstd")],
        ),
    ],
)
def test_settings(name: str, value: str, means: list[tuple[str, str]]) -> None:
    assert setting(name, value) == means


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("readonly", "0"),
        ("allow_ddl", "1"),
        ("max_execution_time", "-1"),
        ("max_execution_time", "inf"),
        ("max_memory_usage", "x"),
        ("result_overflow_mode", "break"),
        ("session_timezone", "'; SET readonly=0"),
        ("session_timezone", "../etc"),
        ("join_use_nulls", "2"),
        ("format_schema", "/etc/passwd"),
        ("additional_table_filters", "{}"),
        ("allow_introspection_functions", "1"),
        ("dialect", "prql"),
        ("output_format_parquet_compression_method", "brotli"),
        ("", ""),
        ("max_rows_to_group_by", "1"),
        ("user_files_path", "/"),
        ("disk", "x"),
        ("max_result_rows", "nan"),
        ("output_format_schema", "/x"),
        ("format_template_resultset", "/etc/passwd"),
    ],
)
def test_settings_that_are_refused(name: str, value: str) -> None:
    with pytest.raises(Denied):
        setting(name, value)


def test_formats() -> None:
    assert [
        format_of(one)
        for one in (
            "JSONCompactEachRowWithNamesAndTypes",
            "Native",
            "PrettyCompactMonoBlock",
            "TSVWithNames",
        )
    ]
    for one in (
        "Template",
        "CapnProto",
        "Protobuf",
        "ProtobufSingle",
        "Npy",
        "native",
        "JSON ",
        "JSON;",
        "",
        "One",
        "RawBLOB",
        "DWARF",
        "Form",
        "Regexp",
        "Hash",
        "MySQLWire",
        "Prometheus",
    ):
        with pytest.raises(UsageError):
            format_of(one)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT $1",
        "SELECT #",
        "SELECT 'x",
        "SELECT `a`b`c",
        "SELECT `a\\`b`",
        "SELECT -- x",
        "SELECT /* x */ 1",
        "SELECT 1; SELECT 2",
        "SELECT `a\nb`",
        'SELECT "x"',
    ],
)
def test_text_that_is_not_as_clickhouse_renders_it(text: str) -> None:
    with pytest.raises(ValueError):
        tokens(text)


def test_judgements_are_kept_and_follow_the_names(world: World) -> None:
    first = world.judge("SELECT count() FROM data.flights")
    assert world.judge("SELECT count() FROM data.flights") is first
    assert world.judge("SELECT count() FROM data.flights", admin=True) is not first
    other = world.judge("SELECT count() FROM {t :\nIdentifier}", params={"t": "flights"})
    assert (
        world.judge("SELECT count() FROM {t :\nIdentifier}", params={"t": "airlines"}).sql
        != other.sql
    )
    world.catalogue.apply("dev", world.tables[:1], [])
    with pytest.raises(UsageError):
        world.judge("SELECT count() FROM data.flights")
    world.show()
    assert world.judge("SELECT count() FROM data.flights").sql == first.sql


def test_what_runs_names_only_what_was_judged(world: World) -> None:
    judged = world.judge(
        "SELECT f.origin, data.flights.day FROM data.flights AS f, airlines -- and a remark",
        database="data",
    )
    assert "data" not in judged.sql.replace("data.flights", "")
    assert "--" not in judged.sql
    assert judged.tables == ("data.flights", "data.airlines")
