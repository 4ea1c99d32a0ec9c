"""What people see of datasets: rows and samples, what differs between two versions, the batches
that wait to be published. Reads only."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.core import Core
from sextant.engine import keys
from sextant.formats.values import records
from sextant.kernel.answers import BatchSeen, Page
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound
from sextant.kernel.kinds import NothingShown, Sees
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import Asset, Part, Version
from sextant.kernel.pages import next_page, page_start
from sextant.kernel.partitions import ALL
from sextant.kinds.dataset.checks.finding import MASK
from sextant.kinds.dataset.inbox import Refusal, columns_of
from sextant.kinds.dataset.spec import table_spec
from sextant.ledger.versions import changed
from sextant.release.as_of import version_as_of

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class ShownDatasets(NothingShown):
    """What is said of datasets beside what is said of every asset."""

    def __init__(self, core: Core, see: Sees) -> None:
        self._core, self._see = core, see

    def describe(
        self,
        env: str,  # noqa: ARG002
        asset: Asset,
        version: Version,
        *,
        limit: int,
        partition: str,
    ) -> dict[str, Any]:
        declared, personal = table_spec(asset), self._see.personal_columns(version)
        parts = self._core.versions.parts(asset.id, version.digest)
        wanted = None
        if partition:
            check_partition(asset, version, parts, partition)
            wanted = [partition]
        elif limit and parts and ALL not in parts and limit < version.rows:
            wanted, rows = [], 0
            for key in sorted(parts):
                wanted.append(key)
                rows += parts[key].rows
                if rows >= limit:
                    break
        sample = records(table(self._core, version, wanted).slice(0, limit)) if limit else []
        return {
            "key": list(declared.key),
            "time": declared.time,
            "personal": list(personal),
            "public": list(declared.public),
            "sample": masked(sample, personal),
        }

    def compare(
        self, asset: Asset, before: Version, after: Version, touched: Sequence[str]
    ) -> dict[str, Any]:
        from sextant.stores.lake import diff

        core = self._core
        left, right = (
            table(core, one, [key for key in touched if key in parts])
            for one in (before, after)
            for parts in (core.versions.parts(asset.id, one.digest),)
        )
        found = diff.diff(left, right, table_spec(asset).key)
        personal = {
            *self._see.personal_columns(before),
            *self._see.personal_columns(after),
        }
        return {**msgspec.to_builtins(found), "samples": masked(found.samples, personal)}

    def profile(
        self,
        asset: Asset,
        version: Version,
        before: Version | None,
        span: tuple[str, str] | None,
    ) -> dict[str, Any]:
        from sextant.kinds.dataset.profiled import profile

        for one in (version, before):
            if one is not None:
                check_kept(self._core, one)
        return profile(self._core, self._see, asset, version, before, span)

    def difference(
        self, asset: str, before: Version | None, after: Version | None
    ) -> dict[str, Any]:
        parts = self._core.versions.parts
        differs, gone = changed(
            parts(asset, before.digest if before else ""),
            parts(asset, after.digest if after else ""),
        )
        return {
            "partitions": sorted({*differs, *gone}),
            "rows_before": before.rows if before else 0,
            "rows_after": after.rows if after else 0,
        }


def frame(core: Core, version: Version, partitions: Sequence[str] | None = None) -> "pl.DataFrame":
    """Return the rows of a version as a Polars frame. NotFound when its bytes have expired."""
    import polars as pl

    return pl.DataFrame(pl.from_arrow(table(core, version, partitions)))


def table(core: Core, version: Version, partitions: Sequence[str] | None = None) -> "pa.Table":
    """Return the rows of a version as an Arrow table. NotFound when its bytes have expired."""
    from sextant.stores.lake import frames

    check_kept(core, version)
    files = core.lake.files(version.locator) if version.locator else ()
    declared = core.project.manifest().asset(version.asset)
    found: pa.Table = frames.read(
        core.lake.root,
        files,
        partitions=partitions,
        frame="pyarrow",
        schema=version.schema,
        key=table_spec(declared).key if declared else (),
        of=f"{version.asset}@{version.digest[:12]}",
    )
    return found


def check_kept(core: Core, version: Version) -> None:
    """Raise NotFound for a version whose rows have expired."""
    if core.state.read("version_expired_is", (version.asset, version.digest)):
        raise NotFound(
            "SX-VERSION-007",
            (
                f"the rows of version `{version.digest[:12]}` of `{version.asset}` have "
                "expired; its record stays"
            ),
            hint="keep= of the asset says how long rows are kept",
        )


def check_partition(
    asset: Asset, version: Version, parts: Mapping[str, Part], partition: str
) -> None:
    """Raise UsageError for a text that is no partition of a dataset, NotFound for one that a
    version does not have."""
    keys.partitioning(asset).partition(partition)
    if partition not in parts:
        raise NotFound(
            "SX-VERSION-008",
            f"version `{version.digest[:12]}` of `{asset.id}` has no partition `{partition}`",
            hint=f"it has {min(parts, default='none')} to {max(parts, default='none')}",
        )


def count(core: Core, env: str, name: str, *, as_of: str = "", partition: str = "") -> int:
    """Return the number of rows of a version, or of one of its partitions."""
    asset = core.assets.find(name)
    version = version_as_of(core, env, asset.id, as_of)
    parts = core.versions.parts(asset.id, version.digest)
    if partition:
        return parts[partition].rows if partition in parts else 0
    return sum(part.rows for part in parts.values())


def batches(
    core: Core,
    see: Sees,
    asset: Asset,
    *,
    refused: bool = False,
    limit: int = PAGE_ROWS,
    after: str = "",
) -> Page[BatchSeen]:
    """Return the pushed batches that are not part of a dataset yet: all, or the refused
    ones."""
    columns_of(asset)
    at, last = page_start(after)
    rows = core.state.read("inbox_page", (asset.id, at, at, last, int(refused), limit))
    found: list[BatchSeen] = [
        {
            "batch": batch,
            "state": "refused" if refusal else "waiting",
            "rows": int(count),
            "by": by,
            "taken_at": iso(taken),
            "error": see.text(
                msgspec.json.decode(refusal, type=Refusal).error if refusal else "", asset.id
            ),
        }
        for batch, _, count, by, taken, refusal in rows
    ]
    return Page(found, next_page(rows, limit, lambda row: (row[4], row[1])))


def masked(value: Any, personal: Collection[str]) -> Any:
    """Return rows (in whatever lists and dicts they lie) with the values of personal columns
    hidden."""
    if not personal:
        return value
    if isinstance(value, list):
        return [masked(one, personal) for one in value]
    if isinstance(value, dict):
        return {
            name: MASK if name in personal and one is not None else masked(one, personal)
            for name, one in value.items()
        }
    return value
