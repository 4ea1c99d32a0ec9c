"""The feed: what stands in the ledger stands in `ops`, however often and from wherever it is
fed."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_kind
from shop_project import Shop, run

from sextant import testing
from sextant.app.operations import Operations
from sextant.kernel.errors import WorldError
from sextant.kernel.nouns import SYSTEM, Incident, Release
from sextant.kernel.ports import Write
from sextant.ledger.erase import erase
from sextant.server.feed import meter
from sextant.server.feed.feed import Feed
from sextant.server.feed.live import live_tables
from sextant.server.feed.ops import tables
from sextant.testing import Request

_OPS = """
@sx.dataset(partition=days, key="id", personal=["who"], checks=[sx.between("n", 0, 1)])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "who": ["eve"], "n": [1]})


total = sx.kpi("total", of=orders, measure="sum(n)", grain="")
"""


_SIGNAL = b'{"id":"sig_1","asset":"a","kind":"k","severity":"warn","message":"m","onset":1}'


class Telemetry:
    """The other side of the client: remembers what it was told, by token, as the store does."""

    def __init__(self) -> None:
        self.boot = "1"
        self.tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.sent: list[tuple[str, str]] = []
        self.ran: list[str] = []
        self.fails_at = -1
        self.calls = 0

    def _may_fail(self) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise WorldError("SX-UP-020", "the telemetry process does not answer")

    def health(self) -> dict[str, Any]:
        return {"boot": self.boot}

    def query(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
        del params
        rows = self.rows("events")
        if ".kpis" in sql or ".notices" in sql:
            table = sql.partition("FROM fed.")[2].partition(" ")[0]
            return [{"one": 1}] if self.rows(table) else []
        return (
            []
            if not rows
            else [{"one": 1}]
            if sql.startswith("SELECT 1")
            else [{"next": max(row["seq"] for row in rows) + 1}]
        )

    def insert(self, table: str, rows: bytes, token: str) -> None:
        self._may_fail()
        self.tables.setdefault(table.removeprefix("fed."), {}).setdefault(
            token, [json.loads(line) for line in rows.splitlines()]
        )

    def run(self, sql: str) -> None:
        self.ran.append(sql)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Any = None,
        *,
        endpoint: str = "",
    ) -> bytes:
        del method, headers, endpoint
        self._may_fail()
        self.sent.append((path, (body or b"").decode()))
        return b""

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [row for rows in self.tables.get(table, {}).values() for row in rows]

    def newest(self, table: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return the rows that count: of each key the one with the highest seq."""
        out: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in sorted(self.rows(table), key=lambda row: row["seq"]):
            out[tuple(row[name] for name in key)] = row
        return out


def feed(p: Any, telemetry: Telemetry) -> Feed:
    return Feed(p, telemetry, tables=lambda: live_tables(p), traces=meter.run_trace)  # type: ignore[arg-type]


