"""Which change turned a business number, or a check, between two moments: found by halving the
changes in the order of time. In each half the number is derived, or the check is run on what is
derived (`app/derivation`); nothing of it is released. Called by `Operations.bisect`.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

import msgspec

from sextant.app.derivation.changes import Changes
from sextant.app.derivation.deriving import At
from sextant.app.derivation.number import Number, fraction_text
from sextant.app.derivation.past import Slot
from sextant.app.derivation.question import Question, keys_within, slices_of
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.engine.plan import Plan
from sextant.engine.work import RunWork
from sextant.kernel.answers import BisectSeen, BisectStep, WaterfallBar
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import BISECTED_CHANGES_MAX
from sextant.kernel.nouns import Asset, CheckSpec, Principal, values_by_definition
from sextant.kinds.kpi.series import Span
from sextant.kinds.kpi.spec import measure_spec


class State(Protocol):
    """What is looked at in each case of some changes."""

    changes: Changes

    def read(self) -> None:
        """Read what became of it, and number the changes that can matter."""

    def wanted(self, case: int) -> list[At]:
        """Return the contents that it takes in a case."""

    def look(self, case: int) -> tuple[str, str]:
        """Return its state once these are there, and a message; "" where it has none."""

    def like(self, state: str, before: str, after: str) -> str:
        """Return the one of two moments whose state another one is like."""


class NumberState:
    """A business number over a part of time."""

    def __init__(self, changes: Changes, kpi: Asset, span: Span, threshold: Decimal | None) -> None:
        """threshold  what divides the two moments; None = halfway between their numbers"""
        self.changes, self._threshold = changes, threshold
        self._number = Number(changes, kpi, span)

    def read(self) -> None:
        self._number.refuse_hidden(())
        self._number.read()

    def wanted(self, case: int) -> list[At]:
        return self._number.wanted(case)[1]

    def look(self, case: int) -> tuple[str, str]:
        value = self._number.values_of([case])[case]
        if value is None:
            return "", self.changes.failed or "the number has no value"
        return fraction_text(value), ""

    def like(self, state: str, before: str, after: str) -> str:
        one, first, last = Decimal(state), Decimal(before), Decimal(after)
        middle = self._threshold if self._threshold is not None else (first + last) / 2
        return "after" if (one > middle) == (last > middle) else "before"


class CheckState:
    """A check of a table, or of the part of it that lies in a part of time."""

    def __init__(self, changes: Changes, asset: Asset, check: CheckSpec, span: Span) -> None:
        self.changes, self._span = changes, span
        self._check = msgspec.structs.replace(check, scope="table")
        self._asset = msgspec.structs.replace(asset, checks=(self._check,))
        parent = str(check.params.get("to", "")).rpartition(".")[0]  # that it compares with
        self._tables = [asset.id, *([parent] if parent and parent != asset.id else [])]

    def read(self) -> None:
        self.changes.read(self._tables)
        self._keys: list[Slot] = []
        for id_ in self._tables:
            of = self.changes.variants.any(id_)
            if of is not None:
                there = [key for asset, key in self.changes.past.slots if asset == id_]
                span = self._span if id_ == self._asset.id else Span()
                self._keys += [(id_, key) for key in keys_within(slices_of(of), span, there)]
        self.changes.number(self._keys)

    def wanted(self, case: int) -> list[At]:
        mask = self.changes.mask_of(case)
        return [(asset, key, mask) for asset, key in self._keys]

    def look(self, case: int) -> tuple[str, str]:
        changes, core = self.changes, self.changes.core
        wanted, manifest = self.wanted(case), core.project.manifest(changes.env)
        if changes.deriving.is_open(wanted):
            return "", changes.failed
        chosen = {(asset, key): mask for asset, key, mask in wanted}
        with changes.runs.bundles.unpacked(manifest.bundle) as project:
            work = RunWork(
                core,
                Plan(env=changes.env),
                msgspec.structs.replace(
                    manifest,
                    assets=tuple(
                        self._asset if one.id == self._asset.id else one for one in manifest.assets
                    ),
                ),
                run=core.ids.new("chk"),
                executors=changes.runs.executors.get,
                tables={id_: changes.deriving.table(chosen, id_) for id_ in self._tables},
                project=str(project),
            )
            result = work.audit_now(self._asset)
        if not result.ok:
            return "", result.error
        (found,) = result.checks
        return "passed" if found.ok else "failed", changes.see.check(found).message

    def like(self, state: str, before: str, after: str) -> str:
        return "before" if state == before != after else "after"


class Bisect:
    """A search at one platform."""

    def __init__(self, state: State, by: Principal, most_s: float, told: Progress | None) -> None:
        """most_s  what may be derived in all"""
        self.changes, self._state = state.changes, state
        self._by, self._left_s, self._told = by, most_s, told
        self.steps: list[BisectStep] = []
        self.runs: list[str] = []
        state.read()
        self.count = len(self.changes.groups)
        if self.count > BISECTED_CHANGES_MAX:
            raise UsageError(
                "SX-DERIVE-017",
                f"{self.count:,} changes lie between the two moments, more than "
                f"{BISECTED_CHANGES_MAX:,}",
                hint="choose moments that are closer together",
            )
        self.changes.lend()

    def look(self, count: int) -> BisectStep:
        """Look at the state after the first `count` changes."""
        case = (1 << count) - 1
        cost = self.changes.plan(lambda: self._state.wanted(case))
        if cost.partitions:
            if cost.seconds > self._left_s:
                raise UsageError(
                    "SX-DERIVE-018",
                    f"to go on would take about {cost.seconds:,.0f} s more than is left of "
                    "what may be derived",
                    hint="raise --most, or choose moments that are closer together",
                )
            self._left_s -= cost.seconds
            self.runs.append(self.changes.derive(cost, self._by, self._told))
        state, message = self._state.look(case)
        return {"changes": count, "state": state, "like": "", "message": message}

    def ends(self) -> tuple[BisectStep, BisectStep]:
        """Look at the two moments. UsageError where nothing turned between them."""
        first, last = self.look(0), self.look(self.count)
        for one, when in ((first, "at the first moment"), (last, "at the second moment")):
            if not one["state"]:
                raise UsageError(
                    "SX-DERIVE-019",
                    f"there is nothing to compare with {when}: {one['message']}",
                    hint="choose another moment",
                )
        if self._state.like(first["state"], first["state"], last["state"]) == "after":
            raise UsageError(
                "SX-DERIVE-020",
                f"nothing turned between the two moments: {first['state']} before, "
                f"{last['state']} after",
                hint="choose moments that differ, or another --threshold",
            )
        first["like"], last["like"] = "before", "after"
        return first, last

    def search(self, first: BisectStep, last: BisectStep) -> tuple[BisectStep, BisectStep]:
        """Return the two neighbouring states between which it turned. What has no state is left
        out."""
        low, high, blind = first, last, set[int]()
        while True:
            between = [n for n in range(low["changes"] + 1, high["changes"]) if n not in blind]
            if not between:
                return low, high
            found = self.look(between[len(between) // 2])
            self.steps.append(found)
            if not found["state"]:
                blind.add(found["changes"])
                continue
            found["like"] = self._state.like(found["state"], first["state"], last["state"])
            low, high = (found, high) if found["like"] == "before" else (low, found)


def bisect(
    runs: Runs,
    see: Visibility,
    asked: Question,
    check: str,
    *,
    threshold: str,
    most_s: float,
    by: Principal,
    told: Progress | None = None,
) -> BisectSeen:
    """Find the change that turned a number, or a check, between two moments.

    check      the name of one of the asset's, or how it begins; "" = the number
    threshold  a decimal that divides the two moments; "" = halfway between their numbers
    most_s     what may be expected of all that is derived
    """
    # all of them are told apart: halving takes as few states as their number has digits
    changes = Changes(
        runs, see, asked.env, asked.asset.id, asked.known, apart=BISECTED_CHANGES_MAX + 1
    )
    state: State
    unit = format_ = ""
    if check:
        asset, spec = _checked(runs, asked, check)
        check = spec.name
        state = CheckState(changes, asset, spec, asked.after)
    else:
        measure = measure_spec(asked.asset)
        unit, format_ = measure.unit, measure.format
        state = NumberState(changes, asked.asset, asked.after, _threshold(threshold))
    found = Bisect(state, by, most_s, told)
    first, last = found.ends()
    low, high = found.search(first, last)
    since, until = asked.after.texts()
    groups = range(low["changes"], high["changes"])
    is_sure = len(groups) == 1 and not changes.unrepeatable
    return {
        "asset": asked.asset.id,
        "env": asked.env,
        "check": check,
        "unit": unit,
        "format": format_,
        "since": since,
        "until": until,
        "before": low,
        "after": high,
        "changes": found.count,
        "found": _found(changes, groups, low, high, check),
        "sure": "proven" if is_sure and _is_kept(changes, groups) else "likely",
        "steps": [first, last, *found.steps],
        "runs": found.runs,
        "notes": list(dict.fromkeys(changes.notes)),
    }


def _found(
    changes: Changes, groups: Sequence[int], low: BisectStep, high: BisectStep, check: str
) -> list[WaterfallBar]:
    bars = [changes.change(n) for n in groups]
    if len(bars) == 1 and not check:
        bars[0]["amount"] = fraction_text(Fraction(high["state"]) - Fraction(low["state"]))
    return bars


def _is_kept(changes: Changes, groups: Sequence[int]) -> bool:
    return all(changes.lost.isdisjoint(changes.groups[n]) for n in groups)


def _checked(runs: Runs, asked: Question, check: str) -> tuple[Asset, CheckSpec]:
    """Return the table that a check is of, and the check, by its name or how that begins.
    NotFound."""
    manifest = runs.core.project.manifest(asked.env)
    values = values_by_definition(manifest.assets).get(asked.asset.id, "")
    asset = manifest.asset(values) or asked.asset  # what is checked of a definition are its values
    found = [one for one in asset.checks if one.name == check] or [
        one for one in asset.checks if one.name.startswith(check)
    ]
    if len(found) != 1:
        names = ", ".join(one.name for one in found or asset.checks) or "none"
        raise NotFound(
            "SX-DERIVE-021",
            f"`{asked.asset.id}` has {'several checks' if found else 'no check'} `{check}`",
            hint=f"it has {names}",
        )
    return asset, found[0]


def _threshold(text: str) -> Decimal | None:
    try:
        found = Decimal(text) if text else None
    except ArithmeticError:
        found = Decimal("nan")
    if found is not None and not found.is_finite():
        raise UsageError(
            "SX-DERIVE-022", f"`{text[:40]}` is no number", hint="as in `--threshold 0.5`"
        )
    return found
