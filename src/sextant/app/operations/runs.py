"""Runs: what made them, what they did, how they are started and stopped."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Follower, Session, page_limit, waiting
from sextant.kernel.answers import Page, Printed, RunReport
from sextant.kernel.clock import iso
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import PAGE_ROWS
from sextant.kernel.nouns import CheckResult

_OWN_TRIGGERS = ("schedule", "undo")  # what becomes of a run follows from these


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
        follower = Follower(progress)
        report = self._p.runs.run(
            name,
            request,
            by=self._who(),
            trigger=trigger,
            on_start=follower.started,
            progress=follower.ended,
            break_glass=break_glass,
            waits=waiting(progress),
            check_columns=True,
            pinned=pinned,
            version=version,
        )
        return self._see.report(report)

    @operation("GET", "/runs/{run}", "viewer", "read")
    def run_facts(self, run: str) -> dict[str, Any]:
        """Return a run with its steps, attempts, resources and checks."""
        from sextant.engine.history import History
        from sextant.ledger.projections import stored_run

        core, see = self._core, self._see
        rows = core.state.read("run_get", (run,))
        if not rows:
            raise _no_run(run)
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

    @operation("GET", "/log", "viewer", "read")
    def log(self, *, run: str = "", step: str = "") -> list[Printed]:
        """Return what the steps of a run printed; `run=""` means the newest."""
        from sextant.app import lists
        from sextant.engine.history import History

        core = self._core
        if not run:
            newest = lists.runs(core, self._see, limit=1).items
            if not newest:
                return []
            run = newest[0]["id"]
        elif not core.state.read("run_get", (run,)):
            raise _no_run(run)
        return [
            {
                "step": record.step,
                "attempt": record.attempt,
                "at": iso(record.at),
                "text": self._see.text(
                    core.blobs.get(record.log).decode(errors="replace"), record.asset
                ),
            }
            for record in History.open(core.state, run).records
            if record.log and (not step or record.step == step)
        ]


def _no_run(run: str) -> NotFound:
    return NotFound("SX-RUN-003", f"there is no run `{run}`", hint="`sextant runs` lists them")
