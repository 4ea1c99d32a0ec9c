"""Where a page of a list begins, and where the next one does: a sort key and what breaks ties, as
`at:last`."""

import re
from collections.abc import Callable, Sequence

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import INTEGER_MAX
from sextant.kernel.ports import Row

FAR = 1 << 62  # a sort key before all others: lists begin with the newest


def page_start(after: str) -> tuple[int, str]:
    """Return the sort key behind which a page begins. UsageError for a text that no page gave."""
    at, _, last = after.partition(":")
    if not after:
        return FAR, ""
    if not re.fullmatch(r"[0-9]{1,19}", at) or int(at) > INTEGER_MAX:
        raise UsageError(
            "SX-PAGE-001",
            f"`{after}` is not where a page ends",
            hint="pass what `next` of the page before said",
        )
    return int(at), last


def next_page(rows: Sequence[Row], limit: int, key: Callable[[Row], tuple[int, str]]) -> str:
    """Return where the next page begins: behind the last row of a full one."""
    if not rows or len(rows) < limit:
        return ""
    at, last = key(rows[-1])
    return f"{at}:{last}"
