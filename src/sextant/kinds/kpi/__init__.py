"""KPIs: business numbers. A version is a definition; its values are a dataset."""

from sextant.kernel.kinds import Instant, Kind

KIND = Kind("kpi", released=lambda _core: Instant())
