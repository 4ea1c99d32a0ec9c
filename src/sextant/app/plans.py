"""What would run and why, and the tables of a run as they are now: read from the stores for the
planner, which is pure."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from sextant.app.triggers import due
from sextant.core import Core
from sextant.engine import keys
from sextant.engine import plan as planning
from sextant.engine.expect import expected
from sextant.engine.history import History
from sextant.engine.holds import Holds
from sextant.engine.made import arrived
from sextant.engine.plan import Plan, Request, Scene, Unchecked
from sextant.engine.reasons import Declared, causes
from sextant.engine.staged import RunAsset
from sextant.kernel import kinds
from sextant.kernel.limits import DECLARATIONS_READ_MAX
from sextant.kernel.nouns import (
    Asset,
    Manifest,
    Version,
    kind_of,
)
from sextant.kinds.dataset.personal import PersonalColumns
from sextant.ledger.log import entries
from sextant.ledger.projections import (
    AssetDeclared,
    ProjectLoaded,
    stored_run,
)
from sextant.release.records import open_releases

_FAR = 1 << 62
_MANIFESTS_KEPT = 8
DERIVATION = "derivation"  # the trigger of a run that checks nothing and releases nothing
_SPARE_RUNS = 5  # how many runs back one that did not publish still lends what it made


class _Files(msgspec.Struct, frozen=True):
    """Of a manifest, only its files."""

    files: dict[str, str] = {}


class Plans:
    """Plans of one project. Changes nothing.

    personal  says which columns are personal, by what the project declares now
    """

    def __init__(self, core: Core, personal: Callable[[], PersonalColumns]) -> None:
        self.core, self.personal = core, personal
        # many assets were declared by one manifest
        self._files = functools.lru_cache(maxsize=_MANIFESTS_KEPT)(self._files_of)

    def scene(
        self, env: str, manifest: Manifest, overlay: Mapping[str, RunAsset] | None = None
    ) -> Scene:
        """Read what is live, held and known."""
        core = self.core
        live = core.versions.live(env)
        ids = [asset.id for asset in manifest.assets if not asset.is_definition]
        parts = {id_: core.versions.parts(id_, live[id_].version) for id_ in ids if id_ in live}
        for id_, table in (overlay or {}).items():
            parts[id_] = table.parts()
        made: dict[str, dict[tuple[str, str, str], str]] = {}
        for id_ in parts:
            rows = core.state.read("made_of", (id_,))
            if rows:
                made[id_] = {(r[0], r[1], r[2]): r[3] for r in rows}
        held = self.held(env)
        records = {id_: core.versions.get(id_, live[id_].version) for id_ in parts if id_ in live}
        return Scene(
            env=env,
            now=core.clock.now_ns(),
            live=parts,
            records=records,
            pushed={
                id_: {key: keys.pushed_digest(blobs) for key, blobs in mine.items()}
                for id_, mine in arrived(core, manifest).items()
            },
            versions={id_: pointer.version for id_, pointer in live.items()},
            held=held,
            undone_elsewhere=self._undone_elsewhere(env),
            made=made,
            costs=self._costs({**self._newest(i for i in ids if i not in records), **records}),
            due=frozenset(
                due(
                    core,
                    env,
                    manifest,
                    {asset.id for asset in manifest.assets if not asset.follows_inputs},
                    core.clock.now_ns(),
                )
            ),
            rolling={
                move.asset: release.id
                for release in open_releases(core.state)
                if release.state in ("rolling", "paused", "undoing", "stuck")
                for move in release.moves
                if move.env == env
            },
        )

    def _undone_elsewhere(self, env: str) -> dict[tuple[str, str, str, str], tuple[str, ...]]:
        found: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        for other, asset, partition, code, inputs, *_ in self.core.state.read(
            "held_elsewhere", (env,)
        ):
            key = (asset, partition, code, inputs)
            found[key] = (*found.get(key, ()), other)
        return found

    def held(self, env: str) -> Holds:
        return Holds(self.core.state.read("held", (env,)), self.core.state.read("answered", (env,)))

    def spare(self, env: str) -> list[tuple[str, str]]:
        """Return what the newest runs made that ended before they could publish: running again goes
        on from there."""
        found: list[tuple[str, str]] = []
        for row in self.core.state.read("runs", (_FAR, _SPARE_RUNS)):
            is_checked = stored_run(row[3]).trigger != DERIVATION
            if row[1] == env and row[2] in ("cancelled", "failed") and is_checked:
                found += outputs_of(History.open(self.core.state, row[0]))
        return found

    def _newest(self, ids: Iterable[str]) -> dict[str, Version]:
        """Return the newest versions of assets that are not live here: what they cost elsewhere."""
        found = {id_: self.core.state.read("versions", (id_, _FAR, 1)) for id_ in ids}
        return {
            id_: msgspec.json.decode(rows[0][1], type=Version)
            for id_, rows in found.items()
            if rows
        }

    def _costs(self, records: Mapping[str, Version]) -> dict[str, tuple[float, float]]:
        out = {}
        for id_, version in records.items():
            count = version.meta.get("made", 0)
            whole = len(self.core.versions.parts(id_, version.digest)) or 1
            if count:
                out[id_] = (version.meta.get("wall_s", 0.0) / count, version.size_bytes / whole)
        return out

    def plan(self, env: str, request: Request) -> Plan:
        """Return what would run and why. Changes nothing."""
        manifest = self.core.project.manifest(env)
        return planning.plan(manifest, self.scene(env, manifest), request)

    def checked_plan(self, env: str, request: Request, manifest: Manifest) -> Plan:
        """Return what would run and why, for a person: with what changed, what will be reused,
        the columns that could not be looked up and those that are personal by what they are made
        of. ProjectError lists columns that the project names and that are not there.

        manifest  what is in force in the environment, or is to be
        """
        scene = self.scene(env, manifest)
        plan = planning.plan(manifest, scene, request)
        unchecked = self.check_columns(manifest, scene, plan, planning.select(manifest, request))
        return msgspec.structs.replace(
            expected(plan, manifest, scene, self._kept),
            causes=causes(plan, manifest, scene, self._declared),
            unchecked=unchecked,
            personal=self.personal().undeclared(),
        )

    def with_causes(self, plan: Plan, manifest: Manifest, scene: Scene) -> Plan:
        """Return a plan that is to run, with what changed where its reasons say that something
        did."""
        return msgspec.structs.replace(plan, causes=causes(plan, manifest, scene, self._declared))

    def with_costs(
        self, env: str, manifest: Manifest, plan: Plan, overlay: Mapping[str, RunAsset]
    ) -> Plan:
        """Return a plan with the items marked that will be reused, and what the others cost.
        `overlay`: tables as they are laid over what is live before it runs."""
        return expected(plan, manifest, self.scene(env, manifest, overlay), self._kept)

    def _kept(self, asset: str, code: str) -> dict[tuple[str, str], str]:
        """Return (partition, inputs) -> content of what kept versions have that this code made."""
        return {(r[0], r[1]): r[2] for r in self.core.state.read("parts_kept", (asset, code))}

    def _declared(self, asset: str) -> Iterator[Declared]:
        """Yield the declarations of an asset, newest first, with the project's files then."""
        core = self.core
        about = (asset, _FAR, DECLARATIONS_READ_MAX)
        for one in entries(core.state.read, "events_of_subject", about):
            if one.envelope.type == "asset.declared" and not one.is_erased:
                loaded = entries(core.state.read, "event_by_id", (one.envelope.cause,))
                blob = loaded[0].read(ProjectLoaded).manifest if loaded else ""
                yield Declared(one.read(AssetDeclared).asset, self._files(blob))

    def _files_of(self, blob: str) -> dict[str, str]:
        """Return the files of a manifest: path -> digest; none where it is gone."""
        if not self.core.blobs.has(blob):
            return {}
        return msgspec.json.decode(self.core.blobs.get(blob), type=_Files).files

    def check_columns(
        self, manifest: Manifest, scene: Scene, plan: Plan, assets: Collection[str]
    ) -> Unchecked:
        """Refuse what cannot succeed, by what the kinds of these assets know. ProjectError."""
        found: Unchecked = {}
        for kind in sorted({kind_of(id_) for id_ in assets}):
            known = kinds.kinds().get(kind)
            if known is None or known.made is None:  # what is declared, and made by nothing
                continue
            found |= kinds.made(kind).check_plan(self.core, manifest, scene, plan, assets)
        return found

    def tables(
        self, env: str, assets: Mapping[str, Asset], plan: Plan, overlay: Mapping[str, RunAsset]
    ) -> dict[str, RunAsset]:
        needed = {step.asset for step in plan.steps} | set(overlay)
        for id_ in list(needed):
            asset = assets[id_]
            needed |= {i.asset for i in asset.build.inputs} if asset.build else set()
            needed |= {
                str(check.params["to"]).rpartition(".")[0]
                for check in asset.checks
                if "to" in check.params
            }
        return {
            id_: overlay.get(id_) or self.table(env, assets[id_])
            for id_ in sorted(needed)
            if id_ in assets
        }

    def table(self, env: str, asset: Asset) -> RunAsset:
        core = self.core
        digest = core.versions.live_version(env, asset.id)
        files = kinds.made(asset.kind).bodies(core).files
        if not digest:
            return RunAsset(asset.id, "", "", {}, (), files)
        version = core.versions.get(asset.id, digest)
        return RunAsset(
            asset.id,
            digest,
            version.locator,
            core.versions.parts(asset.id, digest),
            version.schema,
            files,
        )


def outputs_of(history: History) -> list[tuple[str, str]]:
    """Return (asset, output) of every attempt that ended well."""
    return [
        (record.asset, record.output)
        for record in history.records
        if record.kind == "end" and record.ok and record.output
    ]


def event_of(core: Core, subject: str) -> str:
    """Return the newest event about something; "" when there is none."""
    rows = core.state.read("event_newest_of", (subject,))
    return str(rows[0][0]) if rows else ""
