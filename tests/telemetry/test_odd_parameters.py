"""Odd values of the parameters of looking into telemetry are mistakes of who asks, never defects."""

from collections.abc import Callable
from typing import Any

import pytest
from looking import Sender, operations
from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.kernel.errors import UsageError, UserError

_TEXTS = (
    *("1e300s", "1e300ms", "1e18s", "1e9999d", "infs", "nans", "-1s", "nan", "inf", "1e300", "-0"),
    *("0001-01-01", "9999-12-31T23:59:59", "9999-99-99", "²²²²-01-01", "2026-01-01T00:00:00+99:99"),
    *("\0", "'", "{x:String}", "\ud800", "é" * 100, "9" * 400, "=", "a=\0", "%", "\\"),
)
_NUMBERS = (-(2**70), -1, 0, 2**31, 2**63, 2**70)
_CALLS: dict[str, Callable[..., Any]] = {
    "search_logs": Operations.search_logs,
    "traces": Operations.traces,
    "trace_facts": lambda ops, **more: ops.trace_facts(more.pop("trace", "ab" * 16), **more),
    "metrics": Operations.metrics,
    "metric": lambda ops, **more: ops.metric(more.pop("name", "odd.latency"), **more),
}


@pytest.fixture(scope="module")
def looks(process: Telemetry, coordinator: Serving, token: str) -> Operations:
    sender = Sender(process, token)
    gauge = {"dataPoints": [{"timeUnixNano": str(sender.now), "asDouble": 1.0}]}
    sender.metrics("odd", {"name": "odd.latency", "gauge": gauge})
    return operations(coordinator, process)


@pytest.mark.parametrize(
    ("operation", "parameter"),
    [
        *(("search_logs", name) for name in ("search", "asset", "level", "trace")),
        *(("search_logs", name) for name in ("attributes", "since", "until", "limit")),
        *(("traces", name) for name in ("asset", "name", "attributes", "min_duration")),
        *(("traces", name) for name in ("since", "until", "limit")),
        *(("trace_facts", name) for name in ("trace", "under", "limit")),
        *(("metrics", name) for name in ("search", "asset", "since", "limit")),
        *(("metric", name) for name in ("name", "by", "labels", "asset", "quantiles")),
        *(("metric", name) for name in ("since", "until", "limit")),
    ],
)
def test_odd_values_are_no_defects(looks: Operations, operation: str, parameter: str) -> None:
    """If this fails, a typing error is answered with 500."""
    values: tuple[Any, ...] = _NUMBERS if parameter == "limit" else _TEXTS
    if parameter in ("attributes", "by", "labels", "quantiles"):
        values = tuple((value,) for value in values)
    for value in values:
        try:
            _CALLS[operation](looks, **{parameter: value})
        except (UsageError, UserError):
            pass
        except Exception as error:
            raise AssertionError(f"{operation}({parameter}={value!r}): {error!r}") from error
