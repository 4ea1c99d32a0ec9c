"""One route for each operation of `Platform`, made from its signature: path and query parameters,
JSON bodies, answers and errors.

A run and an undo are slow: who accepts `application/x-ndjson` gets a line for each step, empty
lines as signs of life, and last the result or the problem. Whoever goes away does not stop the
work.
"""

import asyncio
import inspect
import queue
import threading
import typing
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, RequestBody, Schema
from litestar.openapi.spec import Operation as OpenAPIOperation
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from sextant.app.port import OPERATIONS, Operation, Platform, RunProgress
from sextant.app.remote import API
from sextant.formats.values import plain
from sextant.kernel.answers import Page
from sextant.kernel.errors import Bug, Busy, SextantError, UsageError
from sextant.kernel.limits import RUNS_AT_ONCE_MAX
from sextant.kinds.dataset.bodies import CONTENT_TYPES, JSON

_LIFE_S = 10.0  # so often a quiet stream says that it lives
_FORMS = {
    "JSON": "application/json",
    "JSONCompact": "application/json",
    "JSONEachRow": "application/x-ndjson",
    "CSV": "text/csv",
    "CSVWithNames": "text/csv",
    "TSV": "text/tab-separated-values",
    "TSVWithNames": "text/tab-separated-values",
    "Arrow": "application/vnd.apache.arrow.file",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Parquet": "application/vnd.apache.parquet",
}
OperationsFor = Callable[[Request[Any, Any, Any]], Platform]


def handlers(operations_for: OperationsFor) -> list[HTTPRouteHandler]:
    """Return the routes. `operations_for` gives what the principal of a request may use; raises
    Denied."""
    slow = threading.BoundedSemaphore(RUNS_AT_ONCE_MAX)
    return [_handler(operation, operations_for, slow) for operation in OPERATIONS]


def _handler(
    operation: Operation, operations_for: OperationsFor, slow: threading.BoundedSemaphore
) -> HTTPRouteHandler:
    like = getattr(Platform, operation.name)
    hints = typing.get_type_hints(like)
    signature = inspect.signature(like)
    streams = "progress" in signature.parameters
    wanted = {
        name: one for name, one in signature.parameters.items() if name not in ("self", "progress")
    }
    in_path = [name for name in wanted if f"{{{name}}}" in operation.path]
    path = API + operation.path
    for name in in_path:
        path = path.replace(f"{{{name}}}", f"{{p_{name}:{'int' if hints[name] is int else 'str'}}}")
    # Names get a letter before them: Litestar gives names such as `state` and `data` a meaning of
    # their own.
    parameters = [inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)]
    parameters += [
        inspect.Parameter(
            f"p_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[hints[name], PathParameter()],
        )
        for name in in_path
    ]
    body: type[msgspec.Struct] | None = None
    others = [name for name in wanted if name not in in_path]
    if operation.body:
        others = [name for name in others if name not in (operation.body, "content_type")]
    if operation.method == "GET" or operation.body:
        for name in others:
            one = wanted[name]
            hint = tuple[str, ...] if hints[name] == Sequence[str] else hints[name]
            parameters.append(
                inspect.Parameter(
                    f"q_{name}",
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=Annotated[
                        hint,
                        QueryParameter(name=name, required=one.default is inspect.Parameter.empty),
                    ],
                    default=one.default,
                )
            )
    elif others:
        fields: list[Any] = [
            (name, hints[name])
            if wanted[name].default is inspect.Parameter.empty
            else (name, hints[name], wanted[name].default)
            for name in others
        ]
        body = msgspec.defstruct(
            f"{_camel(operation.name)}Request", fields, kw_only=True, forbid_unknown_fields=True
        )
        optional = all(wanted[name].default is not inspect.Parameter.empty for name in others)
        parameters.append(
            inspect.Parameter(
                "data",
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_body(body | None if optional else body),
                **({"default": None} if optional else {}),
            )
        )

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        out = {name[2:]: value for name, value in given.items() if name[:2] in ("p_", "q_")}
        data = given.get("data")
        return out | ({name: getattr(data, name) for name in others} if data is not None else {})

    async def handle(**given: Any) -> Any:
        request = given.pop("request")
        target = getattr(operations_for(request), operation.name)
        called = arguments(given)
        if operation.body:
            called |= await _sent(request, operation.body)
        if streams:
            return await _slowly(
                target,
                called,
                slow,
                lines="application/x-ndjson" in request.headers.get("accept", ""),
                hide=request.scope["state"].get("hide"),
            )
        found = await asyncio.to_thread(target, **called)
        if isinstance(found, bytes):
            return Response(
                found,
                media_type=_FORMS.get(str(called.get("form", "")), "application/octet-stream"),
            )
        return Response(msgspec.json.encode(found, enc_hook=plain), media_type=MediaType.JSON)

    answer = (
        Annotated[bytes, "rows in the format asked for"]
        if hints["return"] is bytes
        else hints["return"]
    )
    handle.__signature__ = inspect.Signature(parameters, return_annotation=answer)  # type: ignore[attr-defined]
    handle.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": answer}
    handle.__name__ = handle.__qualname__ = operation.name
    handle.__doc__ = inspect.getdoc(like)
    first, _, rest = (inspect.getdoc(like) or "").partition("\n\n")
    return HTTPRouteHandler(
        path,
        http_method=operation.method,
        operation_id=operation.name,
        summary=" ".join(first.split()),
        description=rest.strip() or None,
        tags=[operation.path.split("/")[1]],
        status_code=200,
        media_type=MediaType.JSON,
        operation_class=_WithRows if operation.body else OpenAPIOperation,
    )(handle)


