"""Search of logs: what a person types is found, by an index or without, here and at a server."""

import itertools
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from looking import Sender, operations
from served import Serving
from telemetry_process import Telemetry

from sextant.app.operations import Operations
from sextant.app.remote import connect
from sextant.kernel.errors import NotFound, SextantError, UsageError, UserError

BODIES = (
    "Connection refused by pay-01:8443",
    "connection reset",
    "user=Zoë überwies 20 € nach KÖLN",
    "ÜBER und über; Straße",
    'said "card refused", code=51',
    "100% of C:\\temp\\x is_full",
    "order_id=4711 took 12ms",
    "order-id 47110",
    "注文 4711 が失敗しました",
    "Ошибка соединения",
    "trailing-",
    "",
    "a'b''c",
    "FOO foo Foo foo-bar foo_bar",
    "tab\there and {braces:String}",
)
ATTRIBUTES = (
    {"order.id": "4711", "http.route": "/api/Orders"},
    {"note": "Connection by attribute"},
    {},
    {"empty": ""},
    {"ort": "Köln", "q": 'a "quoted" 100%'},
)
LINES = [
    {"body": body, "attributes": ATTRIBUTES[n % len(ATTRIBUTES)], "severityNumber": 1 + 4 * (n % 6)}
    for n, body in enumerate(BODIES)
]
# what a person types: pieces of what is there, and what is not
PIECES = [
    *{
        piece
        for body in (*BODIES, *(value for one in ATTRIBUTES for value in one.values()))
        for word in body.split()
        for piece in (word, word.upper(), word.lower(), word[1:], word[:-1], word[2:4])
        if piece
    },
    "nothing", "%", "_", "\\", "-", "'", '"', "%s", "\\d", "4711", "É", "ß", "\\n", "{t0:String}",
]  # fmt: skip


@pytest.fixture(scope="module")
def here(coordinator: Serving, process: Telemetry, token: str) -> Iterator[Operations]:
    """Give the operations of a platform whose telemetry has the lines."""
    sender = Sender(process, token)
    sender.logs("shop", *LINES)
    sender.logs("other", {"body": "connection of another", "traceId": "ab" * 16})
    yield operations(coordinator, process)


def folded(text: str, like: str) -> str:
    """Return a text as a search compares it: a word of ASCII is compared by letters of ASCII."""
    return re.sub("[A-Z]+", lambda m: m[0].lower(), text) if like.isascii() else text.lower()


def matches(line: dict[str, object], wanted: list[str]) -> bool:
    texts = [str(line["body"]), *line["attributes"].values()]  # type: ignore[attr-defined]
    return all(any(folded(one, one) in folded(text, one) for text in texts) for one in wanted)


def matches_exactly(line: dict[str, object], wanted: list[str]) -> bool:
    body = str(line["body"])
    whole = set(re.findall("[0-9A-Za-z\x80-\U0010ffff]+", body))
    return all(
        one in body and whole.issuperset(re.findall("[0-9A-Za-z\x80-\U0010ffff]+", one))
        for one in wanted
    )


def quoted(term: str) -> str:
    return f'"{term}"' if " " in term or "\t" in term else term


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    wanted=st.lists(
        st.sampled_from(PIECES)
        | st.sampled_from([b for b in BODIES if b and '"' not in b])
        | st.text(alphabet="aoüÖßé4_%-\\'К注", min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    exact=st.booleans(),
)
def test_a_search_finds_what_plain_python_finds(
    here: Operations, wanted: list[str], exact: bool
) -> None:
    """If this fails, a line that is there is not found, or one that is not there is."""
    found = here.search_logs(
        search=" ".join(map(quoted, wanted)), exact=exact, asset="service:shop", limit=1000
    )
    oracle = matches_exactly if exact else matches
    assert sorted(one["body"] for one in found["lines"]) == sorted(
        str(one["body"]) for one in LINES if oracle(one, wanted)
    )
    assert not found["cut"]


def test_a_search_says_how_it_was_answered(here: Operations, process: Telemetry) -> None:
    """If this fails, nobody knows why a search takes long."""
    by_part = here.search_logs(search="foo-")
    assert by_part["scanned"]
    assert by_part["lines_read"] >= len(LINES)
    by_word = here.search_logs(search="4711 took", exact=True)
    assert [one["body"] for one in by_word["lines"]] == ["order_id=4711 took 12ms"]
    assert not by_word["scanned"]
    assert here.search_logs(search="---", exact=True)["scanned"], "there is no word in it"
    assert not here.search_logs()["scanned"]


def test_an_exact_search_reads_less(here: Operations, process: Telemetry) -> None:
    """If this fails, the index is not used: a search of two weeks reads all lines."""
    plan = process.rows(
        "EXPLAIN indexes = 1 SELECT count() FROM obs.logs WHERE hasAllTokens(body, 'nowhere')"
    )
    assert "body_tokens" in "\n".join(row["explain"] for row in plan)


def test_the_newest_lines_come_first_and_it_is_said_what_is_left_out(here: Operations) -> None:
    """If this fails, somebody takes a part of the answer for the whole."""
    found = here.search_logs(asset="service:shop", limit=4)
    assert [one["body"] for one in found["lines"]] == list(reversed(BODIES))[:4]
    assert found["cut"]
    assert not here.search_logs(asset="service:shop", limit=len(BODIES))["cut"]


def test_lines_are_narrowed_down(here: Operations) -> None:
    """If this fails, a condition does not hold, or holds where it was not given."""

    def bodies(**more: object) -> list[str]:
        return [one["body"] for one in here.search_logs(**more)["lines"]]  # type: ignore[arg-type]

    assert bodies(trace="AB" * 16) == ["connection of another"]
    assert bodies(attributes=["service.name=other"]) == ["connection of another"]
    assert len(bodies(attributes=["order.id=4711"])) == 3
    assert bodies(attributes=["order.id=4711", "order.id=4712"]) == []
    assert len(bodies(attributes=["empty="])) == 3, "the empty value, not every line without it"
    assert len(bodies(asset="service:shop", level="error")) == 4
    assert bodies(asset="service:shop", until="2m") == []
    assert len(bodies(asset="service:shop", since="2001-01-01")) == len(BODIES)
    assert bodies(asset="service:shop", since="2m", until="2001-01-01T10:00:00+02:00") == []


def test_a_name_without_its_kind(here: Operations, process: Telemetry, token: str) -> None:
    """If this fails, a name that is clear is not taken, or one that is not clear is guessed."""
    assert (
        here.search_logs(asset="shop")["lines"] == here.search_logs(asset="service:shop")["lines"]
    )
    process.post(
        "/v1/jsonlines?asset=queue:other", b'{"msg": "x"}', token=token,
        content_type="application/x-ndjson",
    )  # fmt: skip
    with pytest.raises(UserError, match="queue:other and service:other"):
        here.search_logs(asset="other")
    with pytest.raises(NotFound) as error:
        here.search_logs(asset="shopp")
    assert "service:shop" in error.value.hint
    assert here.search_logs(asset="service:shopp")["lines"] == [], "an id may come to be"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"level": "loud"}, "trace, debug, info, warn, error, fatal"),
        ({"attributes": ["order.id"]}, "http.status_code=500"),
        ({"attributes": [f"a{n}=1" for n in range(33)]}, "at most 32"),
        ({"search": " ".join(map(str, range(33)))}, "at most 32"),
        ({"since": "yesterday"}, "30m"),
        ({"until": "2026-13-01"}, "30m"),
        ({"limit": 0}, "between 1 and"),
    ],
)
def test_what_cannot_be_asked_is_said(
    here: Operations, given: dict[str, object], says: str
) -> None:
    """If this fails, a mistake ends in an empty answer, or in a defect."""
    with pytest.raises(UsageError) as error:
        here.search_logs(**given)  # type: ignore[arg-type]
    assert says in f"{error.value} {error.value.hint}"


