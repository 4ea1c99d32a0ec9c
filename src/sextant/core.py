"""What every component of one project takes, instead of the platform: its stores, clock, ids,
events, rules, project and assets."""

import functools
import gc
import sys
from typing import NamedTuple

from sextant.authorization.authority import Authorization
from sextant.kernel.clock import Clock, SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Blobs, Lake
from sextant.ledger.events import Events
from sextant.ledger.log import Ledger
from sextant.ledger.rebuild import bring_up_to_date
from sextant.ledger.versions import Versions
from sextant.project.assets import Assets
from sextant.project.config import OWN, Config, login
from sextant.project.current import CurrentProject
from sextant.stores.blobs.local import LocalBlobs
from sextant.stores.files import tighten
from sextant.stores.lake.iceberg import IcebergLake
from sextant.stores.state import StateStore, open_state


class Core(NamedTuple):
    """Made by the platform once; nothing in it knows another component."""

    state: StateStore
    lake: Lake
    blobs: Blobs
    clock: Clock
    ids: Ids
    events: Events
    versions: Versions
    project: CurrentProject
    assets: Assets
    authorization: Authorization

    def close(self) -> None:
        self.state.close()


def open_core(
    config: Config,
    ledger: Ledger,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    principal: Principal | None = None,
    drafts: bool = False,
) -> Core:
    """Open the stores of a project.

    principal  who opens it; None = the user of this machine
    drafts     edits that are only looked at are not recorded
    """
    folder = config.root / OWN
    folder.mkdir(mode=0o700, exist_ok=True)
    tighten(folder)
    _freeze()
    clock = clock or SystemClock()
    ids = ids or Ids(clock)
    state = open_state(config.state_address, ledger, clock=clock, schema=config.schema)
    bring_up_to_date(state, lambda text: print(text, file=sys.stderr, flush=True))
    blobs = LocalBlobs(folder / "blobs")
    events = Events(ids, clock)
    principal = principal or Principal(name=login())
    project = CurrentProject(config, state, blobs, events, opened_by=principal, drafts=drafts)
    return Core(
        state=state,
        lake=IcebergLake(config.lake_folder, clock=clock, ids=ids),
        blobs=blobs,
        clock=clock,
        ids=ids,
        events=events,
        versions=Versions(state),
        project=project,
        assets=Assets(project, state, clock),
        authorization=Authorization(state, events, clock, project, principal),
    )


@functools.cache
def _freeze() -> None:
    """Let full collections pass over what is imported by now: it lives as long as the process.
    Once: a later platform that is closed must be free to go."""
    gc.freeze()
