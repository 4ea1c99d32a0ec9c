"""What only this kind knows of an asset: `Asset.spec` of a dataset."""

from collections.abc import Mapping
from typing import Literal

from sextant.kernel.nouns import Asset, CheckSpec, Noun
from sextant.kernel.partitions import Partitioning

KIND = "dataset"
Source = tuple[str, str]  # an input and one of its columns in lower case; `*` = any of them


class Lineage(Noun, frozen=True, kw_only=True):
    """Which columns of the inputs flow into the columns of a query's result, as its text says.
    Names of columns are in lower case: DuckDB does not tell cases apart.

    columns  column that the query names -> its sources, none for a constant or a count
    stars    inputs that hand their columns through under the same names, each with the names that
             it leaves out
    unnamed  sources of columns that the query gives no name, as `upper(name)`
    every    sources that may flow into any column
    decides  sources that decide which rows there are: conditions, joins, groups, order; only where
             a query is read as a whole
    """

    columns: Mapping[str, tuple[Source, ...]] = {}
    stars: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unnamed: tuple[Source, ...] = ()
    every: tuple[Source, ...] = ()
    decides: tuple[Source, ...] = ()


class Table(Noun, frozen=True, kw_only=True):
    """What a dataset holds.

    lineage         of a query over personal columns; None = not read, or not understood
    against_inputs  a check of the rows against those that they are made of: of a range, and when
                    there were none before
    """

    partitioning: Partitioning = Partitioning()
    key: tuple[str, ...] = ()
    time: str = ""  # the column of instants that says into which slice a row belongs
    schema: Literal["evolve", "freeze"] = "evolve"
    personal: tuple[str, ...] = ()  # declared here; what follows from inputs: personal_rule.py
    public: tuple[str, ...] = ()  # columns that are not personal, whatever they are made of
    # (column, type): all of a stream's, or those that a dataset promises
    columns: tuple[tuple[str, str], ...] = ()
    lineage: Lineage | None = None
    against_inputs: CheckSpec | None = None


NO_TABLE = Table()


def table_spec(asset: Asset) -> Table:
    """Return what a dataset declares that it holds; nothing for what is no dataset."""
    return asset.spec_as(Table) if asset.kind == KIND else NO_TABLE


class Rows(Noun, frozen=True, kw_only=True):
    """Where the rows of an input lie, for who reads them: `InputRef.spec` of a dataset.

    lake      the lake's root as this worker sees it
    personal  columns of `schema` that are personal, declared or derived
    key       of the table: files of earlier releases are put in order by it
    """

    lake: str
    schema: tuple[tuple[str, str], ...] = ()
    personal: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


class Written(Noun, frozen=True, kw_only=True):
    """Where rows are written: `WorkOrder.spec` of a dataset.

    staging        how the paths of the attempt's files begin, below the lake's root: unique to the
                   attempt
    expect_schema  the live schema, for freeze / evolve
    for_release    False: the rows get no profiles, and are not held against those of the inputs
    """

    lake: str
    staging: str
    expect_schema: tuple[tuple[str, str], ...] = ()
    for_release: bool = True
