"""What a platform shows, with nothing hidden."""

from sextant.app.doctor import examine
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import Finding
from sextant.kernel.nouns import CheckResult, Principal
from sextant.testing import Seen


def views(p: LocalPlatform) -> Seen:
    return Seen(p)


def checked(p: LocalPlatform, env: str, name: str, *, by: Principal) -> list[CheckResult]:
    """Run every check of an asset, by its name, on what is live."""
    return p.runs.check(env, p.core.assets.find(name), by=by)


def examined(p: LocalPlatform, *, paths: bool = True) -> list[Finding]:
    """Look for what is wrong with a project."""
    return examine(
        p.core,
        sealing=p.sealing,
        publisher=p.runs.publisher,
        access=lambda: p.access,
        ask=p.ask,
        paths=paths,
    )
