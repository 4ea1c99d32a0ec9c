"""The command line at a terminal, and at the other end of a pipe: colour, width, pager, completion,
and what a newcomer types first."""

import fcntl
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from sextant.cli.main import cli
from sextant.cli.output import width
from sextant.cli.table import COMMANDS, GROUPS

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")
_WIDE = """
import polars as pl
import sextant as sx

ops = sx.team("ops", members=["ann"])
sx.project("wide", tz="UTC", owner=ops, environments=["dev"])


@sx.dataset(key="id", columns={"note": "string"}, personal="who", checks=[sx.between("n", 0, 10, severity="warn")])
def things() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": ["0198c5e0-7c1b-7d5e-8b1a-0123456789ab", "b"],
            "n": [1234567890123456789, 2],
            "note": ["a long story " * 20, "日本語のテキスト と 続き " * 9],
            "who": ["ann", "bob"],
        }
    )


@sx.dataset(key="id", checks=[sx.between("n", 0, 10)])
def bad(things: pl.DataFrame) -> pl.DataFrame:
    return things.select("id", "n")
"""


class Shown(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    text: str

    @property
    def plain(self) -> str:
        return _ESCAPE.sub("", self.text).replace("\r\n", "\n")

    @property
    def coloured(self) -> bool:
        return "\x1b[" in self.text


class Person:
    """Somebody at a terminal, in the folder of a project."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        program = home / "bin" / "sextant"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sextant.cli.main "$@"\n')
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "HOME": str(home),
            "SEXTANT_USER": "ann",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        }

    def types(
        self,
        *words: str,
        columns: int = 80,
        rows: int = 200,
        keys: str = "",
        after: str = "",
        **environment: str,
    ) -> Shown:
        """Run a command at a terminal of this size; type `keys` when it has written `after`."""
        here, there = pty.openpty()
        termios.tcsetwinsize(here, (rows, columns))
        process = subprocess.Popen(
            [sys.executable, "-m", "sextant.cli.main", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - its own terminal
        )
        os.close(there)
        out = b""
        while True:
            try:
                read = os.read(here, 65536)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            out += read
            if keys and after.encode() in out:
                os.write(here, keys.encode())
                keys = ""
        os.close(here)
        return Shown(process.wait(), out.decode())

    def pipes(self, *words: str, **environment: str) -> Shown:
        """Run a command whose output goes to another program."""
        done = subprocess.run(
            [sys.executable, "-m", "sextant.cli.main", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return Shown(done.returncode, done.stdout)

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of bash; `sextant` is ours."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],  # noqa: S607 - bash of the machine
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A person in a project whose second dataset is refused."""
    home = tmp_path_factory.mktemp("terminal")
    folder = home / "wide"
    folder.mkdir()
    (folder / "ops.py").write_text(_WIDE)
    (folder / "sextant.toml").write_text('module = "ops"\n')
    person = Person(folder, home)
    assert person.pipes("run").code == 1
    yield person


# ---------------------------------------------------------------- colour


def test_states_are_coloured_at_a_terminal_only(ann: Person) -> None:
    """If this fails, a pipe gets escape codes, or a person sees no difference between good and
    bad."""
    shown = ann.types("status")
    assert "\x1b[32mup to date\x1b[0m" in shown.text
    assert "\x1b[1masset" in shown.text
    assert "\x1b[31mrefused\x1b[0m" in ann.types("runs").text
    assert not ann.pipes("status").coloured
    assert "\x1b[31merror\x1b[0m: there is no asset" in ann.types("versions", "nothing").text


@pytest.mark.parametrize(
    "no", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}]
)
def test_nobody_gets_colour_against_his_will(ann: Person, no: dict[str, str]) -> None:
    """If this fails, NO_COLOR or a dumb terminal is not respected."""
    assert not ann.types("status", **no).coloured


