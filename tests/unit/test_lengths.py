"""Lengths of time as people write them, and what is none."""

import pytest

from sextant.kernel.errors import UsageError
from sextant.kernel.lengths import duration_ns, length_s


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("90d", 90 * 86_400 * 10**9),
        ("104000d", 104_000 * 86_400 * 10**9),
        ("1.5h", 5_400 * 10**9),
        ("500ms", 500 * 10**6),
        ("20us", 20_000),
        ("7ns", 7),
    ],
)
def test_lengths(text: str, ns: int) -> None:
    """If this fails, a window or a duration is another one than was asked for."""
    assert duration_ns(text) == ns
    if text[-2:] not in ("ms", "us", "ns"):
        assert length_s(text) == ns / 1e9


@pytest.mark.parametrize("unit", ["s", "m", "h", "d", "w", "ms", "us", "ns"])
@pytest.mark.parametrize("number", ["1e300", "1e308", "inf", "1e9999"])
def test_no_length_is_longer_than_databases_hold(number: str, unit: str) -> None:
    """If this fails, somebody's typing error is answered as a defect of Sextant."""
    for read in (duration_ns, length_s):
        with pytest.raises(UsageError) as wrong:
            read(number + unit)
        assert number in wrong.value.message


@pytest.mark.parametrize("text", ["", "s", "ms", "-1s", "0s", "nans", "nan", "inf", "5", "5y", "é"])
def test_what_is_no_length(text: str) -> None:
    """If this fails, a length is taken that nobody meant."""
    for read in (duration_ns, length_s):
        with pytest.raises(UsageError):
            read(text)
