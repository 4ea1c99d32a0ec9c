"""A kind from a package: made, released, undone, kept and refused like those of ours."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import toy_kind

from sextant import testing
from sextant.app import keeping
from sextant.cli.main import call
from sextant.engine.bodies import blob_of
from sextant.kernel import kinds, registry
from sextant.kernel.errors import ProjectError, SextantError
from sextant.testing import Request

OPS = """
import polars as pl
import sextant as sx

sx.project("shop")


@sx.dataset()
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2]})


@sx.dataset()
def other() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})


sx.notice("counted", of=orders, text="{rows} orders")
"""
ID = "notice:counted"


@contextmanager
def opened(folder: Path, source: str = "") -> Iterator[testing.TestedPlatform]:
    with toy_kind.installed(folder / "packages", source), testing.platform({"ops.py": OPS}) as p:
        yield p


def edit(p: testing.TestedPlatform, old: str, new: str) -> None:
    file = p.core.project.root / "ops.py"
    file.write_text(file.read_text().replace(old, new))
    p.core.project.load()


def run(p: testing.TestedPlatform, **more: Any) -> Any:
    report = p.runs.run("dev", Request(**more), by=p.who())
    p.drive()
    return report


def undo(p: testing.TestedPlatform, asset: str, **more: Any) -> Any:
    report = p.runs.undo("dev", asset, by=p.who(), reason="wrong", **more)
    p.drive()
    return report


def wall(p: testing.TestedPlatform) -> str:
    return (p.core.project.root / "wall" / "counted").read_text()


def test_it_is_made_released_and_undone(tmp_path: Path) -> None:
    """Models, services and boards would need an engine and a release machine of their own."""
    with opened(tmp_path) as p:
        assert run(p).state == "finished"
        assert wall(p) == "2 orders"
        edit(p, "[1, 2]", "[1, 2, 3]")
        report = run(p, assets=("dataset:orders",))
        assert set(report.published) == {"dataset:orders"}
        assert [(one.assets, one.strategy) for one in report.releases] == [
            (("dataset:orders",), "publish"),
            ((ID,), "direct"),
        ]
        assert wall(p) == "3 orders"
        undo(p, ID)
        assert wall(p) == "2 orders"
        assert p.runs.plan("dev", Request()).held == {ID: ("all",)}, "undone stays undone"
        edit(p, "{rows} orders", "now {rows}")
        run(p, assets=(ID,))
        assert wall(p) == "now 3"
        undo(p, "dataset:orders")
        assert wall(p) == "now 2", "what stands on it is derived again"
        before = {event["type"] for event in p.views.events(subject=ID, limit=100).items}
        assert {"asset.declared", "version.created", "version.withdrawn"} <= before


def test_a_body_is_kept_as_long_as_its_version(tmp_path: Path) -> None:
    """A collection would delete what is live, or keep everything for ever."""
    with opened(tmp_path) as p:
        run(p)
        first = p.core.versions.live_version("dev", ID)
        blob = blob_of(p.core.versions.get(ID, first).locator)
        edit(p, "{rows} orders", "now {rows}")
        run(p, assets=(ID,))
        live = blob_of(p.core.versions.get(ID, p.core.versions.live_version("dev", ID)).locator)
        for file in (p.core.blobs.root).rglob("*"):
            if file.is_file():
                os.utime(file, (1, 1))
        keeping.collect(p.core, p.runs.bundles)
        assert p.core.blobs.has(blob)
        assert p.core.blobs.has(live)
        undo(p, ID)
        assert wall(p) == "2 orders", "an old version comes back with its body"


@pytest.mark.parametrize("method", ["draft", "assets"])
def test_a_kind_that_cannot_read_its_declarations(tmp_path: Path, method: str) -> None:
    """The project would end with a bug of ours, or without a word which package it is of."""
    line = {
        "draft": "    def draft(self, declared, project):\n",
        "assets": "    def assets(self, draft, project):\n",
    }[method]
    source = toy_kind.SOURCE.read_text().replace(line, line + "        raise OSError('no ink')\n")
    with (
        pytest.raises(ProjectError, match=r"kind `notice`.*OSError: no ink"),
        opened(tmp_path, source),
    ):
        pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    rows = plugin.rows(", "    raise OSError('no ink')\n    rows = plugin.rows("),
        (
            "    def roll(self, release, fence):\n",
            "    def roll(self, release, fence):\n        raise OSError('no ink')\n",
        ),
        (
            "    made=plugin.Made",
            "    made=type('Bad', (plugin.Made,), {'bodies': no_ink})",
        ),
        (
            "    made=plugin.Made",
            "    made=type('Bad', (plugin.Made,), {'shape': no_ink})",
        ),
    ],
    ids=["perform", "roll", "bodies", "shape"],
)
def test_a_kind_that_raises_stops_nobody_else(tmp_path: Path, old: str, new: str) -> None:
    """A bug of a package would stop all runs of a company."""
    source = toy_kind.SOURCE.read_text().replace(old, new)
    assert source != toy_kind.SOURCE.read_text()
    no_ink = "\n\ndef no_ink(*_):\n    raise OSError('no ink')\n\n\ndef row("
    with opened(tmp_path, source.replace("\n\ndef row(", no_ink)) as p:
        try:
            said = str(p.runs.run("dev", Request(assets=("dataset:orders",)), by=p.who()))
        except SextantError as error:
            said = error.message
        for release in p.views.releases(state="rolling").items:
            said += p.runs.driving.work(release["id"]).error
        assert "the kind `notice` failed in" in said or "raised OSError" in said
        assert "no ink" in said
        request = Request(assets=("dataset:other",), downstream=False)
        assert p.runs.run("dev", request, by=p.who()).state == "finished"
        assert p.core.versions.live_version("dev", "dataset:other")


def test_a_part_that_a_kind_does_not_have(tmp_path: Path) -> None:
    """An error would speak of None instead of the kind."""
    source = toy_kind.SOURCE.read_text().replace("    made=plugin.Made,\n", "")
    with (
        pytest.raises(ProjectError, match="assets of the kind `notice` cannot be made"),
        opened(tmp_path, source) as p,
    ):
        run(p)


def test_a_part_that_breaks_the_contract(tmp_path: Path) -> None:
    """An author would meet an error from somewhere inside, without the kind that is wrong."""
    source = toy_kind.SOURCE.read_text().replace("    def assets(self,", "    def other(self,")
    with (
        pytest.raises(ProjectError, match=r"kind `notice` failed in `authored`.*assets"),
        opened(tmp_path, source),
    ):
        pass


def test_a_package_that_is_gone_stops_nobody_else(tmp_path: Path) -> None:
    """Uninstalling a package would stop all runs of a company."""
    with toy_kind.installed(tmp_path / "packages"), testing.platform({"ops.py": OPS}) as p:
        run(p)
        for cache in (kinds.kinds, kinds.authored, kinds.made):
            cache.cache_clear()
        registry._ROWS.pop("kind.notice")
        plan = p.runs.plan("dev", Request())
        assert any("there is no kind `notice`" in text for text in plan.warnings)
        assert run(p, force=True, assets=("dataset:other",)).state == "finished"
        assert p.views.show("dev", ID)["version"], "what it made is still there"


def test_rules_ask_for_the_facts_of_a_kind(tmp_path: Path) -> None:
    """A rule could not tell a small change of a service from a large one."""
    rule = 'sx.policy("short", when="context.letters > LETTERS", then="deny")\n'
    with toy_kind.installed(tmp_path / "packages"):
        with testing.platform({"ops.py": OPS + rule.replace("LETTERS", "7")}) as p:
            report = run(p)
            assert report.state == "refused"
            assert "short" in report.failed[0].error
            assert not p.core.versions.live_version("dev", ID)
            assert p.core.versions.live_version("dev", "dataset:orders")
        with testing.platform({"ops.py": OPS + rule.replace("LETTERS", "8")}) as p:
            run(p)
            assert p.core.versions.live_version("dev", ID)
        misspelt = rule.replace("LETTERS", "8").replace("letters", "leters")
        with (
            pytest.raises(ProjectError, match="context.leters"),
            testing.platform({"ops.py": OPS + misspelt}),
        ):
            pass


COMMAND = """

