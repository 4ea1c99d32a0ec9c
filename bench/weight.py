"""Sum the installed size of Sextant's dependencies: of the base, and what each extra adds.

Sizes are those that the distributions recorded when they were installed (RECORD), so compiled
bytecode is not in them. The closure follows the requirements of this machine and Python. Fails when
the base is larger than its budget. A missing distribution is named and not counted.
"""

import importlib.metadata
import json
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
BUDGET_MB = 650  # of the base
SHOWN = 6  # largest distributions that are named

Wanted = tuple[str, str]  # canonical name of a distribution, and an extra of it, "" for none


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of all distributions that some requirements bring, each other's included."""
    seen: set[Wanted] = set()
    todo = [one for text in requirements for one in wanted(text)]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        name, extra = one
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [more for text in needs for more in wanted(text, extra)]
    return {name for name, _ in seen}


def wanted(text: str, extra: str = "") -> list[Wanted]:
    """Return what a requirement brings where `extra` of its owner was asked for; nothing when its
    marker does not fit this machine."""
    one = Requirement(text)
    if one.marker and not one.marker.evaluate({"extra": extra}):
        return []
    name = canonicalize_name(one.name)
    return [(name, ""), *((name, asked) for asked in sorted(one.extras))]


def size_mb(name: str) -> float | None:
    """Return the recorded size of a distribution in MB (10^6 bytes); None when it is not there."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return sum(file.size or 0 for file in found.files or ()) / 1e6


def show(what: str, names: set[str], budget: int | None = None) -> float:
    """Print one line for some distributions; return their size in MB."""
    sizes = {name: size_mb(name) for name in names}
    known = {name: size for name, size in sizes.items() if size is not None}
    total = sum(known.values())
    largest = sorted(known, key=lambda name: -known[name])[:SHOWN]
    line = {
        "bench": "weight",
        "what": what,
        "unit": "MB",
        "value": round(total, 1),
        "budget": budget,
        "distributions": len(known),
        "largest": {name: round(known[name], 1) for name in largest},
        "missing": sorted(name for name, size in sizes.items() if size is None),
    }
    print(json.dumps(line), flush=True)
    return total


def main() -> int:
    """Print the base, each extra, all of them, and the environment; return 1 beyond the budget."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = closure(project["dependencies"])
    total = show("base", base, BUDGET_MB)
    everything = set(base)
    for extra, requirements in project["optional-dependencies"].items():
        more = closure(requirements) - base
        everything |= more
        show(f"extra {extra} adds", more)
    show("base and all extras", everything)
    installed = {
        canonicalize_name(one.metadata["Name"]) for one in importlib.metadata.distributions()
    }
    show("this whole environment", installed)
    return int(total > BUDGET_MB)


if __name__ == "__main__":
    sys.exit(main())
