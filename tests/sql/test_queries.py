"""Every honest query of the corpus is answered: what drivers and tools ask when they connect, what
dashboards and people ask."""

from pathlib import Path

import pytest
from sql_endpoint import Served, World, cases

FOLDER = Path(__file__).parent / "queries"
QUERIES = [
    (f"{file.stem}: {name}", query)
    for file in sorted(FOLDER.glob("*.txt"))
    for name, query in cases(file)
]


def test_the_corpus_is_large_and_has_no_doubles() -> None:
    assert len(QUERIES) >= 100
    assert len({name for name, _ in QUERIES}) == len(QUERIES)


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
def test_answered(endpoint: Served, name: str, query: str) -> None:
    lines = query.splitlines()
    wanted = [line[4:] for line in lines if line.startswith("--> ")]
    answer = endpoint.ask("\n".join(line for line in lines if not line.startswith("--> ")))
    assert answer.status == 200, answer.text
    if wanted == [""]:
        assert answer.text == ""
    elif wanted:
        assert answer.text == "".join(f"{line}\n" for line in wanted)


def test_the_same_by_get(endpoint: Served) -> None:
    assert endpoint.send("GET", query="SELECT count() FROM flights").text == "300\n"


def test_admins_see_personal_columns_and_others_do_not_even_their_names(
    world: World, endpoint: Served
) -> None:
    assert (
        "email"
        not in endpoint.ask(
            "SELECT name FROM system.columns WHERE database = 'data' AND table = 'people'"
        ).text
    )
    assert "email" not in endpoint.ask("DESCRIBE data.people").text
    hidden = endpoint.ask("SELECT email FROM data.people")
    assert hidden.status == 400
    assert "Unknown expression identifier `email`" in hidden.text
    assert "sx_lake" not in hidden.text
    assert str(world.folder) not in hidden.text
    assert (
        endpoint.ask("SELECT email FROM data.people ORDER BY id", token="sxt_admin").text
        == "a@x\nb@x\nc@x\n"
    )
    assert (
        endpoint.ask("SELECT email FROM data.people", token="sxt_viewer").status == 400
    )  # and the admin's judgement is not used for others
