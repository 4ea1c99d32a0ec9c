"""A program with counters, histograms, spans and log lines, as its authors would write it: nothing in
it knows Sextant. Run by `opentelemetry-instrument`, which reads where to send from its environment.

Prints as JSON what it measured.
"""

import json
import logging
import sys

from opentelemetry import metrics, trace

VALUES = [0.9 * 1.07**n for n in range(100)]  # 0.9 to 729: no value is a bound of a bucket
EXPORTS = 4


def main() -> None:
    meter, tracer = metrics.get_meter("app"), trace.get_tracer("app")
    orders = meter.create_counter("app.orders")
    waiting = meter.create_up_down_counter("app.waiting")
    duration = meter.create_histogram("app.duration", unit="ms")
    traces = {}
    logging.basicConfig(stream=sys.stderr)
    share = len(VALUES) // EXPORTS
    for part in range(EXPORTS):
        # the order of a day: large and small mixed, so that the range grows from export to export
        for value in VALUES[part::EXPORTS]:
            with tracer.start_as_current_span("work") as span:
                traces[f"{span.get_span_context().trace_id:032x}"] = value
                orders.add(2, {"shop": "north" if part % 2 else "south"})
                duration.record(value)
                waiting.add(1)
            waiting.add(-1)
        logging.getLogger("app").warning("part %d of %d is done", part + 1, EXPORTS)
        assert metrics.get_meter_provider().force_flush()  # type: ignore[attr-defined]
    print(json.dumps({"orders": 2 * share * EXPORTS, "values": VALUES, "traces": traces}))


if __name__ == "__main__":
    main()
