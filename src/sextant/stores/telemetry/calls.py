"""Derives who calls whom from spans: matches a client's span with the server's span below it.

Called by the intake, on one thread. The two sides come from two services and in any order, so
whichever comes first waits for the other. What a client says itself about its peer (`peer.service`)
is believed at once. A client whose other side does not report within a minute is taken to have
called a machine that does not trace: `host:` with `server.address`.

A table or topic that a client's span is about counts as called by the service that takes from it,
and calls the service that gives to it: cause travels from who writes to who reads.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from sextant.formats.telemetry.batch import Span
from sextant.kernel import limits
from sextant.kernel.outside import Used

_SERVES, _ASKS = (2, 5), (3, 4)  # OTLP's SpanKind: server, consumer; client, producer


class Call(NamedTuple):
    """Calls that were seen: how many, and when."""

    caller: str
    callee: str
    times: int
    first_ms: int
    last_ms: int


class Calls:
    """Spans that wait for their other side."""

    def __init__(self) -> None:
        # (trace, span) -> asset, host, span ms, came ms
        self._asking: OrderedDict[tuple[bytes, bytes], tuple[str, str, int, int]] = OrderedDict()
        # (trace, parent span) -> asset, span ms, came ms
        self._serving: OrderedDict[tuple[bytes, bytes], tuple[str, int, int]] = OrderedDict()
        self._used: OrderedDict[str, set[str]] = OrderedDict()  # service -> tables and topics

    def _few(self, span: Span) -> Iterable[Used]:
        """Yield the tables and topics of a span, of a service's first ones: names that are made up
        one by one, with an id in each, are no graph."""
        if not span.used:
            return
        known = self._used.setdefault(span.asset, set())
        self._used.move_to_end(span.asset)
        if len(self._used) > limits.SPANS_WAITING_MAX:
            self._used.popitem(last=False)
        for one in span.used:
            if one.asset in known or len(known) < limits.USED_PER_SERVICE_MAX:
                known.add(one.asset)
                yield one

    def meet(self, spans: Iterable[Span], now_ms: int) -> list[Call]:
        """Take spans; return the calls that are known by now."""
        seen: Counter[tuple[str, str]] = Counter()
        times: dict[tuple[str, str], tuple[int, int]] = {}

        def note(caller: str, callee: str, ts_ms: int) -> None:
            if not caller or not callee or caller == callee:
                return
            pair = (caller, callee)
            seen[pair] += 1
            first, last = times.get(pair, (ts_ms, ts_ms))
            times[pair] = (min(first, ts_ms), max(last, ts_ms))

        for span in spans:
            for asset, written in self._few(span):
                pair = (asset, span.asset) if written else (span.asset, asset)
                note(*pair, span.ts_ms)
            if span.kind in _ASKS:
                if span.peer.startswith("service:"):
                    note(span.asset, span.peer, span.ts_ms)
                    continue
                server = self._serving.pop((span.trace_id, span.span_id), None)
                if server is not None:
                    note(span.asset, server[0], span.ts_ms)
                else:
                    self._asking[span.trace_id, span.span_id] = (
                        span.asset,
                        span.peer,
                        span.ts_ms,
                        now_ms,
                    )
            elif span.kind in _SERVES and span.parent_span_id:
                client = self._asking.pop((span.trace_id, span.parent_span_id), None)
                if client is not None:
                    note(client[0], span.asset, span.ts_ms)
                else:
                    self._serving[span.trace_id, span.parent_span_id] = (
                        span.asset,
                        span.ts_ms,
                        now_ms,
                    )
        late = now_ms - int(limits.SPANS_WAITING_S * 1000)
        while self._asking and (
            len(self._asking) > limits.SPANS_WAITING_MAX
            or next(iter(self._asking.values()))[3] < late
        ):
            caller, host, ts_ms, _ = self._asking.popitem(last=False)[1]
            note(caller, host, ts_ms)
        while self._serving and (
            len(self._serving) > limits.SPANS_WAITING_MAX
            or next(iter(self._serving.values()))[2] < late
        ):
            self._serving.popitem(last=False)
        return [
            Call(caller, callee, count, *times[caller, callee])
            for (caller, callee), count in seen.items()
        ]
