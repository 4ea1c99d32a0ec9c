"""The page of a project with a hundred thousand assets, in a real browser: it opens, finds one and
shows it, and draws the graph in clusters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from big_project import opened
from page_site import PASSWORD, sign_in
from served import serve

from sextant.kernel.nouns import SYSTEM

COUNT = 100_000
WAIT_MS = 240_000  # of the slowest machine; nothing here measures


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opened(str(tmp_path_factory.mktemp("big")), COUNT) as p:
        p.access.create_account("ann", PASSWORD, by=SYSTEM, role="admin")
        with serve(p) as serving:
            yield serving.url


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def test_a_hundred_thousand_assets(chromium: Any, address: str) -> None:
    """If this fails, the page of a large company does not open, or nothing is found in it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT_MS)
    said: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    sign_in(page, "ann")
    expect(page.get_by_role("heading", name="Bridge")).to_be_visible(timeout=WAIT_MS)
    # one is found as it is typed, also while the rest of the page is on its way
    page.keyboard.press("Control+k")
    page.keyboard.type("99999")
    found = page.locator(".sx-palette [role=option]").first
    expect(found).to_contain_text("_99999", timeout=WAIT_MS)
    page.keyboard.press("Enter")
    head = page.get_by_role("heading", level=1)
    expect(head).to_contain_text("_99999", timeout=WAIT_MS)
    page.goto(f"{address}/graph")
    expect(page.locator(".react-flow__node").first).to_be_visible(timeout=WAIT_MS)
    assert 2 < page.locator(".react-flow__node").count() <= 300
    expect(page.get_by_text("100,000 assets")).to_be_visible(timeout=WAIT_MS)
    page.goto(f"{address}/assets")
    grid = page.get_by_role("grid", name="assets")
    expect(grid).to_be_visible(timeout=WAIT_MS)
    assert grid.get_by_role("row").count() < 200, "only those in view are drawn"
    context.close()
    assert not said, said
