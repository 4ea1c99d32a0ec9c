"""Secrets: where they come from, and that they do not get out."""

import base64
import json
import os
from urllib.parse import quote

import pytest

from sextant.project.secrets import LocalSecrets, Redactor, for_order, redactor
from sextant.kernel.errors import Denied, NotFound, ProjectError
from sextant.kernel.nouns import Asset, Build, Code, WorkOrder

VALUE = "p&ss w/rd+é\"'x=1"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secrets.toml"
    path.write_text('TOKEN = "from file"\nOTHER = "only here"\n')
    path.chmod(0o600)
    return path


def test_the_environment_comes_before_the_file(file):
    """CI could not override what stands on a laptop."""
    secrets = LocalSecrets(file, {"TOKEN": "from environment"})
    assert (secrets.get("TOKEN"), secrets.get("OTHER")) == ("from environment", "only here")


def test_a_secret_that_is_not_set_says_how(file, tmp_path):
    """KeyError in a worker's log."""
    for secrets in (LocalSecrets(file, {}), LocalSecrets(tmp_path / "none.toml", {})):
        with pytest.raises(NotFound) as caught:
            secrets.get("MISSING")
        assert (caught.value.code, caught.value.message) == (
            "SX-SECRET-001",
            "the secret `MISSING` is not set",
        )
        assert "set the environment variable MISSING, or write `MISSING" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(file, mode):
    """Everyone on the machine would have the secrets."""
    file.chmod(mode)
    with pytest.raises(Denied) as caught:
        LocalSecrets(file, {}).get("TOKEN")
    assert caught.value.code == "SX-SECRET-002"
    assert caught.value.hint == f"chmod 600 {file}"
    assert LocalSecrets(file, {"TOKEN": "x"}).get("TOKEN") == "x"  # the file is not needed then


def test_a_broken_file_is_refused_without_repeating_it(file):
    """The parser's message would print the line, and the line holds the value."""
    file.write_text("TOKEN = hunter2\n")
    with pytest.raises(ProjectError) as caught:
        LocalSecrets(file, {}).get("TOKEN")
    assert "hunter2" not in str(caught.value.lines()[0]) + caught.value.hint
    file.write_text("TOKEN = 12345\n")
    with pytest.raises(ProjectError, match="`TOKEN` in .* is not text"):
        LocalSecrets(file, {}).get("TOKEN")


@pytest.mark.parametrize(
    "shown",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        repr(VALUE)[1:-1],
        VALUE.encode().hex(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    ],
)
def test_a_value_is_replaced_in_every_form(shown):
    """A URL or a header in a traceback shows it all the same."""
    out = Redactor({"TOKEN": VALUE}).text(f"before {shown} after")
    assert out.startswith("before ***TOKEN***")
    assert out.endswith(" after")
    assert VALUE not in out


@pytest.mark.parametrize("user", ["a", "bo", "carol", "dave", "eve the third"])
def test_a_value_inside_of_a_longer_encoded_text_is_replaced(user):
    """Basic authentication encodes user and password together, so that the value begins
    anywhere."""
    encoded = base64.b64encode(f"{user}:{VALUE}\n".encode()).decode()
    out = Redactor({"TOKEN": VALUE}).text(f"Authorization: Basic {encoded}")
    assert "***TOKEN***" in out
    left = out.split("Basic ")[1].replace("***TOKEN***", "")
    assert len(left) <= len(encoded) - (len(VALUE.encode()) * 4 // 3 - 4)


def test_one_value_inside_of_another_and_several_lines():
    """The longer one would stay readable in part; keys are printed line by line."""
    redactor = Redactor(
        {
            "SHORT": "abcdef",
            "LONG": "abcdef123456",
            "KEY": "-----BEGIN-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF",
        }
    )
    assert redactor.text("abcdef123456 abcdef") == "***LONG*** ***SHORT***"
    assert redactor.text("x MIIEvQIBADANBg y") == "x ***KEY*** y"


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_cut_through_a_value_shows_no_part_of_it(cut):
    """If this fails, a log that is cut, or read while it grows, shows half of a secret."""
    redactor = Redactor({"KEY": "s3cr3t!"})
    assert redactor.before_cut("is s3cr3t!"[: 3 + cut]) == "is ***"
    assert redactor.after_cut("s3cr3t! it"[cut:]) == "*** it"
    assert redactor.before_cut("plain") == redactor.after_cut("plain") == "plain"


def test_a_value_that_arrives_in_pieces_is_replaced_as_a_whole():
    """If this fails, whoever follows a log reads a secret that was printed letter by letter, or
    the followed log is another one than the kept one."""
    redactor = Redactor({"SHORT": "abab", "LONG": "ababcd99", "KEY": "zzzz"})
    text = "x abab y ababcd99 ab ababab zzzzz az abab" + "z" * 500 + " end ababcd9"
    for size in (1, 2, 3, 5, 8, 13):
        out, rest = "", ""
        for at in range(0, len(text), size):
            shown, rest = redactor.split(rest + text[at : at + size])
            out += shown
        out += redactor.text(rest)
        assert "abab" not in out
        assert "zzzz" not in out
        if size < 9:
            assert out.startswith("x ***SHORT*** y ***LONG*** ab ***SHORT***ab ***KEY***z az")


def test_very_short_values_are_left():
    """Replacing `1` would make every log unreadable and hide nothing."""
    assert Redactor({"A": "1", "B": ""}).text("1 + 1 = 2") == "1 + 1 = 2"


def order(file, secrets):
    build = Build(code=Code(language="python", entry="a:b", file="a.py"), secrets=secrets)
    return WorkOrder(
        id="o",
        run="r",
        step="s",
        attempt=1,
        fence=1,
        asset=Asset(kind="dataset", name="a", build=build),
        partitions=("all",),
        environment={"SEXTANT_SECRETS": str(file)},
    )


def test_a_work_order_names_its_file(file, monkeypatch):
    """A worker would look beside the unpacked bundle, where no secret ever is."""
    monkeypatch.delenv("TOKEN", raising=False)
    work = order(file, {"token": "TOKEN", "gone": "NOT_SET"})
    assert for_order(work).get("TOKEN") == "from file"
    assert (
        redactor([work]).text("the token is from file, of course")
        == "the token is ***TOKEN***, of course"
    )
    os.chmod(file, 0o644)
    assert (
        redactor([work]).text("from file") == "from file"
    )  # nothing could be resolved, so nothing could be shown either


def test_secrets_are_not_in_a_manifest(project, monkeypatch):
    """State, backups and plans would hold them."""
    import msgspec

    monkeypatch.setenv("TOKEN", "hunter2hunter2")
    project.ops('@sx.dataset()\ndef a(token: str = sx.secret("TOKEN")) -> pl.DataFrame: ...\n')
    manifest = project.manifest()
    assert b"hunter2" not in msgspec.json.encode(manifest)
    assert manifest.asset("dataset:a").build.secrets == {"token": "TOKEN"}
    assert manifest.asset("dataset:a").build.params == {}
