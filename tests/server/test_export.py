"""Rows that are taken out: by the API, by the command, and into notebooks - here and at a server,
the same."""

from seen import views
import io
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from served import Serving, serve
from shop_project import Shop

import sextant as sx
from sextant.kinds.dataset import export
from sextant.app.notebook import Opened
from sextant.cli.main import call
from sextant.kernel.errors import NotFound, UsageError, UserError

_OPS = """
import datetime as dt
from decimal import Decimal

@sx.dataset(partition=days, key="id", personal=["email"])
def orders(day: sx.Partition) -> pl.DataFrame:
    return pl.DataFrame({
        "id": [f"{day.key}-{n}" for n in range(3)], "amount": [1.5, None, FACTOR * 2.0], "at": [day.start] * 3, "day": [day.date] * 3,
        "price": [Decimal("1.10"), Decimal("2.20"), None], "email": ["a@x", "b@x", "c@x"], "tags": [["a"], [], ["b", "c"]],
    })

total = sx.kpi("total", of=orders, measure="sum(amount)", grain="")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Give a project that has run twice: the second version differs."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("export")
    for name in ("CONFIG", "STATE"):
        patch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
    patch.setenv("SEXTANT_USER", "ann")
    patch.delenv("SEXTANT_SERVER", raising=False)
    (folder / "shop").mkdir()
    one = Shop(folder / "shop")
    patch.chdir(one.root)
    for factor in ("1", "10"):
        one.write(_OPS.replace("FACTOR", factor))
        assert call(["run"] if factor == "1" else ["backfill", "orders", "--stale"]) == 0
    yield one
    patch.undo()


@pytest.fixture(scope="module")
def serving(shop: Shop) -> Iterator[Serving]:
    with shop.open() as platform, serve(platform) as one:
        yield one


@pytest.fixture(params=["here", "there"])
def opened(request: pytest.FixtureRequest, shop: Shop, serving: Serving) -> Iterator[Opened]:
    with (
        sx.open(shop.root)
        if request.param == "here"
        else sx.open(serving.url, token=serving.token("admin")) as one
    ):
        yield one


def test_frames(opened: Opened) -> None:
    """If this fails, a notebook does not get what is live."""
    frame = opened.data("orders", frame="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["id", "amount", "at", "day", "price", "email", "tags"]
    assert len(frame) == 12
    assert frame["amount"].sum() == 4 * 21.5
    assert str(frame["at"].dtype).endswith("UTC]")
    assert opened.data("orders").height == 12
    arrow = opened.data(
        "dataset:orders", partition="2026-01-02", columns=["amount", "id"], frame="pyarrow"
    )
    assert arrow.column_names == ["amount", "id"]
    assert arrow["id"].to_pylist() == ["2026-01-02-0", "2026-01-02-1", "2026-01-02-2"]
    assert opened.data("kpi_total", frame="polars").height == 1


def test_as_of(opened: Opened, serving: Serving) -> None:
    """If this fails, nobody can look again at what a number was made from."""
    older = views(serving.platform).versions("dev", "orders").items[-1]
    assert opened.data("orders", as_of=older["version"][:12])["amount"].sum() == 4 * 3.5
    assert opened.data("orders", as_of="2100-01-01")["amount"].sum() == 4 * 21.5
    with pytest.raises(NotFound):
        opened.data("orders", as_of="2001-01-01")


def test_what_is_not_there(opened: Opened) -> None:
    for wrong, code in (
        (lambda: opened.data("ordesr"), "SX-PLAN-"),
        (lambda: opened.data("orders", partition="2026-01-09"), "SX-"),
        (lambda: opened.data("orders", columns=["nope"]), "SX-LAKE-009"),
        (lambda: opened.data("orders", env="prod"), "SX-VERSION-004"),
        (lambda: opened.data("kpi:total"), "SX-EXPORT-002"),
        (lambda: opened.data("orders", frame="excel"), "SX-EXPORT-007"),
        (lambda: opened.platform.rows("orders", form="XML"), "SX-EXPORT-001"),
        (lambda: opened.platform.rows("orders", form="CSVWithNames"), "SX-EXPORT-004"),
    ):
        with pytest.raises(UserError) as error:
            wrong()
        assert error.value.code.startswith(code), error.value.code


def test_every_form(opened: Opened) -> None:
    def rows(form: str, **more: Any) -> bytes:
        return opened.platform.rows("orders", form=form, partition="2026-01-01", **more)

    found = json.loads(rows("JSON"))
    assert found[0] == {
        "id": "2026-01-01-0",
        "amount": 1.5,
        "at": "2026-01-01T00:00:00Z",
        "day": "2026-01-01",
        "price": "1.10",
        "email": "a@x",
        "tags": ["a"],
    }
    assert [json.loads(line) for line in rows("JSONEachRow").splitlines()] == found
    assert pq.read_table(io.BytesIO(rows("Parquet"))).num_rows == 3
    table = pa.ipc.open_file(rows("Arrow")).read_all()
    assert table.equals(pa.ipc.open_stream(rows("ArrowStream")).read_all())
    assert pl.read_csv(rows("CSVWithNames", columns=["id", "amount"])).rows()[1] == (
        "2026-01-01-1",
        None,
    )


def test_personal_columns_are_for_administrators_and_the_folder(
    serving: Serving, shop: Shop
) -> None:
    """If this fails, addresses of customers leave by the API."""
    with sx.open(serving.url, token=serving.token("viewer")) as viewer:
        assert "email" not in viewer.data("orders").columns
        with pytest.raises(UsageError, match="no column `email`"):
            viewer.data("orders", columns=["email"])
    with sx.open(shop.root) as here:
        assert "email" in here.data("orders").columns


def test_what_is_too_large_is_not_held_for_others(
    serving: Serving, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "EXPORT_BYTES_MAX", 10)
    with (
        sx.open(serving.url, token=serving.token("admin")) as there,
        pytest.raises(UsageError, match="larger than"),
    ):
        there.data("orders")
    with sx.open(shop.root) as here:
        assert len(here.data("orders")) == 12


def test_by_http(serving: Serving) -> None:
    import urllib.request

    request = urllib.request.Request(
        f"{serving.url}/api/v1/assets/orders/rows?form=Parquet&columns=id&columns=amount",
        headers={"Authorization": f"Bearer {serving.token('viewer')}"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert pq.read_table(io.BytesIO(answer.read())).column_names == ["id", "amount"]


def test_the_command(
    shop: Shop,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert call(["export", "orders", "--partition", "2026-01-01", "--column", "id"]) == 0
    here = capfdbinary.readouterr().out
    assert here.splitlines()[0] == b'{"id":"2026-01-01-0"}'
    assert call(["export", "orders", "-o", "orders.parquet"]) == 0
    assert pq.read_table(shop.root / "orders.parquet").num_rows == 12
    monkeypatch.setenv("SEXTANT_SERVER", serving.url)
    monkeypatch.setenv("SEXTANT_TOKEN", serving.token("operator"))
    assert call(["export", "orders", "--partition", "2026-01-01", "--column", "id"]) == 0
    assert capfdbinary.readouterr().out == here
    with sx.open() as there:  # the same server, for a notebook
        assert "email" not in there.data("orders").columns


def test_pandas_is_not_needed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, somebody without pandas gets a traceback instead of a way out."""

    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'pandas'")

    import sextant.app.notebook as notebook

    class Table:
        to_pandas = missing

    class Stream:
        def read_all(self) -> Table:
            return Table()

    monkeypatch.setattr(pa.ipc, "open_stream", lambda _data: Stream())
    with pytest.raises(UsageError, match="pandas is not installed"):
        notebook._framed(b"", "pandas")
