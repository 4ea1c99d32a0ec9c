"""The page in a real browser, on a server that is really there."""

import json
import re
from typing import Any

import pytest
from page_site import PASSWORD, Open, Site, sign_in
from shop_project import run

from sextant.app.operations import Operations
from sextant.kernel.limits import SESSION_S
from sextant.kernel.clock import NS
from sextant.kernel.nouns import Principal

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def made(site: Site) -> Site:
    """A project that has run in dev."""
    run(site.platform)
    return site


def waiting(site: Site) -> str:
    """Return a release to prod that waits for an approval, proposed by bob."""
    found = site.platform.runs.release(
        "prod",
        site.platform.core.assets.find("orders", "prod"),
        source="dev",
        by=Principal(name="bob", teams=("ops",), role="operator", root="bob"),
    )
    assert found.state == "waiting"
    return found.id


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def heading(page: Any, name: str) -> Any:
    return page.get_by_role("heading", name=name, exact=True)


def test_signing_in_leads_to_where_one_wanted(made: Site, open_page: Open) -> None:
    """If this fails, nobody can sign in, or a link to a page leads to another one."""
    page = open_page("/assets/dataset:orders?tab=versions", person="")
    sign_in(page, "ann", "wrong wrong wrong")
    expect(page.get_by_role("alert")).to_contain_text("the name or the password is wrong")
    expect(page.get_by_role("alert")).to_contain_text("SX-API-009")
    sign_in(page, "ann")
    expect(heading(page, "orders")).to_be_visible()
    expect(page.get_by_role("tab", name="Versions")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("grid", name="versions").get_by_text("live")).to_be_visible()
    assert page.evaluate("document.cookie") == "", "no script reads the session"


def test_a_link_signs_in_once_and_leaves_no_trace(made: Site, open_page: Open) -> None:
    """If this fails, the link works twice, or its secret stays in the address and in what is
    copied from it."""
    secret = made.platform.access.create_link()
    page = open_page(f"/runs#signin={secret}", person="")
    expect(heading(page, "Runs")).to_be_visible()
    assert secret not in page.url
    page.go_back()
    assert secret not in page.url
    second = open_page(f"/#signin={secret}", person="")
    expect(second.get_by_role("alert")).to_contain_text("SX-API-021")
    assert secret not in second.url
    sign_in(second, "vic")
    expect(heading(second, "Bridge")).to_be_visible()


def test_a_viewer_is_offered_no_action_and_gets_none(made: Site, open_page: Open) -> None:
    """If this fails, who may only look acts, or is shown buttons that lead to an error."""
    release = waiting(made)
    buttons = re.compile("^(Approve|Deny|Run|Check|Undo|Cancel)$")
    mine = open_page("/releases")
    expect(mine.get_by_role("button", name="Approve").first).to_be_visible()
    page = open_page("/releases", person="vic")
    expect(page.locator(".sx-queue").get_by_text("orders").first).to_be_visible()
    assert page.get_by_role("button", name=buttons).count() == 0
    page.goto(f"{made.url}/assets/dataset:orders")
    expect(page.get_by_text("What was sold.")).to_be_visible()
    assert page.get_by_role("button", name=buttons).count() == 0
    status = page.evaluate(
        """async (release) => {
            const session = await (await fetch("/api/v1/session")).json();
            const answer = await fetch(`/api/v1/releases/${release}/approvals`, {
                method: "POST", body: "{}",
                headers: {"x-csrf-token": session.csrf, "content-type": "application/json"}});
            return [answer.status, (await answer.json()).code];
        }""",
        release,
    )
    assert status == [403, "SX-API-008"]
    made.platform.runs.releases.approve(
        release,
        Principal(name="eve", root="eve", role="operator", teams=("ops",)),
        deny=True,
        reason="a test",
    )


