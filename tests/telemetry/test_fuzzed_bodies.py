"""Bodies of every protocol with something wrong in them, by a seed: the sender gets an error of his
own or is taken, never a defect, and an honest sender beside him loses nothing."""

import http.client
import json
import random
import struct
import time
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

import cramjam
from served import INTERNAL
from telemetry_process import Telemetry

from sextant.formats.telemetry.native import varint

NOW = time.time_ns()
PROTOBUF, JSON = "application/x-protobuf", "application/json"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MUTATIONS = 80  # of each honest body
ODD_OF_EACH = 10  # odd values in each place
# texts that stand in place of a value of JSON
ODD_VALUES = (
    "1e400", "-1e400", "1e308", "-0", "1" * 5_000, "-1" + "0" * 30, "9223372036854775808",
    "18446744073709551616", "NaN", "Infinity", "null", "true", "[]", "{}", '""', '"\\ud800"',
    '"\\ud800\\ud800"', '"\\u0000"', '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"',
    '"9999-12-31T23:59:59-14:00"', '"99999-01-01T00:00:00Z"', '"2024-02-30"', '"2024-W01-1"',
    '"1e400"', '"9223372036854775808"', "[" * 3_000 + "]" * 3_000, '{"a":' * 3_000 + "1" + "}" * 3_000,
    "[-1" + "0" * 30 + "]", '{"a":-1' + "0" * 30 + "}", "0.1e-999999999", '"' + "x" * 300_000 + '"',
    "1.7976931348623157e308", "-9223372036854775809", "1e19", "1e18", "-1e18", '"\xff"', "[[[",
)  # fmt: skip


class Request(NamedTuple):
    path: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def attribute(name: bytes, value: bytes) -> bytes:
    return field(1, name) + field(2, field(1, value))


def protobufs() -> Iterator[Request]:
    at = struct.pack("<Q", NOW)
    resource = field(1, field(1, attribute(b"service.name", b"fuzzed")))
    own = field(9, attribute(b"http.route", b"/a"))
    span = field(1, bytes(range(16))) + field(2, bytes(range(8))) + field(5, b"GET") + b"\x30\x03"
    span += (
        b"\x39" + at + b"\x41" + at + own + field(11, field(2, b"e")) + field(15, field(2, b"m"))
    )
    record = b"\x09" + at + b"\x10\x09" + field(3, b"INFO") + field(5, field(1, b"text"))
    record += field(6, attribute(b"k", b"v")) + field(9, bytes(range(16)))
    point = b"\x19" + at + b"\x21" + struct.pack("<d", 1.5) + field(7, attribute(b"k", b"v"))
    shape = b"\x19" + at + b"\x21" + struct.pack("<Q", 3) + b"\x29" + struct.pack("<d", 4.5)
    buckets = field(6, struct.pack("<QQ", 1, 2)) + field(7, struct.pack("<d", 0.5))
    exponential = b"\x30\x04" + b"\x38\x01" + field(8, b"\x08\x02" + field(2, b"\x01\x02\x00\x03"))
    quantile = field(6, b"\x09" + struct.pack("<d", 0.5) + b"\x11" + struct.pack("<d", 2.5))
    for path, part in (
        ("/v1/traces", field(2, span)),
        ("/v1/logs", field(2, record)),
        ("/v1/metrics", field(2, field(1, b"g") + field(5, field(1, point)))),
        ("/v1/metrics", field(2, field(1, b"c") + field(7, field(1, point) + b"\x10\x02\x18\x01"))),
        ("/v1/metrics", field(2, field(1, b"h") + field(9, field(1, shape + buckets)))),
        ("/v1/metrics", field(2, field(1, b"e") + field(10, field(1, shape + exponential)))),
        ("/v1/metrics", field(2, field(1, b"s") + field(11, field(1, shape + quantile)))),
    ):
        yield Request(path, PROTOBUF, field(1, resource + field(2, part)))
    sample = field(2, b"\x09" + struct.pack("<d", 1.5) + b"\x10" + varint(NOW // 10**6))
    names = field(1, field(1, b"__name__") + field(2, b"fuzzed")) + field(
        1, field(1, b"job") + field(2, b"x")
    )
    metadata = field(3, b"\x08\x01" + field(2, b"fuzzed") + field(5, b"s"))
    for body in (
        field(1, names + sample) * 3,
        field(1, names + sample * 3) + field(1, names + sample + field(3, b"\x09" + bytes(8))),
        metadata * 2,
    ):
        yield Request("/api/v1/write", PROTOBUF, body)


def texts() -> Iterator[Request]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "fuzzed"}}]}
    record = {"timeUnixNano": str(NOW), "body": {"stringValue": "t"}, "traceId": "00" * 16}
    span = {
        "traceId": "01" * 16, "spanId": "02" * 8, "name": "n", "startTimeUnixNano": str(NOW),
        "events": [{"name": "e", "timeUnixNano": 1}], "kind": 2, "status": {"code": 1},
    }  # fmt: skip
    point = {"timeUnixNano": str(NOW), "asDouble": 1.5, "attributes": resource["attributes"]}
    for signal, group, scope, part in (
        ("logs", "resourceLogs", "scopeLogs", {"logRecords": [record]}),
        ("traces", "resourceSpans", "scopeSpans", {"spans": [span]}),
        (
            "metrics",
            "resourceMetrics",
            "scopeMetrics",
            {"metrics": [{"name": "m", "sum": {"dataPoints": [point], "isMonotonic": True}}]},
        ),
    ):
        body = {group: [{"resource": resource, scope: [part]}]}
        yield Request(f"/v1/{signal}", JSON, json.dumps(body).encode())
    line = {"ts": "2024-01-01T00:00:00Z", "msg": "m", "level": 30, "trace_id": "a", "x": {"y": 1.5}}
    lines = "/v1/jsonlines?asset=service:fuzzed"
    for at in ("2024-01-01T00:00:00Z", NOW, NOW / 1e9):
        yield Request(lines, JSON, json.dumps({**line, "ts": at}).encode() + b"\n")
    event = {
        "specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "service:x",
        "time": "2024-01-01T00:00:00Z", "data": {"a": 1}, "extension": "e", "dataschema": "d",
    }  # fmt: skip
    yield Request("/v1/events", STRUCTURED, json.dumps(event).encode())
    yield Request("/v1/events", BATCH, json.dumps([event, event]).encode())
    headers = tuple((f"ce-{name}", str(value)) for name, value in event.items() if name != "data")
    yield Request("/v1/events", "text/plain", b"data", headers)
    exposition = (
        b"# HELP m what\n# TYPE m counter\n# UNIT m s\n"
        b'm{a="b\\n\\"c\\\\",d="e"} 1.5 1700000000000\nm_total{"q"="v"} +Inf\n{"utf8 name",a="b"} NaN\n'
    )
    path = "/v1/exposition?job=fuzzed&instance=i"
    yield Request(path, "text/plain", exposition)
    yield Request(f"{path}&at={NOW // 10**6}", "text/plain", b"n 1\n")
    openmetrics = b'o_total{a="b"} 1 1700000000.5 # {trace_id="x"} 1\n# EOF\n'
    yield Request(path, "application/openmetrics-text", openmetrics)


