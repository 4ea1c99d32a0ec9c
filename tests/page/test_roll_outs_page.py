"""Roll-outs from the page, in a real browser: a whole environment and a single asset are promoted,
a slow release is paused, let go on and aborted, a roll-out is undone, and approved on a phone."""

from collections.abc import Iterator
from typing import Any

import pytest
import toy_kind
from page_site import Open, Site, opened_site
from playwright.sync_api import expect
from shop_project import run

from sextant.app.operations import Operations
from sextant.kernel.nouns import Principal

PHONE = {"width": 390, "height": 844}
OPS = """
sx.policy("a second pair of eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=ops))

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})

@sx.dataset(owner=ops)
def stock() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})

sx.notice("counted", of=orders, text="{rows} orders", owner=ops, release=sx.canary(5, 25, every="10m"))
"""
NOTICE = "notice:counted"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("shop")
    with (
        toy_kind.installed(tmp_path_factory.mktemp("packages") / "site"),
        opened_site(folder, OPS) as made,
    ):
        run(made.platform)
        for one in Operations(made.platform).releases(env="dev").items:
            if one["moves"][0]["asset"] == NOTICE:
                Operations(made.platform).drive_release(one["id"])
                assert state(made, one["id"]) == "live", "the first one replaces nothing"
        yield made


def slow(site: Site) -> str:
    """Begin a canary of the notice in dev, and return its release."""
    text = (site.shop.root / "ops.py").read_text()
    before = text[text.index('{"id": [1, 2') : text.index("]})", text.index('{"id": [1, 2')) + 3]
    site.shop.edit(before, before.replace("]})", ", 9]})"))
    site.platform.core.project.load()
    run(site.platform, stale=True)
    found = [
        one
        for one in Operations(site.platform).releases(env="dev").items
        if one["moves"][0]["asset"] == NOTICE and one["state"] in ("proposed", "gated", "rolling")
    ]
    Operations(site.platform).drive_release(found[0]["id"])
    assert state(site, found[0]["id"]) == "rolling"
    return str(found[0]["id"])


def state(site: Site, release: str) -> str:
    return str(Operations(site.platform).release_facts(release)["state"])


def act(page: Any, name: str, reason: str = "") -> None:
    page.get_by_role("button", name=name, exact=True).click()
    dialog = page.get_by_role("dialog")
    if reason:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).to_have_count(0)


def test_an_environment_is_promoted_as_it_is_shown(site: Site, open_page: Open) -> None:
    """If this fails, what a promotion changes is seen only afterwards, or an approval is for
    something else than what is shown."""
    page = open_page("/releases?env=prod", person="bob")
    page.get_by_role("button", name="Promote an environment").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("From")).to_have_value("dev")
    for name in ("orders", "stock"):
        expect(dialog.locator(".sx-moves")).to_contain_text(name)
    dialog.get_by_text("The same on the command line").click()
    expect(dialog.locator("pre")).to_have_text("sextant release --from dev --env prod")
    dialog.get_by_role("button", name="Promote an environment").dblclick()
    expect(dialog).to_have_count(0)
    expect(page.locator(".sx-head .sx-state")).to_have_text("waiting")
    release = page.url.rpartition("/")[2].partition("?")[0]
    eve = open_page("/releases?env=prod", person="eve", size=PHONE)
    eve.locator(".sx-queue li").filter(has_text="orders").get_by_role(
        "button", name="Approve"
    ).click()
    dialog = eve.get_by_role("dialog")
    box = dialog.bounding_box()
    assert box is not None
    assert box["width"] <= PHONE["width"], "it fits on a phone"
    dialog.get_by_text("The same on the command line").click()
    plan = Operations(site.platform).release_facts(release)["plan"]
    expect(dialog.locator("pre")).to_contain_text(f"--plan {plan}")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".sx-head .sx-state")).to_have_text("live")
    assert state(site, release) == "live"
    again = open_page("/releases?env=prod", person="bob")
    again.get_by_role("button", name="Promote an environment").click()
    expect(again.get_by_role("dialog").locator(".sx-moves")).not_to_contain_text("stock")


def test_a_single_asset_is_promoted_from_its_page(site: Site, open_page: Open) -> None:
    """If this fails, one asset cannot be brought to another environment without the others."""
    site.shop.edit('{"id": [1]}', '{"id": [1, 5]}')
    site.platform.core.project.load()
    run(site.platform, stale=True)
    page = open_page("/assets/dataset:stock?env=prod", person="bob")
    page.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Promote stock to prod")
    dialog.get_by_role("button", name="Promote").click()
    expect(page.locator(".sx-head .sx-state")).to_have_text("waiting")
    release = page.url.rpartition("/")[2].partition("?")[0]
    moves = Operations(site.platform).release_facts(release)["moves"]
    assert [move["asset"] for move in moves] == ["dataset:stock"]
    eve = Principal(name="eve", root="eve", role="operator", teams=("ops",))
    site.platform.runs.releases.approve(release, eve, deny=True, reason="a test")


def test_a_slow_release_is_paused_continued_and_aborted(site: Site, open_page: Open) -> None:
    """If this fails, a roll-out that goes wrong cannot be held or taken back from the page."""
    release = slow(site)
    page = open_page(f"/releases/{release}", person="eve")
    head = page.locator(".sx-head .sx-state")
    expect(head).to_have_text("rolling")
    expect(page.get_by_text("now 5 %")).to_be_visible()
    act(page, "Pause", "errors in the checkout")
    expect(head).to_have_text("paused")
    act(page, "Continue", "they were others'")
    expect(head).to_have_text("rolling")
    act(page, "Abort", "they were not")
    expect(head).to_have_text("rolled back")
    assert state(site, release) == "rolled_back"
    timeline = page.locator(".sx-timeline")
    for word in ("paused", "rolled back"):
        expect(timeline).to_contain_text(word)
    expect(timeline).to_contain_text("eve")


def test_a_roll_out_is_undone_from_its_page(site: Site, open_page: Open) -> None:
    """If this fails, what was rolled out cannot be taken back where one sees that it was."""
    site.shop.edit('{"id": [1, 5]}', '{"id": [1, 7]}') if '{"id": [1, 5]}' in (
        site.shop.root / "ops.py"
    ).read_text() else site.shop.edit('{"id": [1]}', '{"id": [1, 7]}')
    site.platform.core.project.load()
    report = run(site.platform, stale=True)
    page = open_page(f"/releases/{report.release}", person="eve")
    page.get_by_role("button", name="Undo").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Goes back: 1 asset")
    dialog.get_by_label("Reason").fill("wrong stock")
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".sx-head")).to_contain_text("wrong stock")
    assert state(site, report.release) == "rolled_back"