def test_an_approval_is_for_what_is_shown(made: Site, open_page: Open) -> None:
    """If this fails, a person agrees to what he has not seen, agrees to his own, or is not told
    what somebody else did first."""
    release = waiting(made)
    own = open_page(f"/releases/{release}", person="bob")
    own.get_by_role("button", name="Approve").click()
    own.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(own.get_by_role("dialog").get_by_role("alert")).to_contain_text("SX-")
    eve, ann = (open_page("/releases", person=name, size=PHONE) for name in ("eve", "ann"))
    for page in (eve, ann):
        page.get_by_role("button", name="Approve").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("orders")
        dialog.get_by_text("The same on the command line").click()
        plan = Operations(made.platform).release_facts(release)["plan"]
        expect(dialog.locator("pre")).to_have_text(f"sextant approve {release} --plan {plan}")
    eve.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(eve.get_by_role("dialog")).to_have_count(0)
    expect(eve.get_by_text("Nothing waits")).to_be_visible()
    ann.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(ann.get_by_role("dialog").get_by_role("alert")).to_contain_text(release)
    approved = Operations(made.platform).release_facts(release)
    assert (approved["state"], approved["approvals"]) == ("live", ("person:eve",))


def test_a_session_that_ends_comes_back_to_where_one_was(made: Site, open_page: Open) -> None:
    """If this fails, an expired session loses the page one was on, or goes on showing data."""
    page = open_page("/releases?state=live")
    expect(heading(page, "Releases")).to_be_visible()
    made.clock.ahead_ns += (SESSION_S + 1) * NS
    run(made.platform, force=True)  # the stream looks again who listens
    expect(page.get_by_text("The session has ended")).to_be_visible()
    assert page.get_by_role("grid").count() == 0
    sign_in(page, "ann")
    expect(heading(page, "Releases")).to_be_visible()
    assert page.url.endswith("state=live")
    revoked = open_page("/assets?kind=kpi", person="bob")
    expect(revoked.get_by_role("grid").get_by_text("revenue")).to_be_visible()
    (session,) = (one for one in Operations(made.platform).sessions() if one["person"] == "bob")
    Operations(made.platform).revoke_session(session["id"])
    run(made.platform, force=True)
    expect(revoked.get_by_text("The session has ended")).to_be_visible()
    assert revoked.url.endswith("kind=kpi")


def test_a_change_made_elsewhere_appears(made: Site, open_page: Open) -> None:
    """If this fails, people decide on what is not true any more, until they load the page anew."""
    page = open_page("/runs")
    grid = page.get_by_role("grid", name="runs")
    expect(grid.get_by_role("row").nth(1)).to_be_visible()
    expect(page.locator(".sx-live")).to_have_text("live")
    report = run(made.platform, force=True)
    expect(grid.get_by_title(report.id)).to_be_visible()
    page.get_by_role("link", name="Sessions").click()
    rows = page.get_by_role("grid", name="sessions").get_by_role("row")
    expect(rows.filter(has_text="eve")).to_have_count(0)
    open_page("/", person="eve")
    expect(rows.filter(has_text="eve")).to_have_count(1)


def test_a_server_that_restarts_loses_nothing(made: Site, open_page: Open) -> None:
    """If this fails, an open page stays dead after a restart, or lacks what happened meanwhile."""
    page = open_page("/runs")
    expect(page.get_by_role("grid", name="runs").get_by_role("row").nth(1)).to_be_visible()
    expect(page.locator(".sx-live")).to_have_text("live")
    made.end()
    banner = page.locator(".sx-banner")
    expect(banner).to_contain_text("The server does not answer")
    expect(page.get_by_role("grid", name="runs").get_by_role("row").nth(1)).to_be_visible()
    report = run(made.platform, force=True)
    made.begin()
    expect(banner).to_contain_text("The server is back")
    expect(page.get_by_role("grid", name="runs").get_by_title(report.id)).to_be_visible()


def test_a_run_shows_its_steps_and_what_they_printed(made: Site, open_page: Open) -> None:
    """If this fails, a run cannot be understood without a terminal."""
    report = run(made.platform, force=True)
    page = open_page(f"/runs/{report.id}")
    grid = page.get_by_role("grid", name="steps")
    expect(grid.get_by_role("row").filter(has_text="orders")).to_have_count(1)
    assert grid.locator(".sx-bar").count() == len(page.locator(".sx-bar").all()) >= 3
    expect(page.locator(".sx-log")).to_contain_text("making orders")
    grid.get_by_role("row").filter(has_text="totals").click()
    expect(page.get_by_text("This step printed nothing.")).to_be_visible()
    assert "step=" in page.url
    expect(page.get_by_label("Why it ran")).to_contain_text("ann")


