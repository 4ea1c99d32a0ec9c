"""Calls that leave the machine: only where they were meant to go."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from sextant.project.config import Scrape
from sextant.kernel.clock import ManualClock
from sextant.kernel.errors import SextantError, UsageError, WorldError
from sextant.http import untrusted
from sextant.http.untrusted import fetch
from sextant.server.feed.scrape import Scraper


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        kind = self.path.strip("/")
        self.send_response({"moved": 302, "gone": 404}.get(kind, 200))
        if kind == "moved":
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"x" * 5000 if kind == "large" else b"good 1\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    one = HTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{one.server_port}"
    one.shutdown()
    one.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f000001/",
    ],
)
def test_addresses_of_this_network_are_not_asked(url: str) -> None:
    """If this fails, a configured URL reaches what only this machine may reach."""
    with pytest.raises(SextantError) as caught:
        fetch(url, timeout_s=1)
    assert caught.value.code in ("SX-OUT-005", "SX-OUT-002"), caught.value


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://224.0.0.1/",
        "http://0.0.0.0/",
    ],
)
def test_the_machinery_of_the_network_is_never_asked(url: str) -> None:
    """If this fails, a scrape reads the cloud's credentials."""
    with pytest.raises(UsageError):
        fetch(url, private=True, timeout_s=1)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "http://user:password@example.com/",
        "//example.com/",
        "http://",
    ],
)
def test_what_is_no_address(url: str) -> None:
    """If this fails, something else than HTTP is done."""
    with pytest.raises(UsageError):
        fetch(url)


def test_a_name_with_one_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a name that answers twice differently leads inside (DNS rebinding)."""
    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)),
    ]
    monkeypatch.setattr(untrusted.socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1"):
        fetch("http://both.example/")


def test_redirects_are_not_followed_and_answers_have_an_end(server: str) -> None:
    """If this fails, a target sends us elsewhere, or fills the memory."""
    assert fetch(f"{server}/", private=True)[0] == b"good 1\n"
    with pytest.raises(WorldError, match="302"):
        fetch(f"{server}/moved", private=True)
    with pytest.raises(WorldError, match="404"):
        fetch(f"{server}/gone", private=True)
    with pytest.raises(WorldError, match="more than"):
        fetch(f"{server}/large", private=True, bytes_max=1000)


def test_targets_are_scraped_on_their_clocks(server: str) -> None:
    """If this fails, a target is asked too often, or a slow or dead one holds up the others."""
    sent: list[tuple[str, bytes]] = []
    done = threading.Semaphore(0)

    class Sender:
        def send(
            self,
            method: str,
            path: str,
            body: bytes | None = None,
            headers: dict[str, str] | None = None,
        ) -> bytes:
            del method, headers
            sent.append((path, body or b""))
            if b"scrape_duration" in (body or b""):
                done.release()
            return b""

    clock = ManualClock(1_700_000_000_000_000_000)
    scraper = Scraper(
        [
            Scrape(job="a", url=server, private=True, every="15s"),
            Scrape(job="b", url=f"{server}/gone", private=True, every="60s"),
        ],
        Sender(),
        clock,
    )
    for seconds, jobs in ((0.0, ["a", "b"]), (10.0, []), (5.0, ["a"]), (45.0, ["a", "b"])):
        clock.wait(seconds)
        sent.clear()
        scraper.step()
        for _ in jobs:
            assert done.acquire(timeout=30)
        assert sorted({path.partition("job=")[2][0] for path, _ in sent}) == jobs
    assert "b" in scraper.problems
    assert any(b"up 0" in body for _, body in sent)
    scraper.close()
