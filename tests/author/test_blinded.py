"""Who watches what a new version of a project changes: found over random projects and changes,
against what the generated project itself knows of who reads whom."""

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from in_this_process import load_files
from sextant.kernel.errors import ProjectError
from sextant.kinds.project.changes import changes

EXAMPLES = 320
# a dataset may be called as a column, an environment, a team, or a word of another's texts
NAMES = ("orders", "status", "prod", "data", "shop", "items", "returns", "total", "day", "run")
COLUMNS = ("id", "amount", "status", "shop", "total")


class Rows(NamedTuple):
    """A dataset. `reads`: the keys of others; `points`: of one that a foreign key looks into.

    how  python, sql or promised: Python that promises its columns
    """

    name: str
    how: str
    reads: tuple[int, ...]
    columns: tuple[str, ...]
    points: int | None
    code: int = 0


class Number(NamedTuple):
    """A business number of a dataset. `unit` and `measure` are what changes."""

    name: str
    of: int
    unit: str = "EUR"
    measure: str = "count(*)"


class Shown(NamedTuple):
    """A board: numbers, datasets whose checks it shows, and datasets that its SQL reads."""

    name: str
    numbers: tuple[int, ...]
    checks: tuple[int, ...]
    sql: tuple[int, ...]


class Judged(NamedTuple):
    """A rule over an asset: `rows` or `number`, and its key."""

    name: str
    what: str
    key: int
    form: str


class World(NamedTuple):
    """A project by keys, which stay what they are when a name changes."""

    rows: dict[int, Rows]
    numbers: dict[int, Number]
    boards: tuple[Shown, ...]
    rules: tuple[Judged, ...]


def made(rng: random.Random) -> World:
    """Return a project: datasets in layers, numbers, boards and rules over some of them."""
    names = list(NAMES)
    rng.shuffle(names)
    rows: dict[int, Rows] = {}
    for key in range(rng.randint(3, 7)):
        reads = tuple(sorted(rng.sample(range(key), k=rng.randint(0, min(2, key)))))
        how = rng.choice(("python", "promised", "sql" if reads else "python"))
        columns = tuple(sorted(rng.sample(COLUMNS, k=rng.randint(2, 4))))
        points = rng.randrange(key) if key and rng.random() < 0.3 else None
        rows[key] = Rows(names.pop(), how, reads, columns, points)
    numbers = {
        100 + at: Number(f"{rng.choice(('rate', 'sum', 'orders'))}_{at}", rng.choice([*rows]))
        for at in range(rng.randint(1, 3))
    }
    boards = []
    for at in range(rng.randint(1, 3)):
        parts = [
            tuple(sorted(rng.sample([*some], k=rng.randint(0, min(2, len(some))))))
            for some in (numbers, rows, rows)
        ]
        if any(parts):
            boards.append(Shown(f"board_{at}", *parts))
    rules = []
    for at in range(rng.randint(1, 4)):
        what = rng.choice(("rows", "number"))
        key = rng.choice([*(rows if what == "rows" else numbers)])
        rules.append(Judged(f"rule {at}", what, key, rng.choice(("id", "name", "in", "starts"))))
    return World(rows, numbers, tuple(boards), tuple(rules))


# ---------------------------------------------------------------- its source


