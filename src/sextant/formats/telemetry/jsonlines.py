"""Decodes log lines that are JSON objects: one per line, concatenated, or in an array.

What a line's fields are called differs from logger to logger: `loggers.py` knows them. Everything
else becomes an attribute under its own name; what is nested stays JSON. A line that cannot be read
is refused alone.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from sextant.formats.telemetry import loggers, utf8
from sextant.formats.telemetry.batch import Batch, Budget
from sextant.formats.telemetry.records import UNREADABLE_JSON, Log, columns_of, log_rows
from sextant.kernel import limits
from sextant.kernel.errors import BadData

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_numbers = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# Python writes NaN, scripts leave tabs in texts: what msgspec does not read
_MS = 1_000_000
_BETWEEN = " \t\r\n,"  # objects of one line
_lenient = json.JSONDecoder(strict=False)


def decode(
    body: bytes,
    *,
    asset: str,
    owner: str,
    now_ns: int,
    oldest_ns: int,
    budget: Budget | None = None,
) -> Batch:
    """Return the log lines of a body. `timed` says that one of them has a time finer than a
    millisecond: a program may well say the same twice in a second, and not in a microsecond.

    asset   `kind:name` of the program that wrote them
    Raises  BadData with the first line that is no JSON object when none is; TooMuch when they
            exceed the budget
    """
    batch, budget = Batch(timed=False), budget or Budget()
    rows: list[Log] = []
    newest_ns = now_ns + int(limits.FUTURE_S * 1e9)
    found = 0
    for fields, line in _objects(utf8.without_bom(body), batch, budget):
        found += 1
        known = loggers.read(fields, _Numbers(line))
        at = known.at_ns
        if at is not None and not oldest_ns <= at <= newest_ns:
            batch.refuse("too_old" if at < oldest_ns else "too_new")
        elif len(known.text) > limits.TEXT_BYTES_MAX:
            batch.refuse("text_too_long")
        elif len(fields) > limits.ATTRIBUTES_MAX:
            batch.refuse("attributes_too_many")
        elif (attributes := _attributes(fields)) is None:
            batch.refuse("line_malformed")
            batch.first = batch.first or "a line holds values that are nested too deeply"
        else:
            if known.is_time_malformed:
                batch.notice("time_malformed")
            batch.timed = batch.timed or (at is not None and at % _MS != 0)
            rows.append(
                Log(
                    now_ns if at is None else at,
                    now_ns,
                    known.severity_number,
                    known.severity,
                    known.text,
                    b"",
                    known.trace_id,
                    known.span_id,
                    attributes,
                )
            )
    if batch.first and not found:
        raise BadData(
            "SX-INTAKE-030",
            f"no line is a JSON object: {batch.first}",
            hint="one JSON object on each line",
        )
    if rows:
        batch.services.setdefault(asset, owner)
        batch.rows.append(log_rows(columns_of(rows), asset=asset, owner=owner, budget=budget))
    return batch


def _attributes(fields: dict[str, Any]) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(key.encode(), loggers.as_text(value)) for key, value in fields.items()]
    except RecursionError:  # JSON that could just be read, and is written from further down
        return None


class _Numbers:
    """The numbers of a line as they were written: a float has too few digits for nanoseconds."""

    def __init__(self, line: bytes) -> None:
        self._line = line

    def __call__(self, name: str) -> str:
        try:
            return bytes(_numbers(self._line)[name]).decode() if self._line else ""
        except UNREADABLE_JSON:
            return ""


def _objects(body: bytes, batch: Batch, budget: Budget) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the objects of a body, each with its line, b"" when it does not stand on one. Count the
    lines that are none."""
    budget.records(body.count(b"\n") + (not body.endswith(b"\n")))
    if body[:64].lstrip()[:1] == b"[":
        objects = _array(body, batch, budget)
        if objects is not None:
            yield from ((fields, b"") for fields in objects)
            return
    bad = 0
    found = False
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            fields = _decode(line)
        except UNREADABLE_JSON as error:
            more, why = _leniently(line, batch, budget)
            if why:
                bad += 1
                what = why if "object" in why else str(error)
                batch.first = batch.first or f"line {number} is no JSON object: {what[:200]}"
            found = found or bool(more)
            yield from ((fields, b"") for fields in more)
            continue
        found = True
        yield fields, line
    if bad and not found:  # one object may be written over many lines
        more, why = _leniently(body, batch, budget)
        if not why:
            batch.first = ""
            yield from ((fields, b"") for fields in more)
            return
    batch.refuse("line_malformed", bad)


def _array(body: bytes, batch: Batch, budget: Budget) -> list[dict[str, Any]] | None:
    """Return the objects of an array, None when the body is none."""
    try:
        values = msgspec.json.decode(body, type=list[Any])
    except UNREADABLE_JSON:
        try:
            values = msgspec.json.decode(utf8.repaired_json(body), type=list[Any])
        except UNREADABLE_JSON:
            return None
        batch.notice("not_utf8_repaired")
    budget.records(len(values))
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) < len(values):
        batch.refuse("line_malformed", len(values) - len(objects))
        number = next(n for n, value in enumerate(values, 1) if not isinstance(value, dict))
        batch.first = f"element {number} of the array is no JSON object"
    return objects


def _leniently(line: bytes, batch: Batch, budget: Budget) -> tuple[list[dict[str, Any]], str]:
    """Return the objects of a line that is not quite JSON, and what is wrong with it; it may hold
    several, of which those before the mistake count."""
    fixed = utf8.repaired_json(line)
    text = fixed.decode().strip(_BETWEEN)
    out: list[dict[str, Any]] = []
    at = 0
    try:
        while at < len(text):
            value, at = _lenient.raw_decode(text, at)
            if not isinstance(value, dict):
                return out, "it is no object"
            if out:
                budget.records()
            out.append(value)
            while at < len(text) and text[at] in _BETWEEN:
                at += 1
    except (ValueError, RecursionError) as error:
        return out, str(error)
    if out and fixed != line:
        batch.notice("not_utf8_repaired")
    return out, ""
