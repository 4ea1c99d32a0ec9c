"""What people see of a board: its panels, with the data of now."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sextant.kernel.errors import SextantError
from sextant.kernel.kinds import NothingShown, Sees
from sextant.kernel.nouns import Asset, Version
from sextant.kinds.board.spec import Board, Panel

_ROWS_MAX = 100  # of a panel
_CHECKS_MAX = 50  # newest results of an asset


class ShownBoards(NothingShown):
    """Asks every panel's question as the principal who looks: a panel that cannot be answered says
    why, and the others are shown."""

    def __init__(self, see: Sees) -> None:
        self._see = see

    def describe(
        self,
        env: str,
        asset: Asset,  # noqa: ARG002
        version: Version,
        *,
        limit: int,  # noqa: ARG002
        partition: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the panels of a version: title, what was asked, rows, and what else is to be
        known of them; `error` where there is no answer."""
        board = msgspec.json.decode(version.spec, type=Board)
        return {"panels": [self._panel(env, one) for one in board.panels]}

    def compare(
        self,
        asset: Asset,  # noqa: ARG002
        before: Version,
        after: Version,
        touched: Any,  # noqa: ARG002
    ) -> dict[str, Any]:
        return self.difference("", before, after)

    def difference(
        self,
        asset: str,  # noqa: ARG002
        before: Version | None,
        after: Version | None,
    ) -> dict[str, Any]:
        """Return the titles of the panels on both sides."""
        return {"panels": {"before": _titles(before), "after": _titles(after)}}

    def _panel(self, env: str, panel: Panel) -> dict[str, Any]:
        shown: dict[str, Any] = {"title": panel.title, "ask": panel.ask, "given": panel.given}
        try:
            found = _ANSWERS[panel.ask](self._see.ask, env, panel)
        except SextantError as error:
            return {**shown, "rows": [], "error": error.message, "hint": error.hint}
        rows = found.pop("rows")
        return {**shown, **found, "rows": rows[:_ROWS_MAX], "left_out": len(rows[_ROWS_MAX:])}


Ask = Callable[..., Any]


def _kpi(ask: Ask, env: str, panel: Panel) -> dict[str, Any]:
    found = ask("kpi", env=env, **panel.given)
    more = ("unit", "format", "goal", "goal_value", "goal_met", "hidden")
    return {"rows": list(found["rows"]), **{name: found[name] for name in more if name in found}}


def _query(ask: Ask, env: str, panel: Panel) -> dict[str, Any]:  # noqa: ARG001
    answer = msgspec.json.decode(ask("query", form="JSON", **panel.given))
    return {"rows": answer["data"]}


def _metric(ask: Ask, env: str, panel: Panel) -> dict[str, Any]:  # noqa: ARG001
    found = msgspec.to_builtins(ask("metric", limit=_ROWS_MAX, **panel.given))
    return {"rows": _rows(found)}


def _logs(ask: Ask, env: str, panel: Panel) -> dict[str, Any]:  # noqa: ARG001
    found = msgspec.to_builtins(ask("search_logs", limit=_ROWS_MAX, **panel.given))
    return {"rows": _rows(found)}


def _checks(ask: Ask, env: str, panel: Panel) -> dict[str, Any]:  # noqa: ARG001
    rows = []
    for asset in panel.of:
        newest: dict[tuple[str, str], Any] = {}
        for one in ask("checks", asset=asset, limit=_CHECKS_MAX, **panel.given).items:
            newest.setdefault((one["name"], one.get("partition", "")), one)
        rows += [
            {
                "asset": asset,
                "check": one["name"],
                "partition": one.get("partition", ""),
                "ok": one["ok"],
                "message": one.get("message", ""),
            }
            for one in newest.values()
        ]
    return {"rows": rows}


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the one list of rows in an answer."""
    return next(value for value in found.values() if isinstance(value, list))


_ANSWERS: dict[str, Callable[[Ask, str, Panel], dict[str, Any]]] = {
    "kpi": _kpi,
    "query": _query,
    "metric": _metric,
    "search_logs": _logs,
    "checks": _checks,
}


def _titles(version: Version | None) -> list[str]:
    if version is None:
        return []
    return [one.title for one in msgspec.json.decode(version.spec, type=Board).panels]
