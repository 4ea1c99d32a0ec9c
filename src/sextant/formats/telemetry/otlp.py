"""Decodes attributes and spans of OTLP 1.x. `otlp_bodies.py` reads the requests; metrics and logs
have modules of their own.

Attributes of OpenTelemetry's conventions (`gen_ai.*`, `cicd.*`, `vcs.*`, `feature_flag.*` and all
others) are kept under their names. Source: opentelemetry-proto 1.9 (collector and data messages),
OTLP specification (JSON encoding, partial success).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sextant.formats.telemetry.batch import Batch, Budget, Span, asset_of
from sextant.formats.telemetry.records import Pairs, SpanRow, span_rows
from sextant.kernel import limits
from sextant.kernel.outside import used

_KINDS = (b"", b"internal", b"server", b"client", b"producer", b"consumer")
_CLIENT, _PRODUCER, _CONSUMER = 3, 4, 5
_STATUS = (b"", b"ok", b"error")
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)  # ids that are none
# Attributes of a resource that change with every start of a process: as labels they would be new
# values each time.
CHURN = ("process.", "telemetry.sdk.", "telemetry.distro.", "os.description")


# ---------------------------------------------------------------- values


def value(any_value: Any) -> bytes:
    """Return an AnyValue as text: JSON for what is nested."""
    which = any_value.WhichOneof("value")
    if which == "string_value":
        return any_value.string_value.encode()  # type: ignore[no-any-return]
    if which is None:
        return b""
    if which == "bool_value":
        return b"true" if any_value.bool_value else b"false"
    if which == "int_value":
        return b"%d" % any_value.int_value
    if which == "double_value":
        return repr(any_value.double_value).encode()
    return msgspec.json.encode(_nested(any_value))


def _nested(any_value: Any) -> Any:
    """Return an AnyValue as JSON has it; protobuf itself reads it to some fifty levels."""
    which = any_value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_nested(one) for one in any_value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _nested(pair.value) for pair in any_value.kvlist_value.values}
    if which == "bytes_value":
        return any_value.bytes_value.hex()
    return getattr(any_value, which)


def pairs(attributes: Any) -> list[tuple[bytes, bytes]]:
    return [(pair.key.encode(), value(pair.value)) for pair in attributes]


def texts(attributes: Any) -> list[tuple[str, str]]:
    return [(pair.key, value(pair.value).decode("utf-8", "replace")) for pair in attributes]


def common_labels(resource: Iterable[tuple[str, str]], scope: str) -> dict[str, str]:
    """Return the labels that all series of a scope have: attributes of the resource, and the
    scope."""
    labels = {name: text for name, text in resource if not name.startswith(CHURN)}
    return labels | {"otel.scope.name": scope} if scope else labels


def point_labels(common: Mapping[str, str], attributes: Any) -> list[tuple[str, str]]:
    """Return the labels of a point's series, sorted. Its own go before those of its scope; an
    empty one is none."""
    labels = {**common, **dict(texts(attributes))} if attributes else common
    return sorted((name, text) for name, text in labels.items() if text)


def _resource(group: Any) -> list[tuple[bytes, bytes]]:
    return pairs(group.resource.attributes)


def owner_of_resource(resource: Pairs, default: str) -> str:
    return (
        next(
            (
                value.decode("utf-8", "replace")
                for name, value in resource
                if name == b"sextant.owner"
            ),
            "",
        )
        or default
    )


def _seen(batch: Batch, resource: Pairs, owner: str) -> tuple[str, str]:
    """Return asset and owner of a resource, and note that it spoke."""
    asset, whose = asset_of(resource), owner_of_resource(resource, owner)
    if asset:
        batch.services.setdefault(asset, whose)
    return asset, whose


# ---------------------------------------------------------------- traces


def traces(
    request: Any, *, owner: str, now_ns: int, oldest_ns: int, budget: Budget | None = None
) -> Batch:
    """Return the spans of an ExportTraceServiceRequest. TooMuch when they exceed the budget."""
    batch, budget = Batch(), budget or Budget()
    newest_ns = now_ns + int(limits.FUTURE_S * 1e9)
    for group in request.resource_spans:
        budget.group()
        budget.attributes(len(group.resource.attributes))
        resource = _resource(group)
        asset, whose = _seen(batch, resource, owner)
        for scope in group.scope_spans:
            budget.group()
            budget.records(len(scope.spans))
            rows: list[SpanRow] = []
            for span in scope.spans:
                start = span.start_time_unix_nano
                if not oldest_ns <= start <= newest_ns:
                    batch.refuse("too_old" if start < oldest_ns else "too_new")
                    continue
                parent = span.parent_span_id
                if parent == _NO_SPAN:
                    parent = b""
                if (
                    len(span.trace_id) != len(_NO_TRACE)
                    or span.trace_id == _NO_TRACE
                    or len(span.span_id) != len(_NO_SPAN)
                    or span.span_id == _NO_SPAN
                    or len(parent) not in (0, len(_NO_SPAN))
                ):
                    batch.refuse("id_malformed")
                    continue
                if len(span.attributes) > limits.ATTRIBUTES_MAX:
                    batch.refuse("attributes_too_many")
                    continue
                budget.attributes(len(span.attributes))
                for part in (*span.events, *span.links):
                    budget.attributes(4 + len(part.attributes))
                attributes = pairs(span.attributes)
                if span.end_time_unix_nano < start:
                    batch.notice("end_before_start")
                rows.append(
                    SpanRow(
                        start,
                        max(0, span.end_time_unix_nano - start),
                        span.name.encode(),
                        _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else b"",
                        _STATUS[span.status.code] if 0 <= span.status.code < len(_STATUS) else b"",
                        span.status.message.encode(),
                        span.trace_id.hex().encode(),
                        span.span_id.hex().encode(),
                        parent.hex().encode(),
                        span.trace_state.encode(),
                        attributes,
                        _events(span.events),
                        _links(span.links),
                    )
                )
                if span.kind > 1:
                    said = dict(attributes)
                    batch.spans.append(
                        Span(
                            span.trace_id,
                            span.span_id,
                            parent,
                            span.kind,
                            asset,
                            _peer(said),
                            start // 1_000_000,
                            used(said, gives=span.kind == _PRODUCER, takes=span.kind == _CONSUMER)
                            if span.kind in (_CLIENT, _PRODUCER, _CONSUMER)
                            else (),
                        )
                    )
            if rows:
                batch.rows.append(
                    span_rows(
                        rows,
                        asset=asset,
                        owner=whose,
                        scope=scope.scope.name.encode(),
                        resource=resource,
                        budget=budget,
                    )
                )
    return batch


def _peer(found: Mapping[bytes, bytes]) -> str:
    if found.get(b"peer.service"):
        return "service:" + found[b"peer.service"].decode("utf-8", "replace")
    host = found.get(b"server.address") or found.get(b"net.peer.name") or b""
    return "host:" + host.decode("utf-8", "replace") if host else ""


def _events(events: Any) -> bytes:
    return (
        msgspec.json.encode(
            [
                {
                    "ts_ns": one.time_unix_nano,
                    "name": one.name,
                    "attributes": _texts(one.attributes),
                }
                for one in events
            ]
        )
        if events
        else b""
    )


def _links(links: Any) -> bytes:
    return (
        msgspec.json.encode(
            [
                {
                    "trace_id": one.trace_id.hex(),
                    "span_id": one.span_id.hex(),
                    "attributes": _texts(one.attributes),
                }
                for one in links
            ]
        )
        if links
        else b""
    )


def _texts(attributes: Any) -> dict[str, str]:
    return {pair.key: value(pair.value).decode("utf-8", "replace") for pair in attributes}
