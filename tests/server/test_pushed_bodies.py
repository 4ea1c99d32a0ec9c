"""Bodies of pushed rows: every form comes to the same rows; what cannot be taken is named by row, and
nothing that unpacks to gigabytes is unpacked."""

from sextant.kernel.nouns import SYSTEM
import json
import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from arrow_bodies import packed
from served import Serving, serve
from shop_project import Shop, run
from test_api import ask

from sextant.kinds.dataset import inbox
from sextant.app.keeping import collect
from sextant.app.operations import Operations
from sextant.app.remote import connect
from sextant.kinds.dataset import streams
from sextant.kinds.dataset import columnar
from sextant.kinds.dataset import bodies
from sextant.formats import arrow, parquet
from sextant.kernel.clock import NS, ManualClock
from sextant.kernel.errors import BadData, BadRows, ProjectError, SextantError, UsageError
from sextant.kernel.limits import BAD_ROWS_SHOWN_MAX

OPS = """
prices = sx.stream("prices", columns={"id": "string", "at": "timestamptz", "price": "decimal(9,2)"}, key="id", time="at", partition=days)
notes = sx.stream("notes", columns={"text": "string", "n": "float64"})
"""
PATH = "/api/v1/datasets/prices/rows"
ROWS = [
    {"id": "a", "at": "2026-01-01T08:00:00Z", "price": 1.1},
    {"id": "b", "at": "2026-01-02T08:00:00Z", "price": 20},
    {"id": "gone", "at": "2026-01-02T08:00:00Z", "price": 3},
    {"id": "gone", "_deleted": True},
]


@pytest.fixture
def serving(shop: Shop) -> Iterator[Serving]:
    shop.write(OPS)
    with shop.open() as platform, serve(platform) as one:
        yield one


def table() -> pa.Table:
    return pa.table(
        {
            "id": pa.array(["a", "b", "gone", "gone"]).dictionary_encode(),
            "at": pa.array([1767254400, 1767340800, 1767340800, None], pa.timestamp("s", "UTC")),
            "price": pa.array(["1.1", "20", "3", None]).cast(pa.decimal128(12, 4)),
            "_deleted": [None, False, False, True],
        }
    )


def body_of(form: str) -> bytes:
    if form == bodies.JSON:
        return json.dumps(ROWS).encode()
    if form == bodies.LINES:
        return "\n\n".join(map(json.dumps, ROWS)).encode()
    return packed(table(), form, compression="zstd")


@pytest.mark.parametrize("form", bodies.CONTENT_TYPES)
def test_every_form_comes_to_the_same_rows(serving: Serving, form: str) -> None:
    """If this fails, the same rows are other rows when they come in another form."""
    p = serving.platform
    answer = ask(
        serving,
        "POST",
        f"{PATH}?batch=b1",
        token=serving.token("operator", teams=("ops",)),
        body=body_of(form),
        Content_Type=f"{form}; charset=utf-8" if form == bodies.JSON else form,
    )
    assert (answer.status, answer.json["rows"], answer.json["batch"]) == (200, 4, "b1")
    run(p)
    shown = Operations(p).show("prices")["sample"]
    assert sorted((one["id"], str(one["price"])) for one in shown) == [
        ("a", "1.10"),
        ("b", "20.00"),
    ]


def test_a_request_that_is_not_rows_is_refused(serving: Serving) -> None:
    """If this fails, a body is taken for another one, or an error of the sender for one of ours."""
    token = serving.token("operator", teams=("ops",))
    for query, body, headers, code in (
        ("", b"id,price", {"Content_Type": "text/csv"}, "SX-STREAM-024"),
        ("", b"\x1f\x8b", {"Content_Encoding": "gzip"}, "SX-API-018"),
        ("", b'[{"id": "a"}', {}, "SX-STREAM-026"),
        ("", b'{"rows": [], "colour": 1}', {}, "SX-STREAM-026"),
        ("", b'{"rows": [{"id": "\\ud800"}], "colour": 1}', {}, "SX-STREAM-026"),
        ("", b"", {}, "SX-STREAM-026"),
        ("", b'{"rows": []}', {}, "SX-STREAM-012"),
        ("?batch=a", b'{"rows": [{"id": "a"}], "batch": "b"}', {}, "SX-STREAM-027"),
        ("", b"PAR1PAR1", {"Content_Type": bodies.PARQUET}, "SX-STREAM-030"),
        ("", b"ARRO", {"Content_Type": bodies.ARROW_FILE}, "SX-STREAM-030"),
    ):
        answer = ask(serving, "POST", PATH + query, token=token, body=body, **headers)
        assert (answer.status in (400, 422), answer.json["code"]) == (True, code), (body, code)
    assert not serving.platform.core.state.read("inbox_waits")


