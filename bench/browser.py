"""The page in a real browser: how long until something, and all, of it is there, and what open pages
cost the server. `PYTHONPATH=src python bench/browser.py [year] [series] [graph] [live] [streams]`.

The server is a process of its own, in the same machine as Debian's Chromium (headless). Times are
of the page's own clock, from the click or the navigation to the frame after what was waited for.
Medians and ranges of repetitions; each navigation in a context of its own, but for those that say
that files are kept.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

CHROMIUM, PASSWORD = "/usr/bin/chromium", "correct horse battery"
REPEAT, LONG_S = 7, 120
SERIES = 1_000_000
PROJECT = """
import polars as pl, sextant as sx
sx.project("series", tz="UTC", environments=["dev"])
ROWS = {rows}

@sx.dataset(time="at")
def ticks() -> pl.DataFrame:
    at = pl.datetime_range(pl.datetime(2015, 1, 1), pl.datetime(2015, 1, 1) + pl.duration(minutes=5 * (ROWS - 1)), "5m", time_zone="UTC", eager=True)
    return pl.DataFrame({{"at": at}}).with_columns(amount=((pl.int_range(pl.len()) * 7919) % 1009) / 8)

sx.kpi("load", of=ticks, measure="sum(amount)", grain="5m")
"""
# ---------------------------------------------------------------- the server, in a process of its own


def serve(part: str, folder: str, count: int) -> None:
    """Serve a project until the process is ended; say where, and its own id, on one line."""
    from served import serve as served

    from sextant.app.platform import LocalPlatform
    from sextant.kernel.nouns import SYSTEM
    from sextant.project.config import read_config

    if part == "graph":
        from big_project import opened

        platform = opened(folder, count)
    else:
        platform = LocalPlatform(read_config(Path(folder)))
    with platform as p, served(p) as serving:
        with contextlib.suppress(Exception):  # it is there from an earlier part
            p.access.create_account("ann", PASSWORD, by=SYSTEM, role="admin")
        secret = serving.token("admin")
        print(json.dumps({"url": serving.url, "token": secret}), flush=True)
        signal.sigwait({signal.SIGTERM})


@contextlib.contextmanager
def server(part: str, folder: str, count: int = 0) -> Iterator[tuple[str, str, int]]:
    """Give address, token and process of a server."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", part, "--folder", folder, "--count", str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield said["url"], said["token"], process.pid
    finally:
        process.terminate()
        process.wait(60)


# ---------------------------------------------------------------- the browser


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    os.environ["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"] = "1"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


def signed_in(chromium: Any, url: str) -> Any:
    """Return the state of a browser that is signed in."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Bridge").wait_for()
    state = context.storage_state()
    context.close()
    return state


def opened_page(chromium: Any, state: Any, address: str) -> Any:
    """Return a page of a context of its own, at an address."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, storage_state=state)
    context.set_default_timeout(LONG_S * 1000)
    page = context.new_page()
    page.goto(address)
    return page


def until(page: Any, done: str) -> float:
    """Return the page's time, in ms since its navigation, in the frame after something holds."""
    # written into the function: the page's own policy forbids `eval`
    look = (
        f"({done}) ? requestAnimationFrame(() => resolve(performance.now())) : setTimeout(look, 4)"
    )
    wait = f"() => new Promise((resolve) => {{ const look = () => {look}; look(); }})"
    return float(page.evaluate(wait))


def after_click(page: Any, click: str, done: str) -> float:
    """Return the ms from a click (a statement of the page's) to the frame after something holds."""
    begun = float(page.evaluate(f"() => {{ const at = performance.now(); {click}; return at; }}"))
    return until(page, done) - begun


def say(name: str, ms: list[float], **more: Any) -> None:
    row = {
        "bench": "browser",
        "name": name,
        "n": len(ms),
        "median_ms": round(statistics.median(ms)),
    }
    row |= {"least_ms": round(min(ms)), "most_ms": round(max(ms))}
    print(json.dumps({**row, **more}), flush=True)


BRIDGE = (
    "document.querySelectorAll('.sx-tile .sx-tile-value').length > 0"
    " && document.querySelectorAll('.sx-bridge .sx-lines-list').length > 2"
    " && !document.querySelector('.sx-loading')"
)


# ---------------------------------------------------------------- parts


def year(folder: str) -> None:
    """The lived year: the first page, with nothing kept and with its files kept."""
    with browser() as chromium, server("year", folder) as (url, _, _pid):
        state = signed_in(chromium, url)
        paint: list[float] = []
        whole: list[float] = []
        kept: list[float] = []
        for _ in range(REPEAT):
            page = opened_page(chromium, state, url)
            whole.append(until(page, BRIDGE))
            paint.append(
                page.evaluate(
                    "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
                )
            )
            page.reload()
            kept.append(until(page, BRIDGE))
            page.context.close()
        say("first contentful paint, nothing kept", paint, target_ms=1000)
        say("bridge whole, nothing kept", whole, target_ms=1500)
        say("bridge whole, files kept", kept)


