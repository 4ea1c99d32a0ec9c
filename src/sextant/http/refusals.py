"""Refused requests, counted by caller and reason at every endpoint; the coordinator writes them
into the ledger."""

import threading


class Refusals:
    """Refusals since somebody last asked, summed up by actor and reason; bounded."""

    _KINDS_MAX = 100

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, actor: str, reason: str, count: int = 1) -> None:
        with self._lock:
            key = next(
                (
                    one
                    for one in ((actor, reason), ("", reason))
                    if one in self._counts or len(self._counts) < self._KINDS_MAX
                ),
                ("", "others"),
            )
            self._counts[key] = self._counts.get(key, 0) + count

    def take(self) -> dict[tuple[str, str], int]:
        with self._lock:
            out, self._counts = self._counts, {}
            return out
