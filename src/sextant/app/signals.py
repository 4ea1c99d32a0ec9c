"""Closes signals that somebody has looked at."""

from sextant.core import Core
from sextant.kernel.errors import Denied, NotFound
from sextant.kernel.nouns import Event, Principal, Signal
from sextant.kernel.ports import Write
from sextant.ledger.log import entries
from sextant.ledger.signals import GLASS, find_signal


def close(core: Core, id_: str, reason: str, *, by: Principal | None = None) -> None:
    """Close a signal: somebody has looked at it. NotFound for an unknown or closed one; Denied
    for who broke the glass that it is about."""
    by = by or core.authorization.who()
    stored = find_signal(core.state, id_)
    if stored is None or stored.closed_at:
        raise NotFound(
            "SX-SIGNAL-001",
            f"there is no open signal `{id_}`",
            hint="`sextant signals` lists them",
        )
    if who := breaker(core, stored.signal, by):
        raise Denied(
            "SX-SIGNAL-002",
            "who broke the glass does not close its signal"
            if str(by) == who
            else f"`{by.person}` answers for `{who}`, who broke the glass",
            hint="somebody else looks at it and closes it",
        )
    core.state.commit(Write((), (closing(core, id_, reason, by),)))


def closing(core: Core, id_: str, reason: str, by: Principal, cause: str = "") -> Event:
    """Return the event by which a person closes a signal."""
    return core.events.make("signal.closed", id_, {"id": id_, "reason": reason}, by, cause)


def breaker(core: Core, signal: Signal, by: Principal) -> str:
    """Return who broke the glass that a signal is about, where he is `by` or one person answers for
    both; "" otherwise."""
    if signal.kind != GLASS:
        return ""
    raised = entries(core.state.read, "events_of_both", (signal.id, "signal.raised", 1))
    who = raised[0].envelope.actor if raised else ""
    return who if who and core.authorization.answers_for(by, who) else ""
