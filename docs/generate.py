"""Writes docs/reference, and the tables of modules in docs/architecture.md, from the code: `python
docs/generate.py`. With `--check` it writes nothing and exits 1 when a page is stale.

Every page follows from source, docstrings and the command table alone, so two runs give the same
bytes; a test compares them.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "sextant"
OUT = ROOT / "docs" / "reference"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ADD_A_KIND = ROOT / "docs" / "how-to" / "add-a-kind.md"
TOY_KIND = ROOT / "tests" / "toy" / "notices.py"
_MADE = "<!-- Made by docs/generate.py: edit the code, not this page. -->\n"
_MODULES = re.compile(r"(<!-- modules of (\w+) -->\n).*?(<!-- end of modules -->\n)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`])")
_CODE = re.compile(r"SX-([A-Z]+)-(?:\d{3}|[A-Z]+)")

AREAS = {
    "ACCESS": "accounts and tokens",
    "API": "the HTTP API",
    "BACKUP": "backups",
    "BLOB": "the blob store",
    "BUNDLE": "a project's files as one bundle",
    "CHECK": "checks",
    "CLI": "words of the command line",
    "CONF": "`sextant.toml`",
    "DATA": "what a step returned",
    "DERIVE": "numbers derived without some of the changes",
    "DIFF": "comparing",
    "ENGINE": "promises of the engine",
    "ENV": "environments",
    "EXPORT": "rows that are taken out",
    "EXTRA": "optional parts of the installation",
    "FILE": "the disk",
    "GRAPH": "the picture of the graph",
    "INCIDENT": "incidents",
    "INTAKE": "what telemetry sends",
    "JUDGE": "judging canaries",
    "KEEP": "which bytes are kept",
    "KPI": "business numbers",
    "LAKE": "tables",
    "LEDGER": "the ledger",
    "LENGTH": "lengths of time",
    "LOAD": "the loader's process",
    "LOOK": "looking into telemetry",
    "OUT": "calls that leave the machine",
    "PAGE": "pages of lists",
    "PART": "partitions",
    "PLAN": "planning and names of assets",
    "POLICY": "who may do what",
    "PROJ": "a project's own files",
    "PROMISE": "what releases are expected to do",
    "REG": "the registry",
    "RELEASE": "releases",
    "REMOTE": "a server that is asked",
    "REPORT": "what other tools did",
    "RUN": "runs",
    "SECRET": "secrets",
    "SIGNAL": "signals",
    "SQL": "the SQL endpoint",
    "STATE": "the state store",
    "STEP": "steps",
    "STREAM": "rows that are pushed",
    "TELEMETRY": "the telemetry store",
    "TEXT": "texts that are sent",
    "UNDO": "undoing",
    "UPLOAD": "uploads of a project",
    "UP": "the processes of a server",
    "VERSION": "versions",
}
EVENTS = {
    "access.refused": "Somebody was not let in, or may not do it; summed up by actor and reason.",
    "account.created": "An account exists.",
    "account.disabled": "An account is disabled; its tokens and sessions ended.",
    "asset.declared": "An asset is new in the project, or its declaration changed.",
    "asset.observed": "An asset of another tool was seen, or its place in the graph changed.",
    "asset.retired": "An asset is no longer declared.",
    "check.reported": "Another tool checked an observed asset.",
    "checks.completed": "Checks ran on exactly this version.",
    "decision.denied": "The policy said no.",
    "decision.overridden": "The policy said no, and somebody broke the glass.",
    "env.created": "An environment exists.",
    "env.dropped": "An environment is gone.",
    "incident.changed": "Somebody worked on an incident; `change` says what he did.",
    "incident.closed": "People are done with an incident, or its release was resolved.",
    "incident.opened": "Something needs people: an undo failed, a release is stuck.",
    "ledger.gap_noted": (
        "Two checkpoints that stand next to each other do not name each other; the key signed that."
    ),
    "ledger.key_rotated": "The signing key was replaced; both keys signed the change.",
    "ledger.pinned": "Somebody said that this ledger and this key are the project's.",
    "payload.erased": "What an event said was erased.",
    "promise.made": "A release is expected to do this to a business number.",
    "promise.settled": "The time of a promise is over: what the release brought, derived without it.",
    "project.loaded": "The project's files changed and were loaded.",
    "release.gated": "The checks of a release passed.",
    "release.live": "All pointers of a release moved, at once.",
    "release.paused": "A person held a roll-out, or its judge could not tell.",
    "release.proposed": "Versions are to become live.",
    "release.rejected": "The gate, a person or a moved pointer stopped a release.",
    "release.reported": "Another tool released an observed asset.",
    "release.rolled_back": "A live release was undone.",
    "release.rolling": "A release began to be rolled out, reached a step, waits, or failed and is tried again.",
    "release.undoing": "A release that is not live is taken back: judged bad, or aborted.",
    "release.stuck": "A step of a roll-out, or its undo, failed again and again.",
    "release.superseded": "A newer release took the place of a waiting one.",
    "release.waiting": "A release waits for people.",
    "rows.dropped": "A person gave up a pushed batch that was not part of the dataset yet.",
    "rows.folded": (
        "Pushed rows became input of a dataset: which batches, from whom, and where they are kept."
    ),
    "rows.refused": (
        "An acknowledged batch cannot become rows of the dataset as it is declared now; it is kept."
    ),
    "run.finished": "A run ended; `seal` is the digest of its step history.",
    "run.reported": "Another tool ran an observed asset.",
    "run.started": "A run began.",
    "session.ended": "A browser was signed out: by its person, or by an administrator.",
    "session.started": "Somebody signed in with a browser; `how` says by what.",
    "signal.closed": "A signal was looked at, or its cause is gone.",
    "signal.repeated": "The condition of an open signal was met again; one event in five minutes.",
    "signal.raised": "Something noteworthy about an asset.",
    "token.created": "A token was made; its secret is not kept.",
    "token.handed": "Another person answers for a token, and for all that were made with it.",
    "token.revoked": "A token was revoked.",
    "version.confirmed": "Other code or inputs made content that was live already.",
    "version.created": "A version exists; it is not live by that.",
    "version.expired": "The rows of a version are no longer kept; the record is.",
    "version.relocated": "The same content lies in other files (small ones were merged).",
    "version.restored": "A run made content again whose rows had expired; the record is the first run's.",
    "version.reused": "A run made content that exists as a version already; the record is the first run's.",
    "version.tainted": "A version was made from one that was withdrawn.",
    "hold.answered": "What is held was made again: what differs from what was undone is published.",
    "version.unheld": "A person lifted the mark of a withdrawn version.",
    "version.withdrawn": "A version was undone in an environment and is not chosen again.",
}


def pages() -> dict[str, str]:
    """Return file name -> text of every page."""
    made = {
        "commands.md": commands(),
        "author.md": author(),
        "errors.md": errors(),
        "settings.md": settings(),
        "events.md": events(),
        "limits.md": limits(),
        "nouns.md": nouns(),
    }
    return {name: _MADE + text.rstrip() + "\n" for name, text in made.items()} | {
        "openapi.json": openapi()
    }


# ---------------------------------------------------------------- commands


def commands() -> str:
    """Return the page of the command line."""
    from sextant.cli.main import about, cli
    from sextant.cli.table import groups

    context = click.Context(cli, info_name="sextant")
    out = [
        "# Commands\n",
        (
            "`sextant COMMAND`, short `sx COMMAND`. The project is found from the working "
            "directory upwards, or named: `sextant --project DIR COMMAND`."
        ),
        (
            "stdout is data, stderr is talk. Every command that prints data takes `--json`. Who "
            "acts is the login name, or `SEXTANT_USER`.\n"
        ),
        (
            "At a terminal, states and severities have a colour: never with `NO_COLOR` or "
            "`TERM=dumb`, elsewhere with `FORCE_COLOR=1` or `CLICOLOR_FORCE=1`. Columns of texts "
            "are shortened so that a line fits; those that still have no room are named below the "
            "table; `--wide` shows all. What does not fit on the screen is shown by the pager "
            "`SEXTANT_PAGER`, else `PAGER`, else `less -FRX`; `sextant --no-pager COMMAND` prints "
            "it. A pipe, a file and `--json` get everything, without colour and pager.\n"
        ),
        (
            "| exit code | means |\n|---|---|\n| 0 | ok |\n| 1 | a finding: a check failed, a "
            "release was rejected, two states differ, something needs a person |"
        ),
        (
            "| 2 | what was asked cannot be done as asked; nothing changed |\n| 3 | the world "
            "failed: a step, a disk, another process holds the table |"
        ),
        "| 70 | a bug in Sextant |\n| 130 | interrupted; nothing half-done was published |\n",
        *(
            f"{title}:\n\n| command | does |\n|---|---|\n"
            + "\n".join(f"| [`{name}`](#{name}) | {about(name)} |" for name in names)
            + "\n"
            for title, names in groups().items()
        ),
    ]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        out += _command(command, f"sextant {name}", 2)
    return "\n".join(out)


def _command(command: click.Command, path: str, level: int) -> Iterator[str]:
    heading = path.removeprefix("sextant ")
    yield f"{'#' * level} {heading}\n"
    yield _paragraphs(command.help or "") + "\n"
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _command(command.commands[name], f"{path} {name}", level + 1)
        return
    words = [
        path,
        *("[OPTIONS]" if any(isinstance(p, click.Option) for p in command.params) else "",),
        *(_argument(p) for p in command.params if isinstance(p, click.Argument)),
    ]
    yield "```\n" + " ".join(filter(None, words)) + "\n```\n"
    rows = [
        f"| `{_option(p) if isinstance(p, click.Option) else _in_table(p)}` | {p.help or ''} |"
        for p in sorted(command.params, key=lambda p: isinstance(p, click.Option))
    ]
    yield (
        "| argument, option | does |\n|---|---|\n" + "\n".join(rows).replace("|A..B", "A..B") + "\n"
        if rows
        else ""
    )


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    if isinstance(argument.type, click.Choice):
        name = "{" + "|".join(argument.type.choices) + "}"
    many = " ..." if argument.nargs == -1 else ""
    return f"[{name.strip('[]')}{many}]" if not argument.required else name + many


def _in_table(argument: click.Argument) -> str:
    return _argument(argument).replace("|", "\\|")


def _option(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    metavar = option.metavar or option.type.name.upper()
    return f"{names} {metavar}".replace("|", "\\|")


def _paragraphs(text: str) -> str:
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        f"`{block.strip()}`" if block.strip().startswith("python -m") else " ".join(block.split())
        for block in blocks
    )


# ---------------------------------------------------------------- the author's words


def author() -> str:
    """Return the page of what `import sextant as sx` offers, signatures as they are written in the
    source."""
    import sextant

    out = [
        "# The author's words\n",
        (
            "`import sextant as sx`. Declarations return typed objects and register only while "
            "the loader imports the project; called in a unit test they do nothing else."
        ),
        (
            "`Owner` is a team or its name, `Columns` a name or several, `Check` what a check's "
            "constructor returns, `Source` an asset, its name or a `window`.\n"
        ),
        "Lengths of time are written `30s`, `10m`, `36h`, `3d`, `2w`; sizes `512MB`, `2GB`.\n",
    ]
    for title, names in _groups():
        out.append(f"## {title}\n")
        for name in names:
            out += _word(name, getattr(sextant, name))
    return "\n".join(out) + "\n" + _sql_header() + "\n" + _testing()


def _groups() -> Iterator[tuple[str, list[str]]]:
    from sextant.kernel.builtins import ROWS

    titles = {
        "declare": "Declarations",
        "words": "Declarations",
        "checks": "Checks",
        "partitions": "What functions receive",
        "context": "What functions receive",
        "notebook": "Notebooks",
    }
    seen: dict[str, list[str]] = {title: [] for title in titles.values()}
    for id_, target in ROWS:
        if id_.startswith("word."):
            module, _, name = target.partition(":")
            seen[titles[module.rpartition(".")[2]]].append(name)
    for title, names in seen.items():
        yield title, sorted(names, key=str.lower)


def _word(name: str, value: Any) -> Iterator[str]:
    yield f"### sx.{name}\n"
    if isinstance(value, type):
        yield _docstring(value.__doc__ or "") + "\n"
        members = _members(value)
        if members:
            yield "\n".join(f"- {line}" for line in members) + "\n"
        return
    yield "```python\n" + _signature(value) + "\n```\n"
    yield _docstring(value.__doc__ or "") + "\n"


def _members(kind: type) -> list[str]:
    found = []
    for field in getattr(kind, "__struct_fields__", ()):
        found.append(f"`{field}`")
    for name, member in vars(kind).items():
        if isinstance(member, property):
            found.append(f"`{name}`: {' '.join((member.__doc__ or '').split())}")
    if not found:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        found = [
            f"`{node.attr}`"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        ]
    return found


def _signature(function: Callable[..., Any]) -> str:
    """Return the signature as written, without the parameters that only catch mistakes."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    if arguments.vararg and "Never" in ast.unparse(arguments.vararg.annotation or ast.Constant("")):
        arguments.vararg = None
    arguments.kwarg = None
    parts = _arguments(arguments)
    text = f"{node.name}({', '.join(parts)})"
    returns = f" -> {_annotation(node.returns)}" if node.returns else ""
    if len(text) + len(returns) > 110:
        text = f"{node.name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"
    return text + returns


