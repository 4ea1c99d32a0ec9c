"""The worker process: reads work orders from stdin, performs them, answers on stdout. Started by
`process.py` only.

Project code runs here and nowhere else. Its own output goes into the step's log, never into the
protocol. The log is a file without a name that the coordinator made and holds too (its descriptor
is the one argument), so that the log of a step that had to be killed can still be read. One file
serves all orders of a worker: making and deleting a file for each step is slow.
"""

import contextlib
import gc
import io
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator

from sextant.engine.executors import wire
from sextant.kernel.limits import STEP_MEMORY_BYTES_MAX
from sextant.kernel.nouns import WorkOrder, WorkResult


def main() -> None:
    """Serve until stdin closes."""
    log = int(sys.argv[1])
    os.set_inheritable(log, False)
    orders, results = os.dup(0), os.dup(1)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            line_buffering=True
        )  # what was printed before a step is killed is in its log
    threading.Thread(
        target=_end_with_coordinator, args=(orders,), name="sextant-watch", daemon=True
    ).start()
    from sextant.engine.executors.perform import perform

    _import_kinds()  # what is heavy, before the first order arrives

    _start_pools()
    secretive: dict[
        tuple[str, ...], WorkOrder
    ] = {}  # what an earlier step left running may still print its secrets
    gc.freeze()  # modules live as long as the worker
    while body := wire.receive(orders):
        order = wire.order_from(body)
        if order.asset.build and order.asset.build.secrets:
            secretive[tuple(sorted(order.asset.build.secrets.values()))] = order
        with contextlib.suppress(OSError):  # of an unpacked bundle that is gone: the step says so
            os.chdir(order.project)  # relative names mean the project's files, wherever it runs
        wire.send(results, _captured(order, perform, log, secretive.values()))


def _import_kinds() -> None:
    from sextant.kernel import registry

    for name in registry.names("perform"):
        registry.load(name)


def _start_pools() -> None:
    """Start the libraries' thread pools: the gigabyte of address space that they take would count
    against the first step's memory."""
    import polars as pl
    import pyarrow as pa
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pa.table({"n": [1, 2]}), file)
    pl.DataFrame(pl.from_arrow(parquet.read_table(file, use_threads=True))).group_by("n").len()


def _end_with_coordinator(orders: int) -> None:
    """Wait until nobody can send orders any more, and end this process with all that the step has
    started: what takes up the run after a crash must not find an old step writing beside it."""
    watch = select.poll()
    watch.register(orders, 0)  # hang-up is reported unasked
    watch.poll()
    os.killpg(0, signal.SIGKILL)


def _captured(
    order: WorkOrder,
    perform: Callable[[WorkOrder], WorkResult],
    log: int,
    secretive: Collection[WorkOrder],
) -> WorkResult:
    """Perform an order with its output in the log. `secretive`: orders whose secrets are masked
    there."""
    import msgspec

    os.ftruncate(log, 0)  # whoever still writes appends
    saved = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
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
    if os.fstat(log).st_size == 0:
        return result
    return msgspec.structs.replace(result, log=wire.head_and_tail(log, wire.mask_of(secretive)))


@contextlib.contextmanager
def _memory_limit(order: WorkOrder) -> Iterator[None]:
    """Let the step grow by its limit over what the process holds already: then MemoryError instead
    of the OOM killer."""
    limit = (order.asset.build.memory_bytes if order.asset.build else 0) or STEP_MEMORY_BYTES_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with open("/proc/self/statm") as statm:
            held = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + limit, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    main()
