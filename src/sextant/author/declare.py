"""The verbs of the author's file: project, team, dataset, sql, kpi, policy and what their settings
are made of.

Each returns a typed object and registers it in the open collector, if there is one. Mistakes of
form are reported at the author's line; what depends on other assets is checked when the project is
assembled.
"""

import builtins
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, Never, get_args
from zoneinfo import ZoneInfo

from sextant.author import measures
from sextant.author.collect import (
    ProjectInfo,
    caller,
    current,
    fitting,
    fitting_list,
    fitting_text,
    fitting_texts,
    name_problem,
    near,
    refuse_unknown,
    report,
)
from sextant.author.declared import (
    Dataset,
    Kpi,
    P,
    PythonCheck,
    R,
    Secret,
    Slots,
    SqlDataset,
    Stream,
    Window,
    Work,
)
from sextant.kernel.errors import BadData, ProjectError, UsageError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import RETRIES_MAX
from sextant.kernel.nouns import CheckSpec, Durability, Rule, Team, Trigger
from sextant.kernel.partitions import Partitioning
from sextant.kinds.kpi.spec import Goal

Check = CheckSpec | PythonCheck[..., Any]
Source = Dataset[..., Any] | SqlDataset | Stream | Kpi | str | Window
Owner = Team | str
Columns = str | Sequence[str]
Executor = Literal["", "inline", "pool", "subprocess"]
OnChange = Literal["report", "rebuild"]
_SIZE = re.compile(r"([1-9]\d*)\s*(MB|GB)")
_BYTES = {"MB": 10**6, "GB": 10**9}
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_GOAL = re.compile(r"\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(%?)\s*")


# ---------------------------------------------------------------- the project and its people


def project(
    name: str,
    *,
    tz: str = "UTC",
    owner: Owner = "",
    environments: Sequence[str] = ("dev", "prod"),
    year_starts: int = 1,
    **unknown: Never,
) -> None:
    """Name the project. Called once.

    tz           the zone whose days and hours its partitions, schedules and business numbers mean
    year_starts  the month, 1 to 12, with which its financial year begins: quarters and years of
                 business numbers
    """
    refuse_unknown("project", unknown, project.__kwdefaults__)
    name = _name("project", name)
    tz = fitting_text("tz", tz, "UTC")
    environments = _names("environments", environments)
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        from zoneinfo import available_timezones

        report("SX-PROJ-013", f"`{tz}` is not a time zone", hint=near(tz, available_timezones()))
        tz = "UTC"
    for environment in environments:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,127}", environment):
            report(
                "SX-PROJ-003",
                f"`{environment}` is not a name for an environment",
                hint="lower-case letters, digits, _ and -, starting with a letter",
            )
    if not environments:
        report(
            "SX-PROJ-003",
            "the project has no environment",
            hint='leave `environments` out for `["dev", "prod"]`',
        )
    if year_starts not in range(1, 13) or isinstance(year_starts, bool):
        report(
            "SX-PROJ-013",
            f"`year_starts` is {year_starts!r}",
            hint="the number of a month: 4 for a year that begins in April",
        )
        year_starts = 1
    info = ProjectInfo(name, tz, _owner(owner), tuple(environments), year_starts, caller())
    collector = current()
    if collector is None:
        return
    if collector.project is not None:
        report(
            "SX-PROJ-004",
            "`project` is called twice",
            hint=f"first at {collector.where(collector.project.place)}; one project has one name",
        )
    collector.project = info


def team(name: str, *, members: Sequence[str] = (), **unknown: Never) -> Team:
    """Declare a team that owns assets. `members`: the names of its people, who may approve for
    it."""
    refuse_unknown("team", unknown, team.__kwdefaults__)
    name = _name("team", name)
    made = Team(name=name, members=_names("members", members))
    collector = current()
    if collector is not None:
        place = caller()
        for other, where in collector.teams:
            if other.name == name:
                report(
                    "SX-PROJ-005",
                    f"two teams are called `{name}`",
                    hint=f"the other stands at {collector.where(where)}",
                )
        collector.teams.append((made, place))
    return made


