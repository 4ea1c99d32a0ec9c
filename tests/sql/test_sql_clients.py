"""Real clients, unchanged: clickhouse-connect, SQLAlchemy over it, and what a Go client reads when
it connects."""

import datetime
from collections.abc import Iterator

import clickhouse_connect
import pytest
import sqlalchemy as sa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from sql_endpoint import Served


def connect(endpoint: Served, token: str = "sxt_viewer", **more) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=endpoint.port, username="me", password=token, **more
    )


@pytest.fixture
def client(endpoint: Served) -> Iterator[Client]:
    with connect(endpoint) as one:
        yield one


def test_queries_frames_and_arrow(client: Client) -> None:
    assert client.ping()
    assert client.server_tz == datetime.UTC
    rows = client.query(
        "SELECT origin, count() AS n, max(time_hour) FROM data.flights GROUP BY origin "
        "ORDER BY origin"
    )
    assert rows.column_names == ("origin", "n", "max(time_hour)")
    assert rows.result_rows[0][:2] == ("EWR", 100)
    frame = client.query_df(
        "SELECT flight, origin, delay, time_hour FROM data.flights ORDER BY flight"
    )
    assert frame.shape == (300, 4)
    assert frame["delay"].isna().sum() == 30
    assert str(frame["time_hour"].dtype).startswith("datetime64")
    arrow = client.query_arrow(
        "SELECT flight, origin FROM data.flights ORDER BY flight", use_strings=True
    )
    assert arrow.num_rows == 300
    assert str(arrow.schema.field("origin").type) == "string"
    with client.query_row_block_stream("SELECT number FROM numbers(200000)") as stream:
        assert sum(len(block) for block in stream) == 200_000
    assert client.query_np("SELECT value FROM obs.samples ORDER BY time LIMIT 3").shape == (3, 1)


def test_parameters_settings_and_columns_only(client: Client) -> None:
    sql = (
        "SELECT count() FROM data.flights WHERE origin = {o:String} AND flight IN {f:Array(Int64)}"
    )
    assert client.query(sql, parameters={"o": "JFK", "f": [1, 4, 5]}).first_item == {"count()": 2}
    assert client.query("SELECT %(x)s AS x", parameters={"x": "it's"}).first_row == ("it's",)
    assert client.query("SELECT sleepless FROM (SELECT 1 AS sleepless) LIMIT 0").column_names == (
        "sleepless",
    )
    assert (
        client.command("SELECT count() FROM data.flights", settings={"max_execution_time": 5})
        == 300
    )
    assert client.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    long = ",".join(str(n) for n in range(4_000))
    assert client.query(
        f"SELECT count() FROM numbers(5000) WHERE number IN ({long})"
    ).first_row == (4000,)


def test_what_writes_is_refused(client: Client) -> None:
    for write in (
        lambda: client.insert("obs.logs", [["x"]], column_names=["body"]),
        lambda: client.insert_df("obs.logs", client.query_df("SELECT body FROM obs.logs LIMIT 2")),
        lambda: client.raw_insert("obs.logs", ["body"], b"x\n", fmt="TSV"),
        lambda: client.command("TRUNCATE TABLE obs.logs"),
        lambda: client.command("CREATE TABLE obs.x (a Int8) ENGINE = Memory"),
    ):
        with pytest.raises(DatabaseError, match="READONLY"):
            write()
    assert client.command("SELECT count() FROM obs.logs") == 500


def test_errors_have_their_code_and_name(client: Client) -> None:
    with pytest.raises(DatabaseError) as unknown:
        client.query("SELECT * FROM data.flihgts")
    assert (unknown.value.code, unknown.value.name) == (60, "UNKNOWN_TABLE")
    with pytest.raises(DatabaseError) as wrong:
        client.query("SELECT nope FROM data.flights")
    assert (wrong.value.code, wrong.value.name) == (47, "UNKNOWN_IDENTIFIER")
    with pytest.raises(DatabaseError) as late:
        client.query(
            "SELECT sum(cityHash64(number)) FROM numbers(20000000000000)",
            settings={"max_execution_time": 1},
        )
    assert (late.value.code, late.value.name) == (159, "TIMEOUT_EXCEEDED")


