"""Runs checks on what is live: when somebody asks, and of the tables that point into what a
release took rows out of."""

from collections.abc import Sequence

import msgspec

from sextant.app import permits
from sextant.app.plans import Plans, event_of
from sextant.core import Core
from sextant.engine import plan as planning
from sextant.engine.executors.chosen import Executors
from sextant.engine.plan import Plan
from sextant.engine.work import RunWork
from sextant.kernel.errors import (
    NotFound,
    SextantError,
    StepFailed,
)
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    CheckSpec,
    Manifest,
    Move,
    Principal,
    Release,
    values_by_definition,
)
from sextant.kernel.ports import Write
from sextant.ledger import signals
from sextant.ledger.projections import (
    ChecksCompleted,
)
from sextant.project.bundles import Bundles


class LiveChecks:
    """Checks of live versions. Results are recorded; what fails is a signal."""

    def __init__(self, core: Core, plans: Plans, executors: Executors, bundles: Bundles) -> None:
        self.core, self.plans = core, plans
        self.executors, self.bundles = executors, bundles

    def check(self, env: str, asset: Asset, *, by: Principal) -> list[CheckResult]:
        """Run every check of an asset on what is live and record the results; a failed one of
        severity error is a signal, which closes when the check passes.

        Raises NotFound when nothing is live; StepFailed when the checks could not be run.
        """
        core = self.core
        manifest = core.project.manifest(env)
        values = values_by_definition(manifest.assets).get(asset.id, "")
        asset = manifest.asset(values) or asset  # what is checked of a definition are its values
        permits.allowed(self.core, by, "check", env, manifest, {asset.id}, "")
        if not core.versions.live_version(env, asset.id):
            raise NotFound(
                "SX-VERSION-004",
                f"`{asset.id}` has no live version in `{env}`",
                hint=f"`sextant run {asset.id}` makes one",
            )
        if not asset.checks:
            return []
        return self._check_live(env, manifest, asset, asset.checks, by=by, cause="")

    def check_children(
        self, release: Release, *, by: Principal, run: str = ""
    ) -> list[CheckResult]:
        """Check the foreign keys that point into what a release has just taken rows out of, on the
        live tables that hold them. A broken one is a signal on the child. Returns what failed."""
        core = self.core
        cause = event_of(self.core, release.id)
        broken: list[CheckResult] = []
        for env in sorted({move.env for move in release.moves}):
            parents = {m.asset for m in release.moves if m.env == env and self._took_rows(m)}
            manifest = core.project.manifest(env)
            for child in manifest.assets:
                into = tuple(
                    check
                    for check in child.checks
                    if str(check.params.get("to", "")).rpartition(".")[0] in parents
                )
                if not into or not core.versions.live_version(env, child.id):
                    continue
                try:
                    results = self._check_live(
                        env, manifest, child, into, by=by, cause=cause, run=run
                    )
                except SextantError as error:  # what is published is published: said, not raised
                    text = f"could not be checked: {error.message}"
                    results = [
                        CheckResult(asset=child.id, name=check.name, ok=False, message=text)
                        for check in into
                    ]
                broken += [result for result in results if not result.ok]
        return broken

    def _took_rows(self, move: Move) -> bool:
        """Tell whether a move replaced or removed partitions; new ones break nobody."""
        asset = self.core.assets.known(move.asset, move.env)
        if not move.source or asset is None or asset.is_definition:
            return False
        before = self.core.versions.parts(move.asset, move.source)
        after = self.core.versions.parts(move.asset, move.target)
        return any(
            name not in after or after[name].digest != part.digest for name, part in before.items()
        )

    def _check_live(
        self,
        env: str,
        manifest: Manifest,
        asset: Asset,
        checks: Sequence[CheckSpec],
        *,
        by: Principal,
        cause: str,
        run: str = "",
    ) -> list[CheckResult]:
        """Run checks on the live version of an asset, record the results, raise and close signals.
        StepFailed when they could not be run."""
        core = self.core
        table = self.plans.table(env, asset)
        assets = {a.id: a for a in manifest.assets}
        only = msgspec.structs.replace(
            asset, checks=tuple(msgspec.structs.replace(check, scope="table") for check in checks)
        )
        plan = Plan(env=env, steps=(planning.PlannedStep(id="none", asset=asset.id, items=()),))
        tables = self.plans.tables(env, {**assets, asset.id: only}, plan, {})
        with self.bundles.unpacked(manifest.bundle) as project:
            work = RunWork(
                core,
                Plan(env=env),
                msgspec.structs.replace(
                    manifest, assets=tuple(only if a.id == asset.id else a for a in manifest.assets)
                ),
                run=core.ids.new("chk"),
                executors=self.executors.get,
                tables=tables,
                project=str(project),
            )
            result = work.audit_now(only)
        if not result.ok:
            raise StepFailed(result.error_code, result.error, hint=result.hint, where=result.where)
        done = self.core.events.make(
            "checks.completed",
            f"{asset.id}@{table.base}",
            ChecksCompleted(run, asset.id, table.base, result.checks),
            by,
            cause,
        )
        events = [done]
        for found in result.checks:
            if not found.ok and found.severity == "error":
                events += signals.raise_signal(
                    core.state,
                    core.events,
                    asset.id,
                    signals.CHECK_FAILED,
                    "error",
                    f"{asset.id}: {found.name}: {found.message}",
                    env=env,
                    key=found.name,
                    evidence=signals.evidence(env, found.name, version=table.base),
                    by=by,
                    cause=done.id,
                )
        events += signals.close_passed(
            core.state,
            core.events,
            env,
            asset.id,
            signals.passed(result.checks, whole=True),
            actor=str(by),
            cause=done.id,
        )
        core.state.commit(Write((), tuple(events)))
        return list(result.checks)
