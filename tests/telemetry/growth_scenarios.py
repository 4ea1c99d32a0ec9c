"""Made-up services whose every observation is known, and how their counters and histograms are
sent: by OTLP or Prometheus, with restarts, several processes, other bounds, late and repeated.

Used by test_growth.py. `scenarios(seed, count)` gives them; each says what the platform must find.
"""

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

NS = 10**9
EXPORT_S = 15
SPAN_S = 900
BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
OTHER_BOUNDS = [0.002, 0.02, 0.03, 0.08, 0.2, 0.4, 0.8, 3.0, 7.0]
CELLS = 160  # buckets that an SDK keeps of an exponential histogram


class Sent(NamedTuple):
    """A request: `otlp` (a message) or `remote_write` (series as (labels, [(value, ms)]))."""

    otlp: Any = None
    remote_write: Any = None


class Scenario(NamedTuple):
    """`truth` is what grew in all; `told` says that part is refused, and that less may be found
    then; `values` what was observed: a quantile may be off by what `scale` promises, or lie between
    two neighbours of `bounds`."""

    name: str
    metric: str
    kind: str
    requests: list[Sent]
    truth: float
    told: bool = False
    values: list[float] = []
    bounds: list[list[float]] = []
    scale: int = 0


class Process:
    """A process that counts. `start` in seconds; observations are (time, value)."""

    def __init__(self, rng: random.Random, start: float, end: float, rate: float, *, wide: bool):
        self.start, self.end = start, end
        times = []
        at = start
        while True:
            at += rng.expovariate(rate)
            if at >= end:
                break
            times.append(at)
        spread = 2.5 if wide else 1.0
        self.seen = [(at, math.exp(rng.gauss(-3, spread))) for at in times]

    def until(self, at: float, since: float = -math.inf) -> list[float]:
        return [value for when, value in self.seen if since < when <= at]

    def exports(self, phase: float) -> list[float]:
        out, at = [], self.start + phase
        while at < self.end:
            out.append(at)
            at += EXPORT_S
        return [*out, self.end]


def request(resource: dict[str, Any]) -> tuple[Any, Any]:
    made = ExportMetricsServiceRequest()
    group = made.resource_metrics.add()
    for key, value in resource.items():
        one = group.resource.attributes.add(key=key)
        if isinstance(value, int):
            one.value.int_value = value
        else:
            one.value.string_value = value
    return made, group.scope_metrics.add()


def exponential(point: Any, values: list[float], most: int = CELLS) -> int:
    """Fill an exponential histogram as SDKs do: the finest scale at which the buckets suffice."""
    point.count, point.sum = len(values), sum(values)
    point.scale = 20
    if not values:
        return 20
    low, high = math.log2(min(values)), math.log2(max(values))
    while _index(high, point.scale) - _index(low, point.scale) >= most:
        point.scale -= 1
    first = point.positive.offset = _index(low, point.scale)
    counts = [0] * (_index(high, point.scale) - first + 1)
    for value in values:
        counts[_index(math.log2(value), point.scale) - first] += 1
    point.positive.bucket_counts.extend(counts)
    return int(point.scale)


def _index(log: float, scale: int) -> int:
    return math.ceil(log * 2.0**scale) - 1


def fill(
    scope: Any,
    metric: str,
    kind: str,
    values: list[float],
    at: float,
    start: float,
    *,
    delta: bool,
    bounds: list[float],
) -> int:
    """Add a point of a kind that says what was observed; return its scale."""
    temporality = 1 if delta else 2
    one = scope.metrics.add(name=metric, unit="s")
    times = {"time_unix_nano": round(at * NS), "start_time_unix_nano": round(start * NS)}
    if kind == "sum":
        one.sum.aggregation_temporality, one.sum.is_monotonic = temporality, True
        one.sum.data_points.add(as_int=len(values), **times)
    elif kind == "histogram":
        one.histogram.aggregation_temporality = temporality
        point = one.histogram.data_points.add(count=len(values), sum=sum(values), **times)
        counts = [0] * (len(bounds) + 1)
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        point.bucket_counts.extend(counts)
        point.explicit_bounds.extend(bounds)
    else:
        one.exponential_histogram.aggregation_temporality = temporality
        return exponential(one.exponential_histogram.data_points.add(**times), values)
    return 20


