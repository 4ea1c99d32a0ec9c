"""How versions that are made, part by part, become live: the base of every kind whose assets are
made."""

from sextant.core import Core
from sextant.kernel.kinds import Instant, Verdict
from sextant.kernel.nouns import Held, Move, Release
from sextant.ledger.versions import changed


class MadeRelease(Instant):
    """The gate is the checks that ran on exactly that version; an undo holds what the version was
    made from."""

    def __init__(self, core: Core) -> None:
        self._core, self._versions = core, core.versions

    def gate(self, release: Release) -> Verdict:
        reasons = []
        for move in release.moves:
            if move.target and release.intent == "release":
                refused = self._versions.get(move.asset, move.target).meta.get("refused", ())
                reasons += [f"{move.asset}: {text}" for text in refused]
        return Verdict(ok=not reasons, reasons=tuple(reasons))

    def held(self, move: Move) -> tuple[Held, ...]:
        before = self._versions.parts(move.asset, move.source)
        differs, _ = changed(before, self._versions.parts(move.asset, move.target))
        return tuple(
            Held(p.partition, p.code, p.inputs, p.digest)
            for p in differs.values()
            if p.partition not in before or before[p.partition].digest != p.digest
        )
