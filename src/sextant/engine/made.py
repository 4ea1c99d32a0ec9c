"""How versions of a kind are made: what a kind says of its assets to planner, steps and publishing.

The defaults are those of an asset that is made whole, by one step, and whose body is one blob: a
file, a packed folder, a list of what was applied. In a worker the row `perform.KIND` does the work:
a function from a work order to its result.
"""

from collections.abc import Callable, Collection, Mapping

from msgspec import Raw

from sextant.core import Core
from sextant.engine.bodies import BlobBodies, Bodies
from sextant.engine.plan import Plan, Scene, Unchecked
from sextant.engine.staged import RunAsset
from sextant.kernel import kinds
from sextant.kernel.nouns import NO_SPEC, Asset, InputRef, Json, Manifest
from sextant.kernel.partitions import Partitioning

UNPARTITIONED = Partitioning()
Arrived = dict[str, dict[str, tuple[str, ...]]]  # asset -> partition -> blobs, as they arrived


class Made:
    """What a kind's assets are made like. Pure but for `bodies`."""

    def partitioning(self, asset: Asset) -> Partitioning:  # noqa: ARG002
        """Return how an asset is sliced."""
        return UNPARTITIONED

    def shape(self, asset: Asset) -> Json:  # noqa: ARG002
        """Return what decides the content of an asset besides its code, settings and inputs: where
        that changes, versions are stale."""
        return None

    def changes(self, before: Asset, after: Asset) -> list[str]:  # noqa: ARG002
        """Say in words what differs between the shapes of two declarations."""
        return []

    def bodies(self, core: Core) -> Bodies:
        """Return where the bodies of versions lie."""
        return BlobBodies(core.blobs)

    def order(self, core: Core, asset: Asset, run: RunAsset, order: str) -> Raw:  # noqa: ARG002
        """Return what a work order says to the worker of this kind. `order`: its id."""
        return NO_SPEC

    def reader(
        self,
        core: Core,  # noqa: ARG002
        assets: Mapping[str, Asset],  # noqa: ARG002
        run: Mapping[str, RunAsset],  # noqa: ARG002
    ) -> Callable[[InputRef], InputRef]:
        """Return what completes the reference to an asset of this kind for the step that reads it,
        by what a run sees of its assets."""
        return lambda ref: ref

    def take_in(self, core: Core, manifest: Manifest, only: Collection[str]) -> None:
        """Make what others have sent for these assets ready for planning. What cannot be taken is
        set aside, with a signal."""

    def arrived(self, core: Core, manifest: Manifest) -> Arrived:  # noqa: ARG002
        """Return what others have sent for assets of this kind."""
        return {}

    def check_plan(
        self,
        core: Core,  # noqa: ARG002
        manifest: Manifest,  # noqa: ARG002
        scene: Scene,  # noqa: ARG002
        plan: Plan,  # noqa: ARG002
        assets: Collection[str],  # noqa: ARG002
    ) -> Unchecked:
        """Refuse, before anything runs, a plan that cannot succeed. ProjectError with all reasons.
        Returns asset -> input -> why something could not be looked up."""
        return {}


def take_in(core: Core, manifest: Manifest, only: Collection[str]) -> None:
    """Make what others have sent for these assets ready for planning, of all kinds."""
    for kind in _made_kinds(manifest):
        kinds.made(kind).take_in(core, manifest, only)


def arrived(core: Core, manifest: Manifest) -> Arrived:
    """Return what others have sent, for assets of all kinds."""
    found: Arrived = {}
    for kind in _made_kinds(manifest):
        found |= kinds.made(kind).arrived(core, manifest)
    return found


def _made_kinds(manifest: Manifest) -> list[str]:
    there = {asset.kind for asset in manifest.assets if asset.build is not None}
    return sorted(there & kinds.kinds().keys())
