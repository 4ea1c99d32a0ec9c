"""The SQL endpoint over HTTP: who comes in, how questions are sent and answered, what each limit
answers."""

import gzip
import io
import json
import socket
import threading
import zlib
from typing import Any

import cramjam
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sql_endpoint import SECRET, Served, World, version

from sextant.kernel import limits
from sextant.kernel.errors import WorldError
from sextant.server.sql.answering import InProcess
from sextant.server.sql.endpoint import SqlEndpoint

FOREVER = "SELECT sum(cityHash64(number, number + 1)) FROM numbers(20000000000000)"


def running(world: World, what: str = "20000000000000") -> int:
    return int(
        world.store.query(
            (
                "SELECT count() FROM system.processes WHERE position(query, {w:String}) > 0 AND "
                "position(query, 'processes') = 0"
            ),
            form="TSV",
            params={"w": what},
        )
    )


def until(say) -> None:
    """Wait for something that must come."""
    for _ in range(3000):
        if say():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come within 30 s")


# ---------------------------------------------------------------- who


@pytest.mark.parametrize(
    "headers",
    [
        {"X-ClickHouse-User": "me", "X-ClickHouse-Key": "sxt_viewer"},
        {"Authorization": "Bearer sxt_viewer"},
        {"Authorization": "bearer  sxt_viewer "},
        {"Authorization": "Basic bWU6c3h0X3ZpZXdlcg=="},
        {"X-Sextant-Internal": SECRET},
    ],
)
def test_a_token_comes_in_by_every_way_that_clients_have(
    endpoint: Served, headers: dict[str, str]
) -> None:
    assert endpoint.ask("SELECT 1", token="", headers=headers).text == "1\n"


@pytest.mark.parametrize(
    ("headers", "status", "number"),
    [
        ({}, 401, "516"),
        ({"X-ClickHouse-Key": "wrong"}, 401, "516"),
        ({"Authorization": "Basic ###"}, 401, "516"),
        ({"Authorization": "Basic bWU6d3Jvbmc="}, 401, "516"),
        ({"Authorization": "Digest x"}, 401, "516"),
        ({"X-Sextant-Internal": "guessed"}, 401, "516"),
        ({"X-ClickHouse-Key": "sxt_ingest"}, 403, "497"),
    ],
)
def test_nobody_else_does(
    endpoint: Served, headers: dict[str, str], status: int, number: str
) -> None:
    before = len(endpoint.refused)
    answer = endpoint.ask("SELECT 1", token="", headers=headers)
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (status, number)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert len(endpoint.refused) == before + 1


def test_a_token_in_the_address_is_refused(endpoint: Served) -> None:
    answer = endpoint.send("GET", token="", query="SELECT 1", user="me", password="sxt_viewer")
    assert answer.status == 401
    answer = endpoint.send("GET", query="SELECT 1", user="me", password="sxt_viewer")
    assert "ends up in logs" in answer.text


def test_who_the_tokens_belong_to_may_be_unknown_for_a_while(world: World) -> None:
    async def away(_token: str) -> None:
        raise WorldError(
            "SX-UP-020",
            "the coordinator does not answer",
            hint="try in a moment",
            retry_after_s=1.0,
        )

    import asyncio

    answering = InProcess(world.store, lambda: None, world.catalogue)
    app = SqlEndpoint(answering, version(world.store), away)
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"SELECT 1"}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(
        app(
            {
                "type": "http",
                "method": "POST",
                "path": "/",
                "query_string": b"",
                "headers": [(b"x-clickhouse-key", b"sxt_x")],
            },
            receive,
            send,
        )
    )
    assert said[0]["status"] == 503
    assert dict(said[0]["headers"])[b"retry-after"] == b"1"
    app.close()


def test_the_door_of_the_processes_answers_problems_and_sees_what_the_role_sees(
    endpoint: Served,
) -> None:
    problem = endpoint.ask("DROP TABLE obs.logs", token="", headers={"X-Sextant-Internal": SECRET})
    assert problem.status == 403
    assert json.loads(problem.body)["code"] == "SX-SQL-001"
    assert (
        endpoint.ask(
            "SELECT email FROM data.people", token="", headers={"X-Sextant-Internal": SECRET}
        ).status
        == 400
    )
    assert (
        endpoint.ask(
            "SELECT max(email) FROM data.people",
            token="",
            headers={"X-Sextant-Internal": SECRET, "X-Sextant-Role": "admin"},
        ).text
        == "c@x\n"
    )


