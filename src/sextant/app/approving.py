"""Who approves a release that waits, and whether somebody may. Called by the operations on releases
and by `status`."""

from sextant.core import Core
from sextant.kernel.errors import Conflict, Denied
from sextant.kernel.nouns import Principal, Release
from sextant.release.releases import Releases


def approver(core: Core, release: Release, who: Principal) -> tuple[Principal, str | None]:
    """Return who approves, in his teams where the release moves something, and the person who
    answers for what proposed it; None when nobody can tell."""
    by = core.authorization.within(who, release.moves[0].env)
    return by, core.authorization.person_behind(release.by)


def may_approve(core: Core, releases: Releases, release: Release, who: Principal) -> bool:
    """Say whether somebody may approve a release that waits now."""
    if who.role == "viewer":
        return False
    by, proposer = approver(core, release, who)
    try:
        releases.check_approval(release.id, by, proposer=proposer)
    except (Denied, Conflict):
        return False
    return True
