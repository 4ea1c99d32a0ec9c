"""Decodes Prometheus's text format and OpenMetrics to samples.

A line's text up to its value is the key by which its series is found; labels are read once for each
new key. Source: Prometheus documentation, "Exposition formats" (text 0.0.4); OpenMetrics 1.0,
section "Text format".
"""

import re

from sextant.formats.telemetry.batch import (
    Batch,
    Budget,
    Exemplar,
    Identity,
    Samples,
    asset_of,
    checked,
    histogram_of,
    kind_by_name,
    owner_of,
)
from sextant.formats.telemetry.times import time_ns
from sextant.kernel import limits
from sextant.kernel.errors import BadData

Kinds = dict[bytes, tuple[str, str]]

_LINE = re.compile(
    rb'((?:[^\s{"#]+)?(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?)[ \t]+(\S+)(?:[ \t]+([-+0-9.eE]+))?[ \t]*(#.*)?'
)
_LABEL = re.compile(
    rb'\s*(?:([^\s=,"{}]+)\s*=\s*"((?:[^"\\]|\\.)*)"|"((?:[^"\\]|\\.)*)"(?:\s*=\s*"((?:[^"\\]|\\.)*)")?)\s*(?:,|$)'
)
_STALE_BITS = 0x7FF0000000000002  # the staleness marker of Prometheus, a NaN
_KEY_COST = 64  # bytes of memory beside those of a key
_EXEMPLAR = re.compile(rb"#[ \t]*(\{.*\})[ \t]+(\S+)(?:[ \t]+([0-9][0-9.eE+]{0,40}))?")
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_KINDS = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"gaugehistogram": "histogram",
    b"summary": "summary",
    b"info": "gauge",
    b"stateset": "gauge",
}


