"""How datasets are made: by partitions, as tables in the lake."""

from collections.abc import Callable, Collection, Mapping

import msgspec

from sextant.core import Core
from sextant.engine.bodies import Bodies
from sextant.engine.made import Arrived, Made
from sextant.engine.plan import Plan, Scene, Unchecked
from sextant.engine.staged import RunAsset, Schema, Staged
from sextant.kernel.errors import BadData, joined
from sextant.kernel.limits import COLUMN_MISTAKES_SHOWN_MAX
from sextant.kernel.nouns import SYSTEM, Asset, FileRef, InputRef, Json, Manifest, spec_of
from sextant.kernel.partitions import Partitioning
from sextant.kernel.ports import Lake, TableCommit
from sextant.kinds.dataset import columns
from sextant.kinds.dataset.inbox import Inbox
from sextant.kinds.dataset.personal import personal_of_run
from sextant.kinds.dataset.spec import Rows, Written, table_spec
from sextant.stores import files as disk

_MERGED_FILES = 48  # small files of a table before they are merged after a publish


class MadeDatasets(Made):
    """Partitions, each with its rows; bodies are states of Iceberg tables."""

    def partitioning(self, asset: Asset) -> Partitioning:
        return table_spec(asset).partitioning

    def shape(self, asset: Asset) -> Json:
        table = table_spec(asset)
        columns = [list(map(list, table.columns))] if table.columns else []
        slices = table.partitioning
        return [list(table.key), table.time, slices.grain, slices.tz, *columns]

    def changes(self, before: Asset, after: Asset) -> list[str]:
        one, other = table_spec(before), table_spec(after)
        pairs = (
            ("key", one.key, other.key),
            ("time", one.time, other.time),
            ("partition", one.partitioning, other.partitioning),
            ("columns", one.columns, other.columns),
        )
        return [f"`{word}`" for word, was, now in pairs if was != now]

    def bodies(self, core: Core) -> Bodies:
        return TableBodies(core.lake)

    def order(self, core: Core, asset: Asset, run: RunAsset, order: str) -> msgspec.Raw:
        staging = f"{table_folder(asset.id)}/data/{order}"
        lake = str(core.lake.root)
        return spec_of(
            Written(
                lake=lake,
                staging=staging,
                expect_schema=run.schema,
                for_release=run.for_release,
            )
        )

    def reader(
        self, core: Core, assets: Mapping[str, Asset], run: Mapping[str, RunAsset]
    ) -> Callable[[InputRef], InputRef]:
        personal, lake = personal_of_run(assets, run), str(core.lake.root)

        def read(ref: InputRef) -> InputRef:
            rows = Rows(
                lake=lake,
                schema=run[ref.asset].schema,
                personal=personal(ref.asset),
                key=table_spec(assets[ref.asset]).key,
            )
            return msgspec.structs.replace(ref, spec=spec_of(rows))

        return read

    def take_in(self, core: Core, manifest: Manifest, only: Collection[str]) -> None:
        Inbox(core).fold(manifest, SYSTEM, only)

    def arrived(self, core: Core, manifest: Manifest) -> Arrived:
        return Inbox(core).parts(manifest)

    def check_plan(
        self,
        core: Core,
        manifest: Manifest,
        scene: Scene,
        plan: Plan,
        assets: Collection[str],
    ) -> Unchecked:
        """Refuse a plan that names columns which are not there."""
        found = columns.check(manifest, scene, plan, assets, core.versions.get)
        if found.mistakes:
            raise joined(
                "SX-PLAN-006",
                f"what is planned names {len(found.mistakes)} columns that are not there",
                found.mistakes,
                shown=COLUMN_MISTAKES_SHOWN_MAX,
            )
        return found.unchecked


class TableBodies:
    """Bodies that are states of tables in the lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def files(self, locator: str) -> tuple[FileRef, ...]:
        return self._lake.files(locator)

    def keep(self, file: FileRef) -> bool:
        from sextant.stores.lake import profiles

        for path in profiles.beside([file]):
            disk.touch(disk.join(self._lake.root, path))
        return disk.touch(disk.join(self._lake.root, file.path))

    def merge(self, asset: str, locator: str, files: int) -> TableCommit | None:
        """Merge small files: the content, and so the version, stays."""
        if files < _MERGED_FILES:
            return None
        return self._lake.compact(table_folder(asset), locator)

    def confirm(self, run: RunAsset, done: TableCommit) -> None:
        """Compare the files of a new state: those that it takes over may have been changed since
        they were written. Its own were hashed as they were written, and compared as they were
        added."""
        if done.locator:
            fresh = {
                file.path
                for staged in run.staged.values()
                if not staged.origin
                for file in staged.files
            }
            self._lake.confirm(done.locator, of=run.asset, seen=fresh)

    def commit(self, asset: Asset, run: RunAsset) -> TableCommit:
        """Write the table's new state; where nothing of the old one stays and its columns do not
        fit, the table begins anew."""
        try:
            return self._laid_over(asset, run, run.locator)
        except BadData:
            if not run.locator or not set(run.base_parts) <= {*run.staged, *run.removed}:
                raise
            return self._laid_over(asset, run, "")

    def _laid_over(self, asset: Asset, run: RunAsset, locator: str) -> TableCommit:
        """Write a state: that of `locator`, fresh files first, then partitions taken from older
        states."""
        name = table_folder(asset.id)
        grain = table_spec(asset).partitioning.grain
        fresh = {key: staged for key, staged in run.staged.items() if not staged.origin}
        files = _narrowed(fresh)
        gone = {*fresh, *run.removed}
        done: TableCommit | None = None
        if files or (gone and locator):
            done = self._lake.commit(
                name,
                locator,
                add=tuple(files.values()),
                replace=gone,
                arrow_schema=_arrow_schema(run.schema),
                partitioned=grain,
            )
            locator = done.locator
        by_origin: dict[str, list[str]] = {}
        for key, staged in run.staged.items():
            if staged.origin:
                by_origin.setdefault(staged.origin, []).append(key)
        for origin, keys in by_origin.items():
            if locator:
                done = self._lake.restore(name, locator, origin, keys)
            # nothing is live yet: begin with the older state, without what is not wanted of it
            else:
                held = {
                    partition for file in self._lake.files(origin) for partition in file.partitions
                }
                done = self._lake.commit(
                    name,
                    origin,
                    add=(),
                    replace=held - set(keys),
                    arrow_schema=b"",
                    partitioned=grain,
                )
            locator = done.locator
        return done or TableCommit(
            locator=locator, files=self._lake.files(locator) if locator else ()
        )


def _narrowed(staged: Mapping[str, Staged]) -> dict[str, FileRef]:
    """Return the files of partitions, by path, each narrowed to the partitions that it is staged
    for: one file may hold others that came out as they are live already."""
    held: dict[FileRef, list[str]] = {}
    for name, one in staged.items():
        for file in one.files:
            held.setdefault(file, []).append(name)
    return {
        file.path: msgspec.structs.replace(
            file, partitions=tuple(name for name in file.partitions if name in names)
        )
        for file, names in held.items()
    }


def _arrow_schema(schema: Schema) -> bytes:
    """Return a table's columns as an Arrow IPC schema: those of all that was staged, not of what
    came last. A file is rewritten with them where only some of its partitions are taken."""
    from sextant.stores.lake.types import arrow_schema

    data: bytes = arrow_schema(schema).serialize().to_pybytes()
    return data


def table_folder(asset: str) -> str:
    """Return the lake folder of an asset's table: `dataset:flights` -> `dataset.flights`."""
    return asset.replace(":", ".", 1)