def source(world: World, old: World) -> dict[str, str]:
    """Return the files of a project. What names an asset that is gone, in rules and in the SQL of
    boards, names it as it was called: nothing refuses that."""
    names = {key: one.name for key, one in (*old.rows.items(), *old.numbers.items())}
    files = {}
    lines = ["import polars as pl", "import sextant as sx", "team = sx.team('data')",
             "sx.project('shop', tz='UTC', owner=team)"]  # fmt: skip
    lines += ["sx.policy('by others', when=\"env == 'prod' && asset.owner == 'data'"
              " && verb in ['run']\", then='deny')"]  # fmt: skip
    for one in world.rows.values():
        checks = [f"sx.not_null({column!r})" for column in one.columns[:2]]
        checks += ["sx.accepted_values('status', ['orders', 'items'])"]
        if one.points is not None:
            to = (world.rows.get(one.points) or old.rows[one.points]).name
            checks.append(f"sx.foreign_key('id', to='{to}.id')")
        inputs = [(world.rows.get(key) or old.rows[key]).name for key in one.reads]
        if one.how == "sql":
            query = f"select {', '.join(one.columns)}, {one.code} as n from {inputs[0]}"
            query += "".join(f" union all select * from {name}" for name in inputs[1:])
            files[f"{one.name}.sql"] = query
            lines.append(f"sx.sql('{one.name}.sql', checks=[{', '.join(checks)}])")
            continue
        promised = {column: "int64" for column in one.columns}
        columns = f"columns={promised!r}, " if one.how == "promised" else ""
        lines += [
            f"@sx.dataset({columns}checks=[{', '.join(checks)}])",
            f"def {one.name}({', '.join(f'{name}: pl.DataFrame' for name in inputs)}):",
            f"    return pl.DataFrame({{name: [{one.code}] for name in {one.columns!r}}})"
            if one.how == "python"
            else f"    return pl.DataFrame({{'id': [{one.code}]}})",
        ]
    for number in world.numbers.values():
        of = (world.rows.get(number.of) or old.rows[number.of]).name
        lines.append(
            f"sx.kpi({number.name!r}, of={of!r}, measure={number.measure!r}, grain='', "
            f"unit={number.unit!r}, checks=[sx.between('value', 0)])"
        )
    for board in world.boards:
        panels = [
            f"sx.panel(kpi={(world.numbers.get(key) or old.numbers[key]).name!r})"
            for key in board.numbers
        ]
        panels += [
            f"sx.panel(checks='dataset:{(world.rows.get(key) or old.rows[key]).name}')"
            for key in board.checks
        ]
        panels += [
            f"sx.panel('about status and prod', sql='select shop, total from data.{names[key]}')"
            for key in board.sql
        ]
        lines.append(f"sx.board({board.name!r}, panels=[{', '.join(panels)}])")
    for rule in world.rules:
        kind, name = ("dataset" if rule.what == "rows" else "kpi"), names[rule.key]
        when = {
            "id": f"asset.id == '{kind}:{name}'",
            "name": f"env != 'dev' && asset.name == '{name}'",
            "in": f"verb == 'run' && asset.id in ['{kind}:{name}', 'dataset:nothing']",
            "starts": f"asset.id.startsWith('{kind}:{name[:-1]}')",
        }[rule.form]
        lines.append(f'sx.policy({rule.name!r}, when="{when}", then="deny")')
    return {"ops.py": "\n".join(lines) + "\n", **files}


# ---------------------------------------------------------------- who reads whom


def readers(world: World, changed: set[int]) -> set[int]:
    """Return what changed, and all that is made of it: keys, a number's key for its values too."""
    found = set(changed)
    while True:
        more = {key for key, one in world.rows.items() if {*one.reads} & found}
        more |= {key for key, one in world.numbers.items() if one.of in found}
        if more <= found:
            return found
        found |= more


def watching(
    world: World, old: World, changed: set[int], *, names: dict[int, set[str]]
) -> set[str]:
    """Return the labels of what watches something that changed. `names`: every name that a key
    has or had: for rules, which may mean several assets by one text."""
    reached = readers(world, changed)
    out: set[str] = set()
    for key, one in world.rows.items():
        pointed = one.points in reached if one.points is not None else False
        if key in reached:
            out |= {f"check not_null({column}) of dataset:{one.name}" for column in one.columns[:2]}
            out.add(f"check accepted_values(status) of dataset:{one.name}")
        if one.points is not None and (key in reached or pointed):
            to = (world.rows.get(one.points) or old.rows[one.points]).name
            out.add(f"check foreign_key(id, {to}.id) of dataset:{one.name}")
    for key, number in world.numbers.items():
        if number.of in reached:
            out.add(f"kpi:{number.name}")
        if key in reached:
            out.add(f"check between(value, 0) of dataset:kpi_{number.name}")
    for board in world.boards:
        if {*board.numbers, *board.checks, *board.sql} & reached:
            out.add(f"board:{board.name}")
    was = {key: one.name for key, one in (*old.rows.items(), *old.numbers.items())}
    for rule in world.rules:
        name = was[rule.key]
        for key in reached:
            kinds = ("dataset",) if key < 100 else ("kpi", "dataset")
            for called in names[key]:
                for kind in kinds:
                    own = called if key < 100 or kind == "kpi" else f"kpi_{called}"
                    mine = "dataset" if rule.what == "rows" else "kpi"
                    id_, meant = f"{kind}:{own}", f"{mine}:{name}"
                    if (
                        own == name
                        if rule.form == "name"
                        else id_.startswith(meant[:-1])
                        if rule.form == "starts"
                        else id_ == meant
                    ):
                        out.add(f"policy {rule.name}")
    return out