def _arguments(arguments: ast.arguments) -> list[str]:
    out = []
    defaults: list[ast.expr | None] = [
        *([None] * (len(arguments.args) - len(arguments.defaults))),
        *arguments.defaults,
    ]
    for one, default in zip(arguments.args, defaults, strict=True):
        out.append(_argument_text(one, default))
    if arguments.vararg:
        out.append("*" + _argument_text(arguments.vararg, None))
    elif arguments.kwonlyargs:
        out.append("*")
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        out.append(_argument_text(one, default))
    return out


def _argument_text(one: ast.arg, default: ast.expr | None) -> str:
    text = one.arg + (f": {_annotation(one.annotation)}" if one.annotation else "")
    return text + (f" = {ast.unparse(default)}" if default is not None else "")


def _annotation(node: ast.expr) -> str:
    return (
        str(node.value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        else ast.unparse(node)
    )


def _docstring(text: str) -> str:
    """Return a docstring as Markdown: prose as it is, indented or columned blocks as they stand."""
    out = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.splitlines()
        columned = sum(bool(re.match(r"\s*[\w, ()]+?  +\S", line)) for line in lines) * 2 >= len(
            lines
        )
        code = any(line.startswith(("@", "    ")) for line in lines) and not columned
        out.append(
            "```python\n" + block + "\n```"
            if code
            else "```\n" + block + "\n```"
            if columned
            else " ".join(block.split())
        )
    return "\n\n".join(out)


def _sql_header() -> str:
    from sextant.kinds.dataset.declarations import sqlfile

    return (
        '## The header of a `.sql` file\n\nA dataset of `sx.sql("file.sql")` takes its '
        "settings from comments at the top of the file; its inputs are the tables that the "
        "query names.\n\n"
        "```sql\n"
        + "\n".join(
            line.strip()
            for line in (sqlfile.__doc__ or "").splitlines()
            if line.strip().startswith("--")
        )
        + "\n```\n\n"
        "Words: "
        + ", ".join(f"`{key}`" for key in sqlfile.KEYS)
        + ". Each once; `check` may repeat. Other comments are prose. The dialect is DuckDB's.\n"
    )


def _testing() -> str:
    from sextant import testing

    out = [
        "## sextant.testing\n",
        (
            "For the tests of a project: a platform in a temporary folder, and the checks of an "
            "asset on a frame.\n"
        ),
    ]
    for name in ("platform", "check"):
        function = inspect.unwrap(getattr(testing, name))
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(node, ast.FunctionDef)
        parts = _arguments(node.args)
        out.append(
            f"### testing.{name}\n\n```python\n{name}(\n"
            + "".join(f"    {part},\n" for part in parts)
            + f") -> {_annotation(node.returns or ast.Constant(''))}\n```\n"
        )
        out.append(_docstring(function.__doc__ or "") + "\n")
    return "\n".join(out)


# ---------------------------------------------------------------- errors


def errors() -> str:
    """Return the page of error codes, read from the calls that raise or note them."""
    found = error_table()
    out = [
        "# Errors\n",
        (
            "Every error says what failed, where, and how to mend it, and has a code that does "
            "not change. `‹word›` stands for a value. With `--json` a failing command prints"
        ),
        "`{type, title, code, hint, where, status}` on stdout as well.\n",
        "| kind | exit code | means |\n|---|---|---|\n"
        + "\n".join(f"| {name} | {code} | {text} |" for name, code, text in _kinds())
        + "\n",
    ]
    for area in sorted({_area(code) for code in found}):
        out.append(f"## SX-{area}: {AREAS[area]}\n")
        for code in sorted(code for code in found if _area(code) == area):
            out += [
                f"- **{code}**{f' ({kind})' if kind else ''} {message or 'said where it happens'}"
                + (f"  \n  *{hint}*" if hint else "")
                for kind, message, hint in found[code]
            ]
        out.append("")
    return "\n".join(out)


def error_table() -> dict[str, list[tuple[str, str, str]]]:
    """Return code -> (kind, message, hint) for each place in the source that uses it, without
    repetitions."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, entry in _codes(ast.parse(path.read_text(encoding="utf-8"))):
            entries = found.setdefault(code, [])
            if entry not in entries and (entry[1] or not entries):
                entries.append(entry)
    for entries in found.values():
        if any(message for _, message, _ in entries):
            entries[:] = sorted(entry for entry in entries if entry[1])
    return found


def _codes(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for at, argument in enumerate(node.args):
                if (
                    isinstance(argument, ast.Constant)
                    and isinstance(argument.value, str)
                    and _CODE.fullmatch(argument.value)
                ):
                    given = {k.arg: k.value for k in node.keywords}
                    message = node.args[at + 1] if at + 1 < len(node.args) else None
                    hint = given.get("hint") or (
                        node.args[at + 2] if at + 2 < len(node.args) else None
                    )
                    name = (
                        node.func.attr
                        if isinstance(node.func, ast.Attribute)
                        else getattr(node.func, "id", "")
                    )
                    yield argument.value, (_kind(name), _text(message), _text(hint))
        elif isinstance(node, ast.Dict):
            said = {
                key.value: value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
            }
            code = said.get("error_code")
            if (
                isinstance(code, ast.Constant)
                and isinstance(code.value, str)
                and _CODE.fullmatch(code.value)
            ):
                yield code.value, ("StepFailed", _text(said.get("error")), _text(said.get("hint")))


def _kind(name: str) -> str:
    if name in ("note", "report", "Failure", "refuse", "joined"):
        return "ProjectError"
    if name in ("failed", "_failure"):
        return "StepFailed"
    return name if name in {kind for kind, _, _ in _kinds()} else ""


def _kinds() -> list[tuple[str, int, str]]:
    from sextant.kernel import errors as tree

    kinds = [
        value
        for value in vars(tree).values()
        if isinstance(value, type)
        and issubclass(value, tree.SextantError)
        and value is not tree.SextantError
    ]
    return [
        (kind.__name__, kind.exit_code, " ".join((kind.__doc__ or "").split())) for kind in kinds
    ]


def _text(node: ast.expr | None) -> str:
    """Return what a message says, values as ‹name›; "" for what is only known when it happens."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split())
    if isinstance(node, ast.JoinedStr):
        return " ".join(
            "".join(
                part.value if isinstance(part, ast.Constant) else f"‹{_last(part.value)}›"
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            ).split()
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse)
    return ""


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id.strip("_")
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _last(node.value)
    if isinstance(node, ast.Call) and node.args:
        return _last(node.args[0])
    return _last(node.func) if isinstance(node, ast.Call) else "..."


def _area(code: str) -> str:
    return code.split("-")[1]


# ---------------------------------------------------------------- settings, events, limits, nouns


def settings() -> str:
    """Return the page of `sextant.toml` and of the environment variables."""
    from sextant.project.config import Config, Scrape, Server, Telemetry, _Keys

    variables = {
        "SEXTANT_USER": "who acts, instead of the login name",
        "SEXTANT_PAGER": 'the pager, instead of `PAGER` and `less -FRX`; "" = none',
        "SEXTANT_SERVER": "address of a server that commands and `sx.open()` ask, instead of the folder",
        "SEXTANT_TOKEN": "the token that they show it",
        "SEXTANT_DEBUG": "anything: an error comes with its traceback",
        "SEXTANT_THREADS": "threads of DuckDB for queries with `deterministic=False`; the processors are shared out among the workers when it is not set. Other steps compute on one",
        "POLARS_MAX_THREADS": "threads of Polars in each worker: 1 when it is not set, so that sums of floats come out as they were",
        "XDG_CONFIG_HOME": "below it lie the signing keys: `sextant/keys/LEDGER.pem`",
        "XDG_STATE_HOME": "below it lie the witnesses: `sextant/witness/`, by place and by ledger",
    }
    return "\n".join(
        [
            "# Settings\n",
            "## sextant.toml\n",
            (
                "The file marks the project's folder. A misspelt setting is an error with its "
                "line.\n"
            ),
            *_settings_table(_Keys, Config),
            (
                '\n```toml\nmodule = "flights.ops"\nenvironment = "dev"\nworkers = 4\ninclude = '
                '["seeds/*.csv"]\n\n[pools]\nwarehouse = 2\n```\n'
            ),
            *(
                line
                for name, table in (
                    ("[server]", Server),
                    ("[telemetry]", Telemetry),
                    ("[[telemetry.scrape]]", Scrape),
                )
                for line in (f"### {name}\n", *_settings_table(table, table), "")
            ),
            "## Environment variables\n",
            "| variable | is |\n|---|---|",
            *(f"| `{name}` | {text} |" for name, text in variables.items()),
            (
                "\nA secret `NAME` is read from the environment variable of that name, then from "
                "`.sextant/secrets.toml` (mode 0600).\n"
            ),
        ]
    )


def _settings_table(table: type, described: type) -> list[str]:
    """Return the settings of a table of `sextant.toml` as rows; `described` has their meaning."""
    text = re.sub(r"\n {4,}(?=\S)", " ", inspect.getdoc(described) or "")  # continued lines
    said = dict(re.findall(r"^\s*(\w+)  +(.+)$", text, re.MULTILINE))
    tree = ast.parse(inspect.getsource(table)).body[0]
    assert isinstance(tree, ast.ClassDef)
    return [
        "| setting | type | default | is |\n|---|---|---|---|",
        *(
            f"| `{node.target.id}` | `{ast.unparse(node.annotation)}` | "
            f"`{ast.unparse(node.value) if node.value else 'required'}` | {said[node.target.id]} |"
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ),
    ]


def event_types() -> dict[str, str]:
    """Return event type -> name of its payload's struct, "" for a plain object."""
    from sextant.ledger import projections

    found = {}
    for name, projection in projections.PROJECTIONS.items():
        match = re.search(r"type=(\w+)", inspect.getsource(projection))
        found[name] = match[1] if match else ""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else getattr(node.func, "id", "")
                )
                if (
                    called in ("event", "make")
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                    and isinstance(node.args[0].value, str)
                ):
                    found.setdefault(node.args[0].value, "")
    found |= {"payload.erased": "PayloadErased", "ledger.key_rotated": "KeyRotated"}
    found |= {"ledger.gap_noted": "GapNoted"}
    found |= dict.fromkeys(("release.reported", "run.reported", "check.reported"), "")
    return dict(sorted(found.items()))


