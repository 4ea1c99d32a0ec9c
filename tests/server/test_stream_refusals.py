"""Batches that were acknowledged and cannot become rows: named, kept, dropped by a command; nothing
else waits for them."""

from sextant.kernel.nouns import SYSTEM
from seen import views
import json
from collections.abc import Iterator
from typing import Any

import pytest
from served import Serving, serve
from shop_project import Shop, run
from test_api import ask

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.remote import connect
from sextant.kinds.dataset import streams
from sextant.kernel.errors import BadData, Conflict, NotFound, UsageError
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Statement, Write

OPS = """
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "decimal(5,2)"}, key="id", time="at", partition=days)
notes = sx.stream("notes", columns={"text": "string"})
"""
DATASET = "dataset:prices"


def row(id_: str, price: str = "1.00", day: int = 1) -> dict[str, Any]:
    return {"id": id_, "at": f"2026-01-0{day}T08:00:00Z", "price": price}


def smuggle(p: LocalPlatform, batch: str, body: bytes, rows: int = 1) -> None:
    """Put a batch into the inbox that an earlier release took without looking so closely."""
    who, now = "person:eve", p.core.clock.now_ns()
    values = (DATASET, who, batch, p.core.ids.new("bat"), rows, body, "", "", who, now)
    p.core.state.commit(Write((Statement("inbox_add", values, 1),)))


def too_large(p: LocalPlatform, batch: str = "bad") -> None:
    smuggle(p, batch, b'[["a","2026-01-01T08:00:00Z","1234567.00"]]')


def refused(p: LocalPlatform) -> list[str]:
    return [one["message"] for one in views(p).signals(kind="push.refused", open_only=True).items]


@pytest.fixture
def platform(shop: Shop) -> Iterator[LocalPlatform]:
    shop.write(OPS)
    with shop.open() as p:
        yield p


