"""What running steps print, read by others while they run."""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.engine.executors import wire
from sextant.kernel.errors import UsageError
from sextant.kernel.hidden import HIDDEN
from sextant.kernel.limits import (
    LIVE_KEPT_S,
    LIVE_PIECE_BYTES_MAX,
    LIVE_SEGMENT_BYTES_MAX,
    LIVE_SEGMENTS_MAX,
    STEP_LOG_BYTES_MAX,
)
from sextant.kernel.clock import NS
from sextant.kernel.nouns import Principal
from sextant.stores.live import LiveRuns, Piece

SECRET = "s3cr3t-of-the-shop"
OPS = """
import os, sys, time

def wait_for(name):
    while not os.path.exists(os.path.join({folder!r}, name)):
        time.sleep(0.01)

@sx.dataset()
def talks(key: str = sx.secret("SHOP_TOKEN")) -> pl.DataFrame:
    print("the first line", key)
    sys.stdout.write("half of it: " + key[:9])
    sys.stdout.flush()
    wait_for("second")
    sys.stdout.write(key[9:] + " and on")
    sys.stdout.flush()
    wait_for("third")
    print(" to the end")
    return pl.DataFrame({{"id": [1]}})

@sx.dataset()
def reads(talks: pl.DataFrame) -> pl.DataFrame:
    print("read it")
    return talks
"""


@pytest.fixture
def followed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LocalPlatform, str, Callable[[str], None]]]:
    """Give a platform on which `talks` runs, the run's id, and what lets the step go on."""
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    shop.write(OPS.format(folder=str(shop.root)))
    with shop.open(executor="pool") as p, ThreadPoolExecutor(1) as pool:
        going = pool.submit(run, p)
        found: list[str] = []
        while not found:
            found = [row[0] for row in p.core.state.read("runs_open")]
            assert not going.done(), going.result()
        yield p, found[0], lambda name: (shop.root / name).touch()
        for name in ("second", "third"):
            (shop.root / name).touch()
        assert going.result().state == "finished"


def _until(ask: Callable[[], Any], is_there: Callable[[Any], bool]) -> Any:
    while not is_there(found := ask()):
        pass
    return found


def _text(found: Any) -> str:
    return "".join(piece["text"] for piece in found["printed"])


def test_a_running_step_is_read_by_another_process(
    followed: tuple[LocalPlatform, str, Callable[[str], None]], shop: Shop
) -> None:
    """If this fails, nobody sees what a long step does before it has ended; or a secret that is
    printed in two parts is shown; or what is followed is not what is kept."""
    here, run_id, go_on = followed
    with shop.open(load=False, confirm=False) as there:
        other = Operations(there)
        found = _until(lambda: other.log(run=run_id), lambda one: "half" in _text(one))
        assert _text(found) == "the first line ***SHOP_TOKEN***\nhalf of it: "
        assert (found["running"], found["after"], found["cut"]) == (True, "", False)
        assert other.log(run=run_id, after=found["next"])["printed"] == []
        all_, after = _text(found), found["next"]
        go_on("second")
        found = _until(lambda: other.log(run=run_id, after=after), lambda one: one["printed"])
        assert _text(found) == "***SHOP_TOKEN*** and on"
        assert found["after"] == after
        go_on("third")
        while after:
            all_ += _text(found)
            after = found["next"]
            found = other.log(run=run_id, after=after) if after else found
        assert not found["running"]
        kept = other.log(run=run_id)
        assert _text(kept) == all_
        assert [one["step"] for one in kept["printed"]] == [
            "dataset:talks[all]",
            "dataset:reads[all]",
        ]
        only = other.log(run=run_id, asset="reads")
        assert _text(only) == "read it\n"
        assert other.log(run=run_id, step="dataset:reads[all]")["printed"] == only["printed"]


