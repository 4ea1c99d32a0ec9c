"""Runs: what made them, what they did, how they are started and stopped."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Session, page_limit, waiting
from sextant.kernel.answers import Page, RunLog, RunReport
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import CheckResult

_OWN_TRIGGERS = (
    "derivation",
    "retry",
    "schedule",
    "undo",
)  # what becomes of a run follows from these


class RunOperations(Session):
    """Runs: what made them, what they did, how they are started and stopped."""

    @operation("GET", "/runs", "viewer", "read")
    def runs(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[dict[str, Any]]:
        """Return runs; `env=""` means of all environments."""
        from sextant.app import lists

        return lists.runs(
            self._core,
            self._see,
            env=self._every(env),
            state=state,
            limit=page_limit(limit),
            after=after,
        )

    @operation("POST", "/runs", "operator", "run", "plan")
    def run(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        force: bool = False,
        only: bool = False,
        pinned: bool = False,
        version: str = "",
        trigger: str = "manual",
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,
    ) -> RunReport:
        """Make what is missing or has changed inputs, check it, publish it. A crashed run is taken
        up first. `assets` and `only` as for `plan`.

        What the folder has is released to the environment first, where it does not follow it, or
        `version`, of the project, that was uploaded; with `pinned` what is in force there runs as
        it is.
        """
        if trigger in _OWN_TRIGGERS:
            raise UsageError(
                "SX-RUN-010",
                f"`{trigger}` is what Sextant itself starts a run for",
                hint="leave it out, or say it in another word",
            )
        name = self._env(env)
        request = self._request(
            assets,
            partition,
            env=name,
            pinned=pinned,
            version=version,
            stale=stale,
            force=force,
            downstream=not only,
        )
        report = self._p.runs.run(
            name,
            request,
            by=self._who(),
            trigger=trigger,
            told=progress,
            break_glass=break_glass,
            waits=waiting(progress),
            check_columns=True,
            pinned=pinned,
            version=version,
        )
        return self._see.report(report)

    @operation("GET", "/runs/{run}", "viewer", "read")
    def run_facts(self, run: str) -> dict[str, Any]:
        """Return a run with its steps, why each ran, its attempts, resources and checks; how far it
        is, and the runs that tried it again."""
        from sextant.app.progress import progress_of
        from sextant.app.retrying import retries_of
        from sextant.app.run_log import no_run
        from sextant.engine.history import History
        from sextant.ledger.projections import stored_run

        core, see = self._core, self._see
        rows = core.state.read("run_get", (run,))
        if not rows:
            raise no_run(run)
        history = History.open(core.state, run)
        facts = stored_run(rows[0][3])
        steps = [
            msgspec.to_builtins(msgspec.structs.replace(see.record(record), output=""))
            for record in history.records
        ]
        checks = [
            msgspec.to_builtins(see.check(msgspec.json.decode(row[0], type=CheckResult)))
            for row in core.state.read("check_results_of_run", (run,))
        ]
        return {
            **msgspec.to_builtins(see.run(facts)),
            "steps_recorded": steps,
            "checks": checks,
            "progress": msgspec.to_builtins(progress_of(core, facts, history.records)),
            "retries": retries_of(core, run),
            "seal_ok": not facts.seal or facts.seal == history.seal or not history.records,
        }

    @operation("POST", "/runs/{run}/cancel", "operator", "run", "run")
    def cancel(self, run: str) -> dict[str, Any]:
        """Stop a run that this process or server works on. What it has made is used by the next
        one."""
        from sextant.engine.leases import worker_of

        if run not in {row[0] for row in self._core.state.read("runs_open")}:
            raise NotFound(
                "SX-RUN-006", f"run `{run}` is not running", hint="`sextant runs` lists them"
            )
        elsewhere = worker_of(self._core.state, run)
        if elsewhere:
            raise UsageError(
                "SX-RUN-007",
                f"run `{run}` is worked on by {elsewhere}",
                hint="Ctrl-C there stops it; a server's runs are cancelled with --server URL",
            )
        self._p.runs.execution.cancelled.add(run)
        return {"run": run, "cancelling": True}

    @operation("POST", "/runs/{run}/retry", "operator", "run", "run")
    def retry(
        self, run: str, *, break_glass: str = "", progress: Progress | None = None
    ) -> RunReport:
        """Try a run again that failed or was cancelled: what failed, what stood on that and what
        was not reached, in the same environment, of the same partitions. What it made is reused.

        An environment that follows the folder runs what that has; another one what is in force.
        """
        from sextant.app.plans import event_of
        from sextant.app.retrying import retried, retry_request

        core = self._core
        facts = retried(core, run)
        project, env = core.project, self._env(facts.env)
        follows = project.follows(env)
        manifest = project.load_sound() if follows else project.manifest(env)
        report = self._p.runs.run(
            env,
            retry_request(core, facts, manifest),
            by=self._who(),
            trigger="retry",
            cause=event_of(core, run),
            told=progress,
            break_glass=break_glass,
            waits=waiting(progress),
            check_columns=True,
            pinned=not follows,
            retry_of=run,
        )
        return self._see.report(report)

    @operation("GET", "/log", "viewer", "read")
    def log(self, *, run: str = "", step: str = "", asset: str = "", after: str = "") -> RunLog:
        """Return what the steps of a run printed; `run=""` means the newest. While it runs, ask
        again with `after` as `next` says: that is how its log is followed."""
        from sextant.app import lists
        from sextant.app.run_log import run_log

        if not run:
            newest = lists.runs(self._core, self._see, limit=1).items
            if not newest:
                return {
                    "run": "",
                    "printed": [],
                    "after": "",
                    "next": "",
                    "running": False,
                    "cut": False,
                }
            run = newest[0]["id"]
        of = self._id(asset) if asset else ""
        return run_log(self._core, self._see, run, step=step, asset=of, after=after)
