"""The page of a run, in a real browser: followed while it runs, to its failing rows; tried again;
cancelled; and who is offered none of it."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from page_site import Open, Site, opened_site
from playwright.sync_api import expect
from shop_project import run

from sextant.app.operations import Operations
from sextant.kernel.nouns import Principal

SECRET = "s3cr3t-of-the-shop"
HOSTILE = "<img src=x onerror=document.title='pwned'>"
OPS = """
import os, time

def wait_for(name):
    while not os.path.exists(os.path.join({folder!r}, name)):
        time.sleep(0.01)

@sx.dataset(owner=ops, personal=["mail"], checks=[sx.between("amount", 0, 100)])
def orders(key: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    print("opening the source with", key)
    wait_for("lines")
    for n in range(400):
        print("line", n)
    print({hostile!r}, "\\u05d0\\u05d1\\u05d2 " + "y" * 10_000)
    wait_for("go")
    bad = not os.path.exists(os.path.join({folder!r}, "mended"))
    return pl.DataFrame({{"id": [1, 2], "amount": [1.0, 999.0 if bad else 2.0], "mail": ["ann@example.org", "bob@example.org"]}})

@sx.dataset(owner=ops)
def totals(orders: pl.DataFrame) -> pl.DataFrame:
    print("adding up")
    return orders.select(pl.col("amount").sum())

@sx.dataset(owner=ops)
def apart() -> pl.DataFrame:
    return pl.DataFrame({{"id": [1]}})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_TOKEN", SECRET)
        ops = OPS.format(folder=str(folder), hostile=HOSTILE)
        with opened_site(folder, ops) as made:
            yield made
            for name in ("lines", "go"):
                (folder / name).touch()


def steps(site: Site, *names: str, there: bool = True) -> None:
    """Let the step go on that waits for these files, or wait again next time."""
    for name in names:
        (site.shop.root / name).touch() if there else (site.shop.root / name).unlink(
            missing_ok=True
        )


@pytest.fixture
def going(site: Site) -> Iterator[str]:
    """Give the id of a run that waits in its first step."""
    steps(site, "lines", "go", there=False)
    eve = Principal(name="eve", root="eve", role="operator", teams=("ops",))
    thread = threading.Thread(target=lambda: Operations(site.platform, eve).run(force=True))
    thread.start()
    found: list[Any] = []
    while not found:
        found = list(site.platform.core.state.read("runs_open"))
    yield str(found[0][0])
    steps(site, "lines", "go")
    thread.join(60)
    assert not thread.is_alive()


def test_a_run_is_followed_to_its_failing_rows(site: Site, going: str, open_page: Open) -> None:
    """If this fails, nobody sees on the page what a long step does, or which rows a check refused;
    a secret or a personal value stands there; or what a step printed runs as a script."""
    page = open_page(f"/runs/{going}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("opening the source with ***SHOP_TOKEN***")
    bar = page.locator(".sx-bar-running")
    expect(bar).to_have_count(1)
    meter = page.get_by_role("progressbar", name=f"steps of run {going}")
    expect(meter).to_have_attribute("aria-valuemax", "3")
    expect(page.locator(".sx-progress")).to_contain_text("time left not known")
    steps(site, "lines")
    expect(log).to_contain_text("line 399")
    expect(log).to_contain_text(HOSTILE)
    assert page.title() != "pwned"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert _at_end(log), "who does nothing sees the newest line"
    log.evaluate("box => box.scrollTo(0, 40)")
    expect(page.get_by_role("button", name="To the newest line")).to_be_visible()
    steps(site, "go")
    expect(page.locator(".sx-head .sx-state")).to_have_text("refused")
    assert log.evaluate("box => box.scrollTop") == 40, "who reads keeps his place"
    expect(page.get_by_role("region", name="Why it ran")).to_contain_text("refused")
    rows = page.get_by_role("region", name=re.compile("failing rows of between"))
    expect(rows.get_by_role("row")).to_have_count(2)
    expect(rows).to_contain_text("999")
    for word in ("@example.org", SECRET):
        expect(page.locator("body")).not_to_contain_text(word)
    grid = page.get_by_role("grid", name="steps")
    orders = grid.get_by_role("row").filter(has_text="orders").first
    expect(orders).to_contain_text("asked for")
    code = Operations(site.platform).run_facts(going)["steps_recorded"][-1]["code"]
    expect(grid).to_contain_text(code[:8])
    assert serious(page) == []
    grid.get_by_role("row").filter(has_text="totals").click()
    expect(page.get_by_text("This step printed nothing.")).to_be_visible()


def serious(page: Any) -> list[Any]:
    """Return what stops somebody who uses a screen reader or the keyboard."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def _at_end(log: Any) -> bool:
    return bool(log.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight < 24"))


def test_a_failed_run_is_tried_again_by_a_button(site: Site, open_page: Open) -> None:
    """If this fails, the rest of a failed run cannot be made from the page, is made twice by a
    double click, or nobody finds one run from the other."""
    steps(site, "lines", "go")
    steps(site, "mended", there=False)
    failed = run(site.platform, force=True)
    assert failed.state == "refused"
    steps(site, "mended")
    page = open_page(f"/runs/{failed.id}", person="eve")
    expect(page.locator(".sx-progress")).to_contain_text("1 that stand on those")
    page.get_by_role("button", name="Try again").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The same on the command line").click()
    expect(dialog.locator("pre")).to_have_text(f"sextant runs {failed.id} --retry")
    dialog.get_by_role("button", name="Try again").dblclick()
    expect(page.get_by_text("again", exact=False).first).to_be_visible()
    expect(page.locator(".sx-head .sx-state")).to_have_text("finished")
    (again,) = Operations(site.platform).run_facts(failed.id)["retries"]
    assert again in page.url
    made = {one["asset"] for one in Operations(site.platform).run_facts(again)["steps_recorded"]}
    assert made == {"dataset:orders", "dataset:totals"}
    page.locator(".sx-head").get_by_title(failed.id).click()
    expect(page.locator(".sx-head").get_by_title(again)).to_be_visible()


def test_a_run_is_cancelled_and_says_what_it_left(site: Site, going: str, open_page: Open) -> None:
    """If this fails, a run that goes wrong cannot be stopped from the page."""
    page = open_page(f"/runs/{going}", person="bob")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").last.click()
    expect(page.locator(".sx-head .sx-state")).to_have_text("cancelled")
    expect(page.locator(".sx-progress")).to_contain_text("not reached")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_the_bridge_and_the_list_say_how_far_a_run_is(
    site: Site, going: str, open_page: Open
) -> None:
    """If this fails, one has to open each run to see whether it moves."""
    page = open_page("/")
    runs = page.get_by_role("region", name="Runs")
    expect(runs).to_contain_text("of 3 steps")
    expect(runs.get_by_role("progressbar")).to_have_count(1)
    page.goto(f"{site.url}/runs")
    row = page.get_by_role("grid", name="runs").get_by_role("row").filter(has_text="running")
    expect(row).to_contain_text("of 3")


def test_a_viewer_is_offered_no_retry_and_gets_none(
    site: Site, going: str, open_page: Open
) -> None:
    """If this fails, who may only look stops runs and starts others; or reads a log that may quote
    personal values."""
    steps(site, "lines")
    page = open_page(f"/runs/{going}", person="vic")
    expect(page.locator(".sx-progress")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("hidden")
    expect(page.locator("body")).not_to_contain_text("line 1")
    assert page.get_by_role("button", name=re.compile("^(Cancel|Try again)$")).count() == 0
    for verb in ("cancel", "retry"):
        status = page.evaluate(
            """async ([run, verb]) => {
                const session = await (await fetch("/api/v1/session")).json();
                const answer = await fetch(`/api/v1/runs/${run}/${verb}`, {
                    method: "POST", body: "{}",
                    headers: {"x-csrf-token": session.csrf, "content-type": "application/json"}});
                return [answer.status, (await answer.json()).code];
            }""",
            [going, verb],
        )
        assert status == [403, "SX-API-008"]
