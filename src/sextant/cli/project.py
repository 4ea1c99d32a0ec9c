"""init: a new project that runs at once."""

import re
from pathlib import Path

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, say
from sextant.kernel.errors import UsageError

_TOML = 'module = "ops"\nenvironment = "dev"\n'
_OPS = '''"""What {name} operates, as one graph."""

import polars as pl

import sextant as sx

team = sx.team("{name}")
sx.project("{name}", tz="UTC", owner=team, environments=["dev", "prod"])
days = sx.daily(start="2026-01-01", end="2026-01-08")


@sx.dataset(partition=days, key="id", time="at", checks=[sx.not_null("shop"), sx.between("amount", 0, 10_000), sx.row_count(1)])
def orders(day: sx.Partition) -> pl.DataFrame:
    """Orders of one day. Replace the made-up rows by a read of your own source."""
    count = 40 + day.date.day * 3
    numbers = pl.int_range(count, eager=True)
    return pl.DataFrame({{
        "id": [f"{{day.key}}-{{n}}" for n in range(count)],
        "at": pl.select(pl.lit(day.start) + pl.duration(minutes=numbers * 10)).to_series(),
        "shop": [["north", "south", "web"][n % 3] for n in range(count)],
        "amount": (numbers * 7 % 90 + 10).cast(pl.Float64),
    }})


revenue = sx.sql("revenue.sql")
average_order = sx.kpi("average_order", of=orders, measure="sum(amount) / count(*)", grain="1d", by=["shop"], goal=sx.goal(">= 40"))
'''
_SQL = """-- description: revenue by day and shop
-- key: day, shop
-- check: not_null(shop)
select cast("at" as date) as day, shop, sum(amount) as revenue, count(*) as orders
from orders
group by all
"""


@click.command()
@click.argument("name", help="The folder, and by that the project's name; `.` is this one.")
@json_option
def init(name: str, as_json: bool) -> None:
    """Write a new project into the folder NAME. It runs at once: cd NAME; sextant run."""
    folder = Path(name)
    here = folder.resolve() == Path.cwd()
    project = _from_folder(Path.cwd().name) if here else folder.name
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", project):
        raise UsageError(
            "SX-CLI-007",
            f"`{project}` is not a name for a project",
            hint="lower-case letters, digits, - and _, starting with a letter",
        )
    if folder.exists() and {one.name for one in folder.iterdir()} - {".git"}:
        raise UsageError(
            "SX-CLI-008",
            f"`{folder.resolve() if here else folder}` is not empty",
            hint="choose another name, or a folder that holds nothing but .git",
        )
    from sextant.app.sealing import set_aside_witness

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "sextant.toml": _TOML,
        "ops.py": _OPS.format(name=project),
        "revenue.sql": _SQL,
        ".gitignore": ".sextant/\n__pycache__/\n",
    }
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    aside = set_aside_witness(folder)
    if aside is not None:
        say(f"note: another project was here; the witness of its ledger is kept as {aside}")
    emit(
        {"folder": str(folder), "files": sorted(files)},
        json=as_json,
        text=lambda: [
            f"wrote {folder}/: {', '.join(sorted(files))}",
            "next:  "
            + ("" if here else f"cd {folder} && ")
            + "sextant plan && sextant run && sextant kpi average_order --by shop",
        ],
    )


def _from_folder(name: str) -> str:
    """Return the name of a project for a folder that has its own: `My Shop` is `my-shop`."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")
