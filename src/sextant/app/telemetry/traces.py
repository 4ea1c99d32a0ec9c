"""Lists traces, and shows one. Called by `Operations.traces` and `Operations.trace_facts`.

A day has more spans than memory takes. A list looks at the newest (or slowest) root spans and at a
bounded number of other spans that meet the conditions; only the traces that these belong to are
counted. One trace is counted whole, its structure is read within a limit, and details only of the
spans that are shown.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.app.telemetry.asking import Asking, Condition, attribute_conditions, where
from sextant.app.telemetry.span_tree import Bone, Place, SpanTree
from sextant.formats.telemetry.records import UNREADABLE_JSON
from sextant.kernel.answers import SpanEvent, SpanSeen, TraceFacts, TraceSeen, TracesFound
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound, UsageError, UserError
from sextant.kernel.lengths import duration_ns
from sextant.kernel.limits import (
    TRACE_DETAILS_MAX,
    TRACE_LENGTH_S,
    TRACE_SPANS_MAX,
    TRACES_MAX,
    TRACES_SPANS_MAX,
)

_IDS = 1_000  # of spans, in one query: they travel in the request's first line
_CANDIDATES = 6  # that are told where the first digits of an id are not enough
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def traces(
    asking: Asking,
    *,
    asset: str,
    name: str,
    attributes: Sequence[str],
    failed: bool,
    min_duration: str,
    slowest: bool,
    since: str,
    until: str,
    limit: int,
) -> TracesFound:
    """Return the newest traces, or the slowest ones, that meet all conditions. UsageError for a
    condition that is none."""
    if not 1 <= limit <= TRACES_MAX:
        raise UsageError(
            "SX-LOOK-010",
            f"limit must be between 1 and {TRACES_MAX:,}, not {limit:,}",
            hint="narrow the list with since, asset, name or attribute",
        )
    least = duration_ns(min_duration) if min_duration else 0
    conditions = [Condition("asset = {asset:String}", {"asset": asking.asset(asset)})] * bool(asset)
    if name:
        conditions.append(
            Condition("positionCaseInsensitive(name, {name:String}) > 0", {"name": name})
        )
    conditions += attribute_conditions(attributes, ("attributes", "resource"))
    window = asking.window(since, until)
    inside, params = where([*window, *conditions])
    inside_window, _ = where(window)
    inside_wider, wider = where(asking.window(since, until, wider_s=TRACE_LENGTH_S))
    params |= wider | {
        "least": least,
        "limit": limit + 1,
        "candidates": 2 * limit + 100,
        "looked": TRACES_SPANS_MAX,
    }
    roots_inside = inside_window
    if slowest or least:  # a long trace may have begun before the window
        ends = "ts + toIntervalNanosecond(duration_ns)"
        roots_inside, _ = where(
            [
                *asking.window(since, "", wider_s=TRACE_LENGTH_S),
                *asking.window(since, "", ends),
                *asking.window("", until),
            ]
        )
    rank = "duration_ns" if slowest else "ts"
    best = f"ORDER BY {rank} DESC LIMIT {{looked:UInt32}}"
    of_traces = [inside] if conditions else []  # each is met by some span of the trace
    of_traces += [f"{inside_window} AND status = 'error'"] if failed else []
    among = "".join(
        f" AND trace_id IN (SELECT trace_id FROM obs.spans WHERE {one} {best})" for one in of_traces
    )
    long_enough = " AND duration_ns >= {least:UInt64}" if least else ""
    candidates = (
        f"SELECT trace_id FROM (SELECT trace_id FROM obs.spans WHERE {roots_inside} AND "
        f"parent_span_id = ''{among}{long_enough} ORDER BY {rank} DESC LIMIT {{candidates:UInt32}})"
        # traces whose root was not sent here, or began before the window
        f" UNION ALL SELECT trace_id FROM (SELECT trace_id, {rank} AS rank FROM obs.spans WHERE "
        f"{inside}{among}{'' if conditions else long_enough} {best}) GROUP BY trace_id "
        "ORDER BY max(rank) DESC LIMIT {candidates:UInt32}"
    )
    having = [*(["errors > 0"] if failed else []), *(["took >= {least:UInt64}"] if least else [])]
    rows = asking.rows(
        "SELECT trace_id, min(s.ts) AS at, argMax((s.name, s.asset, s.duration_ns), "
        "(s.parent_span_id = '', s.duration_ns)) AS head, tupleElement(head, 3) AS took, "
        "max(s.parent_span_id = '') AS rooted, uniqExact(s.span_id) AS spans, "
        "uniqExactIf(s.span_id, s.status = 'error') AS errors FROM obs.spans AS s WHERE "
        f"{inside_wider} AND trace_id IN ({candidates}) GROUP BY trace_id "
        f"{'HAVING ' + ' AND '.join(having) if having else ''} ORDER BY "
        f"{'took' if slowest else 'at'} DESC, trace_id LIMIT {{limit:UInt32}}",
        params,
    )
    return TracesFound(
        traces=[
            TraceSeen(
                trace_id=row["trace_id"],
                at=row["at"],
                asset=row["head"][1],
                root=row["head"][0],
                rooted=bool(row["rooted"]),
                duration_ns=int(row["took"]),
                spans=int(row["spans"]),
                errors=int(row["errors"]),
            )
            for row in rows[:limit]
        ],
        cut=len(rows) > limit,
        # the newest spans have the newest traces: a full list misses none
        looked_at_some=(slowest or len(rows) < limit)
        and any(_are_many(asking, one, params) for one in of_traces),
    )


def _are_many(asking: Asking, condition: str, params: dict[str, Any]) -> bool:
    """Say whether more spans meet a condition than a list looks at."""
    (row,) = asking.rows(f"SELECT count() AS n FROM obs.spans WHERE {condition}", params)
    return int(row["n"]) > TRACES_SPANS_MAX


def trace_facts(asking: Asking, trace: str, *, under: str, limit: int) -> TraceFacts:
    """Return a trace: what it comes to, and at most `limit` of its spans. NotFound; UserError where
    several traces, or spans, begin so."""
    if not 1 <= limit <= TRACE_DETAILS_MAX:
        raise UsageError(
            "SX-LOOK-011",
            f"limit must be between 1 and {TRACE_DETAILS_MAX:,}, not {limit:,}",
            hint="`under` shows one span with what stands below it",
        )
    id_ = _whole_id(asking, trace)
    of_it = {"trace": id_}
    (whole,) = asking.rows(
        "SELECT uniqExact(span_id) AS spans, uniqExactIf(span_id, status = 'error') AS errors, "
        "min(toUnixTimestamp64Nano(s.ts)) AS start, max(toUnixTimestamp64Nano(s.ts) + "
        "toInt64(s.duration_ns)) AS end FROM obs.spans AS s WHERE trace_id = {trace:String}",
        of_it,
    )
    if not int(whole["spans"]):
        raise _no_trace(trace)
    tree = SpanTree(_bones(asking, id_))
    head = _one_span(tree, id_, under) if under else ""
    scope = tree.below([head]) if head else []
    places = tree.choose(limit, head)
    start = int(whole["start"])
    details = _details(asking, id_, [one.id for one in places], start)
    rows = [_placed(details[one.id], one) for one in places if one.id in details]
    of_scope = len(scope) if head else int(whole["spans"])
    failed = tree.failed(scope) if head else int(whole["errors"])
    return TraceFacts(
        trace_id=id_,
        at=iso(start),
        duration_ns=int(whole["end"]) - start,
        spans=int(whole["spans"]),
        errors=int(whole["errors"]),
        under=head,
        shown=len(rows),
        hidden=of_scope - len(rows),
        errors_hidden=max(0, failed - sum(row["status"] == "error" for row in rows)),
        rows=rows,
    )


def _whole_id(asking: Asking, trace: str) -> str:
    """Return the id of the trace that is meant: it, its first digits, or a `traceparent`."""
    text = trace.strip().lower()
    sent = _TRACEPARENT.fullmatch(text)
    text = sent[1] if sent else text
    if not re.fullmatch(r"[0-9a-f]{4,32}", text):
        raise UsageError(
            "SX-LOOK-012",
            f"`{trace[:80]}` is not the id of a trace",
            hint="32 hexadecimal digits, or the first 4 or more of them; `sextant traces` lists "
            "traces",
        )
    if len(text) == 32:
        return text
    found = asking.rows(
        "SELECT trace_id, count() AS spans, min(s.ts) AS at FROM obs.spans AS s WHERE "
        "startsWith(trace_id, {trace:String}) GROUP BY trace_id ORDER BY at DESC LIMIT "
        "{limit:UInt32}",
        {"trace": text, "limit": _CANDIDATES + 1},
    )
    if not found:
        raise _no_trace(trace)
    if len(found) > 1:
        listed = "; ".join(
            f"{row['trace_id']} ({row['at'][:19]}, {int(row['spans']):,} spans)"
            for row in found[:_CANDIDATES]
        )
        more = "; ..." if len(found) > _CANDIDATES else ""
        raise UserError(
            "SX-LOOK-013",
            f"several traces begin with `{text}`: {listed}{more}",
            hint="give more digits",
        )
    return str(found[0]["trace_id"])


def _no_trace(trace: str) -> NotFound:
    return NotFound(
        "SX-LOOK-014",
        f"there is no trace `{trace[:80]}`",
        hint="`sextant traces --since 1d` lists those of the last day",
    )


def _one_span(tree: SpanTree, trace: str, under: str) -> str:
    found = tree.find(under.strip().lower()) if under else []
    if len(found) == 1:
        return found[0]
    raise NotFound(
        "SX-LOOK-015",
        f"{len(found) or 'no'} spans of trace `{trace}` begin with `{under[:40]}`",
        hint="give more digits" if found else "`sextant traces ID --wide` lists spans with ids",
    )


def _bones(asking: Asking, trace: str) -> list[Bone]:
    """Return the structure of a trace: of a larger one than is looked at the errors, the roots and
    the slowest spans. A span that was sent again is one."""
    worth = "failed DESC, parent_span_id = '' DESC, duration_ns DESC"
    rows = asking.rows(
        "SELECT span_id, parent_span_id, start, duration_ns, failed FROM (SELECT span_id, "
        "parent_span_id, toUnixTimestamp64Nano(ts) AS start, duration_ns, status = 'error' AS "
        f"failed FROM obs.spans WHERE trace_id = {{trace:String}} ORDER BY {worth} LIMIT "
        f"{{most:UInt32}}) ORDER BY {worth} LIMIT 1 BY span_id",
        {"trace": trace, "most": TRACE_SPANS_MAX},
    )
    return [
        Bone(
            row["span_id"],
            row["parent_span_id"],
            int(row["start"]),
            int(row["duration_ns"]),
            bool(row["failed"]),
        )
        for row in rows
    ]


def _details(asking: Asking, trace: str, ids: list[str], start: int) -> dict[str, SpanSeen]:
    out: dict[str, SpanSeen] = {}
    for at in range(0, len(ids), _IDS):
        some = ids[at : at + _IDS]
        rows = asking.rows(
            "SELECT span_id, parent_span_id, ts AS at, toUnixTimestamp64Nano(ts) AS start, "
            "duration_ns, asset, name, kind, status, status_message, attributes, resource, events "
            "FROM obs.spans WHERE trace_id = {trace:String} AND has(splitByChar(',', "
            "{ids:String}), span_id) ORDER BY status = 'error' DESC, duration_ns DESC LIMIT 1 BY "
            "span_id",
            {"trace": trace, "ids": ",".join(some)},
        )
        out |= {row["span_id"]: _seen(row, start) for row in rows}
    return out


def _seen(row: dict[str, Any], start: int) -> SpanSeen:
    return SpanSeen(
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        depth=0,
        skipped=0,
        note="",
        at=row["at"],
        offset_ns=int(row["start"]) - start,
        duration_ns=int(row["duration_ns"]),
        asset=row["asset"],
        name=row["name"],
        kind=row["kind"],
        status=row["status"],
        status_message=row["status_message"],
        attributes=row["attributes"],
        resource=row["resource"],
        events=_events(row["events"]),
    )


def _placed(row: SpanSeen, place: Place) -> SpanSeen:
    return {**row, "depth": place.depth, "skipped": place.skipped, "note": place.note}


def _events(text: str) -> list[SpanEvent]:
    try:
        found = msgspec.json.decode(text or "[]", type=list[dict[str, Any]])
    except UNREADABLE_JSON:
        return []
    return [
        SpanEvent(
            at=iso(int(one.get("ts_ns", 0))),
            name=str(one.get("name", "")),
            attributes={str(k): str(v) for k, v in (one.get("attributes") or {}).items()},
        )
        for one in found
    ]