def secret(name: str) -> Secret:
    """Refer to a secret by name. As the default of a parameter it binds the value, which exists in
    the worker only."""
    name = fitting_text("secret", name)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        report(
            "SX-PROJ-003",
            f"`{name}` is not a name for a secret",
            hint="letters, digits and _, as environment variables have",
        )
    collector = current()
    if collector is not None:
        collector.secrets.add(name)
    return Secret(f"secret:{name}")


def policy(
    name: str,
    *,
    when: str,
    then: "Literal['allow', 'deny'] | Approval",
    absolute: bool = False,
    **unknown: Never,
) -> Rule:
    """Declare a rule over verbs and assets.

    when      a CEL condition
    then      allow, deny, or `approval(1, of=team)`; where several rules ask for approvals, all of
              them must be given
    absolute  of a deny: a broken glass does not pass it
    """
    refuse_unknown("policy", unknown, ["when", "then", "absolute"])
    place = caller()
    name, when = fitting_text("policy", name), fitting_text("when", when, "true")
    if absolute and then != "deny":
        report(
            "SX-PROJ-015",
            f"policy `{name}` is absolute and does not deny",
            hint='absolute=True goes with then="deny"',
        )
    if isinstance(then, Approval):
        rule = Rule(
            name=name,
            when=when,
            then="approval",
            approvals=then.count,
            of=then.of,
            file=place.file,
            line=place.line,
        )
    else:
        if then not in ("allow", "deny"):
            report(
                "SX-PROJ-015",
                f"`{then}` is not what a policy can say",
                hint='"allow", "deny" or `approval(1, of=team)`',
            )
            then = "deny"
        rule = Rule(
            name=name, when=when, then=then, absolute=absolute, file=place.file, line=place.line
        )
    collector = current()
    if collector is not None:
        for other, where in collector.rules:
            if other.name == name:
                report(
                    "SX-PROJ-005",
                    f"two policies are called `{name}`",
                    hint=f"the other stands at {collector.where(where)}",
                )
        collector.rules.append((rule, place))
    return rule


class Approval:
    """What `approval` returns: how many people of which team must agree."""

    def __init__(self, count: int, of: str) -> None:
        self.count = count
        self.of = of


def approval(count: int = 1, *, of: Owner) -> Approval:
    """Ask for `count` people of team `of` before it happens."""
    count = fitting("approval", count, int, "how many people", 1)
    if count < 1:
        report("SX-PROJ-015", f"an approval by {count} people is none", hint="at least 1")
    return Approval(count, _owner(of, "of"))


# ---------------------------------------------------------------- when and where


def hourly(*, start: str | datetime, end: str | datetime | None = None) -> Partitioning:
    """Slice by the hour from `start` (the first) to before `end`, in the project's zone."""
    return _time("hourly", start, end)


def daily(*, start: str | date, end: str | date | None = None) -> Partitioning:
    """Slice by the day of the project's zone, from `start` (the first day) to before `end`."""
    return _time("daily", start, end)


def monthly(*, start: str | date, end: str | date | None = None) -> Partitioning:
    """Slice by the month of the project's zone, from `start` (`2013-01`) to before `end`."""
    return _time("monthly", start, end)


def static(*names: str) -> Partitioning:
    """Slice by a fixed list of names."""
    names = _names("static", names)
    if not names or len(set(names)) != len(names):
        report(
            "SX-PROJ-016",
            "`static` needs at least one name and no name twice",
            hint='write `static("EWR", "JFK", "LGA")`',
        )
    return Partitioning(grain="static", names=tuple(dict.fromkeys(names)))


def cron(text: str) -> Trigger:
    """Run on a schedule of five fields (minute hour day month weekday), in the project's zone."""
    from cronsim import CronSim, CronSimError

    text = fitting_text("cron", text, "0 0 * * *")
    try:
        CronSim(text, datetime(2013, 1, 1))  # noqa: DTZ001 - only the form is looked at
        wrong = "" if len(text.split()) == 5 else "it has not five fields"
    except CronSimError as error:
        wrong = str(error)
    if wrong:
        report(
            "SX-PROJ-017",
            f"`{text}` is not a schedule: {wrong}",
            hint="minute hour day month weekday, as in `0 5 * * *` for five o'clock each day",
        )
    return Trigger(kind="cron", cron=text)


