"""Connections that send no request, over real sockets."""

import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from served import Serving, serve

from sextant import testing
from sextant.http import connections as slow
from sextant.http.connections import HalfOpen, TimedProtocol, network_of

_OPS = (
    'import sextant as sx\n\nsx.project("shop", tz="UTC", owner=sx.team("shop"), '
    'environments=["dev"])\n'
)
_MOST = 4


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serving]:
    monkeypatch.setattr(slow, "HALF_OPEN_PER_ADDRESS_MAX", _MOST)
    monkeypatch.setattr(TimedProtocol, "half_open", HalfOpen())
    with testing.platform({"ops.py": _OPS}) as platform, serve(platform) as one:
        yield one


def connect(serving: Serving, source: str = "127.0.0.1") -> socket.socket:
    where = urllib.parse.urlsplit(serving.url)
    assert where.hostname is not None
    assert where.port is not None
    return socket.create_connection(
        (where.hostname, where.port), timeout=20, source_address=(source, 0)
    )


def is_answered(link: socket.socket) -> bool:
    link.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return link.recv(1000).startswith(b"HTTP/1.1 200")


def is_closed(link: socket.socket) -> bool:
    try:
        return link.recv(10) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127"])
def test_one_address_takes_so_many_places_without_a_request(serving: Serving, said: bytes) -> None:
    """If this fails, one sender that opens connections and says nothing takes every place of the
    server, for twenty seconds each."""
    with ExitStack() as stack:
        asked = stack.enter_context(connect(serving))
        assert is_answered(asked)
        other = stack.enter_context(connect(serving, "127.0.0.2"))
        other.sendall(said)
        waiting = [stack.enter_context(connect(serving)) for _ in range(_MOST + 3)]
        for link in waiting:
            link.sendall(said)
        for link in waiting[:3]:
            assert is_closed(link), "those that wait longest go"
        assert TimedProtocol.half_open.count() == _MOST + 1
        assert is_answered(stack.enter_context(connect(serving))), "whoever asks is answered"
        assert is_answered(asked), "a connection that has asked is not counted"
        rest = b"" if said else b"GET /healthz HTTP/1.1\r\nHost: 127"
        other.sendall(rest + b".0.0.1\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 200"), "another address is not counted"


def test_a_second_head_that_does_not_end_counts_again(serving: Serving) -> None:
    """If this fails, one request for each connection opens the way around the limit."""
    with ExitStack() as stack:
        links = []
        for _ in range(_MOST + 2):
            links.append(stack.enter_context(connect(serving)))
            assert is_answered(links[-1])  # before the next one: none of them is half open
        assert TimedProtocol.half_open.count() == 0
        for link in links:
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127")
        assert is_closed(links[0])
        assert is_closed(links[1])


def test_what_one_sender_has_of_addresses() -> None:
    """If this fails, an IPv6 sender has 2^64 addresses."""
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::2:3:4:5") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("not:an:address") == "not:an:address"
