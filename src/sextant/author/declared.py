"""The objects that declarations return: typed, still callable where a function stands behind them,
without effects.

`__sextant_asset__` marks them for the code fingerprint: met as a global they are an edge of the
graph, not code.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import msgspec

from sextant.author.collect import Place
from sextant.kernel.nouns import CheckSpec, Trigger
from sextant.kernel.partitions import Partitioning
from sextant.kinds.kpi.spec import Goal

P = ParamSpec("P")
R = TypeVar("R")


class Secret(str):
    """A reference to a secret, written where its value would stand: the default of a parameter, a
    webhook. As text it is
    `secret:NAME`; the value exists in the worker only."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.removeprefix("secret:")


class Window(NamedTuple):
    """An upstream asset with more than the partition being made: the last `length` up to its end,
    or `all`."""

    asset: str
    length: str


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said about an asset of any kind, already checked for form but not yet against the
    other assets."""

    owner: str = ""
    tier: int = 3
    description: str = ""
    tags: tuple[str, ...] = ()
    checks: tuple["CheckSpec | PythonCheck[..., Any]", ...] = ()
    on: tuple[Trigger, ...] = ()
    inputs: Mapping[str, Window] = {}
    partition: Partitioning | None = None
    key: tuple[str, ...] = ()
    time: str = ""
    schema: str = "evolve"
    columns: tuple[tuple[str, str], ...] = ()  # (column, type) that a dataset promises
    personal: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    lookback: str = ""
    on_change: str = "report"
    keep: str = ""  # "" = not said: `assemble` fills it in


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is run; lengths in seconds, sizes in bytes."""

    whole_range: bool = False
    deterministic: bool = True
    durability: str = "grouped"
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float = 0.0
    memory_bytes: int = 0
    pool: str = ""
    executor: str = ""


class Dataset(Generic[P, R]):
    """A dataset made by a Python function. Calling it runs the plain function."""

    def __init__(
        self, function: Callable[P, R], name: str, slots: Slots, work: Work, place: Place
    ) -> None:
        self.function = function
        self.name = name
        self.slots = slots
        self.work = work
        self.place = place
        self.__doc__ = function.__doc__
        self.__name__ = name
        self.__wrapped__ = function

    __sextant_asset__ = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def id(self) -> str:
        return f"dataset:{self.name}"

    def __repr__(self) -> str:
        return f"<{self.id}>"


class SqlDataset:
    """A dataset made by a `.sql` file. `file` is its full path; it is read when the project is
    loaded."""

    __sextant_asset__ = True

    def __init__(
        self,
        file: str,
        name: str,
        slots: Slots,
        given: frozenset[str],
        place: Place,
        *,
        deterministic: bool,
    ) -> None:
        self.file = file
        self.deterministic = deterministic
        self.name = name
        self.slots = slots
        self.given = given
        self.place = place

    @property
    def id(self) -> str:
        return f"dataset:{self.name}"

    def __repr__(self) -> str:
        return f"<{self.id}>"


class Stream:
    """A dataset of rows that others push."""

    __sextant_asset__ = True

    def __init__(
        self, name: str, columns: tuple[tuple[str, str], ...], slots: Slots, place: Place
    ) -> None:
        self.name = name
        self.columns = columns
        self.slots = slots
        self.place = place

    @property
    def id(self) -> str:
        return f"dataset:{self.name}"

    def __repr__(self) -> str:
        return f"<{self.id}>"


class Kpi:
    """A business number: an aggregate over the rows of a dataset. As an input it stands for its
    values."""

    __sextant_asset__ = True

    def __init__(
        self,
        name: str,
        *,
        of: str,
        sql: str,
        grain: str,
        by: tuple[str, ...],
        where: str,
        goal: Goal | None,
        unit: str,
        format: str,  # noqa: A002 - the word of the field
        over_time: str,
        slots: Slots,
        place: Place,
    ) -> None:
        self.name = name
        self.of = of
        self.sql = sql
        self.grain = grain
        self.by = by
        self.where = where
        self.goal = goal
        self.unit = unit
        self.format = format
        self.over_time = over_time
        self.slots = slots
        self.place = place

    @property
    def id(self) -> str:
        """Return the id of its values, a dataset: that is what others read."""
        return f"dataset:kpi_{self.name}"

    def __repr__(self) -> str:
        return f"<kpi:{self.name}>"


class PythonCheck(Generic[P, R]):
    """A check written as a function of the rows. Calling it runs the plain function."""

    __sextant_asset__ = True

    def __init__(self, function: Callable[P, R], spec: CheckSpec, place: Place) -> None:
        self.function = function
        self.spec = spec
        self.place = place
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @property
    def id(self) -> str:
        return f"check:{self.spec.name}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)
