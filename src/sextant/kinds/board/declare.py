"""The words by which an author declares boards: `board`, `panel`."""

from collections.abc import Sequence
from typing import Any, Never

from sextant.kinds.board.spec import KIND, PANELS_MAX, Board, Panel
from sextant.project import forms
from sextant.project.collect import (
    Place,
    caller,
    fitting,
    fitting_list,
    fitting_text,
    fitting_texts,
    refuse_unknown,
    report,
)
from sextant.project.declared import Declared
from sextant.project.forms import Owner, Words

# what a panel shows -> the operation that answers, and the settings that go with it
_SHOWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "kpi": ("kpi", ("by", "grain", "where")),
    "sql": ("query", ()),
    "metric": ("metric", ("by", "labels", "asset", "rate", "since")),
    "logs": ("search_logs", ("asset", "level", "since")),
    "checks": ("checks", ("failed",)),
}


class DeclaredBoard(Declared):
    """A board as its author wrote it."""

    of_kind = KIND

    def __init__(
        self,
        name: str,
        board: Board,
        *,
        description: str,
        owner: str,
        tier: int,
        tags: tuple[str, ...],
        place: Place,
    ) -> None:
        self.name = name
        self.board = board
        self.description = description
        self.owner = owner
        self.tier = tier
        self.tags = tags
        self.place = place


def board(
    name: str,
    *,
    panels: Sequence[Panel],
    description: str = "",
    owner: Owner = "",
    tier: int = 3,
    tags: Words = (),
    **unknown: Never,
) -> DeclaredBoard:
    """Put panels on one board: `sextant show board:NAME` shows them with the data of now.

    panels  what `panel` returns, in the order in which they are shown
    """
    refuse_unknown("board", unknown, board.__kwdefaults__)
    listed = fitting_list("panels", panels, 'a list of panels: `[sx.panel(kpi="revenue")]`')
    good = []
    for one in listed:
        if isinstance(one, Panel):
            good.append(one)
        else:
            report(
                "SX-PROJ-070",
                f"`{one!r}` is not a panel",
                hint='write `sx.panel(kpi="revenue")`',
            )
    if not 1 <= len(listed) <= PANELS_MAX:
        report(
            "SX-PROJ-073",
            f"the board `{name}` has {len(listed)} panels",
            hint=f"from 1 to {PANELS_MAX}",
        )
    made = DeclaredBoard(
        forms.name(KIND, name),
        Board(panels=tuple(good)),
        description=fitting_text("description", description),
        owner=forms.owner(owner),
        tier=forms.tier(tier),
        tags=forms.tags(tags),
        place=caller(),
    )
    forms.register(made)
    return made


def panel(
    title: str = "",
    *,
    kpi: Declared | str | None = None,
    sql: str = "",
    metric: str = "",
    logs: str | None = None,
    checks: "Declared | str | Sequence[Declared | str] | None" = None,
    by: Words = (),
    grain: str = "",
    where: str = "",
    labels: Words = (),
    asset: Declared | str = "",
    rate: bool = False,
    level: str = "",
    since: str = "",
    failed: bool = False,
    **unknown: Never,
) -> Panel:
    """Return a panel of a board: one of `kpi`, `sql`, `metric`, `logs` and `checks`.

    title   above it; what it shows, when left out
    kpi     a business number, with `by`, `grain` and `where` as in `sextant kpi`
    sql     a question in ClickHouse's SQL, as in `sextant query`
    metric  the series of a metric, with `by`, `labels`, `asset`, `rate` and `since`
    logs    words that log lines have ("" = all lines), with `asset`, `level` and `since`
    checks  assets whose newest results are shown; with `failed`, only those that failed
    since   a length back from now: 1h when left out
    """
    refuse_unknown("panel", unknown, panel.__kwdefaults__)
    said: dict[str, Any] = {
        word: value
        for word, value in (
            ("kpi", kpi),
            ("sql", sql or None),
            ("metric", metric or None),
            ("logs", logs),
            ("checks", checks),
        )
        if value is not None
    }
    if len(said) != 1:
        report(
            "SX-PROJ-071",
            f"a panel shows {' and '.join(said) or 'nothing'}",
            hint=f"give one of {', '.join(f'`{word}`' for word in _SHOWS)}",
        )
        return Panel(title="", ask="")
    ((word, value),) = said.items()
    settings: dict[str, Any] = {
        "by": list(_texts("by", by)),
        "grain": fitting_text("grain", grain),
        "where": fitting_text("where", where),
        "labels": list(_texts("labels", labels)),
        "asset": _asset("asset", asset),
        "rate": forms.truth("rate", rate),
        "level": fitting_text("level", level),
        "since": forms.length_text("since", since),
        "failed": forms.truth("failed", failed),
    }
    settings = {name: setting for name, setting in settings.items() if setting}
    ask, takes = _SHOWS[word]
    for name in sorted(settings.keys() - set(takes)):
        report(
            "SX-PROJ-074",
            f"a panel of `{word}` has no `{name}`",
            hint=f"it takes {', '.join(f'`{one}`' for one in takes)}" if takes else "leave it out",
        )
        del settings[name]
    of: tuple[str, ...] = (settings["asset"],) if ":" in settings.get("asset", "") else ()
    if word == "checks":
        listed = value if isinstance(value, list | tuple) else [value]
        of = tuple(_asset("checks", one) for one in listed)
        shown = ", ".join(of)
    elif word == "kpi":
        shown = _asset("kpi", value)
        settings["name"] = shown
        of = (shown,)
    else:
        shown = fitting_text(word, value)
        settings[{"sql": "sql", "metric": "name", "logs": "search"}[word]] = shown
    named = {"kpi": shown, "checks": f"checks of {shown}"}.get(word, f"{word} {shown}".strip())
    title = fitting_text("title", title) or named
    return Panel(title=title, ask=ask, given=settings, of=of)


def _texts(setting: str, given: Words) -> tuple[str, ...]:
    listed = (given,) if isinstance(given, str) else fitting_list(setting, given, "a list of texts")
    return fitting_texts(setting, listed)


def _asset(setting: str, given: Any) -> str:
    """Return an asset's id, or the name that stands for one."""
    expected = "an asset, or its name"
    said = fitting(setting, given, (Declared, str), expected, "")
    return repr(said).strip("<>") if isinstance(said, Declared) else str(said)
