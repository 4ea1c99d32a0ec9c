"""KPIs: business numbers. A version is a definition; its values are a dataset."""

from collections.abc import Iterable

from sextant.kernel.kinds import Authored, Instant, Kind
from sextant.kernel.nouns import Asset, Edge
from sextant.kinds.kpi.spec import KIND as NAME
from sextant.kinds.kpi.spec import measure_spec


class _Authored(Authored):
    def edges(self, asset: Asset) -> Iterable[Edge]:
        yield Edge(source=measure_spec(asset).of, target=asset.id, kind="measures")

    def definition(self, asset: Asset) -> str:
        """Return the digest of what the number means: how it is shown is no part of it."""
        return measure_spec(asset).definition


KIND = Kind(NAME, authored=_Authored(), released=lambda _core: Instant())
