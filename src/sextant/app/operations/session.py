"""What the operations of all nouns share: who asks, of which environment, and what he may see."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sextant.app.operations.row import Operation, Progress
from sextant.kernel.answers import RunProgress
from sextant.kernel.clock import NS
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import PAGE_ROWS_MAX
from sextant.kernel.nouns import Manifest, Principal

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform
    from sextant.app.visibility import Visibility
    from sextant.core import Core
    from sextant.engine.plan import Request


class Session:
    """One principal at one platform. Closing it leaves the platform open: that belongs to whoever
    opened it."""

    def __init__(
        self,
        platform: "LocalPlatform",
        by: Principal | None = None,
        *,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        """refused  is told why a role or scope did not reach"""
        self._p, self._core = platform, platform.core
        self._by = by
        self._refused = refused

    def _permit(self, operation: Operation, given: Mapping[str, Any]) -> None:
        """Raise Denied unless the principal may use an operation with these arguments."""
        from sextant.app import permission

        why = permission.refusal(operation, self._by or self._core.authorization.principal)
        if why is not None:
            if self._refused is not None:
                self._refused(f"{operation.role} with {operation.scope} for {operation.name}")
            raise why
        if operation.verb != "read":
            env = self._env(str(given.get("env", ""))) if operation.of else ""
            permission.ask(self._core, self._p.runs.inbox, operation, self._who(), given, env)

    def _moment(self, *of: Hashable) -> tuple[Hashable, ...]:
        """Return a key of what follows from all events, the project, and the minute: a new day is
        due without an event."""
        core = self._core
        head = core.state.read("event_head")
        return (*of, tuple(map(tuple, head)), core.project.digest, core.clock.now_ns() // (60 * NS))

    @functools.cached_property
    def _see(self) -> "Visibility":
        from sextant.app.visibility import Visibility

        personal = self._p.runs.personal
        return Visibility(
            personal,
            sees_personal=self._who().is_administrator,
            ask=lambda operation, **given: getattr(self, operation)(**given),
        )

    def _who(self) -> Principal:
        return self._core.authorization.who(self._by)

    def _env(self, env: str) -> str:
        """Return the environment asked for, or the project's default. NotFound."""
        name = (
            env
            or self._core.project.config.environment
            or self._core.project.manifest().environments[0]
        )
        self._core.project.manifest()
        self._core.project.check_environment(name)
        return name

    def _every(self, env: str) -> str:
        if env:
            self._core.project.check_environment(env)
        return env

    def _id(self, asset: str) -> str:
        return self._core.assets.find(asset).id if asset else ""

    def _request(
        self,
        assets: Sequence[str],
        partition: str,
        *,
        env: str,
        pinned: bool,
        version: str,
        **more: Any,
    ) -> "Request":
        """Return what a person asks for: by a version of the project that was uploaded, by what the
        folder has (""), or `pinned` by what is in force in an environment."""
        core = self._core
        if pinned:
            if version:
                raise UsageError(
                    "SX-RUN-011",
                    "a version of the project was named, and what is in force is to be used",
                    hint="leave out `version` or `pinned`",
                )
            return request_of(core, assets, partition, core.project.manifest(env), env, **more)
        if version:
            return request_of(core, assets, partition, core.project.manifest_of(version), **more)
        # a server has been up for long: the files may be newer
        manifest = core.project.load_sound()
        return request_of(core, assets, partition, manifest, **more)

    def close(self) -> None:
        """Nothing is held."""


def request_of(
    core: "Core",
    assets: Sequence[str],
    partition: str,
    manifest: Manifest,
    env: str = "",
    **more: Any,
) -> "Request":
    """Return what a person asks for, by what a manifest declares: that in force in `env`, or ("")
    what is to be brought somewhere. NotFound where the selection has nothing that is made here."""
    from sextant.engine.plan import Request, check_range

    chosen = core.assets.select(assets, env, manifest)
    made = tuple(id_ for id_ in chosen if manifest.asset(id_) is not None)
    if assets and not made:
        raise NotFound(
            "SX-PLAN-008",
            f"nothing of {', '.join(chosen)} is made by this project",
            hint="observed assets are changed by other tools: `sextant why ASSET` shows them",
        )
    request = Request(assets=made, partitions=span(partition), **more)
    check_range(manifest, request)
    return request


def span(text: str) -> tuple[str, str] | None:
    """Return the first and last key of `A..B`, or of one partition. UsageError."""
    if not text:
        return None
    first, dots, last = text.partition("..")
    if not first or (dots and not last):
        raise UsageError(
            "SX-CLI-001",
            f"`{text}` is not a range of partitions",
            hint="write 2013-02-01..2013-02-28, or one partition",
        )
    return first, last or first


def page_limit(limit: int, *, least: int = 1) -> int:
    if not least <= limit <= PAGE_ROWS_MAX:
        raise UsageError(
            "SX-PAGE-002",
            f"limit must be between {least:,} and {PAGE_ROWS_MAX:,}, not {limit:,}",
            hint="ask for the rest with `after`",
        )
    return limit


def waiting(progress: Progress | None) -> Callable[[str], None]:
    """Return what is told whom a run waits for: a person's commands always wait in line."""
    return lambda text: progress(RunProgress(waits=text)) if progress is not None else None
