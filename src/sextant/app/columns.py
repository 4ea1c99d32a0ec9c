"""The columns of the graph: what a column is made of and what stands on it, over any number of
assets. Read from the texts of queries when somebody asks; nothing is stored.

Values are followed from asset to asset. What decides which rows an asset has is said beside it and
not followed: else everything would stand on everything. A Python function is not looked into: it
stands on its inputs as a whole.
"""

import difflib
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sextant.core import Core
from sextant.engine.plan import order
from sextant.kernel.answers import ColumnAsset, ColumnsSeen
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import COLUMN_EDGES_MAX, COLUMNS_SHOWN_MAX
from sextant.kernel.nouns import Asset, values_by_definition
from sextant.kinds.dataset.flows import Flow, flow
from sextant.kinds.dataset.personal_rule import ANY
from sextant.kinds.dataset.spec import table_spec

_WAYS = ("both", "up", "down")
_NOTES = {
    "code": "by code: which columns of its inputs a function reads is not known",
    "pushed": "rows that others push",
    "unread": "its query is not understood",
    "": "nothing makes it here",
}
_NOT_KEPT = "its query was not kept: the project was recorded by an older Sextant"


class _At(NamedTuple):
    """A column of an asset; "" = the asset as a whole."""

    asset: str
    column: str


class _Edge(NamedTuple):
    source: _At
    target: _At
    kind: str


def columns(
    core: Core, env: str, name: str, column: str = "", *, way: str = "both", far: int = 0
) -> ColumnsSeen:
    """Return what a column is made of, and what stands on it, in an environment.

    name    of an asset, or with a column as `orders.amount`
    column  "" = every column
    way     both, up or down
    far     at most so many assets away; 0 = however far, of an asset as a whole one step
    Raises  NotFound with near names; UsageError for an asset that has no columns
    """
    if way not in _WAYS:
        raise UsageError(
            "SX-PLAN-012",
            f"a way must be one of {', '.join(_WAYS)}, not `{way}`",
            hint="up: what it is made of; down: what stands on it",
        )
    if far < 0:
        raise UsageError(
            "SX-PLAN-013", f"far must be 0 or more, not {far}", hint="0 is however far"
        )
    asset, column = _asked(core, env, name, column)
    known = _Columns(core, env)
    id_ = known.values.get(asset.id, asset.id)
    names = known.columns(id_)
    if names is None and known.how(id_) == "":
        raise UsageError(
            "SX-PLAN-014",
            f"`{id_}` has no columns",
            hint="columns are of datasets; the values of a KPI are the dataset `kpi_NAME`",
        )
    found = _column(id_, column, names or ())
    walk = _Walk(known)
    far = far or (0 if found else 1)
    starts = [_At(id_, one) for one, _ in names or (("", ""),)]
    if found:
        starts = [_At(id_, found)]
    if way != "down":
        walk.up(starts, far)
    if way != "up":
        walk.down(starts, far)
    return {
        "env": env,
        "asset": id_,
        "column": found,
        "columns": dict(names or ()),
        "assets": walk.assets(order(core.project.manifest(env)), starts),
        "edges": [
            {
                "source": edge.source.asset,
                "source_column": edge.source.column,
                "target": edge.target.asset,
                "target_column": edge.target.column,
                "kind": edge.kind,
            }
            for edge in walk.edges
        ],
        "cut": walk.cut,
    }


def _asked(core: Core, env: str, name: str, column: str) -> tuple[Asset, str]:
    """Return the asset and the column of `orders`, or of `orders.amount`: the name of an asset may
    have dots, too."""
    find = core.assets.find
    try:
        return find(name, env), column
    except NotFound:
        if column:
            raise
        parts = name.split(".")
        for n in range(len(parts) - 1, 0, -1):
            try:
                return find(".".join(parts[:n]), env), ".".join(parts[n:])
            except NotFound:
                continue
        if len(parts) == 1:
            raise
        return find(parts[0], env), ""  # raises, with names that are near


