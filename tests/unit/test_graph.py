"""The typed graph over time."""

from sextant.kernel.graph import downstream, upstream, valid_at
from sextant.kernel.nouns import Edge

EDGES = [
    Edge(source="dataset:a", target="dataset:b", kind="feeds", valid_from=10),
    Edge(source="dataset:b", target="kpi:k", kind="measures", valid_from=10, valid_to=20),
    Edge(source="kpi:k", target="service:s", kind="calls", valid_from=15),
    Edge(
        source="dataset:b", target="dataset:a", kind="feeds", valid_from=30
    ),  # a circle, as observed ones may be
]


def test_reach_follows_cause_and_ends_on_circles() -> None:
    """If this fails, blast radius and causes are wrong, or a circle hangs the platform."""
    assert downstream(EDGES, "dataset:a") == {"dataset:a", "dataset:b", "kpi:k", "service:s"}
    assert upstream(EDGES, "kpi:k") == {"kpi:k", "dataset:b", "dataset:a"}
    assert downstream(EDGES, "dataset:a", kinds=["feeds"]) == {"dataset:a", "dataset:b"}
    assert upstream(EDGES, "host:unknown") == {"host:unknown"}


def test_an_edge_holds_from_its_start_until_before_its_end() -> None:
    """If this fails, a question about the past is answered with today's graph."""
    assert [len(valid_at(EDGES, at)) for at in (9, 10, 15, 19, 20, 30)] == [0, 2, 3, 3, 2, 3]
