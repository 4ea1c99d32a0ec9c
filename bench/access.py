"""Random trees of who made what, beside a model: `PYTHONPATH=src python bench/access.py --examples
10000`. Grows and judges trees as `tests/simulation/makers.py` describes.
"""

import sys
from contextlib import ExitStack

import simulated

import makers  # isort: skip - of the tests' folders, which `simulated` puts first


def make(stack: ExitStack) -> makers.Makers:
    return stack.enter_context(makers.Makers())


if __name__ == "__main__":
    sys.exit(simulated.judge("access", make, makers.Difference, about=__doc__, examples=10_000))
