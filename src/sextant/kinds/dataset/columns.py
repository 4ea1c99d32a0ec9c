"""Looks the columns that a project names up in the schemas that are known before anything runs.
Pure, but for old versions' records.

A schema is known of a stream (its declared columns) and of a dataset that is live, unless the plan
makes it again with changed code or of changed columns. What a dataset declares by `columns=` it has
for certain; it may have others.
"""

import difflib
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import NamedTuple

from sextant.engine import keys
from sextant.engine.plan import Plan, Scene, Unchecked
from sextant.kernel.errors import NotFound, ProjectError
from sextant.kernel.nouns import Asset, ColumnRead, Manifest, Version
from sextant.kinds.dataset.spec import table_spec

NOT_MADE = "has not been made yet"
CODE_CHANGED = "is made again with changed code"
OWN_CHANGED = "has not been made with its present code"
INPUTS_CHANGED = "is made again of changed columns"
NOT_FOLLOWED = "is read by SQL that is not understood"


class Checked(NamedTuple):
    """What looking at the columns of a plan found: mistakes, in the order of the files, and what
    could not be looked at."""

    mistakes: tuple[ProjectError, ...]
    unchecked: Unchecked


def check(
    manifest: Manifest,
    scene: Scene,
    plan: Plan,
    assets: Collection[str],
    record: Callable[[str, str], Version],
) -> Checked:
    """Look up the columns that these assets name.

    assets  ids; the values of a KPI stand for the KPI too
    record  (asset, digest) -> record of an earlier version; NotFound
    """
    return _Schemas(manifest, scene, plan, record).check(assets)


class _Columns(NamedTuple):
    """Columns that an asset has; `why` it may have others, "" if it has none."""

    names: tuple[str, ...]
    why: str = ""


class _Schemas:
    def __init__(
        self,
        manifest: Manifest,
        scene: Scene,
        plan: Plan,
        record: Callable[[str, str], Version],
    ) -> None:
        self._manifest = manifest
        self._assets = {asset.id: asset for asset in manifest.assets}
        self._scene = scene
        self._plan = plan
        self._record = record
        self._known: dict[tuple[str, bool], _Columns] = {}
        self._changes: dict[str, str] = {}

    def check(self, assets: Collection[str]) -> Checked:
        mistakes: list[tuple[str, int, ProjectError]] = []
        unchecked: Unchecked = {}
        for read in self._manifest.column_reads:
            values = read.by.replace("kpi:", "dataset:kpi_", 1)
            if read.by not in assets and values not in assets:
                continue
            unknown = self._unknown(read)
            if unknown:
                unchecked.setdefault(read.by, {}).update(unknown)
            elif unknown is None:
                mistakes.append((read.file, read.line, self._mistake(read)))
        mistakes.sort(key=lambda one: one[:2])
        return Checked(tuple(error for _, _, error in mistakes), unchecked)

    def _unknown(self, read: ColumnRead) -> dict[str, str] | None:
        """Return inputs whose columns are not known and might have the column: none when it is
        there. None when it is surely nowhere."""
        if not read.column:
            return dict.fromkeys(read.of, NOT_FOLLOWED)
        unknown: dict[str, str] = {}
        wanted = read.column if read.exact else read.column.lower()
        for id_ in read.of:
            columns = self.columns(id_, own=id_ == read.by)
            names = columns.names if read.exact else [name.lower() for name in columns.names]
            if wanted in names:
                return {}
            if columns.why:
                unknown[id_] = columns.why
        if unknown:
            return unknown
        for id_ in read.scope if read.qualifier else ():  # a struct, and the column its field
            if read.qualifier in (name.lower() for name in self.columns(id_, own=False).names):
                return {}
        return None

    def columns(self, id_: str, *, own: bool) -> _Columns:
        """Return the columns of an asset; `own`: for what its own declaration says of it."""
        if (id_, own) not in self._known:
            self._known[(id_, own)] = self._columns(id_, own=own)
        return self._known[(id_, own)]

    def _columns(self, id_: str, *, own: bool) -> _Columns:
        asset = self._assets.get(id_)
        declared = table_spec(asset).columns if asset is not None else ()
        names = tuple(name for name, _ in declared)
        if asset is not None and asset.is_pushed:
            return _Columns(names)
        live = self._scene.records.get(id_)
        if asset is None or live is None or not self._scene.live.get(id_):
            return _Columns(names, NOT_MADE)
        if own and keys.code_digest(asset) not in self._codes(id_):
            return _Columns(names, OWN_CHANGED)
        why = self._change(asset)
        if why:
            return _Columns(names, why)
        return _Columns(tuple(dict.fromkeys((*names, *(name for name, _ in live.schema)))))

    def _codes(self, id_: str) -> set[str]:
        return {part.code for part in self._scene.live.get(id_, {}).values()}

    @cached_property
    def _planned(self) -> dict[str, set[str]]:
        out: dict[str, set[str]] = {}
        for step in self._plan.steps:
            out.setdefault(step.asset, set()).update(item.code for item in step.items)
        return out

    def _change(self, asset: Asset) -> str:
        """Return why the plan may give an asset other columns, "" if it does not."""
        if asset.id not in self._changes:
            self._changes[asset.id] = ""  # a circle is refused before
            self._changes[asset.id] = self._why_change(asset)
        return self._changes[asset.id]

    def _why_change(self, asset: Asset) -> str:
        codes = self._planned.get(asset.id)
        live = self._scene.records.get(asset.id)
        if codes is None or live is None or asset.build is None:
            return ""
        if not codes <= self._codes(asset.id):
            return CODE_CHANGED
        for bound in asset.build.inputs:
            upstream = self.columns(bound.asset, own=False)
            try:
                read = self._record(bound.asset, live.inputs.get(bound.asset, "")).schema
            except NotFound:
                return INPUTS_CHANGED
            if upstream.why or {name for name, _ in read} != set(upstream.names):
                return INPUTS_CHANGED
        return ""

    # ------------------------------------------------------------ words

    def _mistake(self, read: ColumnRead) -> ProjectError:
        of = [f"`{id_}`" for id_ in read.of]
        which = (
            f"which {of[0]} does not have"
            if len(of) == 1
            else f"which none of {', '.join(of)} has"
            if of
            else "which nothing that it selects from has"
        )
        names = [*read.others]
        for id_ in read.of:
            names += self.columns(id_, own=id_ == read.by).names
        stale = [id_ for id_ in read.of if id_ in self._plan.stale]
        hint = _near(read.column, names)
        if stale:
            hint += (
                f"; the code of `{stale[0]}` has changed since it was made: `sextant backfill "
                f"{stale[0]} --stale`"
            )
        return ProjectError(
            "SX-PLAN-005",
            f"{read.what} reads the column `{read.column}`, {which}",
            hint=hint,
            where=f"{read.file}:{read.line}",
        )


def _near(name: str, names: Iterable[str]) -> str:
    known = sorted(set(names))
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    if close:
        return f"did you mean `{folded[close[0]]}`?"
    shown = ", ".join(f"`{one}`" for one in known[:8])
    return f"it has {shown}{' ...' if len(known) > 8 else ''}" if known else "it has no column"