def events() -> str:
    """Return the page of event types with their payloads."""
    from sextant.kernel import nouns as kernel
    from sextant.ledger import checkpoint, erase, gaps, projections

    types = event_types()
    out = [
        "# Events\n",
        (
            "The ledger holds events; each names the event that caused it. The envelope is "
            "hashed into the tree: `seq`, `id`, `type`, `v`, `time` (ns, UTC), `actor`, "
            "`subject`, `cause` and"
        ),
        (
            "`hash`, the SHA-256 of salt and payload. The payload stands beside it and can be "
            "erased. `sextant ledger show --data` prints both.\n"
        ),
        "| type | means | payload |\n|---|---|---|\n"
        + "\n".join(
            (
                f"| `{name}` | {EVENTS[name]} | "
                f"{f'[{struct}](#{struct.lower()})' if struct else 'an object'} |"
            )
            for name, struct in types.items()
        )
        + "\n",
        "## Payloads\n",
        "Structs of the nouns (Release, Signal, Incident) are described in [nouns](nouns.md).\n",
    ]
    for struct in sorted({name for name in types.values() if name}):
        home = next(
            module
            for module in (kernel, projections, checkpoint, gaps, erase)
            if struct in vars(module)
        )
        out += (
            _struct(Path(inspect.getsourcefile(home) or ""), struct, 3)
            if home is not kernel
            else [f"### {struct}\n", f"See [nouns](nouns.md#{struct.lower()}).\n"]
        )
    return "\n".join(out)


