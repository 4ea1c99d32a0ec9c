"""Releases: what becomes live, and what is taken back."""

from typing import Any

import msgspec

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Follower, Session, page_limit, waiting
from sextant.kernel.answers import Page, RunReport
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import Release


class ReleaseOperations(Session):
    """Releases: what becomes live, and what is taken back."""

    @operation("GET", "/releases", "viewer", "read")
    def releases(
        self,
        *,
        asset: str = "",
        state: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[dict[str, Any]]:
        """Return releases; `env=""` means of all environments."""
        from sextant.app import lists

        return lists.releases(
            self._core,
            self._see,
            env=self._every(env),
            asset=self._id(asset),
            state=state,
            limit=page_limit(limit),
            after=after,
        )

    @operation("GET", "/releases/{release}", "viewer", "read")
    def release_facts(self, release: str) -> dict[str, Any]:
        """Return a release with its events."""
        from sextant.app import lists

        return {
            **msgspec.to_builtins(self._see.release(self._p.runs.releases.get(release))),
            "events": lists.events(self._core, self._see, subject=release).items,
        }

    @operation("POST", "/assets/{asset}/releases", "operator", "release", "plan")
    def release(
        self,
        asset: str,
        *,
        version: str = "",
        source: str = "",
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> Release:
        """Make a version of an asset live, through the gate: `version`, or what is live in
        environment `source`."""
        if bool(version) == bool(source):
            raise UsageError(
                "SX-CLI-006",
                "a release needs a version or --from ENV",
                hint=f"`sextant versions {asset}` lists versions",
            )
        self._core.project.load_sound()
        released = self._p.runs.release(
            self._env(env),
            self._core.assets.find(asset),
            version=version,
            source=source,
            by=self._who(),
            break_glass=break_glass,
            waits=waiting(progress),
        )
        return self._see.release(released)

    @operation("POST", "/assets/{asset}/rollbacks", "operator", "rollback", "plan")
    def rollback(
        self,
        asset: str,
        *,
        version: str = "",
        reason: str = "undone by hand",
        downstream: bool = True,
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> RunReport:
        """Undo the release that brought a version ("" = the live one): only the partitions that it
        changed go back, and what was derived follows."""
        follower = Follower(progress)
        report = self._p.runs.undo(
            self._env(env),
            self._id(asset),
            by=self._who(),
            reason=reason,
            version=version,
            downstream=downstream,
            break_glass=break_glass,
            on_start=follower.started,
            progress=follower.ended,
            waits=waiting(progress),
        )
        return self._see.report(report)

    @operation("POST", "/assets/{asset}/unhold", "operator", "unhold", "asset")
    def unhold(self, asset: str, version: str, *, env: str = "") -> dict[str, Any]:
        """Lift the mark of a withdrawn version, so that it may be chosen again."""
        core, name = self._core, self._env(env)
        found = core.assets.find(asset)
        digest = core.versions.find(found.id, version)
        self._p.runs.releases.unhold(name, found.id, digest, self._who())
        return {"asset": found.id, "version": digest, "unheld": True, "env": name}

    @operation("POST", "/releases/{release}/approvals", "operator", "approve", "release")
    def approve(self, release: str, *, deny: bool = False, reason: str = "") -> Release:
        """Approve (or deny) a release that waits. Who proposed it cannot approve it."""
        core = self._core
        proposer = core.authorization.person_behind(self._p.runs.releases.get(release).by)
        approved = self._p.runs.releases.approve(
            release, self._who(), deny=deny, reason=reason, proposer=proposer
        )
        if approved.state == "live":
            self._p.runs.checks.check_children(approved, by=self._who())
        return self._see.release(approved)
