"""Where the arguments of an operation stand in a request: in its path, its query or its body, as
the signature of the method in `Platform` says. Called by the routes and by the API's
description."""

import inspect
import re
import typing
from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.app.operations import Platform
from sextant.app.operations.row import Operation
from sextant.app.remote import API
from sextant.http.request import Request
from sextant.kernel.errors import NotFound, SextantError, UsageError
from sextant.kernel.limits import REQUEST_BYTES_MAX
from sextant.kinds.dataset.bodies import JSON

REQUIRED = inspect.Parameter.empty
_AT = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)  # where msgspec found what is wrong


class Parameter(typing.NamedTuple):
    """One argument; `default` is REQUIRED where there is none."""

    type: Any
    default: Any


class Parameters:
    """The arguments of an operation.

    path   by name: segments of the path
    query  by name: of the query of a GET, or of an operation with a raw body
    body   all others: fields of a JSON object; None when there are none
    raw    the argument that is the request's body as it was sent; "" when there is none
    """

    def __init__(self, operation: Operation) -> None:
        method = getattr(Platform, operation.name)
        hints = typing.get_type_hints(method)
        arguments = {
            name: Parameter(hints[name], one.default)
            for name, one in inspect.signature(method).parameters.items()
            if name not in ("self", "progress")
        }
        self.raw = operation.body
        self.answer: Any = hints["return"]
        self.has_progress = "progress" in hints
        in_path = [name for name in arguments if f"{{{name}}}" in operation.path]
        self.path = {name: arguments.pop(name) for name in in_path}
        if self.raw:
            del arguments[self.raw], arguments["content_type"]
        in_query = operation.method == "GET" or bool(self.raw)
        self.query = arguments if in_query else {}
        self.body = _body(operation.name, {} if in_query else arguments)
        self.is_body_optional = all(one.default is not REQUIRED for one in arguments.values())

    async def read(self, request: Request) -> dict[str, Any]:
        """Return the arguments of a request. NotFound for a segment that is not of its type,
        UsageError for anything else that is wrong."""
        found = _of_path(self.path, request) | _of_query(self.query, request)
        if self.raw:
            found |= await _raw(request, self.raw)
        if self.body is not None:
            kind = self.body | None if self.is_body_optional else self.body
            body = await read_json(request, kind, optional=self.is_body_optional)
            if body is not None:
                found |= {name: getattr(body, name) for name in self.body.__struct_fields__}
        return found


async def read_json(request: Request, kind: Any, *, optional: bool = False) -> Any:
    """Return the JSON body of a request. UsageError when it is not of the kind, is too large or, if
    it is not optional, missing."""
    body = await request.body(REQUEST_BYTES_MAX, _too_large)
    if not body:
        if optional:
            return None
        raise mismatch(["body: it is missing"])
    try:
        # in two steps: JSON that is malformed is told apart from JSON of another shape
        return msgspec.convert(msgspec.json.decode(body), kind, strict=False)
    except msgspec.ValidationError as error:
        raise mismatch([_located(str(error), "body")]) from error
    except msgspec.DecodeError as error:
        raise unreadable(str(error)) from error
    except RecursionError as error:
        raise UsageError(
            "SX-API-016", "the request nests too deep", hint="send plain rows"
        ) from error


def nothing_at(request: Request) -> NotFound:
    """Return the error of a path that leads nowhere."""
    return NotFound(
        "SX-API-010",
        f"there is nothing at `{request.path}`",
        hint=f"{API}/openapi.json describes what there is",
    )


def unreadable(why: str, status: int = 0) -> UsageError:
    """Return the error of a request that is not what HTTP or JSON want."""
    return UsageError(
        "SX-API-012",
        f"the request cannot be read: {why}",
        hint=f"{API}/openapi.json describes the API",
        status=status,
    )


def mismatch(what: Sequence[str]) -> UsageError:
    """Return the error of a request that is not what the operation takes."""
    return UsageError(
        "SX-API-011",
        f"the request is not what this takes: {'; '.join(what)}",
        hint=f"{API}/openapi.json describes it",
    )


def _body(name: str, arguments: dict[str, Parameter]) -> type[msgspec.Struct] | None:
    """Return the struct of a JSON body; None when there is nothing in it."""
    if not arguments:
        return None
    fields: list[Any] = [
        (field, one.type) if one.default is REQUIRED else (field, one.type, one.default)
        for field, one in arguments.items()
    ]
    title = "".join(part.title() for part in name.split("_"))
    return msgspec.defstruct(f"{title}Request", fields, kw_only=True, forbid_unknown_fields=True)


def _of_path(parameters: dict[str, Parameter], request: Request) -> dict[str, Any]:
    try:
        return {
            name: msgspec.convert(request.values[name], one.type, strict=False)
            for name, one in parameters.items()
        }
    except msgspec.ValidationError as error:
        raise nothing_at(request) from error


def _of_query(parameters: dict[str, Parameter], request: Request) -> dict[str, Any]:
    found, wrong = {}, []
    for name, one in parameters.items():
        values = request.query.get(name)
        if values is None:
            if one.default is REQUIRED:
                wrong.append(f"{name}: it is missing")
            continue
        value = values if typing.get_origin(one.type) is Sequence else values[-1]
        try:
            found[name] = msgspec.convert(value, one.type, strict=False)
        except msgspec.ValidationError as error:
            wrong.append(_located(str(error), name))
    if wrong:
        raise mismatch(wrong)
    return found


async def _raw(request: Request, name: str) -> dict[str, Any]:
    """Return a body as it was sent. UsageError when it is compressed as a whole."""
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise UsageError(
            "SX-API-018",
            f"the body is `{coding[:40]}`",
            hint="send it as it is; Parquet and Arrow compress their columns themselves",
        )
    body = await request.body(REQUEST_BYTES_MAX, _too_large)
    return {name: body, "content_type": request.headers.get("content-type", JSON)}


def _located(message: str, where: str) -> str:
    """Return what msgspec says with its place in front; `where` when it names none."""
    found = _AT.fullmatch(message)
    what, place = found.groups() if found else (message, "")
    return f"{place or where}: {what}"


def _too_large() -> SextantError:
    return unreadable(f"it is larger than {REQUEST_BYTES_MAX >> 20} MiB", 413)
