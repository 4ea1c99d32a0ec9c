"""`doctor --data` and backups: every byte of the lake against what was recorded, and every row
against the ledger."""

from sextant.kernel.nouns import SYSTEM
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shop_project import Shop, run
from test_changed_bytes import (
    ATTACKS,
    BODY,
    damaged,
    file_of,
    flip_a_byte,
    metadata_files,
    overwrite,
    plant_other_rows,
)

from sextant.app.backup import create, restore, verify
from sextant.app import data_check
from sextant.app.operations import Operations

from sextant.kernel.errors import Damaged
from sextant.kernel.ports import Write
from sextant.ledger.projections import VersionRelocated
from sextant.stores import verified
from sextant.stores.lake import frames, iceberg, manifests


@pytest.fixture(params=["sqlite", "postgres"])
def made(shop: Shop, request: pytest.FixtureRequest) -> Shop:
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        schema = request.getfixturevalue("postgres_schema")
        shop.toml(f'module = "ops"\nenvironment = "dev"\nstate = "{server}"\nschema = "{schema}"\n')
    return filled(shop)


def filled(shop: Shop) -> Shop:
    shop.write(BODY)
    with shop.open() as p:
        run(p)
    return shop


@pytest.fixture
def unrecorded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Give a project as an earlier release wrote it: no digest of any file stands anywhere."""
    with monkeypatch.context() as older:
        plain, write, write_list = frames.store, manifests.write, manifests.write_list
        older.setattr(
            frames,
            "store",
            lambda *args, **more: msgspec.structs.replace(plain(*args, **more), sha256=""),
        )
        older.setattr(
            iceberg,
            "write",
            lambda *args, **more: msgspec.structs.replace(write(*args, **more), sha256=""),
        )
        older.setattr(iceberg, "write_list", lambda *args, **more: write_list(*args, **more)[:0])
        older.setattr(iceberg.IcebergLake, "_name", _named_as_before)
        return filled(shop)


def _named_as_before(
    lake: iceberg.IcebergLake, folder: str, number: int, metadata: dict[str, Any]
) -> str:
    locator = f"{folder}/{number:05d}-{lake._ids.new('state')}.metadata.json"
    (lake.root / locator).write_bytes(msgspec.json.encode(metadata))
    return locator


def test_a_whole_project_has_no_finding(made: Shop) -> None:
    """People would stop looking at a check that cries."""
    with made.open() as p:
        size = len(Operations(p).events(limit=1000).items)
        done = Operations(p).check_data()
        assert (done["findings"], done["notes"], done["recorded"]) == ([], [], 0)
        # four of tables, and that of the project
        assert (done["versions"], done["partitions"]) == (5, 6)
        assert done["files"] == 4 * 3 + 6 * 2, "state, list, manifest, data files and profiles"
        assert len(Operations(p).events(limit=1000).items) == size, "it writes nothing then"


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_changed_file_is_found(made: Shop, attack: str) -> None:
    """A file that nobody reads could be changed for good."""
    with made.open() as p:
        path = file_of(p, "south")
        ATTACKS[attack](path)
        for _ in range(2):
            done = Operations(p).check_data()
            found = {one["file"]: one for one in done["findings"]}
            mine = found[str(path.relative_to(p.core.lake.root))]
            assert (mine["asset"], mine["partitions"]) == ("dataset:orders", "south")
            assert len(found) == (2 if attack == "swapped" else 1)
        signals = Operations(p).signals(kind="data.damaged", open_only=True).items
        assert [one["asset"] for one in signals] == ["dataset:orders"], "one, however often"


@pytest.mark.parametrize("which", ["state", "manifest", "list"])
def test_changed_metadata_is_found(made: Shop, which: str) -> None:
    """Other tools read the lake by its metadata, and would read other files."""
    with made.open() as p:
        path = metadata_files(p)[which]
        overwrite(path, path.read_bytes()[:-1] + b"\n")
        done = Operations(p).check_data()
        assert len(done["findings"]) == 1
        finding = done["findings"][0]
        assert path.name in finding["file"] + finding["found"]


def test_what_was_remembered_is_not_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can set the machine's clock could give a changed file its old times."""
    filled(shop)
    with shop.open() as p:
        path = file_of(p, "south")
        monkeypatch.setattr(verified.Verified, "holds", lambda _self, _mark: True)
        flip_a_byte(path)
        assert len(Operations(p).check_data()["findings"]) == 1


def test_files_of_an_earlier_release_are_recorded_once(unrecorded: Shop) -> None:
    """Old data would stay without protection for ever, or be refused for the lack of it."""
    with unrecorded.open() as p:
        one = Operations(p)
        before = one.rows("orders", form="CSVWithNames")
        path = file_of(p, "south")
        ledger = len(one.events(limit=1000).items)
        done = one.check_data()
        assert (done["findings"], done["recorded"]) == ([], 6)
        events = one.events(limit=1000).items
        written = [entry["type"] for entry in events[: len(events) - ledger]]
        assert written == ["version.relocated"] * 4
        assert one.check_data()["recorded"] == 0
        assert one.rows("orders", form="CSVWithNames") == before
        assert one.verify()["ok"], "the projections follow from the ledger"
        assert file_of(p, "south") == path, "no data was written"
        flip_a_byte(path)
        damaged(lambda: one.rows("orders"))


