"""The ledger: its entries, proofs, checkpoints and keys."""

from typing import Any

import msgspec

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session, page_limit
from sextant.kernel.answers import EventSeen, GapSeen, LedgerFinding, Page, Verified
from sextant.kernel.errors import BadData, SextantError, UsageError
from sextant.kernel.limits import PAGE_ROWS


class LedgerOperations(Session):
    """The ledger: its entries, proofs, checkpoints and keys."""

    @operation("GET", "/ledger/events", "viewer", "read")
    def events(
        self,
        *,
        subject: str = "",
        type: str = "",  # noqa: A002 - CloudEvents' word
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[EventSeen]:
        """Return entries of the ledger: all, those about a subject, those of a type."""
        from sextant.app import lists

        return lists.events(
            self._core, self._see, subject=subject, kind=type, limit=page_limit(limit), after=after
        )

    @operation("POST", "/ledger/verify", "viewer", "read")
    def verify(self, *, witness: str = "", projections: bool = True) -> Verified:
        """Verify the ledger: hashes, order, causes, signatures, the witness (its text; "" = this
        user's own), and that every table follows from it."""
        from sextant.engine import history
        from sextant.ledger.verify import verify
        from sextant.ledger.witness import Witness

        core, more = self._core, []
        try:
            known = Witness.parse(witness) if witness else self._p.sealing.seen()
        except BadData as error:
            if witness:
                raise
            known = None
            more.append(("witness", error.message))
        more += self._p.sealing.findings()
        try:
            public = self._p.sealing.public() or None
        except SextantError:  # the findings say so
            public = self._p.sealing.anchor.public or None
        report = verify(
            core.state,
            public=public,
            witness=known,
            origin=self._p.sealing.origin,
            projections=projections,
        )
        if projections:
            try:
                more += [("history", text) for text in history.broken(core.state.read)]
            except (SextantError, TypeError, ValueError, LookupError) as error:
                more.append(("history", f"it cannot be read: {error}"))
        return {
            "ok": report.ok and not more,
            "events": report.events,
            "erased": report.erased,
            "checkpoints": report.checkpoints,
            "signed": report.signed,
            "gaps_noted": report.gaps_noted,
            "witnessed": report.witnessed,
            "root": report.root,
            "findings": [
                LedgerFinding(table=f.table, seq=f.seq, message=f.message) for f in report.findings
            ]
            + [LedgerFinding(table=table, seq=-1, message=text) for table, text in more],
        }

    @operation("POST", "/ledger/events/{seq}/proof", "viewer", "read")
    def prove(self, seq: int, *, since: str = "") -> dict[str, Any]:
        """Return a proof that event `seq` stands in the signed log; `since`, the text of an older
        witness: that the log continues it."""
        from sextant.app.lists import event_seen
        from sextant.ledger.log import entries
        from sextant.ledger.prove import prove
        from sextant.ledger.witness import Witness

        core = self._core
        self._p.sealing.checkpoint()
        found: dict[str, Any] = msgspec.to_builtins(
            prove(
                core.state.read,
                seq,
                public=self._p.sealing.signer().public,
                since=Witness.parse(since).note if since else "",
                payload=not any(
                    self._see.hides_event(event_seen(entry))
                    for entry in entries(core.state.read, "event_by_seq", (seq,))
                ),
            )
        )
        return found

    @operation("POST", "/ledger/checkpoints", "operator", "checkpoint")
    def checkpoint(self) -> dict[str, str]:
        """Sign the head of the ledger and return the note and the public key."""
        note = self._p.sealing.checkpoint()
        if not note:
            raise UsageError("SX-CLI-009", "the ledger is empty", hint="run something first")
        return {"note": note, "public": self._p.sealing.signer().public}

    @operation("POST", "/ledger/events/{seq}/erase", "admin", "erase")
    def erase(self, seq: int, reason: str) -> dict[str, Any]:
        """Erase the payload of an event. The event and every proof stay valid."""
        from sextant.ledger.erase import erase

        core, by = self._core, self._who()
        receipt = erase(core.state, seq, reason=reason, actor=str(by), ids=core.ids)
        return {"erased": seq, "event": receipt.first}

    @operation("POST", "/ledger/rotate", "admin", "rotate")
    def rotate(self) -> dict[str, str]:
        """Replace the signing key; the change is announced by an event that both keys sign."""
        new = self._p.sealing.rotate(self._who())
        return {"public": new.public, "file": str(new.path)}

    @operation("POST", "/ledger/repair", "admin", "repair")
    def repair(self, reason: str) -> list[GapSeen]:
        """Note the gaps between checkpoints by signed events, so that verification accepts exactly
        these; return the newly noted ones."""
        from sextant.ledger.gaps import note_gaps

        core, by = self._core, self._who()
        noted = note_gaps(
            core.state,
            self._p.sealing.signer(),
            origin=self._p.sealing.origin,
            ids=core.ids,
            actor=str(by),
            reason=reason,
        )
        self._p.sealing.checkpoint()
        return [
            GapSeen(size=g.size, note=g.note, next_size=g.next_size, next_note=g.next_note)
            for g in noted
        ]
