"""Every command, by name: where its code is and its one line of help; and the groups in which
`--help` shows them. Read by the lazy group; nothing of a command is imported here.

Commands that a kind of asset brings are rows of the registry, `command.NAME`.
"""

from sextant.kernel import registry

GROUPS: dict[str, tuple[str, ...]] = {
    "Make and publish": ("init", "plan", "run", "backfill", "check", "push", "report"),
    "Look at data and numbers": ("search", "show", "query", "export", "versions", "diff", "graph"),
    "See how it stands, and why": (
        (
            "status",
            "why",
            "bisect",
            "timeline",
            "runs",
            "logs",
            "signals",
            "incidents",
            "services",
            "traces",
            "metrics",
        )
    ),
    "Decide what is live": (
        "releases",
        "release",
        "promises",
        "rollback",
        "undo",
        "approve",
        "env",
    ),
    "Serve it to others": ("up", "token", "account", "session"),
    "Look after it": ("doctor", "backup", "gc", "ledger", "completion"),
}

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("sextant.cli.project:init", "Write a new project that runs at once."),
    "plan": ("sextant.cli.work:plan", "Show what would run, why, and what it will cost."),
    "run": (
        "sextant.cli.work:run",
        "Make what is missing or has changed inputs, check it, publish it.",
    ),
    "backfill": (
        "sextant.cli.work:backfill",
        "Make a range of partitions of an asset; with --stale, again where code changed.",
    ),
    "status": (
        "sextant.cli.look:status",
        "Show what is live, stale, held, and what needs a person.",
    ),
    "search": (
        "sextant.cli.search:search",
        "Find assets, checks, teams, runs and more by their names, words or ids.",
    ),
    "graph": ("sextant.cli.look:graph", "Show assets and what they stand on."),
    "show": ("sextant.cli.look:show", "Show an asset: facts, version, first rows."),
    "versions": ("sextant.cli.look:versions", "List an asset's versions."),
    "diff": ("sextant.cli.look:diff", "Show what differs between two versions of an asset."),
    "check": ("sextant.cli.work:check", "Run an asset's checks on what is live."),
    "release": ("sextant.cli.releases:release", "Make a version live, through the gate."),
    "releases": ("sextant.cli.releases:releases", "List releases, show one, or act on one."),
    "promises": (
        "sextant.cli.promises:promises",
        "List what releases were expected to do to numbers, and what they did.",
    ),
    "rollback": (
        "sextant.cli.releases:rollback",
        "Undo the release of an asset, and derive again what stands on it.",
    ),
    "undo": (
        "sextant.cli.releases:undo",
        "Take back what one actor did since a time.",
    ),
    "approve": ("sextant.cli.releases:approve", "Approve (or deny) a release that waits."),
    "env": ("sextant.cli.change:env", "List, create, compare and drop environments."),
    "why": (
        "sextant.cli.why:why",
        "Say why an asset, run, release or signal is as it is, and how to undo it.",
    ),
    "bisect": (
        "sextant.cli.bisect:bisect",
        "Find the one change that turned a business number or a check.",
    ),
    "timeline": (
        "sextant.cli.timeline:timeline",
        "List what happened to an asset, or changed upstream of it, in a range of time.",
    ),
    "signals": ("sextant.cli.look:signals", "List signals, or close one."),
    "incidents": ("sextant.cli.look:incidents", "List incidents, show one, or act on one."),
    "runs": ("sextant.cli.runs:runs", "List runs, show, follow or cancel one, or try it again."),
    "logs": (
        "sextant.cli.telemetry:logs",
        "Show what the steps of a run printed, or search all logs.",
    ),
    "services": (
        "sextant.cli.services:services",
        "List services: requests a second, errors, latency.",
    ),
    "traces": ("sextant.cli.telemetry:traces", "List traces, or show one as a waterfall."),
    "metrics": ("sextant.cli.telemetry:metrics", "List metrics, or show the series of one."),
    "query": ("sextant.cli.telemetry:query", "Ask in SQL over data, telemetry, ledger and KPIs."),
    "export": (
        "sextant.cli.telemetry:export",
        "Take the rows of a dataset out, as JSON, CSV, Arrow or Parquet.",
    ),
    "push": ("sextant.cli.push:push", "Give rows to a dataset that takes them."),
    "report": (
        "sextant.cli.change:report",
        "Record what another tool did: a release, run or check of an observed asset.",
    ),
    "ledger": ("sextant.cli.ledger:ledger", "Show, verify and prove the ledger."),
    "up": ("sextant.cli.serve:up", "Serve the project: scheduler, telemetry, API and SQL."),
    "session": ("sextant.cli.serve:session", "List and revoke sessions of browsers."),
    "token": ("sextant.cli.serve:token", "Make, list and revoke tokens."),
    "account": ("sextant.cli.serve:account", "Make, list and disable accounts."),
    "completion": (
        "sextant.cli.complete:completion",
        "Print the script with which a shell completes commands and names.",
    ),
    "backup": ("sextant.cli.upkeep:backup", "Create, verify and restore backups."),
    "gc": ("sextant.cli.upkeep:gc", "Delete the bytes that nothing keeps any more."),
    "doctor": (
        "sextant.cli.upkeep:doctor",
        "Look for what is wrong with this project and machine.",
    ),
}
_OF_KINDS = "Ask about one kind of asset"


def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups of `--help` with the names of their commands, those of kinds too."""
    names = (id_.removeprefix("command.") for id_ in registry.names("command"))
    return {**GROUPS, _OF_KINDS: tuple(name for name in names if name not in COMMANDS)}


def has(name: str) -> bool:
    """Say whether there is a command of a name."""
    return name in COMMANDS or registry.has(f"command.{name}")
