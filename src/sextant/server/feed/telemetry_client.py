"""HTTP client for the telemetry process: its internal API, and SQL on behalf of a caller."""

import urllib.parse
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any

import msgspec

from sextant.formats import clickhouse_json
from sextant.http.client import Client, NoAnswerError
from sextant.kernel.errors import WorldError, from_problem

_TIMEOUT_S = 60.0
# what answers SQL: query, format, parameters, role and person of whoever asks
Ask = Callable[[str, str, Mapping[str, str], str, str], bytes]


class TelemetryClient:
    """Safe to use from several threads."""

    def __init__(self, ingest: str, sql: str, secret: str) -> None:
        self.ingest, self.sql, self._secret = ingest, sql, secret
        self._clients: dict[str, Client] = {}

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        url: str = "",
    ) -> bytes:
        """Return the body of the answer. WorldError when telemetry does not answer; its own error
        when it does."""
        return self._exchange(method, path, body, headers, url)[0]

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        url: str,
    ) -> tuple[bytes, Message]:
        """Return body and headers of the answer."""
        url = url or self.ingest
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = Client(url, timeout_s=_TIMEOUT_S)
        sent = {
            "X-Sextant-Internal": self._secret,
            "Content-Type": "application/json",
            **(headers or {}),
        }
        try:
            answer = client.send(method, path, body, sent, resend=True)
        except NoAnswerError as error:
            raise WorldError(
                "SX-UP-020",
                f"the server's process at {urllib.parse.urlsplit(url).netloc} does not answer: "
                f"{error}",
                hint="the supervisor starts it again; try in a moment",
                retry_after_s=1.0,
            ) from error
        if answer.status >= 400:
            try:
                problem = msgspec.json.decode(answer.body, type=dict[str, Any])
            except msgspec.DecodeError:
                problem = {
                    "title": answer.body[:2000].decode(errors="replace").strip()
                    or f"telemetry answered {answer.status}"
                }
            raise from_problem(problem, answer.status)
        return answer.body, answer.headers

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
