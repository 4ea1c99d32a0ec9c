"""Personal columns of versions: older ones, retired ones, and what a project says of them."""

from seen import views
from typing import Any

import msgspec
import pytest
from shop_project import Shop, run

from sextant.kernel.nouns import spec_of
from sextant.kinds.dataset.spec import table_spec
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.errors import Denied, NotFound, ProjectError
from sextant.kernel.nouns import Principal

PEOPLE = """
@sx.dataset(key="id"PERSONAL)
def people() -> pl.DataFrame:
    return pl.DataFrame({"id": [1], "name": ["Zq7uAnne"], "city": ["Oslo"]})
"""
MARKED = PEOPLE.replace("PERSONAL", ', personal="name"')
PLAIN = PEOPLE.replace("PERSONAL", "")
COPY = """
@sx.dataset(PUBLIC)
def copy(people: pl.DataFrame) -> pl.DataFrame:
    return people.select("id", label="name")
"""


def _viewer(p: LocalPlatform) -> Operations:
    return Operations(p, Principal(name="eve", role="viewer"))


def _rows(p: LocalPlatform, asset: str, **more: Any) -> Any:
    return msgspec.json.decode(_viewer(p).rows(asset, **more))


def test_a_mark_hides_what_was_made_before(shop: Shop) -> None:
    """If this fails, only versions that are made from now on are safe."""
    shop.write(PLAIN + COPY.replace("PUBLIC", ""))
    with shop.open() as p:
        run(p)
        assert _rows(p, "copy") == [{"id": 1, "label": "Zq7uAnne"}]
        shop.write(MARKED + COPY.replace("PUBLIC", ""))
        p.core.project.load()
        assert _rows(p, "copy") == [{"id": 1}]
        assert _viewer(p).plan().personal == {"dataset:copy": ("label",)}
        assert _viewer(p).show("copy")["sample"] == [{"id": 1, "label": "***"}]


def test_public_is_seen_and_recorded(shop: Shop) -> None:
    """If this fails, somebody opens a column and nobody can tell who and when."""
    shop.write(MARKED + COPY.replace("PUBLIC", ""))
    with shop.open() as p:
        run(p)
        shop.write(MARKED + COPY.replace("PUBLIC", 'public=["label"]'))
        p.core.project.load()
        assert _rows(p, "copy") == [{"id": 1, "label": "Zq7uAnne"}]
        facts = _viewer(p).show("copy")
        assert (facts["personal"], facts["public"]) == ([], ["label"])
        newest = _viewer(p).events(subject="dataset:copy", type="asset.declared").items[0]
        assert newest["data"]["asset"]["spec"]["public"] == ["label"]
        assert _viewer(p).plan().personal == {}


def test_versions_of_a_retired_dataset_stay_hidden(shop: Shop) -> None:
    """If this fails, taking a dataset out of the project opens what is kept of it."""
    shop.write(MARKED + COPY.replace("PUBLIC", ""))
    with shop.open() as p:
        run(p)
        digests = {id_: p.core.versions.live_version("dev", id_) for id_ in _both()}
        shop.write(
            "@sx.dataset()\ndef other() -> pl.DataFrame:\n    return pl.DataFrame({'n': [1]})"
        )
        p.core.project.load()
        personal = p.runs.personal()
        assert [personal.of_digest(id_, digests[id_]) for id_ in _both()] == [("name",), ("label",)]


def _both() -> tuple[str, str]:
    return "dataset:people", "dataset:copy"


def test_code_that_no_longer_reads_people(shop: Shop) -> None:
    """If this fails, changing a function opens what the older one made."""
    other = "@sx.dataset()\ndef other() -> pl.DataFrame:\n    return pl.DataFrame({'id': [1], 'label': ['a']})\n"
    shop.write(MARKED + other + COPY.replace("PUBLIC", ""))
    with shop.open() as p:
        run(p)
        old = p.core.versions.live_version("dev", "dataset:copy")
        shop.write(
            MARKED
            + other
            + "\n@sx.dataset()\ndef copy(other: pl.DataFrame) -> pl.DataFrame:\n    return other"
        )
        p.core.project.load()
        run(p, "dev", stale=True)
        assert _rows(p, "copy") == [{"id": 1, "label": "a"}]
        with pytest.raises(Denied, match="all columns"):
            _rows(p, "copy", as_of=old[:12])


