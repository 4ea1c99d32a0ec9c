"""The columns of an asset in a real browser: what they are like, beside the version before, with
personal ones hidden."""

from collections.abc import Iterator
from typing import Any

import pytest
from page_site import PASSWORD, MovedClock, Open, Site
from shop_project import Shop, run

from sextant.kernel.nouns import SYSTEM
from sextant.stores.lake import profiles

OPS = """
@sx.dataset(partition=sx.daily(start="2026-01-01", end="2026-01-04"), personal=["mail"], owner=ops)
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({
        "amount": [float(n) for n in range(40)], "shop": ["north"] * 30 + ["<b>south</b>"] * 10,
        "mail": [f"secret{n}@example.org" for n in range(40)], "note": [None] * 10 + ["x"] * 30,
    })
"""
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project whose amounts were doubled by an edit."""
    shop = Shop(tmp_path_factory.mktemp("profiled"))
    shop.write(OPS)
    clock = MovedClock()
    with shop.open(clock=clock, executor="pool") as platform:
        run(platform)
        shop.edit("float(n)", "float(n) * 2")
        platform.core.project.load()
        run(platform, "dev", "dataset:orders", stale=True)
        for name, role in {"ann": "admin", "vic": "viewer"}.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        made = Site(shop, platform, clock)
        yield made
        made.end()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def line(page: Any, name: str) -> Any:
    return page.get_by_role("row").filter(has_text=name)


def test_columns_are_shown_beside_the_version_before(site: Site, open_page: Open) -> None:
    """Somebody who looks for what a release changed would have to read rows."""
    page = open_page("/assets/dataset:orders")
    page.get_by_role("tab", name="columns").click()
    expect(page.get_by_text("120 rows of 3 partitions")).to_be_visible()
    amount = line(page, "amount")
    expect(amount).to_contain_text("0 to 78")
    expect(amount.get_by_role("img")).to_have_attribute(
        "aria-label", "5% up to 2, 25% up to 18, 50% up to 38, 75% up to 58, 95% up to 74"
    )
    expect(line(page, "note")).to_contain_text("25.0%")
    shop = line(page, "north")
    expect(shop).to_contain_text("90")
    expect(shop).to_contain_text("<b>south</b>")
    mail = line(page, "mail")
    expect(mail).to_contain_text("personal")
    expect(mail).to_contain_text("hidden")
    expect(page.get_by_text("secret")).to_have_count(0)
    choose = page.get_by_role("checkbox", name="beside the version before")
    choose.focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("before: version")).to_be_visible()
    expect(amount).to_contain_text("+19.5")
    expect(amount).to_contain_text("0.500")
    expect(shop).not_to_contain_text("+")


def test_columns_on_a_phone(site: Site, open_page: Open) -> None:
    """The page would be wider than a phone, or show nothing of a column's values."""
    page = open_page("/assets/dataset:orders?tab=columns", size=PHONE)
    expect(line(page, "amount").get_by_role("img")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_lacks_a_profile_says_what_to_do(site: Site, open_page: Open) -> None:
    """A missing profile would look like an empty table."""
    core = site.platform.core
    version = core.versions.get(
        "dataset:orders", core.versions.live_version("dev", "dataset:orders")
    )
    (path,) = profiles.beside(core.lake.files(version.locator))
    place = core.lake.root / path
    data = place.read_bytes()
    place.unlink()
    try:
        page = open_page("/assets/dataset:orders?tab=columns")
        expect(page.get_by_text("3 partitions have no profile.")).to_be_visible()
        expect(page.get_by_text("doctor --data").first).to_be_visible()
    finally:
        place.write_bytes(data)
