"""The telemetry store on a ClickHouse server, over its HTTP interface: the same SQL and the same
tables as inside this process.

Tested over the wire against chDB behind an HTTP shim; not against a cluster. Source: ClickHouse
documentation, "HTTP interface".
"""

import base64
import urllib.parse
from collections.abc import Mapping

from sextant.http.client import Client, NoAnswerError
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
        self._host = parts.hostname
        netloc = parts.netloc.rpartition("@")[2]
        user = urllib.parse.unquote(parts.username or "default")
        password = urllib.parse.unquote(parts.password or "")
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._client = Client(f"{parts.scheme}://{netloc}", timeout_s=_TIMEOUT_S)

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
        self._client.close()

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
        headers = {
            "Authorization": self._authorization,
            "Content-Type": "application/octet-stream",
        }
        try:
            # inserts carry tokens, so a repetition adds nothing
            answer = self._client.send("POST", path, body, headers, resend=True)
        except NoAnswerError as error:
            raise StorageError(
                "SX-TELEMETRY-011",
                f"ClickHouse at {self._host} does not answer: {error}",
                hint="what was taken waits in the journal",
            ) from error
        if answer.status != 200:
            raise RuntimeError(answer.body[:4000].decode(errors="replace"))
        return answer.body
