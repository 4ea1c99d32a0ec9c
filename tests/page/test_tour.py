"""The tour: five stops that lead to pages, offered once; and the palette, which asks the server."""

from typing import Any

import pytest
from page_site import Open, Site
from shop_project import run


@pytest.fixture(scope="module")
def made(site: Site) -> Site:
    """A project that has run in dev."""
    run(site.platform)
    return site


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def heading(page: Any, name: str) -> Any:
    return page.get_by_role("heading", name=name, exact=True)


def test_the_tour_leads_to_five_pages_and_is_offered_once(made: Site, open_page: Open) -> None:
    """If this fails, a newcomer is sent to a page that is not there, or is asked for ever."""
    page = open_page("/")
    expect(page.get_by_label("Tour offered")).to_be_visible()
    page.get_by_role("button", name="Take the tour").click()
    tour = page.get_by_label("Tour", exact=True)
    for n, (stop, there) in enumerate(
        [
            ("The bridge", "Bridge"),
            ("Why a number moved", "revenue"),
            ("What stands on what", "Graph"),
            ("One asset", "orders"),
            ("What became live", "Releases"),
        ],
        start=1,
    ):
        expect(tour).to_contain_text(f"{n} of 5")
        expect(tour.get_by_role("heading")).to_contain_text(stop)
        expect(heading(page, there)).to_be_visible()
        tour.get_by_role("button", name="Done" if n == 5 else "Next").click()
    expect(tour).to_have_count(0)
    page.reload()
    expect(heading(page, "Releases")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("b")
    expect(heading(page, "Bridge")).to_be_visible()
    expect(page.get_by_label("Tour offered")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(tour).to_contain_text("1 of 5")
    tour.get_by_role("button", name="End the tour").click()
    expect(tour).to_have_count(0)


def test_the_palette_finds_what_the_server_finds(made: Site, open_page: Open) -> None:
    """If this fails, the palette leads to what is named like the beginning of what was typed, or
    only to assets by their names."""
    page = open_page("/")
    expect(heading(page, "Bridge")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("What was sold")  # the documentation of orders
    page.keyboard.press("Enter")  # maybe before the answer is there
    expect(heading(page, "orders")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("totals")
    page.keyboard.press("Enter")
    expect(heading(page, "totals")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("no such thing anywhere")
    expect(page.get_by_role("dialog")).to_contain_text("Nothing is called so.")
