"""What moved a business number, as a sum: the rows themselves, and each change that was made
between two moments - other rows of a source, code, definitions, versions released by hand, undos.

The number is derived without each of them (`app/derivation`), so what each has moved is proven and
not correlated; how the effects of several share a difference is said by `engine/shares.py`. Called
by `Operations.waterfall` and `derive_waterfall`.
"""

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from sextant.app.derivation.deriving import At, Content, Deriving, Job, Lost
from sextant.app.derivation.past import Happened, Held, Made, Past, code_of
from sextant.app.derivation.question import (
    Question,
    keys_within,
    no_values,
    slices_of,
    values_of_kpi,
)
from sextant.app.derivation.running import derive
from sextant.app.derivation.variants import Variants
from sextant.app.plans import DERIVATION, outputs_of
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.engine import shares as sharing
from sextant.engine.history import History
from sextant.engine.holds import is_source
from sextant.engine.reasons import Declared, differences
from sextant.engine.staged import RunAsset
from sextant.formats.values import plain
from sextant.kernel import kinds
from sextant.kernel.answers import WaterfallBar, WaterfallSeen
from sextant.kernel.clock import iso
from sextant.kernel.errors import Denied, NotFound, StepFailed, UsageError
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import (
    DERIVED_CASES_MAX,
    DERIVED_CHANGES_MAX,
    DERIVED_ORDERS,
    DERIVED_SECONDS_MAX,
)
from sextant.kernel.nouns import Asset, Principal, Version
from sextant.kinds.kpi import cases as numbers
from sextant.kinds.kpi.cases import Piece, drivers, exact
from sextant.kinds.kpi.series import Span
from sextant.kinds.kpi.spec import Measure, measure_spec
from sextant.ledger.log import entries
from sextant.ledger.projections import stored_run

_FAR = 1 << 62
_LEND_RUNS = 5  # newest derivations whose contents are taken again
_RUNS_READ = 200  # of all, among which they are looked for
_PLACES = 6  # decimal places of a share, at least
_LOST_TURNS = 20
_WORKER_S = 1.5  # a worker that starts with other code
_STEP_S = 0.02  # a step, besides its partitions
_ONLY_LOOKED_AT = (
    0.6  # of what a partition takes otherwise: without profiles and checks, and often the same
)
_PARTITION_S = 0.05  # a partition of which nobody knows
_VERSIONS_TIMED = 20


class Known(NamedTuple):
    """A number as it was known, with the pieces that it was added up from."""

    value: Decimal
    measure: Measure
    pieces: list[Piece]


class Cost(NamedTuple):
    """What a derivation takes."""

    steps: int
    partitions: int
    seconds: float


