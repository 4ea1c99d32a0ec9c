"""What is said to whoever names a server wrongly."""

import pytest

from sextant.app.remote import Remote
from sextant.cli.main import call
from sextant.kernel.errors import UsageError


@pytest.mark.parametrize(
    "address",
    [
        "ftp://x",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "http://[::1",
        "http://exa mple",
        "京.example",
    ],
)
def test_what_is_no_address(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    """If this fails, a slip in SEXTANT_SERVER is taken for a defect of ours."""
    assert call(["--server", address, "status"]) == 2
    assert "is not the address of a server" in capfd.readouterr().err


@pytest.mark.parametrize("token", ["sxt_a\nb", "sxt_京", "two words"])
def test_what_is_no_token(token: str) -> None:
    """If this fails, a token with a line break breaks the command instead of being named."""
    with pytest.raises(UsageError, match="SEXTANT_TOKEN"):
        Remote("http://127.0.0.1:7780", token)