def window(asset: Source, length: str) -> Window:
    """Bind more of an upstream asset than the partition being made: the last `length` (`90d`) up to
    its end, or `all`."""
    if length != "all":
        length = _length_text("window", length)
    return Window(_source(asset).asset, length)


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
    _one_of("schema", schema, ("evolve", "freeze"))
    _one_of("durability", durability, get_args(Durability))
    _one_of("executor", executor, get_args(Executor))
    retries = fitting("retries", retries, int, f"a number from 0 to {RETRIES_MAX}", 0)
    partition, time = _partition(partition), fitting_text("time", time)
    name, description = fitting_text("name", name), fitting_text("description", description)
    if not 0 <= retries <= RETRIES_MAX:
        report("SX-PROJ-019", f"`retries` is {retries}", hint=f"from 0 to {RETRIES_MAX}")
    work = Work(
        whole_range=_truth("whole_range", whole_range),
        deterministic=_truth("deterministic", deterministic),
        durability=durability,
        retries=retries,
        backoff_s=_length("backoff", backoff),
        timeout_s=_length("timeout", timeout),
        memory_bytes=_size("memory", memory),
        pool=fitting_text("pool", pool),
        executor=executor,
    )
    slots = Slots(
        owner=_owner(owner),
        tier=_tier(tier),
        description=description,
        tags=_tags(tags),
        checks=_checks(checks),
        on=_triggers(on),
        inputs=_inputs(inputs),
        partition=partition,
        key=_columns("key", key),
        time=time,
        schema=schema,
        columns=_types(columns),
        personal=_columns("personal", personal),
        public=_columns("public", public),
        lookback=_length_text("lookback", lookback),
        on_change=_one_of("on_change", on_change, get_args(OnChange)),
        keep=_length_text("keep", keep),
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
        called = _name("dataset", name or getattr(function, "__name__", ""))
        made = Dataset(function, called, slots, work, caller())
        _register(made)
        return made

    return decorate


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
        owner=_owner(owner),
        tier=_tier(3 if tier is None else tier),
        tags=_tags(tags),
        on=_triggers(on),
        checks=_checks(checks),
        inputs=_inputs(inputs),
        columns=_types(columns),
        public=_columns("public", public),
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
        deterministic=_truth("deterministic", deterministic),
    )
    collector = current()
    if collector is not None and is_path:
        collector.declared.append(made)
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
    columns = _mapping("columns", columns, "a mapping of columns to types")
    partition, time = _partition(partition), fitting_text("time", time)
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
    keys = _columns("key", key)
    for column in (*keys, *((time,) if time else ()), *_columns("personal", personal)):
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
        owner=_owner(owner),
        tier=_tier(tier),
        description=description,
        tags=_tags(tags),
        checks=_checks(checks),
        partition=partition,
        key=keys,
        time=time,
        personal=_columns("personal", personal),
        keep=_length_text("keep", keep),
    )
    name = _name("dataset", name)
    made = Stream(name, tuple(columns.items()), slots, caller())
    _register(made)
    return made


