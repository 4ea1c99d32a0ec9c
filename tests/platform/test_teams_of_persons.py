"""Which teams a person acts with: what the project lists, and what a token names of it."""

from collections.abc import Iterator

import pytest

from sextant.app.platform import LocalPlatform
from sextant.kernel.nouns import Principal
from sextant.testing import platform

SHOP = """
import sextant as sx

data = sx.team("data", members=["ann", "bob"])
web = sx.team("web", members=["ann"])
sx.project("shop", tz="UTC", owner=data, environments=["dev"])
"""


@pytest.fixture(scope="module")
def p() -> Iterator[LocalPlatform]:
    with platform({"ops.py": SHOP}) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "kind", "given", "teams"),
    [
        ("ann", "person", (), ("data", "web")),
        ("ann", "person", ("web",), ("web",)),  # a token with fewer has only these
        ("ann", "person", ("web", "data"), ("data", "web")),
        ("bob", "person", ("data", "web"), ("data",)),  # he has left web, or never was in it
        ("bob", "person", ("ops",), ()),
        ("eve", "person", ("web",), ()),  # the project says who is in it
        ("eve", "person", ("ops",), ("ops",)),  # of a team without a list: what was given to her
        ("eve", "person", (), ()),
        ("ann", "token", ("web",), ("web",)),  # called like a member, and none
        ("ann", "token", (), ()),
        ("ann", "agent", ("ops",), ("ops",)),
    ],
)
def test_teams(
    p: LocalPlatform, name: str, kind: str, given: tuple[str, ...], teams: tuple[str, ...]
) -> None:
    """A token that was made for one team had all teams of its person, and could release theirs."""
    one = Principal(name=name, kind=kind, teams=given)  # type: ignore[arg-type]
    assert p.core.authorization.within(one, "dev").teams == teams
    assert set(p.core.authorization.within(one, "dev").teams) <= set(given) | {"data", "web"}
