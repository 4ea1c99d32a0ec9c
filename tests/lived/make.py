"""Lives in a small project with the commands of this Sextant, and packs the folder: `python
tests/lived/make.py NAME`.

An archive is made once for each layout of stored data and kept for ever: every later Sextant must
open it, verify it, plan nothing new, run it and undo in it (`test_lived.py`). Key and witness lie
beside the project in the archive; `expected.json` says what people saw when it was packed.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = Path("/tmp/sextant-lived")  # stands in stored metadata: one name on every machine

OPS = '''"""A shop that was lived in."""

import polars as pl

import sextant as sx

ops = sx.team("ops", members=["ann"])
reviewers = sx.team("reviewers", members=["bob"])
sx.project("shop", tz="Europe/Paris", owner=ops, environments=["dev", "prod"])
sx.policy(
    "a second pair of eyes",
    when="verb == 'release' && env == 'prod'",
    then=sx.approval(1, of=reviewers),
)
days = sx.daily(start="2026-03-27", end="2026-04-01")
FACTOR = 7


@sx.dataset(key="code", checks=[sx.row_count(1)])
def shops() -> pl.DataFrame:
    return pl.DataFrame({"code": ["north", "south", "web"], "opened": [2001, 2010, 2019]})


@sx.dataset(
    partition=days,
    key="id",
    time="at",
    checks=[sx.between("amount", 0, 1000), sx.foreign_key("shop", to="shops.code")],
)
def orders(day: sx.Partition) -> pl.DataFrame:
    n = pl.int_range(12 + day.date.day, eager=True)
    return pl.DataFrame(
        {
            "id": [f"{day.key}-{i}" for i in n],
            "at": pl.select(pl.lit(day.start) + pl.duration(minutes=n * 20)).to_series(),
            "shop": [["north", "south", "web"][i % 3] for i in n],
            "amount": (n * FACTOR % 90 + 10).cast(pl.Float64),
        }
    )


@sx.dataset(partition=days, key=["day", "shop"], inputs={"orders": sx.window("orders", "2d")})
def recent(orders: pl.DataFrame, day: sx.Partition) -> pl.DataFrame:
    return orders.group_by("shop").agg(pl.len().alias("orders")).with_columns(day=pl.lit(day.key))


revenue = sx.sql("revenue.sql")
returned = sx.stream(
    "returned",
    columns={"id": "string", "at": "timestamptz", "amount": "float64"},
    partition=days,
    time="at",
    key="id",
)
average_order = sx.kpi(
    "average_order", of=orders, measure="sum(amount) / count(*)", grain="1d", by=["shop"]
)
'''
SQL = """-- description: revenue by shop
-- key: shop
select shop, sum(amount) as revenue, count(*) as orders from orders group by all
"""


def main(name: str) -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    project = ROOT / "shop"
    project.mkdir(parents=True)
    (project / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
    (project / "ops.py").write_text(OPS)
    (project / "revenue.sql").write_text(SQL)
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(ROOT / "config"),
        "XDG_STATE_HOME": str(ROOT / "state"),
        "SEXTANT_USER": "ann",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def do(*words: str, exits: int = 0, user: str = "ann") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", *words],
            cwd=project,
            env={**environment, "SEXTANT_USER": user},
            capture_output=True,
            text=True,
        )
        assert done.returncode == exits, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def rows(name: str, content: list[dict[str, object]]) -> str:
        path = ROOT / name
        path.write_text("\n".join(json.dumps(row) for row in content))
        return str(path)

    do("run")
    first = [{"id": f"r{n}", "at": "2026-03-28T10:00:00+01:00", "amount": n} for n in range(5)]
    do("push", "returned", rows("first.jsonl", first), "--batch", "first")
    do("run")
    do("run", "--env", "prod")
    release = json.loads(do("releases", "--env", "prod", "--json"))[0]["id"]
    do("approve", release, user="bob")
    (project / "ops.py").write_text(OPS.replace("FACTOR = 7", "FACTOR = 11"))
    do("backfill", "orders", "2026-03-28..2026-03-30", "--stale")
    do("rollback", "orders", "--reason", "wrong prices")
    (project / "ops.py").write_text(OPS.replace("FACTOR = 7", "FACTOR = 5"))
    do("env", "create", "pr-1", "--from", "dev")
    do("backfill", "orders", "2026-03-29", "--stale", "--env", "pr-1")
    do("release", "orders", "--from", "pr-1")
    do("run")
    (project / "ops.py").write_text(OPS)
    do("report", "release", "service:checkout", "--version", "v12", "--reads", "orders")
    do("report", "run", "job:loader", "--feeds", "orders", "--state", "failed", "--name", "nightly")
    later = [{"id": "r1", "at": "2026-03-28T12:00:00+01:00", "amount": 99}]
    do("push", "returned", rows("later.jsonl", later), "--batch", "later")
    do("run")
    do("check", "orders")
    do("run", "--force", "shops")
    plan = json.loads(do("plan", "--json"))
    assert not plan["steps"], plan
    do("ledger", "verify")
    expected = {
        "made_with": made_with(),
        "plan": plan,
        "kpi": json.loads(do("kpi", "average_order", "--by", "shop", "--json")),
        "revenue": json.loads(do("show", "revenue", "--limit", "100", "--json"))["sample"],
        "returned": json.loads(do("show", "returned", "--limit", "100", "--json"))["sample"],
        "versions": json.loads(do("versions", "orders", "--json")),
        "releases": json.loads(do("releases", "--json")),
        "held": plan.get("held", {}),
    }
    (ROOT / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True))
    for unwanted in ("bundles", "up.log"):
        shutil.rmtree(project / ".sextant" / unwanted, ignore_errors=True)
    for path in ROOT.glob("*.jsonl"):
        path.unlink()
    with tarfile.open(HERE / f"{name}.tar.gz", "w:gz") as tar:
        for path in sorted(ROOT.rglob("*")):
            tar.add(path, path.relative_to(ROOT), recursive=False, filter=plain)
    shutil.rmtree(ROOT)


def made_with() -> dict[str, str]:
    """Return what fingerprints depend on besides the project: Python's minor version, libraries."""
    found = {name: version(name) for name in ("polars", "duckdb", "pyarrow")}
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **found}


def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    main(sys.argv[1])
