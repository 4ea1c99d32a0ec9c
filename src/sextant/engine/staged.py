"""The assets of one run as its steps see them: what was live when it began, with what the run has
made laid over it."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from sextant.engine import keys
from sextant.kernel.nouns import CheckResult, FileRef, FileSet, Noun, Part

Schema = tuple[tuple[str, str], ...]


class Staged(Noun, frozen=True, kw_only=True):
    """One partition that the run made, or found made before: where its rows lie. `origin`: the
    locator of the older table state that holds them, "" for files of this run."""

    part: Part
    files: tuple[FileRef, ...] = ()
    origin: str = ""


class StepOutput(Noun, frozen=True, kw_only=True):
    """What a step's record in the history keeps, so that a resumed run need not make it again."""

    staged: tuple[Staged, ...] = ()
    confirmed: tuple[Part, ...] = ()  # made the content that is live already
    held_back: tuple[Part, ...] = ()  # made the content again that was undone: not published
    schema: Schema = ()
    checks: tuple[CheckResult, ...] = ()
    refused: bool = False
    wall_s: float = 0.0


class RunAsset:
    """One asset in one run.

    base, locator, parts, schema  of the version that is live
    files                         the files of a body, by its locator
    for_release                   False: what the run makes is only looked at, as a derivation does
    """

    def __init__(
        self,
        asset: str,
        base: str,
        locator: str,
        parts: Mapping[str, Part],
        schema: Schema,
        files: Callable[[str], tuple[FileRef, ...]],
        *,
        for_release: bool = True,
    ) -> None:
        self.for_release = for_release
        self.asset, self.base, self.locator, self.base_parts, self.schema = (
            asset,
            base,
            locator,
            parts,
            schema,
        )
        self._merged = schema
        self._columns: dict[str, Schema] = {}  # of what was taken, by the state it comes from
        self.staged: dict[str, Staged] = {}
        self.removed: set[str] = set()
        self.confirmed: list[Part] = []
        self.held_back: list[Part] = []
        self.refused: dict[str, Staged] = {}
        self.refused_schema = schema
        self.checks: list[CheckResult] = []
        self.refused_checks: list[CheckResult] = []
        self.made_from: dict[
            str, str
        ] = {}  # provenance of what was taken over from a version of elsewhere
        self.wall_s = 0.0
        self._files_at = files
        self._files: dict[str, tuple[FileRef, ...]] = {}
        self._all_digest = ""

    @property
    def changed(self) -> bool:
        return bool(self.staged or self.removed)

    def part(self, partition: str) -> Part | None:
        """Return the partition as the run sees it now."""
        staged = self.staged.get(partition)
        if staged:
            return staged.part
        return None if partition in self.removed else self.base_parts.get(partition)

    def parts(self) -> dict[str, Part]:
        out = {name: part for name, part in self.base_parts.items() if name not in self.removed}
        out.update((name, staged.part) for name, staged in self.staged.items())
        return out

    def as_live(self) -> "RunAsset":
        """Return the asset as it was when the run began: for readers of what is not live with this
        run."""
        files = self._files_at
        return RunAsset(self.asset, self.base, self.locator, self.base_parts, self.schema, files)

    def content(self) -> str:
        """Return the digest over all partitions."""
        if self.changed or not self._all_digest:
            self._all_digest = keys.content_of(self.parts())
        return self._all_digest

    def give_up(self) -> None:
        """Forget what the run made: the table is as it was when the run began."""
        self.staged.clear()
        self.removed.clear()
        self.confirmed.clear()
        self.checks.clear()
        self._all_digest = ""

    def take(self, output: StepOutput) -> None:
        """Lay a step's output over the table."""
        self.wall_s += output.wall_s
        if output.refused:
            self.refused.update((s.part.partition, s) for s in output.staged)
            self.refused_checks += output.checks
            self.refused_schema = merge_schema(self.refused_schema, output.schema)
            return
        self.staged.update((s.part.partition, s) for s in output.staged)
        self.confirmed += output.confirmed
        self.held_back += output.held_back
        self.checks += output.checks
        if output.staged and output.schema:
            self._columns.update((s.origin, output.schema) for s in output.staged)
            self._merged = merge_schema(self._merged, output.schema)
            self.schema = self._as_older() or self._merged

    def _as_older(self) -> Schema:
        """Return the columns of an older state that all partitions come from: it is taken as it is,
        without columns that were added since; () where some come from elsewhere."""
        origins = {staged.origin for staged in self.staged.values()}
        is_all_new = self.base_parts.keys() <= self.staged.keys() | self.removed
        is_one_state = len(origins) == 1 and "" not in origins
        return self._columns[origins.pop()] if is_one_state and is_all_new else ()

    def sets(self, wanted: Iterable[str] | None) -> tuple[FileSet, ...]:
        """Return where the rows of these partitions (None: all) lie."""
        names = (
            sorted(self.parts())
            if wanted is None
            else [name for name in wanted if self.part(name) is not None]
        )
        by_origin: dict[str, list[str]] = {}
        fresh: dict[FileRef, list[str]] = {}
        for name in names:
            staged = self.staged.get(name)
            if staged is None:
                by_origin.setdefault(self.locator, []).append(name)
            elif staged.origin:
                by_origin.setdefault(staged.origin, []).append(name)
            else:
                for file in staged.files:
                    fresh.setdefault(file, []).append(name)
        out = []
        for locator, partitions in by_origin.items():
            few = set(partitions)
            files = tuple(
                file for file in self._files_of(locator) if not few.isdisjoint(file.partitions)
            )
            out.append(FileSet(files=files, partitions=tuple(partitions)))
        if fresh:
            wanted_here = {name for partitions in fresh.values() for name in partitions}
            common: list[FileRef] = []
            for file, partitions in fresh.items():
                # one that also holds what is taken from another file is read apart
                if wanted_here.isdisjoint(set(file.partitions).difference(partitions)):
                    common.append(file)
                else:
                    out.append(FileSet(files=(file,), partitions=tuple(partitions)))
            if common:
                seen = dict.fromkeys(name for file in common for name in fresh[file])
                out.append(FileSet(files=tuple(common), partitions=tuple(seen)))
        return tuple(out)

    def _files_of(self, locator: str) -> tuple[FileRef, ...]:
        if locator not in self._files:
            self._files[locator] = self._files_at(locator) if locator else ()
        return self._files[locator]


def merge_schema(before: Schema, after: Schema) -> Schema:
    """Return the columns of both: those of `before` in their order, with the newer type, then the
    new ones."""
    newer = dict(after)
    known = {name for name, _ in before}
    return (
        *((name, newer.get(name, type_)) for name, type_ in before),
        *((name, type_) for name, type_ in after if name not in known),
    )


def encode_output(output: StepOutput) -> str:
    return msgspec.json.encode(output).decode()


def decode_output(text: str) -> StepOutput:
    return msgspec.json.decode(text, type=StepOutput)
