"""Lines as known loggers write them: time, severity and text are what they are in the logger, and
nothing else of a line is lost."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from telemetry_process import Telemetry

from sextant.formats.telemetry.times import time_ns

SECOND = int(time.time()) - 60
NS = SECOND * 10**9
AT = datetime.fromtimestamp(SECOND, UTC)
ISO = AT.strftime("%Y-%m-%dT%H:%M:%S")
EAST = datetime.fromtimestamp(SECOND + 7200, UTC).strftime("%Y-%m-%dT%H:%M:%S")
WEST = datetime.fromtimestamp(SECOND - 19_800, UTC).strftime("%Y-%m-%dT%H:%M:%S")
BASIC = AT.strftime("%Y%m%dT%H%M%S")

# name, line, nanoseconds behind the second, severity, text, attributes that are kept
LINES: list[tuple[str, str, int, str, str, dict[str, str]]] = [
    ("pino", f'{{"level":30,"time":{SECOND}123,"pid":7,"hostname":"h","msg":"up"}}',
     123_000_000, "info", "up", {"pid": "7", "hostname": "h"}),
    ("pino error", f'{{"level":50,"time":{SECOND}000,"err":{{"type":"Error","stack":"at x"}},"msg":"no"}}',
     0, "error", "no", {"err": '{"type":"Error","stack":"at x"}'}),
    ("pino trace", f'{{"level":10,"time":{SECOND}001,"msg":"t"}}', 1_000_000, "trace", "t", {}),
    ("bunyan", f'{{"name":"app","hostname":"h","pid":1,"level":40,"msg":"slow","time":"{ISO}.246Z","v":0}}',
     246_000_000, "warn", "slow", {"name": "app", "v": "0"}),
    ("winston", f'{{"level":"http","message":"GET /","timestamp":"{ISO}.001Z"}}',
     1_000_000, "debug", "GET /", {}),
    ("structlog", f'{{"user":7,"event":"logged in","level":"warning","timestamp":"{ISO}.123456Z"}}',
     123_456_000, "warn", "logged in", {"user": "7"}),
    ("python-json-logger", f'{{"asctime":"{ISO.replace("T", " ")},123","levelname":"CRITICAL","name":"a","message":"m"}}',
     123_000_000, "fatal", "m", {"name": "a"}),
    ("levelno", f'{{"time":{SECOND},"levelno":30,"msg":"m"}}', 0, "warn", "m", {}),
    ("zap", f'{{"level":"dpanic","ts":{SECOND}.1234567,"caller":"a/b.go:7","msg":"m","stacktrace":"s"}}',
     123_456_700, "fatal", "m", {"caller": "a/b.go:7", "stacktrace": "s"}),
    ("zap for people", f'{{"L":"WARN","T":"{ISO}.123+0000","C":"b.go:7","M":"m"}}',
     123_000_000, "warn", "m", {"C": "b.go:7"}),
    ("zerolog", f'{{"level":"error","error":"e","time":{SECOND},"message":"m"}}',
     0, "error", "m", {"error": "e"}),
    ("zerolog in ms", f'{{"level":"trace","time":{SECOND}999,"message":"m"}}', 999_000_000, "trace", "m", {}),
    ("slog", f'{{"time":"{EAST}.123456789+02:00","level":"INFO","msg":"m","n":{{"a":1}}}}',
     123_456_789, "info", "m", {"n": '{"a":1}'}),
    ("slog between", f'{{"time":"{WEST}-05:30","level":"INFO+2","msg":"m"}}', 0, "info", "m", {}),
    ("slog above", f'{{"time":"{ISO}Z","level":"ERROR+4","msg":"m"}}', 0, "fatal", "m", {}),
    ("logstash", f'{{"@timestamp":"{ISO}.123+00:00","@version":"1","message":"m","logger_name":"a.B","level":"ERROR","level_value":40000,"stack_trace":"s"}}',
     123_000_000, "error", "m", {"logger_name": "a.B", "level_value": "40000", "stack_trace": "s"}),
    ("logback", f'{{"sequenceNumber":0,"timestamp":{SECOND}123,"nanoseconds":123456789,"level":"INFO","message":"{{}} up","formattedMessage":"x up","mdc":{{"a":"b"}}}}',
     123_456_789, "info", "x up", {"message": "{} up", "mdc": '{"a":"b"}'}),
    ("log4j2", f'{{"instant":{{"epochSecond":{SECOND},"nanoOfSecond":987654321}},"level":"FATAL","message":"m"}}',
     987_654_321, "fatal", "m", {}),
    ("java's zone", f'{{"timestamp":"{EAST}.5+02:00[Europe/Berlin]","level":"SEVERE","message":"m"}}',
     500_000_000, "error", "m", {}),
    ("docker", f'{{"log":"m\\n","stream":"stderr","time":"{ISO}.123456789Z"}}',
     123_456_789, "", "m", {"stream": "stderr"}),
    ("fluent bit", f'{{"date":{SECOND}.123456,"log":"m","k":"v"}}', 123_456_000, "", "m", {"k": "v"}),
    ("nine digits", f'{{"date":{SECOND}.123456789,"log":"m"}}', 123_456_789, "", "m", {}),
    ("google", f'{{"severity":"DEFAULT","message":"m","timestamp":{{"seconds":{SECOND},"nanos":5}}}}',
     5, "", "m", {}),
    ("google's number", f'{{"severity":500,"message":"m","time":"{ISO}Z"}}', 0, "error", "m", {}),
    ("elastic", f'{{"@timestamp":"{ISO}.1Z","log":{{"level":"warn","logger":"a"}},"message":"m","trace":{{"id":"AB"}}}}',
     100_000_000, "warn", "m", {"log": '{"logger":"a"}'}),
    ("elastic, flat", f'{{"@timestamp":"{ISO}.1Z","log.level":"debug","message":"m"}}', 100_000_000, "debug", "m", {}),
    ("syslog's number", f'{{"time":{SECOND},"level":3,"short_message":"m","version":"1.1"}}',
     0, "error", "m", {"version": "1.1"}),
    ("journal", f'{{"__REALTIME_TIMESTAMP":"{SECOND}000007","PRIORITY":"4","MESSAGE":"m","_PID":"1"}}',
     7000, "warn", "m", {"_PID": "1"}),
    ("monolog", f'{{"message":"m","level":250,"level_name":"NOTICE","channel":"c","datetime":"{ISO}.000001+00:00"}}',
     1000, "info", "m", {"level": "250", "channel": "c"}),
    ("serilog", f'{{"@t":"{ISO}.1234567Z","@mt":"took {{Ms}}","@l":"Verbose","Ms":7}}',
     123_456_700, "trace", "took {Ms}", {"Ms": "7"}),
    ("mongo", f'{{"t":{{"$date":"{ISO}.5+00:00"}},"s":"E","c":"NETWORK","msg":"m"}}',
     500_000_000, "error", "m", {"c": "NETWORK"}),
    ("loguru", f'{{"text":"x | m\\n","record":{{"message":"m","level":{{"name":"SUCCESS","no":25}},"time":{{"repr":"{EAST}.000001+02:00","timestamp":1.5}},"extra":{{"k":1}}}}}}',
     1000, "info", "m", {}),
    ("tracing", f'{{"timestamp":"{ISO}.000002Z","level":"TRACE","fields":{{"message":"m","n":1}},"target":"a::b"}}',
     2000, "trace", "m", {"fields": '{"n":1}', "target": "a::b"}),
    (".net", f'{{"EventId":0,"LogLevel":"Information","Category":"a","Message":"m","Timestamp":"{ISO}.003Z "}}',
     3_000_000, "info", "m", {"Category": "a", "EventId": "0"}),
    ("serilog's own", f'{{"Timestamp":"{EAST}.0000001+02:00","Level":"Warning","MessageTemplate":"m {{N}}","Properties":{{"N":1}}}}',
     100, "warn", "m {N}", {"Properties": '{"N":1}'}),
    ("opentelemetry", f'{{"Timestamp":"{SECOND}000000007","SeverityText":"ERR","SeverityNumber":18,"Body":"m","TraceId":"{"ab" * 16}"}}',
     7, "error", "m", {"SeverityNumber": "18"}),
    ("postgres", f'{{"timestamp":"{ISO.replace("T", " ")}.123 UTC","pid":1,"error_severity":"LOG","message":"m"}}',
     123_000_000, "info", "m", {"pid": "1"}),
    ("cockroach", f'{{"c":1,"t":"{SECOND}.654321000","s":1,"sev":"W","message":"m"}}',
     654_321_000, "warn", "m", {"c": "1", "s": "1"}),
    ("azure", f'{{"time":"{ISO}.1234567Z","severityLevel":3,"message":"m"}}', 123_456_700, "error", "m", {}),
    ("go's time", f'{{"time":"{WEST.replace("T", " ")}.562264131 -0530 XST m=+0.000012","level":"warning","msg":"m"}}',
     562_264_131, "warn", "m", {}),
    ("apache", f'{{"time":"{AT.strftime("%d/%b/%Y:%H:%M:%S +0000")}","msg":"m"}}', 0, "", "m", {}),
    ("mail", f'{{"time":"{AT.strftime("%a, %d %b %Y %H:%M:%S +0000")}","msg":"m"}}', 0, "", "m", {}),
    ("basic", f'{{"time":"{BASIC}Z","msg":"m"}}', 0, "", "m", {}),
    ("a day of the program's", f'{{"ts":{SECOND},"date":"2024-01-01","msg":"m"}}', 0, "", "m", {"date": "2024-01-01"}),
    ("microseconds", f'{{"time":{SECOND}000001,"msg":"m"}}', 1000, "", "m", {}),
    ("nanoseconds as text", f'{{"time":"{SECOND}000000001","msg":"m"}}', 1, "", "m", {}),
    ("a tab", f'{{"time":{SECOND},"msg":"a\tb","x":NaN}}', 0, "", "a\tb", {"x": "nan"}),
    ("half an emoji", f'{{"time":{SECOND},"msg":"a\\ud83d","b":"\\\\ud83d"}}', 0, "", "a\ufffd", {"b": "\\ud83d"}),
]  # fmt: skip


@pytest.mark.parametrize("second", [1796081260, 1796123100, 1820010112, 1796010100])
def test_a_number_as_text_is_no_day_of_long_ago(second: int) -> None:
    """If this fails, nanoseconds as text are taken for a date without hyphens: on one day of 2026
    a third of such lines get the time of their arrival."""
    for text, behind in ((f"{second}000000007", 7), (f"{second}000007", 7000), (str(second), 0)):
        assert time_ns(text) == second * 10**9 + behind, text


def send(process: Telemetry, token: str, body: bytes, name: str) -> Any:
    return process.post(
        f"/v1/jsonlines?asset=service:{name}",
        body,
        token=token,
        content_type="application/x-ndjson",
    ).json


def rows(process: Telemetry, name: str) -> list[dict[str, Any]]:
    return process.rows(
        "SELECT toString(toUnixTimestamp64Nano(ts)) AS at, severity, body, attributes, trace_id "
        "FROM obs.logs WHERE asset = {a:String} ORDER BY attributes['number'], body",
        a=f"service:{name}",
    )


def test_every_logger(process: Telemetry, token: str) -> None:
    """If this fails, lines of a usual logger are without severity or text, or at a wrong time."""
    numbered = [
        line[:-1] + f',"number":"{n:03d}"}}' for n, (_, line, *_) in enumerate(LINES)
    ]  # fmt: skip
    said = send(process, token, "\n".join(numbered).encode(), "loggers")
    assert (said["taken"], said["refused"]) == (len(LINES), {})
    assert said["noticed"] == {"not_utf8_repaired": 1}
    for row, (name, line, behind, severity, text, kept) in zip(
        rows(process, "loggers"), LINES, strict=True
    ):
        del row["attributes"]["number"]
        got = (int(row["at"]) - NS, row["severity"], row["body"])
        assert got == (behind, severity, text), (name, line)
        assert kept.items() <= row["attributes"].items(), (name, row)
    assert rows(process, "loggers")[[n for n, _, *_ in LINES].index("elastic")]["trace_id"] == "ab"


def test_a_time_that_cannot_be_read(process: Telemetry, token: str) -> None:
    """If this fails, a line is lost for the form of its time, or nobody is told."""
    bad = ("yesterday", "25:00", "2024-13-01T00:00:00Z", 35, "0001-01-01T00:00:00Z", True, [])
    lines = "\n".join(json.dumps({"time": at, "msg": f"m{n}"}) for n, at in enumerate(bad))
    said = send(process, token, lines.encode(), "clockless")
    assert said == {"taken": len(bad), "refused": {}, "noticed": {"time_malformed": len(bad)}}
    found = rows(process, "clockless")
    assert [row["attributes"]["time"] for row in found] == [
        str(at) if not isinstance(at, bool | list) else json.dumps(at) for at in bad
    ]


def test_bodies_of_other_forms(process: Telemetry, token: str) -> None:
    """If this fails, what Fluent Bit or Windows sends is refused or cut."""
    bodies = {
        "array": b' [{"msg":"a"},{"msg":"b"}]\n',
        "stream": b'{"msg":"a"}{"msg":"b"}',
        "pretty": b'{\n  "msg": "a"\n}\n{\n "msg": "b"\n}\n',
        "bom": b'\xef\xbb\xbf{"msg":"a"}\r\n{"msg":"b"}\r\n',
        "empty": b'\n\n{"msg":"a"}\n \n{"msg":"b"}',
    }
    for name, body in bodies.items():
        assert send(process, token, body, name) == {"taken": 2, "refused": {}}, name
        assert [row["body"] for row in rows(process, name)] == ["a", "b"], name


def test_one_bad_line(process: Telemetry, token: str) -> None:
    """If this fails, one line that is cut off costs all beside it, or vanishes without a word."""
    body = b'{"msg":"a"}\n{"msg":\nplain text\n{"msg":"caf\xe9"}\n[1]\n{"msg":"b"}{"msg":\n'
    said = send(process, token, body, "cut")
    assert (said["taken"], said["refused"]) == (3, {"line_malformed": 4})
    assert said["noticed"] == {"not_utf8_repaired": 1}
    assert said["first"].startswith("line 2 is no JSON object: ")
    assert [row["body"] for row in rows(process, "cut")] == ["a", "b", "caf\ufffd"]
    array = send(process, token, b'[{"msg":"a"},7,null]', "array-cut")
    assert (array["taken"], array["refused"]) == (1, {"line_malformed": 2})
    assert array["first"] == "element 2 of the array is no JSON object"
    for nothing in (b"plain\ntext\n", b"[1,2]", b'"x"', b"[" * 100_000, b'{"a":' * 100_000):
        answer = process.post(
            "/v1/jsonlines?asset=service:none", nothing, token=token, content_type="text/plain"
        )
        assert answer.status == 400
        assert answer.json["code"] == "SX-INTAKE-030", nothing[:20]


@pytest.mark.parametrize(
    ("key", "at"),
    [("", SECOND), ("", SECOND * 1000 + 7), ("7", SECOND), ("", NS + 1), ("", None)],
    ids=["second", "millisecond", "marked", "nanosecond", "no time"],
)
def test_equal_lines(process: Telemetry, token: str, key: str, at: int | None) -> None:
    """If this fails, a program that says the same thrice in a second is heard once, or a repetition
    counts twice: one that its sender marks, or of a line at the same nanosecond."""
    asset = f"equal{key}-{at}"
    line = json.dumps({"time": at, "level": "error", "msg": "retry failed"}).encode() + b"\n"
    said = [
        process.post(
            f"/v1/jsonlines?asset=service:{asset}",
            line * 2,
            token=token,
            content_type="application/x-ndjson",
            **({"Idempotency_Key": key} if key else {}),
        ).json["taken"]
        for _ in range(3)
    ]
    named = f"/v1/jsonlines?asset=service:{asset}-named&batch=7"
    for count in (2, 0):  # as pushed rows are named
        answer = process.post(named, line * 2, token=token, content_type="application/x-ndjson")
        assert answer.json["taken"] == count
    assert said == ([2, 0, 0] if key or at == NS + 1 else [2, 2, 2])
    assert len(rows(process, asset)) == sum(said)
    if key:  # another batch under the same id is another batch
        other = line.replace(b"failed", b"done")
        answer = process.post(
            f"/v1/jsonlines?asset=service:{asset}",
            other,
            token=token,
            content_type="application/x-ndjson",
            Idempotency_Key=key,
        )
        assert answer.json["taken"] == 1


def test_a_large_body(process: Telemetry, token: str) -> None:
    """If this fails, a body that another process decodes loses its name, or what was wrong."""
    line = json.dumps({"time": SECOND, "msg": "one of many", "x": "y" * 20}).encode() + b"\n"
    path = "/v1/jsonlines?asset=service:large"
    body = line * 1500 + b"cut off\n" + line * 1500
    for count in (3000, 0):
        said = process.post(
            path, body, token=token, content_type="application/x-ndjson", Idempotency_Key="1"
        ).json
        assert said["taken"] == count
        if count:
            assert said["refused"] == {"line_malformed": 1}
            assert said["first"].startswith("line 1501 is no JSON object")
    assert len(rows(process, "large")) == 3000
