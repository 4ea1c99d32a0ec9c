"""What the steps of a run printed: piece by piece while it runs, as it was kept when it has ended.
Called by the operation `log`.

A position names a piece of the live log (`SEGMENT.OFFSET`, see `stores.live`) or a kept log
(`kN`, the Nth record of the run's history). Who follows a run across its end reads on in the live
log, which stays for a while; where it is gone, the answer begins again with what was kept.
"""

import re

from sextant.app.progress import live_runs
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine.history import History
from sextant.kernel.answers import Printed, RunLog
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound
from sextant.kernel.limits import LOG_ANSWER_BYTES_MAX
from sextant.ledger.projections import stored_run

_KEPT = re.compile(r"k(\d{1,9})")


def run_log(
    core: Core, see: Visibility, run: str, *, step: str = "", asset: str = "", after: str = ""
) -> RunLog:
    """Return what a run printed after a position ("" = from the beginning), as far as one answer
    takes it.

    step, asset  of this step, of the steps of this asset; "" = of all
    Raises       NotFound; UsageError for what is not a position
    """
    rows = core.state.read("run_get", (run,))
    if not rows:
        raise no_run(run)
    # read before the log: what ends between the two is not missed
    running = not stored_run(rows[0][3]).finished_at
    kept = _KEPT.fullmatch(after)
    if kept or (not after and not running):
        return _kept(core, see, run, step, asset, int(kept[1]) if kept else 0, after)
    found = live_runs(core).read(run, after, LOG_ANSWER_BYTES_MAX)
    if found is None:  # it ended long ago, or its steps print where nobody can follow
        if running:
            return _answer(run, [], after, "0.0", running=True)
        return _kept(core, see, run, step, asset, 0, "")
    printed: list[Printed] = []
    for piece in found.pieces:
        if step not in ("", piece.step) or asset not in ("", piece.asset):
            continue
        last = printed[-1] if printed else None
        is_same = last and (last["step"], last["attempt"]) == (piece.step, piece.attempt)
        if see.hides(piece.asset) and not piece.first:
            continue  # it was said already that it is hidden
        text = see.text(piece.text, piece.asset)
        if last and is_same:
            last["text"] += text
        else:
            printed.append(
                {"step": piece.step, "attempt": piece.attempt, "at": iso(piece.at), "text": text}
            )
    ended = not running and not found.more
    return _answer(
        run, printed, after, "" if ended else found.next, running=running, cut=found.lost
    )


def _kept(
    core: Core, see: Visibility, run: str, step: str, asset: str, start: int, after: str
) -> RunLog:
    """Return what was kept of an ended run's log, from a record on."""
    printed: list[Printed] = []
    size = 0
    for n, record in enumerate(History.open(core.state, run).records):
        chosen = step in ("", record.step) and asset in ("", record.asset)
        if n < start or not record.log or not chosen:
            continue
        if size > LOG_ANSWER_BYTES_MAX:
            return _answer(run, printed, after, f"k{n}", running=False)
        body = core.blobs.get(record.log)
        size += len(body)
        printed.append(
            {
                "step": record.step,
                "attempt": record.attempt,
                "at": iso(record.at),
                "text": see.text(body.decode(errors="replace"), record.asset),
            }
        )
    return _answer(run, printed, after, "", running=False)


def _answer(
    run: str, printed: list[Printed], after: str, next_: str, *, running: bool, cut: bool = False
) -> RunLog:
    return {
        "run": run,
        "printed": printed,
        "after": after,
        "next": next_,
        "running": running,
        "cut": cut,
    }


def no_run(run: str) -> NotFound:
    """Return the error for a run that there is not."""
    return NotFound("SX-RUN-003", f"there is no run `{run}`", hint="`sextant runs` lists them")
