"""What is taken from an older state has the columns of that state."""

import random

from shop_project import Shop
from waterfall_world import Company, Op


def test_definitions_whose_values_have_other_columns(shop: Shop) -> None:
    """A definition that was live before comes back: its values are taken from where they lie, with
    the columns of then. If columns of the definition in between stayed, the next run would end with
    types that do not fit."""
    company = Company(shop, random.Random(2))
    assert company.world.measure == "middle"
    try:
        for op in (
            Op("measure", "", "orders"),
            Op("undo"),
            Op("measure", "", "big"),
            Op("measure", "", "middle"),
            Op("threshold", "", 9010),
        ):
            company.do(op)
        core = company.p.core
        live = core.versions.live_version("dev", "dataset:kpi_number")
        columns = dict(core.versions.get("dataset:kpi_number", live).schema)
        assert "p0" not in columns, "of a definition that is not in force"
    finally:
        company.p.close()
