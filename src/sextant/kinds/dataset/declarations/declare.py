"""The words by which an author declares datasets: `dataset`, `sql`, `stream`, `window`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Never, get_args

from sextant.kernel.errors import BadData, ProjectError, UsageError
from sextant.kernel.limits import READS_MAX, RETRIES_MAX
from sextant.kernel.nouns import CheckSpec, Durability, Trigger
from sextant.kernel.outside import named
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset.declarations.declared import (
    Dataset,
    P,
    PythonCheck,
    R,
    Slots,
    SqlDataset,
    Stream,
    Work,
)
from sextant.kinds.dataset.spec import KIND
from sextant.project import forms
from sextant.project.collect import (
    caller,
    fitting,
    fitting_list,
    fitting_text,
    fitting_texts,
    near,
    refuse_unknown,
    report,
)
from sextant.project.declared import Declared, Window
from sextant.project.forms import Owner

Check = CheckSpec | PythonCheck[..., Any]
Source = Declared | str | Window
Columns = str | Sequence[str]
Executor = Literal["", "inline", "pool", "subprocess"]
OnChange = Literal["report", "rebuild"]


def window(asset: Source, length: str) -> Window:
    """Bind more of an upstream asset than the partition being made: the last `length` (`90d`) up to
    its end, or `all`."""
    if length != "all":
        length = forms.length_text("window", length)
    return Window(source_of(asset).asset, length)


# ---------------------------------------------------------------- assets


def dataset(
    *misplaced: Never,
    name: str = "",
    description: str = "",
    owner: Owner = "",
    tier: int = 3,
    tags: Columns = (),
    partition: Partitioning | None = None,
    key: Columns = (),
    time: str = "",
    on: Trigger | Sequence[Trigger] = (),
    lookback: str = "",
    checks: Sequence[Check] = (),
    inputs: Mapping[str, Source] | None = None,
    schema: Literal["evolve", "freeze"] = "evolve",
    columns: Mapping[str, str] | None = None,
    personal: Columns = (),
    public: Columns = (),
    whole_range: bool = False,
    deterministic: bool = True,
    durability: Durability = "grouped",
    retries: int = 0,
    backoff: str = "1s",
    timeout: str = "",
    memory: str = "",
    pool: str = "",
    executor: Executor = "",
    reads: str | Sequence[str] = (),
    on_change: OnChange = "report",
    keep: str = "",
    **unknown: Never,
) -> Callable[[Callable[P, R]], Dataset[P, R]]:
    """Make a dataset of a function that returns its rows as a frame (Polars, pandas, PyArrow, a
    DuckDB relation).

    name         of the dataset; the function's name when left out
    tags         words that commands select by: `sextant run tag:daily`
    partition    how it is sliced; left out, it is one table that is made whole
    key          columns that tell its rows apart: checked for uniqueness, used by `diff` and merges
    time         the column of instants that says into which slice a row belongs
    on           `cron(...)`; left out, it runs when an input has a new version
    lookback     how far back a source looks again for late rows: `3d`
    inputs       what a parameter's own name does not say: `{"past": window("features", "90d")}`
    schema       `freeze` refuses columns that come, go or change type; `evolve` lets them come
    columns      column -> type of columns that it returns: values that do not fit are refused, and
                 a day without a value has the type; it may return others too
    personal     columns that are masked wherever rows are shown (evidence of checks, `show`,
                 `diff`), and left out of SQL and exports but for administrators. What is made of
                 them is personal too: in a dataset that reads one with personal columns, those of
                 the same name, and those whose name no input has
    public       columns that are not personal, whatever the inputs are
    whole_range  one call makes several adjacent partitions (`time` says which row belongs where)
    durability   `strict` for a function with effects outside: its start is durable before it is
                 called
    retries, backoff, timeout, memory, pool, executor   how a step is run; `pool` names a limit of
    sextant.toml
    reads        tables and topics outside that the function reads, so that `why` and `graph` go on
                 to the services that write them: `postgres://shop/public.orders`, `kafka://orders`
    on_change    `rebuild` recomputes by itself when code or inputs changed; `report` only says so
    keep         how long versions that are no longer live keep their bytes, so that they can be
                 restored: 30d when left out; 1d, or what the stream says, for a dataset that
                 follows a stream without a schedule of its own
    """
    if misplaced:
        raise ProjectError(
            "SX-PROJ-018",
            "`dataset` is used without parentheses",
            hint="write `@sx.dataset(...)`, or `@sx.dataset()`",
            where=":".join(map(str, caller())),
        )
    refuse_unknown("dataset", unknown, dataset.__kwdefaults__)
    forms.one_of("schema", schema, ("evolve", "freeze"))
    forms.one_of("durability", durability, get_args(Durability))
    forms.one_of("executor", executor, get_args(Executor))
    retries = fitting("retries", retries, int, f"a number from 0 to {RETRIES_MAX}", 0)
    partition, time = forms.partition(partition), fitting_text("time", time)
    name, description = fitting_text("name", name), fitting_text("description", description)
    if not 0 <= retries <= RETRIES_MAX:
        report("SX-PROJ-019", f"`retries` is {retries}", hint=f"from 0 to {RETRIES_MAX}")
    work = Work(
        whole_range=forms.truth("whole_range", whole_range),
        deterministic=forms.truth("deterministic", deterministic),
        durability=durability,
        retries=retries,
        backoff_s=forms.length("backoff", backoff),
        timeout_s=forms.length("timeout", timeout),
        memory_bytes=forms.size("memory", memory),
        pool=fitting_text("pool", pool),
        executor=executor,
        reads=_reads(reads),
    )
    slots = Slots(
        owner=forms.owner(owner),
        tier=forms.tier(tier),
        description=description,
        tags=forms.tags(tags),
        checks=checked_checks(checks),
        on=forms.triggers(on),
        inputs=_inputs(inputs),
        partition=partition,
        key=columns_named("key", key),
        time=time,
        schema=schema,
        columns=_types(columns),
        personal=columns_named("personal", personal),
        public=columns_named("public", public),
        lookback=forms.length_text("lookback", lookback),
        on_change=forms.one_of("on_change", on_change, get_args(OnChange)),
        keep=forms.length_text("keep", keep),
    )
    if whole_range and not (partition and partition.grain != "none" and time):
        report(
            "SX-PROJ-020",
            "`whole_range` needs `partition=` and `time=`",
            hint="`time` names the column that says which row belongs to which partition",
        )
    if lookback and (partition is None or partition.grain in ("none", "static")):
        report(
            "SX-PROJ-020",
            "`lookback` needs a partition of time",
            hint="say `partition=daily(start=...)`",
        )

    def decorate(function: Callable[P, R]) -> Dataset[P, R]:
        called = forms.name(KIND, name or getattr(function, "__name__", ""))
        made = Dataset(function, called, slots, work, caller())
        forms.register(made)
        return made

    return decorate


def _reads(reads: str | Sequence[str]) -> tuple[str, ...]:
    """Return the assets that `reads` names; what names none is reported."""
    texts = (reads,) if isinstance(reads, str) else fitting_list("reads", reads, "a list of texts")
    if len(texts) > READS_MAX:
        report(
            "SX-PROJ-105",
            f"`reads` names {len(texts)} tables and topics, more than {READS_MAX}",
            hint="a function that reads so many is several datasets",
        )
    out = []
    for text in fitting_texts("reads", texts[:READS_MAX]):
        try:
            out.append(named(text))
        except UsageError as error:
            report(error.code, error.message, hint=error.hint)
    return tuple(dict.fromkeys(out))


def sql(
    file: str,
    *,
    name: str = "",
    owner: Owner = "",
    tier: int | None = None,
    tags: Columns = (),
    on: Trigger | Sequence[Trigger] = (),
    checks: Sequence[Check] = (),
    inputs: Mapping[str, Source] | None = None,
    columns: Mapping[str, str] | None = None,
    public: Columns = (),
    deterministic: bool = True,
    **unknown: Never,
) -> SqlDataset:
    """Make a dataset of a `.sql` file, a path beside the calling file. Its inputs are the tables
    that the query names; the header of the file says the rest (see `sqlfile`). `inputs` only widens
    one of them: `{"flights": window("flights", "28d")}`. `columns` says types of columns, as in
    `dataset`; `public` which columns are not personal although personal ones flow into them. With
    `deterministic=False` the query runs on several threads: sums of floats then differ in their
    last digits from one computation to the next."""
    refuse_unknown("sql", unknown, sql.__kwdefaults__)
    place = caller()
    is_path = isinstance(file, str | os.PathLike)
    file = os.fspath(fitting("sql", file, (str, os.PathLike), "the path of a file", "unnamed"))
    name = fitting_text("name", name)
    path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(place.file)), file))
    slots = Slots(
        owner=forms.owner(owner),
        tier=forms.tier(3 if tier is None else tier),
        tags=forms.tags(tags),
        on=forms.triggers(on),
        checks=checked_checks(checks),
        inputs=_inputs(inputs),
        columns=_types(columns),
        public=columns_named("public", public),
    )
    said_here = (
        ("name", name),
        ("owner", owner),
        ("tier", tier),
        ("tags", tags),
        ("on", on),
        ("public", public),
    )
    given = {word for word, said in said_here if said}
    made = SqlDataset(
        path,
        name or os.path.splitext(os.path.basename(file))[0],
        slots,
        frozenset(given),
        place,
        deterministic=forms.truth("deterministic", deterministic),
    )
    if is_path:
        forms.register(made)
    return made


def stream(
    name: str,
    *,
    columns: Mapping[str, str],
    partition: Partitioning | None = None,
    key: Columns = (),
    time: str = "",
    checks: Sequence[Check] = (),
    owner: Owner = "",
    tier: int = 3,
    tags: Columns = (),
    description: str = "",
    personal: Columns = (),
    keep: str = "",
    **unknown: Never,
) -> Stream:
    """Make a dataset of rows that others push, over HTTP or by the command line.

    columns    column -> type: bool, int64, float64, string, date, timestamptz (an instant),
               timestamp, decimal(p,s)
    partition  how it is sliced, in time; left out, it is one table
    key        of rows that share it, in the whole table, the last one pushed holds; a row can be
               deleted by it
    time       the column that says into which slice a row belongs
    keep       how long versions that are no longer live keep their bytes: 1d when left out, as
               a stream has many
    """
    from sextant.kinds.dataset.streams import DELETED, is_type
    from sextant.stores.lake.types import PARTITION

    refuse_unknown("stream", unknown, stream.__kwdefaults__)
    columns = forms.mapping("columns", columns, "a mapping of columns to types")
    partition, time = forms.partition(partition), fitting_text("time", time)
    description = fitting_text("description", description)
    for column, type_ in columns.items():
        if column in (DELETED, PARTITION):
            report(
                "SX-PROJ-030",
                f"the column `{column}` of the stream `{name}` is the platform's own",
                hint="rename it",
            )
        if not isinstance(type_, str) or not is_type(type_):
            report(
                "SX-PROJ-030",
                f"column `{column}` has the type `{type_}`",
                hint="bool, int64, float64, string, date, timestamptz, timestamp or decimal(p,s)",
            )
    _refuse_alike(columns)
    if not columns:
        report(
            "SX-PROJ-030",
            f"the stream `{name}` has no columns",
            hint='say what a row is: `columns={"id": "string", "amount": "float64"}`',
        )
    keys = columns_named("key", key)
    for column in (*keys, *((time,) if time else ()), *columns_named("personal", personal)):
        if column not in columns:
            report(
                "SX-PROJ-031",
                f"the stream `{name}` has no column `{column}`",
                hint=near(column, list(columns)),
            )
    if partition is not None and (partition.grain in ("none", "static") or not time):
        report(
            "SX-PROJ-020",
            "a stream is sliced by a column of time",
            hint="say `time=` and a partition by hour, day or month, or leave `partition` out",
        )
        partition = None
    if time and columns.get(time, "timestamptz") not in ("timestamptz", "date"):
        report(
            "SX-PROJ-031",
            f"`time` names `{time}`, which is {columns[time]}",
            hint="a column of instants (timestamptz) or dates",
        )
    slots = Slots(
        owner=forms.owner(owner),
        tier=forms.tier(tier),
        description=description,
        tags=forms.tags(tags),
        checks=checked_checks(checks),
        partition=partition,
        key=keys,
        time=time,
        personal=columns_named("personal", personal),
        keep=forms.length_text("keep", keep),
    )
    name = forms.name(KIND, name)
    made = Stream(name, tuple(columns.items()), slots, caller())
    forms.register(made)
    return made


# ---------------------------------------------------------------- forms


def checked_checks(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return checks; what is none is reported and left out."""
    good = []
    for one in fitting_list("checks", checks, 'a list of checks: `[sx.not_null("origin")]`'):
        if isinstance(one, CheckSpec | PythonCheck):
            good.append(one)
        else:
            text = getattr(one, "__name__", None) or repr(one)
            report(
                "SX-PROJ-023",
                f"`{text}` is not a check",
                hint='call the constructor, as in `sx.not_null("origin")`',
            )
    return tuple(good)