def test_rows_that_are_not_the_versions_get_no_record(unrecorded: Shop) -> None:
    """A file that was changed before the upgrade would be recorded as right."""
    with unrecorded.open() as p:
        path = file_of(p, "south")
        plant_other_rows(path)
        done = Operations(p).check_data()
        (finding,) = done["findings"]
        assert (finding["partitions"], done["recorded"]) == ("south", 4), "none of that state"
        assert "are not those of the version" in finding["found"]
        assert len(Operations(p).check_data()["findings"]) == 1, "also the next time"


def test_rows_of_a_partition_that_is_not_there_are_found(unrecorded: Shop) -> None:
    """Rows could be added under a label that no check looks at."""
    with unrecorded.open() as p:
        path = file_of(p, "south")
        table = pq.read_table(path)
        path.chmod(0o600)
        more = table.set_column(
            table.column_names.index("_partition"), "_partition", [["west"] * table.num_rows]
        )
        pq.write_table(pa.concat_tables([table, more.cast(table.schema)]), path)
        found = [one["found"] for one in Operations(p).check_data()["findings"]]
        assert any("holds rows of a partition" in text for text in found)


def test_merged_files_under_more_columns_are_no_finding(shop: Shop) -> None:
    """A column that was added later is null in old rows, and their digest is of the rows without
    it."""
    shop.write(BODY)
    with shop.open() as p:
        run(p)
        shop.edit('"id": list(range(100)),', '"id": list(range(100)), "new": [1] * 100,')
        p.core.project.load()
        run(p, "dev", "dataset:orders", partitions=("north", "north"), stale=True)
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        assert "new" in dict(version.schema)
        # the whole table is rewritten under the new columns
        files = p.core.lake.files(version.locator)
        (south,) = [one for one in files if "south" in one.partitions]
        state, change = p.core.lake._load(version.locator), iceberg._Change(operation="replace")
        change.dropped.add(south.path)
        p.core.lake._rewrite("dataset.orders", [south], ["south"], state.schema, change)
        moved = p.core.lake._write(
            "dataset.orders",
            state,
            change,
            grain="static",
            schema=state.schema,
            last_id=state.metadata["last-column-id"],
            properties={},
        )
        p.core.state.commit(
            Write(
                (),
                (
                    p.core.events.make(
                        "version.relocated",
                        f"dataset:orders@{version.digest}",
                        VersionRelocated("dataset:orders", version.digest, moved.locator),
                        SYSTEM,
                        "",
                    ),
                ),
            )
        )
        assert pq.read_schema(file_of(p, "south")).get_field_index("new") >= 0
        done = Operations(p).check_data()
        assert (done["findings"], done["notes"]) == ([], [])


def test_a_key_that_was_declared_later_is_no_finding(shop: Shop) -> None:
    """Rows are hashed in the order of the key that the asset had when they were made."""
    shop.write(BODY)
    with shop.open() as p:
        run(p)
        shop.edit('key="id")\ndef orders', 'key="amount")\ndef orders')
        p.core.project.load(record=True)
        assert Operations(p).check_data()["findings"] == []


# ---------------------------------------------------------------- backups


def test_a_backup_of_changed_files_says_so(made: Shop, tmp_path: Path) -> None:
    """The list of a backup proves only what was copied: a changed file would be backed up as
    good."""
    with made.open() as p:
        path = file_of(p, "south")
        flip_a_byte(path)
        done = create(p.core, p.sealing, tmp_path / "backup")
        assert len(done["damaged"]) == 1
        assert path.name in done["damaged"][0]
        assert "dataset:orders@" in done["damaged"][0]
        found = verify(tmp_path / "backup")
        assert (found["ok"], found["findings"]) == (False, [])
        assert found["damaged"] == done["damaged"]


def test_what_was_damaged_before_a_backup_does_not_bar_the_way_back(
    shop: Shop, tmp_path: Path
) -> None:
    """One changed file of an old version would make every later backup useless."""
    filled(shop)
    with shop.open() as p:
        path = file_of(p, "south")
        flip_a_byte(path)
        create(p.core, p.sealing, tmp_path / "backup")
    target = tmp_path / "restored"
    target.mkdir()
    for name in ("ops.py", "sextant.toml"):
        shutil.copy2(shop.root / name, target / name)
    assert len(restore(tmp_path / "backup", target)["damaged"]) == 1
    with Shop(target).open() as p:
        damaged(lambda: Operations(p).rows("orders"))
        assert Operations(p).rows("shops")


