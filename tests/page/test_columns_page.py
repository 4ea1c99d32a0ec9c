"""The columns of the graph in a real browser: chosen by keyboard, followed through the assets."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from page_site import PASSWORD, MovedClock, Open, Site
from shop_project import Shop, run

from sextant.kernel.nouns import SYSTEM

MARKUP = "<img src=x onerror=alert(1)>"
OPS = """
@sx.dataset(owner=ops)
def named() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "name": ["one", "two"], "MARKUP": [1, 2]})

sx.sql("long.sql")
sx.kpi("longest", of="long", measure="max(length(title))", by=["id"], grain="")
""".replace("MARKUP", MARKUP)
LONG = "select name as title, id from named where name <> 'none'\n"
PLACES = (
    "/graph?view=columns&asset=dataset:named",
    "/graph?view=columns&asset=dataset:long&column=title",
    "/assets/dataset:long?tab=columns",
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    shop = Shop(tmp_path_factory.mktemp("columned"))
    (shop.root / "long.sql").write_text(LONG)
    shop.write(OPS)
    clock = MovedClock()
    with shop.open(clock=clock, executor="pool") as platform:
        for name, role in {"ann": "admin", "vic": "viewer"}.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        run(platform)
        made = Site(shop, platform, clock)
        yield made
        made.end()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def test_a_column_is_followed_through_the_assets(site: Site, open_page: Open) -> None:
    """Who asks where a column comes from would have to read every query on the way."""
    page = open_page("/graph?asset=dataset:long")
    page.get_by_role("button", name="Columns").click()
    listed = page.get_by_label("columns of the asset")
    listed.get_by_role("button", name="title").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("column=title"))
    picture = page.get_by_label("Picture of the columns")
    expect(picture.locator(".sx-way")).to_have_count(3)
    expect(picture.get_by_role("button", name="title")).to_have_attribute("aria-pressed", "true")
    expect(picture.locator(".sx-way-value")).to_have_count(3)  # title, and p0 and value of the KPI
    expect(picture.locator(".sx-way-rows")).to_have_count(1)
    expect(page.get_by_text("sextant graph --columns dataset:long.title")).to_be_attached()
    # the column that it is made of, by keyboard in the picture
    picture.get_by_role("button", name="name").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"asset=dataset%3Anamed.*column=name"))
    expect(picture.get_by_role("button", name="title")).to_be_visible()
    expect(picture.get_by_text("by code").first).to_be_visible()


def test_an_asset_says_what_its_columns_are_made_of(site: Site, open_page: Open) -> None:
    """The columns of an asset would stand there without where they come from and go to."""
    page = open_page("/assets/dataset:long?tab=columns")
    line = page.get_by_role("row").filter(has_text="title")
    expect(line.get_by_role("link", name="kpi_longest.value")).to_be_attached()
    line.get_by_role("link", name="named.name").click()
    expect(page).to_have_url(re.compile(r"/graph\?asset=dataset%3Anamed&column=name"))
    expect(
        page.get_by_label("Picture of the columns").get_by_role("button", name="title")
    ).to_be_visible()


def test_a_number_is_led_back_to_what_it_is_made_of(site: Site, open_page: Open) -> None:
    """The columns of a KPI could be found only by who knows the dataset of its values; or a viewer
    is refused what search tells him."""
    page = open_page("/graph?view=columns&asset=kpi:longest&column=value", "vic")
    picture = page.get_by_label("Picture of the columns")
    expect(picture.locator(".sx-way")).to_have_count(3)
    expect(picture.get_by_role("link", name="longest")).to_be_visible()
    expect(picture.get_by_role("button", name="name")).to_be_visible()


def test_a_wrong_column_is_answered(site: Site, open_page: Open) -> None:
    page = open_page("/graph?view=columns&asset=dataset:long&column=titel")
    expect(page.get_by_text("has no column `titel`")).to_be_visible()
    expect(page.get_by_text("did you mean `title`?")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_columns_are_in_nobodys_way(site: Site, open_page: Open, scheme: str) -> None:
    """Somebody cannot read the columns or use them with a screen reader; a name runs as a script,
    or pushes a page apart."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page("/graph", color_scheme=scheme)
    expect(page.locator(".sx-node").first).to_be_visible()
    found: list[Any] = []
    for place in PLACES:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(site.url + place)
        expect(page.locator(".sx-way, .sx-ends").first).to_be_visible()
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
        expect(page.locator(".sx-way, .sx-ends").first).to_be_visible()
    assert not found, json.dumps(found, indent=1)
