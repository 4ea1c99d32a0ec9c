"""completion: the script for a shell, and what it offers.

A shell asks with every press of the key: the command's own module is imported, and for names the
state is glanced at. Where something goes wrong, nothing is offered.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="Whose script.")
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in your shell."""
    from click.shell_completion import get_completion_class

    from sextant.cli.output import put

    made = get_completion_class(shell)
    assert made is not None
    root = click.get_current_context().find_root().command
    script = made(root, {}, "sextant", "_SEXTANT_COMPLETE")
    text = script.source_template % script.source_vars()
    function = "_sextant_completion"
    also = {
        "bash": f"complete -o nosort -F {function} sx\n",
        "zsh": "",
        "fish": f'complete --no-files --command sx --arguments "({function})";\n',
    }[shell]
    put(
        text.replace("compdef sextant", "compdef sextant sx").replace(
            f"compdef {function} sextant", f"compdef {function} sextant sx"
        )
        + also
    )


def assets(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("assets", context, begun)


def selections(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    """Offer names of assets behind `+` and commas too."""
    from click.shell_completion import CompletionItem

    word = re.sub(r"^[0-9]*\+", "", begun.rpartition(",")[2])
    head = begun.removesuffix(word)
    offered = _offer("assets", context, word)
    return [CompletionItem(head + one.value, help=one.help) for one in offered]


def assets_of(
    kind: str,
) -> "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]":
    """Return what offers assets of a kind, by their names alone."""
    return lambda context, _, begun: _offer("assets", context, begun, of=kind)


def environments(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("environments", context, begun)


def runs(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("runs", context, begun)


def releases(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("releases", context, begun)


def incidents(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("incidents", context, begun)


def versions(context: click.Context, _: click.Parameter, begun: str) -> "list[CompletionItem]":
    return _offer("versions", context, begun)


def _offer(
    kind: str, context: click.Context, begun: str, *, of: str = ""
) -> "list[CompletionItem]":
    """Return the names of a kind that begin so; none at a server, and none when anything goes
    wrong."""
    from click.shell_completion import CompletionItem

    root = context.find_root().params
    if root.get("server") or os.environ.get("SEXTANT_SERVER"):
        return []
    try:
        from sextant.app.known import names

        folder = root.get("project")
        # in front of an option that waits for its value, arguments are not parsed yet
        asset = str(context.params.get("asset") or next(iter(context.args), ""))
        found = names(kind, Path(folder) if folder else None, asset=asset, of=of)
    except Exception:  # a shell is no place for errors
        return []
    return [
        CompletionItem(name, help=about or None)
        for name, about in found.items()
        if name.startswith(begun)
    ]
