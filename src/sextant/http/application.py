"""A table of routes as an ASGI application: it authenticates, routes, answers, and turns every
error into an answer. Each endpoint says in its own words what is refused, and why."""

import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence

from sextant.http.answers import Answer, Header, problem_answer, send_answer
from sextant.http.request import GoneError, Receive, Request, Scope, Send
from sextant.http.routing import Route, Router
from sextant.kernel.errors import Bug, SextantError

COMMON_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


async def _admit_all(request: Request) -> None:
    """Let every request in."""


class Application:
    """The ASGI application.

    admit    authenticates a request before it is routed; raises what it refuses
    missing  answers, or raises, when no route has the path (`request.allowed` is empty) or the
             method
    refuse   turns an error into an answer
    foreign  returns the error of an exception that is not ours; if it is a Bug, the traceback is
             logged
    headers  of every answer, unless it has them itself
    slashes  a slash behind a path does not matter
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        missing: Callable[[Request], Answer],
        foreign: Callable[[Exception], SextantError],
        admit: Callable[[Request], Awaitable[None]] = _admit_all,
        refuse: Callable[[Request, SextantError], Answer] = problem_answer,
        headers: Sequence[Header] = COMMON_HEADERS,
        slashes: bool = False,
    ) -> None:
        self._router = Router(routes, slashes=slashes)
        self._admit, self._missing, self._foreign = admit, missing, foreign
        self._refuse, self._headers = refuse, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # neither websockets nor lifespan
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except GoneError:
            return
        try:
            await send_answer(send, answer, self._headers)
        except (GoneError, OSError):  # a TimeoutError is one
            return  # the server closes a connection whose answer is incomplete
        finally:
            if answer.after is not None:
                await answer.after()

    async def _answer(self, request: Request) -> Answer:
        try:
            await self._admit(request)
            route = self._router.find(request)
            if route is None:
                return self._missing(request)
            return await route.handle(request)
        except GoneError:
            raise
        except SextantError as error:
            refused = error
            if isinstance(error, Bug):
                log_exception(error)
        except Exception as error:  # a defect is answered too
            refused = self._foreign(error)
            if isinstance(refused, Bug):
                log_exception(error)
        return self._refuse(request, refused)


def log_exception(error: BaseException) -> None:
    """Write the traceback of an exception into the server's log."""
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