def test_the_ledger_becomes_tables(shop: Shop) -> None:
    """If this fails, SQL shows another history than the ledger."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        ops = Operations(p)
        ops.report(
            "check", "service:web", name="smoke", state="failed", upstream=("dataset:orders",)
        )
        (signal,) = ops.signals(open_only=True).items
        ops.close_signal(signal["id"], "seen")
        incident = Incident(
            id="inc_1", title="web is down", assets=("service:web",), signals=(signal["id"],)
        )
        p.core.state.commit(
            Write((), (p.core.events.make("incident.opened", "inc_1", incident, SYSTEM, ""),))
        )
        p.core.state.commit(
            Write(
                (), (p.core.events.make("incident.closed", "inc_1", {"id": "inc_1"}, SYSTEM, ""),)
            )
        )
        telemetry = Telemetry()
        feed(p, telemetry).step()
        assert [row["seq"] for row in telemetry.rows("events")] == list(range(p.ledger.size()))
        (done,) = telemetry.newest("runs", "id").values()
        assert (done["state"], done["env"], done["computed"]) == ("finished", "dev", 2)
        assert {row["state"] for row in telemetry.newest("releases", "id").values()} == {"live"}
        assert {row["asset"] for row in telemetry.rows("versions")} == {
            "dataset:orders",
            "dataset:kpi_total",
            "kpi:total",
            "project:shop",
        }
        assert {
            (row["asset"], row["ok"])
            for row in telemetry.rows("checks")
            if row["name"].startswith("between")
        } == {("dataset:orders", 1)}
        row = telemetry.newest("signals", "id")[(signal["id"],)]
        assert row["closed_at"] > "2"
        assert (row["env"], row["repeats"]) == ("dev", 0)
        assert telemetry.newest("incidents", "id")[("inc_1",)]["state"] == "closed"
        assert telemetry.newest("assets", "id")[("service:web",)]["mode"] == "observed"
        assert ("dataset:orders", "service:web") in {
            (row["source"], row["target"]) for row in telemetry.rows("edges")
        }
        steps = telemetry.rows("steps")
        assert {row["asset"] for row in steps} == {"dataset:orders", "dataset:kpi_total"}
        assert [path for path, _ in telemetry.sent] == ["/v1/traces", "/internal/tables"]
        shown = next(body for path, body in telemetry.sent if path == "/internal/tables")
        assert '"personal":["who"]' in shown
        assert '"name":"total"' in shown


def test_what_people_do_with_incidents_becomes_rows(shop: Shop) -> None:
    """If this fails, SQL says that nobody works on an incident, or that a reopened one is closed."""
    shop.write(_OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.report("check", "service:web", name="smoke", state="failed")
        (signal,) = ops.signals(open_only=True).items
        one, other = (
            p.core.events.incident(title, ["service:web"], [signal["id"]])
            for title in ("web is down", "web is slow")
        )
        p.core.state.commit(Write((), (one, other)))
        telemetry = Telemetry()
        feed(p, telemetry).step()
        ops.close_incident(one.subject, "it is up")
        feed(p, telemetry).step()
        assert telemetry.newest("incidents", "id")[(one.subject,)]["closed_at"] > "2"
        ops.reopen_incident(one.subject, "it is down again")
        ops.comment_incident(one.subject, "the disk is full")
        ops.assign_incident(one.subject, "ann")
        ops.merge_incident(other.subject, one.subject)
        feed(p, telemetry).step()
        incidents = telemetry.newest("incidents", "id")
        reopened, merged = incidents[(one.subject,)], incidents[(other.subject,)]
        assert (reopened["state"], reopened["closed_at"][:4]) == ("open", "1970")
        assert (reopened["assignee"], reopened["comments"]) == ("ann", 1)
        assert (merged["state"], merged["merged_into"]) == ("closed", one.subject)
        assert merged["closed_at"] > "2"


def test_a_feed_that_broke_off_is_repeated_without_harm(shop: Shop) -> None:
    """If this fails, a crash in the middle leaves rows out, or doubles them."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        whole = Telemetry()
        feed(p, whole).step()
        for at in range(1, whole.calls + 1):
            broken = Telemetry()
            broken.fails_at = at
            one = feed(p, broken)
            with pytest.raises(WorldError):
                one.step()
            one.step()  # the same process tries again
            assert {name: whole.newest(name, "seq") for name in whole.tables} == {
                name: broken.newest(name, "seq") for name in broken.tables
            }, at
        broken.boot = "2"
        sent = len(broken.sent)
        one.step()
        assert [path for path, _ in broken.sent[sent:]] == ["/internal/tables"], (
            "a telemetry that was started anew is told what is live, and nothing twice"
        )


