"""Decodes CloudEvents 1.0 over HTTP (binary, structured, batched) to rows of `obs.events`.

Source: CloudEvents 1.0.2, HTTP protocol binding and JSON event format.
"""

import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from sextant.formats.telemetry import utf8
from sextant.formats.telemetry.batch import Batch, Budget
from sextant.formats.telemetry.records import UNREADABLE_JSON, EventRow, event_rows, json_text
from sextant.formats.telemetry.times import time_ns
from sextant.kernel import limits
from sextant.kernel.errors import BadData

_KNOWN = {
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
}


def decode(
    body: bytes,
    content_type: str,
    headers: Mapping[str, str],
    *,
    owner: str,
    now_ns: int,
    oldest_ns: int,
    budget: Budget | None = None,
) -> Batch:
    """Return the events of a request. BadData when none of it is one, TooMuch when they exceed the
    budget; what is out of bounds, and what is no event beside others, is counted as refused.

    content_type  without parameters, lower case
    headers       names in lower case
    """
    batch = Batch()
    events: list[Any]
    if content_type == "application/cloudevents-batch+json":
        events = _json(body, list[Any], batch)
    elif content_type == "application/cloudevents+json":
        events = [_json(body, dict[str, Any], batch)]
    elif "ce-specversion" in headers:
        events = [
            {
                name[3:]: urllib.parse.unquote(value)
                for name, value in headers.items()
                if name.startswith("ce-")
            }
        ]
        events[0] |= {
            "datacontenttype": content_type,
            "data": body.decode("utf-8", "replace") if body else "",
        }
        if not utf8.is_utf8(body):
            batch.notice("not_utf8_repaired")
    else:
        raise BadData(
            "SX-INTAKE-040",
            "the request is no CloudEvent",
            hint=(
                "application/cloudevents+json, application/cloudevents-batch+json, or headers "
                "ce-specversion, ce-id, ce-source, ce-type"
            ),
        )
    (budget or Budget()).records(len(events))
    rows: list[EventRow] = []
    bad = 0
    for number, event in enumerate(events, 1):
        missing = _missing(event)
        if missing:
            bad += 1
            batch.first = batch.first or f"event {number} of {len(events)} {missing}"
            continue
        said = event.get("time")
        at = time_ns(said) if said not in (None, "") else None
        if at is None:
            batch.timed = False
        data = event.get("data_base64") or event.get("data", "")
        try:
            text = data.encode() if isinstance(data, str) else json_text(data)
        except RecursionError:  # it could just be read, and is written from further down
            bad += 1
            batch.first = batch.first or f"event {number} of {len(events)} is nested too deeply"
            continue
        extensions = [
            (name.encode(), str(value).encode())
            for name, value in event.items()
            if name not in _KNOWN
        ]
        if at is not None and not oldest_ns <= at <= now_ns + int(limits.FUTURE_S * 1e9):
            batch.refuse("too_old" if at < oldest_ns else "too_new")
        elif len(text) > limits.TEXT_BYTES_MAX or len(extensions) > limits.ATTRIBUTES_MAX:
            batch.refuse(
                "text_too_long" if len(text) > limits.TEXT_BYTES_MAX else "attributes_too_many"
            )
        else:
            if at is None and said not in (None, ""):
                batch.notice("time_malformed")
            asset = str(
                event.get("sextantasset")
                or (event.get("subject", "") if ":" in str(event.get("subject", "")) else "")
            )
            one = {
                name: str(event.get(name, "")).encode()
                for name in ("id", "source", "type", "subject", "datacontenttype", "dataschema")
            }
            rows.append(
                EventRow(
                    now_ns if at is None else at,
                    one["id"],
                    one["source"],
                    one["type"],
                    one["subject"],
                    asset.encode(),
                    one["datacontenttype"],
                    one["dataschema"],
                    extensions,
                    text,
                )
            )
    if bad and bad == len(events):
        raise BadData(
            "SX-INTAKE-041",
            f"nothing of it is a CloudEvent: {batch.first}",
            hint="CloudEvents 1.0 asks for specversion, id, source and type",
        )
    batch.refuse("event_malformed", bad)
    if rows:
        batch.rows.append(event_rows(rows, owner=owner))
    return batch


def _missing(event: Any) -> str:
    """Return what makes a value no CloudEvent, "" when it is one."""
    if not isinstance(event, dict):
        return "is no JSON object"
    for name in ("id", "source", "type", "specversion"):
        if not isinstance(event.get(name), str) or not event[name]:
            return f"has no `{name}`"
    return ""


def _json(body: bytes, kind: Any, batch: Batch) -> Any:
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE_JSON:
            fixed = utf8.repaired_json(utf8.without_bom(body))
            value = msgspec.json.decode(fixed, type=kind)
            batch.notice("not_utf8_repaired")
            return value
    except UNREADABLE_JSON as error:
        raise BadData(
            "SX-INTAKE-040",
            f"the request is no CloudEvent: {str(error)[:200]}",
            hint="one JSON object, or an array of them for a batch",
        ) from error
