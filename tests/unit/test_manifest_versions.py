"""Manifests of other versions: an older one is read, a newer one refused."""

import msgspec
import pytest

from sextant.kernel.errors import ProjectError
from sextant.kernel.nouns import Asset, Manifest, spec_of
from sextant.kinds.dataset.spec import Table, table_spec
from sextant.project.manifests import MANIFEST_VERSION, read_manifest

OLDER = b"""{"project":"shop","tz":"UTC","assets":[
 {"kind":"dataset","name":"kpi_total","table":{"key":["shop"],"public":["value"]},"measure":{"of":"x","sql":"y"},
  "build":{"code":{"language":"sql","entry":"kpi:total","file":"ops.py"},"lineage":{"columns":{"value":[]}}}},
 {"kind":"kpi","name":"total","measure":{"of":"x","sql":"y"}}]}"""


def test_an_older_manifest_is_read() -> None:
    """An upgrade would lose what a project declared while its newest edit is broken."""
    values, metric, project = read_manifest(OLDER).assets
    assert project.id == "project:shop"
    table = table_spec(values)
    assert (table.key, table.public, values.defined_by) == (("shop",), ("value",), metric.id)
    assert table.lineage is not None
    assert msgspec.json.decode(metric.spec) == {"of": "x", "sql": "y"}


def test_a_manifest_of_today_is_read_back() -> None:
    asset = Asset(kind="dataset", name="a", spec=spec_of(Table(key=("id",))))
    today = Manifest(project="p", tz="UTC", assets=(asset,), v=MANIFEST_VERSION)
    assert read_manifest(msgspec.json.encode(today)) == today


def test_a_newer_manifest_is_refused() -> None:
    """A downgrade would read half of what a project declares and act by it."""
    newer = msgspec.json.encode({"project": "p", "tz": "UTC", "v": MANIFEST_VERSION + 1})
    with pytest.raises(ProjectError, match="reads versions up to"):
        read_manifest(newer)