# ---------------------------------------------------------------- changes


class Change(NamedTuple):
    """after: the new project; keys: what changed of it; lost: as runs have shown it."""

    what: str
    after: World
    keys: set[int]
    lost: dict[str, tuple[str, ...]]


def changed(world: World, rng: random.Random) -> Change:
    """Return a random change, with what reads what it renames or drops rewired or not."""
    what = rng.choice(("rename", "drop", "rename number", "drop number", "column", "column", "unit",
                       "measure", "measure"))  # fmt: skip
    rows, numbers = dict(world.rows), dict(world.numbers)
    key, at = rng.choice([*rows]), rng.choice([*numbers])
    lost: dict[str, tuple[str, ...]] = {}
    if what == "rename":
        rows[key] = rows[key]._replace(name=f"new_{rows[key].name}")
    elif what == "drop":
        del rows[key]
        if rng.random() < 0.7:  # who reads it is told, as far as code is refused without it
            rows = {
                one: kept._replace(
                    reads=(left := tuple(two for two in kept.reads if two != key)),
                    how=kept.how if left or kept.how != "sql" else "python",
                    points=None if kept.points == key else kept.points,
                )
                for one, kept in rows.items()
            }
            numbers = {one: kept for one, kept in numbers.items() if kept.of != key}
    elif what == "rename number":
        numbers[at] = numbers[at]._replace(name=f"new_{numbers[at].name}")
    elif what == "drop number":
        del numbers[at]
    elif what == "column":
        one = rows[key]
        gone = rng.choice(one.columns)
        columns = tuple(name for name in one.columns if name != gone)
        columns += ("renamed",) if rng.random() < 0.5 else ()
        rows[key] = one._replace(columns=tuple(sorted(columns)), code=one.code + 1)
        if one.how != "promised":
            lost[f"dataset:{one.name}"] = (gone,)
        else:  # what it promises, by the same code
            rows[key] = rows[key]._replace(code=one.code)
    elif what == "unit":
        numbers[at] = numbers[at]._replace(unit="USD")
    else:
        numbers[at] = numbers[at]._replace(measure="sum(amount)")
    boards = world.boards
    if "drop" in what and rng.random() < 0.7:  # a board that shows what is gone is refused
        boards = tuple(
            kept
            for one in boards
            if any(
                (kept := one._replace(
                    numbers=tuple(two for two in one.numbers if two in numbers),
                    checks=tuple(two for two in one.checks if two in rows),
                ))[1:]
            )
        )  # fmt: skip
    keys = {at} if "number" in what or what in ("unit", "measure") else {key}
    keys |= world.numbers.keys() - numbers.keys()
    return Change(what, World(rows, numbers, boards, world.rules), keys, lost)


def expected(world: World, change: Change) -> tuple[set[str], set[str]]:
    """Return what must be told, and what may be, of watches of the new project."""
    after = change.after
    names: dict[int, set[str]] = {}
    for one in (world, after):
        for key, named in (*one.rows.items(), *one.numbers.items()):
            names.setdefault(key, set()).add(named.name)
    may = watching(after, world, change.keys, names=names)
    # what read it before, and does not any more, was rewired: it is another thing now, and so is
    # what is made of it
    rewired = {
        key
        for key, now in after.rows.items()
        if (was := world.rows.get(key)) and (was.reads, was.how) != (now.reads, now.how)
    }
    may |= watching(after, world, change.keys | rewired, names=names)
    may |= watching(after, world, readers(world, change.keys), names=names)
    before = watching(world, world, change.keys, names=names)
    may |= {label for label in before if label.startswith("board:")}
    must = watching(after, world, change.keys | rewired, names=names)
    if "rename" in change.what:
        # a check that came to the new name, or that points to it, is a new one: it sees what it
        # saw, and it is the old one that is said to be gone, or weaker
        for key in change.keys:
            if key in after.rows:
                name = after.rows[key].name
                must = {one for one in must
                        if not one.endswith(f" of dataset:{name}") and f"{name}.id" not in one}  # fmt: skip
            else:
                name = after.numbers[key].name
                must -= {f"check between(value, 0) of dataset:kpi_{name}", f"kpi:{name}"}
                may |= {f"kpi:{name}"}
    return must, may


