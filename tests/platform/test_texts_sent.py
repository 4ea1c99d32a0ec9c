"""Every text that an operation takes has an end, and can be shown."""

from seen import views
import inspect
import typing
from collections.abc import Iterator

import pytest

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.operations import OPERATIONS, Platform
from sextant.app.texts import text_rules
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import EDGES_REPORTED_MAX, REASON_CHARS_MAX
from sextant.kernel.texts import check_text, is_line
from sextant.testing import platform

PARAMETERS = [
    (operation.name, name)
    for operation in OPERATIONS
    for name in text_rules(getattr(Platform, operation.name))
]
SHOP = (
    'import sextant as sx\n\nsx.project("shop", tz="UTC", owner=sx.team("shop"), '
    'environments=["dev"])\n'
)


@pytest.fixture(scope="module")
def p() -> Iterator[LocalPlatform]:
    with platform({"ops.py": SHOP}) as made:
        yield made


def call(p: LocalPlatform, operation: str, parameter: str, text: str) -> None:
    hints = typing.get_type_hints(getattr(Platform, operation))
    signature = inspect.signature(getattr(Platform, operation))
    given = {
        name: "x" if hints[name] is str else ["x"] if "Sequence" in str(hints[name]) else 1
        for name, one in signature.parameters.items()
        if name != "self" and one.default is inspect.Parameter.empty
    }
    given[parameter] = {str: text}.get(hints[parameter]) or (
        {"a": text} if "dict" in str(hints[parameter]) else [text]
    )
    getattr(Operations(p), operation)(**given)


def test_every_text_of_the_operations_is_known() -> None:
    """A parameter of another type would pass unseen."""
    for operation in OPERATIONS:
        for name, hint in typing.get_type_hints(getattr(Platform, operation.name)).items():
            # rows, what is uploaded, and proofs have rules of their own
            if (
                name not in ("return", "rows", "files", "contents", "proof")
                and "str" in str(hint)
                and "Literal" not in str(hint)
            ):
                assert name in text_rules(getattr(Platform, operation.name)), (
                    operation.name,
                    name,
                    hint,
                )
    assert len(PARAMETERS) > 100


@pytest.mark.parametrize(("operation", "parameter"), PARAMETERS)
def test_a_text_that_is_too_long_or_cannot_be_shown_is_refused(
    p: LocalPlatform, operation: str, parameter: str
) -> None:
    """15 MB went twice into a log that is never pruned; an escape sequence wrote over a terminal."""
    rule = text_rules(getattr(Platform, operation))[parameter]
    before = p.ledger.size()
    bad = {"x" * (rule.most + 1): "SX-TEXT-001", "a\0b": "SX-TEXT-002", "a\ud800b": "SX-TEXT-002"}
    if rule.kind != "raw":
        for text in ("a\x1b[2Jb", "a\x07b", "a\x9bb", "a\u202eb", "a\u2066b", "a\rb", "a\u2028b"):
            bad[text] = "SX-TEXT-002"
    if rule.kind in ("line", "link"):
        bad["a\nb"] = bad["a\tb"] = bad["a\u200bb"] = "SX-TEXT-002"
    for text, code in bad.items():
        with pytest.raises(UsageError) as caught:
            call(p, operation, parameter, text)
        assert caught.value.code == code, repr(text)
        assert f"`{parameter}`" in caught.value.message
        assert caught.value.message.isprintable()
    assert p.ledger.size() == before


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript://x/%0aalert(1)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "//host/page",
        "https://",
        "https://[x",
        "https://a b",
        "https://bank.example@evil.example/",
        "https://evil.example\\@bank.example/",
        "https://:443/",
        "page",
    ],
)
def test_a_link_leads_to_a_web_page(p: LocalPlatform, url: str) -> None:
    """Whoever follows it would run what somebody else wrote."""
    with pytest.raises(UsageError) as caught:
        Operations(p).report("run", "job:loader", url=url)
    assert caught.value.code == "SX-TEXT-003"


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "HTTPS://host.example:8443/a/b?c=d&e=f@g#h",
        "http://[::1]:80/",
        "https://b\u00fccher.example/\u00fc",
        "http://127.0.0.1?x",
    ],
)
def test_a_link_that_is_one_is_taken(url: str) -> None:
    check_text("link", "url", url, 2048)


def test_what_is_written_in_good_faith_is_taken(p: LocalPlatform) -> None:
    """A message of two lines, in any script, with a link that has a query."""
    message = "zwei Zeilen:\n\tüber 1\u00a0000 Zeilen \u2014 \u6570\u636e, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645, \U0001f469\u200d\U0001f4bb"
    done = Operations(p).report(
        "run",
        "job:loader",
        name="n\u00e4chtlich",
        message=message,
        url="https://ci.example/run?id=7#log",
    )
    assert done["event"]
    (event,) = [e for e in views(p).events(kind="run.reported").items]
    assert event["data"]["message"] == message


def test_a_report_names_so_many_assets_at_most(p: LocalPlatform) -> None:
    many = ["job:loader"] * (EDGES_REPORTED_MAX + 1)
    with pytest.raises(UsageError) as caught:
        Operations(p).report("run", "job:other", upstream=many)
    assert caught.value.code == "SX-TEXT-004"


STREAM = """
orders = sx.stream("orders", columns={"id": "string"}, key="id")
"""


def test_a_batch_that_its_body_names_is_checked_too() -> None:
    """The name of a batch stands in the ledger, wherever it was said."""
    with platform({"ops.py": SHOP + STREAM}) as p:
        with pytest.raises(UsageError) as caught:
            Operations(p).push("orders", b'{"rows": [{"id": "1"}], "batch": "a\\u202eb"}')
        assert caught.value.code == "SX-TEXT-002"


def test_the_longest_is_taken() -> None:
    check_text("prose", "reason", "x" * REASON_CHARS_MAX, REASON_CHARS_MAX)
    assert is_line("checkout", 8)
    assert not is_line("checkout", 7)
    assert not is_line("", 7)
    assert not is_line("a\u202eb", 7)
