"""The first hour of a newcomer: what a project that does not load says, files that code reads, and
what a plan says of the reasons and the cost."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sextant.app.platform import LocalPlatform
from sextant.cli.main import call
from sextant.engine.plan import Request

Sx = Callable[..., tuple[int, str, str]]

SEEDS = """
@sx.dataset(key="shop")
def factors() -> pl.DataFrame:
    return pl.read_csv("seeds/factors.csv")


@sx.dataset(partition=days, key="id", time="at")
def scaled(orders: pl.DataFrame, factors: pl.DataFrame) -> pl.DataFrame:
    return orders.join(factors, on="shop").drop("factor")


revenue = sx.sql("""


@pytest.fixture
def sx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Sx]:
    """Run a command in a new project; returns (exit code, stdout, stderr)."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SEXTANT_USER", "ann")
    monkeypatch.chdir(tmp_path)
    assert call(["init", "shop"]) == 0
    monkeypatch.chdir(tmp_path / "shop")

    def run(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = call(list(args))
        return code, *capfd.readouterr()

    yield run


def edit(old: str, new: str) -> None:
    path = Path("ops.py")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def line_of(out: str, word: str) -> str:
    return next(line for line in out.splitlines() if word in line)


# ---------------------------------------------------------------- a project that does not load


def test_what_a_person_asks_for_is_not_answered_from_an_older_state(sx: Sx) -> None:
    """A typo would be taken for a change that does nothing."""
    assert sx("run")[0] == 0
    edit('key="id"', 'kee="id"')
    version = json.loads(sx("versions", "orders", "--json")[1])[0]["version"]
    asked = (
        ("plan",),
        ("run",),
        ("run", "--each", "--partition", "2026-01-01"),
        ("backfill", "orders", "2026-01-01"),
    )
    for args in asked:
        code, out, err = sx(*args)
        assert (code, out) == (2, ""), args
        assert "ops.py:" in err
        assert "kee" in err
        assert "what is in force" not in err
    code, out, err = sx("show", "orders")
    assert code == 0
    assert "what is in force" in err
    assert sx("rollback", "orders")[0] == 0, "at 3 a.m. it must go back, whatever the files say"


def test_an_edit_that_was_only_looked_at_is_no_last_good_state(sx: Sx) -> None:
    """A scheduler would run what somebody had only planned, as soon as the next edit is broken."""
    assert sx("run")[0] == 0
    edit("* 7 % 90 + 10", "* 7 % 80 + 10")
    assert "stale" in sx("plan")[1]
    assert "stale" in sx("status")[1]
    edit('key="id"', 'kee="id"')
    with LocalPlatform.open(Path()) as p:  # as the scheduler of a server
        assert p.core.project.problem is not None
        assert p.runs.plan("dev", Request()).stale == {}, "the state that ran"
    edit('kee="id"', 'key="id"')
    assert sx("run")[0] == 0  # nothing to do, but asked for: from now on it is the project
    edit('key="id"', 'kee="id"')
    with LocalPlatform.open(Path()) as p:
        assert list(p.runs.plan("dev", Request()).stale) == ["dataset:orders"]


def test_looking_at_an_edit_records_nothing(sx: Sx) -> None:
    """`plan` says that it changes nothing."""
    assert sx("run")[0] == 0
    before = sx("ledger", "show", "--json")[1]
    edit("* 7 % 90 + 10", "* 7 % 80 + 10")
    for args in (("plan",), ("status",), ("graph",), ("why", "orders")):
        sx(*args)
    assert sx("ledger", "show", "--json")[1] == before
    assert sx("backfill", "orders", "--stale")[0] == 0
    assert "project.loaded" in sx("ledger", "show", "--json")[1].replace(before, "")


# ---------------------------------------------------------------- files that code reads


def test_a_file_that_is_not_in_the_bundle_is_named_with_the_setting(sx: Sx) -> None:
    """A newcomer reads `No such file` of a file that he sees."""
    Path("seeds").mkdir()
    Path("seeds/factors.csv").write_text("shop,factor\nnorth,2\nsouth,3\nweb,4\n")
    edit("revenue = sx.sql(", SEEDS)
    said = '`seeds/factors.csv` is not in the bundle that steps see: `include = ["seeds/*.csv"]`'
    assert said in sx("plan")[1]
    code, out, _ = sx("run")
    assert code == 3
    assert said in out
    include()
    assert sx("run")[0] == 0
    assert "not in the bundle" not in sx("plan")[1]


def include(pattern: str = "seeds/*.csv") -> None:
    text = Path("sextant.toml").read_text()
    Path("sextant.toml").write_text(text + f'include = ["{pattern}"]\n')


def test_a_changed_file_makes_what_reads_it_stale_and_is_named(sx: Sx) -> None:
    """Results of an old file would be called up to date."""
    Path("seeds").mkdir()
    seeds = Path("seeds/factors.csv")
    seeds.write_text("shop,factor\nnorth,2\nsouth,3\nweb,4\n")
    Path("seeds/other.csv").write_text("x\n1\n")
    edit("revenue = sx.sql(", SEEDS)
    include()
    assert sx("run")[0] == 0
    Path("seeds/other.csv").write_text("x\n2\n")
    assert "stale" not in sx("plan")[1], "nothing reads it"
    seeds.write_text("shop,factor\nnorth,2\nsouth,3\n")
    out = sx("plan")[1]
    assert "code changed (seeds/factors.csv)" in line_of(out, "stale  dataset:factors")
    assert "up to date" not in line_of(out, "nothing to run")
    out = sx("run")[1]
    assert "stale   dataset:factors" in out
    assert "up to date" not in out
    assert sx("backfill", "factors", "--stale")[0] == 0
    rows = json.loads(sx("show", "scaled", "--limit", "1000", "--json")[1])["sample"]
    assert {row["shop"] for row in rows} == {"north", "south"}
    seeds.write_text("shop,factor\nnorth,2\nsouth,3\nweb,4\n")
    seeds.write_text("shop,factor\nnorth,2\nsouth,3\n")
    assert "stale" not in sx("plan")[1], "the same content again"


def test_relative_names_are_the_projects_wherever_the_command_is_called(
    sx: Sx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project would run from one folder only, and read a file that no bundle has."""
    Path("seeds").mkdir()
    Path("seeds/factors.csv").write_text("shop,factor\nnorth,2\n")
    edit("revenue = sx.sql(", SEEDS)
    include()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "seeds").mkdir(parents=True)
    (elsewhere / "seeds/factors.csv").write_text("shop,factor\nnone,1\n")
    monkeypatch.chdir(elsewhere)
    assert sx("--project", str(tmp_path / "shop"), "run")[0] == 0
    shown = sx("--project", str(tmp_path / "shop"), "show", "factors", "--json")[1]
    assert [row["shop"] for row in json.loads(shown)["sample"]] == ["north"]


# ---------------------------------------------------------------- what a plan says


def test_a_plan_says_what_changed(sx: Sx) -> None:
    """`code changed` alone leaves a person to compare files."""
    Path("helpers.py").write_text("FACTOR = 2\n\n\ndef scale(x):\n    return x * FACTOR\n")
    edit('"amount": (numbers', '"amount": helpers.scale(numbers')
    edit("import polars as pl\n", "import polars as pl\n\nimport helpers\n")
    assert sx("run")[0] == 0
    Path("helpers.py").write_text("FACTOR = 3\n\n\ndef scale(x):\n    return x * FACTOR\n")
    assert "code changed (helpers.py)" in line_of(sx("plan")[1], "stale  dataset:orders")
    edit("count = 40", "count = 41")
    assert "code changed (ops.py)" in line_of(sx("plan")[1], "stale  dataset:orders")
    edit('key="id", time="at"', 'key=["id", "shop"], time="at"')
    assert "code changed (ops.py, `key`)" in line_of(sx("plan")[1], "stale  dataset:orders")
    rebuilt = line_of(sx("plan", "orders", "--stale")[1], "dataset:revenue")
    assert "input runs (dataset:orders)" in rebuilt
    assert sx("backfill", "orders", "2026-01-02")[0] == 0
    planned = sx("plan", "--partition", "2026-01-02", "orders")[1]
    assert "nothing to run" in planned


def test_a_plan_says_which_input_changed(sx: Sx) -> None:
    """`inputs changed` of three inputs says nothing."""
    edit(
        "revenue = sx.sql(",
        SEEDS.replace(
            'pl.read_csv("seeds/factors.csv")', 'pl.DataFrame({"shop": ["web"], "factor": [1]})'
        ),
    )
    assert sx("run")[0] == 0
    edit('"factor": [1]', '"factor": [2]')
    assert sx("run", "factors", "--only")[0] == 0
    assert "inputs changed (dataset:factors)" in line_of(sx("plan")[1], "dataset:scaled")


def test_a_plan_of_another_environment_says_what_is_reused_and_what_it_costs(sx: Sx) -> None:
    """Taking what was tried in dev to prod would look like a day's work."""
    assert sx("run")[0] == 0
    plan = json.loads(sx("plan", "--env", "prod", "--json")[1])
    items = [item for step in plan["steps"] for item in step["items"]]
    assert len(items) == 21
    assert all(item["reused"] for item in items)
    assert plan["seconds"] == 0
    out = sx("plan", "--env", "prod")[1]
    assert line_of(out, "dataset:revenue").split()[-2:] == ["7", "-"]
    edit("* 7 % 90 + 10", "* 7 % 80 + 10")
    plan = json.loads(sx("plan", "--env", "prod", "--json")[1])
    assert not any(item["reused"] for step in plan["steps"] for item in step["items"])
    assert plan["seconds"] > 0, "what it cost in dev"
    edit("* 7 % 80 + 10", "* 7 % 90 + 10")
    report = json.loads(sx("run", "--env", "prod", "--json")[1])
    assert (report.get("computed", 0), report["reused"]) == (0, 3)


# ---------------------------------------------------------------- selection


def test_the_same_selection_in_every_command(sx: Sx) -> None:
    """Each command would have words of its own for the same assets."""
    edit('key="id", time="at"', 'tags=["raw", "daily"], key="id", time="at"')
    edit('by=["shop"]', 'by=["shop"], tags="daily"')
    Path("revenue.sql").write_text("-- tags: daily, money\n" + Path("revenue.sql").read_text())

    def planned(*args: str) -> set[str]:
        return {step["asset"] for step in json.loads(sx("plan", *args, "--json")[1])["steps"]}

    orders, revenue, kpi = "dataset:orders", "dataset:revenue", "dataset:kpi_average_order"
    assert planned("orders") == {orders, revenue, kpi}, "and what reads it"
    assert planned("--only", "orders") == {orders}
    assert planned("+revenue") == {orders, revenue, kpi}
    assert planned("--only", "+revenue") == {orders, revenue}
    assert planned("--only", "tag:raw", "kind:kpi") == {orders, kpi}
    report = json.loads(sx("run", "--only", "tag:raw", "--json")[1])
    assert list(report["published"]) == [orders]
    assert planned("--only", "orders+,tag:money") == {revenue}
    report = json.loads(sx("backfill", "revenue", "2026-01-01..2026-01-02", "--json")[1])
    assert list(report["published"]) == [revenue]
    seen = json.loads(sx("status", "tag:money", "--json")[1])["assets"]
    assert [one["asset"] for one in seen] == [revenue]
    graph = json.loads(sx("graph", "+kpi:average_order", "--json")[1])["assets"]
    assert {one["id"] for one in graph} == {orders, "kpi:average_order"}
    for args in (("plan",), ("run",), ("status",), ("graph",)):
        code, out, err = sx(*args, "tag:dialy")
        assert (code, out) == (2, ""), args
        assert "did you mean `daily`" in err
    code, _, err = sx("plan", "ordres")
    assert code == 2
    assert "did you mean orders" in err


def test_a_tag_is_a_word(sx: Sx) -> None:
    """A tag that cannot be typed selects nothing."""
    edit('key="id", time="at"', 'tags=["Daily run"], key="id", time="at"')
    code, _, err = sx("plan")
    assert code == 2
    assert "`Daily run` is not a tag" in err
    assert "ops.py:" in err


# ---------------------------------------------------------------- failing rows


def test_failing_rows_are_shown(sx: Sx) -> None:
    """`3 of 52 rows fail` without the rows sends a person to write a query."""
    assert sx("run")[0] == 0
    edit('sx.between("amount", 0, 10_000)', 'sx.between("amount", 20, 10_000)')
    code, out, _ = sx("check", "orders", "--rows")
    assert code == 1
    shown = out.split("fail, the first 20", 1)[1].splitlines()
    assert shown[1].split() == ["row", "id", "at", "shop", "amount"]
    assert len(shown) >= 22
    assert all(float(row.split()[-1]) < 20 for row in shown[2:22])
    failed = [
        one for one in json.loads(sx("check", "orders", "--rows", "--json")[1]) if not one["ok"]
    ]
    assert [len(one["failing_rows"]) for one in failed] == [20]
    assert {row["amount"] < 20 for one in failed for row in one["failing_rows"]} == {True}
    edit("count = 40", "count = 41")
    code, out, _ = sx("backfill", "orders", "2026-01-03")
    assert code == 1
    run = line_of(out, "shows the rows").split("`")[1].split()
    assert run[0] == "sextant"
    out = sx(*run[1:])[1]
    assert "dataset:orders[2026-01-03] between(amount" in out, out
    checks = json.loads(sx(*run[1:], "--json")[1])["checks"]
    assert [bool(one.get("failing_rows")) for one in checks if not one["ok"]] == [True]
    assert sx("runs", "--rows")[0] == 2


# ---------------------------------------------------------------- progress


PARTS = """
@sx.dataset(partition=sx.static("a", "b", "c"))
def parts(part: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"n": [1, 2]})


revenue = sx.sql("""


def test_progress_names_what_runs_and_how_far_it_is(sx: Sx) -> None:
    """A run of an hour would look as one that hangs."""
    from sextant.app.operations import Operations
    from sextant.kernel.answers import RunProgress

    edit("revenue = sx.sql(", PARTS)
    told: list[RunProgress] = []
    with LocalPlatform.open(Path()) as p:
        assert Operations(p).run(assets=["parts"], progress=told.append).exit_code == 0
    assert told[0].ended == 0
    assert told[0].running == (told[0].step,)
    assert told[-1].ended == told[-1].total == len({one.step for one in told})
    assert told[-1].rows == 6
    assert told[-1].running == ()


def test_progress_off_a_terminal_is_a_line_now_and_then(
    sx: Sx, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A log of a nightly job would be silent, or full of escape codes."""
    import threading

    from sextant.kernel.answers import RunProgress
    from sextant.cli import progress as module

    monkeypatch.setattr(module, "_QUIET_S", 0.01)
    said = threading.Event()
    spoken: list[str] = []

    def say(text: str) -> None:
        spoken.append(text)
        if "running" not in text:
            said.set()

    monkeypatch.setattr(module, "say", say)
    with module.Progress() as progress:
        progress(RunProgress(step="a", ended=1, total=12, rows=34567, running=("b", "c")))
        said.clear()
        assert said.wait(10)
    assert spoken[-1].startswith("1/12 steps, 34,567 rows; b and 1 more, ")
    assert "\x1b" not in spoken[-1]
    monkeypatch.setattr(module, "_QUIET_S", 1e6)
    with module.Progress() as progress:
        progress(RunProgress(step="a", ended=1, total=1))
    assert capfd.readouterr().err == "", "nothing of a short run"


# ---------------------------------------------------------------- what a newcomer tries


def test_a_range_that_nothing_has_is_refused(sx: Sx) -> None:
    """A typo in a year would end well, with nothing made."""
    for args in (("run", "orders", "--partition"), ("plan", "--partition"), ("backfill", "orders")):
        code, out, err = sx(*args, "2027-01-09")
        assert (code, out) == (2, ""), args
        assert "there are no partitions `2027-01-09`" in err
        assert "`dataset:orders` begins on 2026-01-01 and ends before 2026-01-08" in err
    assert sx("run", "orders", "--partition", "2026-01-07..2026-01-09")[0] == 0


def test_a_failed_run_is_said_by_status_until_one_ends_well(sx: Sx) -> None:
    """A night's failure would look like something that nobody has asked for yet."""
    edit("count = 40", 'count = int("forty")')
    assert sx("run")[0] == 3
    code, out, _ = sx("status")
    assert code == 1
    run = json.loads(sx("status", "--json")[1])["failed_run"]
    assert f"`sextant runs {run}` says why" in out
    edit('count = int("forty")', "count = 40")
    assert sx("run")[0] == 0
    assert sx("status")[0] == 0


def test_an_error_of_a_source_is_in_the_log_whatever_its_kind(sx: Sx) -> None:
    """An answer 500 of an interface would leave no trace but its text."""
    edit("count = 40", 'raise OSError("HTTP Error 500: out of order")\n    count = 40')
    code, out, _ = sx("run")
    assert code == 3
    assert "`dataset:orders` raised OSError: HTTP Error 500: out of order" in out
    log = sx("logs")[1]
    assert "Traceback" in log
    assert "ops.py" in log


def test_a_kpi_is_checked_by_its_values(sx: Sx) -> None:
    """A KPI that is named would fail with an assertion."""
    assert sx("run")[0] == 0
    code, out, _ = sx("check", "average_order")
    assert code == 0
    assert "unique(" in out


def test_a_wrong_query_is_said_once(sx: Sx) -> None:
    """Three copies of a parser's message, one with a query that nobody wrote, hide the place."""
    assert sx("run")[0] == 0
    code, _, err = sx("query", "select shop frm data.orders")
    assert code == 2
    assert err.count("Syntax error") == 1
    assert "formatQuerySingleLine" not in err
    assert "data.orders" in err
