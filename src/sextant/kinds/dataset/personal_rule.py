"""Derives the personal columns of a dataset: declared ones, and those that personal columns of its
inputs may flow into. Pure: from assets and names of columns; nothing is stored.

`personal_columns` is the one rule. Whatever shows rows, or a text that may quote them, asks it:
through `personal.py`, which knows versions. What cannot be resolved counts as
personal.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from sextant.kernel.nouns import Asset
from sextant.kinds.dataset.spec import Lineage, Source, table_spec

ANY = "*"  # in a source: any column of the input
OPTIONAL = "?"  # before a column of a source: counts where the input has such a column
_PLAIN = re.compile(r"[^\W\d]\w*")  # DuckDB names a column without a name after its expression
_NUMBERED = re.compile(r"(.+)_\d+")  # and the second `id` of a subquery `id_1`


class Known(NamedTuple):
    """What is known of an input: its columns in lower case (None = nothing is), and the personal
    ones among them."""

    columns: frozenset[str] | None = None
    personal: frozenset[str] = frozenset()

    @property
    def is_clean(self) -> bool:
        """Say whether no column of the input is personal."""
        return self.columns is not None and not self.personal


UNKNOWN = Known()


def known(columns: Iterable[str], personal: Iterable[str]) -> Known:
    """Return what is known of an input with these columns."""
    return Known(_lower(columns), _lower(personal))


def personal_columns(
    asset: Asset, columns: Sequence[str], inputs: Mapping[str, Known]
) -> tuple[str, ...]:
    """Return those of `columns` that are personal, in their order.

    asset    whose rows they are, as it is declared now
    columns  the columns of the version at hand, whatever code made it
    inputs   asset id -> what is known of each input of that version and of today's code
    Result   declared ones; of a query, what a personal column flows into; of Python, a column that
             is personal in an input of that name, or that is in no input by name; without those
             that the asset lists as public
    """
    table = table_spec(asset)
    own, public = _lower(table.personal), _lower(table.public)
    dirty = {id_ for id_, one in inputs.items() if not one.is_clean}
    build = asset.build
    read = {one.asset for one in build.inputs} if build else set()
    out = []
    for column in columns:
        name = column.lower()
        if name in own:
            out.append(column)
        elif name in public or not dirty:
            continue
        elif build is None or not dirty <= read:  # older code read an input that today's does not
            out.append(column)
        elif build.code.language == "python":
            if _is_personal_by_name(name, inputs):
                out.append(column)
        elif table.lineage is None or _is_personal_by_lineage(name, table.lineage, inputs):
            out.append(column)
    return tuple(out)


def _is_personal_by_name(name: str, inputs: Mapping[str, Known]) -> bool:
    """Say whether a function's column is personal: it may rename, so only a name that inputs have,
    and none of them as personal, is not."""
    if any(one.columns is None for one in inputs.values()):
        return True
    holders = [one for one in inputs.values() if one.columns and name in one.columns]
    return not holders or any(name in one.personal for one in holders)


def _is_personal_by_lineage(name: str, lineage: Lineage, inputs: Mapping[str, Known]) -> bool:
    sources = _sources_of(name, lineage, inputs)
    if sources is None:
        numbered = _NUMBERED.fullmatch(name)
        sources = _sources_of(numbered[1], lineage, inputs) if numbered else None
    if sources is None and not _PLAIN.fullmatch(name) and lineage.unnamed:
        sources = set(lineage.unnamed)
    if sources is None:  # today's query makes no such column
        return True
    return _any_personal(sources | set(lineage.every), inputs)


def _sources_of(name: str, lineage: Lineage, inputs: Mapping[str, Known]) -> set[Source] | None:
    """Return what flows into a column of this name; None when the query makes no such column."""
    sources = set(lineage.columns.get(name, ()))
    is_made = name in lineage.columns
    for asset, without in lineage.stars:
        columns = inputs.get(asset, UNKNOWN).columns
        if name not in without and (columns is None or name in columns):
            sources.add((asset, name))
            is_made = True
    return sources if is_made else None


def _any_personal(sources: AbstractSet[Source], inputs: Mapping[str, Known]) -> bool:
    """Say whether a source is personal. A column that a query reads without saying from which
    input has a source in each; one that no input has is not resolved."""
    resolved: dict[str, bool] = {}
    for asset, column in sources:
        one = inputs.get(asset, UNKNOWN)
        if one.columns is None or (column == ANY and one.personal):
            return True
        if column.removeprefix(OPTIONAL) in one.personal:
            return True
        if column != ANY and not column.startswith(OPTIONAL):
            resolved[column] = resolved.get(column, False) or column in one.columns
    return not all(resolved.values())


def guarded_assets(assets: Mapping[str, Asset]) -> frozenset[str]:
    """Return the assets whose errors, logs, and results of checks may quote a personal column: of
    their own, or of an input. Without the columns of a version: what may be, is.

    Cost     one pass over the assets; nothing where no dataset declares a personal column
    """
    if not any(table_spec(one).personal for one in assets.values()):
        return frozenset()
    carrying = _Carrying(assets)
    found = {id_ for id_ in assets if carrying.touches(id_)}
    return frozenset(found | {assets[id_].defined_by for id_ in found if assets[id_].defined_by})


def reached_assets(assets: Mapping[str, Asset]) -> frozenset[str]:
    """Return the assets that declare personal columns, and all that read them, however
    indirectly. All others have none."""
    downstream: dict[str, list[str]] = {}
    for id_, asset in assets.items():
        for one in asset.build.inputs if asset.build else ():
            downstream.setdefault(one.asset, []).append(id_)
    found: set[str] = set()
    stack = [id_ for id_, one in assets.items() if table_spec(one).personal]
    while stack:
        id_ = stack.pop()
        if id_ not in found:
            found.add(id_)
            stack += downstream.get(id_, ())
    return frozenset(found)


class _Carrying:
    """Whether assets may have personal columns, by their declarations and queries alone."""

    def __init__(self, assets: Mapping[str, Asset]) -> None:
        self._assets = assets
        self._reached = reached_assets(assets)
        self._found: dict[str, bool] = {}

    def touches(self, id_: str) -> bool:
        """Say whether the asset or one of its inputs may have a personal column."""
        return id_ in self._reached and (self.carries(id_) or self._reads_carrying(id_))

    def _reads_carrying(self, id_: str) -> bool:
        asset = self._assets.get(id_)
        return bool(asset and asset.build) and any(
            self.carries(one.asset)
            for one in self._assets[id_].build.inputs  # type: ignore[union-attr]
        )

    def carries(self, id_: str) -> bool:
        if id_ not in self._reached:
            return False
        if id_ not in self._found:
            self._found[id_] = True  # while it is found out: a circle is one that carries
            self._found[id_] = self._carries(self._assets[id_])
        return self._found[id_]

    def _carries(self, asset: Asset) -> bool:
        if table_spec(asset).personal:
            return True
        if asset.build is None or not self._reads_carrying(asset.id):
            return False
        lineage = table_spec(asset).lineage
        if asset.build.code.language == "python" or lineage is None:
            return True
        public = _lower(table_spec(asset).public)
        return (
            any(self.carries(one) for one, _ in lineage.stars)
            or any(self._may_be(one) for one in (*lineage.unnamed, *lineage.every))
            or any(
                self._may_be(one)
                for name, sources in lineage.columns.items()
                if name not in public
                for one in sources
            )
        )

    def _may_be(self, source: Source) -> bool:
        """Say whether a source may be personal."""
        id_, column = source[0], source[1].removeprefix(OPTIONAL)
        if not self.carries(id_):
            return False
        asset = self._assets[id_]
        table = table_spec(asset)
        lineage = table.lineage
        if column == ANY or column in _lower(table.personal):
            return True
        if column in _lower(table.public) or not (asset.build and asset.build.inputs):
            return False
        if lineage is None or lineage.stars or lineage.every or column not in lineage.columns:
            return True
        return any(self._may_be(one) for one in lineage.columns[column])


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
