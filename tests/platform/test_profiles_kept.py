"""Profiles of what is live: made by runs, shown for each version, kept, mended and erased with the
rows that they are of."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from shop_project import Shop, run

from sextant import testing
from sextant.app.backup import create, restore, verify
from sextant.app.keeping import collect
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.cli.profile import profile_lines
from sextant.engine.plan import Request
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.nouns import FileRef
from sextant.stores.lake import frames, profiles

BODY = """
@sx.dataset(partition=days, key="id", personal=["mail"], keep="1h")
def orders(day: sx.Partition) -> pl.DataFrame:
    n = 10 * int(day.key[-2:])
    return pl.DataFrame({
        "id": range(n), "amount": [float(i % 7) for i in range(n)],
        "shop": ["north" if i % 3 else "south" for i in range(n)],
        "mail": [f"secret{i}@example.org" for i in range(n)],
        "at": pl.Series([day.start] * n), "fine": [i % 2 == 0 for i in range(n)],
    })
"""


@pytest.fixture
def p(shop: Shop) -> Iterator[LocalPlatform]:
    shop.write(BODY)
    with shop.open() as opened:
        run(opened)
        yield opened


def column(found: Any, name: str) -> Any:
    return next(one for one in found["columns"] if one["name"] == name)


def beside(p: LocalPlatform) -> list[Path]:
    """Return the files of profiles that the live version of the table has."""
    version = p.core.versions.get(
        "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
    )
    files = p.core.lake.files(version.locator)
    return [p.core.lake.root / path for path in profiles.beside(files)]


def change(shop: Shop, p: LocalPlatform, factor: int) -> None:
    """Publish other amounts."""
    shop.edit("float(i % 7)", f"float(i % 7) * {factor}")
    p.core.project.load()
    run(p, "dev", "dataset:orders", stale=True)


def test_columns_of_a_version_are_shown(p: LocalPlatform) -> None:
    """Nobody could see what the values of a column are like without reading all rows."""
    found = Operations(p).profile("orders")
    rows = 10 * (1 + 2 + 3 + 4)
    assert (found["now"]["rows"], found["now"]["partitions"], found["now"]["missing"]) == (
        rows,
        4,
        0,
    )
    assert [one["name"] for one in found["columns"]] == [
        "id",
        "amount",
        "shop",
        "mail",
        "at",
        "fine",
    ]
    amount = column(found, "amount")["now"]
    assert (amount["low"], amount["high"], amount["quantiles"]["0.5"]) == (0.0, 6.0, 3.0)
    assert amount["mean"] == pytest.approx(
        sum(i % 7 for day in range(1, 5) for i in range(10 * day)) / rows
    )
    shop = column(found, "shop")["now"]
    assert [one["value"] for one in shop["top"]] == ["north", "south"]
    assert sum(one["count"] for one in shop["top"]) == rows
    assert shop["top_exact"]
    at = column(found, "at")["now"]
    assert (at["low"], at["high"]) == ("2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z")
    assert at["mean"].startswith("2026-01-03T00:00:00")
    assert json.loads(msgspec.json.encode(found)) == found, "it is JSON as it is"


def test_a_range_of_partitions(p: LocalPlatform) -> None:
    """Somebody who looks for the day of a change would see all days together."""
    ask = Operations(p).profile
    assert ask("orders", partition="2026-01-02..2026-01-03")["now"]["rows"] == 50
    assert ask("orders", partition="2026-01-04")["now"]["rows"] == 40
    for wrong, error in (("x", UsageError), ("2026-01-05..2026-01-01", UsageError)):
        with pytest.raises(error):
            ask("orders", partition=wrong)


def test_what_is_not_there_is_said(shop: Shop, p: LocalPlatform) -> None:
    """A mistake would be answered with an empty profile."""
    ask = Operations(p).profile
    with pytest.raises(NotFound):
        ask("odrers")
    with pytest.raises(NotFound):
        ask("orders", as_of="abcdef012345")
    with pytest.raises(NotFound, match="first in `dev`"):
        ask("orders", against="before")
    with pytest.raises(NotFound, match="over no other"):
        ask(
            "orders",
            as_of=p.core.versions.live_version("dev", "dataset:orders")[:8],
            against="before",
        )
    with pytest.raises(NotFound):
        ask("orders", against="abcdef012345")
    with pytest.raises(UsageError, match="has no columns"):
        ask("project:shop")
    shop.edit('end="2026-01-05"', 'end="2026-01-09"')
    p.core.project.load()
    with pytest.raises(NotFound, match="no partition from `2026-01-07`"):
        ask("orders", partition="2026-01-07..2026-01-08")


def test_against_the_version_before_and_after_an_undo(shop: Shop, p: LocalPlatform) -> None:
    """A release that moves a column would show nothing; after its undo the profile would still be
    that of what was taken back."""
    first = Operations(p).profile("orders")
    change(shop, p, 10)
    found = Operations(p).profile("orders", against="before")
    amount = column(found, "amount")
    assert (amount["now"]["high"], amount["before"]["high"]) == (60.0, 6.0)
    assert amount["change"]["shift"] > 0.5
    assert amount["change"]["mean"] == pytest.approx(9 * amount["before"]["mean"])
    assert column(found, "id")["change"] == {
        "rows": 0,
        "nulls_share": 0.0,
        "distinct": 0,
        "mean": 0.0,
        "shift": 0.0,
    }
    assert found["before"] is not None
    named = Operations(p).profile("orders", against=found["before"]["version"][:8])
    assert named["columns"] == found["columns"]
    assert (
        Operations(p).profile("orders", as_of=found["now"]["version"][:8], against="before")[
            "before"
        ]
        == found["before"]
    )
    Operations(p).rollback("orders")
    undone = Operations(p).profile("orders")
    assert undone["columns"] == first["columns"]


def test_personal_columns_show_counts_only(shop: Shop, p: LocalPlatform) -> None:
    """A mail address would be read from the most frequent values."""
    change(shop, p, 2)
    found = Operations(p).profile("orders", against="before")
    mail = column(found, "mail")
    assert mail["hidden"]
    assert mail["now"]["distinct"] == 40
    assert (mail["now"]["top"], mail["now"]["lengths"], mail["change"]["shift"]) == ([], None, None)
    assert b"secret" not in msgspec.json.encode(found)
    shop.edit('personal=["mail"]', 'personal=["mail", "amount"]')
    p.core.project.load()
    run(p, "dev", "dataset:orders", stale=True)
    amount = column(Operations(p).profile("orders", against="before"), "amount")
    for side in (amount["now"], amount["before"]):
        assert (side["low"], side["mean"], side["quantiles"], side["edges"], side["counts"]) == (
            None,
            None,
            {},
            [],
            [],
        )
    assert (amount["change"]["mean"], amount["change"]["shift"]) == (None, None)


def test_lines_of_the_command(shop: Shop, p: LocalPlatform) -> None:
    """The terminal would show a column without its values, or a personal one with them."""
    change(shop, p, 2)
    lines = "\n".join(profile_lines(Operations(p).profile("orders", against="before")))
    assert "100 rows of 4 partitions, against" in lines
    assert "north 65, south 35" in lines
    assert "hidden" in lines
    assert "secret" not in lines
    assert "█" in lines
    assert "shift" in lines


# ---------------------------------------------------------------- missing and damaged


def without_profiles(file: FileRef) -> FileRef:
    return msgspec.structs.replace(file, profiles="", profiles_bytes=0)


def test_versions_of_an_earlier_release_get_profiles_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old partitions would look empty, or never get a profile."""
    shop.write(BODY)
    plain = frames.store
    with monkeypatch.context() as older:
        older.setattr(frames, "store", lambda *a, **more: without_profiles(plain(*a, **more)))
        with shop.open() as p:
            run(p)
    with shop.open() as p:
        found = Operations(p).profile("orders")
        assert (found["now"]["missing"], found["now"]["partitions"]) == (4, 0)
        assert (found["now"]["missing_first"], found["now"]["missing_last"]) == (
            "2026-01-01",
            "2026-01-04",
        )
        assert "doctor --data" in found["hint"]
        assert "4 partitions have no profile" in "\n".join(profile_lines(found))
        done = Operations(p).check_data()
        assert (done["findings"], done["profiled"]) == ([], 1)
        mended = Operations(p).profile("orders")
        assert (mended["now"]["rows"], mended["now"]["missing"], mended["hint"]) == (100, 0, "")
        again = Operations(p).check_data()
        assert (again["findings"], again["profiled"]) == ([], 0), "once"


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_damaged_profile_is_told_and_made_of_the_rows(p: LocalPlatform, how: str) -> None:
    """One bad file beside the rows would stop readers of the rows, or stay bad."""
    before = Operations(p).profile("orders")
    (place,) = beside(p)
    data = place.read_bytes()
    place.unlink()
    if how == "changed":
        place.write_bytes(data[:-4] + b"\x00\x01\x02\x03")
    found = Operations(p).profile("orders")
    assert found["now"]["missing"] == 4
    assert place.name in found["now"]["damaged"][0]
    assert Operations(p).count("orders")["rows"] == 100
    assert Operations(p).rows("orders", form="CSVWithNames")
    run(p)  # rows are as they were: what is made of them goes on
    done = Operations(p).check_data()
    assert (done["findings"], done["profiled"]) == ([], 1)
    assert any(place.name in note for note in done["notes"])
    assert place.read_bytes() == data
    assert Operations(p).profile("orders") == before