class Waterfall:
    """One question at one platform, on the way to its answer."""

    def __init__(self, runs: Runs, see: Visibility, asked: Question) -> None:
        self.runs, self.core, self.see, self.asked = runs, runs.core, see, asked
        self.values = values_of_kpi(self.core, asked.env, asked.kpi)
        self._refuse_hidden()
        self.tz = self.core.project.manifest(asked.env).tz
        self.slices = slices_of(self.values)
        self.variants = Variants(self.core, asked.env)
        self.past = Past(self.core, asked.env, *asked.known)
        self.notes: list[str] = []
        self.unrepeatable: list[str] = []  # assets whose steps make something else each time
        self.failed = ""  # why a step failed: then not all can be told apart
        self._read_past()
        self.first = self._known(self.past.first, asked.before)
        self.last = self._known(self.past.last, asked.after)
        self.restated = self._restated()
        self.deriving = Deriving(self.core, self.past, self.variants)
        self.lost: set[int] = set()  # changes of which something is not kept any more
        self._bits()
        self._choose_cases()

    def _refuse_hidden(self) -> None:
        live = self.core.versions.live_version(self.asked.env, self.values.id)
        if not live:
            raise no_values(self.asked.kpi, self.asked.env)
        hidden = self.see.hidden_columns(self.core.versions.get(self.values.id, live))
        personal = [name for name in ("value", "bucket", *self.asked.by) if name in hidden]
        if personal:
            raise Denied(
                "SX-DERIVE-012",
                f"{', '.join(personal)} of `{self.asked.kpi.id}` is personal",
                hint="an administrator can ask",
            )

    def _read_past(self) -> None:
        """Read what became of the values and of all that they are made of."""
        todo, done = [self.values.id], set[str]()
        while todo:
            id_ = todo.pop()
            if id_ in done:
                continue
            done.add(id_)
            asset = self.variants.any(id_)
            if asset is None or asset.build is None:
                continue  # what another tool manages has no versions here
            given = is_given(asset)
            codes = self.past.read(
                asset,
                functools.partial(self._inputs_of, id_),
                given=given,
            )
            if not given:
                todo += sorted(self.variants.inputs(id_, codes))
            if asset.build.durability == "strict" and not is_source(asset):
                self.notes.append(
                    f"{id_} has effects outside: it is not run again, and counts as it was"
                )

    def _inputs_of(self, asset: str, code: str) -> set[str]:
        return self.variants.inputs(asset, {code})

    def _known(self, versions: Mapping[str, str], span: Span) -> Known:
        """Return the number over a part of time as some versions had it. UsageError where it had
        none, NotFound where they are not kept any more."""
        core, values = self.core, self.values.id
        if not versions.get(values):
            raise no_values(self.asked.kpi, self.asked.env)
        parts = core.versions.parts(values, versions[values])
        wanted = keys_within(self.slices, span, parts)
        if not wanted:
            raise no_values(self.asked.kpi, self.asked.env)
        measure = self._measure(parts[wanted[-1]].code)
        stored = numbers.stored_in(measure, values)
        version = versions.get(stored, "")
        if core.state.read("version_expired_is", (stored, version)) or not version:
            raise NotFound(
                "SX-DERIVE-003",
                f"the rows of `{stored}` as they were known then are not kept any more",
                hint="choose a later --known-from; `keep` of an asset says how long versions stay",
            )
        record = core.versions.get(stored, version)
        of = self.variants.any(stored)
        slices = slices_of(of) if of is not None else self.slices
        there = core.versions.parts(stored, version)
        table = RunAsset(
            stored,
            version,
            record.locator,
            there,
            record.schema,
            kinds.made(stored.partition(":")[0]).bodies(core).files,
        )
        pieces = [
            Piece(key, table.sets([key]), record.schema) for key in keys_within(slices, span, there)
        ]
        value = exact(numbers.values(core, measure, self.tz, span, {0: pieces})[0])
        if value is None:
            raise UsageError(
                "SX-DERIVE-013",
                f"`{self.asked.kpi.id}` has no value over {_text(span)}",
                hint="choose a time with rows",
            )
        return Known(value, measure, pieces)

    def _restated(self) -> Decimal | None:
        """Return the number over the time before, as it is known at the end; None where it has none
        any more."""
        try:
            return self._known(self.past.last, self.asked.before).value
        except (NotFound, UsageError):
            return None

    def _measure(self, code: str) -> Measure:
        """Return the definition by which values were made."""
        variant = self.variants.get(self.values.id, code)
        if variant is None:  # made by an earlier release of Sextant: as it is declared now
            return self._timed(measure_spec(self.asked.kpi))
        metric = variant.manifest.asset(variant.asset.defined_by)
        return self._timed(measure_spec(metric if metric is not None else self.asked.kpi))

    def _timed(self, measure: Measure) -> Measure:
        from sextant.kinds.dataset.spec import table_spec

        of = self.variants.any(measure.of)
        time = measure.time or (table_spec(of).time if of is not None else "")
        return msgspec.structs.replace(measure, time=time)

    # ------------------------------------------------------------ cases

    def _bits(self) -> None:
        """Number the changes that can matter, by time; earlier ones than are told apart count as
        one."""
        mask = 0
        for asset, key in self._root_keys:
            mask |= self.deriving.mask(asset, key)
        matter = [n for n in range(len(self.past.changes)) if mask >> n & 1]
        matter.sort(key=lambda n: (self.past.changes[n].at, n))
        first = max(0, len(matter) - DERIVED_CHANGES_MAX) + 1
        self.groups = [matter[:first], *([n] for n in matter[first:])] if matter else []

    @functools.cached_property
    def _root_keys(self) -> list[tuple[str, str]]:
        """The partitions that the number may be added up from, over the time after."""
        codes = {
            code
            for (asset, _), written in self.past.slots.items()
            if asset == self.values.id
            for code in written.codes()
        }
        stored = {numbers.stored_in(self._measure(code), self.values.id) for code in codes}
        out: list[tuple[str, str]] = []
        for root in sorted({self.values.id, *stored}):
            of = self.variants.any(root)
            if of is not None:
                there = [key for asset, key in self.past.slots if asset == root]
                out += [(root, key) for key in keys_within(slices_of(of), self.asked.after, there)]
        return out

    def mask_of(self, case: int) -> int:
        """Return the changes of a case of groups."""
        mask = 0
        for n, group in enumerate(self.groups):
            if case >> n & 1:
                for change in group:
                    mask |= 1 << change
        return mask

    def _choose_cases(self) -> None:
        used = {change: n for n, group in enumerate(self.groups) for change in group}
        self.befores = self.past.befores(used, len(self.groups))
        self.full = (1 << len(self.groups)) - 1
        found = sharing.cases(self.befores, DERIVED_CASES_MAX)
        self.orders: list[tuple[int, ...]] = []
        if found is None:
            self.orders = sharing.sampled_orders(self.befores, DERIVED_ORDERS, self._seed())
            found = sharing.cases_of(self.orders)
            without = {self.full & ~(1 << n) for n in range(len(self.groups)) if self._is_last(n)}
            found = sorted({*found, *without}, key=lambda case: (case.bit_count(), case))
        self.cases = found

    def _is_last(self, n: int) -> bool:
        """Say whether nothing presupposes a change."""
        return not any(before >> n & 1 for before in self.befores)

    def _seed(self) -> str:
        """Return what the sample of orders follows from: the question, not when it is asked."""
        changes = [self.past.changes[n] for group in self.groups for n in group]
        said = [(one.what, one.asset, one.release.id, one.code) for one in changes]
        spans = (self.asked.before.texts(), self.asked.after.texts())
        return hashlib.sha256(msgspec.json.encode([spans, said])).hexdigest()

    def _wanted(self, case: int) -> tuple[Measure, list[At]]:
        """Return the definition in a case, and the contents that the number is added up from."""
        mask = self.mask_of(case)
        slots = [key for asset, key in self._root_keys if asset == self.values.id]
        content = self.past.slots[self.values.id, slots[-1]].at(mask) if slots else None
        measure = self._measure(code_of(content))
        root = numbers.stored_in(measure, self.values.id)
        return measure, [(asset, key, mask) for asset, key in self._root_keys if asset == root]

    # ------------------------------------------------------------ deriving

    def plan(self) -> Cost:
        """Find out what has to be derived, and what that takes. What is not kept any more is taken
        as it was later, and said."""
        for _ in range(_LOST_TURNS):
            try:
                wanted = [at for case in self.cases for at in self._wanted(case)[1]]
                self.jobs = self.deriving.plan(wanted)
                break
            except Lost as lost:
                self._do_without(lost)
        else:
            raise StepFailed(
                "SX-DERIVE-014",
                "too much of what was live then is not kept any more",
                hint="choose a later --known-from",
            )
        self.tasks = self.deriving.tasks() if self.jobs else []
        self.unrepeatable = self._unrepeatable()
        if self.unrepeatable:
            self.notes.append(
                f"{', '.join(self.unrepeatable)} would not come out the same again "
                "(deterministic=False): no share is proven"
            )
        return self.cost()

    def _unrepeatable(self) -> list[str]:
        """Return the assets on the way of a change whose steps make something else each time."""
        found = set()
        for asset, key in self.past.slots:
            of = self.variants.any(asset)
            if asset not in found and of is not None and of.build and not of.build.deterministic:
                found |= {asset} if self.deriving.mask(asset, key) else set()
        return sorted(found)

    def _do_without(self, lost: Lost) -> None:
        """Put what was kept in the place of what was lost."""
        said: dict[str, int] = {}
        for asset, key, content in lost.slots:
            written = self.past.slots[asset, key]
            instead = self._as_it_was(asset, key, content) if isinstance(content, Made) else None
            if instead is not None:
                written.base = instead if written.base == content else written.base
                written.writes = [(n, instead if c == content else c) for n, c in written.writes]
            elif written.base == content:
                changes = [n for n, _ in written.writes]
                self.lost |= set(changes[:1])
                written.base = written.writes[0][1] if written.writes else None
                written.writes = written.writes[1:]
            else:
                self.lost |= {n for n, c in written.writes if c == content}
                written.writes = [(n, c) for n, c in written.writes if c != content]
            said[asset] = said.get(asset, 0) + 1
        for asset, count in said.items():
            self.notes.append(
                f"{count} partitions of {asset} cannot be derived again, for their rows or their "
                "code are not kept any more: they count as they were"
            )
        self.deriving = Deriving(self.core, self.past, self.variants)
        self.deriving.lend(self._lent)
        self._bits()
        self._choose_cases()

    def _as_it_was(self, asset: str, key: str, content: Made) -> Held | None:
        for version in reversed(self.past.versions.get(asset, [])):
            part = self.core.versions.parts(asset, version).get(key)
            is_kept = not self.core.state.read("version_expired_is", (asset, version))
            if part is not None and part.code == content.code and is_kept:
                return Held(version, part)
        return None

    @functools.cached_property
    def _lent(self) -> tuple[tuple[str, str], ...]:
        """(asset, output) of the steps of the newest derivations."""
        state = self.core.state
        found = [
            row[0]
            for row in state.read("runs", (_FAR, _RUNS_READ))
            if stored_run(row[3]).trigger == DERIVATION
        ]
        return tuple(
            one for run in found[:_LEND_RUNS] for one in outputs_of(History.open(state, run))
        )

    def lend(self) -> None:
        """Take what earlier derivations have made."""
        self.deriving.lend(self._lent)

    def cost(self) -> Cost:
        """Return what the derivation takes, by what the assets took when they were made."""
        slots = self.runs.executors.get("").slots
        each = {asset: self._seconds(asset) for asset in {job.asset for job in self.jobs}}
        work = sum(each[job.asset] for job in self.jobs)
        bundles = {job.variant.manifest.bundle for job in self.jobs}
        seconds = (
            _ONLY_LOOKED_AT * work + _STEP_S * len(self.tasks) + _WORKER_S * len(bundles)
        ) / max(1, min(slots, len(self.tasks)))
        return Cost(len(self.tasks), len(self.jobs), round(seconds, 1))

    def _seconds(self, asset: str) -> float:
        """Return what a partition of an asset took, over its newest versions: one alone may be that
        of a worker that had just started."""
        made, took_s = 0, 0.0
        for _, doc, _, _ in self.core.state.read("versions", (asset, _FAR, _VERSIONS_TIMED)):
            meta = msgspec.json.decode(doc, type=Version).meta
            made, took_s = made + meta.get("made", 0), took_s + meta.get("wall_s", 0.0)
        return took_s / made if made else _PARTITION_S

    def derive(self, by: Principal, told: Progress | None) -> str:
        """Make what has to be derived; return the id of the run that does it."""
        run, self.failed = derive(
            self.runs, self.asked.env, self.asked.kpi.id, self.deriving, self.tasks, by, told
        )
        return run

    # ------------------------------------------------------------ the answer

    def values_of(self, cases: Iterable[int]) -> dict[int, Fraction | None]:
        """Return the number in each case; None where it has none, or was not derived."""
        by_measure: dict[Measure, dict[int, list[Piece]]] = {}
        out: dict[int, Fraction | None] = {}
        pieces: dict[At, Piece] = {}
        for case in cases:
            measure, wanted = self._wanted(case)
            chosen: list[Piece] = []
            for asset, key, mask in wanted:
                at = (asset, key, mask & self.deriving.mask(asset, key))
                if at not in pieces:
                    content = self.deriving.content(*at)
                    if isinstance(content, Job):
                        out[case] = None
                        break
                    if content is None:
                        continue
                    pieces[at] = self._piece(asset, content)
                chosen.append(pieces[at])
            else:
                by_measure.setdefault(measure, {})[case] = chosen
        for measure, mine in by_measure.items():
            found = numbers.values(self.core, measure, self.tz, self.asked.after, mine)
            for case, value in found.items():
                number = exact(value)
                out[case] = None if number is None else Fraction(number)
        return out

    def _piece(self, asset: str, content: Content) -> Piece:
        part = content.staged.part
        files = kinds.made(asset.partition(":")[0]).bodies(self.core).files
        table = RunAsset(asset, "", "", {}, content.schema, files)
        table.staged[part.partition] = content.staged
        return Piece(part.partition, table.sets([part.partition]), content.schema)

    def base_pieces(self) -> list[Piece]:
        """Return what the number of the time after is added up from, without any change."""
        _, wanted = self._wanted(0)
        found = [(at[0], self.deriving.content(*at)) for at in wanted]
        return [self._piece(asset, one) for asset, one in found if isinstance(one, Content)]

    def answer(self, cost: Cost, run: str) -> WaterfallSeen:
        """Return the bars."""
        found = self.values_of(self.cases)
        places = max(_PLACES, _places(self.first.value), _places(self.last.value))
        missing = [case for case in self.cases if found.get(case) is None]
        start, end = Fraction(self.first.value), Fraction(self.last.value)
        bars: list[tuple[WaterfallBar, Fraction]] = []
        base = found.get(0)
        if missing:
            self.notes.append(
                "the changes cannot be told apart: "
                + (
                    self.see.text(self.failed, *self.past.first)
                    or "without some of them the number has no value"
                )
            )
        is_other_time = self.asked.before != self.asked.after
        if base is not None and (is_other_time or (base != start and self._has_new())):
            bars += self._movement(base - start)
        if base is not None and not missing and self.groups:
            values = {case: value for case, value in found.items() if value is not None}
            bars += self._changes(values)
        elif self.groups:
            whole = found.get(self.full)
            together = (whole if whole is not None else end) - (base if base is not None else start)
            bars += self._together(together)
        rest = end - start - sum((share for _, share in bars), Fraction(0))
        if rest:
            bars.append((_bar("not attributed", "what cannot be told"), rest))
        difference = self.last.value - self.first.value
        amounts = sharing.rounded([share for _, share in bars], difference, places)
        for (bar, _), amount in zip(bars, amounts, strict=True):
            bar["amount"] = _decimal(amount)
        return self._seen(cost, run, [bar for bar, _ in bars])

    def _has_new(self) -> bool:
        """Say whether the time has partitions now that it did not have at first."""
        before = self.core.versions.parts(self.values.id, self.past.first[self.values.id])
        return any(asset == self.values.id and key not in before for asset, key in self._root_keys)

    def _movement(self, amount: Fraction) -> list[tuple[WaterfallBar, Fraction]]:
        """Return what the rows themselves have moved, before any change: of each value of the
        dimensions that were asked for."""
        if not self.asked.by:
            return [(_bar("movement", "the rows of the time after instead of before"), amount)]
        found = drivers(
            self.core,
            self.first.measure,
            self.tz,
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
            bar = _bar("movement", words)
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
            shared = sharing.shares(self.befores, self.cases, values)
            widths = [0.0] * len(shared)
        out = []
        for n, (share, width) in enumerate(zip(shared, widths, strict=True)):
            bar = self._change(n)
            without = values.get(self.full & ~(1 << n)) if self._is_last(n) else None
            if without is not None:
                bar["without"] = _decimal(_rounded(without))
            if width:
                low, high = float(share) - width, float(share) + width
                bar["interval"] = [f"{low:.6g}", f"{high:.6g}"]
            reaches_zero = width > 0 and width >= abs(float(share))
            is_lost = not self.lost.isdisjoint(self.groups[n])
            is_unsure = reaches_zero or is_lost or self.unrepeatable
            bar["sure"] = "likely" if is_unsure else "proven"
            out.append((bar, share))
        return out

    def _together(self, amount: Fraction) -> list[tuple[WaterfallBar, Fraction]]:
        listed = [self._change(n) for n in range(len(self.groups))]
        if len(listed) == 1:
            listed[0]["sure"] = "proven"
            return [(listed[0], amount)]
        bar = _bar("together", "; ".join(one["text"] for one in listed))
        bar["sure"] = "likely"
        bar["changes"] = listed
        return [(bar, amount)]

    def _change(self, n: int) -> WaterfallBar:
        """Return a change as people know it, without its amount."""
        group = [self.past.changes[change] for change in self.groups[n]]
        change = group[-1]
        if len(group) > 1:
            text = f"{len(group)} earlier changes, until {iso(change.at)[:19]}Z"
            return _bar("earlier", text)
        release = self.see.release(change.release)
        asset = self.core.assets.known(change.asset, self.asked.env)
        metric = asset.defined_by if asset is not None and asset.defined_by else change.asset
        bar = _bar(change.what, self._words(change, metric))
        moved = next((move.target for move in release.moves if move.asset == metric), "")
        is_undo = release.intent == "undo"
        found: WaterfallBar = {
            **bar,
            "asset": metric,
            "owner": asset.owner if asset is not None else "",
            "release": release.id,
            "by": release.by,
            "at": iso(change.at),
            "reason": release.reason,
            "run": release.run,
            "version": moved,
            "partitions": change.partitions,
            "undo": ""
            if is_undo
            else f"sextant rollback {metric} {moved[:12]} --env {self.asked.env}",
        }
        if not self.lost.isdisjoint(self.groups[n]):
            found["kept"] = False
        return found

    def _words(self, change: Happened, name: str) -> str:
        if change.what in ("code", "definition"):
            before, after = (self.variants.get(change.asset, code) for code in change.code)
            if before is not None and after is not None:
                said = differences(
                    Declared(before.asset, before.manifest.files),
                    Declared(after.asset, after.manifest.files),
                )
                if said and change.what == "code":
                    return f"code of {name} ({', '.join(said[:3])})"
            return f"{change.what} of {name}"
        if change.what == "rows":
            return f"{change.partitions} partitions of {name} with other rows"
        if change.what == "undo":
            return f"undo of {name}"
        return f"an older version of {name}, released by hand"

    def _seen(self, cost: Cost, run: str, bars: list[WaterfallBar] | None) -> WaterfallSeen:
        asked, measure = self.asked, measure_spec(self.asked.kpi)
        seen: WaterfallSeen = {
            "asset": asked.kpi.id,
            "env": asked.env,
            "unit": measure.unit,
            "format": measure.format,
            "by": list(asked.by),
            "before": self._side(asked.before, asked.known[0], self.first.value),
            "after": self._side(asked.after, asked.known[1], self.last.value),
            "difference": _decimal(self.last.value - self.first.value),
            "restated": {
                "then": _decimal(self.first.value),
                "now": _decimal(self.restated) if self.restated is not None else "",
                "by": _decimal(self.restated - self.first.value)
                if self.restated is not None
                else "",
            },
            "changes": [self._change(n) for n in range(len(self.groups))],
            "cases": len(self.cases),
            "sampled": bool(self.orders),
            "cost": {
                "steps": cost.steps,
                "partitions": cost.partitions,
                "seconds": cost.seconds,
            },
            "run": run,
            "notes": list(dict.fromkeys(self.notes)),
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
            "value": _decimal(value),
        }


def is_given(asset: Asset) -> bool:
    """Say whether an asset's contents are taken as they were: it reads nothing that is known here,
    its steps have effects outside, or its releases take time."""
    build = asset.build
    return build is None or not build.inputs or build.durability == "strict" or takes_time(asset.id)


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
    found.lend()
    cost = found.plan()
    if not cost.partitions:
        return found.answer(cost, "")
    if derive_as is None:
        return found._seen(cost, "", None)
    if cost.seconds > DERIVED_SECONDS_MAX:
        raise UsageError(
            "SX-DERIVE-016",
            f"this would take about {cost.seconds:,.0f} s, more than {DERIVED_SECONDS_MAX:,.0f}",
            hint="ask for a shorter time, or moments that are closer together",
        )
    run = found.derive(derive_as, told)
    return found.answer(cost, run)


# ---------------------------------------------------------------- texts


def _bar(what: str, text: str) -> WaterfallBar:
    return {
        "what": what,
        "text": text,
        "amount": "0",
        "sure": "proven",
        "asset": "",
        "owner": "",
        "release": "",
        "by": "",
        "at": "",
        "reason": "",
        "run": "",
        "version": "",
        "partitions": 0,
        "undo": "",
    }


def _places(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def _rounded(value: Fraction, places: int = 12) -> Decimal:
    whole = math.floor(value * 10**places + Fraction(1, 2))
    return Decimal(whole).scaleb(-places)


def _decimal(value: Decimal) -> str:
    """Return a decimal as text, without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(span: Span) -> str:
    since, until = span.texts()
    return f"{since} .. {until}" if since else "all of the time"