def test_all_bad_rows_are_named_and_none_is_taken(serving: Serving) -> None:
    """If this fails, a sender learns of its bad rows one request at a time."""
    rows: list[Any] = [dict(ROWS[0], id=f"r{n}") for n in range(60)]
    for n in range(10, 50):
        rows[n]["price"] = "dear"
    rows[3] = 5
    rows[7]["colour"] = "red"
    rows[9]["at"] = "2020-01-01T00:00:00Z"
    rows[8]["at"] = "0033-04-03T00:00:00Z"
    rows[55]["at"] = None
    token = serving.token("operator", teams=("ops",))
    raw = json.dumps({"batch": "b1", "rows": rows}).replace('"r57"', '"\\ud800"').encode()
    answer = ask(serving, "POST", PATH, token=token, body=raw)
    assert (answer.status, answer.json["code"]) == (422, "SX-STREAM-010")
    assert answer.json["rows_bad"] == 46
    named = answer.json["rows"]
    assert len(named) == BAD_ROWS_SHOWN_MAX
    assert [(one["row"], one["column"]) for one in named[:5]] == [
        (3, ""),
        (7, "colour"),
        (8, "at"),
        (9, "at"),
        (10, "price"),
    ]
    assert named[4]["reason"] == "text is not decimal(9,2)", "and not the value"
    assert "row 3: " in answer.json["title"]
    there = connect(serving.url, token)
    with pytest.raises(BadRows) as caught:
        there.push("prices", raw)
    there.close()
    assert (caught.value.count, caught.value.rows[1].column) == (46, "colour")
    assert not serving.platform.core.state.read("inbox_waits")


