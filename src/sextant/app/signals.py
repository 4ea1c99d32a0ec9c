"""Closes signals that somebody has looked at."""

import msgspec

from sextant.core import Core
from sextant.kernel.errors import Denied, NotFound
from sextant.kernel.nouns import Principal, Signal
from sextant.kernel.ports import Write
from sextant.ledger.log import entries
from sextant.ledger.signals import GLASS


def close(core: Core, id_: str, reason: str, *, by: Principal | None = None) -> None:
    """Close a signal: somebody has looked at it. NotFound for an unknown or closed one; Denied
    for who broke the glass that it is about."""
    by = by or core.authorization.who()
    found = core.state.read("signal_get", (id_,))
    if not found or found[0][1]:
        raise NotFound(
            "SX-SIGNAL-001",
            f"there is no open signal `{id_}`",
            hint="`sextant signals` lists them",
        )
    raised = entries(core.state.read, "events_of_both", (id_, "signal.raised", 1))
    signal_ = msgspec.json.decode(found[0][0], type=Signal)
    if (
        signal_.kind == GLASS
        and raised
        and core.authorization.answers_for(by, raised[0].envelope.actor)
    ):
        who = raised[0].envelope.actor
        raise Denied(
            "SX-SIGNAL-002",
            "who broke the glass does not close its signal"
            if str(by) == who
            else f"`{by.person}` answers for `{who}`, who broke the glass",
            hint="somebody else looks at it and closes it",
        )
    core.state.commit(
        Write((), (core.events.make("signal.closed", id_, {"id": id_, "reason": reason}, by, ""),))
    )
