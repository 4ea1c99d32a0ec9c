"""Merges small files of what was published."""

from collections.abc import Mapping

from sextant.app.data_check import damage_signal
from sextant.core import Core
from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import SYSTEM, Event
from sextant.kernel.ports import Write
from sextant.kinds.dataset.publish import Published
from sextant.kinds.dataset.tables import RunTable
from sextant.ledger.projections import VersionRelocated

_COMPACT_FILES = 48  # small files of a table before they are merged after a publish


def compact(core: Core, tables: Mapping[str, RunTable], published: Published) -> None:
    """Merge small files of what was published; the content, and so the version, stays."""
    if published.release is None or published.release.state != "live":
        return
    events: list[Event] = []
    for id_, digest in published.versions.items():
        if id_ not in tables:
            continue
        if published.files.get(id_, 0) < _COMPACT_FILES:
            continue
        version = core.versions.get(id_, digest)
        try:
            commit = core.lake.compact(id_.replace(":", ".", 1), version.locator)
        except Damaged as error:  # what is published stays; its readers are refused
            events += damage_signal(core, id_, error.message)
            continue
        if commit is not None:
            events.append(
                core.events.make(
                    "version.relocated",
                    f"{id_}@{digest}",
                    VersionRelocated(id_, digest, commit.locator),
                    SYSTEM,
                    "",
                )
            )
    if events:
        core.state.commit(Write((), tuple(events)))
