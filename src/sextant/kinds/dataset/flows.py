"""What a column of a query is made of, for everybody who asks: the text of the query read as a
whole, with the columns that its inputs have now. Pure; read when it is asked for and remembered.
Called by `app/columns.py`.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sextant.kernel.limits import LINEAGES_KEPT_MAX
from sextant.kinds.dataset.personal_rule import ANY, OPTIONAL
from sextant.kinds.dataset.spec import Lineage, Source

_NUMBERED = re.compile(r"(.+?)(?:_\d+|:\d+)")  # DuckDB's names of a second `id`


class Flow(NamedTuple):
    """One query with the columns that its inputs have.

    columns  asset id -> its columns, of the inputs whose columns are known
    """

    lineage: Lineage
    columns: Mapping[str, tuple[str, ...]]

    def names(self) -> tuple[str, ...]:
        """Return the columns that the query is known to make, in lower case."""
        found = dict.fromkeys(self.lineage.columns)
        for asset, without in self.lineage.stars:
            found |= dict.fromkeys(
                name.lower() for name in self.columns.get(asset, ()) if name.lower() not in without
            )
        return tuple(found)

    def made_of(self, column: str) -> tuple[Source, ...] | None:
        """Return (input, column) of all that a column depends on; `*` for any column of an input
        whose columns are not known. None where the query makes no such column."""
        name = column.lower()
        found = self._sources(name)
        if found is None and (numbered := _NUMBERED.fullmatch(name)):
            found = self._sources(numbered[1])
        if found is None and self.lineage.unnamed:  # named after its expression, or COLUMNS(...)
            found = self.lineage.unnamed
        if found is None and not self.lineage.every:
            return None
        return self._resolved((*(found or ()), *self.lineage.every))

    def decided_by(self) -> tuple[Source, ...]:
        """Return (input, column) of all that decides which rows there are."""
        return self._resolved(self.lineage.decides)

    def _sources(self, name: str) -> tuple[Source, ...] | None:
        found = self.lineage.columns.get(name)
        handed = [
            (asset, name)
            for asset, without in self.lineage.stars
            if name not in without and self._has(asset, name)
        ]
        return None if found is None and not handed else (*(found or ()), *handed)

    def _has(self, asset: str, name: str) -> bool:
        return asset not in self.columns or any(name == one.lower() for one in self.columns[asset])

    def _resolved(self, sources: Iterable[Source]) -> tuple[Source, ...]:
        """Return sources as their inputs write them, each once, without those that no input has."""
        found: dict[Source, None] = {}
        for asset, column in sources:
            name = column.removeprefix(OPTIONAL)
            if asset not in self.columns:
                found[asset, name] = None
                continue
            for one in self.columns[asset]:
                if name in (ANY, one.lower()):
                    found[asset, one] = None
        return tuple(sorted(found))


def flow(text: str, inputs: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> Flow | None:
    """Return what the columns of a query are made of; None where it cannot be followed.

    inputs   table name -> asset id of each input
    columns  asset id -> its columns, of the inputs whose columns are known
    Cost     some milliseconds for a query that was not asked for lately
    """
    known = {asset: tuple(names) for asset, names in columns.items()}
    found = _read(text, tuple(sorted(inputs.items())), tuple(sorted(known.items())))
    return None if found is None else Flow(found, known)


@functools.lru_cache(maxsize=LINEAGES_KEPT_MAX)
def _read(
    text: str,
    inputs: tuple[tuple[str, str], ...],
    columns: tuple[tuple[str, tuple[str, ...]], ...],
) -> Lineage | None:
    from sextant.kinds.dataset.declarations.lineage import whole_lineage

    return whole_lineage(text, dict(inputs), dict(columns))
