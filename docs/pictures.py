"""Makes the pictures of README and how-to pages from the real page: `python docs/pictures.py`.

Lives through the example's year in a temporary folder, serves it, and photographs it in Debian's
Chromium. `--all FOLDER` writes every page instead, light and dark, wide and phone, to be looked at.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

CHROMIUM, PASSWORD = "/usr/bin/chromium", "correct horse battery"
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
OUT = ROOT / "docs" / "pictures"
WEEK = "/kpis/late_share?from=2013-06-24&to=2013-07-01&split=origin"
SPAN = "/kpis/on_time_rate?from=2013-02-01&to=2013-03-01"
# name -> address, and a button that is pressed before, or `#` and the part of the page that is wanted
PICTURES: dict[str, tuple[str, str]] = {
    "bridge": ("/", ""),
    "number": (SPAN, ""),
    "graph": ("/graph?asset=dataset:flights", ""),
    "timeline": ("/assets/dataset:flights?tab=timeline", ""),
    "sum": (WEEK, "#What moved it, as a sum"),
}
ALL: dict[str, tuple[str, str]] = {
    **PICTURES,
    "kpis": ("/kpis", ""),
    "assets": ("/assets", ""),
    "asset": ("/assets/dataset:flights", ""),
    "columns": ("/assets/dataset:flights?tab=columns", ""),
    "partitions": ("/assets/dataset:flights?tab=partitions", ""),
    "versions": ("/assets/dataset:flights?tab=versions", ""),
    "checks": ("/assets/dataset:flights?tab=checks", ""),
    "rows": ("/assets/dataset:flights?tab=rows", ""),
    "lineage": ("/assets/dataset:flights?tab=lineage", ""),
    "undo": ("/assets/dataset:flights", "Undo"),
    "graph-table": ("/graph?view=table", ""),
    "plan": ("/plan", ""),
    "runs": ("/runs", ""),
    "run": ("/runs", "first row"),
    "releases": ("/releases", ""),
    "release": ("/releases", "first row"),
    "sessions": ("/sessions", ""),
}


@contextmanager
def lived(folder: Path) -> Iterator[str]:
    """Give the address of a server of the year, with the account ann."""
    from served import serve
    from sextant.app.platform import LocalPlatform
    from sextant.kernel.nouns import SYSTEM
    from sextant.project.config import read_config

    story = [sys.executable, str(ROOT / "examples" / "year.py"), "--backfill", "--no-server"]
    subprocess.run([*story, "--folder", str(folder)], check=True, capture_output=True)
    with LocalPlatform(read_config(folder)) as platform:
        platform.access.create_account("ann", PASSWORD, by=SYSTEM, role="admin")
        with serve(platform) as serving:
            yield serving.url


def signed_in(browser: Any, url: str) -> Any:
    """Return what a browser keeps that is signed in and has turned the tour down."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Not now").click()
    kept = context.storage_state()
    context.close()
    return kept


def photograph(page: Any, url: str, what: tuple[str, str], file: Path, *, whole: bool) -> None:
    address, press = what
    page.goto(url + address)
    page.get_by_role("heading", level=1).wait_for()
    if press == "first row":
        page.get_by_role("grid").get_by_role("row").nth(1).get_by_role("link").first.click()
    elif press and not press.startswith("#"):
        page.get_by_role("button", name=press, exact=True).click()
    page.wait_for_function("() => !document.querySelector('.sx-loading')")
    page.wait_for_timeout(700)  # what is drawn after its data has come
    if whole:
        page.evaluate("() => document.querySelector('main').scrollTo(0, 0)")
    (page.get_by_role("region", name=press[1:]) if press.startswith("#") else page).screenshot(
        path=str(file)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", metavar="FOLDER", help="every page, light and dark, wide and phone"
    )
    given = parser.parse_args()
    os.environ["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"] = "1"
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory(prefix="sextant-pictures-") as own,
        sync_playwright() as driver,
    ):
        os.environ |= {"XDG_CONFIG_HOME": f"{own}/config", "XDG_STATE_HOME": f"{own}/state"}
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with lived(Path(own) / "flights") as url:
            kept = signed_in(browser, url)
            out = Path(given.all) if given.all else OUT
            out.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark") if given.all else ("light",):
                for size, viewport in (
                    (("wide", WIDE), ("phone", PHONE)) if given.all else (("", WIDE),)
                ):
                    context = browser.new_context(
                        viewport=viewport, color_scheme=scheme, storage_state=kept, locale="en-GB"
                    )
                    context.set_default_timeout(60_000)
                    page = context.new_page()
                    for name, what in (ALL if given.all else PICTURES).items():
                        mark = f"-{scheme}-{size}" if given.all else ""
                        photograph(page, url, what, out / f"{name}{mark}.png", whole=not size)
                    context.close()


if __name__ == "__main__":
    main()