def mutated(luck: random.Random, body: bytes) -> bytes:
    """Return a body with a few bytes changed, moved, doubled or gone."""
    out = bytearray(body)
    for _ in range(luck.randint(1, 4)):
        at = luck.randrange(len(out) + 1)
        match luck.randrange(6):
            case 0:
                out[at : at + 1] = luck.randbytes(1)
            case 1:
                del out[at : at + luck.randint(1, 8)]
            case 2:
                out[at:at] = luck.choice(
                    (b"\xff" * 10, b"\x00", b'"', b"\\", b"{", b"}", b"\xed\xa0\x80")
                )
            case 3:
                out[at:at] = out[luck.randrange(len(out) + 1) :][: luck.randint(1, 64)]
            case 4:
                out[at : at + 8] = struct.pack(
                    "<q", luck.choice((-1, -(1 << 63), (1 << 63) - 1, 0))
                )
            case _:
                out[at:at] = str(luck.choice((10**30, -(10**400), "1e400", "NaN"))).encode()
    return bytes(out)


def with_odd_values(luck: random.Random, body: bytes) -> Iterator[bytes]:
    """Yield a body of JSON with each of its values replaced by odd ones."""

    def places(value: object, path: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
        yield path
        inner = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        for key, one in inner:
            yield from places(one, (*path, key))

    mark = "\x00here\x00"
    for path in list(places(json.loads(body), ()))[1:]:
        value = json.loads(body)
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = mark
        text = json.dumps(value)
        for odd in luck.sample(ODD_VALUES, ODD_OF_EACH):
            yield text.replace(json.dumps(mark), odd).encode("latin-1")


def odd_requests() -> Iterator[Request]:
    """Yield what no mutation finds."""
    path = "/v1/exposition?job=odd"
    for at in ("1" * 5_000, "\u00b2", "-1", "1.5", "9" * 18, "9" * 19, "%ff", "%", "%zz", "\x00"):
        quoted = at if at.startswith("%") else urllib.parse.quote(at)
        yield Request(f"{path}&at={quoted}", "text/plain", b"odd 1\n")
    for text in (
        "odd 1 " + "9" * 19, "odd 1 " + "9" * 5_000, "odd 1 1e400", "odd " + "9" * 5_000, "odd 0x1p3",
        "odd 1_0", 'odd{a="\\', 'odd{a="\\x"} 1', "odd{} 1", "{} 1", '{"a","b","c"} 1', "odd{a=} 1",
        'odd{="b"} 1', 'odd{a="b",,} 1', 'odd{a="b"}1', "odd\x001 1", "# TYPE", "# TYPE x", "#",
        'odd{a="' + "\\n" * 100_000 + '"} 1', "odd{" + 'a="b",' * 50_000 + "} 1", "\xff\xfe 1",
        "{" + '"a",' * 50_000 + "} 1", "odd{a" + " " * 50_000 + "} 1",
    ):  # fmt: skip
        yield Request(path, "text/plain", text.encode("latin-1") + b"\n")
        yield Request(path, "application/openmetrics-text", text.encode("latin-1") + b"\n# EOF\n")
    line = b'{"msg": "odd"}\n'
    for query in (
        "asset=%ff%fe:x",
        "asset=:",
        "asset=a:%00",
        "asset=%",
        "&&=&asset=a:b&asset=",
        "%F0%9F=1&asset=a:b",
    ):
        yield Request(f"/v1/jsonlines?{query}", JSON, line)
    plain = "/v1/jsonlines?asset=service:odd"
    for headers in (
        (("content-encoding", "\xff\xfe"),), (("content-encoding", "gzip, gzip"),),
        (("content-encoding", ""),), (("x-odd", "\x80\xff"),), (("authorization", "Bearer \xff"),),
        (("content-type", "\xff/\xfe"),), (("x-sextant-internal", "\xe9"),),
    ):  # fmt: skip
        yield Request(plain, JSON, line, headers)
    for body in (b"", b"\n", b"\xef\xbb\xbf{}", b"\x00", b"{}", b"[]", b'"', b"[" * 100_000):
        yield Request(plain, JSON, body)
        for path in ("/v1/logs", "/v1/traces", "/v1/metrics"):
            yield Request(path, JSON, body)
            yield Request(path, PROTOBUF, body)
        yield Request("/v1/events", STRUCTURED, body)
        yield Request("/v1/events", BATCH, body)
        yield Request("/api/v1/write", PROTOBUF, body)
    for body in (
        b'{"resourceLogs":[1]}', b'{"resourceLogs":1}', b'{"resourceLogs":[null]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":1}]}]}]}', b'{"resourceLogs":"x"}',
        b'{"resourceLogs":[[1]]}', b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}',
    ):  # fmt: skip
        yield Request("/v1/logs", JSON, body)
        yield Request("/v1/traces", JSON, body)


