"""What a page asks, at size: search as one types, the picture of the graph, the strip of
partitions. Each on a synthetic project, through the operations that a page calls.

No project code is imported: the manifest is made here, and stands for what the loader would answer.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sextant.app.graph_layout import layout
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.nouns import Asset, Build, CheckSpec, Code, Input, Manifest, Team
from sextant.project import current
from sextant.project.bundle import digest_of, scan
from sextant.project.config import read_config
from sextant.project.loading import lock_digest

ASSETS, REPEAT = 10_000, 7
WORDS = (
    "orders customers payments refunds invoices sessions clicks carts prices stock shipments returns"
    " leads accounts contracts usage alerts devices routes fares"
).split()
FORMS = "raw clean daily joined scored ranked summary features history snapshot".split()
TEAMS = tuple(f"team_{n:02}" for n in range(20))


def manifest(root: Path, count: int) -> Manifest:
    """Return a manifest of `count` datasets: each reads up to three that stand shortly before it,
    as pipelines do, so that the graph is some 40 layers deep."""
    random_ = random.Random(7)
    config = read_config(root)
    files = scan(root, config.include, config.written)
    assets: list[Asset] = []
    for n in range(count):
        near = range(max(0, n - 400), max(0, n - 20))
        reads = sorted(random_.sample(near, min(len(near), random_.choice((1, 1, 2, 3)))))
        word, form = random_.choice(WORDS), random_.choice(FORMS)
        assets.append(
            Asset(
                kind="dataset",
                name=f"{word}_{form}_{n:05}",
                owner=random_.choice(TEAMS),
                tier=random_.choice((1, 2, 3, 3)),
                description=f"{form.title()} {word} of one shop, for {random_.choice(WORDS)}.",
                tags=(random_.choice(("daily", "hourly", "monthly")),),
                checks=(CheckSpec(name="not_null(id)", check="check.not_null"),),
                build=Build(
                    code=Code(
                        language="python", entry=f"ops:f{n}", file="ops.py", fingerprint=f"{n:064x}"
                    ),
                    inputs=tuple(
                        Input(name=f"i{m}", asset=f"dataset:{assets[m].name}") for m in reads
                    ),
                ),
                file="ops.py",
                line=n + 1,
            )
        )
    return Manifest(
        project="page",
        tz="UTC",
        owner=TEAMS[0],
        teams=tuple(Team(name=name, members=(f"{name}_lead",)) for name in TEAMS),
        assets=tuple(assets),
        bundle=digest_of(files),
        files=files,
        lock=lock_digest(),
        root="ops",
    )


def opened(folder: str, count: int) -> LocalPlatform:
    root = Path(folder).resolve() / "project"
    root.mkdir()
    (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
    (root / "ops.py").write_text("")
    current.loading.load = lambda *_args, **_more: manifest(root, count)  # type: ignore[assignment]
    return LocalPlatform(read_config(root), executor="inline", home=Path(folder).resolve() / "home")


def timed(do: Callable[[], Any], repeat: int = REPEAT) -> list[float]:
    """Return seconds of each repetition."""
    out = []
    for _ in range(repeat):
        begun = time.perf_counter()
        do()
        out.append(time.perf_counter() - begun)
    return out


def say(name: str, seconds: list[float], **more: Any) -> None:
    median = statistics.median(seconds)
    row = {"bench": "page", "name": name, "median_ms": round(median * 1e3, 2)}
    row |= {"least_ms": round(min(seconds) * 1e3, 2), "most_ms": round(max(seconds) * 1e3, 2)}
    print(json.dumps({**row, **more}), flush=True)


def search() -> None:
    """Type queries letter by letter."""
    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
        opened(folder, ASSETS) as p,
    ):
        asked = Operations(p)
        say("first search, which makes the index", timed(lambda: asked.search("a"), 1))
        for text in ("orders daily 00", "dataset:carts_raw", "team_03", "shipmnets", "zzzzzz"):
            letters = [text[:n] for n in range(1, len(text) + 1)]
            each = [s for one in letters for s in timed(lambda one=one: asked.search(one))]
            say(f"each letter of `{text}`", each, assets=ASSETS)
        asked.report("release", "service:pay", owner="team_01", version="v1")
        say("first search after a new asset", timed(lambda: asked.search("pay"), 1))


def picture() -> None:
    """Lay out graphs, and ask for the picture of one in clusters."""
    random_ = random.Random(3)
    for count in (1_000, 10_000):
        names = [f"dataset:{random_.choice(WORDS)}_{n:05}" for n in range(count)]
        edges = [
            (names[m], names[n])
            for n in range(20, count)
            for m in random_.sample(range(max(0, n - 400), n), 2 if n > 30 else 1)
        ]
        say("layout", timed(lambda: layout(names, edges)), nodes=count, edges=len(edges))
    for count in (1_000, ASSETS):
        with (
            tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
            opened(folder, count) as p,
        ):
            asked = Operations(p)
            more = {"assets": count}
            say("first picture, which finds states", timed(asked.graph_picture, 1), **more)
            say("picture in clusters", timed(asked.graph_picture), **more)
            team = f"owner:{TEAMS[3]}"
            say("with one opened", timed(lambda: asked.graph_picture(opened=[team])), **more)
            middle = p.core.project.manifest().assets[count // 2].name
            near = [f"2+{middle}+2"]
            say("neighbourhood", timed(lambda: asked.graph_picture(assets=near)), **more)
            say("what a change reaches", timed(lambda: asked.graph(assets=[f"{middle}+"])), **more)


PARTS: dict[str, Callable[[], None]] = {"search": search, "picture": picture}


def main(names: list[str]) -> None:
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
