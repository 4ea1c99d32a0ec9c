"""Follows releases that take time, and drives them where no server does."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from sextant.cli.output import say
from sextant.kernel.clock import NS
from sextant.kernel.errors import Denied
from sextant.kernel.nouns import Release

if TYPE_CHECKING:
    from sextant.app.operations import Platform
    from sextant.kernel.answers import ReleaseSummary

GOES_ON = ("proposed", "gated", "rolling", "undoing")  # most of these without a person
_LOOK_S = 1.0  # how often a release is looked at


def follow(p: "Platform", ids: Sequence[str]) -> list[Release]:
    """Say how far releases are, until each has ended or needs a person; return them as they are
    then. Ctrl-C leaves them where they are."""
    known: dict[str, Release] = {}
    try:
        while True:
            soonest = _LOOK_S
            for id_ in ids:
                before = known.get(id_)
                if before is not None and not goes_on(before):
                    continue
                now = known[id_] = _look(p, id_)
                if before is None or (before.state, before.step) != (now.state, now.step):
                    say(progress_line(now))
                if goes_on(now):
                    soonest = min(soonest, max((now.due_at - time.time_ns()) / NS, 0.05))
            if not any(map(goes_on, known.values())):
                return [known[id_] for id_ in ids]
            time.sleep(soonest)
    except KeyboardInterrupt:
        say("left: a server goes on with it; without one, `sextant releases --drive` does")
        raise click.exceptions.Exit(130) from None


def goes_on(release: "Release | ReleaseSummary") -> bool:
    """Say whether a release goes on without a person; one that waits for another one does not."""
    return release.state in GOES_ON and not (release.state == "proposed" and release.after)


def _look(p: "Platform", id_: str) -> Release:
    """Bring a release as far as it goes now; only look where one may not."""
    try:
        return p.drive_release(id_)
    except Denied:
        return msgspec.convert(p.release_facts(id_), Release)


def progress_line(release: Release) -> str:
    """Return where a release stands."""
    assets = ", ".join(move.asset for move in release.moves)
    steps = release.strategy.steps
    text = f"{assets}: release {release.id} is {release.state}"
    if release.state in ("rolling", "paused") and len(steps) > 1:
        text += f", step {release.step + 1} of {len(steps)} ({steps[release.step]} %)"
    why = release.error or (release.reason if release.state != "live" else "")
    return f"{text}: {why}" if why else text
