"""What columns are made of and what stands on them, over all assets, in a project that runs."""

import json

import msgspec
import pytest
from shop_project import Shop, run

from sextant.app import columns as followed
from sextant.app.operations import Operations
from sextant.kernel.answers import ColumnsSeen
from sextant.kernel.errors import NotFound, UsageError
from sextant.project.manifests import read_manifest

REST = """
@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2], "Amount": [1.0, 9.0], "shop": ["n", "s"], "note": ["", "x"], "big": [True, False]})

@sx.dataset()
def shops() -> pl.DataFrame:
    return pl.DataFrame({"shop": ["n", "s"], "land": ["de", "fr"]})

sx.sql("clean.sql")
sx.sql("joined.sql")
sx.sql("unmade.sql")

@sx.dataset()
def scored(joined: pl.DataFrame) -> pl.DataFrame:
    return joined.with_columns(score=1)

sx.kpi("takings", of="joined", measure="sum(money) filter (where land <> 'x')", by=["land"], where="id > 0", grain="")
"""
CLEAN = "select * exclude (note) from orders where big or shop <> 'z'\n"
JOINED = "select c.id, c.amount * 2 as money, s.land from clean c join shops s using (shop)\n"
UNMADE = "select money + 1 as more, land from joined\n"


@pytest.fixture
def made(shop: Shop) -> Shop:
    (shop.root / "clean.sql").write_text(CLEAN)
    (shop.root / "joined.sql").write_text(JOINED)
    (shop.root / "unmade.sql").write_text(UNMADE)
    shop.write(REST)
    with shop.open() as p:
        made = ("clean", "joined", "orders", "shops", "kpi_takings", "scored")
        run(p, "dev", *(f"dataset:{name}" for name in made), downstream=False)
    return shop


def edges(found: ColumnsSeen, *kinds: str) -> set[str]:
    """Return edges as `target.column < source.column`, without the kind of assets."""

    def text(asset: str, column: str) -> str:
        return asset.removeprefix("dataset:") + (f".{column}" if column else "")

    return {
        f"{text(one['target'], one['target_column'])} < {text(one['source'], one['source_column'])}"
        for one in found["edges"]
        if one["kind"] in (kinds or ("value", "rows", "whole"))
    }


def test_a_column_is_followed_upstream(made: Shop) -> None:
    """Who looks for the source of a wrong number is led to the wrong column, or to none."""
    with made.open() as p:
        found = Operations(p).graph_columns("joined.money", way="up")
        assert (found["asset"], found["column"]) == ("dataset:joined", "money")
        assert edges(found, "value") == {
            "joined.money < clean.Amount",
            "clean.Amount < orders.Amount",
        }
        assert edges(found, "rows") == {
            "joined < clean.shop",
            "joined < shops.shop",
            "clean < orders.big",
            "clean < orders.shop",
        }
        assert edges(found, "whole") == set()
        ids = [one["id"] for one in found["assets"]]
        assert (
            ids.index("dataset:orders") < ids.index("dataset:clean") < ids.index("dataset:joined")
        )
        how = {one["id"]: (one["how"], one["note"][:7]) for one in found["assets"]}
        assert how["dataset:orders"] == ("code", "by code")
        assert how["dataset:clean"] == ("query", "")
        assert found["cut"] == ""


def test_a_column_is_followed_downstream_through_a_kpi(made: Shop) -> None:
    """Who changes a column is not told which numbers stand on it."""
    with made.open() as p:
        found = Operations(p).graph_columns("dataset:orders", column="amount", way="down")
        assert found["column"] == "Amount"
        values = edges(found, "value")
        assert {
            "clean.Amount < orders.Amount",
            "joined.money < clean.Amount",
            "kpi_takings.value < joined.money",
            "unmade.more < joined.money",
        } <= values
        assert not any("land" in one for one in values)
        assert edges(found, "whole") == {"scored < joined.money"}
        of = {one["id"]: one["defined_by"] for one in found["assets"]}
        assert of["dataset:kpi_takings"] == "kpi:takings"


def test_a_kpi_is_asked_by_its_name(made: Shop) -> None:
    """The columns of a number could be asked only by a name that nobody knows."""
    with made.open() as p:
        found = Operations(p).graph_columns("takings.value", way="up", far=1)
        assert found["asset"] == "dataset:kpi_takings"
        assert edges(found, "value") == {
            "kpi_takings.value < joined.money",
            "kpi_takings.value < joined.land",
        }
        assert edges(found, "rows") == {"kpi_takings < joined.id", "kpi_takings < joined.land"}
        by = Operations(p).graph_columns("kpi:takings.land", way="up", far=1)
        assert edges(by, "value") == {"kpi_takings.land < joined.land"}


