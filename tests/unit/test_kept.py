"""What is kept between questions: never wrong, never too much."""

from sextant.kernel.kept import Kept


def test_it_is_made_once_and_the_oldest_goes() -> None:
    """If this fails, an answer is made again for everybody, or memory grows without an end."""
    kept, made = Kept(30), []

    def get(key: str, weight: int = 1) -> str:
        return kept.get(key, lambda: made.append(key) or key * 2, lambda _value: weight)

    assert [get("a", 3), get("a", 3)] == ["aa", "aa"]
    assert made == ["a"]
    for n in range(10):
        get(f"b{n}", 3)
        get("a", 3)
    assert made.count("a") == 1, "what is asked for stays"
    get("b0", 3)
    assert made.count("b0") == 2, "what was not has gone"
    for _ in range(2):
        get("heavy", 4)
    assert made.count("heavy") == 2, "one answer does not take the place of all"


def test_two_that_make_the_same_count_once() -> None:
    """If this fails, the weight of what two made at once stays after it has gone."""
    kept = Kept(100)

    def slow() -> str:
        kept.get("k", lambda: "theirs", lambda _value: 10)
        return "mine"

    assert kept.get("k", slow, lambda _value: 10) == "mine"
    for n in range(9):
        kept.get(n, lambda: "x", lambda _value: 10)
    assert kept.get("k", lambda: "again", lambda _value: 10) == "mine"
