from collections.abc import Iterator

import pytest
from sql_endpoint import Served, World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Give a store, a lake and a guard, with everything published."""
    one = World()
    try:
        one.show()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def endpoint(world: World) -> Iterator[Served]:
    """Give the SQL endpoint on a loopback port."""
    one = Served(world)
    try:
        yield one
    finally:
        one.close()
