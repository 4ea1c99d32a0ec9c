"""What is asked of the past of a business number: which parts of time, each as it was known at
which moment. Read from the words of who asks; called by `app/waterfall.py`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sextant.app.derivation.past import Move, Past
from sextant.app.instants import instant
from sextant.core import Core
from sextant.kernel import kinds
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.nouns import Asset
from sextant.kernel.partitions import Partitioning
from sextant.kinds.kpi.series import Span, before_period, named_span, newest_period, period
from sextant.kinds.kpi.spec import KIND, measure_spec, values_id
from sextant.ledger.log import entries


class Question(NamedTuple):
    """What is asked: a number, or a table, over two parts of time, each as known at a moment.

    before, after  the parts of time
    known          positions in the ledger
    """

    env: str
    asset: Asset
    before: Span
    after: Span
    known: tuple[int, int]
    by: tuple[str, ...]


def question(
    core: Core,
    env: str,
    kpi: str,
    before: str,
    after: str,
    known_from: str,
    known_to: str,
    by: Sequence[str],
) -> Question:
    """Return what is asked: see `Operations.waterfall`. NotFound, UsageError."""
    asset = core.assets.find(kpi if kpi.startswith(f"{KIND}:") else f"{KIND}:{kpi}", env)
    measure, tz = measure_spec(asset), core.project.manifest(env).tz
    head = int(core.state.read("event_head")[0][0])
    until = position(core, known_to) if known_to else head
    values = values_of_kpi(core, env, asset)
    _, moves = Past(core, env, 0, until).moves(values.id)
    if not measure.grain:
        if before or after:
            raise UsageError(
                "SX-DERIVE-006",
                f"`{asset.id}` has no values over a part of time",
                hint="leave out FROM..TO, and say `--known-from TIME`",
            )
        spans = (Span(), Span())
    elif after or before:
        spans = (
            period(measure, tz, before or after),
            period(measure, tz, after or before),
        )
    else:
        parts = core.versions.parts(values.id, moves[-1].target) if moves else {}
        newest = max(parts, default="")
        if not newest:
            raise no_values(asset, env)
        latest = newest_period(measure, slices_of(values), newest, tz)
        spans = (before_period(measure, latest, tz), latest)
    since = (
        position(core, known_from) if known_from else _first_known(core, moves, values, spans[0])
    )
    if since is None:
        raise no_values(asset, env)
    return Question(env, asset, spans[0], spans[1], in_order((since, until)), tuple(by))


def question_of_check(
    core: Core, env: str, asset: str, over: str, known_from: str, known_to: str
) -> Question:
    """Return what is asked of a check: see `Operations.bisect`. NotFound, UsageError."""
    found = core.assets.find(asset, env)
    span = Span()
    if over:
        span = named_span(core.project.manifest(env).tz, over)
    head = int(core.state.read("event_head")[0][0])
    known = (position(core, known_from), position(core, known_to) if known_to else head)
    return Question(env, found, span, span, in_order(known), ())


def in_order(known: tuple[int, int]) -> tuple[int, int]:
    """Return two positions in the ledger. UsageError where the second one is earlier."""
    if known[0] > known[1]:
        raise UsageError(
            "SX-DERIVE-007",
            "the second moment lies before the first",
            hint="turn them round: the earlier one comes first",
        )
    return known


def position(core: Core, text: str) -> int:
    """Return the position in the ledger at a moment: a time, a length back from now, when a
    release had become live, or the position itself as `#123`."""
    if re.fullmatch(r"#[0-9]{1,18}", text):
        return int(text[1:])
    if text.startswith("rel_"):
        live = entries(core.state.read, "events_of_both", (text, "release.live", 1))
        if not live:
            raise NotFound(
                "SX-DERIVE-008",
                f"release `{text}` never became live",
                hint="`sextant releases` lists them",
            )
        return live[0].envelope.seq
    rows = core.state.read("event_seq_at", (instant(core, text),))
    if not rows:
        raise UsageError(
            "SX-DERIVE-009",
            f"nothing was recorded before {text}",
            hint="choose a later moment",
        )
    return int(rows[0][0])


def values_of_kpi(core: Core, env: str, kpi: Asset) -> Asset:
    """Return the dataset of a number's values, as it is declared in an environment. NotFound."""
    found = core.project.manifest(env).asset(values_id(kpi))
    if found is None:
        raise NotFound(
            "SX-DERIVE-010",
            f"the values of `{kpi.id}` are not declared in `{env}`",
            hint="`sextant graph` lists the assets",
        )
    return found


def slices_of(asset: Asset) -> Partitioning:
    """Return how a dataset is sliced."""
    return kinds.made(asset.kind).partitioning(asset)


def keys_within(slices: Partitioning, span: Span, there: Iterable[str]) -> list[str]:
    """Return the partitions among some that a part of time touches."""
    if slices.grain in ("none", "static") or span == Span():
        return sorted(there)
    local = span.as_of_a_day(slices.tz)
    assert local.since is not None
    assert local.until is not None
    out = []
    for key in there:
        slice_ = slices.partition(key)
        start, end = slice_.start, slice_.end
        if start is None or end is None or (start < local.until and end > local.since):
            out.append(key)
    return sorted(out)


def _first_known(core: Core, moves: Sequence[Move], values: Asset, span: Span) -> int | None:
    """Return the position at which all values of a part of time that there are at the end of some
    moves were live for the first time; None where there are none."""
    if not moves:
        return None
    there = core.versions.parts(values.id, moves[-1].target)
    wanted = set(keys_within(slices_of(values), span, there))
    known = (
        move.seq for move in moves if wanted <= core.versions.parts(values.id, move.target).keys()
    )
    return next(known) if wanted else None


def no_values(kpi: Asset, env: str) -> NotFound:
    """Return the error for a time of which there are no values."""
    return NotFound(
        "SX-DERIVE-011",
        f"`{kpi.id}` has no values in `{env}` at that time",
        hint=f"`sextant kpi {kpi.name}` shows which there are",
    )
