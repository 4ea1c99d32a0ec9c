"""Routes by method and path."""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from sextant.http.answers import Answer
from sextant.http.request import Request

Handler = Callable[[Request], Awaitable[Answer]]
ANY = "*"  # as a method: all of them


class Route(NamedTuple):
    """One row of a table of routes.

    method  or ANY
    path    `/assets/{asset}/rows`: a parameter is one segment, never empty. A path without
            parameters wins over one with them
    """

    method: str
    path: str
    handle: Handler


class Router:
    """A table of routes. `slashes`: a slash behind a path does not matter."""

    def __init__(self, routes: Iterable[Route], *, slashes: bool = False) -> None:
        self._slashes = slashes
        self._root = _Node()
        self._exact: dict[str, dict[str, Route]] = {}  # paths without parameters
        for route in routes:
            names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
            if names:
                methods = self._root.at(_segments(route.path)).methods
            else:
                methods = self._exact.setdefault(route.path, {})
            assert route.method not in methods, f"two routes for {route.method} {route.path}"
            methods[route.method] = route

    def find(self, request: Request) -> Route | None:
        """Return the route of a request, and set its `values` and `allowed`; None when the path
        (`allowed` is empty) or its method is not known."""
        path = request.path
        if self._slashes or not path:
            path = path.rstrip("/") or "/"
        methods = self._exact.get(path)
        values: list[str] = []
        if methods is None:
            methods = self._root.match(_segments(path), 0, values)
            if methods is None:
                return None
        route = methods.get(request.method) or methods.get(ANY)
        request.allowed = tuple(sorted(methods))
        if route is not None and values:
            parts = (part for part in route.path.split("/") if part.startswith("{"))
            request.values = {part[1:-1]: value for part, value in zip(parts, values, strict=True)}
        return route


class _Node:
    """A segment of paths, with what follows it."""

    __slots__ = ("literals", "methods", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Route] = {}

    def at(self, segments: list[str]) -> "_Node":
        """Return the node of a path, made where there is none."""
        node = self
        for segment in segments:
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        return node

    def match(self, segments: list[str], index: int, values: list[str]) -> dict[str, Route] | None:
        """Return the routes of a path, and append the values of its parameters to `values`."""
        if index == len(segments):
            return self.methods or None
        segment = segments[index]
        literal = self.literals.get(segment)
        if literal is not None:
            found = literal.match(segments, index + 1, values)
            if found is not None:
                return found
        if self.parameter is None or not segment:
            return None
        values.append(segment)
        found = self.parameter.match(segments, index + 1, values)
        if found is None:
            values.pop()
        return found


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]
