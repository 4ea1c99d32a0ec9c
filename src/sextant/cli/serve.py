"""up: the server of a project. token, account, session: who may come in."""

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sextant.cli.output import as_json as json_option
from sextant.cli.output import emit, mark, moment, platform, say, table, wide
from sextant.kernel.errors import UsageError
from sextant.kernel.limits import SIGN_IN_LINK_S, TOKEN_DAYS_MAX

if TYPE_CHECKING:
    from sextant.kernel.answers import TokenSeen
    from sextant.project.config import Config

_ROLES = click.Choice(["viewer", "operator", "admin"])


@click.command()
@click.option(
    "--host",
    default="",
    metavar="ADDRESS",
    help="Where the API listens, instead of `api` of sextant.toml; 0.0.0.0 for all networks.",
)
@click.option(
    "--port",
    default=None,
    type=click.IntRange(0, 65535),
    metavar="N",
    help="The port of the API, instead of that of sextant.toml; 0 chooses a free one.",
)
@json_option
def up(host: str, port: int | None, as_json: bool) -> None:
    """Serve the project: runs what is due, takes telemetry, answers the API and SQL. Ctrl-C ends it
    cleanly."""
    from sextant.project.config import find_config, read_config
    from sextant.server.processes.supervisor import Supervisor

    start = click.get_current_context().find_root().obj["project"]
    began = time.monotonic()
    config = read_config(find_config(Path(start) if start else Path.cwd()))
    link = sys.stdout.isatty() and not as_json  # nobody else reads a terminal
    server = Supervisor(_listening(config, host, port), say=say, link=link)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    try:
        address = server.start()
        facts = {
            "pid": address.pid,
            "api": address.api,
            "ingest": address.ingest,
            "grpc": address.grpc,
            "sql": address.sql,
            "token": server.token,
            "ready_s": round(time.monotonic() - began, 3),
        }
        emit(
            facts,
            json=as_json,
            compact=True,
            text=lambda: _up_lines(facts, server.link, telemetry=not server.telemetry_off),
        )
        sys.stdout.flush()
        server.watch()
    finally:
        server.shut()
    say("ended")


def _listening(config: "Config", host: str, port: int | None) -> "Config":
    """Return the settings with another address of the API; "" and None leave it as it is."""
    import msgspec

    set_host, _, set_port = config.server.api.rpartition(":")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    api = f"{host or set_host}:{set_port if port is None else port}"
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, api=api))


def _up_lines(facts: dict[str, Any], link: str, *, telemetry: bool) -> list[str]:
    page = facts["api"].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    out = [
        f"ready in {facts['ready_s']:.1f} s",
        f"  page    {page}      in a browser",
        f"  api     {facts['api']}      commands (--server), live stream, OpenAPI",
    ]
    if telemetry:
        out += _telemetry_lines(facts)
    if link:
        out += [
            "",
            f"Opens the page with you signed in, once, within {SIGN_IN_LINK_S // 60} minutes:",
            f"  {page}/#signin={link}",
        ]
    if facts["token"]:
        out += [
            "",
            "An administrator's token. It is shown this once; keep it:",
            f"  {facts['token']}",
        ]
    return out


def _telemetry_lines(facts: dict[str, Any]) -> list[str]:
    return [
        f"  ingest  {facts['ingest']}      OTLP, Prometheus remote write, JSON lines, CloudEvents",
        *([f"  grpc    {facts['grpc']}      OTLP over gRPC"] if facts["grpc"] else []),
        f"  sql     {facts['sql']}      ClickHouse's HTTP interface, read-only",
    ]


@click.group()
def token() -> None:
    """Make, list and revoke tokens: for people, teams and agents on behalf of one."""


@token.command("create")
@click.argument("name", help="Of whom or what it is for.")
@click.option(
    "--kind",
    type=click.Choice(["token", "person", "agent"]),
    default="token",
    help="Whom it stands for (default: a program).",
)
@click.option("--role", type=_ROLES, default="viewer", help="What it may do (default: look).")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["api", "ingest", "query"]),
    help="What it may be used for; may be given again (default: those of the role).",
)
@click.option(
    "--team",
    "teams",
    multiple=True,
    metavar="TEAM",
    help="A team that it belongs to; may be given again.",
)
@click.option(
    "--on-behalf-of",
    default="",
    metavar="WHO",
    help="Of an agent: the person or team that it acts for.",
)
@click.option(
    "--days",
    default=90,
    type=click.IntRange(1, TOKEN_DAYS_MAX),
    metavar="N",
    help="How long it lasts (default 90).",
)
@json_option
def create_token(
    name: str,
    kind: Any,
    role: Any,
    scopes: tuple[str, ...],
    teams: tuple[str, ...],
    on_behalf_of: str,
    days: int,
    as_json: bool,
) -> None:
    """Make a token. It is shown once; only a hash of it is kept."""
    with platform(load=False) as p:
        made = p.create_token(
            name,
            kind=kind,
            role=role,
            scopes=scopes,
            teams=teams,
            on_behalf_of=on_behalf_of,
            days=days,
        )
        emit(
            made,
            json=as_json,
            text=lambda: [
                (
                    f"token {made['id']} for {made['kind']} {made['name']}: {made['role']}, "
                    f"opens {', '.join(made['scopes'])}, until {made['expires_at'][:10]}"
                ),
                made["secret"],
            ],
        )


