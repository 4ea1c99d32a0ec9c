"""The first ten minutes, as they stand in the README: every command is run, in order, and ends as
the page says.

With SEXTANT_DOCS=all the tutorial and every how-to page too (minutes).
"""

import importlib.util
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("docs_run", ROOT / "docs" / "run.py")
assert spec is not None
assert spec.loader is not None
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


PAGES = ["README.md"]
if os.environ.get("SEXTANT_DOCS") == "all":
    PAGES += [
        str(page.relative_to(ROOT))
        for page in [
            ROOT / "docs" / "tutorial.md",
            *sorted((ROOT / "docs" / "how-to").glob("*.md")),
        ]
        if "```sh" in page.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    """If this fails, a newcomer who pastes the page is stopped by it."""
    assert list(pages.commands((ROOT / page).read_text(encoding="utf-8")))
    assert pages.run(ROOT / page, tmp_path) == ""


def test_a_command_that_ends_otherwise_is_found(tmp_path: Path) -> None:
    """If this fails, the runner believes every page."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\ntrue\ncat <<'END'\nfalse\nEND\nfalse\n```\n")
    assert "line 8 ended with exit code 1, not 0" in pages.run(page, tmp_path / "one")
    page.write_text("```sh exit=1\ntrue\nfalse\n```\n\n```console\nfalse\n```\n")
    (tmp_path / "two").mkdir()
    assert pages.run(page, tmp_path / "two") == ""


def test_an_output_that_is_not_as_shown_is_found(tmp_path: Path) -> None:
    """If this fails, a page shows what no command prints, and nobody notices."""
    page = tmp_path / "page.md"
    for number, (shown, holds) in enumerate(
        (
            ("one 1\ntwo 2\n", True),
            ("two 2\n", True),  # of two commands, one
            ("...\ntwo ...\n", True),
            ("one  1\n", True),  # widths of columns
            ("one\ntwo 2\n", False),  # a line that is cut says so
            ("one 1\ntwo 3\n", False),
            ("two 2\none 1\n", False),
            ("one 1\nmore\ntwo 2\n", False),
        )
    ):
        page.write_text(f"```sh\necho one 1\necho two 2\n```\n\n```text\n{shown}```\n")
        folder = tmp_path / str(number)
        folder.mkdir()
        said = pages.run(page, folder)
        assert said == "" if holds else "page.md:7 shows what was not printed" in said, shown


def test_what_varies_is_not_compared_and_all_else_is() -> None:
    """If this fails, pages have to be written anew for each run, or may show anything."""
    began = datetime(2026, 11, 29, 8, tzinfo=UTC)
    id_ = "01m8kthp8v771smpk63c2qec99"
    printed = f"run run_{id_} finished in 2.9 s at 2026-11-29T08:00:07Z, of 2026-01-02T10:00:00Z\n"
    shown = printed.replace(id_, id_[::-1]).replace("2.9 s", "812 ms")
    same = shown.replace("2026-11-29T08:00:07Z", "2026-11-01T12:34:56Z")
    assert pages.contradiction(same, [printed], began) == ""
    assert pages.contradiction(shown.replace("01-02T10", "01-02T11"), [printed], began)
    assert pages.contradiction(shown.replace("finished", "failed"), [printed], began)
    assert pages.contradiction("version 0787daa35ac7\n", ["version 0787daa35ac8\n"], began)


def test_mending_a_page_keeps_the_lines_that_are_as_printed(tmp_path: Path) -> None:
    """If this fails, mending one line changes every id and duration of the page."""
    page = tmp_path / "page.md"
    page.write_text("```sh\necho took 3 s; echo new\n```\n\n```text\ntook 1 s\nold\n```\n")
    assert pages.run(page, tmp_path, mend=True)
    assert "```text\ntook 1 s\nnew\n```" in page.read_text()
