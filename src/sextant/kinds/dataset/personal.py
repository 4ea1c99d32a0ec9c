"""The personal columns of versions: `personal_rule.py` asked with the columns that versions have.

Computed when something is shown, never stored: versions that were made before a column was declared
personal, or before Sextant followed columns, are covered. One place for all that shows rows.
"""

import threading
from collections.abc import Callable, Mapping

import msgspec

from sextant.core import Core
from sextant.engine.staged import RunAsset
from sextant.kernel.errors import NotFound, ProjectError
from sextant.kernel.limits import PERSONAL_CACHE_MAX
from sextant.kernel.nouns import Asset, Manifest, Version
from sextant.kernel.ports import State
from sextant.kinds.dataset.personal_rule import (
    UNKNOWN,
    Known,
    guarded_assets,
    known,
    personal_columns,
    reached_assets,
)
from sextant.kinds.dataset.spec import table_spec
from sextant.ledger.versions import Versions

_FAR = 1 << 62


class PersonalColumns:
    """Which columns of versions are personal, by what some manifests declare: those that one of
    them says are. Any thread."""

    def __init__(self, state: State, versions: Versions, *manifests: Manifest) -> None:
        self._state, self._versions = state, versions
        manifest, *others = manifests
        self._others = [PersonalColumns(state, versions, one) for one in others]
        # retired assets too: their versions can be read for a while
        declared = [
            msgspec.json.decode(row[0], type=Asset) for row in state.read("assets_declared")
        ]
        self._assets = {asset.id: asset for asset in (*declared, *manifest.assets)}
        self._present = {asset.id for asset in manifest.assets}
        self._reached = reached_assets(self._assets)
        self.guarded: frozenset[str] = guarded_assets(self._assets).union(
            *(one.guarded for one in self._others)
        )
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], Known] = {}
        self._names: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, version: Version) -> tuple[str, ...]:
        """Return the personal columns of a version, in the order of its columns."""
        personal = self._known(version, ()).personal.union(
            *(one._known(version, ()).personal for one in self._others)
        )
        return tuple(name for name, _ in version.schema if name.lower() in personal)

    def of_digest(self, asset: str, digest: str) -> tuple[str, ...]:
        """Return the personal columns of a version by its digest. NotFound."""
        if not self._reached and not self._others:
            return ()
        key = (asset, digest)
        with self._lock:
            names = self._names.get(key)
        if names is None:
            names = self.of(self._versions.get(asset, digest))
            with self._lock:
                if len(self._names) >= PERSONAL_CACHE_MAX:
                    self._names.clear()
                self._names[key] = names
        return names

    def undeclared(self) -> dict[str, tuple[str, ...]]:
        """Return asset -> columns of its newest version that are personal and that it does not
        declare so, for the assets of the project that have some."""
        found = {}
        for id_ in sorted(self._reached & self._present):
            version = self._latest(id_)
            declared = {name.lower() for name in table_spec(self._assets[id_]).personal}
            names = self.of(version) if version is not None else ()
            if names := tuple(name for name in names if name.lower() not in declared):
                found[id_] = names
        return found

    def _known(self, version: Version, above: tuple[str, ...]) -> Known:
        columns = [name for name, _ in version.schema]
        asset = self._assets.get(version.asset)
        if not self._reached:
            return known(columns, ())
        if asset is None:  # its declaration was erased: nobody says that it is clean
            return known(columns, columns)
        key = (version.asset, version.digest)
        with self._lock:
            found = self._found.get(key)
        if found is None:
            inputs = {
                id_: self._input(id_, version, (*above, version.asset))
                for id_ in self._inputs(asset, version)
            }
            found = known(columns, personal_columns(asset, columns, inputs))
            with self._lock:
                if len(self._found) >= PERSONAL_CACHE_MAX:
                    self._found.clear()
                self._found[key] = found
        return found

    @staticmethod
    def _inputs(asset: Asset, version: Version) -> set[str]:
        """Return the datasets that today's code reads, and those that the version was made from."""
        read = {one.asset for one in asset.build.inputs} if asset.build else set()
        return read | {id_ for id_ in version.inputs if id_.startswith("dataset:")}

    def _input(self, id_: str, version: Version, above: tuple[str, ...]) -> Known:
        if id_ in above:  # assets that read each other, at different times
            return UNKNOWN
        digest = version.inputs.get(id_, "")
        try:
            found = self._versions.get(id_, digest) if digest else self._latest(id_)
        except NotFound:
            return UNKNOWN
        return self._known(found, above) if found is not None else UNKNOWN

    def _latest(self, id_: str) -> Version | None:
        rows = self._state.read("versions", (id_, _FAR, 1))
        return msgspec.json.decode(rows[0][1], type=Version) if rows else None


def personal_of_run(
    assets: Mapping[str, Asset], run: Mapping[str, RunAsset]
) -> Callable[[str], tuple[str, ...]]:
    """Return what says which columns of an asset are personal, as the run sees its assets
    now."""
    reached = reached_assets(assets)

    def of(id_: str) -> Known:
        asset, table = assets.get(id_), run.get(id_)
        if asset is None or table is None or not table.schema:
            return UNKNOWN if id_ in reached or asset is None else known((), ())
        columns = [name for name, _ in table.schema]
        if id_ not in reached:
            return known(columns, ())
        read = [one.asset for one in asset.build.inputs] if asset.build else []
        return known(columns, personal_columns(asset, columns, {one: of(one) for one in read}))

    def names(id_: str) -> tuple[str, ...]:
        if id_ not in reached or id_ not in run:
            return ()
        personal = of(id_).personal
        return tuple(name for name, _ in run[id_].schema if name.lower() in personal)

    return names


class PersonalNow:
    """Gives the personal columns by what is in force anywhere, made anew when that changes: who
    edits the folder does not uncover what was released elsewhere."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._made: tuple[tuple[str, ...], PersonalColumns] | None = None  # of these versions

    def __call__(self) -> PersonalColumns:
        """Before a project could ever be loaded, by what was recorded."""
        core = self._core
        with self._lock:
            try:
                found = core.project.in_force()
            except ProjectError:
                return PersonalColumns(core.state, core.versions, Manifest(project="", tz="UTC"))
            if self._made is None or self._made[0] != tuple(found):
                made = PersonalColumns(core.state, core.versions, *found.values())
                self._made = (tuple(found), made)
            return self._made[1]