def test_an_asset_shows_each_column_one_step_away(made: Shop) -> None:
    """The page of an asset would say of a column that nothing stands on it."""
    with made.open() as p:
        found = Operations(p).graph_columns("clean")
        assert list(found["columns"]) == ["id", "Amount", "shop", "big"]
        assert edges(found, "value") == {
            "clean.id < orders.id",
            "clean.Amount < orders.Amount",
            "clean.shop < orders.shop",
            "clean.big < orders.big",
            "joined.id < clean.id",
            "joined.money < clean.Amount",
        }
        assert edges(found, "rows") == {
            "clean < orders.big",
            "clean < orders.shop",
            "joined < clean.shop",
        }


def test_a_function_stands_on_its_inputs_as_a_whole(made: Shop) -> None:
    """Columns of Python would be invented."""
    with made.open() as p:
        found = Operations(p).graph_columns("scored.score", way="up")
        assert edges(found) == {"scored < joined"}
        assert [one["note"] for one in found["assets"] if one["id"] == "dataset:scored"] == [
            "by code: which columns of its inputs a function reads is not known"
        ]


def test_a_query_that_was_never_made_is_followed(made: Shop) -> None:
    """Before the first run nothing could be asked about a new query."""
    with made.open() as p:
        found = Operations(p).graph_columns("unmade.more", way="up", far=2)
        assert found["columns"] == {"more": "", "land": ""}
        assert edges(found, "value") == {
            "unmade.more < joined.money",
            "joined.money < clean.Amount",
        }


def test_wrong_names_are_answered_with_near_ones(made: Shop) -> None:
    with made.open() as p:
        ask = Operations(p).graph_columns
        with pytest.raises(NotFound, match="has no column `mony`") as column:
            ask("joined.mony")
        assert column.value.hint == "did you mean `money`?"
        with pytest.raises(NotFound) as asset:
            ask("joind.money")
        assert "joined" in asset.value.hint
        with pytest.raises(UsageError, match="has no columns"):
            ask("project:shop")
        with pytest.raises(UsageError, match="a way must be one of both, up, down, not `left`"):
            ask("joined", way="left")
        with pytest.raises(UsageError, match="far must be 0 or more"):
            ask("joined", far=-1)


def test_a_long_way_is_cut_and_says_so(made: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that everything stands on would make an answer without a bound."""
    monkeypatch.setattr(followed, "COLUMNS_SHOWN_MAX", 3)
    with made.open() as p:
        found = Operations(p).graph_columns("orders.Amount", way="down")
        assert len({(e["target"], e["target_column"]) for e in found["edges"]}) <= 3
        assert "at most 3 columns" in found["cut"]


def test_a_long_chain_that_was_never_made(shop: Shop) -> None:
    """A chain of new queries would be deeper than calls may be."""
    last = 1_050
    for n in range(1, last + 1):
        text = f"select * from s{n - 1}\n" if n > 1 else "select a, 1 as n from s0\n"
        (shop.root / f"s{n}.sql").write_text(text)
    shop.write(
        '@sx.dataset()\ndef s0() -> pl.DataFrame:\n    return pl.DataFrame({"a": [1]})\n'
        + f"for n in range(1, {last + 1}):\n    sx.sql(f's{{n}}.sql')\n"
    )
    with shop.open() as p:
        found = Operations(p).graph_columns(f"s{last}.a", way="up")
        assert len(found["edges"]) == last
        assert found["cut"] == ""


def test_an_older_manifest_has_no_queries(made: Shop) -> None:
    """A project that an older Sextant recorded would be said to be made of nothing."""
    with made.open() as p:
        manifest = p.core.project.manifest()
        older = json.loads(msgspec.json.encode(manifest))
        older |= {"v": 3}
        older.pop("queries")
        read = read_manifest(json.dumps(older).encode())
        assert [one.id for one in read.assets] == [one.id for one in manifest.assets]
        assert read.queries == {}
        p.core.project._manifest = read  # noqa: SLF001 - as if it had just been read
        found = Operations(p).graph_columns("joined.money", way="up")
        assert edges(found) == {"joined < clean", "joined < shops"}
        assert any("older Sextant" in one["note"] for one in found["assets"])
