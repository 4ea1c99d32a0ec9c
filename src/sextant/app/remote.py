"""`Platform` at a server: each method is one request to the HTTP API, made from the same table as
the server's routes.

Errors come back as the errors that they are.
"""

import http.client
import inspect
import re
import typing
import urllib.parse
from collections.abc import Callable
from typing import Any, cast

import msgspec

from sextant.app.operations import OPERATIONS, Platform
from sextant.app.operations.row import Operation
from sextant.http.client import Client, NoAnswerError
from sextant.kernel.answers import RunProgress
from sextant.kernel.errors import UsageError, WorldError, from_problem

API = "/api/v1"
# of a quiet connection; a run sends a line for each step and a sign of life in between
_TIMEOUT_S = 60.0


class Remote:
    """A connection to one server. The methods of `Platform` are added below, one for each
    operation."""

    def __init__(self, address: str, token: str) -> None:
        try:
            parts = urllib.parse.urlsplit(address if "//" in address else f"http://{address}")
            host, port = parts.hostname or "", parts.port
        except ValueError:  # brackets that do not fit, a port that is none
            host = ""
        if (
            not host
            or parts.scheme not in ("http", "https")
            or not re.fullmatch(r"[!-~]+", host + parts.path)
        ):
            raise UsageError(
                "SX-REMOTE-001",
                f"`{address}` is not the address of a server",
                hint="as in http://127.0.0.1:7780",
            )
        if token and not re.fullmatch(r"[!-~]+", token):
            raise UsageError(
                "SX-REMOTE-005",
                "SEXTANT_TOKEN holds what is no token",
                hint="one word that begins with sxt_; `sextant token create NAME` makes one",
            )
        self._host, self._port, self._token = host, port, token
        self._client = Client(parts.geturl(), timeout_s=_TIMEOUT_S)

    def close(self) -> None:
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> http.client.HTTPResponse:
        """Send a request and return the answer, unread. Raises the server's error, or WorldError
        when it cannot be reached."""
        headers = {"Accept": accept}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            # once more when the server had closed an idle connection
            answer = self._client.open(method, path, body, headers, resend=method == "GET")
        except NoAnswerError as error:
            raise WorldError(
                "SX-REMOTE-002",
                f"the server at {self._host}:{self._port or ''} does not answer: {error}",
                hint="is it up? `sextant up` in the project's folder starts it",
            ) from error
        if answer.status >= 400:
            data = answer.read()
            try:
                problem = msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.DecodeError:
                problem = {
                    "title": (
                        f"the server answered {answer.status}: "
                        f"{data[:200].decode(errors='replace')}"
                    )
                }
            raise from_problem(problem, answer.status)
        return answer


def connect(address: str, token: str) -> Platform:
    """Return the project at a server. UsageError for what is no address; nothing is sent yet."""
    return cast("Platform", Remote(address, token))


def _method(operation: Operation) -> Callable[..., Any]:
    like = getattr(Platform, operation.name)
    signature = inspect.signature(like)
    answer = typing.get_type_hints(like)["return"]
    in_path = {part[1:-1] for part in operation.path.split("/") if part.startswith("{")}

    def call(self: Remote, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        given = {name: value for name, value in bound.arguments.items() if name != "self"}
        progress = given.pop("progress", None)
        path = API + operation.path.format(
            **{name: urllib.parse.quote(str(given.pop(name)), safe="") for name in in_path}
        )
        body, content_type = None, "application/json"
        if operation.body:
            sent = given.pop(operation.body)
            content_type = given.pop("content_type", content_type)
            if not isinstance(sent, bytes):
                from sextant.kinds.dataset.bodies import as_json  # most commands do not need it

                sent, content_type = as_json(sent), "application/json"
            body = sent
        if operation.method == "GET" or operation.body:
            query = urllib.parse.urlencode(
                {
                    name: _text(value)
                    for name, value in given.items()
                    if value not in (None, "", (), [])
                },
                doseq=True,
            )
            path += f"?{query}" if query else ""
        elif given or operation.method == "POST":
            body = msgspec.json.encode(given)
        streams = "progress" in signature.parameters
        got = self.send(
            operation.method,
            path,
            body,
            accept="application/x-ndjson" if streams else "application/json",
            content_type=content_type,
        )
        if answer is bytes:
            return got.read()
        if streams:
            return _followed(got, progress, answer)
        return msgspec.json.decode(got.read(), type=answer)

    call.__name__, call.__doc__ = operation.name, like.__doc__
    return call


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


def _followed(
    got: http.client.HTTPResponse, progress: "Callable[[RunProgress], None] | None", answer: Any
) -> Any:
    """Read lines of progress until the one with the result, or with the error."""
    try:
        for line in iter(got.readline, b""):
            if not line.strip():
                continue  # a sign of life
            said = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            if "done" in said and progress is not None:
                progress(msgspec.json.decode(said["done"], type=RunProgress))
            if "result" in said:
                got.read()
                return msgspec.json.decode(said["result"], type=answer)
            if "problem" in said:
                got.read()  # else the next request finds a connection in the middle of an answer
                problem = msgspec.json.decode(said["problem"], type=dict[str, Any])
                raise from_problem(problem, int(problem.get("status", 500)))
    except OSError as error:
        raise WorldError(
            "SX-REMOTE-004",
            f"the connection broke: {error}",
            hint="the run goes on at the server: `sextant runs` shows it",
        ) from error
    raise WorldError(
        "SX-REMOTE-004",
        "the connection ended before the run did",
        hint="the run goes on at the server: `sextant runs` shows it",
    )


for _operation in OPERATIONS:
    setattr(Remote, _operation.name, _method(_operation))
