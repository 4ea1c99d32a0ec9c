"""CloudEvents 1.0 over HTTP: binary, structured and batched, to rows of `obs.events`.

Source: CloudEvents 1.0.2, HTTP protocol binding and JSON event format.
"""

import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from sextant.formats.batch import Batch, Budget
from sextant.formats.records import UNREADABLE_JSON, EventRow, event_rows, json_text
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
_NS = 1_000_000_000


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
    """Return the events of a request. BadData when it is none, TooMuch when they exceed the budget;
    what is out of bounds is counted as refused.

    content_type  without parameters, lower case
    headers       names in lower case
    """
    if content_type == "application/cloudevents-batch+json":
        events = _json(body, list[dict[str, Any]])
    elif content_type == "application/cloudevents+json":
        events = [_json(body, dict[str, Any])]
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
    batch = Batch()
    rows: list[EventRow] = []
    for event in events:
        missing = [
            name
            for name in ("id", "source", "type", "specversion")
            if not isinstance(event.get(name), str) or not event[name]
        ]
        if missing:
            raise BadData(
                "SX-INTAKE-041",
                f"an event has no `{missing[0]}`",
                hint="CloudEvents 1.0 asks for specversion, id, source and type",
            )
        at = _time(event.get("time"), now_ns)
        if "time" not in event:
            batch.timed = False
        data = event.get("data_base64") or event.get("data", "")
        text = data.encode() if isinstance(data, str) else json_text(data)
        extensions = [
            (name.encode(), str(value).encode())
            for name, value in event.items()
            if name not in _KNOWN
        ]
        if at is None or not oldest_ns <= at <= now_ns + int(limits.FUTURE_S * _NS):
            batch.refuse(
                "time_malformed" if at is None else "too_old" if at < oldest_ns else "too_new"
            )
        elif len(text) > limits.TEXT_BYTES_MAX or len(extensions) > limits.ATTRIBUTES_MAX:
            batch.refuse(
                "text_too_long" if len(text) > limits.TEXT_BYTES_MAX else "attributes_too_many"
            )
        else:
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
                    at,
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
    if rows:
        batch.rows.append(event_rows(rows, owner=owner))
    return batch


def _json(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE_JSON as error:
        raise BadData(
            "SX-INTAKE-040",
            f"the request is no CloudEvent: {str(error)[:200]}",
            hint="one JSON object, or an array of them for a batch",
        ) from error


def _time(value: Any, now_ns: int) -> int | None:
    if value is None or value == "":
        return now_ns
    try:
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * _NS + at.microsecond * 1000
