"""Merges small files of what was published."""

from collections.abc import Mapping

from sextant.app.data_check import damage_signal
from sextant.core import Core
from sextant.engine.staged import RunAsset
from sextant.kernel import kinds
from sextant.kernel.errors import Damaged
from sextant.kernel.nouns import SYSTEM, Event, kind_of
from sextant.kernel.ports import Write
from sextant.ledger.projections import VersionRelocated
from sextant.release.publish import Published


def compact(core: Core, tables: Mapping[str, RunAsset], published: Published) -> None:
    """Merge small files of what was published; the content, and so the version, stays."""
    if published.release is None or published.release.state != "live":
        return
    events: list[Event] = []
    for id_, digest in published.versions.items():
        if id_ not in tables:
            continue
        version = core.versions.get(id_, digest)
        bodies = kinds.made(kind_of(id_)).bodies(core)
        try:
            commit = bodies.merge(id_, version.locator, published.files.get(id_, 0))
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
