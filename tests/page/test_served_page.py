"""How the page's files are served: to everybody, nothing beside them, cached, with a strict policy."""

import gzip
import http.client
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from served import Serving, serve
from shop_project import Shop

from sextant.server.api.page import FILES, INDEX, POLICY, WebPage

OPS = """
@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})
"""
PAGE = WebPage().manifest
SCRIPT = next(name for name in PAGE.files if name.startswith("index-") and name.endswith(".js"))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(serving: Serving, path: str, method: str = "GET", **headers: str) -> Answer:
    """Send a path as it stands; headers with _ for -."""
    link = http.client.HTTPConnection(urllib.parse.urlsplit(serving.url).netloc, timeout=30)
    link.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
    answer = link.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    out = Answer(answer.status, found, answer.read())
    link.close()
    return out


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.write(OPS)
    with shop.open(load=False) as platform, serve(platform) as one:
        yield one


def test_everybody_gets_the_page_and_nothing_else(serving: Serving) -> None:
    """If this fails, nobody can sign in, or the page's door opens data."""
    index = ask(serving, "/")
    assert index.status == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    for place in ("/assets", "/assets/dataset:orders", "/runs/run_1?step=a", "/releases/"):
        assert ask(serving, place).body == index.body, place
    for closed in ("/metrics", "/api/v1/status", "/api/v1/openapi.json"):
        assert ask(serving, closed, accept="text/html").status == 401, closed
    for nothing in ("/api/v1/assetz", "/v1/traces", "/assetz", "/index.html"):
        found = ask(serving, nothing, accept="text/html")
        assert found.status in (401, 404), nothing
        assert found.headers["content-type"] == "application/problem+json", nothing


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/manifest.json",
        "/page/nothing.js",
        "/page/../manifest.json",
        "/page/..%2fmanifest.json",
        "/page/%2e%2e/%2e%2e/api/page.py",
        f"/page/{SCRIPT}.gz",
        f"/page/x/{SCRIPT}",
        "/page//etc/passwd",
        "/page/%00",
    ],
)
def test_only_what_the_manifest_lists(serving: Serving, path: str) -> None:
    """If this fails, files of the server's machine can be read."""
    found = ask(serving, path)
    assert found.status == 404
    assert found.headers["content-type"] == "application/problem+json"


def test_files_are_kept_and_the_index_is_asked_for_again(serving: Serving) -> None:
    """If this fails, a new release shows the old page, or every visit loads everything anew."""
    index, script = ask(serving, "/"), ask(serving, FILES + SCRIPT)
    assert index.headers["cache-control"] == "no-cache"
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    for path, found in (("/", index), ("/runs", index), (FILES + SCRIPT, script)):
        again = ask(serving, path, if_none_match=found.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == found.headers["etag"]
        assert ask(serving, path, if_none_match='"other"').status == 200


def test_it_is_compressed_for_who_takes_that(serving: Serving) -> None:
    """If this fails, a client gets bytes that it cannot read, or three times as many as needed."""
    plain = ask(serving, FILES + SCRIPT)
    packed = ask(serving, FILES + SCRIPT, accept_encoding="br, gzip;q=0.8")
    refused = ask(serving, FILES + SCRIPT, accept_encoding="gzip;q=0, identity")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "accept-encoding"
    assert gzip.decompress(packed.body) == plain.body == refused.body
    assert len(plain.body) == PAGE.files[SCRIPT].size
    assert packed.headers["etag"] != plain.headers["etag"]


def test_head_says_the_same_without_the_body(serving: Serving) -> None:
    """If this fails, a link checker or a proxy takes the page for broken."""
    for path in ("/", "/assets", FILES + SCRIPT):
        head, get = ask(serving, path, "HEAD"), ask(serving, path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["etag"] == get.headers["etag"]
        assert head.headers["content-length"] == str(len(get.body))
    assert ask(serving, "/", "POST").status in (401, 405)


def test_the_policy_stands_on_each_file(serving: Serving) -> None:
    """If this fails, what an attacker got into a name runs as a script, or another site frames the
    page."""
    assert b"unsafe" not in POLICY
    for path in ("/", "/runs", *(FILES + name for name in PAGE.files if name != INDEX)):
        headers = ask(serving, path).headers
        assert headers["content-security-policy"] == POLICY.decode()
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


def test_another_name_gets_no_page(serving: Serving) -> None:
    """If this fails, a page of another site reaches this server by its own name."""
    assert ask(serving, "/", host="evil.example").status == 400
