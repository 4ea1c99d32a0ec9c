"""The documentation is true: made pages are fresh, every room is named, every link leads somewhere,
every command exists."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ]
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load("generate")


def test_the_reference_is_what_the_code_says(generate: ModuleType) -> None:
    """If this fails, the reference is stale: python docs/generate.py."""
    for name, text in generate.pages().items():
        assert (DOCS / "reference" / name).read_text(encoding="utf-8") == text, (
            f"docs/reference/{name} is stale: python docs/generate.py"
        )


def test_every_error_has_an_area_and_a_text(generate: ModuleType) -> None:
    """If this fails, a user meets a code that the reference cannot explain."""
    found = generate.error_table()
    assert len(found) > 150
    assert {code.split("-")[1] for code in found} == set(generate.AREAS)
    dumb = {
        code for code, entries in found.items() if not any(message for _, message, _ in entries)
    }
    assert dumb <= {
        "SX-API-012",
        "SX-LEDGER-031",
        "SX-PROJ-001",
        "SX-PROJ-008",
        "SX-PROJ-041",
        "SX-PROJ-061",
        "SX-REMOTE-003",
        "SX-STATE-001",
    }  # their texts are put together


def test_every_event_type_is_explained(generate: ModuleType) -> None:
    """If this fails, something is written to the ledger that no page explains, or a page explains
    what is never written."""
    assert set(generate.event_types()) == set(generate.EVENTS)


def test_every_package_and_module_has_its_place() -> None:
    """If this fails, a newcomer opens a folder that the architecture does not mention."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "sextant"
    for path in sorted(source.rglob("*.py")):
        if path.name == "__init__.py":
            name = path.parent.relative_to(source).as_posix()
            assert name == "." or name in text or path.parent.name in text, name
        else:
            assert re.search(rf"[`/]{re.escape(path.name)}`", text), path.relative_to(source)


def test_every_decision_is_listed() -> None:
    """If this fails, a decision is written down where nobody finds it."""
    listed = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    notes = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert notes
    for note in notes:
        assert f"({note.name})" in listed
        text = note.read_text(encoding="utf-8")
        assert all(f"**{word}.**" in text for word in ("Context", "Choice", "Price")), note.name


def test_links_lead_somewhere() -> None:
    """If this fails, a page of the documentation names a page or a heading that does not exist."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http://", "https://")):
                continue
            name, _, anchor = target.partition("#")
            file = page if not name else page.parent / name
            assert file.exists(), f"{page.relative_to(ROOT)} links to {target}"
            if anchor:
                assert anchor in headings(file), f"{page.relative_to(ROOT)} links to {target}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }


def test_commands_that_texts_name_exist() -> None:
    """If this fails, a hint or a page tells people to run a command that does not exist."""
    from sextant.cli.table import COMMANDS

    texts = [*PAGES, *(ROOT / "src").rglob("*.py")]
    for file in texts:
        for word in re.findall(
            r"(?:`|: |\$ )(?:sextant|sx) ([a-z]+)\b(?! \d)", file.read_text(encoding="utf-8")
        ):
            assert word in COMMANDS, f"{file.relative_to(ROOT)}: sextant {word}"


def test_nothing_of_how_it_was_built_stands_in_a_page() -> None:
    """If this fails, the public documentation names a machine, a path or a person's errand."""
    for page in [*PAGES, DOCS / "generate.py", DOCS / "run.py"]:
        assert not re.search(r"/tmp/|/home/|\bTODO\b", page.read_text(encoding="utf-8")), page
