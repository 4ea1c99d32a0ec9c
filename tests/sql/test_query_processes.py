"""Strangers' queries in processes of their own: what they see of a store that is written meanwhile,
and what becomes of one that is left, late or dead. On a real telemetry process."""

import json
import os
import signal
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from served import Serving, serve
from sql_endpoint import DIGESTS, World
from telemetry_process import Answer, Telemetry, telemetry

from sextant import testing
from sextant.kernel import limits
from sextant.server.sql.catalogue import LiveTable
from sextant.server.sql.query_process import FOLDER

_OPS = (
    'import sextant as sx\n\nsx.project("shop", tz="UTC", owner=sx.team("shop", '
    'members=["ann"]), environments=["dev"])\n'
)
# one block, quadratic: ClickHouse looks at its clock only when it has ended
_HEAVY = "SELECT " + " + ".join(
    f"editDistance(repeat('ab', 3000{n}), repeat('cd', 30000))" for n in range(9)
)
_LINES = "/v1/jsonlines?asset=service:shop"


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Serving]:
    with testing.platform({"ops.py": _OPS}) as platform, serve(platform) as serving:
        yield serving


@pytest.fixture(scope="module")
def process(coordinator: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    with telemetry(tmp_path_factory.mktemp("apart"), api=coordinator.url) as one:
        yield one


@pytest.fixture(scope="module")
def token(coordinator: Serving) -> str:
    return coordinator.token("operator", name="app", teams=("shop",), scopes=("ingest", "query"))


@pytest.fixture(scope="module")
def other(coordinator: Serving) -> str:
    return coordinator.token("viewer", name="bob", kind="person", scopes=("query",))


def ask(process: Telemetry, token: str, sql: str) -> Answer:
    return process.post("/", sql.encode(), token=token, endpoint=process.sql)


def log(process: Telemetry, token: str, *messages: str) -> None:
    body = b"\n".join(json.dumps({"message": one}).encode() for one in messages)
    sent = process.post(_LINES, body, token=token, content_type="application/x-ndjson")
    assert sent.status == 200


def leave(process: Telemetry, token: str, sql: str) -> Callable[[], None]:
    """Ask, and return what goes away without waiting for the answer."""
    address = urllib.parse.urlsplit(process.sql)
    link = socket.create_connection((str(address.hostname), int(address.port or 0)))
    body = sql.encode()
    link.sendall(
        b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + token.encode()
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    return link.close


def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never comes to that"
        time.sleep(0.01)


def processes(process: Telemetry) -> set[int]:
    folder = Path(process.start["folder"]) / "tmp"
    return {int(one.name.removeprefix(FOLDER)) for one in folder.glob(f"{FOLDER}*")}


def test_who_has_written_sees_it_at_once(process: Telemetry, token: str) -> None:
    for n in range(1, 21):
        log(process, token, f"line {n}")
        found = ask(process, token, "SELECT count() FROM obs.logs WHERE body LIKE 'line %'")
        assert (found.status, found.body) == (200, f"{n}\n".encode())


def test_others_see_it_soon(process: Telemetry, token: str, other: str) -> None:
    question = "SELECT count() FROM obs.logs WHERE body = 'for others'"
    assert ask(process, other, question).body == b"0\n"
    log(process, token, "for others")
    until(lambda: ask(process, other, question).body == b"1\n")


def test_what_is_read_is_whole_while_parts_are_merged_and_removed(
    process: Telemetry, token: str
) -> None:
    """Rows are written one by one, merged again and again, and what was merged is removed at once,
    which it never is: each answer has all that was acknowledged before it."""
    process.client.run(
        "ALTER TABLE obs.logs MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, "
        "max_cleanup_delay_period = 1"
    )
    stop, problems = threading.Event(), list[Any]()

    def merge() -> None:
        try:
            while not stop.is_set():
                process.client.run("OPTIMIZE TABLE obs.logs FINAL")
        except Exception as error:
            problems.append(error)

    merging = threading.Thread(target=merge)
    merging.start()
    try:
        for n in range(1, 101):
            log(process, token, f"merged {n}")
            found = ask(
                process,
                token,
                "SELECT count(), uniqExact(body), max(length(body)) > 0 FROM obs.logs "
                "WHERE startsWith(body, 'merged ')",
            )
            assert (found.status, found.body) == (200, f"{n}\t{n}\t1\n".encode())
    finally:
        stop.set()
        merging.join()
        process.client.run(
            "ALTER TABLE obs.logs RESET SETTING old_parts_lifetime, cleanup_delay_period, "
            "max_cleanup_delay_period"
        )
    assert problems == []


def test_parts_outlive_every_query(process: Telemetry) -> None:
    (row,) = process.rows(
        "SELECT value FROM system.merge_tree_settings WHERE name = 'old_parts_lifetime'"
    )
    assert float(row["value"]) >= 2 * limits.SQL_SECONDS_MAX
    own = process.rows(
        "SELECT name FROM system.tables WHERE create_table_query LIKE '%old_parts_lifetime%'"
        " AND database IN ('obs', 'fed')"
    )
    assert own == []


def test_a_reader_writes_nothing(process: Telemetry, other: str) -> None:
    for sql in (
        "INSERT INTO obs.logs (body) VALUES ('x')",
        "ALTER TABLE obs.logs DELETE WHERE 1",
        "DROP TABLE obs.logs",
        "DETACH TABLE obs.logs",
        "SYSTEM STOP MERGES",
    ):
        assert ask(process, other, sql).status in (400, 403)


def test_whoever_goes_away_frees_his_place(process: Telemetry, other: str) -> None:
    ask(process, other, "SELECT 1")
    leaving = [leave(process, other, _HEAVY) for _ in range(limits.SQL_OF_ONE_MAX)]
    until(lambda: process.client.health()["queries_running"] == limits.SQL_OF_ONE_MAX)
    before = process.client.health()["queries_stopped"]
    for go in leaving:
        go()
    until(lambda: process.client.health()["queries_running"] == 0)
    assert ask(process, other, "SELECT 'here'").body == b"here\n"
    assert process.client.health()["queries_stopped"] == before + limits.SQL_OF_ONE_MAX


def test_one_person_leaves_places_to_others(
    process: Telemetry, coordinator: Serving, other: str
) -> None:
    """However many tokens he has."""
    mine = [coordinator.token("viewer", name=f"mine-{n}", scopes=("query",)) for n in range(3)]
    leaving = [leave(process, one, _HEAVY) for one in mine]
    until(lambda: process.client.health()["queries_waiting"] == 1)
    assert process.client.health()["queries_running"] == limits.SQL_OF_ONE_MAX
    assert ask(process, other, "SELECT 'not held up'").body == b"not held up\n"
    through_the_api = process.client.ask("SELECT 'apart'", "TSV", {}, "viewer", "tester")
    assert through_the_api == b"apart\n"
    for go in leaving:
        go()
    until(lambda: process.client.health()["queries_running"] == 0)


def test_a_process_that_dies_is_an_error_of_its_own_query(process: Telemetry, other: str) -> None:
    ask(process, other, "SELECT 1")
    before = process.client.health()["query_processes_died"]
    answers: list[Answer] = []
    idle = {pid: worked_s(pid) for pid in processes(process)}
    asking = threading.Thread(target=lambda: answers.append(ask(process, other, _HEAVY)))
    asking.start()

    def at_work() -> list[int]:
        return [pid for pid in idle if worked_s(pid) > idle[pid] + 0.3]

    until(lambda: bool(at_work()))
    for pid in at_work():
        os.kill(pid, signal.SIGKILL)
    asking.join()
    assert answers[0].status == 400
    assert b"SX-SQL-034" in answers[0].body
    assert ask(process, other, "SELECT 'here'").body == b"here\n"
    assert process.client.health()["query_processes_died"] == before + 1


def test_a_release_is_seen_by_the_next_query_in_every_process(
    process: Telemetry, other: str
) -> None:
    """Two tables that are published together are never seen apart, whichever process answers."""
    world = World()
    stop, problems = threading.Event(), list[Any]()
    seen: list[bytes] = []
    try:
        target = Path(process.start["lake"])
        pairs = []
        for size in (1, 2, 3, 4):
            pairs.append(
                [
                    world.live(name, pa.table({"n": list(range(size))}), f"{size}{name}" * 10)
                    for name in ("a", "b")
                ]
            )
        for name in ("a", "b"):
            (world.lake.root / name).rename(target / name)
        publish(process, pairs[0])

        def read() -> None:
            while not stop.is_set():
                found = ask(
                    process, other, "SELECT (SELECT count() FROM a) - (SELECT count() FROM b)"
                )
                (seen if found.status == 200 else problems).append(found.body)

        readers = [threading.Thread(target=read) for _ in range(limits.SQL_OF_ONE_MAX)]
        for reader in readers:
            reader.start()
        for turn in range(20):
            publish(process, pairs[turn % 4])
            found = process.client.ask("SELECT count() FROM a", "TSV", {}, "viewer")
            assert int(found) == turn % 4 + 1
        stop.set()
        for reader in readers:
            reader.join()
    finally:
        stop.set()
        world.close()
    assert problems == []
    assert set(seen) == {b"0\n"}


def publish(process: Telemetry, tables: list[LiveTable]) -> None:
    process.client.send(
        "POST",
        "/internal/tables",
        msgspec.json.encode({"env": "dev", "tables": tables}),
    )


def test_those_that_nobody_needs_are_few(process: Telemetry) -> None:
    until(lambda: len(processes(process)) <= limits.SQL_WARM_MAX)


def test_none_outlives_the_telemetry_process(tmp_path: Path, coordinator: Serving) -> None:
    secret = coordinator.token("viewer", name="last", scopes=("query",))
    with telemetry(tmp_path, api=coordinator.url) as one:
        assert ask(one, secret, "SELECT 1").body == b"1\n"
        (pid,) = processes(one)
        one.kill()
        until(lambda: not alive(pid))
        one.begin()
        assert processes(one) == set()
        assert ask(one, secret, "SELECT 2").body == b"2\n"


def worked_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_its_starter_the_telemetry_process_begins_anew(
    tmp_path: Path, coordinator: Serving
) -> None:
    """What starts query processes is a process too, and may be killed."""
    secret = coordinator.token("viewer", name="starter", scopes=("query",))
    with telemetry(tmp_path, api=coordinator.url) as one:
        assert ask(one, secret, "SELECT 1").body == b"1\n"
        assert one.child.process
        main = one.child.process.pid
        (starter,) = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        (pid,) = processes(one)
        began = worked_s(pid)
        go = leave(one, secret, _HEAVY)
        until(lambda: worked_s(pid) > began + 0.3)  # also one that is at work ends with it
        os.kill(int(starter), signal.SIGKILL)
        until(lambda: not alive(pid), seconds=10)
        go()
        one.child.process.wait(30)
        until(lambda: not alive(pid))
        one.begin()
        assert ask(one, secret, "SELECT 2").body == b"2\n"


def test_what_a_greedy_query_leaves_behind_is_not_the_next_ones_matter(
    tmp_path: Path, coordinator: Serving
) -> None:
    """A process keeps what its allocator has mapped; the kernel's limit then stops others."""
    secret = coordinator.token("viewer", name="greedy", scopes=("query",))
    with telemetry(tmp_path, api=coordinator.url) as one:
        assert ask(one, secret, "SELECT sum(number) FROM numbers(10)").body == b"45\n"
        (pid,) = processes(one)
        greedy = ask(one, secret, "SELECT length(groupArray(number)) FROM numbers(1000000000)")
        assert (greedy.status, b"MEMORY_LIMIT_EXCEEDED" in greedy.body) == (400, True)
        until(lambda: not alive(pid))
        assert ask(one, secret, "SELECT sum(number) FROM numbers(10)").body == b"45\n"


def test_a_damaged_store_is_no_error_of_the_asker_and_tells_no_path(
    tmp_path: Path, coordinator: Serving, token: str, other: str
) -> None:
    with telemetry(tmp_path, api=coordinator.url) as one:
        log(one, token, "here")
        assert ask(one, token, "SELECT body FROM obs.logs").body == b"here\n"
        for file in (tmp_path / "telemetry" / "store").rglob("*.bin"):
            file.unlink()
        asked = ask(one, other, "SELECT body, attributes FROM obs.logs")
        assert asked.status == 503
        assert str(tmp_path).encode() not in asked.body
        assert ask(one, other, "SELECT 1").body == b"1\n"


def test_functions_of_the_store_can_be_called(process: Telemetry, other: str) -> None:
    """If this fails, a stranger cannot ask for the quantile of a histogram, or does not find the
    function that does it."""
    cells = "[(0., 1., 3.), (1., 2., 1.)]"
    assert ask(process, other, f"SELECT histogramQuantile(0.5, {cells}) * 3").body == b"2\n"
    named = "SELECT count() FROM system.functions WHERE name = 'histogramQuantile'"
    assert ask(process, other, named).body == b"1\n"


def test_packed_answers_of_a_confined_process(process: Telemetry, other: str) -> None:
    """If this fails, what packs an answer, or hashes it, cannot be loaded where queries run."""
    answer = process.post("/?compress=1", b"SELECT 1", token=other, endpoint=process.sql)
    assert (answer.status, answer.body[16]) == (200, 0x82)
