"""Puts together what runs of a platform are made of."""

from sextant.app.interrupts import Interrupts
from sextant.app.progress import live_runs
from sextant.app.runs import Runs
from sextant.core import Core
from sextant.engine.executors.chosen import Executors
from sextant.engine.executors.process import Printed
from sextant.kernel.kinds import kinds
from sextant.kernel.nouns import WorkOrder
from sextant.kinds.dataset.inbox import Inbox
from sextant.kinds.dataset.personal import PersonalNow
from sextant.project.bundles import Bundles
from sextant.release.publish import Publisher
from sextant.release.releases import Releases
from sextant.stores.live import Piece


def runs_of(core: Core, interrupts: Interrupts, executor: str) -> Runs:
    """Return the runs of a platform. `executor`: the kind that steps run in by default."""
    bundles = Bundles(core.project, core.state, core.blobs)
    released = {
        name: kind.released(core) for name, kind in kinds().items() if kind.released is not None
    }
    releases = Releases(core.state, released, core.clock, core.ids)
    workers = core.project.config.workers
    return Runs(
        core,
        releases=releases,
        publisher=Publisher(core, releases),
        inbox=Inbox(core, interrupts.nudge),
        executors=Executors(
            executor,
            workers=workers,
            unpack=bundles.unpack,
            warm=core.lake.warm,
            printed=_shown(core),
        ),
        bundles=bundles,
        interrupts=interrupts,
        personal=PersonalNow(core),
    )


def _shown(core: Core) -> Printed:
    """Return what shows the output of steps to those who follow their run."""
    live = live_runs(core)

    def show(order: WorkOrder, text: str, first: bool) -> None:
        if order.run:
            piece = Piece(
                step=order.step,
                asset=order.asset.id,
                attempt=order.attempt,
                at=core.clock.now_ns(),
                text=text,
                first=first,
            )
            live.add(order.run, piece)

    return show
