"""Releases of the project itself: what the folder has, to an environment that does not follow it.

What is in force there now judges: a change cannot vote for itself. A person's run brings it about;
a schedule never does.
"""

import contextlib

from sextant.app import permits
from sextant.app.claims import Waiting
from sextant.app.releasing import Releasing
from sextant.authorization.decide import Decision, wanted
from sextant.core import Core
from sextant.kernel.answers import ProjectMove
from sextant.kernel.errors import Conflict, Denied, NotFound
from sextant.kernel.kinds import Sees, shown
from sextant.kernel.nouns import Asset, Move, Principal, Version
from sextant.project.versions import PROJECT, commit_of, project_id
from sextant.release.publish import Publisher


class ProjectReleases:
    """Releases of one project."""

    def __init__(self, core: Core, publisher: Publisher, releasing: Releasing) -> None:
        self._core, self._publisher, self._releasing = core, publisher, releasing

    def brings(self, env: str, by: Principal, see: Sees) -> ProjectMove | None:
        """Return what the folder would bring to an environment; None where it brings nothing.
        Changes nothing."""
        core, project = self._core, self._core.project
        if self._has_folder(env):
            return None
        asset, live, target = self._asset(env), project.pinned(env), project.folder_version()
        decision = self._judged(env, by, target)
        before = Version(asset=asset.id, digest=live) if live else None
        after = Version(asset=asset.id, digest=target)
        commit, uncommitted = commit_of(project.root)
        return ProjectMove(
            env=env,
            asset=asset.id,
            source=live,
            target=target,
            commit=commit,
            uncommitted=uncommitted,
            changes=shown(PROJECT, core, see).difference(asset.id, before, after)["changes"],
            verdict=decision.verdict,
            reasons=decision.reasons,
            needs=decision.needs if decision.verdict == "approval" else (),
        )

    def move(
        self, env: str, *, by: Principal, break_glass: str = "", waits: Waiting | None = None
    ) -> str:
        """Release to an environment what the folder had when it was loaded last, and return its
        version; "" where it has that already, or follows the folder. The glass is broken only
        where a rule is in the way.

        Raises  ProjectError while the folder is broken; Denied when what is in force there does
                not allow it, or it waits for approval: nothing is moved then
        """
        project = self._core.project
        project.check_sound()
        if self._has_folder(env):
            return ""
        asset, version = self._asset(env), project.folder_version()
        if break_glass and self._judged(env, by, version).verdict == "allow":
            # without, first; a gate or a withdrawal may be in the way
            with contextlib.suppress(Conflict):
                return self.move(env, by=by, waits=waits)
        permits.allowed(
            self._core, by, "release", env, project.manifest(env), {asset.id}, break_glass
        )
        if self._has_folder(env):  # it falls through to one that follows the folder
            return version
        release = self._releasing.release(
            env, asset, version=version, by=by, break_glass=break_glass, waits=waits
        )
        if release.state == "live":
            return version
        if release.state == "waiting":
            raise Denied(
                "SX-PROJ-097",
                f"what the folder has is not in force in `{env}` before {wanted(release.asked)} "
                f"has approved it: release {release.id} waits",
                hint=f"`sextant approve {release.id}`; --pinned runs what is in force",
            )
        raise Conflict(
            "SX-PROJ-098",
            f"what the folder has did not come into force in `{env}`: release {release.id} is "
            f"{release.state}: {release.reason}",
            hint=f"`sextant releases {release.id}` shows it",
        )

    def check_in_force(self, env: str) -> None:
        """NotFound where no version is in force."""
        self._core.project.check_environment(env)
        if not self._core.project.has_version(env):
            raise NotFound(
                "SX-PROJ-099",
                f"no version of the project is in force in `{env}` yet",
                hint=f"`sextant run --env {env}` of a person releases what the folder has",
            )

    def _has_folder(self, env: str) -> bool:
        """Say whether an environment has what the folder has: nothing is to be released to it."""
        project = self._core.project
        return project.follows(env) or project.folder_version() == project.pinned(env)

    def _asset(self, env: str) -> Asset:
        """Return the project as it is declared in an environment: its owner there decides."""
        manifest = self._core.project.manifest(env)
        asset = manifest.asset(project_id(manifest.project))
        assert asset is not None
        return asset

    def _judged(self, env: str, by: Principal, version: str) -> Decision:
        """Return what is in force in an environment says to a version of the project."""
        asset = self._asset(env)
        move = Move(env=env, asset=asset.id, source=self._core.project.pinned(env), target=version)
        moving = {asset.id: self._publisher.moved(env, move, ())}
        return permits.decider(self._core, by, env, {asset.id: asset}, "", "release")(
            [move], moving
        )
