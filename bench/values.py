"""What was returned is what is read: `PYTHONPATH=src python bench/values.py --examples 20000`. Runs
the ways through the lake that `tests/simulation/roundtrips.py` describes.
"""

import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import simulated

import roundtrips  # isort: skip - of the tests' folders, which `simulated` puts first


def make(stack: ExitStack) -> roundtrips.World:
    logging.disable(logging.WARNING)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sextant-values-"))
    return roundtrips.World(Path(folder))


if __name__ == "__main__":
    sys.exit(simulated.judge("values", make, roundtrips.Difference, about=__doc__, examples=20_000))