def openapi() -> str:
    """Return the description of the HTTP API, as the server gives it."""
    import json

    import msgspec

    from sextant.server.api.description import describe

    described = json.loads(msgspec.json.encode(describe()))
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def limits() -> str:
    """Return the page of limits."""
    text = (SOURCE / "kernel" / "limits.py").read_text(encoding="utf-8")
    rows = [
        f"| `{ast.unparse(node.targets[0])}` | {_number(ast.unparse(node.value))} | "
        f"{_comment(text.splitlines(), node)} |"
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
    ]
    return (
        "# Limits\n\nReaching one is an error or an event, never a hang.\n\n| limit | value "
        "| unit and reason |\n|---|---|---|\n"
    ) + "\n".join(rows)


def _comment(lines: list[str], node: ast.stmt) -> str:
    """Return the comment behind a statement, or the one on the lines directly above it."""
    behind = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.lstrip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return behind or " ".join(above)


def _number(text: str) -> str:
    value = eval(text, {"__builtins__": {}})  # noqa: S307 - our own constants
    if isinstance(value, int) and "<<" in text:
        shift = int(text.split("<<")[1])
        return (
            f"{text.split('<<', maxsplit=1)[0].strip()} "
            f"{({10: 'KiB', 20: 'MiB', 30: 'GiB'})[shift]}"
        )
    return f"{value:,}"


