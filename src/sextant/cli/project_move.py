"""What the folder would bring of the project to an environment, as lines."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sextant.cli.output import line, say, short, state

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.kernel.answers import ProjectMove

_SHOWN = 12


def move_lines(move: "ProjectMove") -> list[str]:
    """Return what the folder would bring to an environment, as lines."""
    of = f" at {move.commit[:12]}" if move.commit else ""
    dirty = f", with changes in {_some(move.uncommitted)}" if move.uncommitted else ""
    versions = f"{short(move.source) or 'none yet'} -> {short(move.target)}"
    out = [f"project in {move.env}: {versions}{of}{dirty}"]
    if move.older:
        older = "   made before what is in force: it takes back what came since"
        out.append(line("  ", state("older", "warn"), older))
    out += change_lines(move.changes, first=not move.source)
    if move.verdict != "allow":
        by = f": {'; '.join(move.reasons)}" if move.reasons else ""
        needs = ", ".join(f"{n.count} of {n.of or 'anybody else'}" for n in move.needs)
        said = f"needs {needs}" if move.verdict == "approval" else "is denied"
        out.append(line("  ", state(said, "warn"), by))
    return out


def change_lines(found: Mapping[str, Any], *, first: bool = False) -> list[str]:
    """Return what differs between two versions of a project, as lines. `first`: there was none
    before, and all is new."""
    out = [
        f"  {word:8} {_some(found[word])}"
        for word in ("added", "removed")
        if found[word] and not first
    ]
    out += [f"  changed  {id_}: {', '.join(what)}" for id_, what in found["changed"].items()]
    out += [f"  changed  {text}" for text in found["project"]]
    out += [
        line("  ", state("weaker", "warn"), f"   {one['of']}: {one['word']}: {one['text']}")
        for one in found["weakens"]
    ]
    blind: dict[str, dict[str, int]] = {}
    for one in found["blinds"]:
        watch, why = one["watch"], one["why"]
        checked, _, asset = watch.partition(" of ") if watch.startswith("check ") else ("", "", "")
        watches = blind.setdefault(why, {})
        label = f"checks of {asset}" if checked else watch
        watches[label] = watches.get(label, 0) + 1
    out += [
        line(
            "  ",
            state("blinds", "warn"),
            f"   {_some([f'{n} {label}' if n > 1 else label for label, n in watches.items()])}: "
            f"{why}",
        )
        for why, watches in blind.items()
    ]
    return out


def _some(words: Sequence[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def say_move(p: "Platform", env: str, *, pinned: bool, version: str = "") -> None:
    """Say what a run releases of the project before it makes anything."""
    move = None if pinned else p.project_move(version=version, env=env)
    for text in move_lines(move) if move is not None and move.source else ():
        say(text)
