"""What the kind brings: the row `kind.kpi`."""

from collections.abc import Mapping
from typing import Any

from sextant.kernel.kinds import Instant, Kind, Sees, Shown, Table
from sextant.kernel.nouns import Version
from sextant.kinds.kpi.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.kpi.assets import AuthoredKpis

    return AuthoredKpis()


def _shown(core: Any, see: Sees) -> Shown:
    from sextant.kinds.kpi.views import ShownKpis

    return ShownKpis(core, see)


def _row(version: Version) -> Mapping[str, Any]:
    """Return a definition as a row of `ops.kpis`."""
    import msgspec

    from sextant.kinds.kpi.spec import Measure, goal_text

    measure = msgspec.json.decode(version.spec, type=Measure)
    return {
        "measure": measure.sql,
        "of": measure.of,
        "where": measure.where,
        "grain": measure.grain,
        "by": measure.by,
        "unit": measure.unit,
        "goal": goal_text(measure.goal) if measure.goal else "",
    }


KIND = Kind(
    NAME,
    authored=_authored,
    released=lambda _core: Instant(),
    shown=_shown,
    table=Table(
        {
            "measure": "text",
            "of": "text",
            "where": "text",
            "grain": "text",
            "by": "list",
            "unit": "text",
            "goal": "text",
        },
        _row,
    ),
)