def kpi(
    name: str,
    *,
    of: Dataset[..., Any] | SqlDataset | Stream | Kpi | str,
    measure: str,
    grain: str = "1d",
    by: Columns = (),
    where: str = "",
    goal: Goal | None = None,
    unit: str = "",
    format: str = "",  # noqa: A002 - the word of the field
    over_time: str = "",
    description: str = "",
    owner: Owner = "",
    tier: int = 3,
    tags: Columns = (),
    checks: Sequence[Check] = (),
    public: Columns = (),
    **unknown: Never,
) -> Kpi:
    """Define a business number.

    of       the dataset over whose rows it is taken
    measure  one aggregate in DuckDB SQL, `count(*) filter (where dep_delay < 15) / count(*)`; taken
             over rows at every level
    grain    the bucket of time of its stored values: 5m, 15m, 1h, 1d, 1w, 1mo, 1q, 1y of the
             project's zone, or "" for one value in all
    by       dimensions, columns of `of`
    where    which rows count
    goal     `goal(">= 0.75", over="28d")`
    unit     of its values, shown beside them: `EUR`
    format   how people read a value, a format specification of Python: `,.2f`, `.1%`
    over_time  of a stock, which does not add up over time (a balance, customers, goods on hand):
             which of its buckets stands for a longer time: last, first, or their mean, max, min
    public   dimensions, or "value", that are not personal although personal columns flow into them
    """
    refuse_unknown("kpi", unknown, kpi.__kwdefaults__)
    measure, where = fitting_text("measure", measure, "count(*)"), fitting_text("where", where)
    unit, format = fitting_text("unit", unit), fitting_text("format", format)  # noqa: A001
    description = fitting_text("description", description)
    goal = fitting("goal", goal, (Goal, type(None)), 'a goal: `sx.goal(">= 0.75")`', None)
    grain = _one_of("grain", grain, tuple(measures.NESTS))
    over_time = _one_of("over_time", over_time, ("", *measures.OVER_TIME))
    try:
        builtins.format(0.5, format)
    except (ValueError, TypeError):
        report(
            "SX-PROJ-019",
            f"`{format}` is not a value of `format`",
            hint="a format specification of Python: `,.2f`, `.1%`",
        )
        format = ""  # noqa: A001
    slots = Slots(
        owner=_owner(owner),
        tier=_tier(tier),
        description=description,
        tags=_tags(tags),
        checks=_checks(checks),
        public=_columns("public", public),
    )
    name = _name("kpi", name)
    made = Kpi(
        name,
        of=_source(of).asset,
        sql=measure,
        grain=grain,
        by=_columns("by", by),
        where=where,
        goal=goal,
        unit=unit,
        format=format,
        over_time=over_time,
        slots=slots,
        place=caller(),
    )
    _register(made)
    return made


def goal(text: str, *, over: str = "") -> Goal:
    """Return a target such as `>= 0.75` or `< 5 %`, over the last `over` (`28d`)."""
    text = fitting_text("goal", text, ">= 0")
    match = _GOAL.fullmatch(text)
    if match is None:
        report(
            "SX-PROJ-021", f"`{text}` is not a goal", hint="a comparison and a number: `>= 0.75`"
        )
        return Goal(op=">=", value=0.0, over="")
    value = float(match[2]) / (100 if match[3] else 1)
    return Goal(op=match[1], value=value, over=_length_text("over", over))  # type: ignore[arg-type]


# ---------------------------------------------------------------- forms


def _register(made: object) -> None:
    collector = current()
    if collector is not None:
        collector.declared.append(made)


def _time(
    grain: Literal["hourly", "daily", "monthly"], start: str | date, end: str | date | None
) -> Partitioning:
    made = Partitioning(grain=grain, start=str(start), end="" if end is None else str(end))
    try:
        made.check()
    except UsageError as error:
        report("SX-PROJ-016", error.message, hint=error.hint)
    return made


def _name(what: str, name: str) -> str:
    wrong = name_problem(what, name) if isinstance(name, str) else ()
    if wrong:
        report("SX-PROJ-003", wrong[0], hint=wrong[1])
    return fitting_text("name", name, "unnamed")


def _owner(owner: Owner, setting: str = "owner") -> str:
    team = fitting(setting, owner, (Team, str), "a team, or its name", "")
    return team.name if isinstance(team, Team) else str(team)


