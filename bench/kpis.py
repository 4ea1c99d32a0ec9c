"""Business numbers beside plain SQL: `PYTHONPATH=src python bench/kpis.py --examples 20000`. Makes,
keeps and asks numbers as `tests/simulation/business_numbers.py` describes.
"""

import sys
from contextlib import ExitStack

import simulated

import business_numbers  # isort: skip - of the tests' folders, which `simulated` puts first


def make(_: ExitStack) -> business_numbers.Numbers:
    return business_numbers.Numbers()


if __name__ == "__main__":
    sys.exit(
        simulated.judge("kpis", make, business_numbers.Difference, about=__doc__, examples=20_000)
    )
