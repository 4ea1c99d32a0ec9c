"""Declared datasets to assets: each by itself, then against the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from sextant.kernel.errors import ProjectError
from sextant.kernel.lengths import length_s
from sextant.kernel.nouns import (
    Asset,
    Build,
    CheckSpec,
    Code,
    ColumnRead,
    Input,
    Strategy,
    Trigger,
    spec_of,
)
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset import streams
from sextant.kinds.dataset.declarations import sqlfile
from sextant.kinds.dataset.declarations.bind import bind, frame_of, note_missing_pandas
from sextant.kinds.dataset.declarations.columns import checks_reads, query_reads
from sextant.kinds.dataset.declarations.declared import (
    Dataset,
    PythonCheck,
    Slots,
    SqlDataset,
    Stream,
)
from sextant.kinds.dataset.declarations.lineage import lineage
from sextant.kinds.dataset.personal_rule import reached_assets
from sextant.kinds.dataset.spec import KIND, Table, table_spec
from sextant.kinds.dataset.strictness import apart, asks_as_much, sees_as_much
from sextant.project.assemble import Assembly, Authored, Draft
from sextant.project.collect import Place, name_problem, near

# the check of `schema="freeze"`
_FROZEN = CheckSpec(name="schema(freeze)", check="check.dataops.schema", params={"mode": "freeze"})
_KEEP_STREAM = "1d"  # undo window of a stream, and of what follows it, where a project says none


class _Body(NamedTuple):
    """A dataset whose inputs are known and whose partitioning may not be yet."""

    slots: Slots
    build: Build
    inherits: bool = False
    settings: tuple[tuple[str, int], ...] = ()  # of a SQL's header, checks by name, with lines
    columns: tuple[tuple[str, str], ...] = ()
    function: Callable[..., Any] | None = None
    query: str | None = None


class AuthoredDatasets(Authored):
    """Reads `sx.dataset`, `sx.sql` and `sx.stream`."""

    def asks_as_much(self, before: CheckSpec, after: CheckSpec) -> bool:
        return asks_as_much(before, after)

    def apart(self, check: CheckSpec) -> Iterable[CheckSpec]:
        return apart(check)

    def sees_as_much(self, before: CheckSpec, after: CheckSpec) -> bool:
        return sees_as_much(before, after)

    def said_by(self, asset: Asset, check: CheckSpec) -> str:
        table = table_spec(asset)
        if table.key and check.name == _unique(table.key).name:
            return "" if asset.defined_by else "key"
        return "schema" if check == _FROZEN else "check"

    def content(self, asset: Asset) -> msgspec.Raw:
        table = table_spec(asset)
        return spec_of(
            msgspec.structs.replace(table, schema="evolve", lineage=None, against_inputs=None)
        )

    def weaker(self, before: Asset, after: Asset) -> Iterable[tuple[str, str]]:
        old, new = table_spec(before), table_spec(after)
        if old.time and old.time != new.time and not after.defined_by:
            yield "time", f"{old.time} -> {new.time or 'none'}"
        promised = dict(new.columns)
        for name, type_ in old.columns:
            if promised.get(name) != type_:
                yield "columns", f"{name} {type_} -> {promised.get(name, 'not promised')}"
        for name in _not_in(old.personal, new.personal):
            yield "personal", f"{name} is not personal any more"
        for name in _not_in(new.public, old.public):
            yield "public", f"{name} is not personal, whatever it is made of"
        if old.against_inputs and not new.against_inputs:
            yield "check", f"{old.against_inputs.name} is gone"

    # ------------------------------------------------------------ each by itself

    def draft(self, declared: Any, project: Assembly) -> Draft:
        if isinstance(declared, Dataset):
            return _python(declared, project)
        if isinstance(declared, SqlDataset):
            return _sql(declared, project)
        assert isinstance(declared, Stream)
        return _stream(declared, project)

    def unknown(self, draft: Draft, upstream: str, project: Assembly) -> tuple[str, str]:
        names = [one.name for one in project.drafts.values()]
        kind, _, name = upstream.rpartition(":")
        if kind and kind != KIND:
            return (
                f"`{draft.name}` reads `{upstream}`, which has no rows",
                "read a dataset; a KPI's values are the dataset `kpi_NAME`",
            )
        if draft.body.build.code.language == "sql":
            message = f"the SQL of `{draft.name}` reads `{name}`, which does not exist"
            return message, near(name, names)
        return (
            f"`{draft.name}` reads `{name}`, which does not exist",
            near(name, names) + " (a setting needs a default)",
        )

    # ------------------------------------------------------------ among the others

    def assets(self, draft: Draft, project: Assembly) -> Iterable[Asset]:
        body: _Body = draft.body
        slots = body.slots
        if body.function is not None:
            project.collector.functions[draft.id] = body.function
        if body.query is not None:
            project.collector.queries[draft.id] = body.query
        partitioning = (
            _inherited(draft, project)
            if body.inherits and slots.partition is None
            else slots.partition or Partitioning()
        )
        if partitioning.grain != "none":
            partitioning = msgspec.structs.replace(partitioning, tz=project.tz)
        yield Asset(
            kind=KIND,
            name=draft.name,
            owner=project.owner(draft),
            tier=slots.tier,
            description=slots.description,
            tags=slots.tags,
            build=body.build,
            spec=spec_of(
                Table(
                    partitioning=partitioning,
                    key=slots.key,
                    time=slots.time,
                    schema=slots.schema,  # type: ignore[arg-type]
                    personal=slots.personal,
                    public=slots.public,
                    columns=body.columns or slots.columns,
                )
            ),
            checks=declared_checks(draft, slots, project),
            on=slots.on or ((Trigger(kind="inputs"),) if body.build.inputs or body.columns else ()),
            release=Strategy(kind="publish"),
            lookback=slots.lookback,
            on_change=slots.on_change,  # type: ignore[arg-type]
            keep=slots.keep,
            file=project.collector.relative(draft.place.file),
            line=draft.place.line,
        )

    def finish(self, project: Assembly) -> None:
        _keep(project)
        _lineages(project)
        _windows(project)
        _personal_or_public(project)
        _foreign_keys(project)

    def column_reads(self, assets: Sequence[Asset], project: Assembly) -> Iterable[ColumnRead]:
        lines = {
            (id_, name): line
            for id_, draft in project.drafts.items()
            if draft.kind == KIND
            for name, line in draft.body.settings
        }
        for asset in assets:
            yield from query_reads(asset, project.collector.queries.get(asset.id, ""))
            yield from checks_reads(asset, lines)


# ---------------------------------------------------------------- drafts


def _python(declared: Dataset[..., Any], project: Assembly) -> Draft:
    collector, function = project.collector, declared.function
    binding = bind(function, declared.slots.inputs, collector, declared.place, declared.name)
    work = declared.work
    build = Build(
        code=project.code(function, declared.place),
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
        slots = msgspec.structs.replace(slots, description=function.__doc__.strip().splitlines()[0])
    collector.secrets.update(binding.secrets.values())
    return Draft(
        KIND,
        declared.id,
        declared.name,
        slots.owner,
        declared.place,
        _Body(slots, build, function=function),
        build.inputs,
    )


def _sql(declared: SqlDataset, project: Assembly) -> Draft:
    collector = project.collector
    file = sqlfile.read(declared, collector)
    if file is None:
        nothing = Build(code=Code(language="sql", entry="", file=""))
        body = _Body(declared.slots, nothing, inherits=True)
        return Draft(KIND, declared.id, declared.name, declared.slots.owner, declared.place, body)
    name, slots, header_lines = sqlfile.settings(declared, file, collector)
    wrong = name_problem(KIND, name)
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
            asset=wide.asset if wide else f"{KIND}:{table}",
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
    return Draft(
        KIND,
        f"{KIND}:{name}",
        name,
        slots.owner,
        Place(declared.file, 1),
        _Body(
            slots,
            Build(code=code, inputs=inputs, deterministic=declared.deterministic),
            inherits,
            tuple(header_lines.items()),
            query=file.text,
        ),
        inputs,
        lines,
    )


def _stream(declared: Stream, project: Assembly) -> Draft:
    code = Code(
        language="stream",
        entry="",
        file=project.collector.relative(declared.place.file),
        line=declared.place.line,
        fingerprint=streams.fingerprint(declared.columns),
    )
    body = _Body(declared.slots, Build(code=code), columns=declared.columns)
    return Draft(KIND, declared.id, declared.name, declared.slots.owner, declared.place, body)


# ---------------------------------------------------------------- checks


def _inherited(draft: Draft, project: Assembly) -> Partitioning:
    """Return the partitioning that the inputs share; note it when they do not."""
    found = [table_spec(project.made[one.asset]).partitioning for one in draft.inputs]
    sliced = [p for p in found if p.grain != "none"]
    if len({p.grain for p in sliced}) > 1:
        grains = " and ".join(sorted({p.grain for p in sliced}))
        project.note(
            "SX-PROJ-027",
            f"the inputs of `{draft.name}` are {grains}",
            place=draft.place,
            hint="say its own, `-- partition: daily(start=...)`, or `none`",
        )
    return sliced[0] if sliced else Partitioning()


def declared_checks(draft: Draft, slots: Slots, project: Assembly) -> tuple[CheckSpec, ...]:
    """Return the checks of a dataset, the one for its key first; register the functions of
    Python checks."""
    specs: list[CheckSpec] = []
    if slots.key:
        specs.append(_unique(slots.key))
    said = {one.check for one in slots.checks if isinstance(one, CheckSpec)}
    if (
        slots.schema == "freeze" and "check.dataops.schema" not in said
    ):  # against the live columns, whatever they are
        specs.append(_FROZEN)
    for one in slots.checks:
        specs.append(
            _python_check(one, project) if isinstance(one, PythonCheck) else _own(one, draft)
        )
        if specs[-1].check == "check.dataops.sql":
            _sql_check(specs[-1], draft, project)
    names = [spec.name for spec in specs]
    for name in sorted({n for n in names if names.count(n) > 1}):
        project.note(
            "SX-PROJ-028",
            f"`{draft.name}` has the check `{name}` twice",
            place=draft.place,
            hint="leave one out (`key=` adds `unique` by itself)",
        )
    return tuple(specs)


def _unique(key: tuple[str, ...]) -> CheckSpec:
    """Return the check of a key."""
    return CheckSpec(
        name=f"unique({', '.join(key)})",
        check="check.dataops.unique",
        params={"columns": list(key)},
    )


def _not_in(some: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the columns that are not among others: personal ones are not told apart by case."""
    there = {name.lower() for name in others}
    return [name for name in some if name.lower() not in there]


