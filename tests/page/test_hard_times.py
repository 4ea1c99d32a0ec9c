"""The page in hard times, in a real browser: sessions that end, servers that restart, are slow or
dead, people who act at once, names that attack, and dialogs below which everything changes."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from page_site import Open, Site, opened_site, sign_in
from playwright.sync_api import expect
from shop_project import run

from sextant.app.operations import Operations
from sextant.kernel.clock import NS
from sextant.kernel.limits import SESSION_S
from sextant.kernel.nouns import Principal

HOSTILE = (
    "<img src=x onerror=document.title='pwned'> \u202eevil\u202c \u05d0\u05d1\u05d2 " + "z" * 3_000
)
OPS = """
sx.policy("a second pair of eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=ops))

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    \"\"\"What was sold.\"\"\"
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0]})

@sx.dataset(owner=ops)
def stock() -> pl.DataFrame:
    \"\"\"What is left.\"\"\"
    return pl.DataFrame({"id": [1]})
"""
BOB, EVE = (
    Principal(name=name, root=name, role="operator", teams=("ops",)) for name in ("bob", "eve")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened_site(tmp_path_factory.mktemp("shop"), OPS) as made:
        run(made.platform)
        yield made


def edited(site: Site) -> None:
    """Release another version of `orders`, to be undone."""
    text = (site.shop.root / "ops.py").read_text()
    number = int(re.findall(r"\[1.0, (\d+).0\]", text)[0])
    site.shop.edit(f"[1.0, {number}.0]", f"[1.0, {number + 1}.0]")
    site.platform.core.project.load()
    assert run(site.platform, stale=True).published


def waiting(site: Site) -> str:
    """Return a release of something new to prod, proposed by bob, that waits for an approval."""
    edited(site)
    found = site.platform.runs.release(
        "prod", site.platform.core.assets.find("orders", "prod"), source="dev", by=BOB
    )
    assert found.state == "waiting"
    return found.id


def test_a_session_that_ends_loses_neither_place_nor_text(site: Site, open_page: Open) -> None:
    """If this fails, who types while his session ends types it again, or looks for his page."""
    edited(site)
    page = open_page("/assets/dataset:orders?tab=versions")
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("Reason").fill("wrong prices since noon")
    site.clock.ahead_ns += (SESSION_S + 1) * NS
    run(site.platform, force=True)  # the stream looks again who listens
    expect(page.get_by_text("The session has ended")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    sign_in(page, "ann")
    expect(page.get_by_role("tab", name="Versions")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Reason")).to_have_value("wrong prices since noon")


def test_a_dialog_stays_while_everything_below_it_changes(site: Site, open_page: Open) -> None:
    """If this fails, a dialog goes with what was typed as soon as somebody else does something; or
    who decides second is not told who came first."""
    release = waiting(site)
    page = open_page(f"/releases/{release}", person="ann")
    page.get_by_role("button", name="Deny").click()
    page.get_by_label("Reason").fill("it is Friday")
    site.platform.runs.releases.approve(release, EVE)
    expect(page.locator(".sx-head .sx-state")).to_have_text("live")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_have_value("it is Friday")
    expect(dialog).to_contain_text("orders")
    dialog.get_by_role("button", name="Deny").click()
    expect(dialog.get_by_role("alert")).to_contain_text("waits for nobody")
    expect(dialog.get_by_role("alert")).to_contain_text("eve")
    expect(dialog.get_by_label("Reason")).to_have_value("it is Friday")


def test_who_undoes_second_is_told_who_was_first(site: Site, open_page: Open) -> None:
    """If this fails, two people who undo the same undo twice, or one of them wonders why."""
    edited(site)
    pages = [open_page("/assets/dataset:orders", person=name) for name in ("eve", "ann")]
    for page in pages:
        page.get_by_role("button", name="Undo").click()
        page.get_by_label("Reason").fill("wrong")
        button = page.get_by_role("dialog").get_by_role("button", name="Undo")
        expect(button).to_be_enabled()
    eve, ann = (page.get_by_role("dialog") for page in pages)
    eve.get_by_role("button", name="Undo").click()
    expect(eve).to_have_count(0)
    # what is shown before the act follows what eve has done
    expect(ann.get_by_role("alert")).to_contain_text("eve")
    expect(ann.get_by_role("button", name="Undo")).to_be_disabled()
    expect(ann.get_by_label("Reason")).to_have_value("wrong")


def test_a_server_that_restarts_is_told_and_what_was_open_goes_on(
    site: Site, open_page: Open
) -> None:
    """If this fails, a restart costs the dialog that was open, or the page says nothing of it."""
    release = waiting(site)
    page = open_page(f"/releases/{release}", person="ann")
    expect(page.locator(".sx-live")).to_have_text("live")
    page.get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("looked at")
    site.end()
    banner = page.locator(".sx-banner")
    expect(banner).to_contain_text("The server does not answer. What is shown is of")
    assert banner.locator("time").get_attribute("datetime")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Whether it was done is not known")
    site.begin()
    expect(banner).to_contain_text("The server is back")
    expect(dialog.get_by_label("Reason")).to_have_value("looked at")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".sx-head .sx-state")).to_have_text("live")


def test_a_dead_server_leaves_what_was_shown_with_its_age(site: Site, open_page: Open) -> None:
    """If this fails, a server that dies takes away what one needs to read then, or old facts look
    like new ones."""
    page = open_page("/runs")
    grid = page.get_by_role("grid", name="runs")
    expect(grid.get_by_role("row").nth(1)).to_be_visible()
    expect(page.locator(".sx-live")).to_have_text("live")
    site.end()
    try:
        expect(page.locator(".sx-banner")).to_contain_text("What is shown is of")
        expect(page.locator(".sx-live")).to_have_text("away")
        expect(grid.get_by_role("row").nth(1)).to_be_visible()
        page.get_by_role("link", name="Sessions").click()  # was never asked for
        expect(page.get_by_role("alert")).to_contain_text("did not arrive from the server")
        page.go_back()
        expect(grid.get_by_role("row").nth(1)).to_be_visible()
        page.go_forward()
    finally:
        site.begin()
    expect(page.get_by_role("grid", name="sessions").get_by_text("ann").first).to_be_visible()


Held = tuple[list[Any], Callable[[], None]]


def hold(page: Any, pattern: str | re.Pattern[str]) -> Held:
    """Delay the answers to what matches until the returned function is called; return what was
    asked, too."""
    held: list[Any] = []
    opened = False

    def take(route: Any) -> None:
        if opened:
            route.continue_()
        else:
            held.append(route)

    def let_go() -> None:
        nonlocal opened
        opened = True
        for route in held:
            route.continue_()

    page.route(pattern, take)
    return held, let_go


def test_a_slow_server_is_told_and_nothing_is_sent_twice(site: Site, open_page: Open) -> None:
    """If this fails, a slow server looks like a broken page, the page cannot be used meanwhile, or
    an impatient second click does the same again."""
    page = open_page("/assets/dataset:orders", person="eve")
    expect(page.get_by_text("What was sold.")).to_be_visible()
    sent, let_go = hold(page, re.compile("/assets/[^/]*/checks$"))
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog")
    # both before the page is drawn anew: as a double click is on a busy machine
    dialog.locator("form").evaluate("form => { form.requestSubmit(); form.requestSubmit(); }")
    dialog.locator("form").evaluate("form => form.requestSubmit()")
    expect(dialog.get_by_role("button", name="Close").last).to_be_visible()
    assert len(sent) == 1
    let_go()
    expect(dialog).to_have_count(0)
    assert len(sent) == 1
    asked, answer = hold(page, re.compile("/api/v1/releases"))
    page.get_by_role("link", name="Releases").click()
    expect(page.locator(".sx-banner")).to_contain_text("The server is slow")
    page.keyboard.press("u")  # other things go on
    expect(page.get_by_role("button", name="UTC", exact=True)).to_be_visible()
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_role("grid", name="runs").get_by_role("row").nth(1)).to_be_visible()
    assert asked
    answer()
    page.keyboard.press("u")
    expect(page.locator(".sx-banner")).to_have_text("")


def test_nothing_of_one_asset_stands_below_the_name_of_another(site: Site, open_page: Open) -> None:
    """If this fails, somebody decides about one asset by the facts of another."""
    page = open_page("/assets/dataset:orders")
    expect(page.get_by_text("What was sold.")).to_be_visible()
    _, let_go = hold(page, re.compile("dataset(:|%3A)stock"))
    page.keyboard.press("Control+k")
    page.keyboard.type("stock")
    page.get_by_role("option").filter(has_text="stock").first.click()
    expect(page.get_by_role("heading", name="stock", exact=True)).to_be_visible()
    expect(page.get_by_text("What was sold.")).to_have_count(0)
    let_go()
    expect(page.get_by_text("What is left.")).to_be_visible()


def test_what_people_write_is_text(site: Site, open_page: Open) -> None:
    """If this fails, a reason runs as a script, turns the page's text around, or breaks it."""
    release = waiting(site)
    site.platform.runs.releases.approve(release, EVE, deny=True, reason=HOSTILE)
    page = open_page("/releases")
    grid = page.get_by_role("grid", name="releases")
    expect(grid.get_by_role("row").nth(1)).to_be_visible()
    for place in (f"/releases/{release}", "/assets/dataset:orders?tab=timeline&env=prod", "/"):
        page.goto(site.url + place)
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".sx-loading")).to_have_count(0)
        assert page.title() != "pwned", place
        assert page.locator("img[src='x']").count() == 0, place
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
    facts = Operations(site.platform).release_facts(release)
    assert "onerror" in str(facts)
