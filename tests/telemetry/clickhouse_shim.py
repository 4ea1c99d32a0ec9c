"""A ClickHouse server as far as our client needs one: chDB behind HTTP, in this process. Test only:
it writes, and asks nobody for a token."""

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chdb import _chdb


@contextmanager
def clickhouse(folder: Path) -> Iterator[str]:
    """Give the URL of a server."""
    lock = threading.Lock()
    main = _chdb.connect(str(folder))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802 - the library's name
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = dict(
                urllib.parse.parse_qsl(
                    urllib.parse.urlsplit(self.path).query, keep_blank_values=True
                )
            )
            sql, form = query.pop("query", ""), query.pop("default_format", "TSV")
            params = {
                name[6:]: query.pop(name) for name in list(query) if name.startswith("param_")
            }
            query.pop("wait_end_of_query", None)
            with lock:
                connection = main if "readonly" not in query else _chdb.connect(str(folder))
                try:
                    for name, value in query.items():
                        if name not in ("readonly", "insert_deduplication_token"):
                            connection.query(f"SET {name}='{value}'", "Null")
                    if "readonly" in query:
                        connection.query("SET readonly=1", "Null")
                    status, data = (
                        200,
                        self._run(
                            connection,
                            sql,
                            body,
                            form,
                            params,
                            query.get("insert_deduplication_token", ""),
                        ),
                    )
                except RuntimeError as error:
                    status, data = 500, str(error).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        @staticmethod
        def _run(
            connection: Any, sql: str, body: bytes, form: str, params: dict[str, str], token: str
        ) -> bytes:
            if not sql:
                return connection.query(body.decode(), form, params=params).bytes()  # type: ignore[no-any-return]
            file = folder.parent / "rows.bin"
            file.write_bytes(body)
            head, _, format_ = sql.rpartition(" FORMAT ")
            return connection.query(
                (
                    f"{head} FROM INFILE '{file}' SETTINGS insert_deduplication_token='{token}' "
                    f"FORMAT {format_}"
                ),
                "Null",
            ).bytes()  # type: ignore[no-any-return]

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://someone:secret@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        main.close()