def _python_check(check: PythonCheck[..., Any], project: Assembly) -> CheckSpec:
    entry = check.spec.params["function"]
    project.collector.checks[entry] = check.function
    note_missing_pandas(check.function, project.collector, check.place, check.spec.name)
    code = project.code(check.function, check.place)
    params = {
        **check.spec.params,
        "frame": frame_of(check.function),
        "fingerprint": code.fingerprint,
    }
    return msgspec.structs.replace(check.spec, params=params)


def _sql_check(spec: CheckSpec, draft: Draft, project: Assembly) -> None:
    try:
        read = [
            table.name
            for table in sqlfile.tables(spec.params["query"], draft.place.file, draft.place.line)
        ]
    except ProjectError as error:
        project.note(
            error.code,
            f"the check `{spec.name}` of `{draft.name}`: {error.message}",
            place=draft.place,
            hint=error.hint,
        )
        return
    for name in read:
        if name not in (draft.name, "this"):
            project.note(
                "SX-PROJ-029",
                f"the check `{spec.name}` of `{draft.name}` reads `{name}`",
                place=draft.place,
                hint=f"a check reads its own dataset, `{draft.name}`",
            )


def _own(spec: CheckSpec, draft: Draft) -> CheckSpec:
    """A foreign key into the dataset itself is a question about the whole table: a row may
    point to one of another partition."""
    to, _, _ = str(spec.params.get("to", "")).rpartition(".")
    own = spec.scope == "partition" and to == draft.id
    return msgspec.structs.replace(spec, scope="table") if own else spec