def requests(luck: random.Random) -> Iterator[Request]:
    for honest in (*protobufs(), *texts()):
        yield honest
        for _ in range(MUTATIONS):
            yield honest._replace(body=mutated(luck, honest.body))
        if honest.body.startswith((b"{", b"[")) and honest.content_type != "text/plain":
            body = honest.body.rstrip(b"\n")
            yield from (honest._replace(body=odd) for odd in with_odd_values(luck, body))
    yield from odd_requests()


class Sender:
    """One connection after the other: an answer may end it."""

    def __init__(self, process: Telemetry) -> None:
        self._host = urllib.parse.urlsplit(process.ingest).netloc
        self._link = http.client.HTTPConnection(self._host, timeout=60)

    def send(self, request: Request) -> tuple[int, bytes]:
        path = request.path + ("&" if "?" in request.path else "?") + "owner=fuzzer"
        body = request.body
        self._link.putrequest("POST", path, skip_accept_encoding=True)
        if path.startswith("/api/v1/write"):
            body = bytes(cramjam.snappy.compress_raw(body))
        headers = {
            "content-type": request.content_type,
            "x-sextant-internal": INTERNAL,
            **dict(request.headers),
        }
        for name, value in headers.items():
            self._link.putheader(name, value.encode("latin-1"))
        self._link.putheader("content-length", str(len(body)))
        self._link.endheaders(body)
        answer = self._link.getresponse()
        said = answer.read()
        if answer.will_close:
            self._link.close()
        return answer.status, said


def test_what_is_odd_is_an_error_of_its_sender(process: Telemetry) -> None:
    """If this fails, a body that somebody makes up is a defect of ours, ends the process, or costs
    others what they sent."""
    luck = random.Random(20130609)
    sender, honest = Sender(process), Sender(process)
    number = 0
    text = "honest beside"
    for count, request in enumerate(requests(luck)):
        status, said = sender.send(request)
        assert status < 500 or (status == 503 and b"SX-INTAKE-059" not in said), (request, said)
        if count % 50 == 0:
            body = json.dumps({"msg": text, "n": number, "ts": NOW}).encode()
            assert honest.send(Request("/v1/jsonlines?asset=service:honest", JSON, body))[0] == 200
            number += 1
    assert process.rows(
        f"SELECT count() AS n, uniqExact(attributes['n']) AS different FROM obs.logs WHERE body = '{text}'"
    ) == [{"n": number, "different": number}]
    assert not [key for key in process.refused() if key[1] == "defect"]
    assert process.child.process is not None
    assert process.child.process.poll() is None