def series() -> None:
    """A series of a million points: shown after a click, of a version that was asked for before and
    of one that was not."""
    with tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder:
        root = Path(folder).resolve()
        (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        (root / "ops.py").write_text(PROJECT.format(rows=SERIES))
        with browser() as chromium, server("series", str(root)) as (url, token, _):
            _post(url, token, "/api/v1/runs", {"env": "dev"})
            state = signed_in(chromium, url)
            first: list[float] = []
            again: list[float] = []
            fine = "document.querySelector('.sx-legend')?.innerText.includes('of 1,000,000')"
            for n in range(REPEAT):
                if n:  # other values, so another version
                    text = PROJECT.format(rows=SERIES).replace("1009", str(1009 + n))
                    (root / "ops.py").write_text(text)
                    _post(url, token, "/api/v1/runs", {"env": "dev", "stale": True})
                for took in (first, again):
                    page = opened_page(chromium, state, f"{url}/kpis/load?grain=1mo")
                    until(page, "document.querySelector('.sx-legend')")
                    choose = (
                        "const s = document.querySelector('select[aria-label=Grain]');"
                        " Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value')"
                        ".set.call(s, '5m'); s.dispatchEvent(new Event('change', {bubbles: true}))"
                    )
                    took.append(after_click(page, choose, fine))
                    page.context.close()
            say("1,000,000 points after the click, asked for first", first, target_ms=150)
            say("1,000,000 points after the click, asked for before", again, target_ms=150)


def graph() -> None:
    """The graph, and the search as one types."""
    for count, target in ((1_000, 1000), (10_000, 2000)):
        with (
            tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
            browser() as chromium,
            server("graph", str(Path(folder).resolve()), count) as (url, token, _),
        ):
            state = signed_in(chromium, url)
            drawn = "document.querySelectorAll('.react-flow__node').length > 3"
            link = "document.querySelector('nav a[href^=\"/graph\"]').click()"
            first: list[float] = []
            again: list[float] = []
            for n in range(REPEAT):
                said = {"kind": "release", "asset": "service:pay", "version": f"v{n}"}
                _post(url, token, "/api/v1/reports", {**said, "owner": "team_01"})
                for took in (first, again):
                    page = opened_page(chromium, state, f"{url}/runs")
                    until(page, "document.querySelector('.sx-empty, [role=grid]')")
                    took.append(after_click(page, link, drawn))
                    page.context.close()
            say(f"graph of {count:,} drawn, after an event", first, target_ms=target)
            say(f"graph of {count:,} drawn, looked at before", again, target_ms=target)
            if count > 1_000:
                page = opened_page(chromium, state, f"{url}/runs")
                until(page, "document.querySelector('.sx-empty, [role=grid]')")
                letters: list[float] = []
                for word in ("orders_daily_00", "carts_raw", "team_03"):
                    page.get_by_role("button", name="Search assets, pages and actions").click()
                    page.get_by_placeholder("Search assets, pages and actions").wait_for()
                    for n in range(len(word)):
                        asked = json.dumps(word[: n + 1])
                        begun = page.evaluate("() => performance.now()")
                        page.keyboard.type(word[n])
                        shown = f"document.querySelector('.sx-palette [data-for]')?.dataset.for === {asked}"
                        letters.append(until(page, shown) - begun)
                    page.keyboard.press("Escape")
                say("search: a letter until its answer is shown", letters, target_ms=100)


def live() -> None:
    """A change by somebody else, until it is seen in another browser."""
    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
        browser() as chromium,
        server("graph", str(Path(folder).resolve()), 300) as (url, token, _),
    ):
        state = signed_in(chromium, url)
        page = opened_page(chromium, state, f"{url}/assets")
        until(page, "document.querySelector('[role=grid]')")
        took = []
        for n in range(REPEAT):  # the table says how many there are
            said = {"kind": "release", "asset": f"service:s{n}", "version": "v1"}
            _post(url, token, "/api/v1/reports", {**said, "owner": "team_01"})
            begun = page.evaluate("() => performance.now()")
            done = f"/\\b{301 + n}\\b/.test(document.querySelector('.sx-main').innerText)"
            took.append(until(page, done) - begun)
        say("a change, until it is seen elsewhere", took, target_ms=1000)


def streams() -> None:
    """Open event streams at an idle server: its processor time in a minute."""
    import http.client
    from urllib.parse import urlsplit

    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
        server("graph", str(Path(folder).resolve()), 300) as (url, token, pid),
    ):
        where = urlsplit(url).netloc
        for count in (0, 50):
            links = []
            for _ in range(count):
                link = http.client.HTTPConnection(where)
                link.request("GET", "/api/v1/stream", headers={"authorization": f"Bearer {token}"})
                assert link.getresponse().status == 200
                links.append(link)
            time.sleep(3)
            begun, cpu = time.monotonic(), _cpu_s(pid)
            time.sleep(30)
            share = (_cpu_s(pid) - cpu) / (time.monotonic() - begun)
            row = {"bench": "browser", "name": f"idle server with {count} streams"}
            print(json.dumps({**row, "percent_of_a_core": round(100 * share, 1)}), flush=True)
            for link in links:
                link.close()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _post(url: str, token: str, path: str, body: dict[str, Any]) -> Any:
    import urllib.request

    asked = urllib.request.Request(
        url + path,
        json.dumps(body).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=600) as answer:
        return answer.read()


PARTS: dict[str, Callable[[], None]] = {
    "series": series,
    "graph": graph,
    "live": live,
    "streams": streams,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"year, {', '.join(PARTS)} (default: all)")
    parser.add_argument("--year", help="the folder of a lived year (default: it is made)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.folder, given.count)
        return
    with tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as own:
        # keys and witnesses of these ledgers are nobody's afterwards
        os.environ |= {
            name: str(Path(own).resolve() / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
        }
        _run(given)


def _run(given: argparse.Namespace) -> None:
    names = given.parts or ["year", *PARTS]
    if "year" in names:
        with tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder:
            lived = given.year or str(Path(folder).resolve() / "flights")
            if not given.year:
                command = [sys.executable, str(ROOT / "examples" / "year.py"), "--backfill"]
                subprocess.run(
                    [*command, "--no-server", "--folder", lived], check=True, capture_output=True
                )
            year(lived)
    for name in names:
        if name != "year":
            PARTS[name]()


if __name__ == "__main__":
    main()
