"""What the operations on telemetry have in common: asking SQL for one principal, windows of time,
names of assets, conditions on attributes. Called by the other modules of this package."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from sextant.core import Core
from sextant.kernel.clock import from_datetime
from sextant.kernel.errors import NotFound, UsageError, UserError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import PAGE_ROWS_MAX, TELEMETRY_CONDITIONS_MAX
from sextant.kernel.nouns import Asset, Principal

_OLDEST_S = 20 * 366 * 86_400  # nothing is kept for so long
_NS_MAX = 9_200_000_000_000_000_000  # the year 2261, where ClickHouse's times with ns end


Ask = Callable[[str, str, Mapping[str, str], str, str], bytes]


class Found(NamedTuple):
    """Rows of an answer, and how many rows of tables were read for it."""

    rows: list[dict[str, Any]]
    read: int


class Condition(NamedTuple):
    """A condition in SQL, and the values of its parameters."""

    sql: str
    params: Mapping[str, Any] = MappingProxyType({})


class Asking:
    """Telemetry as one principal may see it: the questions go the way of `query`."""

    def __init__(self, core: Core, ask: Ask, who: Principal) -> None:
        """ask  answers SQL: query, format, parameters, role and person of whoever asks"""
        self._core, self._ask, self._who = core, ask, who

    def found(self, sql: str, params: dict[str, Any] | None = None) -> Found:
        """Answer a statement of ours. Values are parameters of it, never part of the text."""
        answer = msgspec.json.decode(
            self._ask(
                sql,
                "JSON",
                {name: str(value) for name, value in (params or {}).items()},
                self._who.role or "admin",  # who has the folder has all of it
                self._who.person,
            )
        )
        return Found(answer["data"], int(answer.get("statistics", {}).get("rows_read", 0)))

    def rows(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return self.found(sql, params).rows

    def window(
        self, since: str, until: str, column: str = "ts", *, wider_s: int = 0
    ) -> list[Condition]:
        """Return the conditions of a window of time. UsageError for what is no time.

        wider_s  so much is added at both ends; the parameters have other names then
        """
        out = [self._bound("since", since, f"{column} >= ", -wider_s)] if since else []
        return out + ([self._bound("until", until, f"{column} < ", wider_s)] if until else [])

    def _bound(self, name: str, text: str, left: str, later_s: int) -> Condition:
        """A length counts back from the clock of the store, beside which the rows were made."""
        parameter = f"{name}_wider" if later_s else name
        if text[:4].isdigit() and "-" in text:
            at = max(0, min(_NS_MAX, self._time(name, text) + later_s * 10**9))
            return Condition(
                f"{left}fromUnixTimestamp64Nano({{{parameter}:Int64}})", {parameter: at}
            )
        try:
            seconds = length_s(text)
        except UsageError as error:
            raise _no_time(name, text) from error
        return Condition(
            f"{left}now64(9) - toIntervalSecond({{{parameter}:Int64}})",
            {parameter: max(1, round(min(seconds, _OLDEST_S))) - later_s},
        )

    def _time(self, name: str, text: str) -> int:
        try:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                at = at.replace(tzinfo=ZoneInfo(self._core.project.manifest().tz))
            return from_datetime(at.astimezone(UTC))
        except (ValueError, OverflowError) as error:
            raise _no_time(name, text) from error

    def length_s(self, since: str, until: str = "") -> int:
        """Return the seconds of a window of time, or from its beginning to now."""
        now_s = self._core.clock.now_ns() / 1e9
        ago = [
            self._ago_s("since", since, now_s),
            self._ago_s("until", until, now_s) if until else 0,
        ]
        return max(1, round(ago[0] - ago[1]))

    def _ago_s(self, name: str, text: str, now_s: float) -> float:
        if text[:4].isdigit() and "-" in text:
            return now_s - self._time(name, text) / 1e9
        try:
            return min(length_s(text), _OLDEST_S)
        except UsageError as error:
            raise _no_time(name, text) from error

    def asset(self, name: str) -> str:
        """Return the id of an asset: a name without its kind is that of the one asset with this
        name that sent telemetry, else of the one in the graph. UserError names the candidates."""
        if not name or ":" in name:
            return name
        sent = [
            row["asset"]
            for row in self.rows(
                "SELECT asset FROM obs.services WHERE substring(asset, position(asset, ':') + 1) = "
                "{name:String} ORDER BY asset LIMIT 20",
                {"name": name},
            )
        ]
        known = sent or sorted(one.id for one in self._graph() if one.name == name)
        if len(known) == 1:
            return str(known[0])
        if known:
            raise UserError(
                "SX-LOOK-002",
                f"`{name}` is {' and '.join(known)}",
                hint="write the kind too",
            )
        near = self._near(name)
        raise NotFound(
            "SX-LOOK-003",
            f"no asset `{name}` sent telemetry",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else "`sextant query 'SELECT asset FROM obs.services'` lists those that did",
        )

    def _graph(self) -> list[Asset]:
        observed = self._core.state.read("assets")
        return [
            *self._core.project.manifest().assets,
            *(msgspec.json.decode(row[1], type=Asset) for row in observed),
        ]

    def _near(self, name: str) -> list[str]:
        import difflib

        rows = self.rows(
            "SELECT asset FROM obs.services ORDER BY last_seen DESC LIMIT {most:UInt32}",
            {"most": PAGE_ROWS_MAX},
        )
        ids = {str(row["asset"]).partition(":")[2]: str(row["asset"]) for row in rows}
        return [ids[one] for one in difflib.get_close_matches(name, ids, n=3)]


def attribute_conditions(
    pairs: Sequence[str], columns: Sequence[str], *, word: str = "attribute"
) -> list[Condition]:
    """Return a condition for each KEY=VALUE: one of these maps has it. UsageError for what is not
    KEY=VALUE.

    word  what a pair is called
    """
    if len(pairs) > TELEMETRY_CONDITIONS_MAX:
        raise UsageError(
            "SX-LOOK-004",
            f"{len(pairs):,} conditions on {word}s",
            hint=f"at most {TELEMETRY_CONDITIONS_MAX}",
        )
    out = []
    for n, pair in enumerate(pairs):
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(
                "SX-LOOK-005",
                f"`{pair}` is not {word.upper()}=VALUE",
                hint=f"as in --{word} http.status_code=500",
            )
        # a map gives "" for a key that it does not have
        has = [
            f"({column}[{{k{n}:String}}] = {{v{n}:String}}"
            + (f" AND mapContains({column}, {{k{n}:String}}))" if not value else ")")
            for column in columns
        ]
        out.append(Condition(f"({' OR '.join(has)})", {f"k{n}": key, f"v{n}": value}))
    return out


def where(conditions: Sequence[Condition]) -> tuple[str, dict[str, Any]]:
    """Return all of some conditions as one, and the values of their parameters."""
    params: dict[str, Any] = {}
    for one in conditions:
        params.update(one.params)
    return " AND ".join(one.sql for one in conditions) or "1", params


def _no_time(name: str, text: str) -> UsageError:
    return UsageError(
        "SX-LOOK-001",
        f"`{name}` is `{text[:60]}`, which is no time",
        hint="a length back from now, such as 30m, 2h or 7d, or a time such as 2026-11-29T03:10",
    )
