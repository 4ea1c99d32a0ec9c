"""What a collector holds, checked as a whole and turned into the kernel's Manifest.

Called by the loader (with fingerprints) and by workers (without: they only need functions and
queries). Raises one ProjectError that lists every mistake of the project.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from sextant.author import kpi as kpis
from sextant.author import sqlfile
from sextant.author.bind import bind, frame_of, note_missing_pandas
from sextant.author.collect import Collector, Place, name_problem, near
from sextant.author.columns import column_reads
from sextant.author.declared import Dataset, Kpi, PythonCheck, Slots, SqlDataset, Stream
from sextant.author.lineage import lineage
from sextant.kernel.errors import ProjectError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import ASSETS_MAX
from sextant.kernel.nouns import (
    Asset,
    Build,
    CheckSpec,
    Code,
    ColumnRead,
    Input,
    Manifest,
    Strategy,
    Trigger,
    spec_of,
)
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset import streams
from sextant.kinds.dataset.personal_rule import reached_assets
from sextant.kinds.dataset.spec import Table, table_spec
from sextant.project.fingerprint import Fingerprint
from sextant.project.manifests import MANIFEST_VERSION

_KEEP, _KEEP_STREAM = "30d", "1d"  # undo windows where a project says none
Fingerprinter = Callable[[Callable[..., Any]], Fingerprint]


class _Draft(NamedTuple):
    """A dataset whose inputs are known and whose partitioning may not be yet."""

    name: str
    slots: Slots
    place: Place
    build: Build
    inherits: bool
    lines: dict[str, int]  # upstream asset -> line of the SQL that reads it
    settings: tuple[tuple[str, int], ...] = ()  # of a SQL's header, checks by name, with lines
    columns: tuple[tuple[str, str], ...] = ()


def assemble(
    collector: Collector,
    *,
    fingerprint: Fingerprinter | None = None,
    bundle: str = "",
    files: dict[str, str] | None = None,
    lock: str = "",
    root: str = "",
) -> Manifest:
    """Return the manifest of what was declared, and fill the collector's functions, queries and
    checks.

    fingerprint  function -> what it reaches; None leaves that empty
    """
    return _Assembly(collector, fingerprint).manifest(bundle, files or {}, lock, root)


class _Assembly:
    def __init__(self, collector: Collector, fingerprint: Fingerprinter | None) -> None:
        self.collector = collector
        self.fingerprint = fingerprint
        self.drafts: dict[str, _Draft] = {}
        self.kpis: dict[str, Kpi] = {}
        self.sound: set[str] = set()  # KPIs whose definition can be used
        self.partitionings: dict[str, Partitioning] = {}
        self.tz = collector.project.tz if collector.project else "UTC"
        self.year_starts = collector.project.year_starts if collector.project else 1

    def manifest(self, bundle: str, files: dict[str, str], lock: str, root: str) -> Manifest:
        collector = self.collector
        if collector.project is None:
            collector.note(
                "SX-PROJ-006",
                "the project has no name",
                place=Place("sextant.toml", 1),
                hint='call `sx.project("name", tz="Europe/Berlin")` once',
            )
        self._drafts()
        self._unknown_upstreams()
        if not self._cycle():
            assets = self._lineages(self._keep(self._assets()))
            self._owners()
            self._windows()
            self._public()
            self._foreign_keys(assets)
            if len(assets) > ASSETS_MAX:
                collector.note(
                    "SX-PROJ-007",
                    f"the project has {len(assets)} assets",
                    place=Place("sextant.toml", 1),
                    hint=f"at most {ASSETS_MAX}: split it",
                )
        collector.raise_problems()
        assert collector.project is not None
        info = collector.project
        return Manifest(
            project=info.name,
            tz=info.tz,
            owner=info.owner,
            environments=info.environments,
            teams=tuple(t for t, _ in collector.teams),
            assets=tuple(sorted(assets, key=lambda a: a.id)),
            column_reads=self._column_reads(assets),
            policies=tuple(
                msgspec.structs.replace(rule, file=collector.relative(rule.file))
                for rule, _ in collector.rules
            ),
            secrets=tuple(sorted(collector.secrets)),
            bundle=bundle,
            files=files,
            lock=lock,
            root=root,
            v=MANIFEST_VERSION,
        )

    # ------------------------------------------------------------ reading each declaration by
    # itself

    def _drafts(self) -> None:
        for declared in self.collector.declared:
            if isinstance(declared, Dataset):
                self._python(declared)
            elif isinstance(declared, SqlDataset):
                self._sql(declared)
            elif isinstance(declared, Stream):
                self._stream(declared)
            else:
                self._kpi(declared)

    def _python(self, declared: Dataset[..., Any]) -> None:
        collector, function = self.collector, declared.function
        binding = bind(function, declared.slots.inputs, collector, declared.place, declared.name)
        work = declared.work
        build = Build(
            code=self._code(function, declared.place),
            inputs=tuple(
                Input(
                    name=w.name,
                    asset=w.asset,
                    frame=w.frame,  # type: ignore[arg-type]
                    window=w.window,
                )
                for w in binding.inputs
            ),
            params=binding.params,
            secrets=binding.secrets,
            wants_partition=binding.partition,
            wants_context=binding.context,
            **{name: getattr(work, name) for name in work.__struct_fields__},
        )
        slots = declared.slots
        if not slots.description and function.__doc__:
            slots = msgspec.structs.replace(
                slots, description=function.__doc__.strip().splitlines()[0]
            )
        collector.secrets.update(binding.secrets.values())
        if self._add(
            declared.name,
            _Draft(declared.name, slots, declared.place, build, inherits=False, lines={}),
        ):
            collector.functions[f"dataset:{declared.name}"] = function

    def _sql(self, declared: SqlDataset) -> None:
        collector = self.collector
        file = sqlfile.read(declared, collector)
        if file is None:
            self._add(
                declared.name,
                _Draft(
                    declared.name,
                    declared.slots,
                    declared.place,
                    Build(code=Code(language="sql", entry="", file="")),
                    inherits=True,
                    lines={},
                ),
            )
            return
        name, slots, header_lines = sqlfile.settings(declared, file, collector)
        wrong = name_problem("dataset", name)
        if wrong:
            place = (
                Place(declared.file, file.header["name"][1])
                if "name" in file.header
                else declared.place
            )
            collector.note("SX-PROJ-003", wrong[0], place=place, hint=wrong[1])
        inside = collector.relative(declared.file)
        if inside.startswith(("/", "..")) or ":" in inside:
            collector.note(
                "SX-PROJ-044",
                f"`{declared.file}` stands outside of the project",
                place=declared.place,
                hint="move it below the folder of sextant.toml",
            )
        read = {table.name: table for table in file.tables}
        for given in declared.slots.inputs:
            if given not in read:
                collector.note(
                    "SX-PROJ-034",
                    f"`inputs` of `{name}` names `{given}`, which the SQL does not read",
                    place=declared.place,
                    hint=near(given, read),
                )
        widened = {table: declared.slots.inputs.get(table) for table in read}
        inputs = tuple(
            Input(
                name=table,
                asset=wide.asset if wide else f"dataset:{table}",
                frame="sql",
                window=wide.length if wide else "",
            )
            for table, wide in widened.items()
        )
        code = Code(
            language="sql", entry=inside, file=inside, fingerprint=sqlfile.fingerprint(file.text)
        )
        inherits = "partition" not in file.header or file.header["partition"][0] == "same as inputs"
        lines = {one.asset: read[one.name].line for one in inputs}
        if self._add(
            name,
            _Draft(
                name,
                slots,
                Place(declared.file, 1),
                Build(code=code, inputs=inputs, deterministic=declared.deterministic),
                inherits=inherits,
                lines=lines,
                settings=tuple(header_lines.items()),
            ),
        ):
            collector.queries[f"dataset:{name}"] = file.text

    def _stream(self, declared: Stream) -> None:
        code = Code(
            language="stream",
            entry="",
            file=self.collector.relative(declared.place.file),
            line=declared.place.line,
            fingerprint=streams.fingerprint(declared.columns),
        )
        self._add(
            declared.name,
            _Draft(
                declared.name,
                declared.slots,
                declared.place,
                Build(code=code),
                inherits=False,
                lines={},
                columns=declared.columns,
            ),
        )

    def _kpi(self, declared: Kpi) -> None:
        other = self.kpis.get(declared.name)
        if other is not None:
            self._twice(f"kpi:{declared.name}", declared.place, other.place)
            return
        self.kpis[declared.name] = declared
        if kpis.check_definition(declared, self.collector):
            self.sound.add(declared.name)
        inputs = (Input(name=declared.of.removeprefix("dataset:"), asset=declared.of, frame="sql"),)
        build = Build(
            code=Code(language="sql", entry=f"kpi:{declared.name}", file=""), inputs=inputs
        )
        self._add(
            f"kpi_{declared.name}",
            _Draft(
                f"kpi_{declared.name}",
                declared.slots,
                declared.place,
                build,
                inherits=True,
                lines={},
            ),
        )

    def _add(self, name: str, draft: _Draft) -> bool:
        id_ = f"dataset:{name}"
        if id_ in self.drafts:
            self._twice(id_, draft.place, self.drafts[id_].place)
            return False
        self.drafts[id_] = draft
        return True

    def _twice(self, id_: str, place: Place, first: Place) -> None:
        hint = f"the other stands at {self.collector.where(first)}; give one another name"
        self.collector.note("SX-PROJ-005", f"two assets are called `{id_}`", place=place, hint=hint)

    def _code(self, function: Callable[..., Any], place: Place) -> Code:
        found = self.fingerprint(function) if self.fingerprint else Fingerprint("", (), (), {})
        return Code(
            language="python",
            entry=f"{function.__module__}:{function.__qualname__}",
            file=self.collector.relative(place.file),
            line=place.line,
            fingerprint=found.digest,
            modules=found.modules,
            warnings=found.warnings,
            files=found.files,
        )

    # ------------------------------------------------------------ checking them against each other

    def _unknown_upstreams(self) -> None:
        names = [draft.name for draft in self.drafts.values()]
        for draft in self.drafts.values():
            for one in draft.build.inputs:
                if one.asset in self.drafts:
                    continue
                kind, _, name = one.asset.rpartition(":")
                if kind and kind != "dataset":
                    message, hint = (
                        f"`{draft.name}` reads `{one.asset}`, which has no rows",
                        "read a dataset; a KPI's values are the dataset `kpi_NAME`",
                    )
                elif draft.build.code.entry.startswith("kpi:"):
                    message, hint = (
                        (
                            f"the KPI `{draft.name.removeprefix('kpi_')}` is of `{name}`, which "
                            "does not exist"
                        ),
                        near(name, names),
                    )
                elif draft.build.code.language == "sql":
                    message, hint = (
                        f"the SQL of `{draft.name}` reads `{name}`, which does not exist",
                        near(name, names),
                    )
                else:
                    message, hint = (
                        f"`{draft.name}` reads `{name}`, which does not exist",
                        near(name, names) + " (a setting needs a default)",
                    )
                place = Place(draft.place.file, draft.lines.get(one.asset, draft.place.line))
                self.collector.note("SX-PROJ-008", message, place=place, hint=hint)

    def _cycle(self) -> bool:
        """Note a circle of inputs; say whether there is one."""
        done: set[str] = set()
        for start in self.drafts:
            trail: dict[str, None] = {}  # the way down to where we are
            stack = [(start, False)]
            while stack:
                id_, leaving = stack.pop()
                if leaving:
                    del trail[id_]
                    done.add(id_)
                elif id_ in trail:
                    walked = list(trail)
                    circle = [*walked[walked.index(id_) :], id_]
                    path = " -> ".join(self.drafts[one].name for one in reversed(circle))
                    self.collector.note(
                        "SX-PROJ-009",
                        f"the assets feed each other in a circle: {path}",
                        place=self.drafts[id_].place,
                        hint="one of them must not read the next",
                    )
                    return True
                elif id_ not in done and id_ in self.drafts:
                    trail[id_] = None
                    stack.append((id_, True))
                    stack += [(one.asset, False) for one in self.drafts[id_].build.inputs]
        return False

    def _windows(self) -> None:
        """Note windows over what has no partitions of time: there is no such part of it."""
        for draft in self.drafts.values():
            for one in draft.build.inputs:
                upstream = self.partitionings.get(one.asset)
                if one.window in ("", "all") or upstream is None:
                    continue
                if upstream.grain in ("none", "static"):
                    name = one.asset.partition(":")[2]
                    self.collector.note(
                        "SX-PROJ-054",
                        f"`{draft.name}` reads the last {one.window} of `{name}`, which is not "
                        "sliced by time",
                        place=Place(draft.place.file, draft.lines.get(one.asset, draft.place.line)),
                        hint=f"read all of it: `{name}` without `window`; or slice `{name}`",
                    )

    def _column_reads(self, assets: list[Asset]) -> tuple[ColumnRead, ...]:
        """Return the columns that declarations name. Workers do not need them."""
        if self.fingerprint is None:
            return ()
        lines = {
            (id_, name): line for id_, draft in self.drafts.items() for name, line in draft.settings
        }
        return column_reads(assets, self.collector.queries, lines)

    def _public(self) -> None:
        """Note columns that are both personal and public, and those that a KPI does not have."""
        for draft in self.drafts.values():
            slots = draft.slots
            both = sorted({c.lower() for c in slots.personal} & {c.lower() for c in slots.public})
            if both:
                self.collector.note(
                    "SX-PROJ-055",
                    f"`{both[0]}` of `{draft.name}` is both personal and public",
                    place=draft.place,
                    hint="leave it out of one; `public` opens what is made of personal columns",
                )
            kpi = self.kpis.get(draft.build.code.entry.removeprefix("kpi:"))
            if kpi is None or not draft.build.code.entry.startswith("kpi:"):
                continue
            has = (*kpi.by, "value", *(("bucket",) if kpi.grain else ()))
            for column in slots.public:
                if column not in has:
                    self.collector.note(
                        "SX-PROJ-055",
                        f"the KPI `{kpi.name}` has no column `{column}` that could be public",
                        place=draft.place,
                        hint=near(column, has),
                    )

    def _owners(self) -> None:
        teams = {team.name for team, _ in self.collector.teams}
        info = self.collector.project
        said = [(draft.slots.owner, draft.place) for draft in self.drafts.values()]
        said += [(rule.of, place) for rule, place in self.collector.rules] + (
            [(info.owner, info.place)] if info else []
        )
        for owner, place in said:
            if owner and owner not in teams:
                self.collector.note(
                    "SX-PROJ-026",
                    f"there is no team `{owner}`",
                    place=place,
                    hint=near(owner, teams) if teams else f'declare it: `sx.team("{owner}")`',
                )

    def _own(self, spec: CheckSpec, draft: _Draft) -> CheckSpec:
        """A foreign key into the dataset itself is a question about the whole table: a row may
        point to one of another partition."""
        to, _, _ = str(spec.params.get("to", "")).rpartition(".")
        own = spec.scope == "partition" and to == f"dataset:{draft.name}"
        return msgspec.structs.replace(spec, scope="table") if own else spec

    def _foreign_keys(self, assets: list[Asset]) -> None:
        names = [asset.name for asset in assets if asset.kind == "dataset"]
        for asset in assets:
            for check in asset.checks:
                target = (
                    str(check.params.get("to", "")).removeprefix("dataset:").partition(".")[0]
                    if check.check == "check.dataops.foreign_key"
                    else ""
                )
                if target and target not in names:
                    place = self.drafts[asset.id].place
                    self.collector.note(
                        "SX-PROJ-011",
                        (
                            f"the check `{check.name}` of `{asset.name}` looks into `{target}`, "
                            "which does not exist"
                        ),
                        place=place,
                        hint=near(target, names),
                    )

    # ------------------------------------------------------------ making assets

    def _assets(self) -> list[Asset]:
        made: dict[str, Asset] = {}
        for id_ in self._in_order():
            draft = self.drafts[id_]
            kpi = (
                self.kpis.get(draft.build.code.entry.removeprefix("kpi:"))
                if draft.build.code.entry.startswith("kpi:")
                else None
            )
            if kpi is None:
                made[id_] = self._dataset(draft)
                continue
            of = made.get(kpi.of)
            if of is None:  # an unknown dataset, noted before
                continue
            checks = self._specs(draft)
            if kpi.name in self.sound and kpis.check_source(kpi, of, self.collector):
                file = self.collector.relative(kpi.place.file)
                metric, values, query = kpis.assets_of(
                    kpi,
                    of,
                    tz=self.tz,
                    year_starts=self.year_starts,
                    file=file,
                    line=kpi.place.line,
                    checks=checks,
                    owner=self._owner(draft),
                )
                made |= {metric.id: metric, values.id: values}
                self.partitionings[id_] = table_spec(values).partitioning
                self.collector.queries[values.id] = query
        return list(made.values())

    def _keep(self, assets: list[Asset]) -> list[Asset]:
        """Fill in how long versions keep their bytes where the project does not say so. What a
        stream makes at its own pace, in itself and in what follows it, is many versions a day."""
        of_stream: dict[str, str] = {}  # asset -> how long the stream that it follows keeps
        out = []
        for asset in assets:  # upstream first
            draft = self.drafts.get(asset.id)
            if draft is None:  # a KPI's definition has no bytes
                out.append(asset)
                continue
            followed = [
                of_stream[one.asset]
                for one in draft.build.inputs
                if one.asset in of_stream and not any(t.kind == "cron" for t in asset.on)
            ]
            short = _KEEP_STREAM if draft.columns else min(followed, key=length_s, default="")
            keep = draft.slots.keep or short or _KEEP
            if short:
                of_stream[asset.id] = keep
            out.append(msgspec.structs.replace(asset, keep=keep))
        return out

    def _lineages(self, assets: list[Asset]) -> list[Asset]:
        """Fill in what flows into the columns of queries, where something personal may. Workers
        do not need it."""
        if self.fingerprint is None:
            return assets
        reached = reached_assets({asset.id: asset for asset in assets})
        out = []
        for asset in assets:
            query = self.collector.queries.get(asset.id)
            if asset.id in reached and query is not None and asset.build and asset.build.inputs:
                inputs = {one.name: one.asset for one in asset.build.inputs}
                table = msgspec.structs.replace(table_spec(asset), lineage=lineage(query, inputs))
                asset = msgspec.structs.replace(asset, spec=spec_of(table))  # noqa: PLW2901
            out.append(asset)
        return out

    def _in_order(self) -> list[str]:
        """Return the drafts' ids, upstream first."""
        order: dict[str, None] = {}
        stack = list(reversed(self.drafts))
        while stack:
            id_ = stack[-1]
            waiting = [
                one.asset
                for one in self.drafts[id_].build.inputs
                if one.asset in self.drafts and one.asset not in order
            ]
            if waiting and id_ not in order:
                stack += waiting
            else:
                order[stack.pop()] = None
        return list(order)

    def _dataset(self, draft: _Draft) -> Asset:
        slots = draft.slots
        partitioning = (
            self._inherited(draft)
            if draft.inherits and slots.partition is None
            else slots.partition or Partitioning()
        )
        if partitioning.grain != "none":
            partitioning = msgspec.structs.replace(partitioning, tz=self.tz)
        self.partitionings[f"dataset:{draft.name}"] = partitioning
        return Asset(
            kind="dataset",
            name=draft.name,
            owner=self._owner(draft),
            tier=slots.tier,
            description=slots.description,
            tags=slots.tags,
            build=draft.build,
            spec=spec_of(
                Table(
                    partitioning=partitioning,
                    key=slots.key,
                    time=slots.time,
                    schema=slots.schema,  # type: ignore[arg-type]
                    personal=slots.personal,
                    public=slots.public,
                    columns=draft.columns or slots.columns,
                )
            ),
            checks=self._specs(draft),
            on=slots.on
            or ((Trigger(kind="inputs"),) if draft.build.inputs or draft.columns else ()),
            release=Strategy(kind="publish"),
            lookback=slots.lookback,
            on_change=slots.on_change,  # type: ignore[arg-type]
            keep=slots.keep,
            file=self.collector.relative(draft.place.file),
            line=draft.place.line,
        )

    def _owner(self, draft: _Draft) -> str:
        info = self.collector.project
        return draft.slots.owner or (info.owner if info else "")

    def _inherited(self, draft: _Draft) -> Partitioning:
        """Return the partitioning that the inputs share; note it when they do not."""
        found = [
            self.partitionings[one.asset]
            for one in draft.build.inputs
            if one.asset in self.partitionings
        ]
        sliced = [p for p in found if p.grain != "none"]
        if len({p.grain for p in sliced}) > 1:
            grains = " and ".join(sorted({p.grain for p in sliced}))
            self.collector.note(
                "SX-PROJ-027",
                f"the inputs of `{draft.name}` are {grains}",
                place=draft.place,
                hint="say its own, `-- partition: daily(start=...)`, or `none`",
            )
        return sliced[0] if sliced else Partitioning()

    def _specs(self, draft: _Draft) -> tuple[CheckSpec, ...]:
        """Return the checks of a dataset, the one for its key first; register the functions of
        Python checks."""
        slots = draft.slots
        specs: list[CheckSpec] = []
        if slots.key:
            specs.append(
                CheckSpec(
                    name=f"unique({', '.join(slots.key)})",
                    check="check.dataops.unique",
                    params={"columns": list(slots.key)},
                )
            )
        said = {one.check for one in slots.checks if isinstance(one, CheckSpec)}
        if (
            slots.schema == "freeze" and "check.dataops.schema" not in said
        ):  # against the live columns, whatever they are
            specs.append(
                CheckSpec(
                    name="schema(freeze)", check="check.dataops.schema", params={"mode": "freeze"}
                )
            )
        for one in slots.checks:
            specs.append(
                self._python_check(one) if isinstance(one, PythonCheck) else self._own(one, draft)
            )
            if specs[-1].check == "check.dataops.sql":
                self._sql_check(specs[-1], draft)
        names = [spec.name for spec in specs]
        for name in sorted({n for n in names if names.count(n) > 1}):
            self.collector.note(
                "SX-PROJ-028",
                f"`{draft.name}` has the check `{name}` twice",
                place=draft.place,
                hint="leave one out (`key=` adds `unique` by itself)",
            )
        return tuple(specs)

    def _python_check(self, check: PythonCheck[..., Any]) -> CheckSpec:
        entry = check.spec.params["function"]
        self.collector.checks[entry] = check.function
        note_missing_pandas(check.function, self.collector, check.place, check.spec.name)
        code = self._code(check.function, check.place)
        params = {
            **check.spec.params,
            "frame": frame_of(check.function),
            "fingerprint": code.fingerprint,
        }
        return msgspec.structs.replace(check.spec, params=params)

    def _sql_check(self, spec: CheckSpec, draft: _Draft) -> None:
        try:
            read = [
                table.name
                for table in sqlfile.tables(
                    spec.params["query"], draft.place.file, draft.place.line
                )
            ]
        except ProjectError as error:
            self.collector.note(
                error.code,
                f"the check `{spec.name}` of `{draft.name}`: {error.message}",
                place=draft.place,
                hint=error.hint,
            )
            return
        for name in read:
            if name not in (draft.name, "this"):
                self.collector.note(
                    "SX-PROJ-029",
                    f"the check `{spec.name}` of `{draft.name}` reads `{name}`",
                    place=draft.place,
                    hint=f"a check reads its own dataset, `{draft.name}`",
                )
