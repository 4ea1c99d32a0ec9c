"""Requests that leave the process: connections, limits, retries."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

import pytest

from sextant.http.client import Client, NoAnswerError, Reply, Retries, TooLongError, get

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 3\r\n\r\n"


class Peer:
    """A server that answers each connection's requests with scripted bytes; "" closes it."""

    def __init__(self, *scripts: tuple[bytes, ...]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._scripts = list(scripts)
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for script in self._scripts:
            link, _ = self._socket.accept()
            with link:
                for answer in script:
                    self.requests.append(link.recv(65536))
                    link.sendall(answer)

    def close(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), "fewer connections came than were expected"
        self._socket.close()


@contextmanager
def peer(*scripts: tuple[bytes, ...]) -> Iterator[Peer]:
    one = Peer(*scripts)
    yield one
    one.close()


def test_a_connection_is_reused() -> None:
    """If this fails, each request costs a connection."""
    with peer((OK, OK)) as one:
        client = Client(f"{one.url}/base/", timeout_s=10)
        assert [client.send("GET", "/a").body for _ in range(2)] == [b"ok", b"ok"]
        assert one.requests[0].startswith(b"GET /base/a HTTP/1.1\r\n")
        client.close()


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """If this fails, every request after a pause fails; or one that must not be sent twice is."""
    with peer((OK,), (OK,)) as one:
        client = Client(one.url, timeout_s=10)
        client.send("GET", "/")
        assert client.send("GET", "/", resend=True).body == b"ok"
        client.close()
    with peer((OK,)) as one:
        client = Client(one.url, timeout_s=10)
        client.send("POST", "/", b"x")
        with pytest.raises(NoAnswerError):
            client.send("POST", "/", b"x")


def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    """If this fails, a request that must come once comes twice, to a peer that has just died."""
    with peer((b"",), (OK,)) as one:
        client = Client(one.url, timeout_s=10)
        with pytest.raises(NoAnswerError):
            client.send("GET", "/", resend=True)
        assert client.send("GET", "/").body == b"ok"
        client.close()


def test_a_peer_that_hangs_is_not_asked_twice() -> None:
    """If this fails, a peer that hangs is waited for twice as long."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        answers = threading.Thread(target=lambda: accepted.append(server.accept()[0]))
        accepted: list[socket.socket] = []
        answers.start()
        opened = threading.Thread(target=lambda: (answers.join(), accepted[0].sendall(OK)))
        opened.start()
        assert client.send("GET", "/").body == b"ok"
        with pytest.raises(NoAnswerError):
            client.send("GET", "/", resend=True)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
        accepted[0].close()


def test_an_answer_has_an_end() -> None:
    """If this fails, a peer fills the memory, or the rest of its answer is taken for the next."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
    with peer((large,), (OK,)) as one:
        client = Client(one.url, timeout_s=10)
        with pytest.raises(TooLongError):
            client.send("GET", "/", bytes_max=99)
        assert client.send("GET", "/", bytes_max=2).body == b"ok"
        client.close()


def test_half_an_answer_is_none() -> None:
    """If this fails, an answer that broke off is taken for a whole one."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"
    with peer((half,)) as one, pytest.raises(NoAnswerError):
        get(f"{one.url}/", timeout_s=10)


def test_retries_come_after_growing_pauses() -> None:
    """If this fails, a peer that is busy is asked at once, for ever, or by all at the same time."""
    pauses: list[float] = []
    with peer((BUSY, b""), (OK,)) as one:
        client = Client(one.url, timeout_s=10, wait=pauses.append, rng=random.Random(1))
        assert client.send("GET", "/", retries=Retries(3)).body == b"ok"
        client.close()
    assert pauses[0] == 3.0, "as the peer asked"
    assert 0.2 < pauses[1] <= 0.4
    with peer((BUSY, BUSY)) as one:
        client = Client(one.url, timeout_s=10, wait=pauses.append)
        assert client.send("GET", "/", retries=Retries(1)).status == 503
        client.close()
    with peer((BUSY,)) as one:
        assert get(f"{one.url}/", timeout_s=10).status == 503, "one try, unless more are asked for"


def test_pauses_are_bounded_and_differ() -> None:
    """If this fails, a peer can make us wait for a day, or all clients come back together."""
    rng, retries = random.Random(1), Retries(9, first_s=1.0, most_s=30.0)
    headers = Message()
    headers["Retry-After"] = "86400"
    assert retries.pause_s(0, Reply(503, headers, b""), rng) == 30.0
    pauses = [retries.pause_s(index, None, rng) for index in range(8)]
    for index, pause_s in enumerate(pauses[:5]):
        assert 2**index / 2 < pause_s <= 2**index
    assert pauses[-1] == 30.0
    assert len({retries.pause_s(1, None, rng) for _ in range(10)}) == 10
