"""The documentation is true: made pages are fresh, every room is named, every link leads somewhere,
every command exists."""

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest
import toy_kind

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
    """If this fails, the reference or a table of modules in the architecture is stale: python
    docs/generate.py."""
    for path, text in generate.files().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.relative_to(ROOT)} is stale: python docs/generate.py"
        )


def test_every_package_has_its_table_of_modules(generate: ModuleType) -> None:
    """If this fails, a package has no section in the architecture, or a module says nothing of
    itself."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "sextant"
    packages = {path.parent.name for path in source.glob("*/__init__.py")}
    assert packages
    assert set(re.findall(r"<!-- modules of (\w+) -->", text)) == packages
    for name in packages:
        silent = re.findall(r"^\| `([^`]+)` \|\s+\|$", generate.modules(name), re.MULTILINE)
        assert not silent, name


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
        "SX-STEP-001",
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


def test_every_page_of_a_folder_is_listed() -> None:
    """If this fails, a page stands where nobody finds it."""
    for folder in ("how-to", "concepts"):
        listed = (DOCS / folder / "README.md").read_text(encoding="utf-8")
        for page in (DOCS / folder).glob("*.md"):
            assert page.name == "README.md" or f"({page.name})" in listed, page.name


def test_the_grains_of_the_command_are_those_of_kpis() -> None:
    """If this fails, `sextant kpi --help` hides a grain, or offers one that is refused."""
    from sextant.kinds.kpi.measures import NESTS
    from sextant.kinds.kpi.command import kpi

    option = next(option for option in kpi.params if option.name == "grain")
    assert str(option.metavar).split("|") == [grain for grain in NESTS if grain]


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


WRITTEN = [
    page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "reference"
]
# what pages say to other programs
FORMATS = (["witness", "1"], ["proof", "1"])  # `sextant witness 1` heads a file
OTHERS = {
    "--help",
    "--key",
    "--require-hashes",
    "--jump",
    "--mend",
    "--namespace",
    "--postgres",
    "--stop",
}


def test_every_text_block_is_an_output_that_is_compared() -> None:
    """If this fails, a page shows an output that nothing compares with what comes out: a block of
    something else is called `console` or `http`."""
    run = load("run")
    for page in WRITTEN:
        if "```sh" in (text := page.read_text(encoding="utf-8")):
            for block in run.shown(text):
                assert block.after, (
                    f"{page.relative_to(ROOT)}:{block.line} shows no command's output"
                )


def test_error_codes_that_texts_name_exist(generate: ModuleType) -> None:
    """If this fails, a page explains an error that is not there, or with another exit code."""
    known = generate.error_table()
    exits = {kind: code for kind, code, _ in generate._kinds()}
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"\bSX-[A-Z]+-\d{3}\b", text):
            assert code in known, f"{page.relative_to(ROOT)}: {code}"
        for exit_code, code in re.findall(r"exit code (\d+) \(`(SX-[A-Z]+-\d{3})`\)", text):
            assert int(exit_code) in {exits.get(kind) for kind, _, _ in known[code]}, (
                f"{page.relative_to(ROOT)}: {code} ends with exit code {exit_code}"
            )


def test_commands_that_texts_name_exist() -> None:
    """If this fails, a hint or a page tells people to run a command, or to give it an option, that
    does not exist."""
    from sextant.cli.main import cli

    context = click.Context(cli, info_name="sextant")
    for file in [*PAGES, *(ROOT / "src").rglob("*.py")]:
        for words in command_lines(file.read_text(encoding="utf-8")):
            at = f"{file.relative_to(ROOT)}: sextant {' '.join(words)}"
            command: click.Command = cli
            options = {"--help", *option_names(cli)}
            while words:
                word = words.pop(0)
                if word.startswith("-") and word != "-":
                    assert word.rstrip("*.,").partition("=")[0] in options, f"{at}: {word}"
                    if command is cli and word in ("--project", "--server"):
                        words = words[1:]
                elif isinstance(command, click.Group) and re.fullmatch(r"[a-z]+", word):
                    found = command.get_command(context, word)
                    assert found is not None, f"{at}: {word}"
                    command = found
                    options |= option_names(command)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `sextant` of inline code, of a command line or of a hint."""
    for found in re.finditer(
        r"(?:`|^|\$ |\$\(|: |\bbob )(?:sextant|sx) ([^`\n]+)", text, re.MULTILINE
    ):
        line = re.split(r";| (?:\||&&|&|>)|\)(?: |$)|\{|#", found[1])[0]
        try:
            words = shlex.split(line)
        except ValueError:  # a quoted text that goes on behind the end of the line
            words = line.split("'")[0].split('"')[0].split()
        if (
            words
            and words[:2] not in FORMATS
            and re.fullmatch(r"[a-z]+|--(?:project|server)", words[0])
        ):
            yield words


def option_names(command: click.Command) -> set[str]:
    return {
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }


def test_options_that_texts_name_exist() -> None:
    """If this fails, a page speaks of an option that no command has."""
    from sextant.cli.main import cli

    context = click.Context(cli, info_name="sextant")
    known = option_names(cli) | OTHERS
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for one in [
            command,
            *(command.commands.values() if isinstance(command, click.Group) else ()),
        ]:
            known |= option_names(one)
    for page in WRITTEN:
        for option in re.findall(r"`(--[a-z][a-z-]+)\b", page.read_text(encoding="utf-8")):
            assert option in known, f"{page.relative_to(ROOT)}: {option}"


