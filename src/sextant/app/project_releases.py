"""Releases of the project itself: what the folder has, or somebody has uploaded, to an environment
that does not follow the folder.

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
from sextant.kernel.errors import Conflict, Denied, NotFound, UserError
from sextant.kernel.kinds import Sees, shown
from sextant.kernel.nouns import Asset, Move, Principal, Version
from sextant.project.uploads import Uploads
from sextant.project.versions import PROJECT, commit_of, project_id
from sextant.release.publish import Publisher


class ProjectReleases:
    """Releases of one project.

    uploads  the versions that people bring from folders of their own
    """

    def __init__(self, core: Core, publisher: Publisher, releasing: Releasing) -> None:
        self._core, self._publisher, self._releasing = core, publisher, releasing
        self.uploads = Uploads(core.project, core.state, core.blobs, core.events, core.clock)

    def brings(self, env: str, by: Principal, see: Sees, version: str = "") -> ProjectMove | None:
        """Return what a version would bring to an environment, "" = that of the folder; None where
        it brings nothing. Changes nothing."""
        core, project = self._core, self._core.project
        if self._has(env, version):
            return None
        asset, live = self._asset(env), project.pinned(env)
        target = version or project.folder_version()
        decision = self._judged(env, by, target)
        before = Version(asset=asset.id, digest=live) if live else None
        after = Version(asset=asset.id, digest=target)
        commit, uncommitted = project.commit_of(target) if version else commit_of(project.root)
        return ProjectMove(
            env=env,
            asset=asset.id,
            source=live,
            target=target,
            older=project.is_older(target, live),
            commit=commit,
            uncommitted=uncommitted,
            changes=shown(PROJECT, core, see).difference(asset.id, before, after)["changes"],
            verdict=decision.verdict,
            reasons=decision.reasons,
            needs=decision.needs if decision.verdict == "approval" else (),
        )

    def move(
        self,
        env: str,
        *,
        by: Principal,
        version: str = "",
        break_glass: str = "",
        waits: Waiting | None = None,
    ) -> str:
        """Release to an environment a version that was uploaded, or ("") what the folder had when
        it was loaded last, and return it; "" where it has that already, or follows the folder. The
        glass is broken only where a rule is in the way.

        Raises  ProjectError while the folder is broken; Denied when what is in force there does
                not allow it, or it waits for approval: nothing is moved then
        """
        project = self._core.project
        if not version:
            project.check_sound()
        if self._has(env, version):
            return ""
        asset, target = self._asset(env), version or project.folder_version()
        if break_glass and self._judged(env, by, target).verdict == "allow":
            # without, first; a gate or a withdrawal may be in the way
            with contextlib.suppress(Conflict):
                return self.move(env, by=by, version=version, waits=waits)
        permits.allowed(
            self._core, by, "release", env, project.manifest(env), {asset.id}, break_glass
        )
        if self._has(env, version):  # it falls through to one that follows the folder
            return target
        release = self._releasing.release(
            env, asset, version=target, by=by, break_glass=break_glass, waits=waits
        )
        if release.state == "live":
            return target
        what = "what was uploaded" if version else "what the folder has"
        if release.state == "waiting":
            raise Denied(
                "SX-PROJ-097",
                f"{what} is not in force in `{env}` before {wanted(release.asked)} "
                f"has approved it: release {release.id} waits",
                hint=f"`sextant approve {release.id}`; --pinned runs what is in force",
            )
        raise Conflict(
            "SX-PROJ-098",
            f"{what} did not come into force in `{env}`: release {release.id} is "
            f"{release.state}: {release.reason}",
            hint=f"`sextant releases {release.id}` shows it",
        )

    def check_upload(self, env: str, *, by: Principal, break_glass: str) -> None:
        """Denied unless `by` may release something of the project to an environment: before
        anything that is uploaded for it is stored, or loaded. UserError where it is frozen."""
        asset, manifest = self._asset(env), self._core.project.manifest(env)
        permits.allowed(self._core, by, "release", env, manifest, {asset.id}, break_glass)

    def check_bundle(self, env: str, bundle: str) -> None:
        """UserError where an environment follows the folder, and that has another bundle: what was
        uploaded could not be released to it."""
        project = self._core.project
        if project.follows(env) and project.load().bundle != bundle:
            raise UserError(
                "SX-UPLOAD-014",
                f"`{env}` has what the folder of the server has, and that is not what you have",
                hint=f"`sextant env create pr-1 --from {env}` makes one to upload to; --pinned "
                "works by what is in force",
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

    def _has(self, env: str, version: str) -> bool:
        """Say whether an environment has a version, "" = that of the folder: nothing is to be
        released to it."""
        project = self._core.project
        if not version and project.follows(env):
            return True
        folder = project.folder_version()
        live = project.pinned(env) or (folder if project.follows(env) else "")
        return live == (version or folder)

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
