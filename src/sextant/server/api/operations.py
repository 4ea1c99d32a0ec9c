"""One route for each operation of `Platform`.

A run and an undo are slow: a client that accepts `application/x-ndjson` gets a line for each step,
empty lines as signs of life, and last the result or the problem. A client that goes away does not
stop the work.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from sextant.app.operations import OPERATIONS, Platform
from sextant.app.operations.row import Operation
from sextant.app.remote import API
from sextant.formats.values import plain
from sextant.http.answers import JSON, NDJSON, Answer, problem
from sextant.http.request import Request
from sextant.http.routing import Route
from sextant.kernel.errors import Bug, Busy, SextantError
from sextant.kernel.limits import RUNS_AT_ONCE_MAX
from sextant.server.api.parameters import Parameters

_LIFE_S = 10.0  # so often a quiet stream sends a sign of life
FORMS = {
    "JSON": JSON,
    "JSONCompact": JSON,
    "JSONEachRow": NDJSON,
    "CSV": "text/csv",
    "CSVWithNames": "text/csv",
    "TSV": "text/tab-separated-values",
    "TSVWithNames": "text/tab-separated-values",
    "Arrow": "application/vnd.apache.arrow.file",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Parquet": "application/vnd.apache.parquet",
}
OperationsFor = Callable[[Request], Platform]


def operation_routes(operations_for: OperationsFor) -> list[Route]:
    """Return the routes. `operations_for` returns what the caller of a request may use; raises
    Denied."""
    slots = threading.BoundedSemaphore(RUNS_AT_ONCE_MAX)
    return [_route(operation, operations_for, slots) for operation in OPERATIONS]


def _route(
    operation: Operation, operations_for: OperationsFor, slots: threading.BoundedSemaphore
) -> Route:
    parameters = Parameters(operation)

    async def handle(request: Request) -> Answer:
        arguments = await parameters.read(request)
        call = getattr(operations_for(request), operation.name)
        if parameters.has_progress:
            return await _run(request, call, arguments, slots)
        result = await asyncio.to_thread(call, **arguments)
        if isinstance(result, bytes):
            form = str(arguments.get("form", ""))
            return Answer(200, result, FORMS.get(form, "application/octet-stream"))
        return _json(result)

    return Route(operation.method, API + operation.path, handle)


def _json(result: Any) -> Answer:
    return Answer(200, msgspec.json.encode(result, enc_hook=plain), JSON)


async def _run(
    request: Request,
    call: Callable[..., Any],
    arguments: dict[str, Any],
    slots: threading.BoundedSemaphore,
) -> Answer:
    """Run an operation in a thread of its own, whether or not the client waits for it. Busy when
    RUNS_AT_ONCE_MAX run already."""
    if not slots.acquire(blocking=False):
        raise Busy(
            "SX-API-004",
            f"{RUNS_AT_ONCE_MAX} runs are under way already",
            hint="wait for one to end, then ask again",
            retry_after_s=5.0,
        )
    messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            result = call(**arguments, progress=lambda done: messages.put(("done", done)))
            messages.put(("result", result))
        except SextantError as error:
            messages.put(("problem", error))
        except Exception as error:
            bug = defect()
            bug.__cause__ = error
            messages.put(("problem", bug))
        finally:
            slots.release()

    threading.Thread(target=work, name="sextant-api-run", daemon=True).start()
    if NDJSON in request.headers.get("accept", ""):
        return Answer(200, content_type=NDJSON, pieces=_lines(messages, request.state.hide))
    while True:
        kind, value = await asyncio.to_thread(messages.get)
        if kind == "problem":
            raise value
        if kind == "result":
            return _json(value)


async def _lines(
    messages: "queue.SimpleQueue[tuple[str, Any]]", hide: Callable[[str], str] | None
) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            kind, value = await asyncio.to_thread(messages.get, True, _LIFE_S)
        except queue.Empty:
            yield b"\n"
            continue
        shown = problem(value, hide=hide) if kind == "problem" else value
        yield msgspec.json.encode({kind: shown}, enc_hook=plain) + b"\n"
        if kind != "done":
            return


def defect() -> Bug:
    """Return the error of a request that met a defect; the log has the traceback."""
    return Bug(
        "SX-API-005",
        "a promise inside Sextant was broken",
        hint="please report it; the server's log has the traceback",
    )