def test_settings_that_texts_name_exist() -> None:
    """If this fails, a page tells people to write what `sextant.toml` refuses."""
    from sextant.project.config import Server, Telemetry, _Keys

    tables = {"server": Server, "telemetry": Telemetry}
    found = 0
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            settings = {"module": "ops"} | tomllib.loads(block)
            msgspec.convert(settings, _Keys, strict=True)
            found += 1
        for name, table in re.findall(r"`(\w+)` of `\[(\w+)\]`", text):
            assert name in tables[table].__struct_fields__, f"{page.relative_to(ROOT)}: {name}"
        for name in re.findall(r"\bSEXTANT_[A-Z_]+\b", text):
            assert name in variables(), f"{page.relative_to(ROOT)}: {name}"
    assert found


def test_every_environment_variable_is_explained() -> None:
    """If this fails, something that a user can set is a secret of the code."""
    explained = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    named = {
        name
        for file in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"\bSEXTANT_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }
    inner = {"SEXTANT_SECRETS"}  # what the coordinator tells its workers
    assert {name for name in named if f"`{name}`" not in explained} == inner


def variables() -> set[str]:
    """Return the environment variables that the code and the scripts read."""
    files = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "scripts").iterdir(),
        ROOT / "tests" / "journeys" / "test_readme.py",
    ]
    return {
        name
        for file in files
        for name in re.findall(r"\bSEXTANT_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    }


def test_the_authors_words_in_texts_exist(tmp_path: Path) -> None:
    """If this fails, a page tells authors to write what Python or Sextant does not know."""
    with toy_kind.installed(tmp_path / "packages"):  # one page is on it
        _words_exist()


def _words_exist() -> None:
    import sextant as sx

    found = 0
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        blocks += re.findall(r"<<'?END'?\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
        blocks += re.findall(r"`((?:\w+=)?@?sx\.\w+\(.*?\))`", text)
        for block in blocks:
            if "sx." not in block:
                continue
            code = (
                re.sub(r"^(?:\w+=|@)(?=sx\.)", "", block)
                .replace("(..., ", "(")
                .replace(", ...)", ")")
            )
            for node in ast.walk(ast.parse(code)):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "sx"
                ):
                    assert hasattr(sx, node.attr), f"{page.relative_to(ROOT)}: sx.{node.attr}"
                    found += 1
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sx."):
                    takes = inspect.signature(getattr(sx, ast.unparse(node.func)[3:])).parameters
                    for keyword in node.keywords:
                        assert keyword.arg in takes, (
                            f"{page.relative_to(ROOT)}: {ast.unparse(node)}"
                        )
    assert found > 50


def test_event_types_that_texts_name_exist(generate: ModuleType) -> None:
    """If this fails, a page sends people to look for events that are never written."""
    areas = {name.partition(".")[0] for name in generate.EVENTS}
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`|--type ([a-z.]+)", text):
            word = name[0] or name[1]
            if word.partition(".")[0] in areas and not word.endswith(
                (".md", ".py", ".id", ".toml", ".json")
            ):
                assert word in generate.EVENTS, f"{page.relative_to(ROOT)}: {word}"


def test_the_fields_of_policies_are_all_explained() -> None:
    """If this fails, the page of policies names a verb or a field that rules do not know, or is
    silent about one."""
    from sextant.authorization.decide import FIELDS, VERBS
    from sextant.kernel.kinds import facts

    text = (DOCS / "how-to" / "second-pair-of-eyes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", text.partition("## Fields")[2], re.MULTILINE)
    named = set()
    for fields, _ in rows:
        head = ""
        for field in re.findall(r"`([\w.]+)`", fields):
            head = field.partition(".")[0] or head
            named.add(field if not field.startswith(".") else head + field)
    known = {f"{name}.{one}" for name, fields in FIELDS.items() for one in fields}
    known |= {f"context.{name}" for name in facts()}  # which kinds bring
    assert named == known | {name for name, fields in FIELDS.items() if not fields}
    verbs = next(said for fields, said in rows if fields == "`verb`")
    assert set(re.findall(r"`(\w+)`", verbs)) == set(VERBS)


def test_files_that_texts_name_exist() -> None:
    """If this fails, a page speaks of a file of Sextant that is not there."""
    for page in WRITTEN:
        if page.parent.name == "decisions":  # a decision speaks of its own time
            continue
        for name in re.findall(
            r"`((?:src/|docs/|tests/|scripts/|examples/|sextant/)[\w./-]+)`",
            page.read_text(encoding="utf-8"),
        ):
            if not name.startswith(("sextant/keys", "sextant/witness")):
                place = ROOT / "src" / name if name.startswith("sextant/") else ROOT / name
                assert place.exists(), f"{page.relative_to(ROOT)}: {name}"


def test_nothing_of_how_it_was_built_stands_in_a_page() -> None:
    """If this fails, the public documentation names a machine, a path or a person's errand."""
    for page in [*PAGES, DOCS / "generate.py", DOCS / "run.py"]:
        assert not re.search(r"/tmp/|/home/|\bTODO\b", page.read_text(encoding="utf-8")), page