def _column(asset: str, column: str, known: Iterable[tuple[str, str]]) -> str:
    """Return a column as the asset writes it. NotFound."""
    names = [name for name, _ in known]
    if not column or column in names:
        return column
    folded = {name.lower(): name for name in names}
    if column.lower() in folded:
        return folded[column.lower()]
    near = difflib.get_close_matches(column.lower(), folded, n=3)
    raise NotFound(
        "SX-PLAN-015",
        f"`{asset}` has no column `{column}`",
        hint=f"did you mean {' or '.join(f'`{folded[one]}`' for one in near)}?"
        if near
        else f"it has {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        if names
        else "its columns are known when it has been made",
    )


class _Columns:
    """The columns of the assets of an environment, and what they are made of: each when it is first
    asked for."""

    def __init__(self, core: Core, env: str) -> None:
        self._core = core
        manifest = core.project.manifest(env)
        self.by_id = {asset.id: asset for asset in manifest.assets}
        self.values = values_by_definition(manifest.assets)
        self.readers: dict[str, list[str]] = {}
        for asset in manifest.assets:
            for id_ in self.inputs(asset.id):
                self.readers.setdefault(id_, []).append(asset.id)
        self._queries = manifest.queries
        self._live = core.versions.live(env)
        self._columns: dict[str, tuple[tuple[str, str], ...] | None] = {}
        self._flows: dict[str, Flow | None] = {}
        self._uses: dict[str, dict[_At, list[_At]]] = {}

    def inputs(self, id_: str) -> tuple[str, ...]:
        asset = self.by_id.get(id_)
        build = asset.build if asset is not None else None
        return tuple(dict.fromkeys(one.asset for one in build.inputs)) if build else ()

    def how(self, id_: str) -> str:
        """Return what is known of where an asset's columns come from: see `ColumnAsset`."""
        asset = self.by_id.get(id_)
        if asset is None or asset.build is None:
            return ""
        if asset.is_pushed:
            return "pushed"
        if asset.build.code.language != "sql":
            return "code"
        return "query" if self.flow(id_) is not None else "unread"

    def note(self, id_: str) -> str:
        how = self.how(id_)
        if how == "unread" and id_ not in self._queries:
            return _NOT_KEPT
        return _NOTES.get(how, "")

    def columns(self, id_: str) -> tuple[tuple[str, str], ...] | None:
        """Return (name, type) of an asset's columns: of its live version, else those that it
        declares or its query names. None where they are not known."""
        stack = [id_]
        while stack:  # a long chain of queries that were never run is deeper than calls may be
            top = stack[-1]
            missing = [one for one in self._needed(top) if one not in self._columns]
            if top in self._columns or not missing:
                stack.pop()
                if top not in self._columns:
                    self._columns[top] = self._found(top)
            else:
                stack += missing
        return self._columns[id_]

    def _needed(self, id_: str) -> tuple[str, ...]:
        is_known = id_ in self._live or id_ not in self._queries
        return () if is_known else self.inputs(id_)

    def _found(self, id_: str) -> tuple[tuple[str, str], ...] | None:
        if id_ in self._live:
            return self._core.versions.get(id_, self._live[id_].version).schema or None
        asset = self.by_id.get(id_)
        declared = table_spec(asset).columns if asset is not None else ()
        made = self.flow(id_) if id_ in self._queries else None
        if made is None:
            return declared or None
        names = {name.lower() for name, _ in declared}
        return (*declared, *((name, "") for name in made.names() if name not in names)) or None

    def flow(self, id_: str) -> Flow | None:
        """Return an asset's query with the columns of its inputs; None where it has none that is
        understood."""
        if id_ not in self._flows:
            asset, text = self.by_id.get(id_), self._queries.get(id_)
            found = None
            if asset is not None and asset.build is not None and text is not None:
                names = {one.name: one.asset for one in asset.build.inputs}
                known = {one: self.columns(one) for one in self.inputs(id_)}
                found = flow(
                    text,
                    names,
                    {one: [name for name, _ in has] for one, has in known.items() if has},
                )
            self._flows[id_] = found
        return self._flows[id_]

    def made_of(self, at: _At) -> list[_At]:
        """Return what flows into the value of a column."""
        made = self.flow(at.asset) if at.column else None
        sources = made.made_of(at.column) if made is not None else ()
        return [_whole(*one) for one in sources or ()]

    def decided_by(self, id_: str) -> list[_At]:
        """Return what decides which rows an asset has."""
        made = self.flow(id_)
        return [_whole(*one) for one in made.decided_by()] if made is not None else []

    def used_in(self, id_: str) -> dict[_At, list[_At]]:
        """Return each column that a query reads -> the columns that it flows into, and the asset
        as a whole where it decides which rows there are."""
        if id_ not in self._uses:
            uses: dict[_At, list[_At]] = {}
            for name, _ in self.columns(id_) or ():
                for source in self.made_of(_At(id_, name)):
                    uses.setdefault(source, []).append(_At(id_, name))
            for source in self.decided_by(id_):
                uses.setdefault(source, []).append(_At(id_, ""))
            self._uses[id_] = uses
        return self._uses[id_]


