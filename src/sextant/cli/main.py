"""The command `sextant`: finds the command's code when it is called, prints errors the way people
can use them.

stdout is data, stderr is talk. Exit codes: 0 ok, 1 a finding, 2 usage, 3 the world failed, 70 a
bug, 130 interrupted. SEXTANT_DEBUG=1 shows the traceback of an error that is not ours.
"""

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sextant.cli.output import line, mark, nobody_reads, put, say, stop_writing
from sextant.cli.table import COMMANDS, groups, has
from sextant.kernel import registry
from sextant.kernel.errors import Bug, ProjectError, SextantError, WorldError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_WIDEST = max(map(len, COMMANDS))
_HELP_LETTERS = 80  # of a command of a kind, in the list


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for names in groups().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if not has(cmd_name):
            return None
        if cmd_name not in COMMANDS:
            return _of_kind(cmd_name)
        import importlib

        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, names in groups().items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{_WIDEST}}", about(name)) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Offer commands, and the options in front of them; only those of kinds are imported."""
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=about(name))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except BrokenPipeError:  # the help, to a pipe that has closed
            stop_writing()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A broken pipe is a failure unless it is our stdout."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if nobody_reads():
                stop_writing()
            raise _ours(error) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = not args or args[0].startswith("-") or has(args[0])
        if not known and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2)
            ctx.fail(
                f"there is no command `{args[0]}`"
                + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
        return super().resolve_command(ctx, args)


def about(name: str) -> str:
    """Return a command's one line of help, or why it cannot be loaded."""
    if name in COMMANDS:
        return COMMANDS[name][1]
    try:
        return _of_kind(name).get_short_help_str(_HELP_LETTERS)
    except ProjectError as error:  # of another package: the others are shown
        return error.message


def _of_kind(name: str) -> click.Command:
    """Return the command that a kind brings. ProjectError for what is none."""
    found = registry.load(f"command.{name}")
    if not isinstance(found, click.Command):
        raise ProjectError(
            "SX-REG-013",
            f"what stands behind `command.{name}` is no command",
            hint="`@click.command()` above a function",
        )
    return found


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--project",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="The project's folder (default: found from here upwards).",
)
@click.option(
    "--server",
    default=None,
    metavar="URL",
    envvar="SEXTANT_SERVER",
    help="Work with the project at this server (token in SEXTANT_TOKEN).",
)
@click.option(
    "--no-pager",
    is_flag=True,
    help="Print all at once where it does not fit on the screen.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda c, _p, v: _version(c) if v else None,
    help="Show the version.",
)
@click.pass_context
def cli(ctx: click.Context, project: str | None, server: str | None, no_pager: bool) -> None:
    """Operate services, infrastructure, data, models, security and business numbers as one
    graph."""
    ctx.obj = {"project": project, "server": server, "no_pager": no_pager}


def _version(ctx: click.Context) -> NoReturn:
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"sextant {version('sextant-ops')}")
    except PackageNotFoundError:
        click.echo("sextant (from source)")
    ctx.exit(0)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(call(sys.argv[1:] if args is None else args))


def call(args: list[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        return _call(args)
    except click.exceptions.Exit as done:
        return int(done.exit_code)


def _call(args: list[str]) -> int:
    try:
        result: Any = cli.main(args=args, prog_name="sextant", standalone_mode=False)
    except SextantError as error:
        return _failed(error, as_json="--json" in args)
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: nothing half-done was published; run again to go on", err=True)
        return 130
    except Exception as error:  # not ours: never to be taken for a finding
        return _failed(_ours(error), as_json="--json" in args)
    return result if isinstance(result, int) else 0


def _ours(error: Exception) -> SextantError:
    """Return the error that says what another one means here, with the other one as its cause."""
    ours: SextantError
    if isinstance(error, OSError):
        hint = (
            "mend what the system says (a full disk, a missing permission, a lost connection) "
            "and run again; what was acknowledged is safe"
        )
        ours = WorldError("SX-CLI-020", "the machine refused: " + _system_says(error), hint=hint)
    else:
        import traceback

        hint = "please report it; SEXTANT_DEBUG=1 shows where it happened"
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = Bug(
            "SX-CLI-021",
            "a promise inside Sextant was broken",
            hint=hint,
            where=f"{os.path.basename(frame.filename)}:{frame.lineno}",
        )
    if os.environ.get("SEXTANT_DEBUG"):
        import traceback

        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    ours.__cause__ = error
    return ours


def _system_says(error: OSError) -> str:
    said = error.strerror or str(error) or type(error).__name__
    return said + (f": `{error.filename}`" if error.filename else "")


def _failed(error: SextantError, *, as_json: bool) -> int:
    if as_json:
        import msgspec

        put(msgspec.json.format(msgspec.json.encode(error.problem())).decode() + "\n")
    first, *more = error.lines()
    word, colon, rest = first.partition(":")
    for one in (line(mark(word, "bad"), colon, rest), *more):
        say(one)
    return error.exit_code


if __name__ == "__main__":
    main()