def test_a_manifest_that_follows_no_columns_hides_all_of_a_query(shop: Shop) -> None:
    """If this fails, an upgrade opens queries until the project is loaded again."""
    (shop.root / "q.sql").write_text("select id, name as label from people")
    shop.write(MARKED + 'sx.sql("q.sql")\n')
    with shop.open() as p:
        run(p)
        assert _rows(p, "q") == [{"id": 1}]
        assets = tuple(
            msgspec.structs.replace(
                one, spec=spec_of(msgspec.structs.replace(table_spec(one), lineage=None))
            )
            for one in p.core.project.manifest().assets
        )
        older = {"assets": assets, "bundle": "of an older Sextant"}
        p.core.project._manifest = msgspec.structs.replace(p.core.project.manifest(), **older)
        with pytest.raises(Denied, match="all columns"):
            _rows(p, "q")


def test_checks_mask_what_is_made_of_personal_columns(shop: Shop) -> None:
    """If this fails, the evidence of a check keeps values of people."""
    checks = 'checks=[sx.accepted_values("label", ["x"], severity="warn"), sx.sql_check("odd", "select label as culprit from this", severity="warn")]'
    shop.write(MARKED + COPY.replace("PUBLIC", checks))
    with shop.open() as p:
        run(p)
        found = views(p).checks(asset="dataset:copy").items
        assert len(found) == 2
        assert all(one["samples"] for one in found)
        said = b"".join(p.core.blobs.get(one["samples"]) for one in found)
        assert b"***" in said
        assert b"Zq7u" not in said + msgspec.json.encode(found)


def test_nothing_personal_costs_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, projects without personal columns follow every query, or lose sight."""
    (shop.root / "q.sql").write_text("select id, name as label from people")
    shop.write(PLAIN + 'sx.sql("q.sql")\n')
    monkeypatch.setattr("sextant.kinds.dataset.declarations.assets.lineage", None)
    with shop.open() as p:
        run(p)
        assert p.runs.personal().guarded == frozenset()
        assert _rows(p, "q") == [{"id": 1, "label": "Zq7uAnne"}]
        assert _viewer(p).plan().personal == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (MARKED.replace('"name")', '"name", public=["NAME"])'), "both personal and public"),
        (PLAIN + 'sx.kpi("n", of=people, measure="count(*)", grain="", public=["x"])', "no column `x`"),
    ],
)  # fmt: skip
def test_what_cannot_be_public_is_refused(shop: Shop, body: str, message: str) -> None:
    """If this fails, a personal column is opened by a slip."""
    shop.write(body)
    with pytest.raises(ProjectError, match=message), shop.open():
        pass


def test_failing_rows_are_masked_and_nobody_else_gets_them(shop: Shop) -> None:
    """If this fails, the evidence of a check shows a person's data, or any stored bytes, to whoever
    knows or guesses a digest."""
    checked = MARKED.replace("@sx.dataset(", '@sx.dataset(checks=[sx.between("id", 5, 9)], ', 1)
    plain = (
        "@sx.dataset(checks=[sx.between('n', 5, 9, severity='warn')])\n"
        "def plain() -> pl.DataFrame:\n    return pl.DataFrame({'n': [1, 7]})\n"
    )
    shop.write(
        checked.replace('sx.between("id", 5, 9)', 'sx.between("id", 5, 9, severity="warn")') + plain
    )
    with shop.open() as p:
        run(p)
        mine, viewer = Operations(p), _viewer(p)
        (people,) = [one for one in mine.check("people") if not one.ok]
        (found,) = mine.failing_rows("people", people.samples)["rows"]
        assert found["name"] == "***"
        (other,) = [one for one in viewer_checks(viewer) if one.get("samples")]
        assert other["asset"] == "dataset:plain"
        assert viewer.failing_rows("plain", other["samples"])["rows"] == [{"n": 1}]
        manifest = p.core.project.digest
        for asset, sample in (
            ("people", people.samples),
            ("plain", people.samples),
            ("plain", manifest),
            ("plain", "%"),
            ("plain", ""),
        ):
            with pytest.raises(NotFound):
                viewer.failing_rows(asset, sample)


def viewer_checks(viewer: Operations) -> list[dict[str, Any]]:
    return list(viewer.checks(failed=True).items)