def test_tokens_that_do_not_open(endpoint: Served) -> None:
    for token, code in (("sxt_expired", 516), ("sxt_ingest", 497)):
        with pytest.raises(DatabaseError) as refused:
            connect(endpoint, token)
        assert refused.value.code == code
    with connect(endpoint, access_token=None, token="sxt_admin") as admin:
        assert admin.query("SELECT email FROM data.people ORDER BY id").first_row == ("a@x",)


@pytest.mark.parametrize("compress", [False, "gzip", "lz4", "zstd"])
def test_every_compression(endpoint: Served, compress: bool | str) -> None:
    with connect(endpoint, compress=compress) as client:
        assert (
            len(client.query("SELECT number, toString(number) FROM numbers(20000)").result_rows)
            == 20_000
        )


def test_sqlalchemy(endpoint: Served) -> None:
    engine = sa.create_engine(f"clickhousedb://me:sxt_viewer@127.0.0.1:{endpoint.port}/data")
    looking = sa.inspect(engine)
    assert {"data", "obs", "ops", "kpi"} <= set(looking.get_schema_names())
    assert looking.get_table_names("obs") == ["logs", "samples"]
    assert [column["name"] for column in looking.get_columns("airlines", "data")] == [
        "carrier",
        "name",
        "_partition",
    ]
    assert looking.has_table("flights", "data")
    assert not looking.has_table("nope", "data")
    airlines = sa.Table("airlines", sa.MetaData(), autoload_with=engine)
    flights = sa.table("flights", sa.column("carrier"), sa.column("delay"))
    asked = (
        sa.select(airlines.c.name, sa.func.count().label("n"))
        .select_from(flights.join(airlines, flights.c.carrier == airlines.c.carrier))
        .where(flights.c.delay > 10)
        .group_by(airlines.c.name)
        .order_by(airlines.c.name)
    )
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(asked)] == [
            ("American", 86),
            ("United", 72),
        ]
        assert (
            connection.execute(
                sa.text("SELECT count() FROM obs.logs WHERE service = :s"), {"s": "api"}
            ).scalar()
            == 250
        )
        with pytest.raises(sa.exc.DatabaseError, match="READONLY"):
            connection.execute(sa.text("INSERT INTO obs.logs (body) VALUES ('x')"))
    engine.dispose()


def test_what_a_go_client_reads_when_it_connects(endpoint: Served) -> None:
    """It reads its hello in the form of its own revision, and what follows in that of the revision
    that the hello names."""
    from clickhouse_connect.driver.buffer import ResponseBuffer
    from clickhouse_connect.driver.query import QueryContext
    from clickhouse_connect.driver.transform import NativeTransform

    class Source:
        def __init__(self, data: bytes) -> None:
            self.gen, self.last_message, self.exception_tag = iter([data]), None, None

        def close(self) -> None:
            pass

    def read(data: bytes, *, block_info: bool) -> list[tuple]:
        context = QueryContext()
        context.block_info = block_info
        return NativeTransform.parse_response(ResponseBuffer(Source(data)), context).result_rows

    def hello(revision: int) -> bytes:
        return endpoint.ask(
            "SELECT displayName(), version(), revision(), timezone()",
            default_format="Native",
            client_protocol_version=str(revision),
            compress="0",
        ).body

    name, _, revision, zone = read(hello(54405), block_info=True)[0]
    assert (name, revision, zone) == ("sextant", 0, "UTC")
    assert (
        len(hello(54460)) == len(hello(54405)) + 4
    )  # since 54454 each column says that it is plain
    assert (
        len(hello(54483)) == len(hello(54460)) + 2
    )  # since 54480 a block says which buckets are out of order
    after = endpoint.ask(
        "SELECT toLowCardinality('x') AS a, 1 AS b",
        default_format="Native",
        client_protocol_version="54460",
    ).body
    assert read(after, block_info=False) == [("x", 1)]
