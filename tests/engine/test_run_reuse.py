"""A version that several runs make: who made it first, who reused it, and what `why` says."""

from seen import views
from sextant.kernel.nouns import SYSTEM
from seen import views
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from orders_project import ORDERS
from shop_project import Shop

from sextant import testing
from sextant.app.keeping import collect
from sextant.app.operations import Operations
from sextant.cli.main import call
from sextant.engine.plan import Request
from sextant.kernel.errors import NotFound
from sextant.kernel.nouns import Version
from sextant.kernel.ports import Write
from sextant.ledger.projections import VersionCreated
from sextant.ledger.rebuild import rebuild

_OPS = """
@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "n": [1]})
"""


def events(p: Any, type_: str, subject: str = "") -> list[dict[str, Any]]:
    return [dict(e) for e in Operations(p).events(type=type_, subject=subject).items]


def test_a_run_elsewhere_does_not_take_the_first_runs_place(shop: Shop, running: Any) -> None:
    """`versions` and `why` would name a run that made nothing, and the one that did be forgotten."""
    shop.write(_OPS)
    with shop.open() as p:
        first = running(p, "dev")
        before = Operations(p).versions("orders").items[0]
        again = running(p, "prod")
        assert again.id != first.id
        after = Operations(p).versions("orders", env="prod").items[0]
        assert (after["run"], after["created_at"]) == (first.id, before["created_at"])
        assert after["state"] == "live"
        (change,) = Operations(p).why("orders", env="prod")["changes"]
        assert change["run"] == first.id
        assert f"Run {first.id} made it first" in Operations(p).why("orders", env="prod")["reason"]
        created = [event["subject"].partition("@")[0] for event in events(p, "version.created")]
        assert sorted(created) == ["dataset:orders", "project:shop"]
        (reused,) = events(p, "version.reused")
        said = reused["data"]
        assert reused["subject"] == f"dataset:orders@{after['version']}"
        assert (said["env"], said["run"], said["release"]) == ("prod", again.id, again.release)
        started = events(p, "run.started", again.id)[0]
        assert reused["cause"] == started["id"]
        rebuild(p.core.state)
        assert Operations(p).versions("orders", env="prod").items[0] == after
        Operations(p).checkpoint()
        assert Operations(p).verify()["findings"] == []


def test_old_ledgers_name_the_first_run_too(shop: Shop, running: Any) -> None:
    """Older versions wrote `version.created` again for each reuse: rebuilt, the last would win."""
    shop.write(_OPS)
    with shop.open() as p:
        first = running(p, "dev")
        digest = p.core.versions.live_version("dev", "dataset:orders")
        version = p.core.versions.get("dataset:orders", digest)
        later = msgspec.structs.replace(
            version, run="run_later", locator="elsewhere.json", meta={"refused": ["unique: no"]}
        )
        p.core.state.commit(
            Write(
                (), (p.core.events.make("version.created", "x", VersionCreated(later), SYSTEM, ""),)
            )
        )
        rebuild(p.core.state)
        known: Version = p.core.versions.get("dataset:orders", digest)
        assert (known.run, known.created_at) == (first.id, version.created_at)
        assert (known.locator, known.meta["refused"]) == ("elsewhere.json", ["unique: no"])
        assert known.meta["made"] == version.meta["made"]


def test_rows_that_had_expired_are_read_again_when_they_are_made_again() -> None:
    """The version would stay expired though its rows are there, or lose who made it first."""
    head = "import polars as pl\nimport sextant as sx\nsx.project('shop', tz='UTC')\n"
    body = (
        "@sx.dataset(keep='1d')\ndef orders() -> pl.DataFrame:\n"
        "    return pl.DataFrame({'n': [N]})\n"
    )
    files = lambda n: {"ops.py": head + body.replace("N]", f"{n}]")}  # noqa: E731
    with testing.platform(files(1), at=datetime(2026, 1, 10, tzinfo=UTC)) as p:
        first = p.runs.run("dev", Request(), by=p.core.authorization.who())
        digest = p.core.versions.live_version("dev", "dataset:orders")
        for n in (2, 1):
            (p.core.project.root / "ops.py").write_text(files(n)["ops.py"])
            p.core.project.load()
            p.core.clock.wait(3600)
            if n == 1:
                p.core.clock.wait(3 * 86400)
                collect(p.core, p.runs.bundles)
                with pytest.raises(NotFound, match="expired"):
                    views(p).show("dev", "orders", as_of=digest)
            p.runs.run(
                "dev",
                Request(assets=("dataset:orders",), stale=True),
                by=p.core.authorization.who(),
            )
        assert p.core.versions.live_version("dev", "dataset:orders") == digest
        assert views(p).show("dev", "orders", as_of=digest)["sample"] == [{"n": 1}]
        (restored,) = events(p, "version.restored")
        assert restored["subject"].endswith(digest)
        assert p.core.versions.get("dataset:orders", digest).run == first.id
        rebuild(p.core.state)
        assert views(p).show("dev", "orders", as_of=digest)["sample"] == [{"n": 1}]


