"""What commands at a server do with the folder that they are given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, serve
from shop_project import HEAD, Shop, run

from sextant.cli import upload
from sextant.cli.main import call

OPS = """
@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})
"""


@pytest.fixture
def serving(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    shop.write(OPS)
    with shop.open() as platform, serve(platform) as one:
        run(platform)
        run(platform, "prod")
        monkeypatch.setenv("SEXTANT_TOKEN", one.token())
        yield one


@pytest.fixture
def laptop(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laptop")
    for name in ("ops.py", "sextant.toml"):
        text = (serving.platform.core.project.root / name).read_text()
        (folder / name).write_text(text.replace("[1, 2]", "[1, 2, 3]"))
    return folder


def at(serving: Serving, folder: Path, *words: str) -> int:
    return call(["--server", serving.url, "--project", str(folder), *words])


def rows(serving: Serving, env: str) -> int:
    core = serving.platform.core
    live = core.versions.live_version(env, "dataset:orders")
    return core.versions.get("dataset:orders", live).rows


def test_a_run_brings_what_the_folder_has(
    serving: Serving, laptop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a run at a server runs other code than what its user sees."""
    assert at(serving, laptop, "env", "create", "pr-7", "--from", "prod") == 0
    assert at(serving, laptop, "plan", "--stale", "--env", "pr-7") == 0
    said = capfd.readouterr()
    assert "uploaded 1 file of 2" in said.err and "dataset:orders: code" in said.out
    assert at(serving, laptop, "backfill", "orders", "--stale", "--env", "pr-7") == 0
    assert (rows(serving, "pr-7"), rows(serving, "prod")) == (3, 2)
    assert "uploaded" not in capfd.readouterr().err, "the server has it"
    assert at(serving, laptop, "run", "--env", "dev") == 2
    assert "SX-UPLOAD-014" in capfd.readouterr().err
    assert at(serving, laptop, "run", "--env", "dev", "--pinned") == 0
    assert at(serving, Path("/"), "plan", "--env", "pr-7") == 0, "outside of a project"


def test_a_folder_that_was_left_behind(
    serving: Serving, laptop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If this fails, whoever has not pulled takes back what others released, and is not told."""
    assert at(serving, laptop, "run", "--env", "prod") == 0
    assert at(serving, serving.platform.core.project.root, "plan", "--env", "prod") == 0
    assert "made before what is in force" in capfd.readouterr().out
    assert at(serving, laptop, "status", "--env", "prod") in (0, 1)
    assert "note" not in capfd.readouterr().out, "that folder is nothing to others"


def test_what_cannot_be_uploaded_is_not_sent(
    serving: Serving,
    laptop: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, a key leaves the machine, or a mistake is told by a stack trace."""
    plan = ("plan", "--env", "prod")
    key = "glpat-" + "x1" * 10
    (laptop / "keys.py").write_text(f"KEY = '{key}'\n")
    sent = []
    monkeypatch.setattr(upload, "_requests", lambda contents: sent.append(contents) or [])
    assert at(serving, laptop, *plan) == 2
    said = capfd.readouterr().err
    assert "SX-UPLOAD-011" in said and "keys.py:1" in said and key not in said and not sent
    monkeypatch.undo()
    monkeypatch.setenv("SEXTANT_TOKEN", serving.token(name="again"))
    (laptop / "keys.py").unlink()
    (laptop / "a:b.py").write_text("")
    assert at(serving, laptop, *plan) == 2
    assert "cannot be uploaded by this name" in capfd.readouterr().err
    (laptop / "a:b.py").unlink()
    (laptop / "big.json").write_bytes(b" " * ((8 << 20) + 1))
    assert at(serving, laptop, *plan) == 2
    assert "`big.json` is too large" in capfd.readouterr().err
    (laptop / "big.json").write_bytes(b" " * (8 << 20))
    assert at(serving, laptop, *plan) == 0
    (laptop / "ops.py").write_text(HEAD.replace("shop", "else") + OPS)
    assert at(serving, laptop, *plan) == 2
    assert "what is recorded here is `shop`" in capfd.readouterr().err
    (laptop / "ops.py").write_text(HEAD + "\n1 / 0\n")
    assert at(serving, laptop, *plan) == 2
    said = capfd.readouterr().err
    assert "ZeroDivisionError" in said and "ops.py:" in said and "/tmp" not in said