def test_a_backup_whose_list_was_changed_too_is_found(made: Shop, tmp_path: Path) -> None:
    """Who can write the backup can write its list: only the signed ledger in it cannot be made to
    fit."""
    with made.open() as p:
        name = f"lake/{file_of(p, 'south').relative_to(p.core.lake.root)}"
        folder = tmp_path / "backup"
        assert create(p.core, p.sealing, folder)["damaged"] == []
    assert verify(folder)["ok"]
    plant_other_rows(folder / name)
    assert verify(folder)["findings"] == [f"`{name}` was changed"]
    listing = json.loads((folder / "backup.json").read_bytes())
    listing["files"][name] = verified.digest_of(str(folder / name))[0]
    (folder / "backup.json").write_text(json.dumps(listing))
    found = verify(folder)
    assert not found["ok"]
    assert name in found["damaged"][0]


def test_a_changed_blob_of_a_backup_is_found(shop: Shop, tmp_path: Path) -> None:
    """The code that runs made would be another one after the way back."""
    filled(shop)
    with shop.open() as p:
        create(p.core, p.sealing, tmp_path / "backup")
    folder = tmp_path / "backup"
    blob = next(one for one in (folder / "blobs").rglob("*") if one.is_file())
    flip_a_byte(blob)
    listing = json.loads((folder / "backup.json").read_bytes())
    name = blob.relative_to(folder).as_posix()
    listing["files"][name] = verified.digest_of(str(blob))[0]
    (folder / "backup.json").write_text(json.dumps(listing))
    assert verify(folder)["damaged"] == [f"`{name}` is not what was written"]


def test_merging_after_a_run_leaves_a_changed_file_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would fail after it has published, because an old file was changed."""
    from sextant.kinds.dataset import made

    filled(shop)
    with shop.open() as p:
        flip_a_byte(file_of(p, "south"))
        monkeypatch.setattr(made, "_MERGED_FILES", 1)

        def refuse(*_args: Any, **_more: Any) -> Any:
            raise Damaged("SX-LAKE-003", "a file is not what was written", hint="restore it")

        monkeypatch.setattr(p.core.lake, "compact", refuse)
        shop.edit("pl.lit(1)", "pl.lit(2)")
        p.core.project.load()
        assert run(p, "dev", "dataset:opened", stale=True).state == "finished"
        signals = Operations(p).signals(kind="data.damaged", open_only=True).items
        assert [one["asset"] for one in signals] == ["dataset:opened"]


def test_a_file_that_is_exchanged_after_it_was_hashed_is_a_finding(
    unrecorded: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of one file would prove the digest of another."""
    with unrecorded.open() as p:
        path = file_of(p, "south")
        true = path.read_bytes()
        plant_other_rows(path)
        planted = path.read_bytes()
        plain = pq.read_table

        def read_table(place: str, *args: Any, **more: Any) -> Any:
            if place != str(path):
                return plain(place, *args, **more)
            overwrite(path, true)
            rows = plain(place, *args, **more)
            overwrite(path, planted)
            return rows

        monkeypatch.setattr(pq, "read_table", read_table)
        done = Operations(p).check_data()
        assert [one["partitions"] for one in done["findings"]] == ["south"]
        assert done["recorded"] == 4


@pytest.mark.parametrize("which", ["state", "manifest"])
def test_metadata_that_changes_before_it_is_recorded_gets_no_record(
    unrecorded: Shop, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Digests would vouch for metadata that nobody has checked."""
    with unrecorded.open() as p:
        path = metadata_files(p)[which]
        data = path.read_bytes()
        # as long, and still readable
        changed = (
            data.replace(b'"operation":"append"', b'"operation":"delete"')
            if which == "state"
            else data.replace(path.parents[1].name.encode(), b"x" * len(path.parents[1].name))
        )
        assert changed != data
        plain = data_check._Check.record

        def record(check: Any, by: Any) -> int:
            overwrite(path, changed)
            return plain(check, by)

        monkeypatch.setattr(data_check._Check, "record", record)
        done = Operations(p).check_data()
        (finding,) = done["findings"]
        assert (finding["asset"], done["recorded"]) == ("dataset:orders", 4)
        version = p.core.versions.get(
            "dataset:orders", p.core.versions.live_version("dev", "dataset:orders")
        )
        assert path.exists()
        assert "-" in version.locator
        assert not iceberg._digest_in(version.locator), "the old state stays what it is"


def test_a_backup_says_which_body_it_lacks(shop: Shop, tmp_path_factory: Any) -> None:
    """If this fails, the files of a version of the project are lost, and the backup of that looks
    whole; or each body that is a blob looks damaged."""
    filled(shop)
    folder = tmp_path_factory.mktemp("backups")
    with shop.open() as p:
        version = p.core.project.folder_version()
        packed = p.core.project.versions.version("shop", version).packed
        create(p.core, p.sealing, folder / "whole")
        p.core.blobs.delete(packed)
        create(p.core, p.sealing, folder / "lacks")
    assert verify(folder / "whole")["ok"]
    assert f"project:shop@{version[:12]} lacks its body" in verify(folder / "lacks")["damaged"]