def test_a_backup_holds_them(shop: Shop, p: LocalPlatform, tmp_path: Path) -> None:
    """After a restore all profiles would be gone."""
    before = Operations(p).profile("orders")
    folder, target = tmp_path / "backup", tmp_path / "restored"
    create(p.core, p.sealing, folder)
    assert verify(folder)["ok"]
    target.mkdir()
    for name in ("ops.py", "sextant.toml"):
        shutil.copy2(shop.root / name, target / name)
    assert restore(folder, target)["damaged"] == []
    with Shop(target).open() as back:
        assert Operations(back).profile("orders") == before
    next((folder / "lake").rglob("*.profiles")).unlink()
    assert not verify(folder)["ok"]


FORGETTING = """
import polars as pl
import sextant as sx
team = sx.team("ops", members=["ann"])
sx.project("shop", tz="UTC", environments=["dev", "prod"], owner=team)

@sx.dataset(key="n", keep="2h")
def people() -> pl.DataFrame:
    return pl.DataFrame({"n": [1, 2], "name": ["jane-of-old", "bob"]})
"""
HOUR = 3600.0


def test_rows_that_go_take_their_profiles_along() -> None:
    """A value that was erased would live on among the most frequent ones."""
    # later than the machine's clock: what lies on the disk is old
    with testing.platform({"ops.py": FORGETTING}, at=datetime(2030, 3, 7, 12, tzinfo=UTC)) as p:
        p.runs.run("dev", Request(assets=("dataset:people",)), by=p.core.authorization.who())
        assert column(Operations(p).profile("people"), "name")["now"]["top"][1]["value"] == (
            "jane-of-old"
        )
        root = p.core.lake.root
        (old,) = root.rglob("*.profiles")
        assert b"jane-of-old" in profiles_unpacked(old)
        file = p.core.project.root / "ops.py"
        file.write_text(FORGETTING.replace("jane-of-old", "erased"))
        p.core.project.load()
        p.runs.run("dev", Request(assets=("dataset:people",)), by=p.core.authorization.who())
        for _ in range(2):
            p.core.clock.wait(3 * HOUR)
            collect(p.core, p.runs.bundles)
        (left,) = root.rglob("*.profiles")
        assert left != old
        assert b"jane-of-old" not in profiles_unpacked(left)
        assert Operations(p).profile("people")["now"]["rows"] == 2


def profiles_unpacked(place: Path) -> bytes:
    data = place.read_bytes()
    size = int.from_bytes(data[4:12], "little")
    unpacked: bytes = pa.Codec("zstd").decompress(data[12:], decompressed_size=size, asbytes=True)
    return unpacked
