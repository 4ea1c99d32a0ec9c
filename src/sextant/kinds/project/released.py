"""How a version of the project comes into force: by the pointer alone, where it can be loaded and
leaves somebody who may change it again."""

from collections.abc import Collection, Mapping
from typing import Any

from sextant.authorization.authority import decide_as
from sextant.core import Core
from sextant.kernel.errors import SextantError
from sextant.kernel.kinds import Instant, Verdict
from sextant.kernel.nouns import Manifest, Move, Part, Principal, Release, person_of
from sextant.kinds.project.columns import changes_of
from sextant.project.versions import project_id


class ReleasedProject(Instant):
    """Versions of the project."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def gate(self, release: Release) -> Verdict:
        """Refuse what cannot be loaded here, and rules that leave nobody who may change them."""
        reasons: list[str] = []
        for move in release.moves:
            if self._core.project.follows(move.env):
                reasons.append(f"`{move.env}` has what the folder has: nothing is released to it")
            try:
                after = self._core.project.manifest_of(move.target)
                before = self._core.project.manifest_of(move.source) if move.source else None
            except SextantError as error:
                reasons.append(error.message)
                continue
            people = _people(before, after) | {person_of(release.by)} - {""}
            hit = sorted(one for one in people if not _may_release(after, one, move.env))
            if len(hit) == len(people):
                reasons.append(
                    f"its rules lock everybody out: {', '.join(hit)} could not release another "
                    f"version to `{move.env}`"
                )
        return Verdict(ok=not reasons, reasons=tuple(reasons))

    def facts(self, move: Move, brought: Collection[Part]) -> Mapping[str, Any]:  # noqa: ARG002
        found = changes_of(self._core, move.source, move.target)
        return {
            "weakens": len(found.weakens),
            "removes": len(found.removed),
            "blinds": len(found.blinds),
        }


def _people(before: Manifest | None, after: Manifest) -> set[str]:
    """Return the people whom the project lists, before or after."""
    return {
        name
        for manifest in (before, after)
        if manifest is not None
        for team in manifest.teams
        for name in team.members
    }


def _may_release(manifest: Manifest, person: str, env: str) -> bool:
    """Say whether a person could release another version, if those who are asked agree."""
    asset = manifest.asset(project_id(manifest.project))
    said = decide_as(manifest, Principal(name=person), "release", asset, env)
    members = {team.name: set(team.members) for team in manifest.teams}
    return said.verdict == "allow" or (
        said.verdict == "approval"
        and all(
            # of a team that lists nobody, and of anybody, it cannot be told
            not members.get(need.of) or len(members[need.of] - {person}) >= need.count
            for need in said.needs
        )
    )