def decode(
    body: bytes,
    *,
    at_ms: int,
    openmetrics: bool = False,
    stale: bool = False,
    budget: Budget | None = None,
) -> tuple[Batch, Kinds]:
    """Return the samples of an exposition and what it says of its metrics.

    body    UTF-8
    at_ms   the time of samples that bring none: when the target was asked
    stale   the values are staleness markers, whatever is written: the series have ended
    Raises  BadData with the line that cannot be read, or when an OpenMetrics exposition has no
            end; TooMuch when samples, or lines about metrics, exceed the budget
    """
    import numpy as np

    comments = body.count(b"\n#")
    # a metric has up to three lines about it: help, type, unit
    budget = budget or Budget()
    budget.records(max(body.count(b"\n") - comments, comments // 3))
    batch, kinds, units = Batch(), dict[bytes, str](), dict[bytes, str]()
    keys: list[bytes] = []
    values: list[float] = []
    times: list[int] = []
    ended = False
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        if line.startswith(b"#"):
            words = line.split(None, 3)
            if len(words) == 4 and words[1] == b"TYPE":
                kinds[_unquoted(words[2])] = _KINDS.get(words[3].strip(), "")
            elif len(words) == 4 and words[1] == b"UNIT":
                units[_unquoted(words[2])] = words[3].strip().decode("utf-8", "replace")
            elif openmetrics and line.strip() == b"# EOF":
                ended = True
                break
            continue
        found = _LINE.fullmatch(line.rstrip(b"\r"))
        if found is None or not found[1]:
            raise _malformed(number, line, "it is no sample")
        try:
            value = float(found[2])
            at = (
                at_ms
                if found[3] is None
                else int(float(found[3]) * 1000)
                if openmetrics
                else int(found[3])
            )
            if not _INT64_MIN <= at <= _INT64_MAX:
                raise ValueError(at)  # noqa: TRY301 - as of a text that is no number
        except (ValueError, OverflowError) as error:
            raise _malformed(number, line, "its value or time is no number") from error
        if found[4]:
            budget.records()
            exemplar = _exemplar(found[1], found[4], at)
            if exemplar is None:
                batch.notice("exemplar_not_kept")
            else:
                batch.exemplars.append(exemplar)
        keys.append(found[1])
        values.append(value)
        times.append(at)
    if openmetrics and not ended:
        raise BadData(
            "SX-INTAKE-011",
            "the exposition is cut off: OpenMetrics ends with `# EOF`",
            hint="send it whole",
        )
    if keys:
        numbers = np.array(values, np.float64)
        if stale:
            numbers = np.full(len(keys), _STALE_BITS, np.uint64).view(np.float64)
        batch.samples.append(Samples(keys, np.array(times, np.int64), numbers, identify))
    return batch, {name: (kinds.get(name, ""), units.get(name, "")) for name in {*kinds, *units}}


def keys_at_scrape(body: bytes, most: int) -> set[bytes]:
    """Return the keys of samples that bring no time of their own: those that end when a target no
    longer has them. Empty when they come to more than `most` bytes."""
    out: set[bytes] = set()
    size = 0
    for line in body.split(b"\n"):
        found = None if line.startswith(b"#") else _LINE.fullmatch(line.rstrip(b"\r"))
        if found is None or not found[1] or found[3] is not None:
            continue
        size += len(found[1]) + _KEY_COST
        if size > most:
            return set()
        out.add(found[1])
    return out


def ended(before: set[bytes], now: set[bytes]) -> list[bytes]:
    """Return the keys of series that were there before and are not now, also written otherwise."""
    gone, new = before - now, now - before
    if not gone or not new:
        return sorted(gone)
    still = {tuple(identify(key).labels) for key in new}
    return sorted(key for key in gone if tuple(identify(key).labels) not in still)


def _exemplar(key: bytes, text: bytes, at_ms: int) -> Exemplar | None:
    """Return what stands behind a sample (`# {trace_id="..."} 0.67 1520879607.789`), None when it
    is no exemplar."""
    found = _EXEMPLAR.fullmatch(text.rstrip())
    if found is None:
        return None
    at = at_ms * 1_000_000 if found[3] is None else time_ns(found[3].decode())
    try:
        value = float(found[2])
        labels = [pair for pair in identify(found[1]).labels if pair[0] != b"__name__"]
    except (ValueError, BadData):
        return None
    return None if at is None else Exemplar(key, value, at, labels)


def identify(key: bytes) -> Identity:
    """Return what a key (`name{label="value",...}`) says. BadData when it cannot be read."""
    name, _, inside = key.partition(b"{")
    labels: list[tuple[bytes, bytes]] = []
    inside = inside.removesuffix(b"}").rstrip()
    at = parts = 0
    while at < len(inside):
        parts += 1
        if parts > limits.LABELS_MAX + 1:  # the name may stand among them
            return Identity([], refused="labels_too_many")
        found = _LABEL.match(inside, at)
        if found is None:
            raise BadData(
                "SX-INTAKE-010",
                f"`{key[:200].decode(errors='replace')}`: its labels cannot be read",
                hint='as in name{label="value"}',
            )
        at = found.end()
        if found[3] is not None and found[4] is None:  # a quoted name of the metric (UTF-8 names)
            name = _plain(found[3])
        else:
            label, value = (
                (found[1], found[2]) if found[1] is not None else (_plain(found[3]), found[4])
            )
            labels.append((label, _plain(value)))
    labels = sorted([*((label, value) for label, value in labels if value), (b"__name__", name)])
    return Identity(
        labels,
        kind=kind_by_name(name),
        asset=asset_of(labels),
        owner=owner_of(labels),
        refused=checked(labels),
        histogram=histogram_of(labels),
        is_read=True,
    )


def _plain(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    # between doubled backslashes, which stand for one, every backslash belongs to what follows it
    pieces = (piece.replace(b"\\n", b"\n").replace(b"\\", b"") for piece in text.split(b"\\\\"))
    return b"\\".join(pieces)


def _unquoted(text: bytes) -> bytes:
    return _plain(text[1:-1]) if text[:1] == b'"' else text


def _malformed(number: int, line: bytes, what: str) -> BadData:
    return BadData(
        "SX-INTAKE-010",
        f"line {number} of the exposition: {what}: `{line[:100].decode(errors='replace')}`",
        hint='as in name{label="value"} 1.5',
    )
