"""The row of an operation: where it stands in the HTTP API, and what it needs of who asks. It is
written above the method, and is all that says so: routes, clients, the API's description and
authorization are made from it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from sextant.kernel.answers import RunProgress

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
Of = Literal[
    "",
    "asset",
    "batch",
    "env",
    "incident",
    "plan",
    "release",
    "releases",
    "report",
    "rows",
    "run",
    "signal",
]
Method = Literal["GET", "POST", "DELETE"]
_F = TypeVar("_F", bound=Callable[..., Any])


Progress = Callable[[RunProgress], None]


class Operation(NamedTuple):
    """Where a method of `Platform` stands in the HTTP API, and who may use it. Path parameters are
    its arguments of that name; the others are query parameters of a GET, fields of a JSON body
    otherwise.

    role   the least that is needed of who comes over the network
    verb   what the policy is asked about, `read` where nothing is changed: what one may read
           follows from role and scope
    of     what it does that to, so that the policy sees it before anything is done: the asset,
           batch, release, releases, run, signal, incident or environment that is named, a report
           with the edges that it draws; `plan`: each asset that follows from it, asked by the run
           itself; `rows`: asked when they have said where they go; "" = the project
    body   the argument that is the request's body as it was sent, with its content type as
           `content_type`; the others are query parameters then
    scope  what the token must open
    """

    name: str
    method: Method
    path: str
    role: Role
    verb: str
    of: Of = ""
    body: str = ""
    scope: str = "api"


def operation(
    method: Method,
    path: str,
    role: Role,
    verb: str,
    of: Of = "",
    *,
    body: str = "",
    scope: str = "api",
) -> Callable[[_F], _F]:
    """Make a method an operation of this row; see `Operation`."""

    def decorate(function: _F) -> _F:
        row = Operation(function.__name__, method, path, role, verb, of, body, scope)
        function.operation = row  # type: ignore[attr-defined]
        return function

    return decorate


def rows_of(*nouns: type) -> tuple[Operation, ...]:
    """Return the rows of the methods of some classes, in the order in which they are written."""
    return tuple(
        method.operation
        for noun in nouns
        for method in vars(noun).values()
        if hasattr(method, "operation")
    )
