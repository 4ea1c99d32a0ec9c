"""The web page: files that were built from `ui/` and ship in the package, and nothing else.

The manifest beside them lists every file. `/page/NAME` is a file whose name holds a hash of what is
in it; `/` and the addresses of the page's own places give index.html, which loads the rest.
"""

import gzip
import threading
from importlib import resources

import msgspec

from sextant.http.answers import Answer, Header
from sextant.http.request import Request
from sextant.http.routing import Route
from sextant.kernel.errors import NotFound

FILES = "/page/"
INDEX = "index.html"
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_ASK_AGAIN = (b"cache-control", b"no-cache")
_COMMON: tuple[Header, ...] = (
    (b"content-security-policy", POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"vary", b"accept-encoding"),
)


class File(msgspec.Struct, frozen=True):
    """A file of the page. `digest`: SHA-256 of its content; `size` of the content, `compressed` of
    what is kept of it (gzip), in bytes."""

    type: str
    digest: str
    size: int
    compressed: int


class Manifest(msgspec.Struct, frozen=True):
    """What was built.

    sources  the SHA-256 of what it was built from, see `ui/pack.mjs`
    places   the first segments of the addresses of the page's places
    first    files that are loaded first
    later    for each place its files that are loaded when somebody goes there
    """

    sources: str
    places: tuple[str, ...]
    files: dict[str, File]
    first: tuple[str, ...]
    later: dict[str, tuple[str, ...]]


class WebPage:
    """Answers with the page's files; safe to call from several threads."""

    def __init__(self) -> None:
        self._folder = resources.files("sextant.server").joinpath("ui")
        manifest = self._folder.joinpath("manifest.json").read_bytes()
        self.manifest = msgspec.json.decode(manifest, type=Manifest)
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the routes of the files; places are answered by `place`."""
        paths = ["/", *(f"{FILES}{name}" for name in self.manifest.files if name != INDEX)]
        return [Route(method, path, self._answer) for path in paths for method in ("GET", "HEAD")]

    def serves(self, request: Request) -> bool:
        """Say whether a request is for the page, which everybody may load: it holds no data."""
        if request.method not in ("GET", "HEAD"):
            return False
        path = request.path
        return path == "/" or path.startswith(FILES) or self._is_place(path)

    def place(self, request: Request) -> Answer | None:
        """Return index.html for the address of a place, None for any other path."""
        if request.method not in ("GET", "HEAD") or not self._is_place(request.path):
            return None
        return self._give(request, INDEX)

    def _is_place(self, path: str) -> bool:
        return path.startswith("/") and path.split("/", 2)[1] in self.manifest.places

    async def _answer(self, request: Request) -> Answer:
        return self._give(request, request.path.removeprefix(FILES).strip("/") or INDEX)

    def _give(self, request: Request, name: str) -> Answer:
        file = self.manifest.files.get(name)
        if file is None:
            raise NotFound(
                "SX-API-020", f"the page has no file `{name[:80]}`", hint="load the page again"
            )
        takes_gzip = _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{file.digest[:32]}{"-gzip" if takes_gzip else ""}"'
        headers: tuple[Header, ...] = (
            *_COMMON,
            (b"etag", tag.encode()),
            _ASK_AGAIN if name == INDEX else _FOR_EVER,
        )
        if tag in request.headers.get("if-none-match", ""):
            return Answer(304, headers=headers)
        body = self._content(name)
        if takes_gzip:
            headers = (*headers, (b"content-encoding", b"gzip"))
        else:
            body = gzip.decompress(body)
        return Answer(200, body, file.type, headers)

    def _content(self, name: str) -> bytes:
        """Return a file as it is kept. Each is read once: all together are less than a MiB."""
        with self._lock:
            found = self._kept.get(name)
            if found is None:
                found = self._kept[name] = self._folder.joinpath(f"{name}.gz").read_bytes()
            return found


def _takes_gzip(accepted: str) -> bool:
    """Say whether `Accept-Encoding` names gzip, and not with `q=0`."""
    for one in accepted.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