def test_without_a_secret_that_door_is_closed(world: World) -> None:
    one = Served(world)
    one.app._internal = ""
    try:
        assert one.ask("SELECT 1", token="", headers={"X-Sextant-Internal": SECRET}).status == 401
    finally:
        one.close()


# ---------------------------------------------------------------- how questions are sent


def test_signs_of_life_need_no_token(endpoint: Served) -> None:
    assert [
        endpoint.send("GET", path, token="").text for path in ("/ping", "/", "/replicas_status")
    ] == ["Ok.\n"] * 3
    assert endpoint.send("GET", "/play", token="").status == 404
    assert endpoint.send("DELETE", "/", token="").status == 404


def test_the_text_is_the_parameter_and_the_body_after_it(endpoint: Served) -> None:
    assert endpoint.send("POST", query="SELECT 1 +", body="2").text == "3\n"
    assert endpoint.send("POST", query="SELECT 5").text == "5\n"


def test_parameters(endpoint: Served) -> None:
    asked = endpoint.ask(
        "SELECT {n:Int64} + 1, {s:String}, {a:Array(String)}, {d:DateTime('UTC')}",
        param_n="41",
        param_s="it's a \\t tab",
        param_a="['x','y']",
        param_d="2026-01-01 10:00:00",
    )
    assert asked.text == "42\tit\\'s a \\t tab\t['x','y']\t2026-01-01 10:00:00\n"
    assert (
        endpoint.ask(
            "SELECT count() FROM {d:Identifier}.{t:Identifier}", param_d="data", param_t="flights"
        ).text
        == "300\n"
    )
    assert (
        endpoint.ask(
            "SELECT count() FROM {d:Identifier}.{t:Identifier}", param_d="data", param_t="airlines"
        ).text
        == "2\n"
    )
    assert endpoint.ask("SELECT count() FROM { t :\nIdentifier }", param_t="airlines").text == "2\n"
    assert endpoint.ask("SELECT {n:Int64}").headers["x-clickhouse-exception-code"] == "456"
    assert endpoint.ask("SELECT {n:Int64}", param_n="1; DROP TABLE obs.logs").status == 400


def test_a_form(endpoint: Served) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {x:String}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_x"\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n\xc3\xa9\r\n--b--\r\n'
    )
    assert (
        endpoint.send(
            "POST", body=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
        ).text
        == "é\n"
    )
    file = (
        b'--b\r\nContent-Disposition: form-data; name="t"; filename="t.tsv"\r\n\r\n1\r\n--b--\r\n'
    )
    assert (
        "tables of your own"
        in endpoint.send(
            "POST",
            body=file,
            headers={"Content-Type": "multipart/form-data; boundary=b"},
            query="SELECT * FROM t",
            t_structure="x Int8",
        ).text
    )
    assert (
        endpoint.send(
            "POST", body=b"nothing", headers={"Content-Type": "multipart/form-data; boundary=b"}
        ).status
        == 400
    )


@pytest.mark.parametrize(
    ("way", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", lambda d: bytes(cramjam.zstd.compress(d))),
        ("lz4", lambda d: bytes(cramjam.lz4.compress(d))),
    ],
    ids=["gzip", "deflate", "zstd", "lz4"],
)
def test_compressed_questions(endpoint: Served, way: str, pack) -> None:
    assert (
        endpoint.send("POST", body=pack(b"SELECT 1"), headers={"Content-Encoding": way}).text
        == "1\n"
    )
    assert (
        endpoint.send("POST", body=pack(b"SELECT 1")[:-6], headers={"Content-Encoding": way}).status
        == 400
    )
    bomb = pack(b"SELECT 1 " + b" " * (8 * limits.SQL_BODY_BYTES_MAX))
    assert len(bomb) < limits.SQL_BODY_BYTES_MAX
    assert "larger than" in endpoint.send("POST", body=bomb, headers={"Content-Encoding": way}).text


