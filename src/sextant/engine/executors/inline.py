"""Runs work orders in this process, at once: for tests and debuggers. Faults are not isolated and
timeouts not kept."""

from collections.abc import Callable

from sextant.kernel.nouns import WorkOrder, WorkResult


class InlineExecutor:
    slots = 64  # ready steps share their commits

    def submit(self, order: WorkOrder, done: Callable[[WorkResult], None]) -> None:
        from sextant.engine.executors.perform import perform

        done(perform(order))

    def cancel(self, order_id: str) -> None:
        """Nothing runs between calls."""

    def close(self) -> None:
        """Nothing is held."""
