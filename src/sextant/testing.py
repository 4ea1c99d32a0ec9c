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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sextant.app.platform import LocalPlatform
from sextant.app.views import Views
from sextant.app.visibility import Visibility
from sextant.engine.plan import Request
from sextant.kernel.clock import Clock, ManualClock, from_datetime
from sextant.kernel.nouns import CheckResult, CheckSpec, Principal

if TYPE_CHECKING:
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


class TestedPlatform(LocalPlatform):
    """A platform with what a project's tests use, at hand.

    runs   runs, undoes and releases: `p.runs.run("dev", Request(), by=p.who())`
    clock  its time; `p.clock.wait(seconds)` moves one that stands
    views  what it shows: `p.views.count("dev", "orders")`, `p.views.kpi("dev", "revenue")`
    """

    @property
    def clock(self) -> Any:
        return self.core.clock

    @property
    def views(self) -> Views:
        return Views(self.core, self.runs, Visibility(self.runs.personal))

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
            f"dataset:{key.removeprefix('dataset:')}": rows(value)
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
        return "dataset:rows", "", (), [what]
    if isinstance(what, Kpi):
        return what.id, "bucket" if what.grain else "", (), list(what.slots.checks)
    if not isinstance(what, Dataset | SqlDataset | Stream):
        return "dataset:rows", "", (), list(what)
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
