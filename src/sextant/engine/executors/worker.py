"""The worker process: reads work orders from stdin, performs them, answers on stdout. Started by `process.py` only.

Project code runs here and nowhere else. Its own output goes into the step's log, never into the protocol.
"""

import contextlib
import gc
import os
import resource
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

from sextant.engine.executors import wire
from sextant.kernel.limits import STEP_LOG_BYTES_MAX, STEP_MEMORY_BYTES_MAX
from sextant.kernel.nouns import WorkOrder, WorkResult


def main() -> None:
    """Serve until stdin closes."""
    orders, results = os.dup(0), os.dup(1)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_coordinator, args=(orders,), name="sextant-watch", daemon=True).start()
    from sextant.engine.executors.perform import perform, redact  # the heavy imports, before the first order arrives

    gc.freeze()  # modules live as long as the worker
    while body := wire.receive(orders):
        order = wire.order_from(body)
        wire.send(results, _captured(order, perform, redact))


def _end_with_coordinator(orders: int) -> None:
    """Wait until nobody can send orders any more, and end this process with all that the step has started: what takes up
    the run after a crash must not find an old step writing beside it."""
    watch = select.poll()
    watch.register(orders, 0)  # hang-up is reported unasked
    watch.poll()
    os.killpg(0, signal.SIGKILL)


def _captured(order: WorkOrder, perform: Callable[[WorkOrder], WorkResult], redact: Callable[[WorkOrder, str], str]) -> WorkResult:
    import msgspec

    with tempfile.TemporaryFile() as log:
        saved = os.dup(1), os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            with _memory_limit(order):
                result = perform(order)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(ValueError, OSError):
                    stream.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
        text = _head_and_tail(log.fileno())
    return msgspec.structs.replace(result, log=redact(order, text)) if text else result


@contextlib.contextmanager
def _memory_limit(order: WorkOrder) -> Iterator[None]:
    """Let the step grow by its limit over what the process holds already: then MemoryError instead of the OOM killer."""
    limit = (order.asset.build.memory_bytes if order.asset.build else 0) or STEP_MEMORY_BYTES_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with open("/proc/self/statm") as statm:
            held = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + limit, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _head_and_tail(fd: int) -> str:
    size = os.lseek(fd, 0, os.SEEK_END)
    half = STEP_LOG_BYTES_MAX // 2
    if size <= STEP_LOG_BYTES_MAX:
        return os.pread(fd, size, 0).decode(errors="replace")
    head, tail = os.pread(fd, half, 0), os.pread(fd, half, size - half)
    return head.decode(errors="replace") + f"\n... {size - 2 * half} bytes left out ...\n" + tail.decode(errors="replace")


if __name__ == "__main__":
    main()
