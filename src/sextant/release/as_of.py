"""Which version somebody means: the live one, one by its first digits, or what was live at a
time."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sextant.core import Core
from sextant.kernel.clock import from_datetime
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.nouns import Version
from sextant.ledger.log import entries
from sextant.release.records import releases_of

_FAR = 1 << 62


def version_as_of(core: Core, env: str, asset: str, as_of: str) -> Version:
    """Return the version that `as_of` names: "" = live, a time, the first digits of a digest, or a
    frozen environment."""
    if not as_of:
        digest = core.versions.live_version(env, asset)
        if not digest:
            raise NotFound(
                "SX-VERSION-004",
                f"`{asset}` has no live version in `{env}`",
                hint=f"`sextant run {asset}` makes one",
            )
        return core.versions.get(asset, digest)
    frozen = any(row[0] == as_of and row[3] for row in core.state.read("envs"))
    if frozen:
        return version_as_of(core, as_of, asset, "")
    if "-" not in as_of:
        return core.versions.get(asset, core.versions.find(asset, as_of))
    at = _time(core, as_of)
    parents = {name: parent for name, parent, *_ in core.state.read("envs")}
    seen = env
    while seen:
        for release in releases_of(core.state, asset):
            target = next(
                (m.target for m in release.moves if m.asset == asset and m.env == seen), ""
            )
            if target and 0 < _live_at(core, release.id) <= at:
                return core.versions.get(asset, target)
        seen = parents.get(seen, "")
    raise NotFound(
        "SX-VERSION-005",
        f"nothing of `{asset}` was live in `{env}` at {as_of}",
        hint=f"`sextant versions {asset}` lists what was",
    )


def _time(core: Core, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            "SX-VERSION-006",
            f"`{text}` is neither a version nor a time",
            hint="write 2013-02-09, 2013-02-09T05:00, 4 or more digits of a version, or the name "
            "of a frozen environment",
        ) from error
    return from_datetime(
        at if at.tzinfo else at.replace(tzinfo=ZoneInfo(core.project.manifest().tz))
    )


def _live_at(core: Core, release: str) -> int:
    for entry in entries(core.state.read, "events_of_subject", (release, _FAR, 100)):
        if entry.envelope.type == "release.live":
            return entry.envelope.time
    return 0
