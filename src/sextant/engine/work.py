"""What the steps of a run do: cut off early, reuse what was made before, or send a work order
to an executor.

The coordinator's side only: it reads states and names of files, never bodies. What a step made lies
in files of its own; nothing is live before the release layer publishes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import msgspec

from sextant.core import Core
from sextant.engine import keys
from sextant.engine.execute import Done, Task
from sextant.engine.holds import Holds, is_source
from sextant.engine.plan import Item, Plan, PlannedStep, reads
from sextant.engine.reasons import step_reasons
from sextant.engine.staged import RunAsset, Staged, StepOutput, decode_output, encode_output
from sextant.kernel import kinds
from sextant.kernel.clock import NS
from sextant.kernel.limits import LEASE_S, STEP_TIMEOUT_S
from sextant.kernel.nouns import Asset, FileSet, InputRef, Manifest, Part, WorkOrder, WorkResult
from sextant.kernel.ports import Executor, State

AUDIT = "audit"
Key = tuple[str, str, str, str]  # asset, partition, code, inputs
Found = tuple[Staged, StepOutput]  # a partition, and the output that it was part of


class RunWork:
    """Implements `Work` for one run."""

    def __init__(
        self,
        core: Core,
        plan: Plan,
        manifest: Manifest,
        *,
        run: str,
        executors: Callable[[str], Executor],
        tables: dict[str, RunAsset],
        project: str,
        state: State | None = None,
        fence: int = 0,
        earlier: Iterable[tuple[str, str]] = (),
        spare: Iterable[tuple[str, str]] = (),
        past_gate: bool = False,
        held: Holds | None = None,
        as_it_was: bool = False,
        pushed: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None,
        settled: Callable[[str], None] = lambda _asset: None,
        causes: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None,
    ) -> None:
        """state   the store behind the run's fence; None = there is none to keep
        causes  asset -> reason -> what changed, as far as it is known
        """
        self.causes = causes or {}
        self.plan, self.manifest, self.run = plan, manifest, run
        self.state: State = state or core.state
        self.core, self.versions, self.blobs = core, core.versions, core.blobs
        self.executors, self.clock, self.ids = executors, core.clock, core.ids
        self.tables, self.project, self.fence = tables, project, fence
        self.secrets_file = str(core.project.secrets_file)
        self.settled = settled  # called with an asset when the last of its tasks has ended well
        self.left: dict[str, int] = {}
        # someone broke the glass: what the checks refuse is published, and marked
        self.past_gate = past_gate
        self.assets = {asset.id: asset for asset in manifest.assets}
        self._readers: dict[str, Callable[[InputRef], InputRef]] = {}  # by kind
        # what others read: of assets whose releases take time what is live, not what the run made
        self._read = {
            id_: table.as_live() if kinds.takes_time(id_) else table
            for id_, table in tables.items()
        }
        self.steps: dict[str, PlannedStep] = {step.id: step for step in plan.steps}
        self.items: dict[str, list[Item]] = {}
        self.orders: dict[str, tuple[str, Executor]] = {}
        self.earlier = self._recorded(
            earlier
        )  # this run made it before it was interrupted: never again
        self.spare = self._recorded(spare)  # runs that were cancelled made it: as good as the memo
        self.held = held or Holds()
        self.pushed = pushed or {}
        # an undo: what older code had made from these inputs is taken before new code is tried
        self.as_it_was = as_it_was

    # ------------------------------------------------------------ the graph

    def tasks(self) -> list[Task]:
        """Return the plan's steps as tasks, and an audit for each asset with checks over the whole
        table."""
        out = []
        of_asset: dict[str, list[str]] = {}
        audited = {
            step.asset
            for step in self.plan.steps
            if any(check.scope == "table" for check in self.assets[step.asset].checks)
        }
        for step in self.plan.steps:
            asset = self.assets[step.asset]
            build = asset.build
            assert build is not None
            of_asset.setdefault(step.asset, []).append(step.id)
            reads = {i.asset for i in build.inputs if not kinds.takes_time(i.asset)} | {
                str(check.params["to"]).rpartition(".")[0]
                for check in asset.checks
                if "to" in check.params
            }
            audits = sorted(
                f"{AUDIT}:{name}" for name in reads & audited - {step.asset}
            )  # what the whole table's checks refuse is not read
            out.append(
                Task(
                    id=step.id,
                    deps=(*step.deps, *audits),
                    durability=build.durability,
                    retries=build.retries,
                    backoff_s=build.backoff_s,
                    pool=build.pool,
                    asset=step.asset,
                    owner=self.assets[step.asset].owner,
                    why=step_reasons(step, self.causes.get(step.asset, {})),
                    code=step.items[0].code if step.items else "",
                )
            )
        for name, deps in of_asset.items():
            if name in audited:
                out.append(
                    Task(
                        id=f"{AUDIT}:{name}",
                        deps=tuple(deps),
                        asset=name,
                        owner=self.assets[name].owner,
                        why=("checks of the whole table",),
                    )
                )
        for task in out:
            self.left[task.asset] = self.left.get(task.asset, 0) + 1
        return out

    def _ended(self, asset: str) -> None:
        self.left[asset] -= 1
        if self.left[asset] == 0 and self.tables[asset].changed:
            self.settled(asset)

    def _recorded(self, outputs: Iterable[tuple[str, str]]) -> dict[Key, Found]:
        """Return what recorded outputs (asset, output) made, by memo key, as far as its files are
        still there."""
        found: dict[Key, Found] = {}
        for asset, text in outputs:
            output = decode_output(text)
            if output.refused or asset not in self.assets:
                continue
            bodies = kinds.made(self.assets[asset].kind).bodies(self.core)
            made = [
                staged
                for staged in output.staged
                if staged.files
                # nothing names them but this run from now on: collection must leave them
                and all(bodies.keep(file) for file in staged.files)
            ]
            for staged in (*made, *(Staged(part=part) for part in output.confirmed)):
                found[(asset, staged.part.partition, staged.part.code, staged.part.inputs)] = (
                    staged,
                    output,
                )
        return found

    # ------------------------------------------------------------ Work

    def prepare(self, task: Task) -> Done | None:
        done = self._prepare(task)
        if done is not None:
            self._ended(task.asset)
        return done

    def finish(self, task: Task, attempt: int, result: WorkResult) -> Done:  # noqa: ARG002 - the order's id names the attempt
        done = self._finish(task, result)
        if done.ok:
            self._ended(task.asset)
        return done

    def _prepare(self, task: Task) -> Done | None:
        if task.id.startswith(AUDIT + ":"):
            return None if self.tables[task.asset].changed else Done(reused=True)
        step = self.steps[task.id]
        asset = self.assets[step.asset]
        assert asset.build is not None
        table = self.tables[step.asset]
        todo: list[Item] = []
        source = is_source(asset)
        reused: dict[
            int, StepOutput
        ] = {}  # by the output that they come from: its schema and checks come along once
        for item in step.items:
            inputs = self.inputs_now(asset, item.partition)
            if inputs is None:
                continue  # an input has no such partition after all
            here = msgspec.structs.replace(item, inputs=inputs)
            key = (asset.id, item.partition, item.code, inputs)
            found = self.earlier.get(key)
            undone = found is not None and self.held.keeps_out(asset, found[0].part)
            if undone and not self.past_gate:
                found = None  # since this run made it
            if found is None:
                again = item.reason == "forced" or (source and item.reason == "looks back")
                if key in self.held and not again:
                    continue  # undone, and nothing that it is made of has changed since
                if asset.build.deterministic and item.reason not in ("forced", "looks back"):
                    if self._is_live(table, here):
                        continue
                    found = self.spare.get(key) or self._memo(asset, here)
                    before = table.base_parts.get(item.partition)
                    if (
                        found is None
                        and self.as_it_was
                        and before is not None
                        and before.code != item.code
                    ):
                        found = self._memo(asset, msgspec.structs.replace(here, code=before.code))
                        if found is not None and self.held.keeps_out(asset, found[0].part):
                            found = None  # what the older code had made was undone itself
            live = table.base_parts.get(item.partition)
            if found is None or not (
                found[0].files or found[0].origin or (live and live.digest == found[0].part.digest)
            ):
                todo.append(here)
                continue
            old, output = found
            taken = reused.setdefault(
                id(output),
                msgspec.structs.replace(
                    output,
                    staged=(),
                    confirmed=(),
                    schema=output.schema or table.schema,
                    wall_s=0.0,
                ),
            )
            if live is not None and live.digest == old.part.digest:
                reused[id(output)] = msgspec.structs.replace(
                    taken, confirmed=(*taken.confirmed, old.part)
                )
            else:
                reused[id(output)] = msgspec.structs.replace(taken, staged=(*taken.staged, old))
        for output in reused.values():
            table.take(output)
        if todo:
            self.items[task.id] = todo
            return None
        return Done(reused=True)

    def submit(self, task: Task, attempt: int, done: Callable[[WorkResult], None]) -> None:
        asset = self.assets[task.asset]
        audit = task.id.startswith(AUDIT + ":")
        order = (
            self._audit(asset, attempt)
            if audit
            else self._order(task.id, asset, self.items[task.id], attempt)
        )
        executor = self.executors(asset.build.executor if asset.build else "")
        self.orders[task.id] = (order.id, executor)
        executor.submit(order, done)

    def audit_now(self, asset: Asset) -> WorkResult:
        """Run the table-scope checks of an asset on its table as it is, and wait for the result."""
        answer: SimpleQueue[WorkResult] = SimpleQueue()
        self.executors(asset.build.executor if asset.build else "").submit(
            self._audit(asset, 1), answer.put
        )
        return answer.get()

    def cancel(self, task: Task) -> None:
        if task.id in self.orders:
            order, executor = self.orders[task.id]
            executor.cancel(order)

    def _finish(self, task: Task, result: WorkResult) -> Done:
        order, _ = self.orders.pop(task.id)
        asset = self.assets[task.asset]
        log = self.blobs.put(result.log.encode()) if result.log else ""
        record = {
            "log": log,
            "resources": result.resources,
            "executor": type(self.executors(asset.build.executor if asset.build else "")).__name__,
        }
        if result.order != order or result.fence != self.fence:
            return Done(
                ok=False,
                record={
                    **record,
                    "error_code": "SX-STEP-012",
                    "error": "a result of another attempt was refused",
                },
            )
        if not result.ok:
            return Done(
                ok=False,
                retryable=result.retryable,
                record={
                    **record,
                    "error_code": result.error_code,
                    "error": result.error,
                    "hint": result.hint,
                    "where": result.where,
                },
            )
        if task.id.startswith(AUDIT + ":"):
            return self._audited(task, result, record)
        return self._made(task, asset, result, record)

    # ------------------------------------------------------------ inside

    def _made(
        self, task: Task, asset: Asset, result: WorkResult, record: Mapping[str, object]
    ) -> Done:
        table = self.tables[task.asset]
        items = {item.partition: item for item in self.items.pop(task.id)}
        staged, confirmed, held_back = [], [], []
        source = is_source(asset)
        for made in result.outputs:
            item = items[made.partition]
            part = Part(
                partition=made.partition,
                digest=made.digest,
                rows=made.rows,
                code=item.code,
                inputs=item.inputs,
            )
            live = table.base_parts.get(made.partition)
            # the same rows in new files: the old ones may be damaged
            again = item.reason == "forced"
            if source and self.held.keeps_out(asset, part) and not self.past_gate:
                held_back.append(part)
            elif (
                live is not None
                and live.digest == made.digest
                and made.partition not in table.removed
                and not again
            ):
                confirmed.append(part)
            else:
                staged.append(Staged(part=part, files=made.files))
        bad = (
            [check for check in result.checks if not check.ok and check.severity == "error"]
            if not self.past_gate
            else []
        )
        output = StepOutput(
            staged=tuple(staged),
            confirmed=tuple(confirmed),
            held_back=tuple(held_back),
            schema=result.schema,
            checks=result.checks,
            refused=bool(bad),
            wall_s=result.resources.wall_s,
        )
        table.take(output)
        if bad:
            names = ", ".join(sorted({check.name for check in bad}))
            text = (
                f"{len(bad)} checks failed: {names}"
                if len(bad) > 1
                else f"the check {names} failed: {bad[0].message}"
            )
            return Done(
                ok=False,
                output=encode_output(output),
                record={
                    **record,
                    "error_code": "SX-CHECK-001",
                    "error": text,
                    "hint": f"`sextant show {asset.id}` still shows the last good version",
                },
            )
        return Done(
            output=encode_output(output),
            rows=sum(made.rows for made in result.outputs),
            key=keys.digest(*(i.code + i.inputs for i in items.values())),
            record=record,
        )

    def _audited(self, task: Task, result: WorkResult, record: Mapping[str, object]) -> Done:
        table = self.tables[task.asset]
        bad = (
            [check for check in result.checks if not check.ok and check.severity == "error"]
            if not self.past_gate
            else []
        )
        if bad:  # the table as a whole is refused: nothing of it is published
            table.refused.update(table.staged)
            table.refused_schema = table.schema
            table.staged.clear()
            table.refused_checks += [*table.checks, *result.checks]
            table.checks.clear()
            return Done(
                ok=False,
                record={
                    **record,
                    "error_code": "SX-CHECK-001",
                    "error": f"the check {bad[0].name} of the whole table failed: {bad[0].message}",
                },
            )
        table.checks += result.checks
        return Done(record=record)

    def _is_live(self, table: RunAsset, item: Item) -> bool:
        part = table.part(item.partition)
        return part is not None and part.code == item.code and part.inputs == item.inputs

    def _memo(self, asset: Asset, item: Item) -> Found | None:
        """Return this partition as any kept version of the asset holds it."""
        for _, version, digest, count in self.state.read(
            "parts_memo", (asset.id, item.partition, item.code, item.inputs)
        ):
            record = self.versions.get(asset.id, str(version))
            if not record.meta.get(
                "refused"
            ):  # what the checks refused is made, and checked, again
                part = Part(
                    partition=item.partition,
                    digest=str(digest),
                    rows=int(count),
                    code=item.code,
                    inputs=item.inputs,
                )
                return Staged(part=part, origin=record.locator), StepOutput(schema=record.schema)
        return None

    def inputs_now(self, asset: Asset, partition: str) -> str | None:
        """Return the inputs half of the memo key as the run stands now; None when an input lacks
        the partition."""
        assert asset.build is not None
        slices = keys.partitioning(asset)
        mine = self.pushed.get(asset.id, {}).get(partition)
        found: list[tuple[str, str, str]] = (
            [("pushed", partition, keys.pushed_digest(mine))] if mine else []
        )
        for bound in asset.build.inputs:
            table = self._read[bound.asset]
            upstream = (
                keys.partitioning(self.assets[bound.asset])
                if bound.asset in self.assets
                else keys.UNPARTITIONED
            )
            if self._whole(bound.window, upstream.grain, slices.grain):
                if not table.base_parts and not table.staged:
                    return None
                found.append((bound.name, "*", table.content()))
                continue
            wanted = (
                [partition]
                if upstream == slices and not bound.window
                else reads(bound, upstream, slices, partition, sorted(table.parts()))
            )
            above = self.assets.get(bound.asset)
            gaps = above is not None and above.is_pushed
            here = len(found)
            for name in wanted:
                part = table.part(name)
                if part is None and not gaps:
                    return None
                if part is not None:
                    found.append((bound.name, name, part.digest))
            if len(found) == here:
                return None
        return keys.inputs_digest(found)

    @staticmethod
    def _whole(window: str, upstream_grain: str, grain: str) -> bool:
        return upstream_grain == "none" or window == "all" or (grain == "none" and not window)

    def _input_refs(self, asset: Asset, partitions: Sequence[str]) -> tuple[InputRef, ...]:
        assert asset.build is not None
        slices = keys.partitioning(asset)
        out = []
        for bound in asset.build.inputs:
            table = self._read[bound.asset]
            upstream = (
                keys.partitioning(self.assets[bound.asset])
                if bound.asset in self.assets
                else keys.UNPARTITIONED
            )
            mapping: dict[str, tuple[str, ...]] | None = None
            wanted: list[str] | None = None
            if not self._whole(bound.window, upstream.grain, slices.grain):
                existing = sorted(table.parts()) if bound.window else []
                mapping = {
                    p: (p,)
                    if upstream == slices and not bound.window
                    else tuple(reads(bound, upstream, slices, p, existing))
                    for p in partitions
                }
                wanted = sorted({name for names in mapping.values() for name in names})
            out.append(
                self._ref(
                    bound.name, bound.asset, table.sets(wanted), frame=bound.frame, reads=mapping
                )
            )
        return tuple(out)

    def _references(self, asset: Asset, scopes: tuple[str, ...]) -> tuple[InputRef, ...]:
        names = {
            str(check.params["to"]).rpartition(".")[0]
            for check in asset.checks
            if "to" in check.params and check.scope in scopes
        }
        return tuple(
            self._ref(name, name, self.tables[name].sets(None))
            for name in sorted(names)
            if name in self.tables
        )

    def _ref(self, name: str, asset: str, sets: tuple[FileSet, ...], **more: Any) -> InputRef:
        """Return a reference to an asset as the run sees it."""
        table = self.tables[asset]
        ref = InputRef(name=name, asset=asset, version=table.base, sets=sets, **more)
        kind = self.assets[asset].kind
        if kind not in self._readers:
            self._readers[kind] = kinds.made(kind).reader(self.core, self.assets, self.tables)
        return self._readers[kind](ref)

    def _order(self, step: str, asset: Asset, items: list[Item], attempt: int) -> WorkOrder:
        id_ = self.ids.new("wo")
        partitions = tuple(item.partition for item in items)
        return self._base(
            id_,
            step,
            asset,
            attempt,
            partitions,
            self._input_refs(asset, partitions),
            self._references(asset, ("partition",)),
            audit=False,
        )

    def _audit(self, asset: Asset, attempt: int) -> WorkOrder:
        table = self.tables[asset.id]
        whole = self._ref("this", asset.id, table.sets(None))
        only = msgspec.structs.replace(
            asset, checks=tuple(check for check in asset.checks if check.scope == "table")
        )
        return self._base(
            self.ids.new("wo"),
            f"{AUDIT}:{asset.id}",
            only,
            attempt,
            (),
            (whole,),
            self._references(asset, ("table",)),
            audit=True,
        )

    def _base(
        self,
        id_: str,
        step: str,
        asset: Asset,
        attempt: int,
        partitions: tuple[str, ...],
        inputs: tuple[InputRef, ...],
        references: tuple[InputRef, ...],
        *,
        audit: bool,
    ) -> WorkOrder:
        now = self.clock.now_ns()
        build = asset.build
        lasts_s = ((build.timeout_s if build else 0.0) or STEP_TIMEOUT_S) + LEASE_S
        return WorkOrder(
            id=id_,
            run=self.run,
            step=step,
            attempt=attempt,
            fence=self.fence,
            asset=asset,
            partitions=partitions,
            inputs=inputs,
            references=references,
            bundle=self.manifest.bundle,
            root=self.manifest.root,
            tz=self.manifest.tz,
            spec=kinds.made(asset.kind).order(self.core, asset, self.tables[asset.id], id_),
            blobs=str(self.blobs.root),
            project=self.project,
            secrets=dict(build.secrets) if build else {},
            environment={"SEXTANT_SECRETS": self.secrets_file} if self.secrets_file else {},
            pushed={
                key: self.pushed[asset.id][key]
                for key in partitions
                if key in self.pushed.get(asset.id, {})
            },
            now=now,
            expires_at=now + int(lasts_s * NS),
            audit=audit,
        )
