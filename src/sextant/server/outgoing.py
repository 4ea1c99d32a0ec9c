"""Calls that leave this machine, guarded: no address that the caller did not mean, no redirect, no
endless answer (SSRF).

A name is resolved once, every address is judged, and the connection goes to the address that was
judged.
"""

import http.client
import ipaddress
import socket
import ssl
import urllib.parse
from collections.abc import Mapping

from sextant.kernel.errors import UsageError, WorldError


def fetch(
    url: str,
    *,
    private: bool = False,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
    bytes_max: int = 16 << 20,
) -> tuple[bytes, str]:
    """Return body and content type of a GET.

    private  whether the address may lie on this machine or its network; link-local ones (cloud
             metadata) never
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
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _judged(parts.hostname, port, private=private)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    plain = socket.socket()
    try:
        plain = socket.create_connection((address, port), timeout=timeout_s)
        link: http.client.HTTPConnection
        link = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s)
        link.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
            if parts.scheme == "https"
            else plain
        )
        link.request(
            "GET", path, headers={"Host": parts.netloc, "User-Agent": "sextant", **(headers or {})}
        )
        answer = link.getresponse()
        if answer.status != 200:
            raise WorldError(
                "SX-OUT-003",
                f"`{url}` answered {answer.status}",
                hint="redirects are not followed" if 300 <= answer.status < 400 else "",
            )
        data = answer.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise WorldError(
                "SX-OUT-004",
                f"`{url}` answered with more than {bytes_max:,} bytes",
                hint="ask for less",
            )
        return data, answer.headers.get("content-type", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WorldError(
            "SX-OUT-002",
            f"`{url}` does not answer: {error}",
            hint="is it up, and reachable from here?",
        ) from error
    finally:
        plain.close()


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