_LONG = pa.array(["x" * 1000])


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (bodies.PARQUET, {"compression": "zstd"}),
        (bodies.PARQUET, {"compression": "zstd", "use_dictionary": False}),
        (bodies.PARQUET, {"compression": "gzip", "data_page_version": "2.0"}),
        (bodies.ARROW_STREAM, {"compression": "zstd"}),
        (bodies.ARROW_FILE, {"compression": "lz4"}),
        (bodies.ARROW_STREAM, {}),
    ],
)
def test_a_small_body_that_unpacks_to_much_is_refused(
    form: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a request of a kilobyte takes the server's memory."""
    monkeypatch.setattr(columnar, "PUSHED_UNPACKED_BYTES_MAX", 1 << 20)
    text = pa.chunked_array([_LONG.take(pa.array([0] * 3000))])
    if not options:
        text = text.dictionary_encode()
    body = packed(pa.table({"text": text}), form, **options)
    assert len(body) < 50_000
    before = pa.total_allocated_bytes()
    with pytest.raises(BadData) as caught:
        columnar.read((("text", "string"),), (), sent(body, form), streams.BadRowList())
    assert caught.value.code == "SX-STREAM-029"
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_damaged_body_harms_nothing() -> None:
    """If this fails, a body in which bytes were changed lets a bomb through, takes the server down,
    or is an error of ours."""
    plain = pa.table({"text": ["x" * 100] * 100, "n": [1.5] * 100})
    columns = (("text", "string"), ("n", "float64"))
    refused = 0
    for form in (bodies.ARROW_STREAM, bodies.ARROW_FILE):
        body = packed(plain, form, compression="zstd")
        for place in range(0, len(body), 3):
            for byte in (0, 255):
                changed = body[:place] + bytes([byte]) + body[place + 1 :]
                try:
                    columnar.read(columns, (), sent(changed, form), streams.BadRowList())
                except SextantError as error:
                    assert error.code.startswith("SX-STREAM-0")
                    refused += 1
    assert refused > 100
    body = packed(plain, bodies.PARQUET, compression="zstd")
    for place in (420, 422):  # these abort the process that reads them
        changed = body[:place] + b"\0" + body[place + 1 :]
        bad = streams.BadRowList()
        with pytest.raises(BadData) as caught:
            bodies.read(columns, (), sent(changed, bodies.PARQUET), bad)
        assert caught.value.code == "SX-STREAM-030"


def sent(body: bytes, form: str) -> bodies.Body:
    return bodies.opened(body, form, batch="", env="")


def test_a_page_and_a_message_say_their_size() -> None:
    """If this fails, the walk over pages or buffers counts something else than what is there."""
    body = packed(
        pa.table({"n": list(range(1000))}), bodies.PARQUET, compression="zstd", use_dictionary=False
    )
    start = body.index(b"PAR1") + 4
    end = len(body) - 8 - parquet.footer_size(body)
    (page,) = parquet.pages(body, start, end - start)
    assert (page.values, page.encoding) == (1000, 0)
    assert 8000 <= page.size < 8100
    for wrong in (body[:60], b"", b"PAR1" + bytes(20)):
        with pytest.raises(ValueError, match="Parquet file"):
            parquet.footer_size(wrong)
    with pytest.raises(ValueError, match="outside"):
        list(parquet.pages(body, start, len(body)))
    stream = packed(pa.table({"n": list(range(1000))}), bodies.ARROW_STREAM, compression="zstd")
    _, message = pa.ipc.MessageReader.open_stream(stream)
    takes = arrow.unpacked(message.metadata.to_pybytes(), message.body.to_pybytes())
    assert (takes.rows, takes.size) == (1000, 8000)
    lying = struct.pack("<q", 1 << 40) + message.body.to_pybytes()[8:]
    assert arrow.unpacked(message.metadata.to_pybytes(), lying).size == 1 << 40
    with pytest.raises(ValueError, match="cut off|out of itself"):
        arrow.unpacked(message.metadata.to_pybytes()[:20], lying)


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("text", pa.array([1])),
        ("n", pa.array(["1"])),
        ("n", pa.array([[1.0]])),
        ("text", pa.RunEndEncodedArray.from_arrays(pa.array([9], pa.int32()), _LONG)),
        ("colour", pa.array(["red"])),
    ],
)
def test_a_column_of_another_type_is_named(column: str, array: pa.Array) -> None:
    """If this fails, a column is turned into something that it was not."""
    body = packed(pa.table({column: array}), bodies.ARROW_STREAM)
    columns, bad = (("text", "string"), ("n", "float64")), streams.BadRowList()
    with pytest.raises(BadData) as caught:
        columnar.read(columns, (), sent(body, bodies.ARROW_STREAM), bad)
    assert (caught.value.code, f"column `{column}`" in caught.value.message) == (
        "SX-STREAM-028",
        True,
    )


def test_too_many_rows_for_their_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a body of `{}` takes gigabytes."""
    monkeypatch.setattr(bodies, "PUSHED_VALUES_MAX", 100)
    columns = tuple((f"c{n}", "bool") for n in range(10))
    for count in (10, 11):
        for form, body in (
            (bodies.JSON, json.dumps([{}] * count)),
            (bodies.LINES, "{}\n" * count),
        ):
            one = sent(body.encode(), form)
            if count == 10:
                assert len(bodies.read(columns, (), one, streams.BadRowList()).rows) == 10
                continue
            with pytest.raises(UsageError) as caught:
                bodies.read(columns, (), one, streams.BadRowList())
            assert caught.value.code == "SX-STREAM-012"


def test_a_large_batch_is_kept_as_a_blob(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a batch of a million rows lies in the state store, or is collected before it
    is published."""
    monkeypatch.setattr(inbox, "PUSHED_LARGE_BYTES", 100)
    clock = ManualClock(1_800_000_000 * NS)
    shop.write(OPS)
    with shop.open(clock=clock) as p:
        ops = Operations(p)
        rows = [{"id": f"{n}", "at": f"2026-01-0{n % 2 + 1}T08:00:00Z"} for n in range(50)]
        ops.push("prices", rows)
        ((_, _, _, body, blob, _, _),) = p.core.state.read("inbox_waiting", ("dataset:prices", 9))
        assert (bytes(body), p.core.blobs.has(blob)) == (b"", True)
        clock.wait(100_000)
        collect(p.core, p.runs.bundles)
        run(p)
        assert ops.count("prices")["rows"] == 50
        clock.wait(100_000)
        collect(p.core, p.runs.bundles)
        assert not p.core.blobs.has(blob), "its rows lie in others"


