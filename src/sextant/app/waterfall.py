"""What moved a business number, as a sum: the rows themselves, and each change that was made
between two moments - other rows of a source, code, definitions, versions released by hand, undos.

The number is derived without each of them (`app/derivation`), so what each has moved is proven and
not correlated; how the effects of several share a difference is said by `engine/shares.py`. Called
by `Operations.waterfall` and `derive_waterfall`.
"""

import hashlib
import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec

from sextant.app.derivation.changes import Changes, Cost, as_bar
from sextant.app.derivation.deriving import At, Content
from sextant.app.derivation.number import Number, decimal_text
from sextant.app.derivation.question import (
    Question,
)
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.engine import shares as sharing
from sextant.formats.values import plain
from sextant.kernel.answers import WaterfallBar, WaterfallSeen
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import (
    DERIVED_CASES_MAX,
    DERIVED_CHANGES_MAX,
    DERIVED_ORDERS,
)
from sextant.kernel.nouns import Principal
from sextant.kinds.kpi.cases import Piece, drivers
from sextant.kinds.kpi.series import Span
from sextant.kinds.kpi.spec import measure_spec
from sextant.ledger.log import entries

_PLACES = 6  # decimal places of a share, at least


class Waterfall:
    """One question at one platform, on the way to its answer."""

    def __init__(
        self, runs: Runs, see: Visibility, asked: Question, *, afresh: bool = False
    ) -> None:
        """afresh  nothing that was made before is taken"""
        self.core, self.see, self.asked = runs.core, see, asked
        self.changes = Changes(
            runs,
            see,
            asked.env,
            asked.asset.id,
            asked.known,
            apart=DERIVED_CHANGES_MAX,
            afresh=afresh,
        )
        self.number = Number(self.changes, asked.asset, asked.after)
        self.number.refuse_hidden(asked.by)
        self.number.read()
        self.first = self.number.known(self.changes.past.first, asked.before)
        self.last = self.number.known(self.changes.past.last, asked.after)
        self.restated = self._restated()
        self._choose_cases()

    def _restated(self) -> Decimal | None:
        """Return the number over the time before, as it is known at the end; None where it has none
        any more."""
        try:
            return self.number.known(self.changes.past.last, self.asked.before).value
        except (NotFound, UsageError):
            return None

    # ------------------------------------------------------------ cases

    def _choose_cases(self) -> None:
        changes = self.changes
        self.full = (1 << len(changes.groups)) - 1
        found = sharing.cases(changes.befores, DERIVED_CASES_MAX)
        self.orders: list[tuple[int, ...]] = []
        if found is None:
            self.orders = sharing.sampled_orders(changes.befores, DERIVED_ORDERS, self._seed())
            found = sharing.cases_of(self.orders)
            without = {
                self.full & ~(1 << n)
                for n in range(len(self.changes.groups))
                if self.changes.is_last(n)
            }
            found = sorted({*found, *without}, key=lambda case: (case.bit_count(), case))
        self.cases = found

    def wanted(self) -> list[At]:
        """Return the contents that the number takes in all cases."""
        self._choose_cases()
        return [at for case in self.cases for at in self.number.wanted(case)[1]]

    def _seed(self) -> str:
        """Return what the sample of orders follows from: the question, not when it is asked."""
        changes = [self.changes.past.changes[n] for group in self.changes.groups for n in group]
        said = [(one.what, one.asset, one.release.id, one.code) for one in changes]
        spans = (self.asked.before.texts(), self.asked.after.texts())
        return hashlib.sha256(msgspec.json.encode([spans, said])).hexdigest()

    # ------------------------------------------------------------ the answer

    def base_pieces(self) -> list[Piece]:
        """Return what the number of the time after is added up from, without any change."""
        _, wanted = self.number.wanted(0)
        found = [(at[0], self.changes.deriving.content(*at)) for at in wanted]
        return [self.number.piece(asset, one) for asset, one in found if isinstance(one, Content)]

    def answer(self, cost: Cost, run: str) -> WaterfallSeen:
        """Return the bars."""
        found = self.number.values_of(self.cases)
        places = max(_PLACES, _places(self.first.value), _places(self.last.value))
        missing = [case for case in self.cases if found.get(case) is None]
        start, end = Fraction(self.first.value), Fraction(self.last.value)
        bars: list[tuple[WaterfallBar, Fraction]] = []
        base = found.get(0)
        if missing:
            self.changes.notes.append(
                "the changes cannot be told apart: "
                + (
                    self.see.text(self.changes.failed, *self.changes.past.first)
                    or "without some of them the number has no value"
                )
            )
        is_other_time = self.asked.before != self.asked.after
        if base is not None and (is_other_time or (base != start and self._has_new())):
            bars += self._movement(base - start)
        if base is not None and not missing and self.changes.groups:
            values = {case: value for case, value in found.items() if value is not None}
            bars += self._changes(values)
        elif self.changes.groups:
            whole = found.get(self.full)
            together = (whole if whole is not None else end) - (base if base is not None else start)
            bars += self._together(together)
        rest = end - start - sum((share for _, share in bars), Fraction(0))
        if rest:
            bars.append((as_bar("not attributed", "what cannot be told"), rest))
        difference = self.last.value - self.first.value
        amounts = sharing.rounded([share for _, share in bars], difference, places)
        for (bar, _), amount in zip(bars, amounts, strict=True):
            bar["amount"] = decimal_text(amount)
        return self.seen(cost, run, [bar for bar, _ in bars])

    def _has_new(self) -> bool:
        """Say whether the time has partitions now that it did not have at first."""
        before = self.core.versions.parts(
            self.number.values.id, self.changes.past.first[self.number.values.id]
        )
        return any(
            asset == self.number.values.id and key not in before for asset, key in self.number.keys
        )

    def _movement(self, amount: Fraction) -> list[tuple[WaterfallBar, Fraction]]:
        """Return what the rows themselves have moved, before any change: of each value of the
        dimensions that were asked for."""
        if not self.asked.by:
            return [(as_bar("movement", "the rows of the time after instead of before"), amount)]
        found = drivers(
            self.core,
            self.first.measure,
            self.number.tz,
            self.asked.by,
            ((self.asked.before, self.first.pieces), (self.asked.after, self.base_pieces())),
        )
        out = []
        for one in found:
            words = (
                ", ".join(
                    f"{name}={plain(value)}"
                    for name, value in zip(self.asked.by, one.of, strict=True)
                )
                if one.of
                else "all others"
            )
            bar = as_bar("movement", words)
            bar["of"] = dict(zip(self.asked.by, map(plain, one.of), strict=False))
            out.append((bar, one.share))
        rest = amount - sum((share for _, share in out), Fraction(0))
        if rest and out:  # sums of floats differ in their last digits
            out[0] = (out[0][0], out[0][1] + rest)
        return out

    def _changes(self, values: Mapping[int, Fraction]) -> list[tuple[WaterfallBar, Fraction]]:
        if self.orders:
            sampled = sharing.sampled_shares(self.orders, values)
            shared = [share for share, _ in sampled]
            widths = [width for _, width in sampled]
        else:
            shared = sharing.shares(self.changes.befores, self.cases, values)
            widths = [0.0] * len(shared)
        out = []
        for n, (share, width) in enumerate(zip(shared, widths, strict=True)):
            bar = self.changes.change(n)
            without = values.get(self.full & ~(1 << n)) if self.changes.is_last(n) else None
            if without is not None:
                bar["without"] = decimal_text(_rounded(without))
            if width:
                low, high = float(share) - width, float(share) + width
                bar["interval"] = [f"{low:.6g}", f"{high:.6g}"]
            reaches_zero = width > 0 and width >= abs(float(share))
            is_lost = not self.changes.lost.isdisjoint(self.changes.groups[n])
            is_unsure = reaches_zero or is_lost or self.changes.unrepeatable
            bar["sure"] = "likely" if is_unsure else "proven"
            out.append((bar, share))
        return out

    def _together(self, amount: Fraction) -> list[tuple[WaterfallBar, Fraction]]:
        listed = [self.changes.change(n) for n in range(len(self.changes.groups))]
        if len(listed) == 1:
            listed[0]["sure"] = "proven"
            return [(listed[0], amount)]
        bar = as_bar("together", "; ".join(one["text"] for one in listed))
        bar["sure"] = "likely"
        bar["changes"] = listed
        return [(bar, amount)]

    def seen(self, cost: Cost, run: str, bars: list[WaterfallBar] | None) -> WaterfallSeen:
        asked, measure = self.asked, measure_spec(self.asked.asset)
        seen: WaterfallSeen = {
            "asset": asked.asset.id,
            "env": asked.env,
            "unit": measure.unit,
            "format": measure.format,
            "by": list(asked.by),
            "before": self._side(asked.before, asked.known[0], self.first.value),
            "after": self._side(asked.after, asked.known[1], self.last.value),
            "difference": decimal_text(self.last.value - self.first.value),
            "restated": {
                "then": decimal_text(self.first.value),
                "now": decimal_text(self.restated) if self.restated is not None else "",
                "by": decimal_text(self.restated - self.first.value)
                if self.restated is not None
                else "",
            },
            "changes": [self.changes.change(n) for n in range(len(self.changes.groups))],
            "cases": len(self.cases),
            "sampled": bool(self.orders),
            "cost": {
                "steps": cost.steps,
                "partitions": cost.partitions,
                "seconds": cost.seconds,
            },
            "run": run,
            "notes": list(dict.fromkeys(self.changes.notes)),
        }
        if bars is not None:
            seen["bars"] = bars
        return seen

    def _side(self, span: Span, seq: int, value: Decimal) -> Any:
        found = entries(self.core.state.read, "event_by_seq", (seq,))
        at = found[0].envelope.time if found else 0
        since, until = span.texts()
        return {
            "since": since,
            "until": until,
            "known_at": iso(at),
            "known": seq,
            "value": decimal_text(value),
        }


def waterfall(
    runs: Runs,
    see: Visibility,
    asked: Question,
    *,
    derive_as: Principal | None = None,
    told: Progress | None = None,
) -> WaterfallSeen:
    """Answer a question. What is not known yet is derived when somebody is given to derive it as;
    otherwise the answer says what that takes, and has no bars."""
    found = Waterfall(runs, see, asked)
    found.changes.lend()
    cost = found.changes.plan(found.wanted)
    if not cost.partitions:
        return found.answer(cost, "")
    if derive_as is None:
        return found.seen(cost, "", None)
    run = found.changes.derive(cost, derive_as, told)
    return found.answer(cost, run)


# ---------------------------------------------------------------- texts


def _places(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def _rounded(value: Fraction, places: int = 12) -> Decimal:
    whole = math.floor(value * 10**places + Fraction(1, 2))
    return Decimal(whole).scaleb(-places)