def test_what_is_too_large_or_malformed(endpoint: Served) -> None:
    assert endpoint.ask("SELECT '" + "x" * limits.SQL_BODY_BYTES_MAX + "'").status == 413
    assert endpoint.ask("SELECT '" + "x" * (300 << 10) + "'").status == 400
    assert endpoint.ask(b"SELECT '\xff'").status == 400
    assert endpoint.ask("").status == 400
    assert endpoint.send("POST", body=b"x", headers={"Content-Encoding": "br"}).status == 400
    assert endpoint.send("POST", body=b"x", decompress="1").status == 400
    assert endpoint.ask("SELECT (").headers["x-clickhouse-exception-code"] == "62"
    assert endpoint.ask("SELECT 1", allow_ddl="1").status == 403
    assert endpoint.ask("SELECT 1", readonly="0").status == 403
    assert endpoint.ask("SELECT 1", max_execution_time="-1").status == 403
    assert (
        endpoint.ask("SELECT 1", default_format="Template").headers["x-clickhouse-exception-code"]
        == "73"
    )
    assert endpoint.ask("SELECT 1", headers={"X-ClickHouse-Format": "Protobuf"}).status == 400
    assert (
        endpoint.ask("SELECT 1", database="system.users").headers["x-clickhouse-exception-code"]
        == "81"
    )


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO obs.logs (body) VALUES ('x')",
        "  insert into obs.logs FORMAT Native\n\x01\x02\x00\xff",
        "-- a remark\nINSERT INTO obs.logs SELECT * FROM obs.logs",
        "WITH 1 AS x INSERT INTO obs.logs (body) SELECT 'x'",
    ],
)
def test_inserts_are_refused_as_such(endpoint: Served, insert: str) -> None:
    answer = endpoint.ask(insert.encode("latin-1"))
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (403, "164")
    assert "(READONLY)" in answer.text
    assert endpoint.ask("SELECT count() FROM obs.logs").text == "500\n"


def test_rows_behind_an_insert_in_the_address_are_refused_too(endpoint: Served) -> None:
    assert (
        endpoint.send(
            "POST", query="INSERT INTO obs.logs FORMAT Native", body=b"\x01\x00\xff"
        ).headers["x-clickhouse-exception-code"]
        == "164"
    )


# ---------------------------------------------------------------- how they are answered


def test_headers_of_an_answer(endpoint: Served) -> None:
    answer = endpoint.ask(
        "SELECT count() AS n FROM flights",
        default_format="JSONEachRow",
        query_id="mine\r\nX-Evil: 1",
    )
    assert answer.text == '{"n":300}\n'
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert answer.headers["content-type"] == "application/x-ndjson; charset=UTF-8"
    assert answer.headers["x-clickhouse-timezone"] == "UTC"
    assert answer.headers["x-clickhouse-query-id"] == "mineX-Evil: 1"
    assert int(json.loads(answer.headers["x-clickhouse-summary"])["elapsed_ns"]) > 0
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_formats_and_which_of_them_wins(endpoint: Served) -> None:
    said = endpoint.ask(
        "SELECT 1 AS x FORMAT CSVWithNames",
        default_format="JSON",
        headers={"X-ClickHouse-Format": "TSV"},
    )
    assert said.text == '"x"\n1\n'
    assert said.headers["content-type"].startswith("text/csv")
    assert (
        endpoint.ask(
            "SELECT 1 AS x", default_format="JSON", headers={"X-ClickHouse-Format": "TSVWithNames"}
        ).text
        == "x\n1\n"
    )
    assert json.loads(endpoint.ask("SELECT 1 AS x", default_format="JSON").body)["data"] == [
        {"x": 1}
    ]
    parquet = endpoint.ask(
        "SELECT flight, origin FROM flights ORDER BY flight LIMIT 3", default_format="Parquet"
    ).body
    assert pq.read_table(io.BytesIO(parquet)).to_pylist()[0] == {"flight": 0, "origin": "EWR"}
    arrow = endpoint.ask(
        "SELECT flight, origin FROM flights ORDER BY flight LIMIT 3", default_format="ArrowStream"
    )
    assert pl.from_arrow(pa.ipc.open_stream(arrow.body).read_all()).height == 3
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("asked", "way", "unpack"),
    [
        ("gzip, deflate, br, zstd", "zstd", lambda d: bytes(cramjam.zstd.decompress(d))),
        ("lz4,zstd,gzip", "lz4", lambda d: bytes(cramjam.lz4.decompress(d))),
        ("gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("gzip;q=0, deflate;q=0.5", "deflate", zlib.decompress),
        ("br", "", bytes),
        ("", "", bytes),
    ],
)
def test_compressed_answers(endpoint: Served, asked: str, way: str, unpack) -> None:
    answer = endpoint.ask(
        "SELECT number FROM numbers(5000)", headers={"Accept-Encoding": asked} if asked else {}
    )
    assert answer.headers.get("content-encoding", "") == way
    assert unpack(answer.body).decode().count("\n") == 5000
    assert (
        "content-encoding"
        not in endpoint.ask("SELECT 1", headers={"Accept-Encoding": asked} if asked else {}).headers
    )