def test_more_rows_than_one_write_moves_are_folded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a batch of more rows than a fold moves at once waits for ever."""
    monkeypatch.setattr(inbox, "FOLD_ROWS_MAX", 10)
    monkeypatch.setattr(inbox, "KEYS_PER_WRITE", 7)
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        for price in (1, 2):
            ops.push("prices", [dict(ROWS[0], id=f"r{n}", price=price) for n in range(100)])
        run(p)
        assert ops.count("prices")["rows"] == 100
        assert {str(one["price"]) for one in ops.show("prices")["sample"]} == {"2.00"}


def test_a_column_in_the_middle_does_not_shift_kept_rows(shop: Shop) -> None:
    """If this fails, rows that were pushed before a column was declared have its neighbour's
    values."""
    shop.write(OPS)
    with shop.open() as p:
        ops = Operations(p)
        ops.push("notes", [{"text": "a", "n": 1}])
        p.runs.inbox.fold(p.core.project.manifest(), SYSTEM)
        ops.push("notes", [{"text": "b", "n": 2}])
        shop.edit(
            '"text": "string", "n": "float64"', '"more": "string", "n": "float64", "text": "string"'
        )
        p.core.project.load()
        ops.push("notes", [{"text": "c", "n": 3, "more": "x"}])
        run(p)
        shown = ops.show("notes")["sample"]
        assert sorted((one["text"], one["n"], one["more"]) for one in shown) == [
            ("a", 1.0, None),
            ("b", 2.0, None),
            ("c", 3.0, "x"),
        ]


def test_rows_that_an_earlier_version_kept_are_read() -> None:
    """If this fails, an upgrade cannot read the rows of an earlier version."""
    columns = (("text", "string"), ("n", "float64"))
    part = streams.decode_part(columns, b'[["a",null],["b",1.5]]')
    assert part.rows == [("a", None), ("b", 1.5)]
    old = b'{"key":["text"],"moved":[["a"]],"rows":[["b",2.0]]}'
    assert streams.decode_part(columns, old) == streams.Part([("b", 2.0)], ("text",), (("a",),))


def pushed(shop: Shop, *words: str, capfd: Any, exits: int = 0) -> Any:
    from sextant.cli.main import call

    assert call(["--project", str(shop.root), "push", *words]) == exits
    return capfd.readouterr()


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet", "arrow", "stream.arrow"])
def test_a_large_file_goes_in_batches_and_nothing_twice(
    shop: Shop, suffix: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a command that is repeated after a failure doubles rows, or loses some."""
    from sextant.kinds.dataset.inbox import Inbox
    from sextant.cli import rows_file

    monkeypatch.setattr(rows_file, "PUSHED_CUT_ROWS", 10)
    shop.write(OPS)
    file = shop.root.parent / f"rows.{suffix}"
    texts = ["same"] * 45  # parts of a file that are equal are not the same batch
    form = {"parquet": bodies.PARQUET, "arrow": bodies.ARROW_FILE}.get(suffix, bodies.ARROW_STREAM)
    if suffix == "json":
        file.write_text(json.dumps([{"text": text} for text in texts]))
    elif suffix == "jsonl":
        file.write_text("\n\n".join(json.dumps({"text": text}) for text in texts))
    else:
        file.write_bytes(packed(pa.table({"text": pa.array(texts).dictionary_encode()}), form))
    take, calls = Inbox.take, iter(range(100))

    def fails(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            raise OSError("the cable")
        return take(self, *args, **kwargs)

    monkeypatch.setattr(Inbox, "take", fails)
    pushed(shop, "notes", str(file), capfd=capfd, exits=3)
    said = pushed(shop, "notes", str(file), capfd=capfd).out
    assert "45 rows of 5 batches sha256:" in said
    assert ", 30 of them before" in said
    assert "had been taken before" in pushed(shop, "notes", str(file), capfd=capfd).out
    with shop.open() as p:
        run(p)
        assert Operations(p).count("notes")["rows"] == 45


def test_a_bad_row_of_a_file_is_named_by_its_line(
    shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a person looks for a bad row in the wrong line of a file."""
    from sextant.cli import rows_file

    monkeypatch.setattr(rows_file, "PUSHED_CUT_ROWS", 3)
    shop.write(OPS)
    file = shop.root.parent / "rows.jsonl"
    good = '{"text": "a"}\n'
    file.write_text(good * 2 + "\n" + good * 2 + '{"text": 1}\n' + good + "nothing\n")
    said = pushed(shop, "notes", str(file), capfd=capfd, exits=2).err
    assert "line 6, column `text`: a number is not string" in said
    assert "3 rows of 1 batches are taken" in said
    file.write_text(good + "nothing\n" + '{"text": 1}\n')
    said = pushed(shop, "notes", str(file), capfd=capfd, exits=2).err
    assert "2 of 3 rows cannot be taken" in said
    assert "line 2: it is not JSON" in said
    assert "line 3, column `text`" in said
    found = pushed(shop, "notes", str(file), "--json", capfd=capfd, exits=2).out
    assert [one["row"] for one in json.loads(found)["rows"]] == [2, 3]
    for name, content in (("rows.parquet", b"not"), ("rows.arrow", b"not"), ("empty", b"\n \n")):
        other = shop.root.parent / name
        other.write_bytes(content)
        pushed(shop, "notes", str(other), capfd=capfd, exits=2)
    with shop.open() as p:
        assert p.core.state.read("inbox_waits")[0][2] == 3


def test_a_file_is_pushed_at_a_server(
    serving: Serving, shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a file that is taken in the folder is not taken over the network."""
    from sextant.cli import rows_file
    from sextant.cli.main import call

    monkeypatch.setattr(rows_file, "PUSHED_CUT_ROWS", 2)
    monkeypatch.setenv("SEXTANT_TOKEN", serving.token("operator", teams=("ops",)))
    file = shop.root.parent / "rows.parquet"
    file.write_bytes(packed(table(), bodies.PARQUET))
    words = ["--server", serving.url, "push", "prices", str(file), "--batch", "b", "--json"]
    assert call(words) == 0
    done = json.loads(capfd.readouterr().out)
    assert (done["batch"], done["batches"], done["rows"], done["again"]) == ("b", 2, 4, False)
    names = [one["batch"] for one in Operations(serving.platform).batches("prices").items]
    assert sorted(names) == ["b/1", "b/2"]
    run(serving.platform)
    assert Operations(serving.platform).count("prices")["rows"] == 2


def test_the_platforms_own_columns_are_reserved(shop: Shop) -> None:
    """If this fails, a stream has a column that nobody can push, or that cannot be stored."""
    for name in ("_deleted", "_partition"):
        shop.write(f'bad = sx.stream("bad", columns={{"{name}": "bool", "id": "string"}})\n')
        with pytest.raises(ProjectError, match=name), shop.open():
            pass


def test_a_large_body_waits_for_its_turn(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, any number of large bodies are in memory at once."""
    monkeypatch.setattr(inbox, "PUSHED_LARGE_BYTES", 10)
    monkeypatch.setattr(inbox, "PUSHES_LARGE_WAIT_S", 0.0)
    shop.write(OPS)
    with shop.open() as p:
        while p.runs.inbox._large.acquire(blocking=False):
            pass
        with pytest.raises(SextantError) as caught:
            Operations(p).push("notes", [{"text": "x"}])
        assert caught.value.code == "SX-STREAM-031"
        p.runs.inbox._large.release()
        Operations(p).push("notes", [{"text": "x"}])
