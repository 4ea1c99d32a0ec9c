"""Derives contents that were never live: which steps that takes, and their run.

A *case* is a set of changes (a bit mask) that have happened; the others have not. Each partition of
each asset has in each case a content: rows that a version holds, or what code makes of what is live
in that case. Most are known, for they were live once, or made before. The rest is made by steps as
any run has them, under their memo keys, and nothing of it is released: it is in no environment, and
files that no history names any more are collected like those of a run that died.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sextant.app.derivation.past import Held, Made, Past, Slot
from sextant.app.derivation.variants import Variant, Variants, bare
from sextant.core import Core
from sextant.engine import keys
from sextant.engine.execute import Done, Task
from sextant.engine.plan import Item, Plan, PlannedStep, Reason, chunks, reads
from sextant.engine.staged import (
    RunAsset,
    Schema,
    Staged,
    StepOutput,
    decode_output,
    merge_schema,
)
from sextant.engine.work import RunWork
from sextant.kernel import kinds
from sextant.kernel.errors import ProjectError
from sextant.kernel.limits import DERIVED_PARTITIONS_MAX
from sextant.kernel.nouns import Input, Part, WorkResult
from sextant.kernel.partitions import Partitioning
from sextant.kernel.ports import Executor
from sextant.project.bundles import Bundles

Key = tuple[str, str, str, str]  # asset, partition, code, inputs
At = tuple[str, str, int]  # asset, partition, the changes of a case that matter to it


class Content(NamedTuple):
    """Where the rows of a partition lie."""

    staged: Staged
    schema: Schema

    @property
    def digest(self) -> str:
        return self.staged.part.digest


class Job(msgspec.Struct, eq=False):
    """A partition that has to be made: by which code, from what, and the step that does it."""

    asset: str
    partition: str
    variant: Variant
    code: str
    chosen: dict[Slot, int]  # each partition that it reads -> the changes that matter to it
    symbol: str  # stands for its content while nobody knows it
    step: str = ""
    made: Content | None = None


class Lost(Exception):
    """Contents cannot be had any more. `slots`: (asset, partition, what is lost)."""

    def __init__(self, slots: list[tuple[str, str, Any]]) -> None:
        super().__init__()
        self.slots = slots


class Deriving:
    """The contents of some assets in many cases.

    past    what was written of them and of all that they are made of
    afresh  take nothing that was made before: only what came from outside is as it was
    """

    def __init__(self, core: Core, past: Past, variants: Variants, *, afresh: bool = False) -> None:
        self._core, self._past, self._variants = core, past, variants
        self.afresh = afresh
        self._masks: dict[Slot, int] = {}
        self._known: dict[At, Content | Job | None] = {}
        self._jobs: dict[Key, Job] = {}
        self._kept: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
        self._held: dict[tuple[str, str, str], Content | None] = {}
        self._spare: dict[Key, Content] = {}
        self._keys: dict[str, list[str]] = {}
        for asset, key in sorted(past.slots):
            self._keys.setdefault(asset, []).append(key)
        self._slices: dict[str, Partitioning] = {}
        self.lost: list[tuple[str, str, Any]] = []

    # ------------------------------------------------------------ what is read

    def slices(self, asset: str) -> Partitioning:
        if asset not in self._slices:
            found = self._variants.any(asset)
            self._slices[asset] = keys.partitioning(found) if found else keys.UNPARTITIONED
        return self._slices[asset]

    def _reads(self, variant: Variant, key: str) -> Iterable[tuple[Input, list[str], bool]]:
        """Yield each input of a variant with the partitions that one of its own reads, whether or
        not they are there, and whether it is all of them together."""
        assert variant.asset.build is not None
        mine = keys.partitioning(variant.asset)
        for bound in variant.asset.build.inputs:
            other = self.slices(bound.asset)
            there = self._keys.get(bound.asset, [])
            if (
                other.grain == "none"
                or bound.window == "all"
                or (mine.grain == "none" and not bound.window)
            ):
                yield bound, there, True
            elif other == mine and not bound.window:
                yield bound, [key], False
            else:
                yield bound, reads(bound, other, mine, key, there), False

    def mask(self, asset: str, key: str) -> int:
        """Return the changes that can matter to a partition."""
        slot = (asset, key)
        found = self._masks.get(slot)
        if found is None:
            self._masks[slot] = 0  # of a circle of different versions of the project
            written = self._past.slots.get(slot)
            found = 0
            if written is not None:
                found = written.mask
                for code in {one.code for one in written.contents() if isinstance(one, Made)}:
                    variant = self._variants.get(asset, code)
                    if variant is None:
                        continue
                    for bound, names, _ in self._reads(variant, key):
                        for name in names:
                            found |= self.mask(bound.asset, name)
            self._masks[slot] = found
        return found

    # ------------------------------------------------------------ what is known, and what is not

    def content(self, asset: str, key: str, case: int) -> Content | Job | None:
        """Return the content of a partition in a case, or the job that makes it; None where there
        is no such partition."""
        at = (asset, key, case & self.mask(asset, key))
        if at not in self._known:
            self._known[at] = self._content(*at)
        found = self._known[at]
        return found.made if isinstance(found, Job) and found.made is not None else found

    def _content(self, asset: str, key: str, case: int) -> Content | Job | None:
        written = self._past.slots.get((asset, key))
        wanted = written.at(case) if written else None
        if wanted is None:
            return None
        if isinstance(wanted, Held):
            return self._holds(asset, wanted)
        variant = self._variants.get(asset, wanted.code)
        # what was live as it is needs no code that is still there
        if variant is None:
            self.lost.append((asset, key, wanted))
            return None
        chosen: dict[Slot, int] = {}
        inputs: list[tuple[str, str, str]] = []
        is_open = False
        for bound, names, whole in self._reads(variant, key):
            found: dict[str, str] = {}
            for name in names:
                one = self.content(bound.asset, name, case)
                if one is None:
                    continue
                is_open = is_open or isinstance(one, Job)
                found[name] = one.symbol if isinstance(one, Job) else one.digest
                chosen[bound.asset, name] = case & self.mask(bound.asset, name)
            above = self._variants.any(bound.asset)
            gaps = bound.window or (above is not None and above.is_pushed)
            if not found or (not whole and not gaps and len(found) < len(names)):
                return None
            if whole:
                parts = {
                    name: Part(partition=name, digest=digest, rows=0)
                    for name, digest in found.items()
                }
                inputs.append((bound.name, "*", keys.content_of(parts)))
            else:
                inputs += [(bound.name, name, found[name]) for name in names if name in found]
        digest = keys.inputs_digest(inputs)
        if not is_open:
            kept = None if self.afresh else self._made_before(asset, key, wanted.code, digest)
            if kept is not None:
                return kept
        job_key = (asset, key, wanted.code, digest)
        if job_key not in self._jobs:
            symbol = f"?{keys.digest(*job_key)}"
            self._jobs[job_key] = Job(asset, key, variant, wanted.code, chosen, symbol)
        return self._jobs[job_key]

    def _holds(self, asset: str, wanted: Held) -> Content | None:
        """Return rows that a version holds: it, or another one with the same content."""
        part = wanted.part
        at = (asset, part.partition, part.digest)
        if at not in self._held:
            self._held[at] = self._find(asset, part, wanted.version)
        found = self._held[at]
        if found is None:
            self.lost.append((asset, part.partition, wanted))
        return found

    def _find(self, asset: str, part: Part, version: str) -> Content | None:
        for digest in (version, *reversed(self._past.versions.get(asset, []))):
            record = self._kept_version(asset, digest)
            if record is None:
                continue
            there = self._core.versions.parts(asset, digest).get(part.partition)
            if there is not None and there.digest == part.digest:
                return Content(Staged(part=part, origin=record[0]), record[1])
        return None

    def _kept_version(self, asset: str, digest: str) -> tuple[str, Schema] | None:
        """Return where a version lies, and its columns; None when it has expired."""
        if not digest or self._core.state.read("version_expired_is", (asset, digest)):
            return None
        record = self._core.versions.get(asset, digest)
        return (record.locator, record.schema) if record.locator else None

    def otherwise(self) -> list[tuple[str, str]]:
        """Return (asset, partition) of what was made just now and once came out otherwise, from the
        same and by the same code."""
        out = []
        for job in self._jobs.values():
            if job.made is None:
                continue
            kept = self._kept_digests(job.asset, job.code)
            before = kept.get((job.partition, job.made.staged.part.inputs))
            if before is not None and before != job.made.digest:
                out.append((job.asset, job.partition))
        return sorted(out)

    def _kept_digests(self, asset: str, code: str) -> dict[tuple[str, str], str]:
        """Return (partition, inputs) -> digest of what some code has made."""
        if (asset, code) not in self._kept:
            rows = self._core.state.read("parts_kept", (asset, code))
            self._kept[asset, code] = {(row[0], row[1]): row[2] for row in rows}
        return self._kept[asset, code]

    def _made_before(self, asset: str, key: str, code: str, inputs: str) -> Content | None:
        core = self._core
        spare = self._spare.get((asset, key, code, inputs))
        if spare is not None:
            return spare
        digest = self._kept_digests(asset, code).get((key, inputs))
        if digest is None:
            return None
        for _, version, found, rows in core.state.read("parts_memo", (asset, key, code, inputs)):
            record = self._kept_version(asset, str(version))
            if record is not None:
                part = Part(
                    partition=key, digest=str(found), rows=int(rows), code=code, inputs=inputs
                )
                return Content(Staged(part=part, origin=record[0]), record[1])
        return None

    def lend(self, outputs: Iterable[tuple[str, str]]) -> None:
        """Take what earlier derivations have made, as (asset, output) of their steps, so far as it
        is still there."""
        for asset, text in outputs:
            if asset not in self._keys:
                continue
            output = decode_output(text)
            bodies = kinds.made(asset.partition(":")[0]).bodies(self._core)
            for staged in output.staged:
                part = staged.part
                is_there = bool(staged.files) or not part.rows  # no rows are in no file
                if is_there and all(bodies.keep(file) for file in staged.files):
                    key = (asset, part.partition, part.code, part.inputs)
                    self._spare[key] = Content(staged, output.schema)

    # ------------------------------------------------------------ the steps

    def plan(self, wanted: Iterable[At]) -> list[Job]:
        """Return what has to be made for some contents. Lost when something that this needs is not
        kept any more."""
        self.lost.clear()
        for at in wanted:
            self.content(*at)
        if self.lost:
            raise Lost(list(dict.fromkeys(self.lost)))
        jobs = list(self._jobs.values())
        if len(jobs) > DERIVED_PARTITIONS_MAX:
            raise ProjectError(
                "SX-DERIVE-002",
                f"{len(jobs):,} partitions would have to be derived, more than "
                f"{DERIVED_PARTITIONS_MAX:,}",
                hint="ask for a shorter time, or for fewer changes",
            )
        return jobs

    def tasks(self) -> list[Task]:
        """Return the jobs as tasks: those of one asset and code that read the same of each
        partition go together, by month as the steps of any run."""
        few = self._variants.together((job.asset, job.code) for job in self._jobs.values())
        layers: dict[tuple[str, str], list[tuple[dict[str, Job], dict[Slot, int]]]] = {}
        for job in sorted(self._jobs.values(), key=lambda job: (job.asset, job.partition)):
            job.variant = few[job.asset, job.code]
            mine = layers.setdefault((job.asset, job.code), [])
            for members, chosen in mine:
                if job.partition not in members and all(
                    chosen.get(slot, mask) == mask for slot, mask in job.chosen.items()
                ):
                    break
            else:
                members, chosen = {}, {}
                mine.append((members, chosen))
            members[job.partition] = job
            chosen.update(job.chosen)
        self._steps: dict[str, list[Job]] = {}
        names: dict[str, int] = {}
        for (asset, _), mine in layers.items():
            for members, _ in mine:
                slices = keys.partitioning(next(iter(members.values())).variant.asset)
                for chunk in chunks(slices, sorted(members)):
                    n = names[asset] = names.get(asset, 0) + 1
                    span = chunk[0] if len(chunk) == 1 else f"{chunk[0]}..{chunk[-1]}"
                    step = f"{asset}[{span}]#{n}"
                    self._steps[step] = [members[key] for key in chunk]
                    for job in self._steps[step]:
                        job.step = step
        out = []
        for step, jobs in self._steps.items():
            build = jobs[0].variant.asset.build
            assert build is not None
            deps = {
                above.step
                for job in jobs
                for (asset, key), mask in job.chosen.items()
                if isinstance(above := self._known.get((asset, key, mask)), Job)
            }
            out.append(
                Task(
                    id=step,
                    deps=tuple(sorted(deps)),
                    retries=build.retries,
                    backoff_s=build.backoff_s,
                    pool=build.pool,
                    asset=jobs[0].asset,
                    owner=jobs[0].variant.asset.owner,
                    why=("derived",),
                    code=jobs[0].code,
                )
            )
        return out

    def jobs_of(self, step: str) -> list[Job]:
        return self._steps[step]

    def is_open(self, wanted: Iterable[At]) -> bool:
        """Say whether some contents have still to be made."""
        return any(isinstance(self.content(*at), Job) for at in wanted)

    def table(self, chosen: Mapping[Slot, int], asset: str) -> RunAsset:
        """Return an input as some jobs read it."""
        files = kinds.made(asset.partition(":")[0]).bodies(self._core).files
        table = RunAsset(asset, "", "", {}, (), files)
        schema: Schema = ()
        for (name, key), mask in chosen.items():
            if name != asset:
                continue
            found = self.content(asset, key, mask)
            assert not isinstance(found, Job), f"{asset}[{key}] was not made"
            if found is not None:
                table.staged[key] = found.staged
                schema = merge_schema(schema, found.schema)
        table.schema = schema
        return table


class DerivingWork:
    """What the steps of a derivation do. Implements `Work`: each step is a run of its own asset and
    variant, as any run has them."""

    def __init__(
        self,
        core: Core,
        deriving: Deriving,
        *,
        env: str,
        run: str,
        fence: int,
        executors: Callable[[str], Executor],
        bundles: Bundles,
        using: contextlib.ExitStack,
    ) -> None:
        """using  closes what the steps work in"""
        self._core, self._deriving, self._env, self._run = core, deriving, env, run
        self._fence, self._executors, self._bundles = fence, executors, bundles
        self._using = using
        self._folders: dict[str, str] = {}
        self._works: dict[str, RunWork] = {}
        self._made: dict[Key, Content] = {}  # by this run
        self.error = ""  # why the first step failed that did

    def prepare(self, task: Task) -> Done | None:
        jobs = self._deriving.jobs_of(task.id)
        variant = jobs[0].variant
        asset = bare(variant.asset)
        assert asset.build is not None
        chosen = {slot: mask for job in jobs for slot, mask in job.chosen.items()}
        tables = {name: self._deriving.table(chosen, name) for name in sorted(variant.inputs)}
        files = kinds.made(asset.kind).bodies(self._core).files
        out = tables[asset.id] = RunAsset(asset.id, "", "", {}, (), files, for_release=False)
        manifest = msgspec.structs.replace(
            variant.manifest,
            assets=tuple(asset if one.id == asset.id else one for one in variant.manifest.assets),
        )
        bundle = manifest.bundle
        if bundle not in self._folders:
            self._folders[bundle] = str(self._using.enter_context(self._bundles.unpacked(bundle)))
        reason: Reason = "forced" if self._deriving.afresh else "missing"
        items = tuple(Item(partition=job.partition, reason=reason, code=job.code) for job in jobs)
        step = PlannedStep(id=task.id, asset=asset.id, items=items)
        work = RunWork(
            self._core,
            Plan(env=self._env, steps=(step,)),
            manifest,
            run=self._run,
            executors=self._executors,
            tables=tables,
            project=self._folders[bundle],
            fence=self._fence,
            past_gate=True,
        )
        work.tasks()
        for job in jobs:
            inputs = work.inputs_now(asset, job.partition)
            key = (asset.id, job.partition, job.code, inputs or "")
            before = self._made.get(key)
            if before is not None:
                output = StepOutput(staged=(before.staged,), schema=before.schema)
                work.earlier[key] = (before.staged, output)
        self._works[task.id] = work
        done = work.prepare(task)
        if done is not None:
            self._collect(jobs, out)
        return done

    def submit(self, task: Task, attempt: int, done: Callable[[WorkResult], None]) -> None:
        self._works[task.id].submit(task, attempt, done)

    def finish(self, task: Task, attempt: int, result: WorkResult) -> Done:
        work = self._works[task.id]
        done = work.finish(task, attempt, result)
        if done.ok:
            self._collect(self._deriving.jobs_of(task.id), work.tables[task.asset])
        self.error = self.error or str(done.record.get("error", ""))
        return done

    def cancel(self, task: Task) -> None:
        if task.id in self._works:
            self._works[task.id].cancel(task)

    def _collect(self, jobs: Sequence[Job], table: RunAsset) -> None:
        for job in jobs:
            staged = table.staged.get(job.partition)
            if staged is not None:
                job.made = Content(staged, table.schema)
                part = staged.part
                key = (job.asset, job.partition, job.code, part.inputs)
                self._made[key] = job.made