def test_settings_change_how_values_come_out(endpoint: Served) -> None:
    assert (
        endpoint.ask(
            "SELECT toUInt64(5) AS x FORMAT JSONEachRow",
            output_format_json_quote_64bit_integers="1",
        ).text
        == '{"x":"5"}\n'
    )
    assert (
        endpoint.ask("SELECT toUInt64(5) AS x FORMAT JSONEachRow").text == '{"x":5}\n'
    )  # and for nobody else
    assert (
        endpoint.ask("SELECT toHour(toDateTime(1767310200))", session_timezone="Europe/Berlin").text
        == "0\n"
    )
    assert endpoint.ask("SELECT toHour(toDateTime(1767310200))").text == "23\n"
    assert endpoint.ask("SELECT 1", session_timezone="Nowhere/Land").status == 400
    assert endpoint.ask("SELECT 1", session_timezone="../../etc/passwd").status == 403


def test_errors_in_the_words_of_the_question(world: World, endpoint: Served) -> None:
    for sql in (
        "SELECT nope FROM data.flights",
        "SELECT count(nope) FROM flights AS f",
        "SELECT nope FROM system.tables",
        "EXPLAIN SELECT nope FROM kpi.mean_delay",
    ):
        answer = endpoint.ask(sql)
        assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (400, "47"), (
            answer.text
        )
        assert "(UNKNOWN_IDENTIFIER)" in answer.text
        assert not any(hidden in answer.text for hidden in ("sx_", str(world.folder), "/*")), (
            answer.text
        )
    deep = endpoint.ask("SELECT " + "+".join("1" * 20_000))
    assert deep.text.startswith("Code: 62. DB::Exception: AST is too deep. Maximum: 1000. "), (
        deep.text
    )
    assert "formatQuery" not in deep.text
    assert "did you mean `flights`" in endpoint.ask("SELECT * FROM data.flihgts").text
    assert "did you mean" in endpoint.ask("SELECT cuont() FROM data.flights").text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '\\xff'",
        "SELECT `\\xff` FROM numbers(1)",
        "SELECT map('a', 1) FORMAT Avro",
        "SELECT sumState(1) FORMAT Parquet",
        "SELECT 1e400",
        f"SELECT {'9' * 5000}.{'9' * 5000}e{'9' * 50}",
        f"SELECT {'(' * 2000}1{')' * 2000}",
        f"SELECT {'-' * 5000}1",
        f"SELECT {'[' * 500}1{']' * 500} FORMAT Arrow",
        "SELECT toDateTime64('99999-13-41 00:00:00', 9) FORMAT JSON",
        "SELECT addYears(toDateTime('2020-01-01'), 9000000000000000000)",
        "SELECT throwIf(1)",
    ],
)
def test_an_error_of_the_question_is_no_error_of_ours(endpoint: Served, sql: str) -> None:
    """Drivers ask again by themselves after a 5xx."""
    before = endpoint.app.health()["queries_failed"]
    assert endpoint.send(body=sql).status in (200, 400)
    assert endpoint.app.health()["queries_failed"] == before


def test_what_ends_in_an_error_of_ours_is_counted(
    endpoint: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.answering._answerer._guard, "judge", lambda *_a, **_k: 1 / 0)
    before = endpoint.app.health()["queries_failed"].get("SX-SQL-019", 0)
    assert endpoint.send(body="SELECT 1").status == 500
    assert endpoint.app.health()["queries_failed"]["SX-SQL-019"] == before + 1


def test_what_waits_to_be_put_in_is_seen(endpoint: Served) -> None:
    endpoint.flushed = 0
    assert endpoint.ask("SELECT count() FROM data.flights").status == 200
    assert endpoint.flushed == 0
    assert (
        endpoint.ask(
            "SELECT count() FROM data.flights, (SELECT 1 FROM obs.logs LIMIT 1) AS one"
        ).status
        == 200
    )
    assert endpoint.flushed == 1


