"""Releases: what becomes live, and what is taken back."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from sextant.app.approving import approver
from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Session, page_limit, waiting
from sextant.kernel.answers import (
    Page,
    PromiseSeen,
    PromisesSeen,
    RollbackPlan,
    RunReport,
    ToApprove,
    UndoPlan,
    UndoReport,
)
from sextant.kernel.errors import Conflict, UsageError
from sextant.kernel.limits import APPROVED_AT_ONCE_MAX, PAGE_ROWS
from sextant.kernel.nouns import Release
from sextant.release.records import batch_digest, plan_digest


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
        """Return a release with its events, and what it changes of what is declared."""
        from sextant.app import lists
        from sextant.app.showing import declared_changes

        found = self._p.runs.releases.get(release)
        return {
            **msgspec.to_builtins(self._see.release(found)),
            "plan": plan_digest(found),
            "declared": declared_changes(self._core, self._see, found),
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
        expects: Sequence[str] = (),
        env: str = "",
        progress: Progress | None = None,
    ) -> Release:
        """Make a version of an asset live, through the gate: `version`, or what is live in
        environment `source`.

        expects  what it is to do to business numbers, as `kpi:revenue +3% in 28d`: see `promise`
        """
        if bool(version) == bool(source):
            raise UsageError(
                "SX-CLI-006",
                "a release needs a version or --from ENV",
                hint=f"`sextant versions {asset}` lists versions",
            )
        name = self._env(env)
        if expects:
            from sextant.app.promises import make, read_promise

            for text in expects:
                read_promise(self._core, name, text)  # what cannot be promised releases nothing
        released = self._p.runs.release(
            name,
            self._core.assets.find(asset, name),
            version=version,
            source=source,
            by=self._who(),
            break_glass=break_glass,
            waits=waiting(progress),
        )
        if expects:
            make(self._core, released, expects, self._who())
        return self._see.release(released)

    @operation("POST", "/releases/{release}/promises", "operator", "release", "release")
    def promise(self, release: str, expects: Sequence[str]) -> list[PromiseSeen]:
        """Keep what a release is expected to do to business numbers, as `kpi:revenue +3% in 28d` or
        `kpi:open_orders -250 in 2w`. When that time is over, the number is derived without the
        release, and what it brought is held against this. Conflict once it can be seen."""
        from sextant.app.promises import make

        return make(self._core, self._p.runs.releases.get(release), expects, self._who())

    @operation("GET", "/promises", "viewer", "read")
    def promises(self, *, team: str = "", env: str = "") -> PromisesSeen:
        """Return what releases were expected to do and what they did, the newest first, and how
        each team keeps what it promises; `env=""` means of all environments."""
        from sextant.app.promises import promises

        return promises(self._core, team=team, env=self._every(env))

    @operation("POST", "/promises/settle", "operator", "derive")
    def settle_promises(self, *, progress: Progress | None = None) -> list[PromiseSeen]:
        """Say of each promise whose time is over what its release brought. A server does that by
        itself."""
        from sextant.app.promises import settle

        return settle(self._p.runs, self._who(), progress)

    @operation("POST", "/environments/{source}/promotions", "operator", "release", "plan")
    def promote(
        self,
        source: str,
        *,
        over: str = "",
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> list[Release]:
        """Make live all that environment `source` has of its own - data, definitions, the project -
        in one release, through the gate; what takes time follows in releases of its own. What both
        changed is a conflict, by name, and nothing is moved.

        over  the version of the project in force in `env` that the folder of `source` has taken in
        """
        from sextant.app.promoting import promote

        done = promote(
            self._p.runs.releasing,
            source,
            self._env(env),
            by=self._who(),
            over=over,
            break_glass=break_glass,
            waits=waiting(progress),
        )
        released = (done.release, *done.rolled, *done.rejected)
        return [self._see.release(one) for one in released if one is not None]

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
        name = self._env(env)
        report = self._p.runs.undo(
            name,
            self._core.assets.find(asset, name).id,
            by=self._who(),
            reason=reason,
            version=version,
            downstream=downstream,
            break_glass=break_glass,
            told=progress,
            waits=waiting(progress),
        )
        return self._see.report(report)

    @operation("GET", "/assets/{asset}/rollbacks", "viewer", "read")
    def rollback_plan(
        self, asset: str, *, version: str = "", downstream: bool = True, env: str = ""
    ) -> RollbackPlan:
        """Return what `rollback` would do: which versions and partitions go back, what is made
        again with which cost, what is in the way, and what the rules say. Changes nothing."""
        from sextant.app.undo_preview import rollback_plan

        name = self._env(env)
        return rollback_plan(
            self._p.runs,
            self._see,
            name,
            self._core.assets.find(asset, name).id,
            version=version,
            downstream=downstream,
            by=self._who(),
        )

    @operation("GET", "/undo", "viewer", "read")
    def undo_plan(self, who: str, since: str, *, env: str = "") -> UndoPlan:
        """Return what would be taken back of what an actor did since a time, in every environment
        or in one, and what cannot be."""
        from sextant.app.undo_by import undo_plan

        return undo_plan(self._p.runs, who, since, self._every(env))

    @operation("POST", "/undo", "operator", "rollback", "plan")
    def undo(
        self,
        who: str,
        since: str,
        plan: str,
        *,
        reason: str = "undone by hand",
        env: str = "",
    ) -> UndoReport:
        """Take back what a plan says (`undo_plan`): each asset goes back to what it was, and what
        others derived from it is derived again."""
        from sextant.app.undo_by import undo_by

        return undo_by(
            self._p.runs,
            who,
            since,
            self._every(env),
            plan=plan,
            reason=reason,
            by=self._who(),
        )

    @operation("POST", "/assets/{asset}/unhold", "operator", "unhold", "asset")
    def unhold(self, asset: str, version: str, *, env: str = "") -> dict[str, Any]:
        """Lift the mark of a withdrawn version, so that it may be chosen again."""
        core, name = self._core, self._env(env)
        found = core.assets.find(asset, name)
        digest = core.versions.find(found.id, version)
        self._p.runs.releases.unhold(name, found.id, digest, self._who())
        return {"asset": found.id, "version": digest, "unheld": True, "env": name}

    @operation("POST", "/releases/{release}/approvals", "operator", "approve", "release")
    def approve(
        self, release: str, *, deny: bool = False, reason: str = "", plan: str = ""
    ) -> Release:
        """Approve (or deny) a release that waits. Who proposed it cannot approve it.

        plan  the digest of what was shown (`plan` of the release): Conflict when it is not this
        """
        waiting_release = self._p.runs.releases.get(release)
        if plan and plan != plan_digest(waiting_release):
            raise Conflict(
                "SX-RELEASE-020",
                f"release `{release}` is not what was shown",
                hint=f"look again: `sextant releases {release}`",
            )
        return self._approve(waiting_release, deny=deny, reason=reason)

    def _approve(self, waiting_release: Release, *, deny: bool, reason: str) -> Release:
        by, proposer = approver(self._core, waiting_release, self._who())
        approved = self._p.runs.releases.approve(
            waiting_release.id, by, deny=deny, reason=reason, proposer=proposer
        )
        if approved.state == "live":
            self._p.runs.checks.check_children(approved, by=self._who())
        return self._see.release(approved)

    @operation("GET", "/approvals", "viewer", "read")
    def to_approve(self, releases: Sequence[str]) -> ToApprove:
        """Return releases that are to be approved together, and what names exactly these."""
        found = self._several(releases)
        return ToApprove(
            releases=tuple(self._see.release(one) for one in found), plan=batch_digest(found)
        )

    @operation("POST", "/approvals", "operator", "approve", "releases")
    def approve_all(
        self, releases: Sequence[str], plan: str, *, deny: bool = False, reason: str = ""
    ) -> list[Release]:
        """Approve (or deny) several releases that wait, all or none.

        plan  what was shown (`to_approve`): Conflict when it is not this
        """
        found = self._several(releases)
        if plan != batch_digest(found):
            raise Conflict(
                "SX-RELEASE-021",
                "these releases are not what was shown",
                hint="look again: `sextant approve RELEASE ...` without --plan shows them",
            )
        for one in found:  # before anything is decided about any of them
            by, proposer = approver(self._core, one, self._who())
            self._p.runs.releases.check_approval(one.id, by, deny=deny, proposer=proposer)
        return [self._approve(one, deny=deny, reason=reason) for one in found]

    def _several(self, releases: Sequence[str]) -> list[Release]:
        ids = list(dict.fromkeys(releases))
        if not 0 < len(ids) <= APPROVED_AT_ONCE_MAX:
            raise UsageError(
                "SX-RELEASE-022",
                f"{len(ids)} releases are named",
                hint=f"from 1 to {APPROVED_AT_ONCE_MAX}; `sextant status` shows those that wait",
            )
        return [self._p.runs.releases.get(one) for one in ids]

    @operation("POST", "/releases/{release}/pause", "operator", "rollback", "release")
    def pause_release(self, release: str, reason: str) -> Release:
        """Hold a release that is rolling at the step that it has reached."""
        return self._see.release(self._p.runs.releases.pause(release, self._who(), reason))

    @operation("POST", "/releases/{release}/continue", "operator", "release", "release")
    def continue_release(self, release: str, reason: str) -> Release:
        """Let a release go on that is paused, or stuck in a step."""
        return self._see.release(self._p.runs.releases.go_on(release, self._who(), reason))

    @operation("POST", "/releases/{release}/abort", "operator", "rollback", "release")
    def abort_release(self, release: str, reason: str) -> Release:
        """Take back a release that has not ended: its version is withdrawn, and what was rolled out
        is undone."""
        self._p.runs.releases.abort(release, self._who(), reason)
        return self._see.release(self._p.runs.driving.work(release))

    @operation("POST", "/releases/{release}/resolve", "operator", "release", "release")
    def resolve_release(self, release: str, to: Literal["live", "back"], reason: str) -> Release:
        """Record what a person made of a stuck release by hand: brought to its end, or taken
        back."""
        resolved = self._p.runs.releases.resolve(
            release, self._who(), live=to == "live", reason=reason
        )
        return self._see.release(resolved)

    @operation("POST", "/releases/{release}/drive", "operator", "release", "release")
    def drive_release(self, release: str) -> Release:
        """Bring a release that takes time as far as it goes now; where somebody else works on it,
        return it as it is. A server does that by itself."""
        return self._see.release(self._p.runs.driving.work(release))