def _inputs(inputs: Mapping[str, Source] | None) -> dict[str, Window]:
    given = {} if inputs is None else inputs
    expected = 'a mapping of names to assets: `{"past": window("features", "90d")}`'
    named = forms.mapping("inputs", given, expected)
    return {name: source_of(source) for name, source in named.items()}


def source_of(source: Source) -> Window:
    """Return the asset that a declaration names, and how much of it."""
    if isinstance(source, Window):
        return source
    if isinstance(source, str):
        return Window(source if ":" in source else f"{KIND}:{source}", "")
    if isinstance(source, Declared):
        return Window(source.id, "")
    report(
        "SX-PROJ-024",
        f"`{source!r}` is not an asset",
        hint="the asset itself, its name, or `window(asset, length)`",
    )
    return Window("", "")


def columns_named(setting: str, columns: Columns) -> tuple[str, ...]:
    """Return names of columns, each once."""
    listed = (
        (columns,)
        if isinstance(columns, str)
        else fitting_list(setting, columns, "the name of a column, or a list of names")
    )
    listed = fitting_texts(setting, listed)
    if len(set(listed)) != len(listed):
        twice = next(c for c in listed if listed.count(c) > 1)
        report(
            "SX-PROJ-025", f"`{setting}` names the column `{twice}` twice", hint="each column once"
        )
    return tuple(dict.fromkeys(listed))


def _types(columns: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    from sextant.stores.lake.types import type_of

    given = {} if columns is None else columns
    columns = forms.mapping("columns", given, "a mapping of columns to types")
    columns = {
        column: fitting_text("columns", type_, "string") for column, type_ in columns.items()
    }
    for column, type_ in columns.items():
        try:
            type_of(type_)
        except BadData as error:
            report(
                "SX-PROJ-030",
                f"column `{column}`: {error.message}",
                hint=error.hint,
            )
    _refuse_alike(columns)
    return tuple(columns.items())


def _refuse_alike(columns: Iterable[str]) -> None:
    """Report names of columns that differ by case only: SQL cannot tell them apart."""
    seen: dict[str, str] = {}
    for name in columns:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            report(
                "SX-PROJ-030",
                f"the columns `{other}` and `{name}` differ by case only",
                hint="rename one of them: SQL cannot tell them apart",
            )