def nouns() -> str:
    """Return the page of the structs that everything speaks in."""
    path = SOURCE / "kernel" / "nouns.py"
    out = [
        "# Nouns\n",
        (
            "What `--json` prints and the ledger holds. Ids of assets are `kind:name`; times "
            "are ns since the epoch, UTC; digests hex SHA-256. A field at its default is left "
            "out.\n"
        ),
    ]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name != "Noun":
            out += _struct(path, node.name, 2)
    return "\n".join(out)


def _struct(path: Path, name: str, level: int) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    node = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == name)
    yield f"{'#' * level} {name}\n"
    yield (_docstring(ast.get_docstring(node) or "") + "\n") if ast.get_docstring(node) else ""
    yield "| field | type | default | |\n|---|---|---|---|"
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            comment = _comment(lines, field)
            default = f"`{ast.unparse(field.value)}`" if field.value else ""
            yield (
                (
                    f"| `{field.target.id}` | `{ast.unparse(field.annotation)}` | {default} | "
                    f"{comment} |"
                )
                .replace(" | None", " or None")
                .replace("None | ", "None or ")
            )
    yield ""


# ---------------------------------------------------------------- modules


def architecture() -> str:
    """Return docs/architecture.md with its tables of modules as the code is now; the text around
    them stays."""
    return _MODULES.sub(
        lambda found: f"{found[1]}{modules(found[2])}\n{found[3]}",
        ARCHITECTURE.read_text(encoding="utf-8"),
    )


