"""Assets of other tools: each owner has a share of the graph, and what nobody hears of leaves it."""

from sextant.kernel.nouns import SYSTEM
from seen import views
from sextant.app import reports
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sextant.app import observed
from sextant.app.observed import ObservedAssets
from sextant.app.platform import LocalPlatform
from sextant.kernel.errors import Busy
from sextant.kernel.nouns import Asset
from sextant.kernel.ports import Write
from sextant.ledger.projections import AssetDeclared
from sextant.testing import platform

SHOP = """
import sextant as sx

web = sx.team("web")
sx.project("shop", tz="UTC", owner=sx.team("shop"), environments=["dev"])
"""
DAY = 24 * 3600.0


@pytest.fixture
def p(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPlatform]:
    monkeypatch.setattr(observed, "OBSERVED_PER_OWNER_MAX", 3)
    with platform({"ops.py": SHOP}, at=datetime(2026, 3, 1, tzinfo=UTC)) as made:
        yield made


def report(p: LocalPlatform, name: str, owner: str = "") -> None:
    reports.report(p.core, "dev", "run", f"job:{name}", owner=owner, by=p.core.authorization.who())


def in_graph(p: LocalPlatform) -> set[str]:
    return {id_.partition(":")[2] for id_ in p.core.assets.graph()[0]} - {"shop"}


def retired(p: LocalPlatform) -> list[str]:
    return [e["subject"] for e in views(p).events(kind="asset.retired").items]


def see(p: LocalPlatform, name: str, owner: str = "") -> None:
    """Take an asset into the graph as telemetry does."""
    asset = Asset(kind="service", name=name, mode="observed", owner=owner)
    seen = p.core.events.make("asset.observed", asset.id, AssetDeclared(asset, ()), SYSTEM, "")
    p.core.state.commit(Write((), (seen,)))


def test_a_share_that_is_full_of_fresh_names_takes_no_more(p: LocalPlatform) -> None:
    """Invented names filled the graph for good, and every other owner's services stayed out."""
    for name in ("a", "b", "c"):
        report(p, name)
    size = p.ledger.size()
    with pytest.raises(Busy) as caught:
        report(p, "d")
    assert caught.value.code == "SX-REPORT-005"
    assert p.ledger.size() == size
    report(p, "a")  # what is known may go on
    report(p, "theirs", owner="web")
    assert in_graph(p) == {"a", "b", "c", "theirs"}


def test_who_makes_up_owners_has_one_share(p: LocalPlatform) -> None:
    for number in range(3):
        report(p, f"a{number}", owner=f"team-{number}")
    with pytest.raises(Busy):
        report(p, "b", owner="another")
    report(p, "b", owner="web")


def test_the_one_that_was_silent_for_longest_makes_room(p: LocalPlatform) -> None:
    for name in ("a", "b", "c"):
        report(p, name)
        p.core.clock.wait(60)
    p.core.clock.wait(DAY)
    report(p, "a")  # a sign of life
    report(p, "d")
    assert in_graph(p) == {"a", "c", "d"}
    assert retired(p) == ["job:b"]
    report(p, "b")  # it comes back with its next report; `c` makes room
    assert in_graph(p) == {"a", "b", "d"}


def test_edges_of_a_retired_asset_end_with_it(p: LocalPlatform) -> None:
    report(p, "a", owner="web")
    reports.report(
        p.core, "dev", "run", "job:b", upstream=("job:a",), by=p.core.authorization.who()
    )
    p.core.clock.wait(observed.OBSERVED_KEPT_S + 1)
    report(p, "c")
    events = ObservedAssets(p.core, {}).forget()
    p.core.state.commit(Write((), tuple(events)))
    assert in_graph(p) == {"c"}
    assert not p.core.assets.graph()[1]


def test_telemetry_that_speaks_keeps_an_asset(p: LocalPlatform) -> None:
    """Its last event may be old: only changes of the graph are events."""
    see(p, "web")
    see(p, "quiet")
    p.core.clock.wait(observed.OBSERVED_KEPT_S + 1)
    gone = ObservedAssets(p.core, {"service:web": p.core.clock.now_ns()}).forget()
    assert [event.subject for event in gone] == ["service:quiet"]


def test_a_report_does_not_retire_what_telemetry_sees(p: LocalPlatform) -> None:
    """A command does not know what telemetry heard last."""
    for name in ("a", "b", "c"):
        see(p, name)
    p.core.clock.wait(2 * DAY)
    with pytest.raises(Busy):
        report(p, "d")
    assert not retired(p)


def test_a_reported_edge_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever invents names could invent edges to what is declared too."""
    monkeypatch.setattr(observed, "OBSERVED_PER_OWNER_MAX", 3)
    reads = """
import polars as pl
@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})
"""
    with platform({"ops.py": SHOP + reads}, at=datetime(2026, 3, 1, tzinfo=UTC)) as p:
        reports.report(
            p.core, "dev", "run", "job:a", upstream=("orders",), by=p.core.authorization.who()
        )
        p.core.clock.wait(observed.OBSERVED_KEPT_S + 1)
        assert [e.subject for e in ObservedAssets(p.core, {}).forget()] == ["job:a"]
