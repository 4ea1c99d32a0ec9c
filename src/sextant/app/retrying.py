"""Which part of an ended run is tried again: what failed, what stood on that, and what was not
reached. Called by the operation `retry`; the run itself is one like any other.
"""

import msgspec

from sextant.app.plans import DERIVATION
from sextant.app.run_log import no_run
from sextant.core import Core
from sextant.engine.history import History
from sextant.engine.plan import Request
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import RETRIES_SHOWN_MAX
from sextant.kernel.nouns import Manifest
from sextant.ledger.projections import RunChanged, stored_run


def retried(core: Core, run: str) -> RunChanged:
    """Return the run that is to be tried again. NotFound; UsageError while it runs, when nothing
    of it failed, and for an undo."""
    rows = core.state.read("run_get", (run,))
    if not rows:
        raise no_run(run)
    facts = stored_run(rows[0][3])
    if not facts.finished_at:
        raise UsageError(
            "SX-RUN-014",
            f"run `{run}` has not ended",
            hint=f"`sextant runs {run} --follow` stays with it, `--cancel` ends it",
        )
    if facts.trigger == "undo":
        raise UsageError(
            "SX-RUN-015",
            f"run `{run}` is an undo",
            hint="`sextant rollback` asks for it again, by what is live now",
        )
    if facts.trigger == DERIVATION:
        raise UsageError(
            "SX-RUN-021",
            f"run `{run}` derived a number, and released nothing",
            hint="ask the same question again: what it made is used",
        )
    if facts.state not in ("failed", "refused", "cancelled"):
        raise UsageError(
            "SX-RUN-016",
            f"nothing of run `{run}` failed",
            hint="`sextant run` makes what is due, `--force` what is up to date",
        )
    return facts


def retry_request(core: Core, facts: RunChanged, manifest: Manifest) -> Request:
    """Return what makes the rest of a run, with the partitions that it was asked for. NotFound
    when an asset of the rest is gone; UsageError when there is no rest."""
    asked = msgspec.json.decode(facts.mode, type=Request) if facts.mode else Request()
    last = {record.step: record for record in History.open(core.state, facts.id).records}
    # of one that was stopped nothing was published; one that broke off may not have come to all
    whole = facts.state == "cancelled" or bool(facts.error) or not last
    bad = {record.asset for record in last.values() if not record.ok} - {""}
    assets = asked.assets if whole else tuple(sorted(bad))
    if not whole and not assets:  # the policy or an approver rejected what it made
        raise UsageError(
            "SX-RUN-016",
            f"no step of run `{facts.id}` failed",
            hint="its releases say why they were rejected: `sextant releases`",
        )
    gone = [id_ for id_ in assets if manifest.asset(id_) is None]
    if gone:
        raise NotFound(
            "SX-RUN-017",
            f"run `{facts.id}` cannot be tried again: {', '.join(f'`{id_}`' for id_ in gone[:5])} "
            f"{'is' if len(gone) == 1 else 'are'} not in the project any more",
            hint="`sextant run` makes what is due of the others",
        )
    return msgspec.structs.replace(asked, assets=assets)


def retries_of(core: Core, run: str) -> list[str]:
    """Return the runs that tried a run again, the oldest first."""
    about = (run, f'%"retry_of":"{run}"%', RETRIES_SHOWN_MAX)
    return [str(row[0]) for row in core.state.read("runs_retrying", about)]