def test_who_undoes_says_why(made: Site, open_page: Open) -> None:
    """If this fails, an undo can be done without a reason, or the page does not show that it is
    done."""
    made.shop.edit("[1.0, 2.0]", "[1.0, 3.0]")
    made.platform.core.project.load()
    run(made.platform, stale=True)
    page = open_page("/assets/dataset:orders")
    page.get_by_role("button", name="Undo").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("button", name="Undo").is_disabled()
    dialog.get_by_label("Reason").fill("wrong prices")
    expect(dialog.locator("pre")).to_have_text(
        "sextant rollback dataset:orders --env dev --reason 'wrong prices'"
    )
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Releases").click()
    undo = page.get_by_role("grid", name="releases").get_by_role("row").filter(has_text="undo")
    expect(undo.filter(has_text="wrong prices").first).to_be_visible()
    newest = Operations(made.platform).releases(asset="orders", env="dev").items[0]
    assert (newest["intent"], newest["by"]) == ("undo", "person:ann")


def test_hostile_names_are_text(made: Site, open_page: Open) -> None:
    """If this fails, a name or a value runs as a script in everybody's browser, or pushes the page
    apart."""
    owner = Operations(made.platform)
    markup = "<img src=x onerror=alert(4)>"
    owner.report("release", f"service:{'w' * 120}", version="1", owner=markup)
    made.shop.edit("\u05d3 abc", "\u05d3 abd")
    made.platform.core.project.load()
    run(made.platform, stale=True)
    made.platform.runs.undo(
        "dev", "dataset:odd", by=Principal(name="ann"), reason=f"{markup} {'y' * 3900}"
    )
    run_id = owner.runs(env="dev").items[0]["id"]
    release = owner.releases(env="dev").items[0]["id"]
    run(made.platform, force=True)
    page = open_page("/assets")
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    expect(heading(page, "Assets")).to_be_visible()
    long = "x" * 10_000
    for path, text in (
        ("/assets?kind=service", markup),
        (f"/assets/service:{'w' * 120}", "w" * 120),
        ("/assets/dataset:odd", "<img src=x onerror=alert(1)>"),
        ("/assets/dataset:odd", long),
        ("/assets/dataset:odd?tab=rows", "<script>alert(3)</script>"),
        ("/assets/dataset:odd?tab=rows", "<img src=x onerror=alert(2)>"),
        ("/releases", markup),
        (f"/releases/{release}", markup),
        (f"/runs/{run_id}", run_id),
    ):
        for size in ({"width": 1280, "height": 800}, PHONE):
            page.set_viewport_size(size)
            page.goto(made.url + path)
            expect(page.locator("h1")).to_be_visible()
            if size != PHONE:  # there columns are left out
                expect(page.locator("#content").get_by_text(text).first).to_be_attached()
            expect(page.locator(".sx-loading")).to_have_count(0)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            wider = page.evaluate(
                "(m => m.scrollWidth - m.clientWidth)(document.querySelector('main'))"
            )
            assert (wide, wider) == (0, 0), (path, size)
            assert page.locator("img, script:not([src])").count() == 0
    assert not alerts


def test_the_table_filters_sorts_copies_and_remembers(made: Site, open_page: Open) -> None:
    """If this fails, a list cannot be worked with, or what was chosen is gone with the next
    visit."""
    page = open_page("/assets?kind=dataset")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    grid = page.get_by_role("grid", name="assets")
    rows = grid.get_by_role("row")
    expect(rows).to_have_count(5)
    page.get_by_label("Filter assets").fill("tot")
    expect(rows).to_have_count(2)
    page.wait_for_url("**q=tot**")
    page.reload()
    expect(rows).to_have_count(2)
    page.get_by_label("Clear the filter").click()
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("menuitemcheckbox", name="Version").click()
    page.get_by_role("menuitemcheckbox", name="Tags").click()
    page.keyboard.press("Escape")
    grid.get_by_role("button", name="Asset").click()
    grid.get_by_role("button", name="Asset").click()
    page.reload()
    expect(grid.get_by_role("columnheader", name="Tags")).to_be_visible()
    expect(grid.get_by_role("columnheader", name="Version")).to_have_count(0)
    expect(grid.get_by_role("columnheader", name="Asset")).to_have_attribute(
        "aria-sort", "descending"
    )
    expect(rows.nth(1)).to_contain_text("totals")
    page.goto(f"{made.url}/assets/dataset:orders?tab=rows")
    expect(page.get_by_role("grid", name="rows").get_by_text("<b>bold</b>")).to_be_visible()
    page.get_by_role("button", name="CSV").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    lines = page.evaluate("navigator.clipboard.readText()").split("\r\n")
    assert lines[0] == "id,amount,note"
    assert lines[2].endswith(",'=1+1"), "a spreadsheet would compute it"


