"""What changed, where a plan says that code or inputs changed: the file, the setting, the input.
For people who read a plan; found by comparing the declaration that made what is live with today's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from sextant.engine import keys
from sextant.engine.plan import Plan, PlannedStep, Scene
from sextant.kernel.kinds import made
from sextant.kernel.limits import STEP_CAUSES_MAX
from sextant.kernel.nouns import Asset, Build, Manifest


class Declared(NamedTuple):
    """An asset as it was declared once, and the project's files then: path -> digest."""

    asset: Asset
    files: Mapping[str, str]


# the declarations of an asset, newest first
History = Callable[[str], Iterable[Declared]]
_CODE = (".py", ".pyi", ".sql")
# of a planner's reasons, what is said of a step that ran
_WORDS = {"missing": "never made", "forced": "asked for"}


def causes(
    plan: Plan, manifest: Manifest, scene: Scene, history: History
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return asset -> reason -> what changed, for what the plan makes and for what it only calls
    stale. Nothing is said of a change whose earlier state is not known."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for step in plan.steps:
        for item in step.items:
            of_asset = reasons.setdefault(step.asset, {})
            of_asset.setdefault(item.reason, []).append(item.partition)
    for id_, stale in plan.stale.items():
        for partition, reason in stale.items():
            reasons.setdefault(id_, {}).setdefault(reason, []).append(partition)
    assets = {asset.id: asset for asset in manifest.assets}
    running = {step.asset for step in plan.steps}
    out: dict[str, dict[str, tuple[str, ...]]] = {}
    for id_, by_reason in reasons.items():
        for reason, partitions in by_reason.items():
            words = _words(assets[id_], reason, partitions, manifest, scene, running, history)
            if words:
                out.setdefault(id_, {})[reason] = words
    return out


def step_reasons(step: PlannedStep, causes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return why a step runs, in the words of a plan: `code changed (ops.py)`. `causes`: of its
    asset, reason -> what changed."""
    count: dict[str, int] = {}
    for item in step.items:
        count[item.reason] = count.get(item.reason, 0) + 1
    return tuple(
        _WORDS.get(reason, reason)
        + (f" ({_listed(causes[reason])})" if causes.get(reason) else "")
        + (f", {n} of {len(step.items)} partitions" if n < len(step.items) else "")
        for reason, n in count.items()
    )


def _listed(causes: tuple[str, ...]) -> str:
    more = len(causes) - STEP_CAUSES_MAX
    return ", ".join(causes[:STEP_CAUSES_MAX]) + (f" and {more} more" if more > 0 else "")


def _words(
    asset: Asset,
    reason: str,
    partitions: Collection[str],
    manifest: Manifest,
    scene: Scene,
    running: Collection[str],
    history: History,
) -> tuple[str, ...]:
    build = asset.build
    if build is None:
        return ()
    if reason == "input runs":
        return tuple(dict.fromkeys(i.asset for i in build.inputs if i.asset in running))
    if reason not in ("code changed", "inputs changed"):
        return ()
    live = scene.live.get(asset.id, {})
    now = keys.code_digest(asset)
    old = {live[key].code for key in partitions if key in live} - {now}
    code = _changed_code(asset, old, manifest.files, history) if old else ()
    return code if reason == "code changed" else (*_changed_inputs(asset, scene), *code)


def _changed_inputs(asset: Asset, scene: Scene) -> tuple[str, ...]:
    """Return the inputs that have other versions than those which the live version was made of."""
    record = scene.records.get(asset.id)
    if record is None or asset.build is None:
        return ()
    if asset.build.code.language == "stream":
        return ("rows were pushed",)
    return tuple(
        dict.fromkeys(
            i.asset
            for i in asset.build.inputs
            if scene.versions.get(i.asset) != record.inputs.get(i.asset)
        )
    )


def _changed_code(
    asset: Asset, codes: set[str], files: Mapping[str, str], history: History
) -> tuple[str, ...]:
    """Return what differs between the declarations with these code digests and today's."""
    out: list[str] = []
    left = set(codes)
    for one in history(asset.id):
        code = keys.code_digest(one.asset)
        if code in left:
            left.discard(code)
            out += differences(one, Declared(asset, files))
        if not left:
            break
    return tuple(dict.fromkeys(out))


def differences(old: Declared, new: Declared) -> list[str]:
    """Return what differs between two declarations of an asset, of what decides its content: files,
    settings, inputs, packages, its shape."""
    before, after = old.asset.build, new.asset.build
    if before is None or after is None:
        return []
    out = []
    if (
        before.code.fingerprint != after.code.fingerprint
        or before.code.language != after.code.language
    ):
        out += _changed_files(old, new, after)
    out += _named(before.code.files, after.code.files)
    out += _distributions(before.code.modules, after.code.modules)
    out += [f"parameter `{name}`" for name in _named(before.params, after.params)]
    bound = [{i.name: (i.asset, i.window) for i in build.inputs} for build in (before, after)]
    out += [f"input `{name}`" for name in _named(*bound)]
    if old.asset.kind == new.asset.kind:
        out += made(new.asset.kind).changes(old.asset, new.asset)
    return out


def _changed_files(old: Declared, new: Declared, build: Build) -> list[str]:
    """Return the file of the function or query, or where that is as it was, the changed files
    that it may reach."""
    if new.asset.defined_by:
        return ["the definition"]
    changed = [path for path in _named(old.files, new.files) if path.endswith(_CODE)]
    mine = build.code.file
    return [mine] if mine in changed or not changed else changed


def _distributions(before: Iterable[str], after: Iterable[str]) -> list[str]:
    versions = [
        dict(part.split("==", 1) for one in found for part in one.split() if "==" in part)
        for found in (before, after)
    ]
    return [
        f"{name} {versions[0].get(name, 'new')} -> {versions[1].get(name, 'not used')}"
        for name in _named(*versions)
    ]


def _named(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the names under which two mappings differ."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
