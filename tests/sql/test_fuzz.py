"""What nobody thought of: requests of any bytes, and a forbidden call hidden in any nest of
harmless ones."""

from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_endpoint import World

from sextant.kernel.errors import Denied, UsageError, UserError
from sextant.server.sql.question import read_question
from sextant.server.sql.replies import packed

QUICK = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ENCODINGS = st.sampled_from(["", "identity", "gzip", "deflate", "lz4", "zstd", "br", "x"])
KINDS = st.sampled_from(
    [
        "",
        "text/plain",
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\x00",
        "multipart/mixed",
    ]
)
PIECES = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\r\n",
        b"\n",
        b"Content-Disposition: form-data; name=",
        b'"query"',
        b"=?utf-8?q?x?=",
        b"; filename*=utf-8''x",
        b"SELECT 1",
        b"\xff",
        b"(",
        b'"',
        b";",
        b"name",
    ]
)


@QUICK
@given(
    query=st.binary(max_size=60),
    body=st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=14).map(b"".join)),
    encoding=ENCODINGS,
    kind=KINDS,
)
def test_any_request_is_read_or_refused(
    query: bytes, body: bytes, encoding: str, kind: str
) -> None:
    """If this fails, somebody makes the server stumble with a few odd bytes."""
    try:
        read_question(query, {"content-encoding": encoding, "content-type": kind}, body)
    except UserError as error:
        assert error.code.startswith("SX-SQL-")


def test_too_many_parameters() -> None:
    with pytest.raises(UsageError, match="more than 1000 parameters"):
        read_question(urlencode([(f"param_{n}", "1") for n in range(1001)]).encode(), {}, b"")


@QUICK
@given(st.text(max_size=40))
def test_any_accept_encoding(accepted: str) -> None:
    data, way = packed(b"x" * 2000, accepted)
    assert way in ("", "lz4", "zstd", "gzip", "deflate")
    assert (data == b"x" * 2000) == (way == "")


# {} is an expression of type String
AROUND = st.sampled_from(
    [ "upper({})", "concat('a', {}, 'b')", "if(1, {}, '')", "arrayMap(x -> concat(x, {}), ['a'])[1]", "(SELECT {})", "(SELECT max(z) FROM (SELECT {} AS z))", "CAST({} AS String)", "coalesce(NULL, {})", "tupleElement(tuple({}, 1), 1)", "[{}][1]", "map('k', {})['k']", "arrayFold((a, x) -> concat(a, x), [{}], '')", "multiIf(1, {}, '')", "CASE WHEN 1 THEN {} ELSE '' END", "(WITH {} AS v SELECT v)", "arrayStringConcat(arrayFilter(x -> x != {}, ['a']))", "any({})", "toString(length({}))", "(SELECT z FROM (SELECT 1) ARRAY JOIN [{}] AS z)", "substring({}, 1, 2)", "(SELECT toString(count()) FROM numbers(3) WHERE toString(number) != {})", "(SELECT toString(count()) FROM numbers(1) AS a LEFT JOIN numbers(1) AS b ON toString(a.number) = {})", "ifNull({}, '')", "replaceAll({}, 'a', 'b')", "format('{{}}', {})", "({} || '')", "(lambda_ -> {})", "JSONExtractString({}, 'a')", "{}::String", "NOT {}", "{} IN ('a')", "{} LIKE 'x'", ],
)  # fmt: skip
STATEMENTS = st.sampled_from(
    [ "SELECT {}", "SELECT 1 WHERE {} = ''", "SELECT count() FROM data.flights GROUP BY {}", "SELECT 1 ORDER BY {}", "EXPLAIN SELECT {}", "DESCRIBE (SELECT {})", "SELECT 1 UNION ALL SELECT length({})", "SELECT number FROM numbers(3) HAVING {} != ''", "SELECT * REPLACE ({} AS z) FROM (SELECT 'a' AS z)", "SELECT sum(1) OVER (PARTITION BY {}) FROM numbers(2)", "SELECT * FROM view(SELECT {})", "SELECT * FROM values((1, {}))", "SELECT 1 LIMIT length({})", "SELECT * FROM numbers(length({}))", "SELECT 1 FORMAT JSON SETTINGS session_timezone = {}", "WITH {} AS v SELECT v FORMAT CSV", ],
)  # fmt: skip
FORBIDDEN = st.sampled_from(
    [ "file('/etc/hostname')", "FILE('/etc/hostname')", "`file`('/etc/hostname')", '"file"(\'/etc/hostname\')', "file/**/('/etc/hostname')", "hostName()", "getMacro('x')", "dictGetString('d', 'a', 1)", "(SELECT * FROM file('/etc/hostname', 'LineAsString'))", "(SELECT name FROM system.users)", "(SELECT x FROM values('y Int8, x String ALIAS file(\\'/etc/hostname\\')', (1)))", "(SELECT c FROM url('http://127.0.0.1:1/', 'TSV', 'c String'))", "arrayMap(file, ['/etc/hostname'])[1]", "(SELECT * APPLY file FROM (SELECT '/etc/hostname'))", "toString(sleep(1))", "joinGet('a.b', 'c', 1)", ],
)  # fmt: skip


@QUICK
@given(around=st.lists(AROUND, max_size=4), statement=STATEMENTS, call=FORBIDDEN)
def test_a_forbidden_call_is_found_however_deep_it_is_hidden(
    world: World, around: list[str], statement: str, call: str
) -> None:
    """If this fails, there is a way past the guard."""
    for one in around:
        call = one.replace("{{}}", "\0").replace("{}", call).replace("\0", "{}")
    with pytest.raises((Denied, UsageError)):
        world.judge(statement.replace("{}", call))


@QUICK
@given(around=st.lists(AROUND, max_size=4), statement=STATEMENTS)
def test_the_same_nests_are_harmless_without_it(
    world: World, around: list[str], statement: str
) -> None:
    """If this fails, the test above proves little: what surrounds the call would be refused by
    itself."""
    call = "lower('A')"
    for one in around:
        call = one.replace("{{}}", "\0").replace("{}", call).replace("\0", "{}")
    try:
        world.judge(statement.replace("{}", call))
    except UsageError as error:
        assert error.code == "SX-SQL-007", (
            error.message
        )  # what ClickHouse itself cannot parse in this place
    except Denied as error:
        assert error.code == "SX-SQL-005", error.message  # a setting that is computed
