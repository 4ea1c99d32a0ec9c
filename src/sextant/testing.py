"""For the tests of a project: a platform in a temporary folder, and the checks of an asset on a
frame.

    from sextant import testing

    def test_orders_are_published(tmp_path):
        with testing.platform("path/to/project") as p:
            report = p.runs.run("dev", Request(), by=p.who())
            assert report.state == "finished"

    def test_a_row_without_a_shop_is_refused():
        bad = testing.check(orders, pl.DataFrame({"id": ["a"], "shop": [None], "amount": [1.0]}))
        assert [r.name for r in bad if not r.ok] == ["not_null(shop)"]

A function of a project needs neither: a declared dataset is still callable, `orders(day)` runs the
plain function.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sextant.app import lists, showing
from sextant.app.graph import graph
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.status import standing_plan, status
from sextant.app.visibility import Visibility
from sextant.engine.plan import Request
from sextant.kernel.answers import EventSeen, GraphSeen, KpiSeen, Page, Printed, Status, VersionSeen
from sextant.kernel.clock import NS, Clock, ManualClock, from_datetime
from sextant.kernel.nouns import CheckResult, CheckSpec, Principal, Release, Version
from sextant.kinds.dataset import views as tables
from sextant.kinds.dataset.spec import KIND
from sextant.kinds.kpi.views import kpi

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from sextant.kinds.dataset.declarations.declared import Dataset, PythonCheck, SqlDataset
    from sextant.kinds.kpi.declare import Kpi

    Checked = (
        Dataset[..., Any]
        | SqlDataset
        | Kpi
        | CheckSpec
        | PythonCheck[..., Any]
        | Sequence[CheckSpec | PythonCheck[..., Any]]
    )

__all__ = ["ManualClock", "Request", "check", "platform"]


class Seen:
    """What a platform shows, with nothing hidden. An environment and a name come first; what else
    may be said, and the answers, are those of the command: `sextant show`, `count`, `kpi` ...

    Lists and other questions that need neither are there under the names of `Operations`: `runs`,
    `releases`, `checks`, `signals`, `incidents`.
    """

    def __init__(self, platform: LocalPlatform) -> None:
        self._core, self._runs = platform.core, platform.runs
        self._see = Visibility(platform.runs.personal)
        self._all = Operations(platform)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

    def status(self, env: str, chosen: Collection[str] = ()) -> Status:
        plan = standing_plan(self._runs, env)
        return status(self._runs, self._see, env, plan, chosen)

    def graph(self, chosen: Collection[str] = ()) -> GraphSeen:
        return graph(self._core, chosen)

    def show(self, env: str, name: str, **more: Any) -> dict[str, Any]:
        return showing.show(self._core, self._see, env, name, **more)

    def versions(self, env: str, name: str, **more: Any) -> Page[VersionSeen]:
        return lists.versions(self._core, env, name, **more)

    def diff(self, env: str, one: str, other: str = "") -> dict[str, Any]:
        return showing.diff(self._core, self._see, env, one, other)

    def env_diff(self, one: str, other: str) -> dict[str, Any]:
        return showing.env_diff(self._core, self._see, one, other)

    def events(self, **more: Any) -> Page[EventSeen]:
        return lists.events(self._core, self._see, **more)

    def run(self, id_: str) -> dict[str, Any]:
        return self._all.run_facts(id_)

    def log(self, run: str, step: str = "") -> list[Printed]:
        return self._all.log(run=run, step=step)["printed"]

    def count(self, env: str, name: str, **more: Any) -> int:
        """Return the number of rows of a dataset."""
        return tables.count(self._core, env, name, **more)

    def frame(self, version: Version, partitions: Sequence[str] | None = None) -> "pl.DataFrame":
        """Return the rows of a version as a Polars frame."""
        return tables.frame(self._core, version, partitions)

    def table(self, version: Version, partitions: Sequence[str] | None = None) -> "pa.Table":
        """Return the rows of a version as an Arrow table."""
        return tables.table(self._core, version, partitions)

    def kpi(self, env: str, name: str, **more: Any) -> KpiSeen:
        """Return a KPI's values, as Python has them."""
        return kpi(self._core, self._see, env, name, **more)


class TestedPlatform(LocalPlatform):
    """A platform with what a project's tests use, at hand.

    runs   runs, undoes and releases: `p.runs.run("dev", Request(), by=p.who())`
    clock  its time; `p.clock.wait(seconds)` moves one that stands
    drive  rolls out releases that take time: `p.drive()`
    views  what it shows: `p.views.count("dev", "orders")`, `p.views.kpi("dev", "revenue")`
    """

    @property
    def clock(self) -> Any:
        return self.core.clock

    @property
    def views(self) -> "Seen":
        return Seen(self)

    def drive(self) -> list[Release]:
        """Roll out the releases that take time, until each has ended or needs a person; return them
        as they are then. A clock that stands is moved on."""
        seen: dict[str, Release] = {}
        while going := [
            one for one in self.runs.releases.open() if self.runs.releases.goes_on(one)
        ]:
            due = [one for one in going if self.runs.releases.is_due(one)]
            for release in due:
                seen[release.id] = self.runs.driving.work(release.id)
            if not due:
                soonest = min(map(self.runs.releases.due_at, going))
                self.clock.wait((soonest - self.clock.now_ns()) / NS)
        return list(seen.values())

    def who(self) -> Principal:
        """Return who acts: the user whom `platform` was given."""
        return self.core.authorization.who()


