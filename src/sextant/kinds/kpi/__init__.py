"""KPIs: business numbers. A version is a definition; its values are a dataset."""

from typing import Any

from sextant.kernel.kinds import Instant, Kind, Sees, Shown
from sextant.kinds.kpi.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.kpi.assets import AuthoredKpis

    return AuthoredKpis()


def _shown(core: Any, see: Sees) -> Shown:
    from sextant.kinds.kpi.views import ShownKpis

    return ShownKpis(core, see)


KIND = Kind(NAME, authored=_authored, released=lambda _core: Instant(), shown=_shown)
