"""What was changed between two moments of what some assets are made of, and what it takes to make
them without some of it. What asks so - `app/waterfall`, `app/bisect` - says in which cases.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from sextant.app.derivation.deriving import At, Deriving, Job, Lost
from sextant.app.derivation.past import Happened, Held, Made, Past
from sextant.app.derivation.running import derive
from sextant.app.derivation.variants import Variants
from sextant.app.plans import DERIVATION, outputs_of
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.engine.execute import Task
from sextant.engine.history import History
from sextant.engine.holds import is_source
from sextant.engine.reasons import Declared, differences
from sextant.kernel.answers import WaterfallBar
from sextant.kernel.clock import iso
from sextant.kernel.errors import StepFailed, UsageError
from sextant.kernel.kinds import takes_time
from sextant.kernel.limits import DERIVED_SECONDS_MAX
from sextant.kernel.nouns import Asset, Principal, Version
from sextant.ledger.projections import stored_run

_FAR = 1 << 62
_LEND_RUNS = 5  # newest derivations whose contents are taken again
_RUNS_READ = 200  # of all, among which they are looked for
_LOST_TURNS = 20
_WORKER_S = 1.5  # a worker that starts with other code
_STEP_S = 0.02  # a step, besides its partitions
_ONLY_LOOKED_AT = 0.6  # without profiles and checks, of what a partition takes otherwise
_PARTITION_S = 0.05  # a partition of which nobody knows
_VERSIONS_TIMED = 20


class Cost(NamedTuple):
    """What a derivation takes."""

    steps: int
    partitions: int
    seconds: float


class Changes:
    """The changes since a moment that can matter to some partitions, in the order of time.

    groups   the changes that are told apart, each a few places in `past.changes`: a case is a bit
             mask of them
    befores  of each, those that must have come before it
    lost     changes of which something is not kept any more
    notes    what an answer has to say
    """

    def __init__(
        self,
        runs: Runs,
        see: Visibility,
        env: str,
        about: str,
        known: tuple[int, int],
        *,
        apart: int,
        afresh: bool = False,
    ) -> None:
        """about   the asset that is asked about
        known   positions in the ledger
        apart   so many changes are told apart; earlier ones count as one
        afresh  see `Deriving`
        """
        self.runs, self.core, self.see = runs, runs.core, see
        self.env, self.about, self._apart = env, about, apart
        self._afresh = afresh
        self.variants = Variants(self.core, env)
        self.past = Past(self.core, env, *known)
        self.notes: list[str] = []
        self.unrepeatable: list[str] = []  # assets whose steps make something else each time
        self.failed = ""  # why a step failed: then not all can be told apart
        self.lost: set[int] = set()
        self.groups: list[list[int]] = []
        self.jobs: list[Job] = []
        self.tasks: list[Task] = []
        self._keys: Sequence[tuple[str, str]] = ()

    def read(self, roots: Iterable[str]) -> None:
        """Read what became of some assets and of all that they are made of."""
        todo, done = list(roots), set[str]()
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

    def number(self, keys: Sequence[tuple[str, str]]) -> None:
        """Number the changes that can matter, by time; earlier ones than are told apart count as
        one. `keys`: the partitions, as (asset, partition)."""
        self._keys = keys
        self.deriving = Deriving(self.core, self.past, self.variants, afresh=self._afresh)
        mask = 0
        for asset, key in keys:
            mask |= self.deriving.mask(asset, key)
        matter = [n for n in range(len(self.past.changes)) if mask >> n & 1]
        matter.sort(key=lambda n: (self.past.changes[n].at, n))
        first = max(0, len(matter) - self._apart) + 1
        self.groups = [matter[:first], *([n] for n in matter[first:])] if matter else []
        used = {change: n for n, group in enumerate(self.groups) for change in group}
        self.befores = self.past.befores(used, len(self.groups))

    def mask_of(self, case: int) -> int:
        """Return the changes of a case of groups."""
        mask = 0
        for n, group in enumerate(self.groups):
            if case >> n & 1:
                for change in group:
                    mask |= 1 << change
        return mask

    def is_last(self, n: int) -> bool:
        """Say whether nothing presupposes a change."""
        return not any(before >> n & 1 for before in self.befores)

    def plan(self, wanted: Callable[[], Iterable[At]]) -> Cost:
        """Find out what has to be derived, and what that takes. What is not kept any more is taken
        as it was later, and said."""
        for _ in range(_LOST_TURNS):
            try:
                self.jobs = self.deriving.plan(wanted())
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
        self.number(self._keys)
        self.deriving.lend(self._lent)

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
        if self._afresh:
            return ()
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

    def derive(self, cost: Cost, by: Principal, told: Progress | None) -> str:
        """Make what has to be derived; return the id of the run that does it. UsageError where that
        would take too long."""
        if cost.seconds > DERIVED_SECONDS_MAX:
            raise UsageError(
                "SX-DERIVE-016",
                f"this would take about {cost.seconds:,.0f} s, more than "
                f"{DERIVED_SECONDS_MAX:,.0f}",
                hint="ask for a shorter time, or moments that are closer together",
            )
        run, self.failed = derive(
            self.runs, self.env, self.about, self.deriving, self.tasks, by, told
        )
        return run

    def change(self, n: int) -> WaterfallBar:
        """Return a change as people know it, without its amount."""
        group = [self.past.changes[change] for change in self.groups[n]]
        change = group[-1]
        if len(group) > 1:
            text = f"{len(group)} earlier changes, until {iso(change.at)[:19]}Z"
            return as_bar("earlier", text)
        release = self.see.release(change.release)
        asset = self.core.assets.known(change.asset, self.env)
        metric = asset.defined_by if asset is not None and asset.defined_by else change.asset
        plain = as_bar(change.what, self._words(change, metric))
        moved = next((move.target for move in release.moves if move.asset == metric), "")
        is_undo = release.intent == "undo"
        found: WaterfallBar = {
            **plain,
            "asset": metric,
            "owner": asset.owner if asset is not None else "",
            "release": release.id,
            "by": release.by,
            "at": iso(change.at),
            "reason": release.reason,
            "run": release.run,
            "version": moved,
            "partitions": change.partitions,
            "undo": "" if is_undo else f"sextant rollback {metric} {moved[:12]} --env {self.env}",
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
            count = change.partitions
            return f"{count} partition{'s' if count != 1 else ''} of {name} with other rows"
        if change.what == "undo":
            return f"undo of {name}"
        return f"an older version of {name}, released by hand"


def is_given(asset: Asset) -> bool:
    """Say whether an asset's contents are taken as they were: it reads nothing that is known here,
    its steps have effects outside, or its releases take time."""
    build = asset.build
    return build is None or not build.inputs or build.durability == "strict" or takes_time(asset.id)


def as_bar(what: str, text: str) -> WaterfallBar:
    """Return a bar that moves nothing yet."""
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
