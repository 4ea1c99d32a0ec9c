"""The project itself: its files, what is installed, manifest and rules, released as one."""

from typing import Any

from sextant.kernel.kinds import Kind, Released, Sees, Shown, Table
from sextant.kernel.nouns import Version
from sextant.kinds.project.spec import KIND as NAME


def _authored() -> Any:
    from sextant.kinds.project.assets import AuthoredProject

    return AuthoredProject()


def _released(core: Any) -> Released:
    from sextant.kinds.project.released import ReleasedProject

    return ReleasedProject(core)


def _shown(core: Any, see: Sees) -> Shown:  # noqa: ARG001 - the same for whoever looks
    from sextant.kinds.project.views import ShownProject

    return ShownProject(core)


def _row(version: Version) -> dict[str, Any]:
    """Return a version as a row of `ops.projects`."""
    import msgspec

    from sextant.project.versions import ProjectVersion

    known = msgspec.json.decode(version.spec, type=ProjectVersion)
    return {
        "commit": known.commit,
        "uncommitted": known.uncommitted,
        "bundle": known.bundle,
        "lock": known.lock,
    }


KIND = Kind(
    NAME,
    authored=_authored,
    released=_released,
    shown=_shown,
    # how much of it is weaker, gone, or blinds what watches it: `sextant plan --env ENV` lists it
    facts={"weakens": 0, "removes": 0, "blinds": 0},
    table=Table(
        {"commit": "text", "uncommitted": "list", "bundle": "text", "lock": "text"},
        _row,
    ),
)