def test_all_by_keyboard(made: Site, open_page: Open) -> None:
    """If this fails, who uses no mouse cannot sign in, find, read and act."""
    page = open_page("/", person="")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("ann")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(heading(page, "Bridge")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(heading(page, "Runs")).to_be_visible()
    expect(page.get_by_role("grid", name="runs").get_by_role("row").nth(1)).to_be_visible()
    page.keyboard.press("t")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Why it ran")).to_contain_text("dev")
    page.keyboard.press("Control+k")
    page.keyboard.type("orders")
    expect(page.locator(".sx-palette [role=option]").first).to_contain_text("orders")
    page.keyboard.press("Enter")
    expect(heading(page, "orders")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Check", exact=True).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Runs all its checks")
    dialog.get_by_role("button", name="Check").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("grid", name="results of checks")).to_be_visible()


def test_times_are_of_the_viewer_with_utc_beside(made: Site, open_page: Open) -> None:
    """If this fails, two people in two zones talk of different moments."""
    page = open_page("/runs")
    time = page.get_by_role("grid", name="runs").locator("time").first
    exact = time.get_attribute("datetime")
    assert exact is not None
    assert exact.replace("T", " ").removesuffix("Z") in (time.get_attribute("title") or "")
    local = time.inner_text()
    page.keyboard.press("u")
    expect(page.get_by_role("button", name="UTC", exact=True)).to_be_visible()
    assert time.inner_text() != local
    assert exact[11:19] in time.inner_text()


def test_an_environment_without_anything_says_what_to_do(made: Site, open_page: Open) -> None:
    """If this fails, a newcomer stands before an empty page."""
    page = open_page("/runs?env=prod&state=cancelled")
    expect(page.get_by_text("No run is cancelled.")).to_be_visible()
    page.goto(f"{made.url}/assets/kpi:revenue?env=prod")
    expect(page.locator(".sx-lines pre").first).to_contain_text(
        "sextant run kpi:revenue --env prod"
    )
    page.get_by_label("Environment").select_option("dev")
    expect(page.get_by_text("sum(amount)")).to_be_visible()
    assert "env" not in page.url


PLACES = (
    "/assets",
    "/assets/dataset:orders",
    "/assets/dataset:orders?tab=versions",
    "/assets/dataset:orders?tab=checks",
    "/assets/dataset:orders?tab=rows",
    "/assets/dataset:orders?tab=lineage",
    "/runs",
    "/runs/RUN",
    "/releases",
    "/releases/RELEASE",
    "/sessions",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_anybodys_way(made: Site, open_page: Open, scheme: str) -> None:
    """If this fails, somebody cannot read a page or use it with a screen reader."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    owner = Operations(made.platform)
    ids = {
        "RUN": owner.runs(env="dev").items[0]["id"],
        "RELEASE": owner.releases(env="dev").items[0]["id"],
    }
    page = open_page("/", person="", color_scheme=scheme)
    found = _serious(axe, page)
    sign_in(page, "ann")
    expect(heading(page, "Bridge")).to_be_visible()
    assert page.locator("html").get_attribute("data-mantine-color-scheme") == scheme
    for place in PLACES:
        page.goto(made.url + re.sub("RUN|RELEASE", lambda one: ids[one.group()], place))
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".sx-loading")).to_have_count(0)
        found += _serious(axe, page)
    page.keyboard.press("Control+k")
    found += _serious(axe, page)
    page.keyboard.press("Escape")
    page.goto(f"{made.url}/assets/dataset:orders")
    page.get_by_role("button", name="Undo").click()
    found += _serious(axe, page)
    assert not found, json.dumps(found, indent=1)


def _serious(axe: Any, page: Any) -> list[Any]:
    """Return the findings that stop somebody."""
    results = axe.run(page).response["violations"]
    return [
        (page.url, one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in results
        if one["impact"] in ("serious", "critical")
    ]