def sent_by(
    process: Process,
    phase: float,
    metric: str,
    kind: str,
    resource: dict[str, Any],
    *,
    delta: bool,
    bounds: list[float],
    ahead: list[float] | None = None,
    start: float | None = None,
    is_reference: bool = False,
    exports: list[float] | None = None,
) -> tuple[list[tuple[float, Sent]], int]:
    """Return the requests of a process and when they are sent, and the coarsest scale in them."""
    out, before, scale = [], process.start, 20
    for at in exports or process.exports(phase):
        made, scope = request(resource)
        values = process.until(at, before) if delta else [*(ahead or []), *process.until(at)]
        if is_reference and start is None:
            start = at
        begun = before if delta else process.start if start is None else start
        scale = min(scale, fill(scope, metric, kind, values, at, begun, delta=delta, bounds=bounds))
        out.append((at, Sent(otlp=made)))
        before = at
    return out, scale


def scraped(
    processes: list[Process], phase: float, metric: str, kind: str, begin: float, job: str
) -> list[tuple[float, Sent]]:
    """Return the requests of a Prometheus that asks one target, where one process follows the
    other."""
    out = []
    at = begin + phase
    end = max(process.end for process in processes)
    while at <= end + EXPORT_S:
        running = [process for process in processes if process.start <= at]
        if running:
            values = running[-1].until(at)
            base = {"job": job, "instance": "a:1"}
            if kind == "sum":
                series = [({**base, "__name__": metric}, len(values))]
            else:
                series = [
                    (
                        {**base, "__name__": metric + "_bucket", "le": "+Inf" if b == math.inf else str(b)},
                        sum(value <= b for value in values),
                    )
                    for b in [*BOUNDS, math.inf]
                ]  # fmt: skip
                series += [({**base, "__name__": metric + "_count"}, len(values))]
            out.append(
                (
                    at,
                    Sent(
                        remote_write=[
                            (labels, [(float(v), round(at * 1000))]) for labels, v in series
                        ]
                    ),
                )
            )
        at += EXPORT_S
    return out


HAPPENINGS = (
    "steady", "restarted", "restarted_higher", "instances", "pids", "forks", "one_identity",
    "one_identity_without_start", "one_identity_at_once", "late", "duplicated", "corrected", "bounds_changed",
    "temporality_changed", "without_start", "reference", "restarted_without_start", "no_export_for_a_while",
)  # fmt: skip
KINDS = ("sum", "histogram", "exponential")


