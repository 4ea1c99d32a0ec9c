"""Declared boards to assets."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from sextant.kernel.nouns import Asset, Edge, spec_of
from sextant.kinds.board.declare import DeclaredBoard
from sextant.kinds.board.spec import KIND, Panel, board_spec
from sextant.project.assemble import Assembly, Authored, Draft
from sextant.project.collect import near

_DATABASES = {"data": "dataset", "kpi": "kpi"}
_TABLE = re.compile(r'\b(data|kpi)[`"]?\s*\.\s*[`"]?([a-z][a-z0-9_]*)')
_WORD = re.compile(r"[a-z][a-z0-9_]*")


class AuthoredBoards(Authored):
    """Reads `sx.board`."""

    def draft(self, declared: Any, project: Assembly) -> Draft:  # noqa: ARG002
        one: DeclaredBoard = declared
        return Draft(KIND, one.id, one.name, one.owner, one.place, one)

    def assets(self, draft: Draft, project: Assembly) -> Iterable[Asset]:
        one: DeclaredBoard = draft.body
        yield Asset(
            kind=KIND,
            name=one.name,
            owner=project.owner(draft),
            tier=one.tier,
            description=one.description,
            tags=one.tags,
            spec=spec_of(one.board),
            file=project.collector.relative(one.place.file),
            line=one.place.line,
        )

    def finish(self, project: Assembly) -> None:
        """Give the assets on boards their ids; note those that do not exist."""
        for id_, asset in project.made.items():
            if asset.kind == KIND:
                board = board_spec(asset)
                panels = tuple(_found(one, asset, project) for one in board.panels)
                board = msgspec.structs.replace(board, panels=panels)
                project.made[id_] = msgspec.structs.replace(asset, spec=spec_of(board))

    def weaker(self, before: Asset, after: Asset) -> Iterable[tuple[str, str]]:
        now = board_spec(after).panels
        for panel in board_spec(before).panels:
            if not any(
                (one.ask, one.given) == (panel.ask, panel.given) and {*panel.of} <= {*one.of}
                for one in now
            ):
                yield "panel", f"{panel.title} is gone"

    def names(self, asset: Asset) -> Iterable[str]:
        for one in board_spec(asset).panels:
            if one.ask == "query":
                yield from _tables(one.given["sql"])
            elif "asset" in one.given:
                yield one.given["asset"]

    def edges(self, asset: Asset) -> Iterable[Edge]:
        for one in board_spec(asset).panels:
            for shown in one.of:
                yield Edge(source=shown, target=asset.id, kind="shows")


def _tables(sql: str) -> Iterable[str]:
    """Yield the assets that a question in ClickHouse's SQL may read: `data.orders` and `kpi.count`
    wherever they stand, and tables of no database. Every word of one that is not understood."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    for database, name in _TABLE.findall(sql):
        yield f"{_DATABASES[database]}:{name}"
    try:
        read = sqlglot.parse_one(sql, dialect="clickhouse")
    except SqlglotError:
        yield from _WORD.findall(sql)
        return
    yield from (table.name for table in read.find_all(exp.Table) if not table.db)


def _found(panel: Panel, board: Asset, project: Assembly) -> Panel:
    """Return a panel with the ids of the assets that it names."""
    if panel.ask not in ("kpi", "checks"):
        return panel
    kind = panel.ask if panel.ask == "kpi" else ""
    ids = []
    for name in panel.of:
        found = [
            one.id
            for one in project.made.values()
            if name in (one.id, one.name) and (not kind or one.kind == kind)
        ]
        if len(found) == 1:
            ids.append(found[0])
            continue
        names = [one.name for one in project.made.values() if not kind or one.kind == kind]
        project.note(
            "SX-PROJ-072",
            f"the board `{board.name}` shows `{name}`, which "
            + (f"is {' and '.join(found)}" if found else "does not exist"),
            place=project.drafts[board.id].place,
            hint="write the kind too" if found else near(name, names),
        )
    given = {**panel.given, "name": ids[0]} if kind and ids else panel.given
    return msgspec.structs.replace(panel, of=tuple(ids), given=given)