@pytest.mark.parametrize("yes", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_colour_can_be_forced_but_never_into_json(ann: Person, yes: str) -> None:
    """If this fails, a CI log has no colour, or JSON is no JSON."""
    assert ann.pipes("status", **{yes: "1"}).coloured
    assert not ann.pipes("status", **{yes: "0"}).coloured
    assert not ann.pipes("status", "--json", **{yes: "1"}).coloured
    assert json.loads(ann.types("status", "--json", **{yes: "1"}).plain)["project"] == "wide"


def test_data_cannot_colour_itself(ann: Person) -> None:
    """If this fails, what somebody wrote into a row moves the cursor of whoever looks at it."""
    shown = ann.types("query", r"select '\x1b[31mred' as word", FORCE_COLOR="1")
    assert shown.code == 0
    assert "\x1b[31m" not in shown.text


# ---------------------------------------------------------------- width


def lines_wider_than(shown: Shown, columns: int) -> list[str]:
    return [one for one in shown.plain.splitlines() if width(one) > columns]


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("show", "things"),
        ("runs",),
        ("releases",),
        ("ledger", "show"),
        ("signals",),
        ("doctor",),
    ],
)
def test_a_table_fits_the_terminal(ann: Person, words: tuple[str, ...], columns: int) -> None:
    """If this fails, lines wrap and columns cannot be read."""
    shown = ann.types(*words, columns=columns)
    tables = "\n".join(
        one
        for one in shown.plain.splitlines()
        if not one.startswith(("signal ", "things", "made ", "version "))
    )
    assert not lines_wider_than(Shown(0, tables), columns)


def test_texts_are_shortened_ids_and_numbers_are_not(ann: Person) -> None:
    """If this fails, an id that is copied from the screen finds nothing, or a number is a lie."""
    shown = ann.types("show", "things", columns=100).plain
    assert "0198c5e0-7c1b-7d5e-8b1a-0123456789ab" in shown
    assert "1234567890123456789" in shown
    assert re.search(r" a long story[a-z ]*…", shown)
    assert "a long story " * 20 not in shown
    assert "a long story " * 19 in ann.types("show", "things", "--wide", columns=100).plain
    assert "…" not in ann.types("show", "things", "--wide", columns=100).plain


def test_columns_without_room_are_named(ann: Person) -> None:
    """If this fails, a column is missing and nobody knows."""
    shown = ann.types("runs", columns=66).plain
    assert re.search(r"^--wide also shows .*, reused$", shown, re.MULTILINE)


@pytest.mark.parametrize("words", [("runs",), ("releases",), ("signals",), ("show", "things")])
def test_a_pipe_gets_everything(ann: Person, words: tuple[str, ...]) -> None:
    """If this fails, a script works on shortened texts."""
    piped = ann.pipes(*words, COLUMNS="40").text
    assert "…" not in piped
    assert "--wide" not in piped
    assert piped.replace(" ", "") == ann.types(
        *words, "--wide", columns=40, NO_COLOR="1"
    ).plain.replace(" ", "")


# ---------------------------------------------------------------- pager


