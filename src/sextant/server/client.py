"""The coordinator's hand in the telemetry process: its internal door, over HTTP on this machine."""

import http.client
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any

import msgspec

from sextant.formats import clickhouse_json
from sextant.kernel.errors import WorldError, from_problem

_TIMEOUT_S = 60.0
# what answers SQL: query, format, parameters, role and person of whoever asks
Ask = Callable[[str, str, Mapping[str, str], str, str], bytes]


class TelemetryClient:
    """One connection for each thread; safe to call from several."""

    def __init__(self, ingest: str, sql: str, secret: str) -> None:
        self.ingest, self.sql, self._secret = ingest, sql, secret
        self._local = threading.local()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        door: str = "",
    ) -> bytes:
        """Return the body of the answer. WorldError when telemetry does not answer; its own error
        when it does."""
        return self._exchange(method, path, body, headers, door)[0]

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        door: str,
    ) -> tuple[bytes, Message]:
        """Return body and headers of the answer."""
        address = urllib.parse.urlsplit(door or self.ingest).netloc
        links: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("links", {})
        sent = {
            "X-Sextant-Internal": self._secret,
            "Content-Type": "application/json",
            **(headers or {}),
        }
        for attempt in (0, 1):
            fresh = address not in links
            link = links.get(address) or http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
            links[address] = link
            try:
                link.request(method, path, body=body, headers=sent)
                answer = link.getresponse()
                data = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                link.close()
                links.pop(address, None)
                if attempt == 0 and not fresh:
                    continue  # it was restarted, or had closed an idle connection
                raise WorldError(
                    "SX-UP-020",
                    f"the server's process at {address} does not answer: {error}",
                    hint="the supervisor starts it again; try in a moment",
                    retry_after_s=1.0,
                ) from error
        if answer.status >= 400:
            try:
                problem = msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.DecodeError:
                problem = {
                    "title": data[:2000].decode(errors="replace").strip()
                    or f"telemetry answered {answer.status}"
                }
            raise from_problem(problem, answer.status)
        return data, answer.headers

    def query(self, sql: str, params: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a question of ours."""
        data = self.send(
            "POST",
            "/internal/query",
            msgspec.json.encode({"sql": sql, "params": dict(params or {}), "form": "JSONEachRow"}),
        )
        return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]

    def run(self, sql: str) -> None:
        """Run a statement of ours."""
        self.send("POST", "/internal/run", msgspec.json.encode({"sql": sql}))

    def insert(self, table: str, rows: bytes, token: str) -> None:
        """Append rows (JSON, one on each line) to a table of the feed; the same token once more
        adds nothing."""
        self.send(
            "POST",
            f"/internal/rows/{table}",
            rows,
            {"Content-Type": "application/x-ndjson", "X-Token": token},
        )

    def ask(
        self, sql: str, form: str, params: Mapping[str, str], role: str, person: str = ""
    ) -> bytes:
        """Run an untrusted query at the SQL endpoint, which judges it. `JSON`, `JSONCompact` and
        `JSONEachRow` have exact values (`formats.clickhouse_json`); other formats are ClickHouse's.

        person  for whom; who asks for nobody shares with others of that kind
        params  plain values; ClickHouse reads them with the escapes of TSV
        """
        is_exact = form in clickhouse_json.FORMS
        query = urllib.parse.urlencode(
            {
                "default_format": clickhouse_json.FORMS.get(form, form),
                **clickhouse_json.SETTINGS,
                **(clickhouse_json.INSTANTS if is_exact else {}),
                **{f"param_{name}": _escaped(value) for name, value in params.items()},
            }
        )
        data, headers = self._exchange(
            "POST",
            f"/?{query}",
            sql.encode(),
            {
                "Content-Type": "text/plain",
                "X-Sextant-Role": role,
                "X-Sextant-Person": urllib.parse.quote(person),
            },
            self.sql,
        )
        return clickhouse_json.exact(data, headers["x-clickhouse-format"] or "", form)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.send("GET", "/internal/health"))
        return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