def modules(package: str) -> str:
    """Return the table of a package's modules, each with the first sentence of its docstring. A
    package inside stands as its folder, when it has a docstring."""
    folder = SOURCE / package
    rows = []
    for path in sorted(folder.rglob("*.py"), key=lambda path: (path.parent, path.name)):
        says = _first_sentence(path)
        name = path.relative_to(folder).as_posix().removesuffix("__init__.py")
        if name and (says or not name.endswith("/")):
            rows.append(f"| `{name}` | {says} |")
    return "| module | purpose |\n|---|---|\n" + "\n".join(rows)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return _SENTENCE_END.split(first)[0].rstrip(".").replace("|", "\\|")


def files() -> dict[Path, str]:
    """Return file -> text of all that is made from the code."""
    made = {OUT / name: text for name, text in pages().items()}
    return made | {ARCHITECTURE: architecture(), ADD_A_KIND: add_a_kind()}


def add_a_kind() -> str:
    """Return the page on kinds with the toy kind of the tests as it stands."""
    page = ADD_A_KIND.read_text(encoding="utf-8")
    example = TOY_KIND.read_text(encoding="utf-8")
    head, _, rest = page.partition("<!-- the toy kind -->\n")
    _, end, tail = rest.partition("<!-- end of the toy kind -->\n")
    return f"{head}<!-- the toy kind -->\n```python\n{example}```\n{end}{tail}"


def main() -> int:
    """Write the files, or say which are stale."""
    made = files()
    stale = [
        path
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: python docs/generate.py")
        return int(bool(stale))
    OUT.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    print(f"{len(stale)} pages changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
