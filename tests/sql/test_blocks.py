"""ClickHouse's own compressed blocks, as JDBC drivers ask for them."""

import struct

import cramjam
import pytest
from sql_endpoint import Served

from sextant.server.sql.blocks import blocks, city_hash


@pytest.mark.parametrize(
    ("data", "low", "high"),
    [
        (b"", 0x3DF09DFC64C09A2B, 0x3CB540C392E51E29),
        (b"abc", 0x900FF195577748FE, 0x13A9176355B20D7E),
        (b"0123456789", 0xC971B4BE71AEFFA5, 0x26998264D5283DA9),
        (bytes(range(40)), 0x20193667F8A2DCAB, 0x28697471AC11EDF3),
        (bytes(range(256)), 0x327BB07EC0345A9B, 0xFB45EF5CB037BD93),
    ],
)
def test_hashes_are_those_of_the_reference(data: bytes, low: int, high: int) -> None:
    """If this fails, the library hashes as another version of CityHash does, or its halves are
    swapped."""
    assert city_hash(data) == (low, high)


def read(data: bytes) -> bytes:
    """Read blocks as a client does: check the hash, unpack."""
    out = b""
    while data:
        low, high, way, packed, size = struct.unpack_from("<QQBII", data)
        assert city_hash(data[16 : 16 + packed]) == (low, high)
        assert way == 0x82
        piece = bytes(cramjam.lz4.decompress_block(data[25 : 16 + packed], output_len=size))
        assert len(piece) == size
        out, data = out + piece, data[16 + packed :]
    return out


def test_an_answer_in_blocks(endpoint: Served) -> None:
    plain = endpoint.ask(
        "SELECT number, toString(number) FROM numbers(200000)",
        default_format="RowBinaryWithNamesAndTypes",
    )
    packed = endpoint.ask(
        "SELECT number, toString(number) FROM numbers(200000)",
        default_format="RowBinaryWithNamesAndTypes",
        compress="1",
        headers={"Accept-Encoding": "gzip"},
    )
    assert "content-encoding" not in packed.headers
    assert len(packed.body) < len(plain.body)
    assert read(packed.body) == plain.body
    assert read(endpoint.ask("SELECT 1", compress="1").body) == b"1\n"
    assert endpoint.ask("SELECT nope", compress="1").text.startswith("Code: 47. DB::Exception:")


def test_a_large_answer_is_cut() -> None:
    data = bytes(range(256)) * 10_000
    cut = list(blocks(data))
    assert len(cut) == 3
    assert read(b"".join(cut)) == data
