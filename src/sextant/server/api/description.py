"""The API's description (OpenAPI 3.1), made from the table of operations and their signatures."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from sextant.app.operations import OPERATIONS, Platform
from sextant.app.operations.row import Operation
from sextant.app.remote import API
from sextant.http.answers import JSON, PROBLEM
from sextant.kinds.dataset.bodies import CONTENT_TYPES
from sextant.server.api.authentication import COOKIE, LINK, SESSION
from sextant.server.api.operations import FORMS
from sextant.server.api.parameters import REQUIRED, Parameter, Parameters

METRICS = "text/plain; version=0.0.4; charset=utf-8"
_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_ROWS = {"type": "array", "items": {"type": "object", "additionalProperties": True}}
_NAMED_ROWS = {
    "type": "object",
    "properties": {"rows": _ROWS, "batch": _TEXT, "env": _TEXT},
    "required": ["rows"],
}


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Name and password of an account."""

    name: str
    password: str


class FollowLink(msgspec.Struct, forbid_unknown_fields=True):
    """What a sign-in link of `sextant up` carries behind `#signin=`."""

    link: str


class SignedIn(msgspec.Struct):
    """A browser's session. Its writes carry `csrf` in the header X-CSRF-Token."""

    name: str
    role: str
    csrf: str
    expires_at: int


class Problem(msgspec.Struct):
    """An error (RFC 9457); `code` identifies it, `hint` says what helps."""

    type: str
    title: str
    status: int
    code: str
    hint: str
    where: str
    kind: str
    exit_code: int
    detail: str = ""


class _Row(NamedTuple):
    """A route beside the operations."""

    method: str
    path: str
    name: str
    summary: str
    answer: Any = None
    body: Any = None
    status: int = 200


_OTHERS = (
    _Row("get", "/healthz", "health", "Say whether the server works", dict[str, Any]),
    _Row("get", "/metrics", "own_metrics", "Show the server's own metrics, to be scraped", bytes),
    _Row(
        "get",
        "/readyz",
        "readiness",
        "Say whether the server can be used: API, telemetry and SQL",
        dict[str, Any],
    ),
    _Row("post", SESSION, "sign_in", "Sign in", SignedIn, SignIn),
    _Row("post", LINK, "follow_link", "Sign in by a link, once", SignedIn, FollowLink),
    _Row("get", SESSION, "session", "Say who is signed in", SignedIn),
    _Row("delete", SESSION, "sign_out", "Sign out", status=204),
)


def describe() -> dict[str, Any]:
    """Return the document."""
    types = _Types()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        methods = paths.setdefault(API + operation.path, {})
        methods[operation.method.lower()] = _operation(operation, types)
    for row in _OTHERS:
        paths.setdefault(row.path, {})[row.method] = _other(row, types)
    problem = types.add(Problem)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Sextant", "version": "1"},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "name": COOKIE, "in": "cookie"},
            },
            "responses": {
                "Problem": {
                    "description": "An error",
                    "content": {PROBLEM: {"schema": problem}},
                }
            },
        },
    }
    types.resolve()
    document["components"]["schemas"] = types.components  # type: ignore[index]
    return document


class _Types:
    """The schemas of all types of the document, made together so that their names are unique."""

    def __init__(self) -> None:
        self._types: list[Any] = []
        self._schemas: list[dict[str, Any]] = []
        self.components: dict[str, Any] = {}

    def add(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type; it is empty until `resolve`."""
        self._types.append(kind)
        self._schemas.append({})
        return self._schemas[-1]

    def resolve(self) -> None:
        """Fill in the schemas that were returned, and the components that they refer to."""
        made, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        for schema, content in zip(self._schemas, made, strict=True):
            # a default stands in the schema already
            schema |= {**content, **schema}


def _operation(operation: Operation, types: _Types) -> dict[str, Any]:
    parameters = Parameters(operation)
    first, _, rest = (inspect.getdoc(getattr(Platform, operation.name)) or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": " ".join(first.split()),
        "tags": [operation.path.split("/")[1]],
    }
    if rest.strip():
        described["description"] = rest.strip()
    listed = [_parameter(name, "path", one, types) for name, one in parameters.path.items()]
    listed += [_parameter(name, "query", one, types) for name, one in parameters.query.items()]
    if listed:
        described["parameters"] = listed
    if parameters.raw:
        described["requestBody"] = {"required": True, "content": _pushed()}
    elif parameters.body is not None:
        described["requestBody"] = {
            "required": not parameters.is_body_optional,
            "content": {JSON: {"schema": types.add(parameters.body)}},
        }
    if parameters.answer is bytes:
        content: dict[str, Any] = {kind: {"schema": _BINARY} for kind in sorted({*FORMS.values()})}
    else:
        content = {JSON: {"schema": types.add(parameters.answer)}}
    return described | _responses(200, content)


def _other(row: _Row, types: _Types) -> dict[str, Any]:
    tag = "session" if row.path in (SESSION, LINK) else "health"
    described: dict[str, Any] = {"operationId": row.name, "summary": row.summary, "tags": [tag]}
    if row.body is not None:
        content = {JSON: {"schema": types.add(row.body)}}
        described["requestBody"] = {"required": True, "content": content}
    answer: dict[str, Any] = {}
    if row.answer is bytes:
        answer = {METRICS: {"schema": _TEXT}}
    elif row.answer is not None:
        answer = {JSON: {"schema": types.add(row.answer)}}
    return described | _responses(row.status, answer)


def _responses(status: int, content: dict[str, Any]) -> dict[str, Any]:
    done = {"description": "Done", **({"content": content} if content else {})}
    problem = {"$ref": "#/components/responses/Problem"}
    return {"responses": {str(status): done, "default": problem}}


def _parameter(name: str, place: str, parameter: Parameter, types: _Types) -> dict[str, Any]:
    schema = types.add(parameter.type)
    is_required = parameter.default is REQUIRED
    if not is_required:
        is_list = isinstance(parameter.default, Sequence) and not isinstance(parameter.default, str)
        schema["default"] = list(parameter.default) if is_list else parameter.default
    return {"name": name, "in": place, "required": is_required, "schema": schema}


def _pushed() -> dict[str, Any]:
    """Return how rows are sent: JSON, or a format of their own."""
    json = {"oneOf": [_ROWS, _NAMED_ROWS]}
    return {kind: {"schema": json if kind == JSON else _BINARY} for kind in CONTENT_TYPES}