def test_a_defect_is_answered_and_tells_nothing(
    endpoint: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endpoint.answering._answerer._guard, "judge", lambda *_a, **_k: 1 / 0)
    answer = endpoint.ask("SELECT 1")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (500, "49")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in capfd.readouterr().err


# ---------------------------------------------------------------- limits


def test_time(world: World, endpoint: Served) -> None:
    answer = endpoint.ask(FOREVER, max_execution_time="1")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (408, "159")
    assert running(world) == 0


def test_time_from_outside(world: World, endpoint: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that does not look at its clock is stopped as well."""
    monkeypatch.setattr(limits, "SQL_SECONDS_MAX", -1.9)
    answer = endpoint.ask(FOREVER)
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (408, "159")
    assert "SX-SQL-015" in answer.text
    assert running(world) == 0


def test_rows_memory_and_size(endpoint: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        endpoint.ask("SELECT number FROM numbers(2000)", max_result_rows="1000").headers[
            "x-clickhouse-exception-code"
        ]
        == "396"
    )
    assert (
        endpoint.ask("SELECT sum(length(body)) FROM obs.logs", max_rows_to_read="10").headers[
            "x-clickhouse-exception-code"
        ]
        == "158"
    )
    assert (
        endpoint.ask(
            "SELECT groupArray(number) FROM numbers(100000000)", max_memory_usage="1"
        ).headers["x-clickhouse-exception-code"]
        == "241"
    )
    assert (
        endpoint.ask("SELECT 1", max_memory_usage=str(1 << 60)).status == 200
    )  # nobody raises a limit
    assert (
        endpoint.ask("SELECT repeat('x', 1000000) FROM numbers(200)").headers[
            "x-clickhouse-exception-code"
        ]
        == "396"
    )


def test_who_goes_away_is_not_worked_for(world: World, endpoint: Served) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port)) as link:
        link.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: sxt_viewer\r\nContent-Length: %d\r\n\r\n%s"
            % (len(FOREVER), FOREVER.encode())
        )
        until(lambda: running(world) == 1)
        assert endpoint.app.queue() == (1, 0)
    until(lambda: running(world) == 0 and endpoint.app.queue() == (0, 0))


def test_one_caller_leaves_room_for_others_and_the_queue_is_bounded(
    world: World, endpoint: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = []
    turns = endpoint.app._turns
    monkeypatch.setattr(turns, "_waiting_max", 2)
    text = FOREVER.encode()

    def start(token: bytes) -> None:
        link = socket.create_connection(("127.0.0.1", endpoint.port))
        link.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (token, len(text), text)
        )
        links.append(link)

    try:
        for _ in range(limits.SQL_OF_ONE_MAX + 2):
            start(b"sxt_viewer")
        until(lambda: endpoint.app.queue() == (limits.SQL_OF_ONE_MAX, 2))
        assert endpoint.ask("SELECT 1", token="sxt_other").text == "1\n"
        full = endpoint.ask("SELECT 1")
        assert (
            full.status,
            full.headers["x-clickhouse-exception-code"],
            full.headers["retry-after"],
        ) == (503, "202", "1")
        links.pop().close()  # one that waits goes away: its place is free
        until(lambda: endpoint.app.queue() == (limits.SQL_OF_ONE_MAX, 1))
        links.pop(0).close()  # one that runs goes away: the one that waits has its turn
        until(
            lambda: (
                endpoint.app.queue() == (limits.SQL_OF_ONE_MAX, 0)
                and running(world) == limits.SQL_OF_ONE_MAX
            )
        )
    finally:
        for link in links:
            link.close()
    until(lambda: endpoint.app.queue() == (0, 0))


def test_whoever_waits_too_long_is_told(
    world: World, endpoint: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.app._turns, "_wait_s", 0.0)
    monkeypatch.setattr(endpoint.app._turns, "_of_one", 0)
    answer = endpoint.ask("SELECT 1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")


def test_a_slow_reader_does_not_hold_others_up(endpoint: Served) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port)) as link:
        text = b"SELECT repeat('x', 1000) FROM numbers(50000)"
        link.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: sxt_viewer\r\nContent-Length: %d\r\n\r\n%s"
            % (len(text), text)
        )
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        assert endpoint.ask("SELECT 1").text == "1\n"
    until(lambda: endpoint.app.queue() == (0, 0))
