"""How far a run is, on stderr: at a terminal one line that moves, elsewhere a line now and then."""

import os
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from sextant.cli.output import harmless, say
from sextant.kernel.lengths import human_s

if TYPE_CHECKING:
    from sextant.kernel.answers import RunProgress

_BAR = 24  # characters of the bar
_MOVES_S = 0.5  # how often the line at a terminal moves
_QUIET_S = 10.0  # how long nothing is said elsewhere


def progress_text(now: "RunProgress", unit: str = "steps") -> str:
    """Return how far a run is: `12/40 steps, 3 failed, 1,200 rows, about 2m left`."""
    text = f"{now.ended}/{now.total} {unit}"
    text += f", {now.failed} failed" if now.failed else ""
    text += f", {now.skipped} that stand on those" if now.skipped else ""
    text += f", {now.rows:,} rows" if unit == "steps" else ""
    if now.seconds_left is not None and now.left + len(now.running):
        text += f", about {human_s(now.seconds_left)} left"
    elif now.since:
        text += ", never timed before"
    return text


class Progress:
    """Follows one run. Use as a context manager: what it has drawn is gone at the end.

    Called from the run's thread; a thread of its own keeps the line moving while a step is long.
    """

    def __init__(self, unit: str = "steps") -> None:
        self._unit = unit
        self._now: RunProgress | None = None
        self._since_s: dict[str, float] = {}  # running step -> when it was first seen
        self._start_s = time.monotonic()
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="sextant-progress", daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        with self._lock:
            self._clear()

    def __call__(self, now: "RunProgress") -> None:
        with self._lock:
            if now.waits:
                self._say(f"waiting: {now.waits}")
                return
            at_s = time.monotonic()
            self._since_s = {step: self._since_s.get(step, at_s) for step in now.running}
            self._now = now

    def say(self, text: str) -> None:
        """Talk to the person while the run goes on."""
        with self._lock:
            self._say(text)

    def _say(self, text: str) -> None:
        self._clear()
        say(text)

    def _tick(self) -> None:
        while not self._over.wait(_MOVES_S if self._live else _QUIET_S):
            with self._lock:
                if self._live:
                    self._draw()
                else:
                    say(self._text())

    def _text(self) -> str:
        if self._now is None:
            return f"planning, {human_s(time.monotonic() - self._start_s)}"
        now = self._now
        text = progress_text(now, self._unit)
        if now.running:
            step = now.running[0]
            more = f" and {len(now.running) - 1} more" if len(now.running) > 1 else ""
            since = human_s(time.monotonic() - self._since_s.get(step, self._start_s))
            text += f"; {step}{more}, {since}"
        return text

    def _draw(self) -> None:
        text = harmless(self._text())
        if self._now is not None and self._now.total:
            full = _BAR * self._now.ended // self._now.total
            text = f"[{'#' * full}{'.' * (_BAR - full)}] {text}"
        sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False
