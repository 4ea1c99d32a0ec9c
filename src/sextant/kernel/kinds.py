"""Kinds of assets: what a kind brings, and the table of them, read from the registry.

A kind is one folder below `kinds/` and one row, `kind.NAME`. Nothing outside of the folder knows
its name.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

from sextant.kernel import registry
from sextant.kernel.errors import ProjectError, SextantError
from sextant.kernel.nouns import (
    Asset,
    Held,
    Move,
    Part,
    Release,
    StrategyKind,
    Version,
    kind_of,
)

if TYPE_CHECKING:
    from sextant.engine.made import Made
    from sextant.project.assemble import Authored

_IDS = "kind"
Fact = bool | int | float | str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate found. `reasons`: why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind answers when a driver asks it to bring a step of a release about, or to take it
    back.

    says      holds: it is done. not_before: ask again at `at`. bad: what is rolled out must be
              taken back. inconclusive: a person decides
    at        ns since 1970
    reason    a sentence for people
    evidence  what was measured, JSON-ready
    """

    says: Literal["holds", "not_before", "bad", "inconclusive"]
    at: int = 0
    reason: str = ""
    evidence: Mapping[str, Any] = {}


HOLDS = Rolled(says="holds")


class Released(Protocol):
    """How versions of a kind become live. Each release that it is given has moves of this kind
    only."""

    def gate(self, release: Release) -> Verdict:
        """Say whether the checks of these targets passed."""
        ...

    def confirm(self, release: Release) -> None:
        """Do nothing where what is about to become live is what was made; raise where it was
        changed since."""
        ...

    def held(self, move: Move) -> tuple[Held, ...]:
        """Return what must not be made again after this move is undone."""
        ...

    def facts(self, move: Move, brought: Collection[Part]) -> Mapping[str, Any]:
        """Return the kind's facts (`Kind.facts`) about a move, which rules ask for. `brought`: the
        parts that it brings."""
        ...


class RolledOut(Released, Protocol):
    """How versions of a kind become live where the pointer alone does not do it: a kind with
    `strategies`.

    A driver calls these under a lease, one at a time, and again after a crash or an error: do what
    is not done yet. `fence` grows whenever another driver takes over: hand it to what is changed,
    so that it refuses a driver that was taken for dead and goes on.
    """

    def roll(self, release: Release, fence: int) -> Rolled:
        """Bring the step `release.step` of the release's strategy about, and judge it."""
        ...

    def undo(self, release: Release, fence: int) -> Rolled:
        """Take back all that `roll` did, traffic first. Answers `holds` when it is done, else
        `not_before`."""
        ...


class Instant:
    """What is live as soon as the pointer says so, and passes every gate: definitions."""

    def gate(self, release: Release) -> Verdict:  # noqa: ARG002
        return Verdict(ok=True)

    def confirm(self, release: Release) -> None:
        """A definition is in the ledger itself."""

    def held(self, move: Move) -> tuple[Held, ...]:
        return (Held(partition="all", code=move.target, inputs="", digest=move.target),)

    def facts(self, move: Move, brought: Collection[Part]) -> Mapping[str, Any]:  # noqa: ARG002
        return {}


class Sees(Protocol):
    """What a kind asks of the principal who looks: `app.visibility` answers."""

    def ask(self, operation: str, **given: Any) -> Any:
        """Return what an operation answers to who looks. Denied, NotFound."""
        ...

    def personal_columns(self, version: Version) -> tuple[str, ...]:
        """Return the columns of a version that are personal, whoever looks."""
        ...

    def hidden_columns(self, version: Version) -> tuple[str, ...]:
        """Return the columns of a version that are left out or masked for who looks."""
        ...

    def text(self, text: str, *assets: str) -> str:
        """Return a text about assets, or the word that it is hidden."""
        ...


class Shown(Protocol):
    """What a kind adds to what is said of every asset. Reads only; what it returns is JSON-ready.
    `NothingShown` has an answer for each."""

    def describe(
        self, env: str, asset: Asset, version: Version, *, limit: int, partition: str
    ) -> dict[str, Any]:
        """Return the facts of a version, and up to `limit` of its rows: of one partition, or "" =
        of any. NotFound for a partition that is not there."""
        ...

    def compare(
        self, asset: Asset, before: Version, after: Version, touched: Sequence[str]
    ) -> dict[str, Any]:
        """Return what differs between two versions, whose partitions `touched` are not the
        same."""
        ...

    def difference(
        self, asset: str, before: Version | None, after: Version | None
    ) -> dict[str, Any]:
        """Return in short what differs between what is live in two environments, from records
        alone; None = nothing is live there."""
        ...

    def profile(
        self,
        asset: Asset,
        version: Version,
        before: Version | None,
        span: tuple[str, str] | None,
    ) -> dict[str, Any]:
        """Return the columns of a version, beside those of another one, of all partitions or of a
        range; {} where versions have no columns. NotFound for a range that is not there."""
        ...

    def total(self, env: str, asset: Asset) -> Any:
        """Return the one value that a definition has in an environment; None where it has none."""
        ...


