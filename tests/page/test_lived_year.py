"""The demo as a newcomer meets it: on a terminal it ends as a server with a link, and by the link he
finds why February was bad and what was undone in March."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def settings() -> str:
    """Return a `[server]` with a free port for each: below those that the kernel gives to outgoing
    connections, one of which could take it before the server does."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == 4:
            break
    named = zip(("api", "ingest", "sql", "grpc"), found, strict=True)
    return "[server]\n" + "".join(f'{name} = "127.0.0.1:{port}"\n' for name, port in named)


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.said = ""
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ |= {
                "XDG_CONFIG_HOME": str(folder / "config"),
                "XDG_STATE_HOME": str(folder / "state"),
                "PYTHONPATH": str(ROOT / "src"),
            }
            os.execv(command[0], command)

    def until(self, pattern: str, limit_s: float = 240) -> str:
        """Read until a pattern is said; return its first group."""
        ends = time.monotonic() + limit_s
        while (found := re.search(pattern, self.said)) is None:
            ready, _, _ = select.select([self._end], [], [], max(0.1, ends - time.monotonic()))
            try:
                more = os.read(self._end, 65536) if ready else b""
            except OSError:  # it has ended
                more = b""
            assert more, f"it never said {pattern}:\n{self.said}"
            self.said += more.decode(errors="replace")
        return found[1]

    def end(self) -> int:
        os.kill(self.pid, signal.SIGINT)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self._end)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture(scope="module")
def link(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "examples", folder / "examples")
    with (folder / "examples" / "flights" / "sextant.toml").open("a") as file:
        file.write(settings())
    story = str(folder / "examples" / "year.py")
    demo = Terminal(folder, sys.executable, story, "--backfill", "--folder", "year")
    try:
        yield demo.until(r"(http://\S+/#signin=\S+)")
    except BaseException:
        demo.end()
        raise
    assert demo.end() == 0, demo.said
    assert "Ctrl-C ends the server" in demo.said


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def test_a_newcomer_finds_february_and_march(chromium: Any, link: str) -> None:
    """If this fails, the first ten minutes end before the product has shown what it is for."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    context.set_default_timeout(60_000)
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(link)
    expect(page.get_by_role("heading", name="Bridge")).to_be_visible()
    page.locator(".sx-tile", has_text="on_time_rate").click()
    expect(page.get_by_role("heading", name="on_time_rate")).to_be_visible()
    chart = page.locator(".sx-chart-card canvas").first
    expect(chart).to_be_visible()
    # drag over February: the chart has the whole year
    box = chart.bounding_box()
    days = lambda n: box["x"] + box["width"] * (0.06 + 0.93 * n / 365)  # noqa: E731
    page.mouse.move(days(33), box["y"] + 150)
    page.mouse.down()
    page.mouse.move(days(45), box["y"] + 150, steps=4)
    page.mouse.up()
    span = page.get_by_label("The span")
    expect(span).to_contain_text("2013-02-")
    expect(page.get_by_text("Other numbers in this span")).to_be_visible()
    others = page.locator(".sx-card", has_text="Other numbers in this span")
    expect(others).to_contain_text("cancellation_rate")
    checks = page.locator(".sx-card", has_text="Checks that failed in this span")
    for day in ("2013-02-08", "2013-02-09"):  # the blizzard: half of the flights never left
        expect(checks).to_contain_text(day)
    expect(checks).to_contain_text("these rows are in the number")
    expect(page.locator(".sx-card", has_text="What changed upstream")).to_contain_text("No release")
    # what was undone in March: the mark says it
    page.goto(
        re.sub(r"(http://[^/]+).*", r"\1/kpis/on_time_rate?from=2013-03-01&to=2013-04-01", link)
    )
    changed = page.locator(".sx-card", has_text="What changed upstream")
    expect(changed).to_contain_text("wrong delays")
    expect(changed).to_contain_text("undo")
    context.close()
    assert not said, said
