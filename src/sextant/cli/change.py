"""Commands that change environments, and what is known of other tools: env, report."""

from typing import Literal

import click

from sextant.cli import complete
from sextant.cli.output import as_json as json_option
from sextant.cli.output import (
    emit,
    moment,
    options,
    platform,
    say,
    short,
    table,
    wide,
)
from sextant.cli.project_move import change_lines
from sextant.formats.values import text as text_of


@click.group()
def env() -> None:
    """List, create, compare and drop environments."""


@env.command("list")
@wide
@json_option
def env_list(as_json: bool) -> None:
    """List environments and what they fall through to."""
    with platform() as p:
        found = p.environments()
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("environment", "falls through to", "since (UTC)", "until (UTC)"),
                [
                    (
                        e["name"],
                        "(frozen)" if e["frozen"] else e["parent"],
                        moment(e["created_at"]),
                        moment(e["expires_at"]),
                    )
                    for e in found
                ],
                spare=("until (UTC)",),
            ),
        )


@env.command("create")
@click.argument("name", help="Lower-case letters, digits, - and _.")
@click.option(
    "--from",
    "parent",
    required=True,
    metavar="ENV",
    help="What it falls through to.",
    shell_complete=complete.environments,
)
@click.option(
    "--frozen",
    is_flag=True,
    help="It shows what ENV shows now, for good: nothing moves in it, `--as-of NAME` reads it.",
)
@click.option(
    "--for", "keep", metavar="LENGTH", default="", help="It goes by itself after so long: 3d."
)
@json_option
def env_create(name: str, parent: str, frozen: bool, keep: str, as_json: bool) -> None:
    """Create an environment that sees everything of another one until it has versions of its own.
    Copies nothing."""
    with platform() as p:
        done = p.create_environment(name, parent, frozen=frozen, keep=keep)
        sees = (
            f"environment {name} keeps what {parent} shows now; read it with --as-of {name}"
            if frozen
            else f"environment {name} sees {parent}; use it with --env {name}"
        )
        ends = f"; it goes in {keep}" if keep else ""
        emit(done, json=as_json, text=lambda: [sees + ends])


@env.command("diff")
@click.argument("a", help="An environment.", shell_complete=complete.environments)
@click.argument("b", help="Another one.", shell_complete=complete.environments)
@wide
@json_option
def env_diff(a: str, b: str, as_json: bool) -> int:
    """Show what differs between two environments: code, versions, partitions, rows, KPIs. Exit code
    1 when they differ."""
    with platform() as p:
        found = p.environment_diff(a, b)

        def lines() -> list[str]:
            rows = [
                (
                    e["asset"],
                    short(e["before"]),
                    short(e["after"]),
                    "yes" if e["code_changed"] else "",
                    len(e.get("partitions", ())) or "",
                    f"{e['rows_before']:,} -> {e['rows_after']:,}" if "rows_before" in e else "",
                )
                for e in found["assets"]
            ]
            out = (
                table(("asset", a, b, "code", "partitions", "rows"), rows)
                if rows
                else [f"{a} and {b} show the same"]
            )
            for changes in (e["changes"] for e in found["assets"] if "changes" in e):
                out += change_lines(changes)
            out += [
                f"{k['kpi']}: {text_of(k['before'])} -> {text_of(k['after'])}"
                for k in found["kpis"]
            ]
            return out

        emit(found, json=as_json, text=lines)
        return int(bool(found["assets"]))


@env.command("drop")
@click.argument("name", help="The environment.", shell_complete=complete.environments)
@json_option
def env_drop(name: str, as_json: bool) -> None:
    """Drop an environment; its versions lose their pointer and expire with the others."""
    with platform() as p:
        done = p.drop_environment(name)
        emit(
            done,
            json=as_json,
            text=lambda: [f"environment {name} is gone; the ledger remembers it"],
        )


@click.command()
@click.argument(
    "kind", type=click.Choice(["release", "run", "check"]), help="What the other tool did."
)
@click.argument("asset", help="To what, such as service:checkout.", shell_complete=complete.assets)
@click.option(
    "--version",
    "version",
    default="",
    metavar="TEXT",
    help="What was released or checked: a tag, a commit, a digest.",
)
@click.option(
    "--state",
    default="",
    metavar="WORD",
    help="release: live, rolled_back, rejected; run: finished, failed; check: ok, failed.",
)
@click.option("--name", default="", metavar="TEXT", help="The check's or run's name.")
@click.option("--message", default="", metavar="TEXT", help="What is worth knowing.")
@click.option("--url", default="", metavar="URL", help="Where the other tool shows it.")
@click.option(
    "--owner",
    default="",
    metavar="TEAM",
    help="Who owns the asset, when it is seen for the first time.",
)
@click.option(
    "--reads",
    "upstream",
    multiple=True,
    metavar="ASSET",
    help="An asset that it stands on; may be given again.",
)
@click.option(
    "--feeds",
    "downstream",
    multiple=True,
    metavar="ASSET",
    help="An asset that stands on it; may be given again.",
)
@click.option(
    "--cause", default="", metavar="EVENT", help="The id of the event that brought it about."
)
@options
def report(
    kind: Literal["release", "run", "check"],
    asset: str,
    version: str,
    state: str,
    name: str,
    message: str,
    url: str,
    owner: str,
    upstream: tuple[str, ...],
    downstream: tuple[str, ...],
    cause: str,
    env: str | None,
    as_json: bool,
) -> None:
    """Record what another tool did: a release, run or check of an observed asset, such as
    service:checkout.

    The asset becomes part of the graph, and what is reported part of every answer to why."""
    with platform() as p:
        done = p.report(
            kind,
            asset,
            version=version,
            state=state,
            name=name,
            message=message,
            url=url,
            owner=owner,
            upstream=upstream,
            downstream=downstream,
            cause=cause,
            env=env or "",
        )
        if done["new"]:
            say(f"{asset} is an observed asset now")
        emit(
            done,
            json=as_json,
            text=lambda: [f"recorded {done['type']} of {done['asset']} as {done['event']}"],
        )
