"""The pages of graph, partitions, undo and plan in a real browser."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from page_site import PASSWORD, MovedClock, Open, Site
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.kernel.nouns import SYSTEM

MARKUP = "<img src=x onerror=alert(1)>"
OPS = """
@sx.dataset(owner=ops, tags=["daily"], partition=days)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0]})

@sx.dataset(owner=ops, partition=days)
def clean(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

@sx.dataset(owner=ops)
def names() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "name": ["one", "two"]})

@sx.dataset(owner=ops)
def named(names: pl.DataFrame) -> pl.DataFrame:
    return names

sx.kpi("revenue", of=clean, measure="sum(amount)", grain="", owner=ops)
"""
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project of which two days of four are made, twice, and another tool's service."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.write(OPS)
    clock = MovedClock()
    with shop.open(clock=clock) as platform:
        for name, role in {"ann": "admin", "vic": "viewer"}.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        run(platform, partitions=("2026-01-01", "2026-01-02"))
        run(platform, "dev", "dataset:names", "dataset:named")
        shop.edit('["one", "two"]', '["one", "three"]')
        platform.core.project.load()
        run(platform, "dev", "dataset:names", stale=True)
        Operations(platform).report("release", "service:shop", version="1", owner=MARKUP)
        made = Site(shop, platform, clock)
        yield made
        made.end()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def chosen(page: Any) -> Any:
    """Return what the picture of the graph says of the node that is chosen."""
    return page.get_by_role("application", name="Picture of the graph").locator(
        "xpath=.//p[@role='status']"
    )


def test_an_asset_is_found_and_walked_to_its_source_by_keyboard(
    site: Site, open_page: Open
) -> None:
    """If this fails, who uses no mouse cannot find out what a number is made of."""
    page = open_page("/graph")
    expect(page.locator(".sx-node")).to_have_count(len(site.platform.core.assets.graph()[0]))
    find = page.get_by_role("combobox", name="Find an asset")
    find.focus()
    page.keyboard.type("revenue")
    expect(page.get_by_role("option").filter(has_text="revenue").first).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("asset=kpi"))
    page.get_by_role("application", name="Picture of the graph").first.focus()
    for name in ("clean", "orders"):
        page.keyboard.press("ArrowLeft")
        expect(chosen(page)).to_contain_text(f"{name}, dataset")
    page.keyboard.press("ArrowLeft")  # a source has nothing before it
    expect(chosen(page)).to_contain_text("orders, dataset")
    reaches = page.get_by_role("region", name="blast radius")
    expect(reaches).to_contain_text("3 assets")
    expect(reaches).to_contain_text("dataset 2, kpi 1")
    page.get_by_role("application", name="Picture of the graph").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="orders", exact=True)).to_be_visible()


def test_the_table_and_the_picture_show_the_same(site: Site, open_page: Open) -> None:
    """If this fails, two people look at one graph and see two, or a link shows another one."""
    page = open_page("/graph?asset=dataset:clean&up=1&down=0")
    expect(page.locator(".sx-node")).to_have_count(2)
    page.get_by_role("button", name="Table").click()
    grid = page.get_by_role("grid", name="graph")
    expect(grid.get_by_role("row")).to_have_count(3)
    page.get_by_label("Only of kind").select_option("kpi")
    expect(page.get_by_text("no asset is in all parts")).to_be_visible()
    expect(page.locator(".sx-lines pre")).to_have_text("sextant graph 1+dataset:clean,kind:kpi")
    page.get_by_role("button", name="Show all").click()
    expect(grid.get_by_text("service", exact=True)).to_be_visible()
    page.goto(f"{site.url}/graph?asset=dataset:orders&to=kpi:revenue")
    expect(page.locator(".sx-node")).to_have_count(3)
    expect(page.get_by_text("from orders to revenue")).to_be_visible()


def test_a_range_of_partitions_is_chosen_planned_and_run(site: Site, open_page: Open) -> None:
    """If this fails, a hole in the data is not seen, or cannot be filled from where it is seen."""
    page = open_page("/assets/dataset:orders?tab=partitions")
    strip = page.get_by_role("slider")
    expect(page.get_by_label("Partitions", exact=True)).to_contain_text("4 partitions, daily")
    strip.focus()
    page.keyboard.press("End")
    expect(strip).to_have_attribute("aria-valuetext", "2026-01-04, missing")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.get_by_text("2026-01-03..2026-01-04 · 2 partitions")).to_be_visible()
    expect(page.locator(".sx-strip-selected pre")).to_have_text(
        "sextant plan dataset:orders --partition 2026-01-03..2026-01-04 --env dev"
    )
    page.get_by_label("Partitions", exact=True).get_by_text("missing").first.wait_for()
    box = strip.locator("svg").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.keyboard.press("Escape")
    page.mouse.move(box["x"] + box["width"] * 0.05, y)
    expect(page.locator(".sx-strip-read")).to_contain_text("2 rows")
    page.mouse.move(box["x"] + box["width"] * 0.6, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Plan a backfill").click()
    expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
    grid = page.get_by_role("grid", name="planned steps")
    expect(grid.get_by_role("row").filter(has_text="2026-01-03 … 2026-01-04").first).to_be_visible()
    expect(grid).to_contain_text("2 missing")
    page.get_by_role("button", name="Run it").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The same on the command line").click()
    expect(dialog.locator("pre")).to_have_text(
        "sextant run dataset:orders --partition 2026-01-03..2026-01-04 --env dev"
    )
    dialog.get_by_role("button", name="Run it").click()
    expect(page).to_have_url(re.compile("/runs/run_"))
    expect(page.locator(".sx-head").get_by_text("finished")).to_be_visible()
    found = Operations(site.platform).partitions("dataset:orders")
    assert found["states"] == {"live": 4}


def test_an_undo_is_shown_before_it_is_done(site: Site, open_page: Open) -> None:
    """If this fails, people undo without knowing what goes back and what is made again, or are
    offered an undo that cannot be."""
    page = open_page("/assets/dataset:names")
    expected = Operations(site.platform).rollback_plan("dataset:names")
    assert [one.asset for one in expected.taken_back] == ["dataset:names"]
    assert [one.asset for one in expected.made_again] == ["dataset:named"]
    page.get_by_role("button", name="Undo").click()
    dialog = page.get_by_role("dialog")
    preview = dialog.locator(".sx-preview")
    expect(preview).to_contain_text("Goes back: 1 asset")
    expect(preview).to_contain_text("Is made again: 1 asset")
    expect(preview.get_by_role("link", name="named")).to_be_visible()
    for one in expected.taken_back:
        expect(preview).to_contain_text(one.version[:8])
        expect(preview).to_contain_text(one.before[:8])
    dialog.get_by_label("Reason").fill("a wrong name")
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Timeline").click()
    happened = page.locator(".sx-happened > li")
    expect(happened.filter(has_text="a wrong name").first).to_be_visible()
    page.get_by_label("Only of one noun").select_option("release")
    expect(happened.filter(has_text="undo live").first).to_be_visible()
    expect(happened.filter(has_text="declared")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(preview.get_by_role("alert")).to_contain_text("SX-UNDO-005")
    dialog.get_by_label("Reason").fill("again")
    assert dialog.get_by_role("button", name="Undo").is_disabled()


def test_a_release_shows_what_it_changes(site: Site, open_page: Open) -> None:
    """If this fails, people make a version live without seeing its rows."""
    page = open_page("/assets/dataset:names?tab=versions")
    row = page.get_by_role("grid", name="versions").get_by_role("row").filter(has_text="withdrawn")
    row.get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 → 2")
    expect(dialog).to_contain_text("1 added, 1 removed")


def test_a_viewer_is_offered_nothing_to_do(site: Site, open_page: Open) -> None:
    """If this fails, who may only look is shown buttons that lead to an error."""
    page = open_page("/plan?select=dataset:orders&partition=2026-01-01", person="vic")
    expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
    expect(page.get_by_text("Nothing would run")).to_be_visible()
    acts = re.compile("^(Run it|Make again|Undo|Release|Promote|Run|Check)$")
    buttons = page.locator(".mantine-Button-root")
    assert buttons.filter(has_text=acts).count() == 0
    page.goto(f"{site.url}/assets/dataset:names?tab=versions")
    expect(page.get_by_role("button", name="Compare").first).to_be_visible()
    assert buttons.filter(has_text=acts).count() == 0


PLACES = (
    "/graph",
    "/graph?asset=dataset:clean",
    "/graph?view=table",
    "/assets/dataset:orders?tab=timeline",
    "/assets/dataset:orders?tab=partitions",
    "/plan?env=prod",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_anybodys_way(site: Site, open_page: Open, scheme: str) -> None:
    """If this fails, somebody cannot read a page or use it with a screen reader; or a name runs as
    a script, or pushes a page apart."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page("/graph", color_scheme=scheme)
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    expect(page.locator(".sx-node").get_by_text(MARKUP)).to_be_visible()
    found: list[Any] = []
    for place in PLACES:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(site.url + place)
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".sx-loading")).to_have_count(0)
        found += [
            (place, one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in axe.run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        page.set_viewport_size(PHONE)
        wider = page.evaluate(
            "(m => m.scrollWidth - m.clientWidth)(document.querySelector('main'))"
        )
        assert wider <= 0, f"{place} is {wider} px too wide for a phone"
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{site.url}/assets/dataset:names?tab=versions")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".sx-preview .sx-problem, .sx-preview h3").first).to_be_visible()
    found += [
        one["id"]
        for one in axe.run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not found, json.dumps(found, indent=1)
    assert not alerts
