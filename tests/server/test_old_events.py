"""Events of an older version of their type, wherever they are read: a made-up `signal.raised` whose
`message` was called `text` in version 1."""

from sextant.kernel.nouns import SYSTEM
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from served import serve
from shop_project import Shop
from test_api import ask
from test_feed import Telemetry, feed

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.cli.main import cli
from sextant.kernel.ports import Write
from sextant.ledger import projections, upcast
from sextant.ledger.log import entries
from sextant.ledger.rebuild import rebuild

_OPS = """
@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})
"""
TEXT = "the cellar is under water"


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value for name, value in data.items() if name != "text"},
        "message": data["text"],
    }


@pytest.fixture
def old(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPlatform]:
    """A project whose signal was written by an older Sextant, opened by today's."""
    shop.write(_OPS)
    with monkeypatch.context() as before, shop.open() as p:
        today = projections.PROJECTIONS["signal.raised"]
        before.setitem(
            projections.PROJECTIONS,
            "signal.raised",
            lambda seq, time, body: today(
                seq, time, msgspec.json.encode(_renamed(msgspec.json.decode(body)))
            ),
        )
        said = {
            "id": "sig_old",
            "asset": "dataset:orders",
            "kind": "flood",
            "severity": "error",
            "text": TEXT,
            "onset": p.core.clock.now_ns(),
        }
        p.core.state.commit(
            Write((), (p.core.events.make("signal.raised", "sig_old", said, SYSTEM, ""),))
        )
    monkeypatch.setattr(upcast, "CURRENT", {**upcast.CURRENT, "signal.raised": 2})
    monkeypatch.setattr(upcast, "UPCASTERS", {**upcast.UPCASTERS, ("signal.raised", 1): _renamed})
    with shop.open() as p:
        yield p


def raised(p: LocalPlatform) -> Any:
    return entries(p.core.state.read, "events_of_type", ("signal.raised",))[0]


def test_what_is_written_has_the_version_of_today(old: LocalPlatform) -> None:
    """An event of today would be sealed as version 1 and be changed once more when it is read."""
    assert raised(old).envelope.v == 1
    signal = {**raised(old).data, "id": "sig_new"}
    event = old.core.events.make("signal.raised", "sig_new", signal)
    assert event.v == 2
    assert old.core.events.signal("", "flood", "error", TEXT).v == 2
    old.core.state.commit(Write((), (event,)))
    assert {s["message"] for s in Operations(old).signals().items} == {TEXT}
    rebuild(old.core.state)
    assert {s["message"] for s in Operations(old).signals().items} == {TEXT}
    assert Operations(old).verify()["findings"] == []


def test_the_feed_sees_todays_shape(old: LocalPlatform) -> None:
    """SQL would show an old shape, or leave the signal out."""
    telemetry = Telemetry()
    feed(old, telemetry).step()
    (row,) = [row for row in telemetry.rows("events") if row["subject"] == "sig_old"]
    assert json.loads(row["data"])["message"] == TEXT
    (signal,) = telemetry.rows("signals")
    assert signal["message"] == TEXT


def test_people_and_programs_see_todays_shape(
    old: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line, the HTTP API, its live stream and `why` would show an old shape."""
    monkeypatch.chdir(old.core.project.root)
    done = CliRunner().invoke(cli, ["ledger", "show", "sig_old", "--json"])
    assert json.loads(done.stdout)[0]["data"]["message"] == TEXT
    done = CliRunner().invoke(cli, ["why", "sig_old", "--json"])
    assert json.loads(done.stdout)["chain"][0]["subject"] == "sig_old"
    with serve(old) as serving:
        token = serving.token()
        page = ask(serving, "GET", "/api/v1/ledger/events?subject=sig_old", token=token).json
        assert page["items"][0]["data"]["message"] == TEXT


def test_an_old_event_can_be_erased(old: LocalPlatform) -> None:
    """Erasing an old event, or the erasure read as an old event, would fail or leave its rows."""
    Operations(old).erase(raised(old).envelope.seq, "asked to")
    assert raised(old).is_erased
    assert Operations(old).signals().items == []
    assert Operations(old).verify()["findings"] == []
    assert not any(
        TEXT.encode() in path.read_bytes()
        for path in Path(old.core.project.folder).glob("state.db*")
    )
