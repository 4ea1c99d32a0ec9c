"""The objects that declarations of datasets return: still callable where a function stands behind
them."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from sextant.kernel.nouns import CheckSpec, Trigger
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset.spec import KIND
from sextant.project.collect import Place
from sextant.project.declared import Declared, Window

P = ParamSpec("P")
R = TypeVar("R")


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
    reads: tuple[str, ...] = ()


class Dataset(Declared, Generic[P, R]):
    """A dataset made by a Python function. Calling it runs the plain function."""

    of_kind = KIND

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

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


class SqlDataset(Declared):
    """A dataset made by a `.sql` file. `file` is its full path; it is read when the project is
    loaded."""

    of_kind = KIND

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


class Stream(Declared):
    """A dataset of rows that others push."""

    of_kind = KIND

    def __init__(
        self, name: str, columns: tuple[tuple[str, str], ...], slots: Slots, place: Place
    ) -> None:
        self.name = name
        self.columns = columns
        self.slots = slots
        self.place = place


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
