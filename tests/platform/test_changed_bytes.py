"""Files that are changed behind Sextant's back: found by whatever opens them next, and nothing that
was made from them goes live."""

from seen import views
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.errors import Damaged, StepFailed

BODY = """
@sx.dataset(partition=sx.static("north", "south"), key="id")
def orders(part: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({"id": list(range(100)), "amount": [len(part.key) + 1.0] * 100})

@sx.dataset(key="id")
def shops() -> pl.DataFrame:
    return pl.DataFrame({"id": ["a"]})

@sx.dataset(partition=sx.static("north", "south"), key="id")
def doubled(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.with_columns(pl.col("amount") * 2)

@sx.dataset(key="id")
def opened(shops: pl.DataFrame) -> pl.DataFrame:
    return shops.with_columns(open=pl.lit(1))
"""


def file_of(p: LocalPlatform, partition: str, asset: str = "dataset:orders") -> Path:
    """Return the one data file of a partition of what is live."""
    version = p.core.versions.get(asset, p.core.versions.live_version("dev", asset))
    (file,) = [f for f in p.core.lake.files(version.locator) if partition in f.partitions]
    return p.core.lake.root / file.path


def live_parts(p: LocalPlatform) -> dict[tuple[str, str], str]:
    """Return the content of each live partition."""
    return {
        (asset, name): part.digest
        for asset, pointer in p.core.versions.live("dev").items()
        for name, part in p.core.versions.parts(asset, pointer.version).items()
    }


