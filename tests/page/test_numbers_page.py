"""From the bridge to why a number fell, in a real browser: the mark, the span, what moved it and what
changed upstream."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from page_site import PASSWORD, MovedClock, Open, Site, sign_in
from shop_project import HEAD, Shop, run

from sextant.app.operations import Operations
from sextant.kernel.nouns import SYSTEM
from sextant.testing import Request

OPS = """
@sx.dataset(partition=sx.daily(start="2026-01-01", end="2026-02-01"), time="day", owner=ops)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"day": [day.date] * 2, "shop": ["north", "south"], "amount": [60.0, 40.0]})

sx.kpi("revenue", of=orders, measure="sum(amount)", by=["shop"], goal=sx.goal(">= 650", over="7d"), owner=ops)
"""
BAD = ("2026-01-20", "2026-01-24")
ONE_SCREEN = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project whose revenue falls in five days of January, after an edit."""
    shop = Shop(tmp_path_factory.mktemp("numbers"))
    shop.write(OPS)
    clock = MovedClock()
    with shop.open(clock=clock, executor="pool") as platform:
        run(platform)
        shop.edit("40.0]", "10.0]")
        platform.core.project.load()
        again = Request(stale=True, partitions=BAD)
        platform.runs.run("dev", again, by=platform.core.authorization.who())
        for name, role in {"ann": "admin", "vic": "viewer"}.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        made = Site(shop, platform, clock)
        yield made
        made.end()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def plot(page: Any) -> Any:
    found = page.locator(".sx-plot")
    expect(found.locator(".u-over")).to_be_visible()
    expect(found).to_have_attribute("data-points", "31")
    return found


def test_from_the_bridge_to_why_a_number_fell(site: Site, open_page: Open) -> None:
    """If this fails, a person sees that a number is bad and cannot find out why."""
    page = open_page("/", size=ONE_SCREEN)
    tile = page.get_by_role("region", name="Business numbers").get_by_role("link")
    expect(tile).to_contain_text("revenue")
    expect(tile).to_contain_text("met")
    expect(tile).to_contain_text("700")
    changed = page.get_by_role("region", name="Changed in the last day")
    expect(changed).to_contain_text("orders")
    tile.click()
    expect(page.get_by_role("heading", name="revenue", exact=True)).to_be_visible()
    over = plot(page).locator(".u-over").bounding_box()
    page.get_by_role("button", name="code released").click()
    says = page.get_by_role("dialog")
    expect(says).to_contain_text("code released of datasetorders")
    expect(says).to_contain_text("ann")
    expect(says).to_contain_text("2026-01-20 to 2026-01-24")
    page.keyboard.press("Escape")
    expect(says).to_have_count(0)

    day = over["width"] / 30  # 31 points, the first at the left edge
    middle = over["y"] + over["height"] / 2
    page.mouse.move(over["x"] + 18.6 * day, middle)
    page.mouse.down()
    page.mouse.move(over["x"] + 21 * day, middle)
    page.mouse.move(over["x"] + 23.4 * day, middle)
    page.mouse.up()
    page.wait_for_url("**from=2026-01-20&to=2026-01-25**")
    span = page.get_by_role("region", name="The span")
    expect(span).to_contain_text("350")
    expect(span).to_contain_text("-150 (-30%), worse")
    rows = page.get_by_role("region", name="By shop").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("south-15020050")
    expect(rows.nth(2)).to_contain_text("north0300300")
    upstream = page.get_by_role("region", name="What changed upstream in this span")
    expect(upstream.get_by_role("listitem")).to_have_count(1)
    page.reload()
    expect(rows.nth(1)).to_contain_text("south")
    upstream.get_by_role("link").nth(1).click()
    page.wait_for_url("**/releases/rel_*")


def test_a_span_is_selected_by_keyboard(site: Site, open_page: Open) -> None:
    """If this fails, who uses no mouse cannot ask what moved a number."""
    page = open_page("/", size=ONE_SCREEN)
    expect(page.get_by_role("heading", name="Bridge")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("k")
    expect(page.get_by_role("grid", name="KPIs").get_by_text("revenue")).to_be_visible()
    page.keyboard.press("t")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    plot(page).focus()
    page.keyboard.press("End")
    expect(page.locator(".sx-readout")).to_contain_text("31 Jan 2026")
    expect(page.locator(".sx-readout")).to_contain_text("100")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator(".sx-readout")).to_contain_text("5 points")
    page.keyboard.press("Enter")
    page.wait_for_url("**from=2026-01-27&to=2026-02-01**")
    expect(page.get_by_role("region", name="The span")).to_contain_text("2026-01-27 to 2026-01-31")
    expect(page.get_by_text("No release, undo or edit replaced anything")).to_be_visible()
    plot(page).focus()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="The span")).to_have_count(0)