def _names(setting: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a list of texts; what is none is reported and left out."""
    return fitting_texts(setting, fitting_list(setting, names, "a list of texts"))


def _truth(setting: str, value: bool) -> bool:
    return bool(fitting(setting, value, bool, "True or False", False))


def _mapping(setting: str, value: Any, expected: str) -> dict[str, Any]:
    """Return a mapping of texts; what is none is reported and left out."""
    given = fitting(setting, value, Mapping, expected, {})
    return {key: given[key] for key in fitting_texts(setting, given)}


def _partition(partition: Partitioning | None) -> Partitioning | None:
    expected = 'one of `sx.hourly`, `sx.daily`, `sx.monthly` (`start="2013-01-01"`), `sx.static`'
    kinds = (Partitioning, type(None))
    return fitting("partition", partition, kinds, expected, None)  # type: ignore[no-any-return]


def _tier(tier: int) -> int:
    if tier not in (1, 2, 3) or isinstance(tier, bool):
        report(
            "SX-PROJ-022",
            f"`{tier}` is not a tier",
            hint="1 (the company stops), 2 or 3 (can wait)",
        )
        return 3
    return tier


def _tags(tags: Columns) -> tuple[str, ...]:
    listed = (tags,) if isinstance(tags, str) else fitting_list("tags", tags, "a list of words")
    return checked_tags(fitting_texts("tags", listed), report)


def checked_tags(tags: Iterable[str], note: Callable[..., None]) -> tuple[str, ...]:
    """Return the tags that are words, each once; `note` is told of the others."""
    good = []
    for tag in tags:
        if _TAG.fullmatch(tag):
            good.append(tag)
        else:
            note("SX-PROJ-035", f"`{tag}` is not a tag", hint="lower-case letters, digits, - and _")
    return tuple(dict.fromkeys(good))


def _checks(checks: Sequence[Check]) -> tuple[Check, ...]:
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


def _triggers(on: Trigger | Sequence[Trigger]) -> tuple[Trigger, ...]:
    listed = tuple(on) if isinstance(on, list | tuple) else (on,)
    for one in listed:
        if not isinstance(one, Trigger):
            report(
                "SX-PROJ-017", f"`{one!r}` is not a trigger", hint='write `on=sx.cron("0 5 * * *")`'
            )
    return tuple(one for one in listed if isinstance(one, Trigger))


def _inputs(inputs: Mapping[str, Source] | None) -> dict[str, Window]:
    given = {} if inputs is None else inputs
    expected = 'a mapping of names to assets: `{"past": window("features", "90d")}`'
    named = _mapping("inputs", given, expected)
    return {name: _source(source) for name, source in named.items()}


def _source(source: Source) -> Window:
    if isinstance(source, Window):
        return source
    if isinstance(source, str):
        return Window(source if ":" in source else f"dataset:{source}", "")
    if isinstance(source, Dataset | SqlDataset | Stream | Kpi):
        return Window(source.id, "")
    report(
        "SX-PROJ-024",
        f"`{source!r}` is not an asset",
        hint="the asset itself, its name, or `window(asset, length)`",
    )
    return Window("", "")


def _columns(setting: str, columns: Columns) -> tuple[str, ...]:
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
    columns = _mapping("columns", given, "a mapping of columns to types")
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


def _one_of(setting: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        report(
            "SX-PROJ-019",
            f"`{value}` is not a value of `{setting}`",
            hint=f"one of {', '.join(f'`{a}`' for a in allowed if a)}",
        )
        return allowed[0]
    return value


def _length(setting: str, text: str) -> float:
    text = fitting_text(setting, text)
    try:
        return length_s(text) if text else 0.0
    except UsageError as error:
        report(
            "SX-PROJ-012",
            f"`{setting}`: {error.message}",
            hint="write it as `3d`, `36h`, `10m` or `30s`",
        )
        return 0.0


def _length_text(setting: str, text: str) -> str:
    return text if _length(setting, text) and isinstance(text, str) else ""


def _size(setting: str, text: str) -> int:
    text = fitting_text(setting, text)
    match = _SIZE.fullmatch(text)
    if text and match is None:
        report(
            "SX-PROJ-012",
            f"`{setting}`: `{text}` is not a size",
            hint="write it as `512MB` or `2GB`",
        )
    return int(match[1]) * _BYTES[match[2]] if match else 0
