"""Finds the declaration, and the files, by which code of a digest ran: in the versions of the
project that are stored."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from sextant.core import Core
from sextant.engine import keys
from sextant.kernel.errors import SextantError
from sextant.kernel.limits import DERIVED_PROJECT_VERSIONS_MAX
from sextant.kernel.nouns import Asset, Manifest
from sextant.project.versions import project_id

_FAR = 1 << 62


class Variant(NamedTuple):
    """An asset as one version of the project declares it."""

    asset: Asset
    manifest: Manifest

    @property
    def inputs(self) -> set[str]:
        """The assets that it reads."""
        return {one.asset for one in self.asset.build.inputs} if self.asset.build else set()


class Variants:
    """Variants of the assets of one project: those in force in an environment first, then the
    newest ones, so that few versions of the project have to be unpacked."""

    def __init__(self, core: Core, env: str) -> None:
        self._core, self._env = core, env
        self._found: dict[tuple[str, str], list[Variant]] = {}
        self._read: list[Manifest] = []
        self._rest = self._manifests()

    def get(self, asset: str, code: str) -> Variant | None:
        """Return the newest variant of an asset with a code; None when no stored version of the
        project has it, with what is installed now."""
        found = self._found.get((asset, code))
        while found is None:
            manifest = next(self._rest, None)
            if manifest is None:
                return None
            self._take(manifest)
            found = self._found.get((asset, code))
        return found[0]

    def together(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Variant]:
        """Return a variant for each asset and code of which `get` has found one, from few versions
        of the project: a worker that has loaded one is not to start again for the next."""
        rest, out = set(wanted), dict[tuple[str, str], Variant]()
        while rest:
            by_bundle: dict[str, dict[tuple[str, str], Variant]] = {
                manifest.bundle: {} for manifest in self._read
            }
            for one in rest:
                for variant in self._found[one]:
                    by_bundle[variant.manifest.bundle].setdefault(one, variant)
            most = max(
                by_bundle.values(), key=len
            )  # of several the one that is in force, or newest
            out |= most
            rest -= most.keys()
        return out

    def any(self, asset: str) -> Asset | None:
        """Return an asset as some version of the project declares it, the newest first."""
        for manifest in self._read:
            if (found := manifest.asset(asset)) is not None:
                return found
        for manifest in self._rest:
            self._take(manifest)
            if (found := manifest.asset(asset)) is not None:
                return found
        return None

    def inputs(self, asset: str, codes: Iterable[str]) -> set[str]:
        """Return what an asset read by any of some codes, as far as they are known."""
        found = (self.get(asset, code) for code in codes)
        return {one for variant in found if variant is not None for one in variant.inputs}

    def _take(self, manifest: Manifest) -> None:
        self._read.append(manifest)
        for asset in manifest.assets:
            if asset.build is not None:
                code = keys.code_digest(asset)
                self._found.setdefault((asset.id, code), []).append(Variant(asset, manifest))

    def _manifests(self) -> Iterator[Manifest]:
        core = self._core
        now = core.project.manifest(self._env)
        yield now
        rows = core.state.read(
            "versions", (project_id(now.project), _FAR, DERIVED_PROJECT_VERSIONS_MAX)
        )
        for digest, _doc, _locator, expired in rows:
            if expired:
                continue
            try:
                manifest = core.project.versions.manifest(now.project, digest)
                core.project.packed(manifest.bundle)
            except SextantError:  # it cannot be loaded with what is installed now
                continue
            yield manifest


def bare(asset: Asset) -> Asset:
    """Return an asset without its checks: what they refuse was live, or would have been."""
    return msgspec.structs.replace(asset, checks=())
