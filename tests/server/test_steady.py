"""What must go on in a process that stays up: connections that say nothing, a scheduler that meets
a defect, threads that publish at once."""

import os
import signal
import socket
import threading
import urllib.parse
from typing import Any

import pytest
from served import serve
from shop_project import Shop

from sextant.ledger.versions import Versions
from sextant.kernel.nouns import Version
from sextant.http import connections
from sextant.server.processes import coordinator
from sextant.server.processes.coordinator import Coordinator
from sextant.server.processes.wire import CoordinatorStart

_OPS = """
@sx.dataset(partition=days)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key]})
"""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: 127",
        b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    ],
)
def test_a_client_that_says_no_more_is_let_go(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """If this fails, a few hundred connections that say nothing close the server to everybody."""
    shop.write(_OPS)
    monkeypatch.setattr(connections, "REQUEST_HEAD_S", 0.2)
    monkeypatch.setattr(connections, "REQUEST_BODY_S", 0.2)
    with shop.open() as platform, serve(platform) as one:
        where = urllib.parse.urlsplit(one.url)
        with socket.create_connection((where.hostname, where.port), timeout=20) as link:
            link.sendall(said)
            assert link.recv(1000) == b"", "the server ends it"
        with socket.create_connection((where.hostname, where.port), timeout=20) as link:
            for _ in range(2):
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert link.recv(1000).startswith(b"HTTP/1.1 200"), (
                    "who asks is answered, again and again"
                )


def test_a_scheduler_outlives_a_defect(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one unforeseen error ends the scheduler, and nobody notices that nothing runs
    any more."""
    shop.write(_OPS)
    with shop.open():
        pass
    tries: list[str] = []
    again = threading.Event()

    def watch(_p: Any, env: str, *_: Any, **__: Any) -> int:
        tries.append(env)
        if len(tries) == 1:
            raise ZeroDivisionError("a defect")
        again.set()
        return 0

    monkeypatch.setattr(coordinator, "watch", watch)
    one = Coordinator(
        CoordinatorStart(
            root=str(shop.root),
            api="",
            ingest="http://127.0.0.1:9",
            sql="http://127.0.0.1:9",
            secret="s",
        )
    )
    try:
        monkeypatch.setattr(
            one.platform.interrupts, "pause", lambda _: seen.append(one.health()["failing"])
        )
        seen: list[list[str]] = []
        one._schedule()
        assert again.is_set()
        assert tries == ["dev", "dev"]
        assert seen == [["scheduler of dev"]], "health says it meanwhile"
        assert one.health()["failing"] == []
    finally:
        one.scraper.close()
        one.platform.close()


def test_every_waiting_thread_is_woken(shop: Shop) -> None:
    """If this fails, of two environments' schedulers one takes the other's call, and what is due
    there waits for half a minute."""
    shop.write(_OPS)
    with shop.open() as p:
        p.interrupts.nudge()
        threads = [threading.Thread(target=p.interrupts.pause, args=(60,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)


def test_threads_that_publish_do_not_see_each_others_drafts(shop: Shop) -> None:
    """If this fails, of two runs that publish at once one does not find the versions that it is
    about to write."""
    shop.write(_OPS)
    with shop.open() as p:
        versions: Versions = p.core.versions
        mine = Version(asset="dataset:orders", digest="aa" * 32)
        versions.announce([mine])
        other = threading.Thread(target=versions.announce, args=((),))
        other.start()
        other.join()
        assert versions.get(mine.asset, mine.digest).digest == mine.digest
        versions.announce(())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interruption_is_enough_where_nothing_runs(shop: Shop, number: int) -> None:
    """If this fails, Ctrl-C of `sextant logs --follow` does nothing the first time, and a run is
    cut off instead of stopped."""
    shop.write(_OPS)
    with shop.open() as p:
        with p.interrupts.interruptible(), p.interrupts.stoppable():
            os.kill(os.getpid(), number)
            assert p.interrupts.interrupted(), "a run looks by itself"
        with pytest.raises(KeyboardInterrupt), p.interrupts.interruptible():
            os.kill(os.getpid(), number)
