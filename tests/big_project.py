"""A project of many assets without its code: the manifest is made here, and stands for what the
loader would answer. Used by tests of the page at size, and by benchmarks."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sextant.app.platform import LocalPlatform
from sextant.kernel.nouns import (
    NO_SPEC,
    Asset,
    Build,
    CheckSpec,
    Code,
    Input,
    Manifest,
    Team,
    spec_of,
)
from sextant.kernel.partitions import Partitioning
from sextant.kinds.dataset.spec import Table
from sextant.project import current
from sextant.project.bundle import digest_of, scan
from sextant.project.config import read_config
from sextant.project.loading import lock_digest

HOURS = Partitioning(grain="hourly", start="2016-01-01", end="2027-01-01", tz="UTC")
WORDS = (
    "orders customers payments refunds invoices sessions clicks carts prices stock shipments returns"
    " leads accounts contracts usage alerts devices routes fares"
).split()
FORMS = "raw clean daily joined scored ranked summary features history snapshot".split()
TEAMS = tuple(f"team_{n:02}" for n in range(20))


def manifest(root: Path, count: int, *, hours: bool = False) -> Manifest:
    """Return a manifest of `count` datasets, by hours for ten years or in one piece: each reads up
    to three that stand shortly before it, as pipelines do, so that the graph is some 40 layers
    deep."""
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
                spec=spec_of(Table(partitioning=HOURS)) if hours else NO_SPEC,
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


@contextmanager
def opened(folder: str, count: int, *, hours: bool = False) -> Iterator[LocalPlatform]:
    """Give a platform on such a project, in a folder."""
    root = Path(folder).resolve() / "project"
    root.mkdir()
    (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
    (root / "ops.py").write_text("")
    load = current.loading.load
    current.loading.load = lambda *_args, **_more: manifest(root, count, hours=hours)  # type: ignore[assignment]
    try:
        home = Path(folder).resolve() / "home"
        with LocalPlatform(read_config(root), executor="inline", home=home) as platform:
            yield platform
    finally:  # other projects of this process are read as before
        current.loading.load = load
