"""What a page asks, at size: search as one types, the picture of the graph, the strip of
partitions. Each on a synthetic project, through the operations that a page calls.

No project code is imported: `tests/big_project.py` makes the manifest.
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

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from big_project import TEAMS, WORDS, opened  # noqa: E402 - the tests' folder comes first

from sextant.app.graph_layout import layout  # noqa: E402
from sextant.app.operations import Operations  # noqa: E402
from sextant.app.partitions import strip  # noqa: E402
from sextant.engine import keys  # noqa: E402
from sextant.engine.keys import partitioning  # noqa: E402
from sextant.kernel.clock import to_datetime  # noqa: E402
from sextant.kernel.kept import Kept  # noqa: E402
from sextant.kernel.limits import MEMORY_KEPT_MAX  # noqa: E402
from sextant.kernel.nouns import Move, Part, Release, Version  # noqa: E402
from sextant.kernel.ports import Write  # noqa: E402
from sextant.ledger.projections import VersionCreated  # noqa: E402

ASSETS, REPEAT = 10_000, 7


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


def strips() -> None:
    """Ask for the strip of an asset with as many partitions as there may be, with holes; and cut a
    longer one into runs."""
    with (
        tempfile.TemporaryDirectory(prefix="sextant-bench-", dir=".") as folder,
        opened(folder, 1, hours=True) as p,
    ):
        asked = Operations(p)
        asset = p.core.project.manifest().assets[0]
        complete = partitioning(asset).until(to_datetime(p.core.clock.now_ns()))
        code = keys.code_digest(asset)
        parts = tuple(
            Part(
                partition=key, digest=f"{n:064x}", rows=n, code=code, inputs=keys.inputs_digest([])
            )
            for n, key in enumerate(complete)
            if n % 97
        )
        version = Version(asset=asset.id, digest="a" * 64, parts=parts, rows=len(parts))
        move = Move(env="dev", asset=asset.id, source="", target=version.digest)
        release = Release(id=p.core.ids.new("rel"), state="live", moves=(move,), by="person:bench")
        made = [
            p.core.events.make("version.created", f"{asset.id}@{version.digest}", one, "bench", "")
            for one in (VersionCreated(version),)
        ]
        made.append(p.core.events.make("release.live", release.id, release, "bench", ""))
        p.core.state.commit(Write((), tuple(made)))
        count = {"partitions": len(complete)}
        say(
            "first strip, which reads all partitions",
            timed(lambda: asked.partitions(asset.id), 1),
            **count,
        )

        def again() -> None:
            p.memory.kept = Kept(MEMORY_KEPT_MAX)
            asked.partitions(asset.id)

        say("strip after an event", timed(again), **count)
        say("strip", timed(lambda: asked.partitions(asset.id)), **count)
        size = len(msgspec.json.encode(asked.partitions(asset.id)))
        say(
            "a month with facts",
            timed(
                lambda: asked.partitions(
                    asset.id, partition=f"{complete[-800]}..{complete[-1]}", details=True
                ),
                1,
            ),
            **count,
            strip_bytes=size,
        )
    many = [f"{n:06}" for n in range(500_000)]
    states = {key: "live" if n % 3 else "stale" for n, key in enumerate(many)}
    size = len(msgspec.json.encode(strip(many, states)))
    say(
        "cut into runs, no two alike",
        timed(lambda: strip(many, states), 3),
        partitions=len(many),
        strip_bytes=size,
    )


PARTS: dict[str, Callable[[], None]] = {"search": search, "picture": picture, "strips": strips}


def main(names: list[str]) -> None:
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