# ---------------------------------------------------------------- against all others


def _keep(project: Assembly) -> None:
    """Fill in how long versions keep their bytes where the project does not say so. What a stream
    makes at its own pace, in itself and in what follows it, is many versions a day."""
    of_stream: dict[str, str] = {}  # asset -> how long the stream that it follows keeps
    for id_, asset in project.made.items():  # upstream first
        if asset.build is None or asset.kind != KIND:
            continue
        followed = [
            of_stream[one.asset]
            for one in asset.build.inputs
            if one.asset in of_stream and not any(t.kind == "cron" for t in asset.on)
        ]
        short = _KEEP_STREAM if asset.is_pushed else min(followed, key=length_s, default="")
        if short:
            of_stream[id_] = asset.keep or short
            project.made[id_] = msgspec.structs.replace(asset, keep=of_stream[id_])


def _lineages(project: Assembly) -> None:
    """Fill in what flows into the columns of queries, where something personal may. Workers do not
    need it."""
    if project.fingerprint is None:
        return
    for id_ in reached_assets(project.made):
        asset, query = project.made[id_], project.collector.queries.get(id_)
        if query is not None and asset.build and asset.build.inputs:
            inputs = {one.name: one.asset for one in asset.build.inputs}
            table = msgspec.structs.replace(table_spec(asset), lineage=lineage(query, inputs))
            project.made[id_] = msgspec.structs.replace(asset, spec=spec_of(table))