def test_what_one_may_not_read_is_hidden_while_it_runs(
    followed: tuple[LocalPlatform, str, Callable[[str], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a log that quotes personal values is open as long as its step runs."""
    from sextant.app.visibility import Visibility

    p, run_id, go_on = followed
    monkeypatch.setattr(Visibility, "hides", lambda _, *assets: "dataset:talks" in assets)
    viewer = Operations(p, Principal(name="vic", role="viewer"))
    found = _until(lambda: viewer.log(run=run_id), lambda one: one["printed"])
    assert [one["text"] for one in found["printed"]] == [HIDDEN]
    go_on("second")
    more = _until(
        lambda: viewer.log(run=run_id, after=found["next"]),
        lambda one: one["next"] != found["next"],
    )
    assert more["printed"] == [], "it is said once"


def test_a_malformed_position_is_refused(shop: Shop) -> None:
    """If this fails, a mistaken position leads out of the run's folder or to an empty answer."""
    live = LiveRuns(shop.root / "live")
    for position in ("1", "a.b", "../x", "-1.0", "1.1.1"):
        with pytest.raises(UsageError) as refused:
            live.read("run_1", position, 100)
        assert refused.value.code == "SX-RUN-013"
    with pytest.raises(UsageError) as refused:
        live.read("../run", "", 100)
    assert refused.value.code == "SX-RUN-012"


def test_a_log_without_end_keeps_its_newest_part(tmp_path: Path) -> None:
    """If this fails, a step that prints without end fills the disk, or who follows it is not told
    that he missed something."""
    live = LiveRuns(tmp_path / "live")
    live.begin("run_1", set(), 0)
    piece = Piece(step="a", asset="dataset:a", text="x" * 60_000)
    for _ in range(LIVE_SEGMENTS_MAX * LIVE_SEGMENT_BYTES_MAX // 60_000 + 60):
        live.add("run_1", piece)
    files = list((tmp_path / "live" / "run_1").iterdir())
    assert len(files) == LIVE_SEGMENTS_MAX
    assert sum(file.stat().st_size for file in files) <= LIVE_SEGMENTS_MAX * LIVE_SEGMENT_BYTES_MAX
    found = live.read("run_1", "0.0", 100_000)
    assert found is not None
    assert (found.lost, found.more) == (True, True)
    count, after = 0, found.next
    while found.more:
        found = live.read("run_1", after, 100_000)
        assert found is not None
        assert not found.lost
        count, after = count + len(found.pieces), found.next
    live.add("run_1", msgspec_replace(piece, "the last"))
    found = live.read("run_1", after, 100_000)
    assert found is not None
    assert [one.text for one in found.pieces] == ["the last"]
    assert count > 0


def msgspec_replace(piece: Piece, text: str) -> Piece:
    import msgspec

    return msgspec.structs.replace(piece, text=text)


def test_the_log_of_an_ended_run_goes_after_a_while(tmp_path: Path) -> None:
    """If this fails, live logs pile up, or one goes while its run still runs."""
    live = LiveRuns(tmp_path)
    for name in ("run_1", "run_2"):
        live.begin(name, set(), 0)
    now = (tmp_path / "run_1").stat().st_mtime_ns
    live.begin("run_3", set(), now + int((LIVE_KEPT_S - 60) * NS))
    assert sorted(os.listdir(tmp_path)) == ["run_1", "run_2", "run_3"]
    live.begin("run_4", {"run_2"}, now + int((LIVE_KEPT_S + 60) * NS))
    assert sorted(os.listdir(tmp_path)) == ["run_2", "run_4"]


def test_who_comes_back_late_gets_all_of_it_again(shop: Shop) -> None:
    """If this fails, a page that slept while the run ended shows half a log and does not say so."""
    shop.write(
        "@sx.dataset()\ndef a() -> pl.DataFrame:\n    print('made')\n    return pl.DataFrame({'id': [1]})\n"
    )
    with shop.open(executor="pool") as p:
        report = run(p)
        found = Operations(p).log(run=report.id, after="0.0")
        assert (_text(found), found["after"], found["next"]) == ("made\n", "0.0", "")
        for file in (shop.root / ".sextant" / "live" / report.id).iterdir():
            file.unlink()
        (shop.root / ".sextant" / "live" / report.id).rmdir()
        found = Operations(p).log(run=report.id, after="0.20")
        assert (_text(found), found["after"], found["next"]) == ("made\n", "", "")


class _Masks:
    """Masks `s3cr3t` as the workers do."""

    def __init__(self) -> None:
        from sextant.project.secrets import Redactor

        self.redactor = Redactor({"KEY": "s3cr3t-öäü"})


@pytest.mark.parametrize("shift", range(12))
def test_a_cut_log_shows_no_part_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    """If this fails, a log that is longer than what is kept, or printed faster than it is shown,
    shows the half of a secret that the cut went through, or a torn character."""
    redactor = _Masks().redactor
    monkeypatch.setattr(wire, "mask_of", lambda _orders: redactor)
    secret = "s3cr3t-öäü".encode()
    unit = secret + b"|"
    for limit, shows in (
        (STEP_LOG_BYTES_MAX, lambda fd: wire.head_and_tail(fd, redactor)),
        (LIVE_PIECE_BYTES_MAX, lambda fd: wire.Tail(fd, []).look(ended=True)),
    ):
        place = tmp_path / f"log-{limit}"
        place.write_bytes(b"." * shift + unit * (2 * limit // len(unit)))
        with open(place, "rb") as file:
            text = shows(file.fileno())
        assert "bytes left out" in text
        left = re.sub(r"\d+ bytes left out", "", text.replace("***KEY***", "").replace("***", ""))
        assert set(left) <= set(".| \n")
