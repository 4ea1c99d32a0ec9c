"""The composition root: one project's stores, engine and releases put together in this process.

The command line, the server and `sextant.testing` open one. Opening it reads; only what is asked
for writes. Components take `core`, never the platform.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sextant.app.composing import runs_of
from sextant.app.interrupts import Interrupts
from sextant.app.memory import Memory
from sextant.app.sealing import Sealing
from sextant.core import open_core
from sextant.kernel.clock import Clock, SystemClock
from sextant.kernel.ids import Ids
from sextant.kernel.nouns import Principal
from sextant.ledger.log import Ledger
from sextant.project.config import Config, find_config, read_config

if TYPE_CHECKING:
    from sextant.app.access import Access


class LocalPlatform:
    """One project, in this process. Use as a context manager, or call `close`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        executor: str = "pool",
        principal: Principal | None = None,
        load: bool = True,
        confirm: bool = True,
        drafts: bool = False,
        home: Path | None = None,
    ) -> None:
        """drafts  edits that are only looked at are not recorded
        home    folder for key and witness instead of the user's own: for tests
        """
        self.ledger = Ledger(clock or SystemClock())
        self.core = core = open_core(
            config, self.ledger, clock=clock, ids=ids, principal=principal, drafts=drafts
        )
        # the access is made when it is first asked for
        core.authorization.person_of_token = lambda *who: self.access.person_of_token(*who)  # noqa: PLW0108
        self.memory = Memory(core)
        self.interrupts = Interrupts()
        self.runs = runs_of(core, self.interrupts, executor)
        # how SQL questions are answered; set by the server
        self.asker: Callable[[str, str, Mapping[str, str], str, str], bytes] | None = None
        self._closing = contextlib.ExitStack()
        try:
            self.sealing = Sealing(core, home)
        except BaseException:
            core.close()
            raise
        self._events_at_start = self.ledger.size()
        try:
            if confirm:
                self.sealing.confirm()
            if load:
                core.project.load()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, start: Path | None = None, **more: Any) -> Self:
        """Open the project found from a folder upwards. ProjectError if there is none."""
        return cls(read_config(find_config(start or Path.cwd())), **more)

    @functools.cached_property
    def access(self) -> "Access":
        """Accounts and tokens; made when they are first asked for."""
        from sextant.app.access import Access

        return Access(self.core)

    def ask(
        self, sql: str, form: str, params: Mapping[str, str], role: str, person: str = ""
    ) -> bytes:
        """Answer a question in ClickHouse's SQL, by the telemetry process of the server that runs
        for this project, or by a store opened for the question."""
        if self.asker is None:
            from sextant.kernel import registry

            self.asker = registry.load("query.local")(self)
        assert self.asker is not None
        return self.asker(sql, form, params, role, person)

    def at_close(self, do: Callable[[], None]) -> None:
        """Do something when the platform closes; the newest first."""
        self._closing.callback(do)

    def close(self) -> None:
        """End all that works for this platform, sign what was written, close the stores."""
        self._closing.close()
        self.runs.close()
        if "access" in self.__dict__:
            self.access.close()
        try:
            if self.ledger.size() > self._events_at_start:
                self.sealing.checkpoint()
        finally:
            self.core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
