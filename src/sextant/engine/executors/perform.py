"""Performs one work order where project code may run: what is common to all kinds - time, memory,
errors, secrets kept out of logs. The kind of the asset does the rest.

Called by the worker process, and in this process by the inline executor. It never touches the state
store.
"""

import os
import re
import resource
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec

from sextant.kernel import registry
from sextant.kernel.errors import SextantError, WorldError
from sextant.kernel.nouns import Resources, WorkOrder, WorkResult
from sextant.project.datafiles import not_in_bundle


def perform(order: WorkOrder) -> WorkResult:
    """Do what the order says. Never raises: an error becomes a result that says what, where and how
    to mend it."""
    wall, cpu = time.monotonic(), time.process_time()
    _reset_peak()
    try:
        result: WorkResult = registry.load(f"perform.{order.asset.kind}")(order)
    except SextantError as error:
        result = _failure(
            order,
            error.code,
            error.message,
            error.hint,
            error.where or _place(order, error),
            retryable=isinstance(error, WorldError),
        )
    except MemoryError as error:
        place = _place(order, error)
        result = _failure(
            order,
            "SX-STEP-MEMORY",
            f"`{order.asset.id}` needed more memory than it may use",
            "raise memory= of the asset, or work in smaller partitions",
            place,
        )
    except BaseException as error:  # project code raised: any kind, SystemExit too
        traceback.print_exc()
        text = str(error).strip().splitlines()
        message = f"`{order.asset.id}` raised {type(error).__name__}" + (
            f": {text[0]}" if text else ""
        )
        result = _failure(
            order,
            "SX-STEP-001",
            message,
            _missing_file(order, error) or "the step's log has the whole traceback",
            _place(order, error),
            retryable=True,
        )
    used = Resources(
        wall_s=time.monotonic() - wall,
        cpu_s=time.process_time() - cpu,
        memory_bytes_peak=_peak(),
        bytes_read=sum(
            file.size_bytes for ref in order.inputs for set_ in ref.sets for file in set_.files
        ),
        bytes_written=sum(
            {file.path: file.size_bytes for out in result.outputs for file in out.files}.values()
        ),
    )
    return msgspec.structs.replace(result, resources=used)


# ------------------------------------------------------------ the project, errors, resources

_projects: dict[tuple[str, str], Any] = {}


def open_project(order: WorkOrder) -> Any:
    """Return the functions and queries of the order's project, imported once for each bundle."""
    key = (order.project, order.bundle)
    if key not in _projects:
        _projects[key] = registry.load("project.open")(Path(order.project), order.root)
    return _projects[key]


def redact(order: WorkOrder, text: str) -> str:
    """Return a log with the step's secret values replaced."""
    if order.asset.build is None or not order.asset.build.secrets:
        return text
    return str(registry.load("secrets.redactor")((order,)).text(text))


def _failure(
    order: WorkOrder, code: str, message: str, hint: str, where: str, *, retryable: bool = False
) -> WorkResult:
    return WorkResult(
        order=order.id,
        attempt=order.attempt,
        fence=order.fence,
        ok=False,
        error_code=code,
        error=redact(order, message),
        hint=hint,
        where=where,
        retryable=retryable,
    )


def _place(order: WorkOrder, error: BaseException) -> str:
    """Return `file:line` of the innermost frame that is the project's own."""
    root = os.path.realpath(order.project) + os.sep
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = os.path.realpath(frame.filename)
        if path.startswith(root):
            found = f"{path.removeprefix(root)}:{frame.lineno}"
    return found or (f"{order.asset.file}:{order.asset.line}" if order.asset.file else "")


# as libraries end the message that a file is not there, or quote its name in it
_NAMED = re.compile(r"""['"]([^'"]+)['"]|(?:^|: )([^:'"]+)$""")


def _missing_file(order: WorkOrder, error: BaseException) -> str:
    """Return how to mend that a file below the project's folder is not in its bundle; "" for any
    other error."""
    text = str(error)
    if not isinstance(error, FileNotFoundError) and "No files found" not in text:
        return ""
    found = _NAMED.search(text.strip())
    name = getattr(error, "filename", None) or (found and (found[1] or found[2])) or ""
    top = os.path.realpath(order.project)
    path = os.path.relpath(os.path.join(top, str(name).strip()), top).replace(os.sep, "/")
    if not name or path.startswith("..") or os.path.exists(os.path.join(top, path)):
        return ""
    return not_in_bundle(path)


def _reset_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak is then the process's


def _peak() -> int:
    """Return the peak resident memory since `_reset_peak`, in bytes."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
