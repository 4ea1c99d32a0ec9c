"""Requests to addresses that somebody else chose: no address that the caller did not mean, no
redirect, no endless answer (SSRF).

A name is resolved once, every address is judged, and the connection goes to the address that was
judged.
"""

import ipaddress
import socket
import urllib.parse
from collections.abc import Mapping

from sextant.http.client import Client, NoAnswerError, Retries, TooLongError
from sextant.kernel.errors import UsageError, WorldError


def fetch(
    url: str,
    *,
    private: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
    bytes_max: int = 16 << 20,
    retries: int = 0,
) -> tuple[bytes, str]:
    """Return body and content type of a GET.

    private  whether the address may lie on this machine or its network; link-local ones (cloud
             metadata) never
    retries  how often it is tried again, after growing pauses, when there is no answer
    Raises   UsageError for an address that must not be asked; WorldError when it does not answer
             with 200 in time, or with too much
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(
            "SX-OUT-001",
            f"`{url}` is not an address that can be asked",
            hint="http(s)://host[:port]/path, without a user in it",
        )
    client = Client(
        f"{parts.scheme}://{parts.netloc}",
        timeout_s=timeout_s,
        resolve=lambda host, port: _judged(host, port, private=private),
    )
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        reply = client.send(
            "GET", path, headers=headers, bytes_max=bytes_max, retries=Retries(retries)
        )
    except TooLongError as error:
        raise WorldError(
            "SX-OUT-004",
            f"`{url}` answered with more than {bytes_max:,} bytes",
            hint="ask for less",
        ) from error
    except (NoAnswerError, ValueError) as error:
        raise WorldError(
            "SX-OUT-002",
            f"`{url}` does not answer: {error}",
            hint="is it up, and reachable from here?",
        ) from error
    finally:
        client.close()
    if reply.status != 200:
        raise WorldError(
            "SX-OUT-003",
            f"`{url}` answered {reply.status}",
            hint="redirects are not followed" if 300 <= reply.status < 400 else "",
        )
    return reply.body, reply.headers.get("content-type", "")


def _judged(host: str, port: int, *, private: bool) -> str:
    """Return the address of a name, when every address that it has may be asked."""
    try:
        found = {
            str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        }
    except OSError as error:
        raise WorldError(
            "SX-OUT-002", f"`{host}` has no address: {error}", hint="is the name right?"
        ) from error
    for text in found:
        one = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
            one = one.ipv4_mapped
        if (
            one.is_link_local
            or one.is_multicast
            or one.is_unspecified
            or (one.is_reserved and not one.is_loopback)
        ):
            raise UsageError(
                "SX-OUT-005",
                f"`{host}` is {text}, which is never asked",
                hint="such addresses are of this network's own machinery",
            )
        if not private and not one.is_global:
            raise UsageError(
                "SX-OUT-005",
                f"`{host}` is {text}, an address of this machine or its network",
                hint="`private = true` of the target allows it",
            )
    return min(found)