def test_what_was_refused_once_and_passes_now_is_not_refused(shop: Shop, running: Any) -> None:
    """A version keeps its record, but not the verdict of checks that have changed since."""
    shop.write(ORDERS)
    with shop.open() as p:
        assert running(p).state == "refused"
        (refused,) = [v for v in Operations(p).versions("orders").items if v["state"] == "refused"]
        first = refused["run"]
        shop.edit("0, 100", "0, 1000")
        p.core.project.load()
        assert running(p).state == "finished"
        known = {v["version"]: v for v in Operations(p).versions("orders").items}
        assert "refused" not in {v["state"] for v in known.values()}
        assert known[refused["version"]]["run"] == first
        rebuild(p.core.state)
        assert {v["version"]: v for v in Operations(p).versions("orders").items} == known


def test_the_ledger_of_an_asset_has_its_versions_and_releases(shop: Shop, running: Any) -> None:
    """`ledger show ASSET` would leave out what moved it."""
    shop.write(_OPS + _OPS.replace("orders", "planes"))
    with shop.open() as p:
        report = running(p)
        shown = Operations(p).events(subject="dataset:orders").items
        assert {e["type"] for e in shown} >= {"asset.declared", "version.created", "release.live"}
        assert {e["subject"] for e in shown if e["type"] == "release.live"} == {report.release}
        assert not any("planes" in e["subject"] for e in shown)
        first = Operations(p).events(subject="dataset:orders", limit=2)
        rest = Operations(p).events(subject="dataset:orders", limit=10, after=first.next)
        assert [*first.items, *rest.items] == shown


# ---------------------------------------------------------------- in words


def test_why_says_it_in_words_first(
    shop: Shop, running: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person would have to read a chain of event types to learn who did what, and what to do."""
    shop.write(_OPS)
    with shop.open() as p:
        report = running(p)
        Operations(p).report(
            "run", "job:loader", state="failed", name="nightly", downstream=("dataset:orders",)
        )
        (signal,) = Operations(p).signals().items
        ask = lambda subject: Operations(p).why(subject)["reason"]  # noqa: E731
        run = ask(report.id)
        assert run.startswith(f"person:ann started run {report.id} (manual) in dev at 20")
        assert "It finished: 2 steps computed" in run or "It finished: 1 steps computed" in run
        assert f"`sextant runs {report.id}` shows its steps" in run
        release = ask(report.release)
        assert release.startswith("person:ann proposed dataset:orders new -> ")
        assert f"by release {report.release} of run {report.id}, because of `run" not in release
        assert "It is live since 20" in release
        assert "`sextant rollback dataset:orders --env dev` undoes it." in release
        raised = ask(signal["id"])
        assert raised.startswith(f"Signal {signal['id']} (run.failed, error) of job:loader")
        assert "because of `run.reported` of job:loader" in raised
        assert "It is open" in raised
        Operations(p).close_signal(signal["id"], "the disk was full")
        assert ": the disk was full." in ask(signal["id"])
        asset = ask("orders")
        assert asset.startswith("dataset:orders in dev is at version ")
        assert f"Run {report.id} made it first" in asset
        assert "The newest change upstream is of job:loader: run failed" in asset
        event = Operations(p).events(type="asset.declared").items[0]["id"]
        assert "person:ann wrote `asset.declared`" in ask(event)
        assert ask("job:loader").startswith("person:ann reported run failed of job:loader")
    monkeypatch.chdir(shop.root)
    for subject in (report.id, report.release, signal["id"], "orders"):
        assert call(["why", subject]) == 0
        first, blank, *behind = capsys.readouterr().out.splitlines()
        assert first.endswith(".")
        assert blank == ""
        assert behind


def test_why_of_a_run_that_failed_says_what_and_what_now(shop: Shop, running: Any) -> None:
    """Only the fact that it failed would be told."""
    shop.write(_OPS.replace('{"id": [day.key], "n": [1]}', '{"id": 1 / 0}'))
    with shop.open() as p:
        report = running(p)
        reason = Operations(p).why(report.id)["reason"]
        assert "It failed: " in reason
        assert f"`sextant runs {report.id}` shows where" in reason
        assert "sextant run dataset:orders --env dev" in Operations(p).why("orders")["reason"]


RENAMED = """
WORD = "a"

@sx.dataset(partition=days, key="id")
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": [day.key], "word": [WORD]})

@sx.dataset(key="size")
def sizes(orders: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"size": [len(orders["word"][0])]})
"""


def test_an_older_version_that_comes_out_again_is_up_to_date(shop, running) -> None:
    """A process that has read the older version would call it changed, and make it once more."""
    shop.write(RENAMED)
    with shop.open() as p:
        running(p)
        with shop.open() as other:
            for word in ("long", "b"):  # the size of "b" is that of the first version
                shop.write(RENAMED.replace('"a"', f'"{word}"'))
                other.core.project.load()
                running(other, "dev", stale=True)
        p.core.project.load()
        assert p.runs.plan("dev", Request()).steps == ()