def scenarios(seed: int, count: int, base: int) -> Iterator[Scenario]:
    """Yield scenarios whose observations lie in the SPAN_S seconds after `base`."""
    for n in range(count):
        rng = random.Random(f"{seed}/{n}")
        happening = HAPPENINGS[n % len(HAPPENINGS)]
        kind = KINDS[n // len(HAPPENINGS) % len(KINDS)]
        form = ("cumulative", "delta", "prometheus")[n // (len(HAPPENINGS) * len(KINDS)) % 3]
        if form == "prometheus" and (kind == "exponential" or happening not in _OF_PROMETHEUS):
            form = "cumulative"
        yield _scenario(rng, n, happening, kind, form, base)


_OF_PROMETHEUS = ("steady", "restarted", "late", "duplicated", "without_start")


def _scenario(
    rng: random.Random, n: int, happening: str, kind: str, form: str, base: int
) -> Scenario:
    metric = f"s{n}.{kind}"
    name = f"{n} {happening} {kind} {form}"
    delta = form == "delta"
    rate = rng.choice([0.3, 2.0, 8.0])
    wide = rng.random() < 0.5
    begin, end = base + rng.uniform(0, 60), base + SPAN_S - rng.uniform(20, 60)
    middle = rng.uniform(begin + 200, end - 200)
    phase = rng.uniform(1, EXPORT_S - 1)
    resource: dict[str, Any] = {"service.name": f"svc{n}", "telemetry.sdk.language": "python"}
    bounds: list[list[float]] = [BOUNDS]
    told = False
    requests: list[tuple[float, Sent]] = []
    scale = 20

    def process(start: float, stop: float, times: float = 1.0) -> Process:
        return Process(rng, start, stop, rate * times, wide=wide)

    def send(one: Process, more: dict[str, Any] | None = None, **how: Any) -> None:
        nonlocal scale
        how = {"delta": delta, "bounds": BOUNDS, **how}
        made, coarse = sent_by(
            one, rng.uniform(1, EXPORT_S - 1), metric, kind, {**resource, **(more or {})}, **how
        )
        requests.extend(made)
        scale = min(scale, coarse)

    if form == "prometheus":
        restart = happening == "restarted"
        all_ = (
            [process(begin, middle), process(middle + 3, end)] if restart else [process(begin, end)]
        )
        requests = scraped(all_, phase, metric, kind, begin, f"svc{n}")
        # what was there at the first scrape is no growth, and what came after a process's last one
        # is not known
        last = [at for at, _ in requests]
        truth = 0.0
        for place, one in enumerate(all_):
            until = max(at for at in last if place + 1 == len(all_) or at < all_[place + 1].start)
            truth += len(one.until(until)) - (len(one.until(last[0])) if not place else 0)
        values: list[float] = []
    else:
        all_ = [process(begin, end)]
        if happening == "restarted":
            all_ = [process(begin, middle), process(middle + 2, end)]
        elif happening == "restarted_higher":
            all_ = [process(begin, middle, 0.3), process(middle + 2, end, 3)]
        elif happening == "one_identity_at_once" and delta:
            all_ = [process(begin, end), process(begin, end, 0.5)]
        elif happening in (
            "instances",
            "pids",
            "forks",
            "one_identity",
            "one_identity_without_start",
        ):
            all_ = [process(begin, end), process(begin + 7, end - 1.5, 0.5)]
        elif happening in ("bounds_changed", "temporality_changed", "restarted_without_start"):
            all_ = [process(begin, middle), process(middle + 2, end)]
        truth = float(sum(len(one.seen) for one in all_))
        values = [value for one in all_ for _, value in one.seen]
        for place, one in enumerate(all_):
            if happening == "instances":
                send(one, {"service.instance.id": f"i{place}"}, start=begin)
            elif happening == "pids":
                send(one, {"process.pid": 100 + place}, start=begin)
            elif happening == "one_identity_at_once" and delta:
                # they flush in the same millisecond
                send(one, exports=[at + place / 1e5 for at in all_[0].exports(5)])
            elif happening == "one_identity" and not delta:
                # the second one is ahead of the first by far, or behind
                send(one, start=begin, ahead=[0.1] * (5000 * place))
                told, truth = True, truth + 5000 * place
            elif happening == "one_identity_without_start" and not delta:
                send(one, start=0, ahead=[0.1] * (5000 * place))
                told = True
            elif happening in ("without_start", "restarted_without_start") and not delta:
                send(one, start=0)
            elif happening == "reference" and not delta:
                # a collector says so of what it has read; an SDK knows its start
                send(one, {"telemetry.sdk.language": ""}, start=None, is_reference=True)
            elif happening == "bounds_changed" and kind == "histogram":
                send(one, bounds=[BOUNDS, OTHER_BOUNDS][place])
                bounds = [BOUNDS, OTHER_BOUNDS]
            elif happening == "temporality_changed":
                send(one, delta=bool(place) != delta)
            else:
                send(one)
        if happening in ("without_start", "restarted_without_start", "reference") and not delta:
            # the first value is no growth; what was observed before it is not in the answer
            first = min(at for at, _ in requests)
            truth -= len(all_[0].until(first))
            values = [v for o in all_ for at, v in o.seen if o is not all_[0] or at > first]
    requests.sort(key=lambda one: one[0])
    order = [one for _, one in requests]
    if happening == "late":
        cut = len(order) // 3
        order = [*order[:cut], *order[2 * cut :], *reversed(order[cut : 2 * cut])]
    elif happening == "duplicated":
        order = [one for one in order for _ in range(rng.choice([1, 1, 2, 3]))]
    elif happening == "no_export_for_a_while" and not delta:
        order = [*order[: len(order) // 4], *order[3 * len(order) // 4 :]]
    elif happening == "corrected":
        order = [*[_wrong(one, rng) for one in order[:5]], *order]
    return Scenario(name, metric, kind, order, truth, told, values, bounds, scale)


def _wrong(sent: Sent, rng: random.Random) -> Sent:
    """Return a request as it was sent first, with numbers that were corrected afterwards."""
    if sent.otlp is None:
        return sent
    made = ExportMetricsServiceRequest()
    made.CopyFrom(sent.otlp)
    for metric in made.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.sum.data_points:
            point.as_int = max(0, point.as_int - rng.choice([0, 1]))
    return Sent(otlp=made)
