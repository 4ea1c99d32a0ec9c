"""The telemetry store on a ClickHouse server, over its HTTP interface: the same SQL and the same
tables as inside this process.

Tested over the wire against chDB behind an HTTP shim; not against a cluster. Source: ClickHouse
documentation, "HTTP interface".
"""

import base64
import http.client
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from sextant.kernel.errors import StorageError, UsageError
from sextant.kernel.ports import QueryLimits
from sextant.stores.telemetry import answers
from sextant.stores.telemetry.chdb import INSERT_SETTINGS, settings_of

_TIMEOUT_S = 120.0
_READ_ONLY = "1"


class ClickHouseStore:
    """`Telemetry` at a server. Safe to call from several threads; each has a connection of its own.

    url  http(s)://user:password@host:port; the user may make databases and tables, and his
         questions are asked with readonly=1
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                "SX-TELEMETRY-010",
                f"`{url}` is no address of a ClickHouse",
                hint="as in https://user:password@host:8443",
            )
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        user = urllib.parse.unquote(parts.username or "default")
        password = urllib.parse.unquote(parts.password or "")
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._local = threading.local()

    def run(self, sql: str, *, beside: bool = False) -> None:  # noqa: ARG002 - a server runs all
        try:
            self._send(sql.encode(), {})
        except RuntimeError as error:
            raise answers.of_writing(
                str(error), f"`{sql.split('(', maxsplit=1)[0].strip()[:80]}`"
            ) from error

    def insert(self, table: str, rows: bytes, *, token: str, form: str = "Native") -> None:
        settings = dict(setting.strip().split("=") for setting in INSERT_SETTINGS.split(","))
        try:
            self._send(
                rows,
                {
                    "query": f"INSERT INTO {table} FORMAT {form}",
                    "insert_deduplication_token": token,
                    **settings,
                },
            )
        except RuntimeError as error:
            raise answers.of_writing(str(error), f"rows of `{table}`") from error

    def query(
        self,
        sql: str,
        *,
        form: str = "Arrow",
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
    ) -> bytes:
        return self._ask(sql, form, params, limits or QueryLimits(seconds=0.0, memory_bytes=0), {})

    def ask(
        self,
        sql: str,
        *,
        form: str,
        params: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        return self._ask(
            sql, form, params, limits or QueryLimits(), {**(settings or {}), "readonly": _READ_ONLY}
        )

    def close(self) -> None:
        link = self._local.__dict__.pop("link", None)
        if link is not None:
            link.close()

    def _ask(
        self,
        sql: str,
        form: str,
        params: Mapping[str, str] | None,
        limits: QueryLimits,
        more: Mapping[str, str],
    ) -> bytes:
        settings = dict(setting.split("=") for setting in settings_of(limits, 0))
        try:
            return self._send(
                sql.encode(),
                {
                    "default_format": form,
                    **{f"param_{name}": value for name, value in (params or {}).items()},
                    **settings,
                    **more,
                },
            )
        except RuntimeError as error:
            raise answers.of_question(str(error)) from error

    def _send(self, body: bytes, query: Mapping[str, str]) -> bytes:
        """Return the answer's body. RuntimeError with ClickHouse's own text when it refuses;
        StorageError when it does not answer."""
        path = "/?" + urllib.parse.urlencode({"wait_end_of_query": "1", **query})
        for attempt in (0, 1):
            link = self._local.__dict__.get("link")
            fresh = link is None
            if link is None:
                kind: Any = (
                    http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
                )
                link = self._local.link = kind(
                    self._host,
                    self._port,
                    timeout=_TIMEOUT_S,
                    **({"context": ssl.create_default_context()} if self._secure else {}),
                )
            try:
                link.request(
                    "POST",
                    path,
                    body=body,
                    headers={
                        "Authorization": self._authorization,
                        "Content-Type": "application/octet-stream",
                    },
                )
                answer = link.getresponse()
                data: bytes = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == 0 and not fresh:
                    # an idle connection was closed; inserts carry tokens, so a repetition adds
                    # nothing
                    continue
                raise StorageError(
                    "SX-TELEMETRY-011",
                    f"ClickHouse at {self._host} does not answer: {error}",
                    hint="what was taken waits in the journal",
                ) from error
            except BaseException:
                self.close()  # the rest of its answer would be taken for the next one's
                raise
        if answer.status != 200:
            raise RuntimeError(data[:4000].decode(errors="replace"))
        return data