import click


@click.command(short_help="Say what hangs on the wall.")
def notices():
    print(Path("wall", "counted").read_text())


def rows(before=rows):
    return [*before(), ("command.notices", "notices:notices")]
"""


def test_a_kind_brings_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, each kind with a command of its own needs an edit in the table of commands."""
    with opened(tmp_path, toy_kind.SOURCE.read_text() + COMMAND) as p:
        run(p)
        monkeypatch.chdir(p.core.project.root)
        assert call(["notices"]) == 0
        assert capsys.readouterr().out == "2 orders\n"
        assert call(["--help"]) == 0
        assert re.search(r"notices +Say what hangs on the wall\.", capsys.readouterr().out)
        assert call(["notice"]) == 2
        assert "did you mean notices?" in capsys.readouterr().err


def test_a_command_that_is_none_or_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One wrong row must not take the help of all other commands."""
    broken = COMMAND.replace("notices:notices", "notices:KIND").replace(
        "before(), ",
        'before(), ("command.gone", "notices:gone"), ("command.run", "notices:KIND"), ',
    )
    with opened(tmp_path, toy_kind.SOURCE.read_text() + broken):
        assert call(["notices"]) == 2
        assert "is no command" in capsys.readouterr().err
        assert call(["gone"]) == 2
        assert "cannot be loaded" in capsys.readouterr().err
        assert call(["--help"]) == 0
        out = capsys.readouterr().out
        assert "cannot be loaded" in out
        assert out.count("\n  run ") == 1, "ours stands, whatever a package brings"
