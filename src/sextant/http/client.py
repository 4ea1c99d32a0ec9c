"""HTTP requests that leave this process: connections that are reused, timeouts, bounded answers,
retries. Synchronous; callers turn NoAnswerError into an error of their own.

Plain `http.client`, so that the command line starts fast.
"""

import http.client
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, NamedTuple

_RETRIED = (429, 502, 503, 504)
_BYTES_MAX = 1 << 30


class NoAnswerError(Exception):
    """The peer cannot be reached, or the connection broke."""


class TooLongError(NoAnswerError):
    """The answer is longer than the caller takes."""


class Reply(NamedTuple):
    """An answer that has been read."""

    status: int
    headers: Message
    body: bytes


class Retries(NamedTuple):
    """How often a request is repeated that was not answered, or with 429, 502, 503 or 504. Only for
    requests that may be repeated.

    times    after the first try
    first_s  the pause before the first retry; each further one is twice as long, and up to half of
             it is left out at random. A longer Retry-After of the answer is obeyed
    most_s   the longest pause
    """

    times: int
    first_s: float = 0.2
    most_s: float = 10.0

    def pause_s(self, index: int, reply: Reply | None, rng: random.Random) -> float:
        """Return the pause before retry `index` (from 0), in seconds."""
        pause_s = self.first_s * float(2**index) * (1 - rng.random() / 2)
        asked = reply.headers.get("retry-after", "") if reply else ""
        if asked.isdigit():
            pause_s = max(pause_s, float(asked))
        return min(pause_s, self.most_s)


class Client:
    """Requests to one peer, safe to use from several threads: each has a connection of its own.

    url      http(s)://host[:port][/prefix]; every path is appended to it
    resolve  returns the IP address to connect to; raises for one that must not be asked
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        resolve: Callable[[str, int], str] | None = None,
        wait: Callable[[float], object] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_secure else 80)
        self._netloc = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._timeout_s, self._resolve = timeout_s, resolve
        self._wait, self._rng = wait, rng or random.SystemRandom()
        self._local = threading.local()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        bytes_max: int = _BYTES_MAX,
        resend: bool = False,
        retries: Retries = Retries(0),  # noqa: B008 - immutable
    ) -> Reply:
        """Send a request and return the answer, whatever its status.

        resend  send once more when a connection that was open turns out to be closed
        Raises  NoAnswerError; TooLongError for an answer longer than `bytes_max`
        """
        for index in range(retries.times + 1):
            reply: Reply | None = None
            try:
                reply = self._exchange(method, path, body, headers, bytes_max, resend=resend)
            except TooLongError:
                raise
            except NoAnswerError:
                if index == retries.times:
                    raise
            if reply is not None and (reply.status not in _RETRIED or index == retries.times):
                return reply
            self._wait(retries.pause_s(index, reply, self._rng))
        raise AssertionError

    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        resend: bool = False,
    ) -> http.client.HTTPResponse:
        """Send a request and return the answer, unread. It must be read to its end before the next
        request of this thread. See `send`."""
        was_open = self._link is not None
        try:
            return self._request(method, path, body, headers)
        except NoAnswerError as error:
            if not (resend and was_open) or isinstance(error.__cause__, TimeoutError):
                raise
            return self._request(method, path, body, headers)  # the peer had closed it

    def close(self) -> None:
        """Close the connection of this thread."""
        link = self._local.__dict__.pop("link", None)
        if link is not None:
            link.close()

    @property
    def _link(self) -> http.client.HTTPConnection | None:
        return self._local.__dict__.get("link")

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        bytes_max: int,
        *,
        resend: bool,
    ) -> Reply:
        answer = self.open(method, path, body, headers, resend=resend)
        try:
            data = answer.read(bytes_max + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswerError(str(error)) from error
        except BaseException:
            self.close()  # the rest of the answer would be taken for the next one
            raise
        if len(data) <= bytes_max and answer.length:  # read(size) does not say so
            self.close()
            raise NoAnswerError("the answer broke off")
        if len(data) > bytes_max:
            self.close()
            raise TooLongError(f"the answer is longer than {bytes_max:,} bytes")
        return Reply(answer.status, answer.headers, data)

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> http.client.HTTPResponse:
        sent = {"Host": self._netloc, "User-Agent": "sextant", **(headers or {})}
        try:
            link = self._link or self._connect()
            link.request(method, self._prefix + path, body=body, headers=sent)
            return link.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswerError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        link: http.client.HTTPConnection
        if self._resolve is not None:  # the address that was judged, whatever the name means next
            address = self._resolve(self._host, self._port)
            link = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
            link.sock = self._socket(address)
        elif self._is_secure:
            context = ssl.create_default_context()
            link = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=context
            )
        else:
            link = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        self._local.link = link
        return link

    def _socket(self, address: str) -> Any:
        plain = socket.create_connection((address, self._port), timeout=self._timeout_s)
        if not self._is_secure:
            return plain
        try:
            context = ssl.create_default_context()
            return context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise


def get(url: str, *, timeout_s: float) -> Reply:
    """Return the answer to a GET, over a connection of its own. NoAnswerError as for `Client`."""
    parts = urllib.parse.urlsplit(url)
    client = Client(f"{parts.scheme}://{parts.netloc}", timeout_s=timeout_s)
    try:
        return client.send("GET", urllib.parse.urlunsplit(("", "", parts.path, parts.query, "")))
    finally:
        client.close()
