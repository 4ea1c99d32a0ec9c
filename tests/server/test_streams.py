"""Rows that are pushed: durable when taken, published through the gate, seen in a KPI."""

import json
import subprocess
import sys
from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.kinds.dataset import bodies
from sextant.kernel.errors import BadData, Busy, Denied, UsageError
from sextant.kernel.nouns import Principal

_OPS = """
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "float64"}, key="id", time="at", partition=days,
                   checks=[sx.between("price", 0, 100)])
mean = sx.kpi("mean", of=prices, measure="avg(price)", grain="1d")
notes = sx.stream("notes", columns={"text": "string"})
"""


def rows(*prices: float, day: int = 1, prefix: str = "a") -> list[dict[str, Any]]:
    return [
        {"id": f"{prefix}{n}", "at": f"2026-01-0{day}T08:00:00Z", "price": price}
        for n, price in enumerate(prices)
    ]


def mean(p: Any) -> dict[str, float]:
    return {
        str(row["bucket"])[:10]: row["value"]
        for row in Operations(p).kpi("mean", grain="1d")["rows"]
    }


def test_pushed_rows_reach_the_kpi(shop: Shop) -> None:
    """If this fails, rows that were accepted do not become business numbers."""
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        assert ops.push("prices", rows(1.0, 3.0), batch="b1") == {
            "dataset": "dataset:prices",
            "batch": "b1",
            "rows": 2,
            "again": False,
        }
        assert ops.push("prices", rows(5.0, day=2, prefix="b"))["rows"] == 1
        assert run(p).state == "finished"
        assert mean(p) == {"2026-01-01": 2.0, "2026-01-02": 5.0}
        ops.push("prices", rows(8.0, prefix="c"))
        report = run(p)
        assert mean(p) == {"2026-01-01": 4.0, "2026-01-02": 5.0}
        assert report.computed == 2, "only the day that got rows, and its value"
        assert run(p).id == "", "nothing to do"


def test_a_batch_that_is_sent_again_is_taken_once(shop: Shop) -> None:
    """If this fails, a retry doubles sales."""
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("prices", rows(1.0), batch="b1")
        assert ops.push("prices", rows(1.0), batch="b1")["again"]
        run(p)
        assert ops.push("prices", rows(1.0), batch="b1")["again"], "also after it was published"
        assert run(p).id == ""
        assert ops.count("prices")["rows"] == 1


def test_what_was_taken_survives_a_kill(shop: Shop) -> None:
    """If this fails, an acknowledged row is lost with the process."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)

    pushed = """
import os, signal, sys
from pathlib import Path
from sextant.app.operations import Operations
from sextant.kinds.dataset import bodies
from sextant.app.platform import LocalPlatform
Operations(LocalPlatform.open(Path(sys.argv[1]))).push("prices", [{"id": "a", "at": "2026-01-01T08:00:00Z", "price": 1.0}], batch="b1")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert (
        subprocess.run([sys.executable, "-c", pushed, str(shop.root)], check=False).returncode == -9
    )
    with shop.open() as p:
        run(p)
        assert Operations(p).count("prices")["rows"] == 1


def test_a_bad_row_refuses_its_batch_whole(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, half a batch is taken, or the answer does not say which row is wrong."""
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        for bad, text in (
            (
                [*rows(1.0), {"id": "x", "at": "2026-01-01T08:00:00Z", "price": "dear"}],
                "row 1, column `price`",
            ),
            ([{"id": "x", "price": 1.0}], "column `at`"),
            ([{"id": "x", "at": "2025-01-01T08:00:00Z", "price": 1.0}], "outside"),
            ([{"id": "x", "at": "2026-01-01T08:00:00Z", "price": 1.0, "colour": "red"}], "colour"),
        ):
            with pytest.raises(BadData) as caught:
                ops.push("prices", bad)
            assert text in caught.value.message
        monkeypatch.setattr(bodies, "PUSHED_ROWS_MAX", 10)
        for wrong in ([], rows(*[1.0] * 11)):
            with pytest.raises(UsageError):
                ops.push("prices", wrong)
        assert not p.core.state.read("inbox_waits")


def test_the_gate_holds_for_pushed_rows(shop: Shop) -> None:
    """If this fails, a pushed row that breaks a check becomes live."""
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("prices", rows(1.0))
        run(p)
        ops.push("prices", rows(1000.0, prefix="z"))
        report = run(p)
        assert "dataset:prices" in report.rejected
        assert ops.count("prices")["rows"] == 1
        assert mean(p) == {"2026-01-01": 1.0}


def test_who_may_push(shop: Shop) -> None:
    """If this fails, anybody who may look can change numbers."""
    shop.write(_OPS)
    with shop.open() as p, pytest.raises(Denied):
        Operations(p, Principal(name="eve", kind="token", role="viewer")).push("prices", rows(1.0))


def test_a_full_inbox_says_come_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, rows pile up without a bound while nothing publishes them."""
    from sextant.kinds.dataset import inbox

    monkeypatch.setattr(inbox, "INBOX_BATCHES_MAX", 2)
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("notes", [{"text": "a"}])
        ops.push("notes", [{"text": "b"}])
        with pytest.raises(Busy) as caught:
            ops.push("notes", [{"text": "c"}])
        assert caught.value.retry_after_s
        run(p)
        ops.push("notes", [{"text": "c"}])


def test_many_small_batches_become_few_blobs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a day of pushed rows is read from thousands of files."""
    from sextant.kinds.dataset import inbox

    monkeypatch.setattr(inbox, "INBOX_PARTS_MAX", 3)
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        for number in range(10):
            ops.push("notes", [{"text": f"{number}"}])
            run(p)
        assert len(p.core.state.read("inbox_parts", ("dataset:notes",))) <= 3
        assert sorted(row["text"] for row in ops.show("notes", limit=20)["sample"]) == [
            str(number) for number in range(10)
        ]


def test_a_file_of_rows_from_the_command_line(
    shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, `sextant push` takes what is no JSON, or the same file twice."""
    from sextant.cli.main import call

    shop.write(_OPS)
    file = shop.root.parent / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows(1.0, 2.0)))
    words = ["--project", str(shop.root), "push", "prices", str(file), "--json"]
    assert [call(words), call(words)] == [0, 0]
    assert [
        json.loads(text)["again"]
        for text in capfd.readouterr().out.replace("}\n{", "}\0{").split("\0")
    ] == [False, True]
    file.write_text('{"id": "a"}\nnot json\n')
    assert call(words[:-1]) == 2
    assert "line 2" in capfd.readouterr().err