def test_what_was_erased_goes(shop: Shop) -> None:
    """If this fails, an erased payload is still shown by SQL."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        Operations(p).report("check", "service:web", name="smoke", message="called by eve")
        telemetry = Telemetry()
        one = feed(p, telemetry)
        one.step()
        seq = next(
            row["seq"] for row in telemetry.rows("events") if row["type"] == "check.reported"
        )
        erase(p.core.state, seq, reason="asked to", actor="person:ann", ids=p.core.ids)
        one.step()
        assert f"ALTER TABLE fed.checks DELETE WHERE seq = {seq}" in telemetry.ran
        assert (
            max(
                (row for row in telemetry.rows("events") if row["seq"] == seq),
                key=lambda row: row["fed"],
            )["data"]
            == "erased"
        )


def test_an_entry_that_is_not_understood_does_not_stop_the_rest(
    shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, one entry of another version of Sextant blinds SQL for good."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        telemetry = Telemetry()
        one = feed(p, telemetry)
        original = one._follow

        newer = p.core.events.make(
            "signal.raised", "sig_1", msgspec.json.decode(_SIGNAL), SYSTEM, ""
        )
        p.core.state.commit(Write((), (msgspec.structs.replace(newer, v=9),)))

        def follow(entry: Any, *rest: Any) -> None:
            if entry.envelope.type == "release.live":
                msgspec.json.decode(b"{}", type=Release)
            original(entry, *rest)

        one._follow = follow  # type: ignore[method-assign]
        one.step()
        assert len(telemetry.rows("events")) == p.ledger.size()
        assert "is not understood" in capfd.readouterr().err
        (row,) = [row for row in telemetry.rows("events") if row["subject"] == "sig_1"]
        assert "has version 9" in row["data"]
        assert "has version 9" in Operations(p).events(subject="sig_1").items[0]["data"]


def test_kinds_have_tables(shop: Shop) -> None:
    """If this fails, SQL cannot be asked what a number means, or nothing of what was there before a
    kind had a table."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        telemetry = Telemetry()
        feed(p, telemetry).step()
        definition = p.core.versions.live_version("dev", "kpi:total")
        (row,) = telemetry.rows("kpis")
        assert row == {
            "asset": "kpi:total",
            "version": definition,
            "measure": "sum(n)",
            "of": "dataset:orders",
            "where": "",
            "grain": "",
            "by": [],
            "unit": "",
            "goal": "",
            "created_at": row["created_at"],
            "seq": row["seq"],
        }
        del telemetry.tables["kpis"]
        feed(p, telemetry).step()
        assert telemetry.rows("kpis") == [row]
        before = telemetry.calls
        feed(p, telemetry).step()
        assert telemetry.calls == before + 1, "what is there is not sent again, but which are live"


@pytest.mark.parametrize("answer", ["{'letters': 'many'}", "{'letters': 1 / 0}", "{'width': 2}"])
def test_a_row_that_a_kind_gets_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], answer: str
) -> None:
    """If this fails, a package stops telemetry for the whole company."""
    source = toy_kind.SOURCE.read_text().replace('{"letters": version.rows}', answer)
    ops = """
import polars as pl
import sextant as sx

sx.project("shop")


@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})


sx.notice("counted", of=orders, text="{rows} orders")
"""
    with toy_kind.installed(tmp_path, source), testing.platform({"ops.py": ops}) as p:
        assert p.runs.run("dev", Request(), by=p.who()).state == "finished"
        tables.cache_clear()
        telemetry = Telemetry()
        try:
            feed(p, telemetry).step()
        finally:
            tables.cache_clear()
        assert len(telemetry.rows("events")) == p.ledger.size()
        assert {row["asset"] for row in telemetry.rows("versions")} == {
            "dataset:orders",
            "notice:counted",
            "project:shop",
        }
        assert telemetry.rows("notices") == []
    assert "is not understood" in capfd.readouterr().err


def test_rows_have_the_types_of_their_tables() -> None:
    """If this fails, a row that lacks a column stops the feed."""
    from sextant.server.feed.ops import lines

    for name, fields in tables().items():
        assert set(json.loads(lines(fields, [{}]))) == {column for column, _ in fields}, name
    assert json.loads(lines((("at", "time"),), [{"at": 1_700_000_000_000_000_001}])) == {
        "at": "2023-11-14 22:13:20.000000001"
    }


def test_a_table_with_a_changed_file_is_not_shown(shop: Shop) -> None:
    """If this fails, SQL answers with rows that somebody wrote into the lake."""
    shop.write(_OPS)
    with shop.open() as p:
        run(p)
        _, tables, _, _ = live_tables(p)
        assert {one.damaged for one in tables} == {""}
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        path = p.core.lake.root / p.core.lake.files(version.locator)[0].path
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
        confirmed = {one.locator for one in tables}  # of live ones that is not asked
        _, tables, _, _ = live_tables(p, confirmed=confirmed)
        damaged = {one.asset: one.damaged for one in tables if one.damaged}
        assert list(damaged) == ["dataset:orders"]
        assert path.name in damaged["dataset:orders"]
        assert version.digest[:12] in damaged["dataset:orders"]
