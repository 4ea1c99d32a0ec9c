"""Every attack of the corpus is refused before anything runs; and what would run, were the guard
not there, is bounded by the kernel."""

import socket
from pathlib import Path

import pytest
from sql_endpoint import Served, World, cases

from sextant.kernel.errors import Denied, UsageError

HERE = Path(__file__).parent
ATTACKS = cases(HERE / "attacks" / "refused.txt")
PARAMS = {
    "database": "system",
    "table": "users",
    "function": "file",
    "columns": "y Int8, x String ALIAS file('/etc/hostname')",
}


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory):
    """Give a canary on disk, an empty folder, and a listener that must not be called."""
    folder = tmp_path_factory.mktemp("bait")
    (folder / "canary").write_text("the canary sings", encoding="utf-8")
    (folder / "out").mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listener.setblocking(False)
        yield folder / "canary", folder / "out", listener


def _filled(attack: str, bait) -> str:
    canary, out, listener = bait
    return (
        attack.replace("{file}", str(canary))
        .replace("{out}", str(out))
        .replace("{port}", str(listener.getsockname()[1]))
        .replace("\\u0000", "\0")
    )


def test_the_corpus_is_large_and_has_no_doubles() -> None:
    assert len(ATTACKS) >= 200
    assert (
        len({name for name, _ in ATTACKS}) == len(ATTACKS) == len({attack for _, attack in ATTACKS})
    )


@pytest.mark.parametrize(("name", "attack"), ATTACKS, ids=[name for name, _ in ATTACKS])
def test_refused(world: World, bait, name: str, attack: str) -> None:
    for admin in (False, True):
        with pytest.raises((Denied, UsageError)) as refused:
            world.judge(_filled(attack, bait), admin=admin, params=PARAMS)
        assert refused.value.code.startswith("SX-SQL-"), refused.value.code
        assert "canary sings" not in refused.value.message


def test_nothing_was_read_written_or_called(endpoint: Served, bait) -> None:
    canary, out, listener = bait
    params = {f"param_{name}": value for name, value in PARAMS.items()}
    for name, attack in ATTACKS:
        answer = endpoint.ask(_filled(attack, bait), **params)
        assert 400 <= answer.status < 500, (name, answer)
        assert "x-clickhouse-exception-code" in answer.headers
        assert b"canary sings" not in answer.body
    assert list(out.iterdir()) == []
    assert canary.read_text(encoding="utf-8") == "the canary sings"
    with pytest.raises(BlockingIOError):  # nobody is waiting at the listener
        listener.accept()
    assert endpoint.ask("SELECT count() FROM obs.logs").text == "500\n"  # and nothing was changed


def test_the_attacks_would_work_without_the_guard(world: World, bait) -> None:
    """The canary can be read: that the attacks fail is the guard's doing."""
    canary, out, _ = bait
    assert world.store.query(f"SELECT file('{canary}')", form="TSVRaw") == b"the canary sings\n"
    assert world.store.ask(f"SELECT file('{canary}')", form="TSVRaw") == b"the canary sings\n"
    world.store.ask(f"SELECT 1 INTO OUTFILE '{out}/there'", form="TSV")
    (out / "there").unlink()
