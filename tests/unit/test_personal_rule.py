"""The one rule of personal columns: `kinds/dataset/personal_rule.py`."""

import msgspec
import pytest

from sextant.kernel.nouns import Asset, Build, Code, Input, spec_of
from sextant.kinds.dataset.personal_rule import (
    UNKNOWN,
    Known,
    guarded_assets,
    known,
    personal_columns,
    reached_assets,
)
from sextant.kinds.dataset.spec import Lineage, Table

PEOPLE, PLACES = "dataset:people", "dataset:places"
CLEAN = known(["city", "land"], [])
DIRTY = known(["id", "City", "Name"], ["Name"])


def _asset(
    name: str,
    *inputs: str,
    language: str = "python",
    lineage: Lineage | None = None,
    personal: tuple[str, ...] = (),
    public: tuple[str, ...] = (),
) -> Asset:
    return Asset(
        kind="dataset",
        name=name,
        spec=spec_of(Table(personal=personal, public=public, lineage=lineage)),
        build=Build(
            code=Code(language=language, entry="", file=""),  # type: ignore[arg-type]
            inputs=tuple(Input(name=one, asset=one) for one in inputs),
        ),
    )


def _values(asset: Asset, definition: str) -> Asset:
    """Return an asset that holds the values of a definition."""
    return msgspec.structs.replace(asset, defined_by=definition)


NAMED = Lineage(columns={"x": ((PEOPLE, "name"),), "n": (), "city": ((PEOPLE, "city"),)})
STARS = Lineage(stars=((PEOPLE, ("id",)), (PLACES, ())))
# what is declared, what is known of the inputs, the columns of a version -> the personal ones
RULES: dict[str, tuple[Asset, dict[str, Known], str, str]] = {
    "declared, in another case": (_asset("a", personal=("MAIL",)), {}, "id mail", "mail"),
    "a source has no others": (_asset("a"), {}, "id mail", ""),
    "of the same name": (_asset("a", PEOPLE), {PEOPLE: DIRTY}, "id NAME city", "NAME"),
    "in no input by name": (_asset("a", PEOPLE), {PEOPLE: DIRTY}, "id total", "total"),
    "clean inputs": (_asset("a", PLACES), {PLACES: CLEAN}, "city total", ""),
    "clean in one, personal in the other": (
        _asset("a", PEOPLE, PLACES),
        {PEOPLE: DIRTY, PLACES: known(["name"], [])},
        "name",
        "name",
    ),
    "public": (_asset("a", PEOPLE, public=("Total",)), {PEOPLE: DIRTY}, "total name", "name"),
    "an input without a version": (_asset("a", PEOPLE), {PEOPLE: UNKNOWN}, "id", "id"),
    "an input that today's code does not read": (
        _asset("a", PLACES),
        {PLACES: CLEAN, PEOPLE: DIRTY},
        "city land",
        "city land",
    ),
    "a query": (
        _asset("a", PEOPLE, language="sql", lineage=NAMED),
        {PEOPLE: DIRTY},
        "x n city",
        "x",
    ),
    "a column that today's query does not make": (
        _asset("a", PEOPLE, language="sql", lineage=NAMED),
        {PEOPLE: DIRTY},
        "x n old",
        "x old",
    ),
    "a query that nobody followed": (
        _asset("a", PEOPLE, language="sql"),
        {PEOPLE: DIRTY},
        "id n",
        "id n",
    ),
    "stars": (
        _asset("a", PEOPLE, PLACES, language="sql", lineage=STARS),
        {PEOPLE: DIRTY, PLACES: CLEAN},
        "name city land id name_1 land_1",
        "name id name_1",
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_which_columns_are_personal(case: str) -> None:
    """If this fails, a column that may hold personal values is shown."""
    asset, inputs, columns, expected = RULES[case]
    assert personal_columns(asset, columns.split(), inputs) == tuple(expected.split())


def test_what_may_quote_them_follows_the_graph() -> None:
    """If this fails, the error of a step that read people is open."""
    counts = Lineage(columns={"n": (), "city": ((PEOPLE, "city"),)})
    assets = {
        one.id: one
        for one in (
            _asset("people", personal=("name",)),
            _asset("places"),
            _asset("counts", PEOPLE, language="sql", lineage=counts),
            _asset("report", "dataset:counts"),
            _asset("copy", PEOPLE),
            _values(_asset("kpi_copies", "dataset:copy"), "kpi:copies"),
            _asset("lands", PLACES),
        )
    }
    assert reached_assets(assets) == {
        f"dataset:{name}" for name in ("people", "counts", "report", "copy", "kpi_copies")
    }
    # what reads only counts has nothing to quote
    assert guarded_assets(assets) == {
        *(f"dataset:{name}" for name in ("people", "counts", "copy", "kpi_copies")),
        "kpi:copies",
    }
    assert guarded_assets({PLACES: _asset("places")}) == frozenset()