@pytest.mark.parametrize(
    "bad",
    [
        {"price": "1234567"},
        {"price": "0.001"},
        {"price": "NaN"},
        {"price": "1E+999999"},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_a_value_that_cannot_be_stored_refuses_its_batch_when_it_is_pushed(
    platform: LocalPlatform, bad: dict[str, Any]
) -> None:
    """If this fails, a value is acknowledged that no run can store."""
    with pytest.raises(BadData) as caught:
        Operations(platform).push("prices", [row("a"), row("b") | bad])
    assert "row 1, column" in caught.value.message
    assert not platform.core.state.read("inbox_waits")


def test_a_decimal_is_stored_as_its_value_whatever_its_spelling(platform: LocalPlatform) -> None:
    """If this fails, `1.1` with many zeros becomes 0, and `0E+9999` stops a partition."""
    spelled = {"a": "1.1" + "0" * 60, "b": "0E+9999", "c": "1E+2"}
    Operations(platform).push("prices", [row(id_, price) for id_, price in spelled.items()])
    assert run(platform).state == "finished"
    shown = Operations(platform).show("prices")["sample"]
    assert sorted((one["id"], str(one["price"])) for one in shown) == [
        ("a", "1.10"),
        ("b", "0.00"),
        ("c", "100.00"),
    ]


def test_a_batch_that_cannot_become_rows_is_named_and_holds_up_nothing(
    platform: LocalPlatform,
) -> None:
    """If this fails, one batch stops a stream, or every run of the environment, or is lost
    silently."""
    p, ops = platform, Operations(platform)
    ops.push("prices", [row("before")], batch="before")
    too_large(p)
    ops.push("prices", [row("after")], batch="after")
    ops.push("notes", [{"text": "x"}])
    report = run(p)
    assert report.state == "finished"
    assert ops.count("prices")["rows"] == 2
    assert ops.count("notes")["rows"] == 1
    (message,) = refused(p)
    assert "batch bad of person:eve" in message
    assert "column `price`" in message
    (seen,) = ops.batches("prices").items
    assert (seen["batch"], seen["state"], seen["rows"]) == ("bad", "refused", 1)
    assert seen["error"] in message
    (waits,) = ops.status()["inbox"]
    assert (waits["batches"], waits["refused"]) == (0, 1)
    assert run(p).id == "", "it is not tried again and again"
    assert len(refused(p)) == 1
    with pytest.raises(Conflict) as caught:
        Operations(p, Principal(name="eve")).push("prices", [row("a")], batch="bad")
    assert caught.value.code == "SX-STREAM-020", "its sender is told"


def test_dropping_it_closes_the_signal_and_frees_the_name(platform: LocalPlatform) -> None:
    """If this fails, a refused batch stays for ever, or its end stands in no ledger."""
    p, ops = platform, Operations(platform)
    too_large(p)
    too_large(p, "worse")
    run(p)
    (first,) = refused(p)
    assert "batch bad " in first, "one signal for a dataset, about the oldest"
    with pytest.raises(UsageError):
        ops.drop_batch("prices", "bad", " ")
    assert ops.drop_batch("prices", "bad", "no such price")["rows"] == 1
    (second,) = refused(p)
    assert "batch worse " in second
    (event,) = ops.events(type="rows.dropped").items
    assert event["data"]["reason"] == "no such price"
    (said,) = [e for e in ops.events(type="rows.refused").items if e["data"]["batch"] == "bad"]
    assert event["cause"] == said["id"]
    assert ops.push("prices", [row("a")], batch="bad")["again"] is False
    ops.drop_batch("prices", "worse", "neither")
    assert refused(p) == []
    with pytest.raises(NotFound):
        ops.drop_batch("prices", "worse", "twice")
    run(p)
    with pytest.raises(Conflict) as caught:
        ops.drop_batch("prices", "bad", "it is live")
    assert caught.value.code == "SX-STREAM-022"


def test_a_batch_is_tried_again_when_the_declaration_changes(
    shop: Shop, platform: LocalPlatform
) -> None:
    """If this fails, a slip in the project's file costs rows that were acknowledged."""
    p = platform
    too_large(p)
    run(p)
    assert len(refused(p)) == 1
    shop.edit("decimal(5,2)", "decimal(9,2)")
    p.core.project.load()
    run(p)
    assert refused(p) == []
    assert Operations(p).count("prices")["rows"] == 1


def test_what_an_earlier_release_folded_names_its_column(platform: LocalPlatform) -> None:
    """If this fails, a partition that cannot be stored says neither where nor what to do."""
    p, ops = platform, Operations(platform)
    blob = p.core.blobs.put(b'[["a","2026-01-01T08:00:00Z","1234567.00"]]')
    p.core.state.commit(
        Write((Statement("inbox_part_add", (DATASET, "2026-01-01", "inb_01J0", blob, 1)),))
    )
    (failed,) = run(p).failed
    assert failed.code == "SX-STREAM-017"
    assert "column `price`" in failed.error
    assert blob[:12] in failed.error
    ops.push("prices", [row("a", "1.00")])
    assert run(p).state == "finished", "a correction by key mends it"


def test_a_body_that_is_no_longer_a_row_is_refused(shop: Shop, platform: LocalPlatform) -> None:
    """If this fails, a column whose type changed stops every run."""
    p = platform
    Operations(p).push("prices", [row("a")])
    shop.edit('"id": "string"', '"id": "int64"')
    p.core.project.load()
    run(p)
    assert "columns that the stream has now" in refused(p)[0]


def test_rows_that_cannot_be_read_hold_up_their_own_dataset_only(
    shop: Shop, platform: LocalPlatform
) -> None:
    """If this fails, a column whose type changed stops every run of the environment, or nobody is
    told why rows wait."""
    p, ops = platform, Operations(platform)
    smuggle(p, "old", b'[["a","2026-01-01T08:00:00Z","1.00"]]')
    run(p)
    shop.edit('"id": "string", "at"', '"id": "int64", "at"')
    p.core.project.load()
    ops.push("prices", [row("a") | {"id": 1}])
    ops.push("notes", [{"text": "x"}])
    for _ in range(2):
        run(p)
    assert ops.count("notes")["rows"] == 1
    (signal,) = ops.signals(kind="push.stalled", open_only=True).items
    assert "columns that the stream has now" in signal["message"]
    assert ops.status()["inbox"][0]["batches"] == 1
    shop.edit('"id": "int64", "at"', '"id": "string", "at"')
    p.core.project.load()
    run(p)
    assert ops.signals(kind="push.stalled", open_only=True).items == []


def test_who_may_drop(shop: Shop) -> None:
    """If this fails, a viewer, or another team's token, drops rows over the network."""
    shop.write(OPS)
    with shop.open() as p, serve(p) as serving:
        too_large(p)
        run(p)
        path = "/api/v1/datasets/prices/batches"
        body = {"batch": "bad", "reason": "wrong"}
        viewer, stranger = serving.token("viewer"), serving.token("operator")
        assert ask(serving, "GET", path, token=viewer).json["items"][0]["state"] == "refused"
        for token in (viewer, stranger):
            answer = ask(serving, "POST", f"{path}/drop", token=token, body=body)
            assert answer.status == 403
        assert len(refused(p)) == 1
        made = p.access.create_token("till", by=SYSTEM, role="operator", teams=("ops",))
        answer = ask(serving, "POST", f"{path}/drop", token=made["secret"], body=body)
        assert (answer.status, answer.json["dropped"]) == (200, True)
        assert refused(p) == []


def test_the_command_here_and_at_a_server(
    shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a person cannot see or drop what the signal names."""
    from sextant.cli.main import call

    shop.write(OPS)
    with shop.open() as p, serve(p) as serving:
        monkeypatch.setenv("SEXTANT_TOKEN", serving.token("admin"))
        for words in (["--project", str(shop.root)], ["--server", serving.url]):
            too_large(p)
            run(p)
            assert call([*words, "push", "prices", "--list"]) == 1
            assert "refused" in capfd.readouterr().out
            assert call([*words, "push", "prices", "--drop", "bad"]) == 2, "it needs a reason"
            assert call([*words, "push", "prices", "--drop", "bad", "--reason", "no"]) == 0
            assert "1 rows of batch bad are dropped" in capfd.readouterr().out
            assert call([*words, "push", "prices", "--list", "--json"]) == 0
            assert json.loads(capfd.readouterr().out)["items"] == []
            assert call([*words, "push", "prices"]) == 2
        there = connect(serving.url, serving.token("admin"))
        assert there.batches("prices").items == []
        there.close()


def test_pages_of_batches(platform: LocalPlatform) -> None:
    """If this fails, a list of thousands of waiting batches comes whole, or twice."""
    ops = Operations(platform)
    for n in range(5):
        ops.push("prices", [row(f"{n}")], batch=f"b{n}")
    first = ops.batches("prices", limit=3)
    rest = ops.batches("prices", limit=3, after=first.next)
    assert [one["batch"] for one in (*first.items, *rest.items)] == ["b4", "b3", "b2", "b1", "b0"]
    assert ops.batches("prices", refused=True).items == []
    assert streams.is_type("decimal(5,2)")
