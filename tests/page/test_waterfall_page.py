"""What moved a number, as a sum, in a real browser: derived by a button, each bar a link, the same
decimals as the API's."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from page_site import PASSWORD, MovedClock, Open, Site, sign_in
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.kernel.nouns import SYSTEM

OPS = """
@sx.dataset(partition=sx.daily(start="2026-01-01", end="2026-01-05"), time="at", owner=ops)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"at": [day.start] * 2, "shop": ["north", "south"], "amount": [60 + day.date.day, 40]})

@sx.dataset(partition=sx.daily(start="2026-01-01", end="2026-01-05"), time="at", owner=ops)
def kept(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(amount=pl.col("amount") * 1)

sx.kpi("revenue", of=kept, measure="sum(amount)", by=["shop"], owner=ops)
"""
PHONE = {"width": 390, "height": 844}
LAST = {"before": "2026-01-03", "after": "2026-01-04"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A number that code and a definition have moved, and rows of another day."""
    shop = Shop(tmp_path_factory.mktemp("sums"))
    shop.write(OPS)
    clock = MovedClock()
    with shop.open(clock=clock, executor="pool") as platform:
        run(platform)
        for old, new in (('"amount") * 1', '"amount") * 3'), ("sum(amount)", "sum(amount) + 7")):
            shop.edit(old, new)
            platform.core.project.load()
            assert run(platform, stale=True).state == "finished"
        for name, role in {"ann": "admin", "vic": "viewer"}.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        made = Site(shop, platform, clock)
        yield made
        made.end()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def card(page: Any) -> Any:
    return page.get_by_role("region", name="What moved it, as a sum")


def test_who_only_looks_is_not_offered_to_derive(site: Site, open_page: Open) -> None:
    """If this fails, a viewer is offered what the server refuses; or sees nothing of the changes."""
    page = open_page("/kpis/revenue", "vic")
    found = card(page)
    expect(found).to_contain_text("2 changes can have moved it")
    expect(found.get_by_role("link", name="definition of kpi:revenue")).to_be_visible()
    expect(found.get_by_role("button", name="Derive")).to_have_count(0)


def test_a_difference_is_derived_and_drawn(site: Site, open_page: Open) -> None:
    """If this fails, a person sees other numbers than the API says, or cannot ask for them."""
    page = open_page("/kpis/revenue")
    found = card(page)
    expect(found).to_contain_text("Restated")
    found.get_by_role("button", name="Derive the number without each of them").click()
    table = found.get_by_role("table")
    expect(table).to_be_visible()
    seen = Operations(site.platform).waterfall("revenue", **LAST)
    rows = table.get_by_role("row")
    expect(rows).to_have_count(len(seen["bars"]) + 3)
    for n, bar in enumerate(seen["bars"]):
        amount = rows.nth(n + 2).get_by_role("cell").first
        expect(amount).to_have_attribute("title", bar["amount"])
    titles = [
        Decimal(rows.nth(n).get_by_role("cell").first.get_attribute("title") or "")
        for n in range(1, len(seen["bars"]) + 3)
    ]
    assert titles[0] + sum(titles[1:-1]) == titles[-1]
    expect(table).to_contain_text("proven")
    expect(found.locator("rect.sx-hatched")).to_have_count(0)
    found.get_by_label("Split the movement").select_option("shop")
    page.wait_for_url("**split=shop**")
    expect(table).to_contain_text("shop=north")
    page.reload()
    expect(card(page).get_by_role("table")).to_contain_text("shop=north")
    card(page).get_by_role("link", name="definition of kpi:revenue").click()
    page.wait_for_url("**/releases/rel_*")


def test_as_it_was_known_first(site: Site, open_page: Open) -> None:
    """If this fails, what was restated cannot be told from what moved."""
    page = open_page("/kpis/revenue?sum=known")
    expect(card(page).get_by_label("Difference")).to_have_value("known")
    derive = card(page).get_by_role("button", name="Derive")
    table = card(page).get_by_role("table")
    expect(derive.or_(table)).to_be_visible()
    if derive.count():
        derive.click()
    expect(table).to_contain_text("definition of kpi:revenue")
    expect(table).not_to_contain_text("the rows of the time after")


def test_by_keyboard_and_on_a_phone(site: Site, open_page: Open) -> None:
    """If this fails, who uses no mouse or a phone is not told what moved the number."""
    page = open_page("/kpis/revenue?sum=known", size=PHONE)
    table = card(page).get_by_role("table")
    expect(table).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    link = card(page).get_by_role("link", name="definition of kpi:revenue")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/releases/rel_*")


def test_what_is_not_proven_is_hatched(site: Site, open_page: Open) -> None:
    """If this fails, a guess looks like a proof."""
    page = open_page("/kpis/revenue")

    def unsure(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        for bar in body.get("bars", []):
            bar["sure"] = "likely"
            bar["interval"] = ["-1", "5"]
        route.fulfill(response=answer, json=body)

    expect(card(page).get_by_role("table")).to_be_visible()
    page.route("**/waterfall?*", unsure)
    page.reload()
    expect(card(page).locator("rect.sx-hatched").first).to_be_attached()
    expect(card(page)).to_contain_text("hatched: not proven")
    expect(card(page)).to_contain_text("likely")
