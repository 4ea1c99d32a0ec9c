"""Search: what is found by which words, in which order, and that the index follows what changes."""

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.text_index import Entry, TextIndex, prepare
from sextant.kernel.answers import SearchHit
from sextant.kernel.errors import UsageError
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Write

OPS = """
web = sx.team("web", members=["eve"])

@sx.dataset(owner=ops, tags=["nightly"], checks=[sx.between("amount", 0, 5, severity="warn")])
def orders() -> pl.DataFrame:
    '''What customers have bought, by the basket.'''
    return pl.DataFrame({"id": [1, 2], "amount": [1.0, 9.0]})

@sx.dataset(owner=web)
def orders_daily(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.rename({"amount": "turnover"})

@sx.dataset(owner=web)
def late_orders(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="", owner=ops)
sx.policy("two pairs of eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=ops))
"""


def hits(p: LocalPlatform, q: str, **more: int) -> list[SearchHit]:
    return Operations(p).search(q, **more)["hits"]


def ids(p: LocalPlatform, q: str, **more: int) -> list[str]:
    return [hit["id"] for hit in hits(p, q, **more)]


def test_the_nearest_name_comes_first(shop: Shop) -> None:
    """If this fails, who types a name finds something else above it."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        named = ids(p, "orders")
        assert named[:3] == ["dataset:orders", "dataset:orders_daily", "dataset:late_orders"]
        assert ids(p, "dataset:orders")[0] == "dataset:orders"
        assert ids(p, "ORDERS dai")[0] == "dataset:orders_daily"
        assert ids(p, "rders")[0] == "dataset:orders"
        assert [(h["id"], h["matched"]) for h in hits(p, "revneue")] == [
            ("kpi:revenue", "near name")
        ]


def test_every_field_is_searched_and_named(shop: Shop) -> None:
    """If this fails, somebody does not find what he knows only the owner, a column or a word of the
    documentation of; or is not told why it was found."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        for words, noun, id_, matched, text in (
            ("nightly", "asset", "dataset:orders", "tag", "nightly"),
            ("turnover", "asset", "dataset:orders_daily", "column", "turnover"),
            ("basket", "asset", "dataset:orders", "documentation", "What customers have bought"),
            ("eve", "team", "web", "member", "eve"),
            ("pairs eyes", "policy", "two pairs of eyes", "name", "two pairs of eyes"),
            ("prod", "environment", "prod", "name", "prod"),
            ("between amount", "check", "between(amount, 0, 5)", "name", "between"),
        ):
            found = [h for h in hits(p, words) if h["noun"] == noun and h["id"] == id_]
            assert found, (words, hits(p, words))
            assert found[0]["matched"] == matched
            assert text in found[0]["text"]
        assert {h["id"] for h in hits(p, "web") if h["matched"] == "owner"} == {
            "dataset:orders_daily",
            "dataset:late_orders",
        }
        assert ids(p, "basket turnover") == []
        assert hits(p, " _ ") == []


def test_ids_are_found_by_how_they_begin(shop: Shop) -> None:
    """If this fails, the id that somebody was sent leads nowhere."""
    shop.write(OPS)
    with shop.open() as p:
        report = run(p)
        Operations(p).report("check", "service:pay", owner="ops", name="smoke", state="failed")
        signal = Operations(p).signals(asset="service:pay").items[0]["id"]
        release = report.releases[0].id
        for id_, noun in ((report.id, "run"), (release, "release"), (signal, "signal")):
            for begun in (id_, id_[:14], id_[:4]):
                assert (noun, id_) in {(h["noun"], h["id"]) for h in hits(p, begun)}, begun
        version = p.core.versions.live_version("dev", "dataset:orders")
        found = hits(p, version[:8])
        assert ("version", "dataset:orders", version) in {
            (h["noun"], h["asset"], h["text"]) for h in found
        }
        assert ids(p, "run_zzzz") == []


def test_the_index_follows_what_changes(shop: Shop) -> None:
    """If this fails, a new asset, column or environment is found only after a restart."""
    shop.write(OPS)
    with shop.open() as p:
        assert ids(p, "turnover") == []
        run(p)
        assert ids(p, "turnover") == ["dataset:orders_daily"]
        assert ids(p, "profit") == [] == ids(p, "staging") == ids(p, "service:pay")
        shop.edit('rename({"amount": "turnover"})', 'rename({"amount": "profit"})')
        p.core.project.load()
        run(p, stale=True)
        assert [h["matched"] for h in hits(p, "profit")] == ["column"]
        Operations(p).create_environment("staging", "dev")
        assert ids(p, "staging") == ["staging"]
        Operations(p).report("release", "service:pay", owner="ops", version="v1")
        assert ids(p, "service:pay") == ["service:pay"]
        shop.edit("def late_orders(", "def slow_orders(")
        p.core.project.load()
        assert "dataset:slow_orders" in ids(p, "slow")
        run(p)
        assert "dataset:late_orders" not in ids(p, "late orders")


def test_a_search_is_bounded(shop: Shop) -> None:
    """If this fails, one search answers with everything, or hides that there is more."""
    shop.write(OPS)
    with shop.open() as p:
        found = Operations(p).search("orders", limit=2)
        assert [h["id"] for h in found["hits"]] == ["dataset:orders", "dataset:orders_daily"]
        assert found["cut"]
        assert not Operations(p).search("orders_daily", limit=2)["cut"]
        with pytest.raises(UsageError, match="between 1 and 200"):
            Operations(p).search("orders", limit=1000)


def test_hidden_texts_are_no_titles(shop: Shop) -> None:
    """If this fails, a search quotes what the page of the signal itself hides."""
    shop.write(
        """
        @sx.dataset(personal=["name"], checks=[sx.not_null("name", severity="warn")])
        def people() -> pl.DataFrame:
            return pl.DataFrame({"name": ["Ann", None]})
        """
    )
    with shop.open() as p:
        run(p)
        said = p.core.events.signal("dataset:people", "seen", "warn", "2 rows fail: Ann")
        p.core.state.commit(Write((), (said,)))
        viewer = Operations(p, Principal(name="v", role="viewer"))
        mine, theirs = (one.search("sig_")["hits"] for one in (Operations(p), viewer))
        assert "rows fail" in mine[0]["title"]
        assert theirs[0]["id"] == mine[0]["id"]
        assert "administrator" in theirs[0]["title"]


def test_the_last_entry_is_found_and_parts_of_two_are_not() -> None:
    """If this fails, a scan runs over the end of an entry."""
    entries = [Entry("asset", f"dataset:{name}", name) for name in ("ab", "cd")]
    index = TextIndex([(one, prepare(one)) for one in entries])
    assert [one.entry.name for one in index.find("cd", 9)] == ["cd"]
    assert index.find("abcd", 9) == [] == index.find("b c", 9)