def overwrite(path: Path, data: bytes) -> None:
    """Write other bytes into the same file, and put the time of its last change back."""
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(status.st_mode & 0o777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    overwrite(path, bytes(data))


def plant_other_rows(path: Path) -> None:
    """Write a valid file with as many rows."""
    table = pq.read_table(path)
    doubled = table.set_column(
        table.column_names.index("amount"), "amount", pa.array([9e6] * table.num_rows)
    )
    sink = pa.BufferOutputStream()
    pq.write_table(doubled.replace_schema_metadata(table.schema.metadata), sink)
    overwrite(path, sink.getvalue().to_pybytes())


def cut_off(path: Path) -> None:
    overwrite(path, path.read_bytes()[:-100])


def exchange(path: Path) -> None:
    """Swap a file with the other one of its folder."""
    (other,) = [one for one in path.parent.glob("*.parquet") if one != path]
    mine, theirs = path.read_bytes(), other.read_bytes()
    overwrite(path, theirs)
    overwrite(other, mine)


def unlink(path: Path) -> None:
    path.unlink()


ATTACKS: dict[str, Callable[[Path], None]] = {
    "byte": flip_a_byte,
    "other rows": plant_other_rows,
    "cut off": cut_off,
    "swapped": exchange,
    "deleted": unlink,
}


@pytest.fixture
def made(shop: Any, running: Any) -> Any:
    shop.write(BODY)
    with shop.open() as p:
        running(p)
    return shop


def damaged(call: Callable[[], Any]) -> str:
    """Return the message of the error that a call must raise."""
    with pytest.raises((Damaged, StepFailed)) as found:
        call()
    assert found.value.code in ("SX-LAKE-002", "SX-LAKE-003")
    assert found.value.hint
    return str(found.value.message)


@pytest.mark.parametrize("executor", ["inline", "pool"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_file_makes_nothing(made: Any, running: Any, attack: str, executor: str) -> None:
    """Rows that somebody wrote into the lake would be computed with, and go live."""
    with made.open() as p:
        path = file_of(p, "south")
        live = live_parts(p)
    ATTACKS[attack](path)
    made.edit("* 2", "* 3")
    made.edit("pl.lit(1)", "pl.lit(2)")
    with made.open(executor=executor) as p:
        report = running(p, stale=True)
        now = live_parts(p)
        assert now["dataset:doubled", "south"] == live["dataset:doubled", "south"]
        assert now["dataset:opened", "all"] != live["dataset:opened", "all"], "others go on"
        is_alone = attack != "swapped"
        assert (now["dataset:doubled", "north"] != live["dataset:doubled", "north"]) == is_alone
        assert report.state == "failed"
        assert {one.code for one in report.failed} <= {"SX-LAKE-002", "SX-LAKE-003"}
        assert any(path.name in one.error for one in report.failed)
        assert all("dataset:orders@" in one.error and one.hint for one in report.failed)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_file_is_not_shown(made: Any, attack: str) -> None:
    """People, exports and notebooks would be given rows that no run made."""
    with made.open() as p:
        one = Operations(p)
        path = file_of(p, "south")
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        assert one.show("orders", partition="south")["rows"]
        ATTACKS[attack](path)
        for call in (
            lambda: one.rows("orders", form="CSVWithNames"),
            lambda: one.rows("orders", partition="south"),
            lambda: one.show("orders", partition="south"),
            lambda: one.check("orders"),
            lambda: views(p).frame(version),
        ):
            text = damaged(call)
            assert f"dataset:orders@{version.digest[:12]}" in text
        if attack != "swapped":
            assert len(views(p).frame(version, ["north"])) == 100, "other files are read as ever"


def test_a_file_without_a_record_is_read(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of an earlier release could not be opened any more."""
    import msgspec

    with made.open() as p:
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        files = p.core.lake.files(version.locator)
        monkeypatch.setattr(
            p.core.lake,
            "files",
            lambda _locator: tuple(msgspec.structs.replace(f, sha256="") for f in files),
        )
        assert len(views(p).frame(version)) == 200


def test_an_undo_does_not_bring_back_a_changed_file(made: Any, running: Any) -> None:
    """An undo, or a release of an older version, would make live what somebody wrote into it."""
    with made.open() as p:
        path = file_of(p, "south")
        first = p.core.versions.live_version("dev", "dataset:orders")
        made.edit("+ 1.0", "+ 2.0")
        p.core.project.load()
        running(p, stale=True)
        second = p.core.versions.live_version("dev", "dataset:orders")
        assert second != first
        flip_a_byte(path)
        damaged(
            lambda: p.runs.undo(
                "dev", "dataset:orders", by=p.core.authorization.who(), reason="wrong prices"
            )
        )
        damaged(lambda: Operations(p).release("orders", version=first[:12]))
        assert p.core.versions.live_version("dev", "dataset:orders") == second


def test_a_version_that_waits_is_looked_at_when_it_is_approved(made: Any, running: Any) -> None:
    """What was changed while a release waited would go live with the approval."""
    made.write(
        BODY
        + """
reviewers = sx.team("reviewers", members=["bob"])
sx.policy("eyes", when="verb == 'release' && env == 'prod'", then=sx.approval(1, of=reviewers))
"""
    )
    with made.open() as p:
        release = Operations(p).release("orders", source="dev", env="prod")
        assert release.state == "waiting"
        flip_a_byte(file_of(p, "south"))
    with made.open(who="bob") as p:
        done = Operations(p).approve(release.id)
        assert done.state != "live"
        assert p.core.versions.live_version("prod", "dataset:orders") == ""


def metadata_files(p: LocalPlatform) -> dict[str, Path]:
    """Return metadata, manifest list and manifest of what is live of `orders`."""
    version = p.core.versions.get(
        "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
    )
    folder = (p.core.lake.root / version.locator).parent
    (manifest,) = [one for one in folder.glob("*.avro") if ".list." not in one.name]
    (listed,) = folder.glob("*.list.avro")
    return {"state": p.core.lake.root / version.locator, "manifest": manifest, "list": listed}


@pytest.mark.parametrize("which", ["state", "manifest"])
def test_metadata_that_points_elsewhere_is_found(made: Any, running: Any, which: str) -> None:
    """A changed manifest would name other files, and their rows would be taken for the version's."""
    with made.open() as p:
        path = metadata_files(p)[which]
        data = path.read_bytes()
        changed = data[:-1] + b" }"
        if which == "manifest":  # of one partition it says that its rows lie in the other's file
            changed = data.replace(b'"north"', b'"*"').replace(b'"south"', b'"north"')
            changed = changed.replace(b'"*"', b'"south"')
        assert changed != data
        overwrite(path, changed)
    made.edit("* 2", "* 3")
    with made.open() as p:
        live = p.core.versions.live_version("dev", "dataset:doubled")
        damaged(lambda: Operations(p).rows("orders"))
        damaged(lambda: running(p, stale=True))
        assert p.core.versions.live_version("dev", "dataset:doubled") == live


def test_merged_files_are_recorded_and_a_changed_one_is_not_merged(made: Any) -> None:
    """Merging small files would launder a changed one: its rows would get a digest of their own."""
    with made.open() as p:
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        table = "dataset.orders"
        files = p.core.lake.files(version.locator)
        assert all(f.sha256 for f in files)
        rows = views(p).table(version, ["south"])
        from sextant.stores.lake import frames

        locator = version.locator
        for number in range(3):
            parts = frames.arrange([("south", rows.slice(number * 10, 10))])
            outs = frames.write_many(
                parts, root=p.core.lake.root, staging=f"{table}/data/x{number}", grain="static"
            )
            locator = p.core.lake.commit(
                table,
                locator,
                add=outs[0].files,
                replace=(),
                arrow_schema=rows.schema.serialize().to_pybytes(),
                partitioned="static",
            ).locator
        merged = p.core.lake.compact(table, locator, files_max=1)
        assert merged is not None
        assert all(f.sha256 for f in merged.files)
        p.core.lake.confirm(merged.locator)
        plant_other_rows(p.core.lake.root / outs[0].files[0].path)
        damaged(lambda: p.core.lake.compact(table, locator, files_max=1))


def test_a_copied_project_is_verified_again(made: Any, tmp_path: Path) -> None:
    """What was remembered of the files of one folder would be believed of another's."""
    from sextant.project.config import read_config

    target = tmp_path / "copy"
    shutil.copytree(made.root, target, ignore=shutil.ignore_patterns("copy"))
    with LocalPlatform(read_config(target), executor="inline") as p:
        flip_a_byte(file_of(p, "south"))
        damaged(lambda: Operations(p).rows("orders"))
    with made.open() as p:
        assert pl.read_ndjson(Operations(p).rows("orders", form="JSONEachRow")).height == 200
