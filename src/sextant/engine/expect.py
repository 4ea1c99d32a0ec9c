"""What a planned run will find made already: partitions that a kept version of any environment has
from the same code and inputs. Pure; for people who read a plan - the run itself looks again.
"""

from collections.abc import Callable, Mapping

import msgspec

from sextant.engine import keys
from sextant.engine.plan import InputReader, Item, Plan, Scene, order
from sextant.kernel.nouns import Asset, Manifest, Part

# asset, code -> (partition, inputs) -> digest of the content that is kept
Kept = Callable[[str, str], Mapping[tuple[str, str], str]]
_NEVER = ("forced", "looks back")  # reasons to make a partition whatever is kept


def expected(plan: Plan, manifest: Manifest, scene: Scene, kept: Kept) -> Plan:
    """Return the plan with the items marked that will be reused, and what the others cost.

    An item whose inputs are made in the same run is followed as long as those are reused
    themselves: then their content is known.
    """
    items: dict[str, dict[str, Item]] = {}
    for step in plan.steps:
        items.setdefault(step.asset, {}).update({item.partition: item for item in step.items})
    assets = {asset.id: asset for asset in manifest.assets}
    live: dict[str, Mapping[str, Part]] = dict(scene.live)
    open_: dict[str, dict[str, Item]] = {}  # what will be computed, or nobody knows
    for asset in order(manifest):
        mine = items.get(asset.id)
        if not mine or asset.build is None:
            continue
        now = msgspec.structs.replace(scene, live=live)
        found = _kept_of(asset, mine, assets, now, open_, kept)
        live[asset.id] = {**live.get(asset.id, {}), **found}
        open_[asset.id] = {key: item for key, item in mine.items() if key not in found}
        items[asset.id] = {
            key: msgspec.structs.replace(item, reused=key in found) for key, item in mine.items()
        }
    steps = []
    for step in plan.steps:
        marked = tuple(items[step.asset][item.partition] for item in step.items)
        share = sum(not item.reused for item in marked) / len(marked)
        steps.append(
            msgspec.structs.replace(
                step,
                items=marked,
                seconds=None if step.seconds is None else step.seconds * share,
                size_bytes=None if step.size_bytes is None else step.size_bytes * share,
            )
        )
    return msgspec.structs.replace(plan, steps=tuple(steps))


def _kept_of(
    asset: Asset,
    items: Mapping[str, Item],
    assets: Mapping[str, Asset],
    scene: Scene,
    open_: Mapping[str, Mapping[str, Item]],
    kept: Kept,
) -> dict[str, Part]:
    """Return the partitions among `items` that will be taken from a kept version."""
    build = asset.build
    assert build is not None
    if not build.deterministic:
        return {}
    slices = keys.partitioning(asset)
    reads = [
        InputReader(i, assets.get(i.asset), slices, scene, open_.get(i.asset, {}))
        for i in build.inputs
    ]
    pushed = scene.pushed.get(asset.id, {})
    out: dict[str, Part] = {}
    have = {code: kept(asset.id, code) for code in {item.code for item in items.values()}}
    for key, item in items.items():
        found: list[tuple[str, str, str]] = [("pushed", key, pushed[key])] if key in pushed else []
        states = [read.at(key, found) for read in reads]
        if item.reason in _NEVER or any(state != "here" for state in states):
            continue
        inputs = keys.inputs_digest(found)
        digest = have[item.code].get((key, inputs))
        if digest is not None and (asset.id, key, item.code, inputs) not in scene.held:
            out[key] = Part(partition=key, digest=digest, rows=0, code=item.code, inputs=inputs)
    return out
