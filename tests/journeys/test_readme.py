"""The first ten minutes, as they stand in the README: every command is run, in order, and ends as
the page says.

With SEXTANT_DOCS=all the tutorial and every how-to page too (minutes).
"""

import importlib.util
import os
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
    page.write_text("```sh exit=1\ntrue\nfalse\n```\n\n```text\nfalse\n```\n")
    (tmp_path / "two").mkdir()
    assert pages.run(page, tmp_path / "two") == ""