class NothingShown:
    """Adds nothing: what is said of every asset is all."""

    def describe(
        self,
        env: str,  # noqa: ARG002
        asset: Asset,  # noqa: ARG002
        version: Version,  # noqa: ARG002
        *,
        limit: int,  # noqa: ARG002
        partition: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def compare(
        self,
        asset: Asset,  # noqa: ARG002
        before: Version,  # noqa: ARG002
        after: Version,  # noqa: ARG002
        touched: Sequence[str],  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def difference(
        self,
        asset: str,  # noqa: ARG002
        before: Version | None,  # noqa: ARG002
        after: Version | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def profile(
        self,
        asset: Asset,  # noqa: ARG002
        version: Version,  # noqa: ARG002
        before: Version | None,  # noqa: ARG002
        span: tuple[str, str] | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def total(self, env: str, asset: Asset) -> Any:  # noqa: ARG002
        return None


class Table(NamedTuple):
    """What SQL shows of a kind's versions: the table `ops.NAMEs` (`ops.kpis`), one row for each
    version, beside `asset`, `version` and `created_at`.

    columns  name -> text, int, float, time (nanoseconds since 1970) or list (of texts)
    row      returns a version's values by column; a column that it leaves out is empty
    """

    columns: Mapping[str, str]
    row: Callable[[Version], Mapping[str, Any]]


class Kind(NamedTuple):
    """A kind of asset. Each part is made when it is first asked for; None = the kind has none.

    authored  how declarations of its assets are read: `project.assemble.Authored`
    made      how its versions are made: `engine.made.Made`
    released  how its versions become live: `Released`, made of a project's core; `RolledOut` where
              there are `strategies`
    shown     what people see of its assets: `Shown`, made of a project's core and `Sees`
    facts     what rules may ask for as `context.NAME` when a version is released or undone: name ->
              the value where nothing is known
    table     what SQL shows of its versions
    strategies  how its releases can be rolled out, the default first; none = the pointer is all
    """

    name: str
    authored: "Callable[[], Authored] | None" = None
    made: "Callable[[], Made] | None" = None
    released: Callable[[Any], Released] | None = None
    shown: Callable[[Any, Sees], Shown] | None = None
    facts: Mapping[str, Fact] = {}
    table: Table | None = None
    strategies: tuple[StrategyKind, ...] = ()


@functools.cache
def kinds() -> Mapping[str, Kind]:
    """Return all kinds by name. A plug-in that cannot be imported brings none.

    Raises  ProjectError for a row that is no kind, or one of another name
    """
    found = {}
    for id_ in registry.names(_IDS):
        try:
            kind = registry.load(id_)
        except ProjectError:  # a plug-in: what is of its kind is refused by name
            continue
        if isinstance(kind, Kind) and id_ == f"{_IDS}.{kind.name}":
            found[kind.name] = kind if registry.is_own(id_) else _guarded(kind)
        else:
            raise ProjectError(
                "SX-REG-003",
                f"what stands behind `{id_}` is not the kind of that name",
                hint=f'`Kind("{id_.partition(".")[2]}", ...)`',
            )
    return found


@functools.cache
def facts() -> Mapping[str, Fact]:
    """Return the facts that kinds bring, with their values where nothing is known. ProjectError
    where two kinds bring one name."""
    found: dict[str, Fact] = {}
    for kind in kinds().values():
        for name in found.keys() & kind.facts.keys():
            raise ProjectError(
                "SX-REG-012",
                f"two kinds bring the fact `{name}`, one of them is `{kind.name}`",
                hint="rename one",
            )
        found |= kind.facts
    return found


@functools.cache
def authored(kind: str) -> "Authored":
    """Return how a kind reads declarations. ProjectError for one that does not."""
    make = _known(kind).authored
    if make is None:
        raise ProjectError(
            "SX-REG-007",
            f"assets of the kind `{kind}` cannot be declared",
            hint=f'give `Kind("{kind}", authored=...)`',
        )
    return make()


@functools.cache
def made(kind: str) -> "Made":
    """Return how assets of a kind are made. ProjectError for one whose assets are not."""
    make = _known(kind).made
    if make is None:
        raise ProjectError(
            "SX-REG-010",
            f"assets of the kind `{kind}` cannot be made",
            hint=f'give `Kind("{kind}", made=...)`',
        )
    return make()


def takes_time(asset: str) -> bool:
    """Say whether releases of an asset, by its id, are rolled out: not live by the pointer
    alone."""
    found = kinds().get(kind_of(asset))
    return found is not None and bool(found.strategies)


def shown(kind: str, core: Any, see: Sees) -> Shown:
    """Return what a kind shows of its assets to one principal, beside what is said of every
    asset."""
    found = kinds().get(kind)
    return NothingShown() if found is None or found.shown is None else found.shown(core, see)


def _known(kind: str) -> Kind:
    found = kinds().get(kind)
    if found is None:
        raise ProjectError(
            "SX-REG-006",
            f"there is no kind `{kind}`",
            hint="`sextant doctor` says which packages could not be imported",
        )
    return found


# ---------------------------------------------------------------- kinds of other packages


def _guarded(kind: Kind) -> Kind:
    """Return a kind whose parts raise errors that say which package to mend: what a method of a
    plug-in raises must stop nobody else."""
    parts: dict[str, Any] = {
        name: functools.partial(_call, kind.name, name, make)
        for name, make in zip(kind._fields[1:], kind[1:], strict=True)
        if callable(make)
    }
    if kind.table is not None:
        row = functools.partial(_call, kind.name, "row", kind.table.row)
        parts["table"] = kind.table._replace(row=row)
    return kind._replace(**parts)


class _Guarded:
    """A part of a kind, method by method."""

    def __init__(self, kind: str, part: object) -> None:
        self._kind, self._part = kind, part

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        return functools.partial(_call, self._kind, name, value) if callable(value) else value


def _call(kind: str, name: str, do: Callable[..., Any], *args: Any, **more: Any) -> Any:
    try:
        found = do(*args, **more)
        if isinstance(found, Iterator):
            found = list(found)
    except SextantError:
        raise
    except Exception as error:
        raise ProjectError(
            "SX-REG-011",
            f"the kind `{kind}` failed in `{name}`: {type(error).__name__}: {error}",
            hint="mend or remove the package that brings it",
        ) from error
    if name in (*Kind._fields, "bodies"):
        return _Guarded(kind, found)
    return functools.partial(_call, kind, name, found) if callable(found) else found