@contextmanager
def platform(
    project: Path | str | Mapping[str, str],
    *,
    at: datetime | None = None,
    clock: Clock | None = None,
    user: str = "tester",
    executor: str = "inline",
    toml: str = "",
) -> Iterator[TestedPlatform]:
    """Open a copy of a project in a temporary folder; nothing of it stays.

    project   a project's folder, or its files: path -> text (without `sextant.toml`, `module =
              "ops"` is taken)
    at        the platform's time, moved only by hand from then on: `p.clock.set(...)`,
              `p.clock.wait(seconds)`
    clock     a clock of your own instead
    user      who acts
    executor  `inline` calls the project's functions in this process, so that a debugger reaches
              them; `pool` as in production
    toml      text for `sextant.toml` instead of the project's
    Raises    ProjectError when the project cannot be loaded
    """
    from sextant.app.pin import remove_pin
    from sextant.project.config import FILE, read_config

    with tempfile.TemporaryDirectory(prefix="sextant-test-") as folder, _imports_of(folder):
        root = Path(folder) / "project"
        if isinstance(project, Mapping):
            for name, text in project.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
        else:
            shutil.copytree(
                project, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules")
            )
        if toml or not (root / FILE).exists():
            (root / FILE).write_text(toml or 'module = "ops"\n', encoding="utf-8")
        remove_pin(root)  # the copy has a ledger of its own
        used = clock or (ManualClock(from_datetime(at)) if at is not None else None)
        with TestedPlatform(
            read_config(root),
            clock=used,
            executor=executor,
            principal=Principal(name=user),
            home=Path(folder) / "home",
        ) as p:
            yield p


def check(
    what: "Checked",
    frame: Any,
    *,
    references: Mapping[str, Any] | None = None,
    partition: str = "",
    at: datetime | None = None,
    tz: str = "UTC",
) -> list[CheckResult]:
    """Run checks on a frame, as a worker would before a publish; return one result for each, in the
    order declared.

    what        a declared dataset (the check of its `key` included), or one check, or several
    frame       the rows: Polars, pandas, PyArrow, a DuckDB relation
    references  dataset -> rows, what foreign keys look into: `{"airlines": frame}`
    at          the present, for `fresh`
    tz          the project's zone
    Raises      BadData for a value that is no frame; ProjectError for a check that is wrong in
                itself
    """
    import polars as pl

    from sextant.kinds.dataset.checks import evaluate
    from sextant.stores.lake import frames

    def rows(value: Any) -> pl.DataFrame:
        (_, table), *_ = frames.conform([("", frames.to_arrow(value))])
        return pl.DataFrame(pl.from_arrow(table))

    name, time, personal, declared = _declared(what)
    specs = [one if isinstance(one, CheckSpec) else one.spec for one in declared]
    functions = {
        one.spec.params["function"]: one.function
        for one in declared
        if not isinstance(one, CheckSpec)
    }
    found = evaluate(
        specs,
        rows(frame),
        asset=name,
        partition=partition,
        time=time,
        personal=personal,
        functions=functions,
        references={
            f"{KIND}:{key.removeprefix(f'{KIND}:')}": rows(value)
            for key, value in (references or {}).items()
        },
        now_ns=from_datetime(at) if at else 0,
        tz=tz,
    )
    return [result for result, _ in found]


def _declared(
    what: "Checked",
) -> "tuple[str, str, tuple[str, ...], list[CheckSpec | PythonCheck[..., Any]]]":
    """Return asset id, column of instants, personal columns and checks of what `check` was
    given."""
    from sextant.kinds.dataset.declarations import checks
    from sextant.kinds.dataset.declarations.declared import (
        Dataset,
        PythonCheck,
        SqlDataset,
        Stream,
    )
    from sextant.kinds.kpi.declare import Kpi

    if isinstance(what, CheckSpec | PythonCheck):
        return f"{KIND}:rows", "", (), [what]
    if isinstance(what, Kpi):
        return what.id, "bucket" if what.grain else "", (), list(what.slots.checks)
    if not isinstance(what, Dataset | SqlDataset | Stream):
        return f"{KIND}:rows", "", (), list(what)
    slots = what.slots
    if isinstance(what, SqlDataset):
        from sextant.kinds.dataset.declarations import sqlfile
        from sextant.project.collect import Collector

        collector = Collector(Path(what.file).parent)
        file = sqlfile.read(what, collector)
        if file is not None:
            _, slots, _ = sqlfile.settings(what, file, collector)
        collector.raise_problems()
    key = [checks.unique(*slots.key)] if slots.key else []
    return what.id, slots.time, slots.personal, [*key, *slots.checks]


@contextmanager
def _imports_of(folder: str) -> Iterator[None]:
    """Undo what importing a project in this process does to the path and to modules of the same
    names."""
    path, modules = list(sys.path), dict(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        top = os.path.realpath(folder) + os.sep
        for name, module in sys.modules.copy().items():  # other threads may import meanwhile
            if os.path.realpath(getattr(module, "__file__", None) or "").startswith(top):
                del sys.modules[name]
        for name, module in modules.items():
            sys.modules.setdefault(name, module)