@pytest.fixture(scope="module")
def pager(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pager that says that it is one."""
    script = tmp_path_factory.mktemp("pager") / "pager"
    script.write_text("#!/bin/sh\necho PAGED by $1\ncat\n")
    script.chmod(0o755)
    return str(script)


def test_what_does_not_fit_on_the_screen_is_paged(ann: Person, pager: str) -> None:
    """If this fails, the head of a long list has scrolled away."""
    shown = ann.types("ledger", "show", rows=10, SEXTANT_PAGER=f"{pager} mine", PAGER="false")
    assert shown.plain.startswith("PAGED by mine\n")
    assert "project.loaded" in shown.plain
    assert ann.types("ledger", "show", rows=10, PAGER=f"{pager} any").plain.startswith(
        "PAGED by any\n"
    )


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (("ledger", "show"), 300),
        (("--no-pager", "ledger", "show"), 10),
        (("ledger", "show", "--json"), 10),
    ],
)
def test_nothing_else_is_paged(ann: Person, pager: str, words: tuple[str, ...], rows: int) -> None:
    """If this fails, a short answer or JSON waits for a key."""
    shown = ann.types(*words, rows=rows, SEXTANT_PAGER=f"{pager} mine")
    assert shown.code == 0
    assert "PAGED" not in shown.plain
    assert "project.loaded" in shown.plain


@pytest.mark.parametrize("none", ["", "/nowhere/pager"])
def test_without_a_pager_all_is_printed(ann: Person, none: str) -> None:
    """If this fails, a machine without `less` shows nothing."""
    shown = ann.types("ledger", "show", rows=10, SEXTANT_PAGER=none)
    assert (shown.code, "project.loaded" in shown.plain) == (0, True)


def test_a_pager_may_be_left_at_any_time(ann: Person, tmp_path: Path) -> None:
    """If this fails, `q` or Ctrl-C in a pager ends in an error."""
    waits = tmp_path / "waits"
    waits.write_text("#!/bin/sh\ntrap 'exit 130' INT\necho PAGED\nwhile :; do sleep 0.1; done\n")
    waits.chmod(0o755)
    shown = ann.types(
        "ledger", "show", rows=10, SEXTANT_PAGER=str(waits), keys="\x03", after="PAGED"
    )
    assert (shown.code, "interrupted" in shown.plain) == (0, False)
    shown = ann.types("ledger", "show", rows=10, keys="q", after="(UTC)")
    assert (shown.code, "Traceback" in shown.plain) == (0, False)


# ---------------------------------------------------------------- what may be left out


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A person in a project named with a hyphen, with a warning, a KPI that misses its goal, and a
    source that looks back."""
    home = tmp_path_factory.mktemp("newcomer")
    folder = home / "my-shop"
    folder.mkdir()
    (folder / ".git").mkdir()
    person = Person(folder, home)
    made = person.pipes("init", ".", "--json")
    assert json.loads(made.text)["files"] == [".gitignore", "ops.py", "revenue.sql", "sextant.toml"]
    written = (folder / "ops.py").read_text()
    assert 'sx.project("my-shop"' in written
    written = written.replace(
        'key="id", time="at",', 'key="id", time="at", lookback="3650d", personal="shop",', 1
    )
    written = written.replace("sx.row_count(1)]", 'sx.between("amount", 0, 50, severity="warn")]')
    (folder / "ops.py").write_text(
        written
        + 'costs = sx.kpi("costs", of=orders, measure="sum(amount)", grain="1d", goal=sx.goal("<= 5"), unit="EUR")\n'
    )
    assert person.pipes("run").code == 0
    return person


def test_a_look_back_is_not_work_that_is_due(bob: Person) -> None:
    """If this fails, a project whose source looks back is never up to date."""
    assert "looks back" in bob.pipes("plan").text, "every run reads it again"
    status = bob.pipes("status")
    assert status.code == 0
    assert "up to date; each run looks back 3650d" in status.text
    assert "input runs" not in status.text
    assets = {one["asset"]: one for one in json.loads(bob.pipes("status", "--json").text)["assets"]}
    assert assets["dataset:orders"]["looks_back"] == "3650d"
    assert {len(one["to_run"]) for one in assets.values()} == {0}


def test_show_lists_the_columns(bob: Person) -> None:
    """If this fails, a newcomer guesses at types from ten rows."""
    shown = bob.pipes("show", "orders", "--limit", "1").text
    assert re.search(r"^id +string +key$", shown, re.MULTILINE)
    assert re.search(r"^at +timestamptz +time$", shown, re.MULTILINE)
    assert re.search(r"^shop +string +personal$", shown, re.MULTILINE)
    assert re.search(r"^amount +float64$", shown, re.MULTILINE)
    facts = json.loads(bob.pipes("show", "orders", "--json", "--limit", "0").text)
    assert (facts["key"], facts["time"], facts["personal"]) == (["id"], "at", ["shop"])
    assert [column[:2] for column in facts["schema"]][0] == ["id", "string"]


def test_check_alone_checks_all(ann: Person, bob: Person) -> None:
    """If this fails, nobody sees at a glance whether what is live is good."""
    shown = bob.pipes("check")
    assert shown.code == 0, "a warning is no finding"
    assert re.search(r"^warn +dataset:orders +\d+ +0 +1$", shown.text, re.MULTILINE)
    assert re.search(r"^ok +dataset:revenue ", shown.text, re.MULTILINE)
    assert "  warn  dataset:orders[all] between(amount, 0, 50): " in shown.text
    results = json.loads(bob.pipes("check", "--json").text)
    assert {one["asset"] for one in results} >= {"dataset:orders", "dataset:revenue"}
    operations = ann.folder / "ops.py"
    before = operations.read_text()
    operations.write_text(before.replace('severity="warn"', 'severity="error"'))
    try:
        failed = ann.types("check")
        assert failed.code == 1
        assert "\x1b[31mFAIL\x1b[0m" in failed.text
    finally:
        operations.write_text(before)


def test_kpi_alone_lists_all(bob: Person) -> None:
    """If this fails, the numbers of a company take as many commands as there are."""
    shown = bob.pipes("kpi").text
    one = json.loads(bob.pipes("kpi", "costs", "--json").text)
    assert re.search(
        rf"^kpi:costs +{re.escape(str(one['rows'][0]['value']))} +EUR +<= 5 +MISSED ",
        shown,
        re.MULTILINE,
    )
    assert re.search(r"^kpi:average_order .*>= 40 +met ", shown, re.MULTILINE)
    assert {seen["kpi"] for seen in json.loads(bob.pipes("kpi", "--json").text)} == {
        "kpi:costs",
        "kpi:average_order",
    }
    assert bob.pipes("kpi", "--by", "shop").code == 2


def test_versions_alone_lists_the_newest_of_each(bob: Person) -> None:
    """If this fails, what stands where takes as many commands as there are assets."""
    rows = json.loads(bob.pipes("versions", "--json").text)
    assert {row["asset"] for row in rows} >= {"dataset:orders", "dataset:revenue", "kpi:costs"}
    assert {row["state"] for row in rows} == {"live"}


@pytest.mark.parametrize("command", ["show", "why"])
def test_a_missing_asset_is_answered_with_those_there_are(bob: Person, command: str) -> None:
    """If this fails, a newcomer reads the help to learn the names of his own assets."""
    shown = bob.types(command)
    assert shown.code == 2
    assert "dataset:orders" in shown.plain
    assert "kpi:costs" in shown.plain


def test_a_project_may_have_a_hyphen_in_its_name(bob: Person) -> None:
    """If this fails, the folder that a newcomer has already cannot become a project."""
    assert json.loads(bob.pipes("status", "--json").text)["project"] == "my-shop"
    assert bob.pipes("query", "select count() > 0 from data.orders").text.splitlines()[
        -1
    ].strip() in ("1", "true")
    assert bob.pipes("doctor").code == 0
    again = bob.types("init", ".")
    assert again.code == 2
    assert "is not empty" in again.plain


# ---------------------------------------------------------------- help and completion


def commands_of(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_option_and_argument_has_a_line_of_help() -> None:
    """If this fails, somebody has to read the code to learn what an argument is."""
    silent = [
        f"{path} {parameter.name}"
        for path, command in commands_of(cli, "sextant")
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


def test_every_command_stands_in_one_group() -> None:
    """If this fails, `--help` hides a command."""
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def offered(person: Person, line: str) -> list[str]:
    """Return what bash offers for a line, as the tab key would."""
    words = line.split(" ")
    done = person.shell(
        'eval "$(sextant completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        "_sextant_completion sextant\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("sextant ", {"init", "run", "status", "completion"}),
        ("sextant ro", {"rollback"}),
        ("sextant kpi --b", {"--by"}),
        ("sextant env d", {"diff", "drop"}),
        ("sextant show or", {"orders"}),
        ("sextant plan +or", {"+orders"}),
        ("sextant run orders,+or", {"orders,+orders"}),
        ("sextant kpi ", {"costs", "average_order"}),
        ("sextant run --env ", {"dev", "prod"}),
        ("sextant completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(bob: Person, line: str, some: set[str]) -> None:
    """If this fails, the tab key does nothing."""
    found = offered(bob, line)
    assert some <= set(found)
    assert all(one.startswith(line.rpartition(" ")[2]) for one in found)


def test_ids_are_completed(bob: Person) -> None:
    """If this fails, an id of thirty characters has to be copied by hand."""
    run = json.loads(bob.pipes("runs", "--json").text)[0]["id"]
    release = json.loads(bob.pipes("releases", "--json").text)[0]["id"]
    version = json.loads(bob.pipes("versions", "orders", "--json").text)[0]["version"][:12]
    assert run in offered(bob, "sextant runs run_")
    assert release in offered(bob, "sextant releases ")
    assert version in offered(bob, "sextant rollback orders ")
    assert version in offered(bob, "sextant show orders --as-of ")


def test_completing_leaves_no_trace_and_never_fails(bob: Person, tmp_path: Path) -> None:
    """If this fails, the tab key writes into a project, or prints an error over the line."""

    def files() -> dict[str, tuple[int, int]]:
        found = bob.folder.rglob("*")  # a folder changes when a file in it comes and goes
        return {str(one): (one.stat().st_mtime_ns, one.stat().st_size) for one in found}

    before = files()
    state = bob.folder / ".sextant" / "state.db"
    assert "orders" in offered(bob, "sextant show ")
    assert files() == before
    with sqlite3.connect(state) as writer:  # a writer at work, with a log beside the file
        writer.execute("BEGIN IMMEDIATE")
        assert "orders" in offered(bob, "sextant show ")
        writer.rollback()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert offered(Person(empty, tmp_path), "sextant show ") == []
    assert list(empty.iterdir()) == []
    assert offered(bob, "sextant nothing x") == []
    bob.environment["SEXTANT_SERVER"] = "http://127.0.0.1:9"
    try:
        assert offered(bob, "sextant show ") == []
    finally:
        del bob.environment["SEXTANT_SERVER"]


def test_completing_imports_little() -> None:
    """If this fails, each press of the tab key takes as long as a run."""
    script = (
        "import sys\nfrom sextant.cli.main import call\n"
        "try: call([])\nexcept SystemExit: pass\n"
        "print([name for name in ('polars', 'pyarrow', 'duckdb', 'sextant.app.platform') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "_SEXTANT_COMPLETE": "bash_complete",
            "COMP_WORDS": "sextant show ",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_other_shells_can_read_their_script(
    ann: Person, tmp_path: Path, shell: str, check: str
) -> None:
    """If this fails, the script for a shell is broken."""
    script = ann.pipes("completion", shell).text
    assert re.search(r"\bsx\b", script)
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(script)
    subprocess.run([shell, check, str(file)], check=True)


# ---------------------------------------------------------------- small things


def test_init_names_the_project_after_its_folder(tmp_path: Path) -> None:
    """If this fails, `init .` writes a project that cannot be loaded, or over what is there."""
    folder = tmp_path / "My Shop"
    folder.mkdir()
    person = Person(folder, tmp_path)
    assert "cd " not in person.pipes("init", ".").text
    assert 'sx.project("my-shop"' in (folder / "ops.py").read_text()
    digits = tmp_path / "2026"
    digits.mkdir()
    assert "SX-CLI-007" in Person(digits, tmp_path).types("init", ".").plain
    assert not list(digits.iterdir())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-o", "rows.xlsx"), "SX-CLI-048"),
        (("-o", "rows.xlsx", "--format", "Parquet"), "SX-CLI-048"),
        (("-o", "rows.csv.gz"), "SX-CLI-048"),
        (("-o", "rows.csv", "--format", "Parquet"), "SX-CLI-047"),
        (("-o", "rows.jsonl", "--format", "JSON"), "SX-CLI-047"),
    ],
)
def test_a_file_is_what_its_name_says(ann: Person, words: tuple[str, ...], code: str) -> None:
    """If this fails, a file named .xlsx holds lines of JSON."""
    shown = ann.types("export", "things", *words)
    assert shown.code == 2
    assert code in shown.plain
    assert not list(ann.folder.glob("rows*"))


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        ("rows.parquet", b"PAR1"),
        ("rows.csv", b'"id","n"'),
        ("rows.JSONL", b'{"id"'),
        ("rows.json", b"[{"),
    ],
)
def test_the_name_of_a_file_chooses_the_format(
    ann: Person, tmp_path: Path, name: str, starts: bytes
) -> None:
    """If this fails, --format has to be typed where the name has said it."""
    assert ann.pipes("export", "things", "-o", str(tmp_path / name)).code == 0
    assert (tmp_path / name).read_bytes().startswith(starts)
    assert (
        ann.pipes("export", "things", "-o", str(tmp_path / "rows"), "--format", "Parquet").code == 0
    )
    assert (tmp_path / "rows").read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    "command",
    [
        "query \"select number, repeat('x', 100) from numbers(20000)\"",
        "query --json \"select number, repeat('x', 100) from numbers(20000)\"",
        "query --format CSV \"select number, repeat('x', 100) from numbers(20000)\"",
        "ledger show --limit 1000 --data",
        "export numbers --format CSVWithNames",
        "logs",
        "runs --json",
        "--help",
        "show --help",
        "show nothing --json",
    ],
)
def test_a_reader_that_has_enough_ends_the_command_silently(long: Person, command: str) -> None:
    """If this fails, `| head` ends in a traceback, a message or a wrong exit code."""
    done = long.shell(
        f"sextant {command} 2> err | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}; cat err"
    )
    code, *said = done.stdout.splitlines()
    assert code == ("2" if "nothing" in command else "0")
    assert [line for line in said if "nothing" not in command] == []
    closed = long.shell(f"sextant {command} 2> err | true; echo ${{PIPESTATUS[0]}}; cat err").stdout
    assert "Traceback" not in closed
    assert "Exception" not in closed
    assert "ignored" not in closed


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A person in a project with more rows and lines of log than a pipe holds."""
    home = tmp_path_factory.mktemp("long")
    folder = home / "long"
    folder.mkdir()
    (folder / "ops.py").write_text(
        _WIDE.partition("@")[0]
        + """
@sx.dataset(key="id")
def numbers() -> pl.DataFrame:
    for n in range(5_000):
        print("a line of the log", n)
    return pl.DataFrame({"id": range(50_000)})
"""
    )
    (folder / "sextant.toml").write_text('module = "ops"\n')
    person = Person(folder, home)
    assert person.pipes("run").code == 0
    return person


def test_up_listens_where_it_is_told(long: Person) -> None:
    """If this fails, a newcomer edits a file to try another port."""
    (long.folder / "sextant.toml").write_text(
        'module = "ops"\n[server]\ningest = "127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
    )
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sextant.cli.main",
            "up",
            "--json",
            "--host",
            "127.0.0.2",
            "--port",
            "0",
        ],
        cwd=long.folder,
        env=long.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    with server:
        address = json.loads(server.stdout.readline())["api"]
        assert re.fullmatch(r"http://127\.0\.0\.2:\d+", address)
        with urllib.request.urlopen(f"{address}/healthz") as answer:  # noqa: S310 - our own address
            assert answer.status == 200
        server.terminate()
    assert server.returncode == 0
