"""A browser that is really there, and a server of a small project that can end and begin again."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Serving, serve
from shop_project import HEAD, Shop

from sextant.app.platform import LocalPlatform
from sextant.kernel.clock import SystemClock
from sextant.kernel.nouns import SYSTEM

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "correct horse battery"
OPS = """
sx.policy("a second pair of eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=ops))

@sx.dataset(owner=ops, tags=["daily"], checks=[sx.between("amount", 0, 100)])
def orders() -> pl.DataFrame:
    \"\"\"What was sold.\"\"\"
    print("making orders")
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 2.0], "note": ["<b>bold</b>", "=1+1"]})

@sx.dataset(owner=ops)
def totals(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(pl.col("amount").sum())

@sx.dataset(owner=ops)
def odd() -> pl.DataFrame:
    \"\"\"<img src=x onerror=alert(1)> \u05d0\u05d1\u05d2 LONG\"\"\"
    return pl.DataFrame({"<img src=x onerror=alert(2)>": ["<script>alert(3)</script>"], "\u05d0\u05d1\u05d2": ["\u05d3 abc"], "LONG": ["LONG"]})

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
"""
# without the last five, Chromium looks for hosts of its maker
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class MovedClock(SystemClock):
    """The machine's clock, moved forward by hand."""

    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


class Site:
    """A served project, with accounts ann (admin), bob and eve (operators), vic (viewer)."""

    def __init__(self, shop: Shop, platform: LocalPlatform, clock: MovedClock) -> None:
        self.shop, self.platform, self.clock = shop, platform, clock
        self._stack = contextlib.ExitStack()
        self.serving: Serving | None = None
        self.port = 0
        self.begin()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Serve, on the same port as before."""
        self.serving = self._stack.enter_context(serve(self.platform, port=self.port))
        self.port = int(self.serving.url.rpartition(":")[2])

    def end(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def opened_site(folder: Path, ops: str, *, head: str = HEAD) -> Iterator[Site]:
    """Serve a project with these assets, to ann, bob, eve and vic."""
    shop = Shop(folder)
    shop.write(ops, head=head.replace('"bob"', '"bob", "eve"'))
    clock = MovedClock()
    with shop.open(clock=clock, executor="pool") as platform:
        roles = {"ann": "admin", "bob": "operator", "eve": "operator", "vic": "viewer"}
        for name, role in roles.items():
            platform.access.create_account(name, PASSWORD, by=SYSTEM, role=role, teams=("ops",))
        made = Site(shop, platform, clock)
        yield made
        made.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened_site(tmp_path_factory.mktemp("shop"), OPS.replace("LONG", "x" * 10_000)) as made:
        yield made


# not of the session: while it lives, no other test of this process can run an event loop
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Give the browser, or skip with the reason."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no browser at {CHROMIUM}: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    os.environ["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"] = "1"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Open]:
    """Give a function that opens a page in a browser of its own, signed in as somebody.

    What the console says is an error of the test, but for answers that refuse: the browser calls
    those errors too.
    """
    said: list[str] = []
    contexts = []

    def hear(message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            said.append(message.text)

    def open_(path: str = "/", person: str = "ann", **more: Any) -> Any:
        context = chromium.new_context(
            viewport=more.pop("size", {"width": 1280, "height": 800}),
            timezone_id="Europe/Berlin",
            locale="en-GB",
            **more,
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(site.url + path)
        if person:
            sign_in(page, person)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not said, "\n".join(said)


def sign_in(page: Any, person: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(person)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()