def test_grain_comparison_and_range_are_in_the_address(site: Site, open_page: Open) -> None:
    """If this fails, a link shows somebody else another chart than one saw."""
    page = open_page("/kpis/revenue")
    plot(page)
    page.get_by_label("Grain").select_option("1w")
    page.wait_for_url("**grain=1w**")
    expect(page.locator(".sx-plot")).to_have_attribute("data-points", "5")
    page.get_by_label("Grain").select_option("1d")
    plot(page)
    page.get_by_label("Compare with").select_option("previous")
    page.wait_for_url("**compare=previous**")
    legend = page.get_by_role("region", name="Course").locator(".sx-legend")
    expect(legend).to_contain_text("2025-12-31 to 2026-01-16")
    page.reload()
    legend = page.get_by_role("region", name="Course").locator(".sx-legend")
    expect(legend).to_contain_text("2025-12-31 to 2026-01-16")
    page.goto(f"{site.url}/kpis/revenue?since=2026-01-05&until=2026-01-10")
    expect(page.locator(".sx-plot")).to_have_attribute("data-points", "5")


def test_who_may_only_look_sees_it_all_and_changes_nothing(site: Site, open_page: Open) -> None:
    """If this fails, a viewer is refused the numbers, or is offered what he may not do."""
    page = open_page("/", person="vic", size=PHONE)
    expect(page.get_by_role("region", name="Business numbers")).to_contain_text("revenue")
    buttons = re.compile("^(Approve|Deny|Run|Check|Undo|Cancel)$")
    assert page.get_by_role("button", name=buttons).count() == 0
    page.goto(f"{site.url}/kpis/revenue?from=2026-01-20&to=2026-01-25")
    expect(page.get_by_role("region", name="By shop")).to_contain_text("south")
    assert page.get_by_role("button", name=buttons).count() == 0
    for path in ("/", "/kpis", "/kpis/revenue?from=2026-01-20&to=2026-01-25"):
        page.goto(site.url + path)
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".sx-loading")).to_have_count(0)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        wider = page.evaluate(
            "(m => m.scrollWidth - m.clientWidth)(document.querySelector('main'))"
        )
        assert (wide, wider) == (0, 0), path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_anybodys_way(site: Site, open_page: Open, scheme: str) -> None:
    """If this fails, somebody cannot read the numbers, or the bridge is more than one screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page("/", color_scheme=scheme, size=ONE_SCREEN)
    expect(page.get_by_role("heading", name="Bridge")).to_be_visible()
    found: list[Any] = []
    for path in ("/", "/kpis", "/kpis/revenue?from=2026-01-20&to=2026-01-25"):
        page.goto(site.url + path)
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".sx-loading")).to_have_count(0)
        if path == "/":
            high = "(m => m.scrollHeight - m.clientHeight)(document.querySelector('main'))"
            assert page.evaluate(high) == 0, "the bridge is one screen"
        if "revenue" in path:
            plot(page)
        found += [
            (page.url, one["id"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in axe.run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert not found, json.dumps(found, indent=1)


def test_an_undo_appears_by_itself(site: Site, open_page: Open) -> None:
    """If this fails, somebody looks at a number for an hour and does not see that it was undone."""
    page = open_page("/kpis/revenue", size=ONE_SCREEN)
    bridge = open_page("/", size=ONE_SCREEN)
    plot(page)
    expect(page.get_by_role("button", name="code released")).to_be_visible()
    expect(bridge.get_by_role("region", name="Needs somebody")).to_contain_text("stale")
    Operations(site.platform).rollback("orders", reason="the south is not so poor")
    expect(page.get_by_role("button", name=re.compile("undo"))).to_be_visible()
    page.get_by_role("button", name=re.compile("undo")).click()
    expect(page.get_by_role("dialog")).to_contain_text("the south is not so poor")
    needs = bridge.get_by_role("region", name="Needs somebody")
    expect(needs).to_contain_text("held")
    expect(needs.get_by_role("link", name="orders").first).to_be_visible()
    changed = bridge.get_by_role("region", name="Changed in the last day")
    expect(changed).to_contain_text("undo of")


def test_an_empty_project_says_what_to_do(
    tmp_path_factory: pytest.TempPathFactory, chromium: Any
) -> None:
    """If this fails, the first thing that a newcomer sees is an empty page."""
    shop = Shop(tmp_path_factory.mktemp("empty"))
    shop.write("", head=HEAD)
    clock = MovedClock()
    with shop.open(clock=clock) as platform:
        platform.access.create_account("ann", PASSWORD, by=SYSTEM, role="admin")
        empty = Site(shop, platform, clock)
        context = chromium.new_context()
        page = context.new_page()
        page.goto(empty.url)
        sign_in(page, "ann")
        expect(page.get_by_text("The project declares nothing yet.")).to_be_visible()
        expect(page.locator(".sx-lines pre")).to_contain_text("sextant run")
        context.close()
        empty.end()