async def _sent(request: Request[Any, Any, Any], name: str) -> dict[str, Any]:
    """Return a request's body as it was sent. UsageError when it is compressed as a whole."""
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise UsageError(
            "SX-API-018",
            f"the body is `{coding[:40]}`",
            hint="send it as it is; Parquet and Arrow compress their columns themselves",
        )
    body = await request.body()
    return {name: body, "content_type": request.headers.get("content-type", JSON)}


@dataclass
class _WithRows(OpenAPIOperation):
    """How rows are sent, for the API's description: a body of which the routes know nothing."""

    def __post_init__(self) -> None:
        row = Schema(type=OpenAPIType.OBJECT, additional_properties=True)
        rows = Schema(type=OpenAPIType.ARRAY, items=row)
        text = Schema(type=OpenAPIType.STRING)
        named = Schema(
            type=OpenAPIType.OBJECT,
            properties={"rows": rows, "batch": text, "env": text},
            required=["rows"],
        )
        binary = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = RequestBody(
            required=True,
            content={
                kind: OpenAPIMediaType(Schema(one_of=[rows, named]) if kind == JSON else binary)
                for kind in CONTENT_TYPES
            },
        )


async def _slowly(
    target: Callable[..., Any],
    called: dict[str, Any],
    slow: threading.BoundedSemaphore,
    *,
    lines: bool,
    hide: Callable[[str], str] | None,
) -> Any:
    """Do it in a thread of its own, so many at once, whether or not somebody waits for it."""
    if not slow.acquire(blocking=False):
        raise Busy(
            "SX-API-004",
            f"{RUNS_AT_ONCE_MAX} runs are under way already",
            hint="wait for one to end, then ask again",
            retry_after_s=5.0,
        )
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            said.put(("result", target(**called, progress=lambda done: said.put(("done", done)))))
        except SextantError as error:
            said.put(("problem", error))
        except Exception as error:
            bug = Bug(
                "SX-API-005",
                "a promise inside Sextant was broken",
                hint="please report it; the server's log has the traceback",
            )
            bug.__cause__ = error
            said.put(("problem", bug))
        finally:
            slow.release()

    threading.Thread(target=work, name="sextant-api-run", daemon=True).start()
    if lines:
        return Stream(_lines(said, hide), media_type="application/x-ndjson")
    while True:
        kind, value = await asyncio.to_thread(said.get)
        if kind == "problem":
            raise value
        if kind == "result":
            return Response(msgspec.json.encode(value, enc_hook=plain), media_type=MediaType.JSON)


def problem_shown(error: SextantError, hide: Callable[[str], str] | None) -> dict[str, Any]:
    """Return an error as a problem document, with `hide` over its texts: who is no administrator
    does not learn where key and witness lie."""
    said = error.problem()
    if hide is None:
        return said
    return {key: hide(value) if isinstance(value, str) else value for key, value in said.items()}


async def _lines(
    said: "queue.SimpleQueue[tuple[str, Any]]", hide: Callable[[str], str] | None
) -> AsyncIterator[bytes]:
    while True:
        try:
            kind, value = await asyncio.to_thread(said.get, True, _LIFE_S)
        except queue.Empty:
            yield b"\n"
            continue
        yield (
            msgspec.json.encode(
                {kind: problem_shown(value, hide) if kind == "problem" else value}, enc_hook=plain
            )
            + b"\n"
        )
        if kind != "done":
            return


def _body(kind: Any) -> Any:
    """Return the annotation of a JSON body."""
    marked: Any = JSONBody
    return marked[kind]


def _camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))


__all__ = ["Page", "RunProgress", "handlers"]