def test_a_server_answers_the_same(here: Operations, coordinator: Serving) -> None:
    """If this fails, the command in the folder and the one at a server find different lines."""
    there = connect(
        coordinator.url, coordinator.token("viewer", name="bi", scopes=("query", "api"))
    )
    for search, exact in itertools.product(("connection", 'köln "20 €"', "100% \\temp"), (0, 1)):
        found = here.search_logs(search=search, exact=bool(exact), attributes=())
        answer = there.search_logs(search=search, exact=bool(exact), attributes=())
        assert answer["lines"] == found["lines"]
        assert found["lines"] or exact
    outside = connect(coordinator.url, coordinator.token("viewer", name="in", scopes=("api",)))
    with pytest.raises(SextantError, match="does not open query"):
        outside.search_logs()
    there.close()
    outside.close()


def test_the_command_shows_lines_with_their_attributes(
    here: Operations,
    coordinator: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, a person does not see what belongs to a line, or takes a part for the whole."""
    from sextant.cli.main import call

    monkeypatch.setenv(
        "SEXTANT_TOKEN", coordinator.token("viewer", name="me", scopes=("api", "query"))
    )
    monkeypatch.setattr("sextant.cli.telemetry._SCAN_SAID", 1)
    look = ("--server", coordinator.url, "logs", "--asset", "shop")
    assert call([*look, "--attribute", "order.id=4711", "--limit", "2", "--search", "O"]) == 0, (
        capfd.readouterr().err
    )
    out, err = capfd.readouterr()
    shown = out.splitlines()
    assert len(shown) == 2, "the oldest first, as they happened"
    assert "  fatal  service:shop  100% of C:\\temp" in shown[0]
    assert "http.route=/api/Orders order.id=4711" in shown[0]
    assert "the newest 2 of more" in err
    assert "scanned" in err
    assert "--exact" in err
    assert call([*look, "--search", "4711", "--exact", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["scanned"], found["cut"], len(found["lines"])) == (False, False, 2)
    assert call([*look[:-2], "--trace", "ab" * 16]) == 0
    assert f"trace={'ab' * 16}" in capfd.readouterr().out


def test_following_shows_each_line_once(
    here: Operations,
    process: Telemetry,
    token: str,
    coordinator: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, --follow misses lines that come late, or repeats those that it has shown."""
    from sextant.cli.main import call

    monkeypatch.setenv(
        "SEXTANT_TOKEN", coordinator.token("viewer", name="fo", scopes=("api", "query"))
    )
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise KeyboardInterrupt
        sender = Sender(process, token)
        sender.logs("tail", {"body": f"line {len(waits)}", "at": len(waits) * 10**9})

    monkeypatch.setattr("sextant.cli.telemetry.time.sleep", wait)
    sender = Sender(process, token)
    sender.logs("tail", {"body": "line 0"})
    call(["--server", coordinator.url, "logs", "--asset", "service:tail", "--follow", "--json"])
    shown = [json.loads(line)["body"] for line in capfd.readouterr().out.splitlines()]
    assert shown == ["line 0", "line 1", "line 2", "line 3"]
