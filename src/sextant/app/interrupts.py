"""Waiting and being interrupted: what stops a run in this process cleanly, and what wakes a
scheduler."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Of one platform in this process. Any thread."""

    def __init__(self) -> None:
        self._interrupted = threading.Event()
        # how much of what is done here stops by itself; counted where signals come in, in a
        # command's one thread
        self._stoppable = 0
        self._nudged = threading.Condition()
        self._nudges = 0
        # .nudges: how many of them the scheduler in this thread has seen
        self._noticed = threading.local()

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until an interruption, or until there is something to do that
        this thread has not seen."""
        with self._nudged:
            self._nudged.wait_for(
                lambda: (
                    self._interrupted.is_set()
                    or self._nudges != getattr(self._noticed, "nudges", 0)
                ),
                seconds,
            )
            self._noticed.nudges = self._nudges

    def nudge(self) -> None:
        """Wake who waits in `pause`: something may be due."""
        with self._nudged:
            self._nudges += 1
            self._nudged.notify_all()

    def interrupt(self) -> None:
        """Stop what runs in this process, cleanly. May be called by a signal's handler."""
        self._interrupted.set()
        threading.Thread(
            target=self.nudge, daemon=True
        ).start()  # the thread that was interrupted may hold the condition

    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Say that what is done here looks by itself whether it is interrupted."""
        self._stoppable += 1
        try:
            yield
        finally:
            self._stoppable -= 1

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Turn the first Ctrl-C (and SIGTERM) into a clean stop of what runs; the second one ends
        the process, as the first does when nothing runs."""

        def stop(number: int, _frame: object) -> None:
            self.interrupt()
            signal.signal(number, signal.SIG_DFL)
            if not self._stoppable:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