@token.command("list")
@wide
@json_option
def list_tokens(as_json: bool) -> None:
    """List tokens, without their secrets. `person` answers for it, whoever uses it."""
    with platform(load=False) as p:
        found = p.tokens()
        emit(
            found,
            json=as_json,
            text=lambda: table(
                (
                    "token",
                    "name",
                    "kind",
                    "person",
                    "role",
                    "opens",
                    "teams",
                    "state",
                    "last used (UTC)",
                ),
                [
                    (
                        t["id"],
                        t["name"],
                        t["kind"],
                        t["root"],
                        t["role"],
                        " ".join(t["scopes"]),
                        " ".join(t["teams"]),
                        _state(t),
                        moment(t["used_at"]),
                    )
                    for t in found
                ],
            ),
        )


def _state(one: "TokenSeen") -> str:
    return mark(one["stopped"], "dim") if one["stopped"] else f"until {one['expires_at'][:10]}"


@token.command("revoke")
@click.argument("id_", metavar="ID", help="Of the token; `sextant token list` shows it.")
@json_option
def revoke_token(id_: str, as_json: bool) -> None:
    """Revoke a token: it and all that were made with it open nothing any more. Where telemetry
    comes in, an answer is remembered for up to 5 seconds."""
    with platform(load=False) as p:
        emit(p.revoke_token(id_), json=as_json, text=lambda: [f"{id_} is revoked"])


@token.command("hand")
@click.argument("id_", metavar="ID", help="Of the token; `sextant token list` shows it.")
@click.argument("person", help="Who answers for it from now on.")
@json_option
def hand_token(id_: str, person: str, as_json: bool) -> None:
    """Let another person answer for a token, and for all that were made with it. For when somebody
    leaves: his tokens stop when his account is disabled, those that were handed over go on."""
    with platform(load=False) as p:
        done = p.hand_token(id_, person)
        emit(
            done,
            json=as_json,
            text=lambda: [
                f"{done['root']} answers for {done['kind']} {done['name']}"
                + (f"; it still opens nothing: {done['stopped']}" if done["stopped"] else "")
            ],
        )


@click.group()
def account() -> None:
    """Make, list and disable the accounts of people."""


@account.command("create")
@click.argument("name", help="The person's login name.")
@click.option("--role", type=_ROLES, default="viewer", help="What it may do (default: look).")
@click.option(
    "--team",
    "teams",
    multiple=True,
    metavar="TEAM",
    help="A team of the person; may be given again.",
)
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input instead of asking.",
)
@json_option
def create_account(
    name: str, role: Any, teams: tuple[str, ...], password_stdin: bool, as_json: bool
) -> None:
    """Make an account. Asks for the password."""
    if not password_stdin and not sys.stdin.isatty():
        raise UsageError(
            "SX-CLI-036",
            "there is nobody to ask for a password",
            hint="give it on standard input, with --password-stdin",
        )
    password = (
        sys.stdin.readline().rstrip("\r\n")
        if password_stdin
        else click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    )
    with platform(load=False) as p:
        made = p.create_account(name, password, role=role, teams=teams)
        emit(made, json=as_json, text=lambda: [f"account {made['name']}: {made['role']}"])


@account.command("list")
@wide
@json_option
def list_accounts(as_json: bool) -> None:
    """List accounts."""
    with platform(load=False) as p:
        found = p.accounts()
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("account", "role", "teams", "made (UTC)", "state"),
                [
                    (
                        a["name"],
                        a["role"],
                        " ".join(a["teams"]),
                        moment(a["created_at"]),
                        mark("disabled", "dim") if a["disabled"] else "",
                    )
                    for a in found
                ],
            ),
        )


@account.command("disable")
@click.argument("name", help="The person's login name.")
@json_option
def disable_account(name: str, as_json: bool) -> None:
    """Disable an account; its sessions end at once."""
    with platform(load=False) as p:
        emit(p.disable_account(name), json=as_json, text=lambda: [f"{name} is disabled"])


@click.group()
def session() -> None:
    """List and revoke the sessions of signed-in browsers."""


@session.command("list")
@wide
@json_option
def list_sessions(as_json: bool) -> None:
    """List the browsers that are signed in: all for an administrator, else your own."""
    with platform(load=False) as p:
        found = p.sessions()
        emit(
            found,
            json=as_json,
            text=lambda: table(
                ("session", "person", "role", "signed in by", "since (UTC)", "until (UTC)"),
                [
                    (
                        one["id"],
                        one["person"],
                        one["role"],
                        one["how"],
                        moment(one["created_at"]),
                        moment(one["expires_at"]),
                    )
                    for one in found
                ],
            ),
        )


@session.command("revoke")
@click.argument("id_", metavar="ID", help="Of the session; `sextant session list` shows it.")
@json_option
def revoke_session(id_: str, as_json: bool) -> None:
    """Sign a browser out, at once."""
    with platform(load=False) as p:
        emit(p.revoke_session(id_), json=as_json, text=lambda: [f"{id_} is signed out"])
