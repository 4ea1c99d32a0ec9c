"""Instants as people write them: a length back from now, or a time."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sextant.core import Core
from sextant.kernel.clock import NS, from_datetime
from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.pages import FAR


def instant(core: Core, text: str) -> int:
    """Return an instant in ns since 1970: of `2h` two hours ago, of a time without a zone that of
    the project's zone. UsageError for what is no time."""
    try:
        if text[:4].isdigit() and "-" in text:
            at = datetime.fromisoformat(text)
            zone = ZoneInfo(core.project.manifest().tz)
            return min(FAR, from_datetime(at if at.tzinfo else at.replace(tzinfo=zone)))
        return core.clock.now_ns() - int(length_s(text) * NS)
    except (UsageError, ValueError, OverflowError) as error:
        raise UsageError(
            "SX-UNDO-008",
            f"`{text[:60]}` is no time",
            hint="as in 2h, 3d, 2026-03-01 or 2026-03-01T05:00",
        ) from error
