"""The page that ships is the one that its sources say, small, and without the addresses of
registries. Nothing here needs Node."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from sextant.server.api.page import FILES, INDEX, WebPage

ROOT = Path(__file__).parents[2]
UI = ROOT / "ui"
BUILT = ROOT / "src" / "sextant" / "server" / "ui"
FIRST_BYTES_MAX = 300_000  # compressed, of what is loaded first
PAGE_BYTES_MAX = 100_000  # and of each page after that
PAGE = WebPage().manifest


def _sources() -> str:
    """Return the hash of what the page is built from, as `ui/pack.mjs` computes it."""
    names = [
        *(UI / name for name in ("index.html", "package-lock.json", "package.json", "pack.mjs")),
        *(UI / name for name in ("tsconfig.json", "vite.config.ts")),
        *(path for name in ("src", "public") for path in (UI / name).rglob("*") if path.is_file()),
    ]
    known = sorted(path.relative_to(UI).as_posix() for path in names)
    lines = [
        f"{name} {hashlib.sha256((UI / name).read_bytes()).hexdigest()}\n"
        for name in known
        if name != "src/api/description.ts"
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_ships_was_built_from_the_sources() -> None:
    """If this fails, somebody changed `ui/` and did not build it: scripts/ui."""
    assert PAGE.sources == _sources(), "the built page is stale: run scripts/ui (it needs Node 20)"


def test_the_manifest_lists_what_is_there() -> None:
    """If this fails, the server offers a file that is not there, or ships one that nobody gets."""
    assert {path.name for path in BUILT.iterdir()} == {
        "manifest.json",
        *(f"{name}.gz" for name in PAGE.files),
    }
    for name, file in PAGE.files.items():
        kept = (BUILT / f"{name}.gz").read_bytes()
        content = gzip.decompress(kept)
        assert (len(content), len(kept)) == (file.size, file.compressed), name
        assert hashlib.sha256(content).hexdigest() == file.digest, name
        assert name == INDEX or re.search(r"-[\w-]{8}\.\w+$", name), f"{name} cannot be cached"


def test_the_page_stays_small() -> None:
    """If this fails, a page takes seconds on a slow line: a heavy part belongs into a page of its
    own, or out."""
    first = sum(PAGE.files[name].compressed for name in PAGE.first)
    assert first <= FIRST_BYTES_MAX, f"{first:,} bytes are loaded first"
    for page, names in PAGE.later.items():
        size = sum(PAGE.files[name].compressed for name in names)
        assert size <= PAGE_BYTES_MAX, f"{page} loads {size:,} bytes"


def test_every_page_has_its_place() -> None:
    """If this fails, a link to a page that exists is answered with an error, or the page has no
    route."""
    assert set(PAGE.places) == set(json.loads((UI / "src" / "pages.json").read_text()))
    routes = set(re.findall(r'path: "/(\w+)', (UI / "src" / "routes.tsx").read_text()))
    assert routes == set(PAGE.places)


@pytest.mark.parametrize("name", ["package-lock.json", "package.json", ".npmrc"])
def test_no_registry_is_named(name: str) -> None:
    """If this fails, everybody who builds the page fetches from one person's registry."""
    text = (UI / name).read_text()
    assert "resolved" not in text.replace("omit-lockfile-registry-resolved", "")
    assert not re.search(r"https?://", text)


def test_nothing_runs_inline() -> None:
    """If this fails, the policy of the page must be weakened for it to work."""
    index = gzip.decompress((BUILT / f"{INDEX}.gz").read_bytes()).decode()
    assert not re.search(r"<style|\son\w+=|style=", index)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", index, re.DOTALL)
    assert scripts
    for attributes, body in scripts:
        assert f'src="{FILES}' in attributes
        assert not body.strip()
    for path in (UI / "src").rglob("*.tsx"):
        assert "dangerouslySetInnerHTML" not in path.read_text(), path