def _whole(asset: str, column: str) -> _At:
    """Return a source of a query: any column of an input is the asset as a whole."""
    return _At(asset, "" if column == ANY else column)


class _Walk:
    """Follows columns from asset to asset, the nearest first, until the limits."""

    def __init__(self, known: _Columns) -> None:
        self._known = known
        self._seen: dict[_At, None] = {}
        self._edges: dict[_Edge, None] = {}
        self.cut = ""

    @property
    def edges(self) -> list[_Edge]:
        return list(self._edges)

    def up(self, starts: list[_At], far: int) -> None:
        told: set[str] = set()

        def above(at: _At) -> Iterable[_Edge]:
            known = self._known
            for source in known.made_of(at):
                yield _Edge(source, at, "value")
            if at.asset in told:
                return
            told.add(at.asset)
            for source in known.decided_by(at.asset):
                yield _Edge(source, _At(at.asset, ""), "rows")
            if known.how(at.asset) in ("code", "unread"):
                for id_ in known.inputs(at.asset):
                    yield _Edge(_At(id_, ""), _At(at.asset, ""), "whole")

        self._walk(starts, far, above, lambda edge: edge.source)

    def down(self, starts: list[_At], far: int) -> None:
        def below(at: _At) -> Iterable[_Edge]:
            known = self._known
            for reader in known.readers.get(at.asset, ()):
                if known.flow(reader) is None:
                    yield _Edge(at, _At(reader, ""), "whole")
                    continue
                uses = known.used_in(reader)
                for target in (*uses.get(at, ()), *uses.get(_At(at.asset, ""), ())):
                    yield _Edge(at, target, "value" if target.column else "rows")

        self._walk(starts, far, below, lambda edge: edge.target)

    def _walk(
        self,
        starts: list[_At],
        far: int,
        step: Callable[[_At], Iterable[_Edge]],
        end: Callable[[_Edge], _At],
    ) -> None:
        queue = deque((at, 0) for at in starts)
        queued = set(starts)
        self._seen |= dict.fromkeys(starts)
        while queue:
            at, distance = queue.popleft()
            if far and distance >= far:
                continue
            for edge in step(at):
                if self._is_full():
                    return
                following = end(edge)
                self._edges[edge] = None
                self._seen |= {edge.source: None, edge.target: None}
                if edge.kind == "value" and following.column and following not in queued:
                    queued.add(following)
                    queue.append((following, distance + 1))

    def _is_full(self) -> bool:
        if len(self._seen) >= COLUMNS_SHOWN_MAX or len(self._edges) >= COLUMN_EDGES_MAX:
            self.cut = (
                f"what is further away is left out: at most {COLUMNS_SHOWN_MAX:,} columns and "
                f"{COLUMN_EDGES_MAX:,} edges are shown"
            )
        return bool(self.cut)

    def assets(self, ordered: Iterable[Asset], starts: list[_At]) -> list[ColumnAsset]:
        """Return the assets on the way, upstream first, with their columns on the way."""
        known = self._known
        on_way: dict[str, set[str]] = {}
        for at in (*self._seen, *starts):
            on_way.setdefault(at.asset, set()).add(at.column)
        place = {asset.id: n for n, asset in enumerate(ordered)}
        return [
            {
                "id": id_,
                "kind": id_.partition(":")[0],
                "how": known.how(id_),
                "note": known.note(id_),
                "defined_by": asset.defined_by if (asset := known.by_id.get(id_)) else "",
                "columns": {
                    name: type_ for name, type_ in known.columns(id_) or () if name in on_way[id_]
                },
            }
            for id_ in sorted(on_way, key=lambda id_: (place.get(id_, -1), id_))
        ]