def _windows(project: Assembly) -> None:
    """Note inputs that have no rows, and windows over what has no partitions of time: there is no
    such part of it."""
    for draft in project.drafts.values():
        for one in draft.inputs:
            upstream = project.made.get(one.asset)
            if draft.kind == KIND and upstream is not None and upstream.kind != KIND:
                project.note(
                    "SX-PROJ-008",
                    f"`{draft.name}` reads `{one.asset}`, which has no rows",
                    place=draft.place_of(one.asset),
                    hint="read a dataset; a KPI's values are the dataset `kpi_NAME`",
                )
            if one.window in ("", "all") or upstream is None or upstream.kind != KIND:
                continue
            if table_spec(upstream).partitioning.grain in ("none", "static"):
                project.note(
                    "SX-PROJ-054",
                    f"`{draft.name}` reads the last {one.window} of `{upstream.name}`, which is "
                    "not sliced by time",
                    place=draft.place_of(one.asset),
                    hint=f"read all of it: `{upstream.name}` without `window`; or slice "
                    f"`{upstream.name}`",
                )


def _personal_or_public(project: Assembly) -> None:
    """Note columns that are both personal and public."""
    for draft in project.drafts.values():
        if draft.kind != KIND:
            continue
        slots = draft.body.slots
        both = sorted({c.lower() for c in slots.personal} & {c.lower() for c in slots.public})
        if both:
            project.note(
                "SX-PROJ-055",
                f"`{both[0]}` of `{draft.name}` is both personal and public",
                place=draft.place,
                hint="leave it out of one; `public` opens what is made of personal columns",
            )


def _foreign_keys(project: Assembly) -> None:
    """Note foreign keys into what does not exist."""
    datasets = [asset for asset in project.made.values() if asset.kind == KIND]
    names = [asset.name for asset in datasets]
    for asset in datasets:
        for check in asset.checks:
            target = (
                str(check.params.get("to", "")).removeprefix(f"{KIND}:").partition(".")[0]
                if check.check == "check.dataops.foreign_key"
                else ""
            )
            if target and target not in names:
                place = project.drafts[asset.id].place
                project.note(
                    "SX-PROJ-011",
                    (
                        f"the check `{check.name}` of `{asset.name}` looks into `{target}`, "
                        "which does not exist"
                    ),
                    place=place,
                    hint=near(target, names),
                )