def test_who_watches_what_changes_is_told_and_nobody_else(tmp_path: Path) -> None:
    """If this fails, a board, a number, a check or a rule goes on in silence and sees nothing, or
    people are warned of what has nothing to do with the change, and stop reading."""
    seen: dict[str, list[int]] = {}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(min_value=0, max_value=1 << 40))
    def holds(seed: int) -> None:
        rng = random.Random(seed)
        world = made(rng)
        change = changed(world, rng)
        counted = seen.setdefault(change.what, [0, 0])
        counted[0] += 1
        before = load_files(tmp_path / "shop", source(world, world))
        try:
            after = load_files(tmp_path / "shop", source(change.after, world))
        except ProjectError:  # not silent
            return
        counted[1] += 1
        found = {one.watch for one in changes(before, after, change.lost).blinds}
        must, may = expected(world, change)
        said = f"{change}\nof {world}"
        assert not must - found, f"not told: {sorted(must - found)}\n{said}"
        assert not found - may, f"told of nothing: {sorted(found - may)}\n{said}"

    holds()
    loaded = sum(ok for _, ok in seen.values())
    assert loaded >= 200
    assert loaded * 2 >= sum(tried for tried, _ in seen.values())
    assert len(seen) == 7 and all(ok for _, ok in seen.values()), seen


SOURCE: dict[str, Any] = {
    "ops.py": """
import polars as pl
import sextant as sx
ops = sx.team("ops")
sx.project("shop", owner=ops)
sx.policy("numbers", when="asset.name.startsWith('rev')", then="deny")
sx.policy("some", when="['dataset:kpi_r'].exists(a, asset.id.startsWith(a))", then="deny")
sx.policy("all datasets", when="asset.id.startsWith('dataset:')", then="deny")

@sx.dataset(checks=[sx.not_null("id")], timeout="1h")
def orders():
    return pl.DataFrame({"id": [1]})

revenue = sx.kpi("revenue", of=orders, measure="count(*)", grain="", unit="EUR", format=".1f",
                 goal=sx.goal("> 1"), checks=[sx.between("value", 0)])
sx.board("sales", panels=[sx.panel(kpi=revenue)])
sx.board("raw", panels=[sx.panel(sql="select id from data.orders where day = 'x'")])
sx.board("bad", panels=[sx.panel(logs="failed", asset="orders")])
"""
}
_ALL = {
    "policy numbers",
    "policy some",
    "check not_null(id) of dataset:orders",
    "check between(value, 0) of dataset:kpi_revenue",
    "kpi:revenue",
    "board:sales",
    "board:raw",
    "board:bad",
}
_OF_NUMBER = {
    "policy numbers",
    "policy some",
    "check between(value, 0) of dataset:kpi_revenue",
    "board:sales",
}


@pytest.mark.parametrize(
    ("old", "new", "watches"),
    [
        ('{"id": [1]}', '{"id": [2]}', _ALL),
        ('unit="EUR"', 'unit="USD"', _OF_NUMBER),
        ("count(*)", "sum(id)", _OF_NUMBER),
        ('format=".1f"', 'format=".2f"', set()),
        ('sx.goal("> 1")', 'sx.goal("> 2")', set()),
        ('timeout="1h"', 'timeout="2h"', set()),
        ('timeout="1h"', 'description="all", tier=1, keep="90d", schema="freeze"', set()),
        ("    return pl", "    # one\n    return pl", set()),
        ('sx.board("raw"', 'sx.board("rare"', set()),
    ],
)
def test_only_what_decides_what_is_seen_blinds(
    tmp_path: Path, old: str, new: str, watches: set[str]
) -> None:
    """If this fails, every edit of a goal or a comment warns all boards; or the rules and panels
    that name what changes by a part of its name, or in SQL, are not told."""
    text = SOURCE["ops.py"]
    assert text.count(old) == 1
    before = load_files(tmp_path / "shop", SOURCE)
    after = load_files(tmp_path / "shop", {"ops.py": text.replace(old, new)})
    assert {one.watch for one in changes(before, after).blinds} == watches


def test_a_column_that_runs_have_shown_to_be_gone_is_named(tmp_path: Path) -> None:
    """If this fails, people are told that something is made differently, and not which column
    their number loses."""
    before = load_files(tmp_path / "shop", SOURCE)
    after = load_files(
        tmp_path / "shop", {"ops.py": SOURCE["ops.py"].replace('{"id": [1]}', '{"key": [1]}')}
    )
    found = changes(before, after, {"dataset:orders": ("id",)}).blinds
    assert {one.watch for one in found} == _ALL
    assert {one.reads for one in found} == {"dataset:orders"}
    assert all("dataset:orders has no id any more" in one.why for one in found)
