"""Assets: their rows, versions and differences, business numbers, checks."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Session, page_limit, span
from sextant.kernel.answers import (
    BisectSeen,
    Change,
    FailedCheck,
    FailingRows,
    KpiSeen,
    Page,
    PartitionsSeen,
    ProfileSeen,
    Proof,
    ProofChecked,
    TimelineItem,
    VersionSeen,
    WaterfallSeen,
)
from sextant.kernel.errors import NotFound
from sextant.kernel.limits import DERIVED_SECONDS_MAX, PAGE_ROWS
from sextant.kernel.nouns import CheckResult, values_by_definition
from sextant.kernel.pages import FAR


class AssetOperations(Session):
    """Assets: their rows, versions and differences, business numbers, checks."""

    @operation("GET", "/assets/{asset}", "viewer", "read")
    def show(
        self, asset: str, *, as_of: str = "", limit: int = 10, partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        """Return an asset's facts and the first rows of a version: the live one, one named by 4 or
        more digits, or what was live at a time."""
        from sextant.app.showing import show

        return show(
            self._core,
            self._see,
            self._env(env),
            asset,
            as_of=as_of,
            limit=page_limit(limit, least=0),
            partition=partition,
        )

    @operation("GET", "/assets/{asset}/count", "viewer", "read")
    def count(
        self, asset: str, *, as_of: str = "", partition: str = "", env: str = ""
    ) -> dict[str, Any]:
        """Return the number of rows of a version, or of one of its partitions."""
        from sextant.kinds.dataset.views import count

        id_ = self._id(asset)
        rows = count(self._core, self._env(env), asset, as_of=as_of, partition=partition)
        return {"asset": id_, "rows": rows}

    @operation("GET", "/assets/{asset}/rows", "viewer", "read")
    def rows(
        self,
        asset: str,
        *,
        form: str = "JSON",
        as_of: str = "",
        partition: str = "",
        columns: Sequence[str] = (),
        env: str = "",
    ) -> bytes:
        """Return the rows of a version of a dataset: JSON, JSONEachRow, CSVWithNames, Arrow,
        ArrowStream or Parquet.

        Personal columns are left out for whoever comes over the network and is no administrator;
        Denied when all are.
        """
        from sextant.kinds.dataset.export import rows

        role = self._who().role  # "" = works on the project's own folder
        return rows(
            self._core,
            self._env(env),
            asset,
            form=form,
            as_of=as_of,
            partition=partition,
            columns=tuple(columns),
            see=self._see,
            bounded=role != "",
        )

    @operation("GET", "/assets/{asset}/versions", "viewer", "read")
    def versions(
        self, asset: str, *, limit: int = PAGE_ROWS, after: str = "", env: str = ""
    ) -> Page[VersionSeen]:
        """Return the versions of an asset: what made them, what they changed, how they stand in
        `env`."""
        from sextant.app import lists

        return lists.versions(
            self._core, self._env(env), asset, limit=page_limit(limit), after=after
        )

    @operation("GET", "/assets/{asset}/partitions", "viewer", "read")
    def partitions(
        self, asset: str, *, partition: str = "", details: bool = False, env: str = ""
    ) -> PartitionsSeen:
        """Return how the partitions of an asset stand in an environment, as runs of equal ones:
        all, or a range `A..B`; with `details` also the facts of the first 1,000 of it."""
        from sextant.app.partitions import partitions

        name, core = self._env(env), self._core
        found = core.assets.find(asset, name)
        seen = self._see.sees_personal
        return self._p.memory.kept.get(
            self._moment("partitions", name, found.id, partition, details, seen),
            lambda: partitions(
                self._p.runs, self._see, name, found, span(partition), details=details
            ),
        )

    @operation("GET", "/assets/{asset}/profile", "viewer", "read")
    def profile(
        self,
        asset: str,
        *,
        as_of: str = "",
        partition: str = "",
        against: str = "",
        env: str = "",
    ) -> ProfileSeen:
        """Return what the values of each column of a version are like - counts, range, quantiles,
        most frequent values - of all partitions or of a range `A..B`, and how far `against` another
        version they are: one by its digits, by a time, or the one `before`. Of personal columns
        counts only."""
        from sextant.app.showing import profile

        return profile(
            self._core,
            self._see,
            self._env(env),
            asset,
            as_of=as_of,
            span=span(partition),
            against=against,
        )

    @operation("GET", "/assets/{asset}/timeline", "viewer", "read")
    def timeline(
        self,
        asset: str,
        *,
        since: str = "",
        until: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[TimelineItem]:
        """Return what happened to an asset in an environment, newest first: versions, releases,
        runs, failed checks, signals, incidents, refusals, reports and edits, each with who and
        why."""
        from sextant.app.timeline import timeline

        return timeline(
            self._core,
            self._see,
            self._env(env),
            self._id(asset),
            self._span(since, until),
            limit=page_limit(limit),
            after=after,
        )

    @operation("GET", "/assets/{asset}/changes", "viewer", "read")
    def changes(
        self,
        asset: str,
        *,
        since: str = "",
        until: str = "",
        additions: bool = True,
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[Change]:
        """Return what became live or was undone in a range of time, of an asset and of all that it
        is made of, with edits of declarations and of the project, newest first. Without `additions`
        none that only adds partitions: what a chart of the asset marks."""
        from sextant.app.timeline import changes

        return changes(
            self._core,
            self._see,
            self._env(env),
            self._id(asset),
            self._span(since, until),
            additions=additions,
            limit=page_limit(limit),
            after=after,
        )

    @operation("GET", "/assets/{asset}/waterfall", "viewer", "read")
    def waterfall(
        self,
        asset: str,
        *,
        before: str = "",
        after: str = "",
        known_from: str = "",
        known_to: str = "",
        by: Sequence[str] = (),
        env: str = "",
    ) -> WaterfallSeen:
        """Return what moved a business number from one part of time to another, as a sum: the rows
        themselves, by dimensions, and each change that was made meanwhile - other rows, code,
        definitions, undos. Without bars while something has to be derived for it: `changes` and
        `cost` say what.

        before, after  parts of time, as 2013-02, 2013-Q1, 2013-02-09 or 2013-01-01/2013-03-31 (""
                       = the newest, and the one before it); one alone stands for both: what it was
                       known as then and now
        known_from     the moment at which the time before was known: a time, a length back from now
                       or a release ("" = when all of it was live first)
        known_to       the moment at which the time after is known ("" = now)
        """
        from sextant.app.derivation.question import question
        from sextant.app.waterfall import waterfall

        asked = question(self._core, self._env(env), asset, before, after, known_from, known_to, by)
        seen = self._see.sees_personal
        return self._p.memory.kept.get(
            self._moment("waterfall", asked.env, asked.asset.id, *asked[2:], seen),
            lambda: waterfall(self._p.runs, self._see, asked),
        )

    @operation("POST", "/assets/{asset}/waterfall", "operator", "derive", "asset")
    def derive_waterfall(
        self,
        asset: str,
        *,
        before: str = "",
        after: str = "",
        known_from: str = "",
        known_to: str = "",
        by: Sequence[str] = (),
        env: str = "",
        progress: Progress | None = None,
    ) -> WaterfallSeen:
        """Answer as `waterfall`, and derive what that takes: a run that makes the number without
        some of the changes, and releases nothing."""
        from sextant.app.derivation.question import question
        from sextant.app.waterfall import waterfall

        asked = question(self._core, self._env(env), asset, before, after, known_from, known_to, by)
        return waterfall(self._p.runs, self._see, asked, derive_as=self._who(), told=progress)

    @operation("POST", "/assets/{asset}/proofs", "operator", "derive", "asset")
    def prove_why(
        self,
        asset: str,
        *,
        before: str = "",
        after: str = "",
        known_from: str = "",
        known_to: str = "",
        by: Sequence[str] = (),
        env: str = "",
        progress: Progress | None = None,
    ) -> Proof:
        """Derive what moved a business number, as `derive_waterfall` does, and return it with all
        that somebody else needs to do the same again: `verify_why` does."""
        from sextant.app.derivation.question import question
        from sextant.app.proofs import prove

        asked = question(self._core, self._env(env), asset, before, after, known_from, known_to, by)
        return prove(self._p.runs, self._see, asked, self._who(), progress)

    @operation("POST", "/assets/{asset}/proofs/verify", "operator", "derive", "asset")
    def verify_why(
        self,
        asset: str,
        proof: dict[str, Any],
        *,
        env: str = "",
        progress: Progress | None = None,
    ) -> ProofChecked:
        """Follow a proof of `prove_why` again: ask the same of the ledger, make every partition
        anew by the code of then, nothing that was made before is taken, and compare."""
        from sextant.app.proofs import check

        id_ = self._core.assets.find(asset, self._env(env)).id
        return check(self._p.runs, self._see, self._env(env), id_, proof, self._who(), progress)

    @operation("POST", "/assets/{asset}/bisect", "operator", "derive", "asset")
    def bisect(
        self,
        asset: str,
        known_from: str,
        *,
        known_to: str = "",
        check: str = "",
        over: str = "",
        threshold: str = "",
        most_s: float = DERIVED_SECONDS_MAX,
        env: str = "",
        progress: Progress | None = None,
    ) -> BisectSeen:
        """Find the one change that turned a business number, or a check, between two moments, by
        halving those that were made: what is not known is derived, and nothing is released.

        known_from, known_to  the moments: a time, a length back from now or a release ("" = now)
        check                 a check of the asset, by its name or how that begins; "" = the number
        over                  the part of time whose number, or rows, are looked at ("" = the newest
                              of a number, all rows of a check)
        threshold             the number that divides both moments ("" = halfway between theirs)
        most_s                what all that is derived may be expected to take, in seconds
        """
        from sextant.app.bisect import bisect
        from sextant.app.derivation.question import question, question_of_check

        name = self._env(env)
        if check:
            asked = question_of_check(self._core, name, asset, over, known_from, known_to)
        else:
            asked = question(self._core, name, asset, "", over, known_from, known_to, ())
        return bisect(
            self._p.runs,
            self._see,
            asked,
            check,
            threshold=threshold,
            most_s=min(most_s, DERIVED_SECONDS_MAX),
            by=self._who(),
            told=progress,
        )

    @operation("GET", "/assets/{asset}/failed-checks", "viewer", "read")
    def failed_checks(
        self,
        asset: str,
        *,
        since: str = "",
        until: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
        env: str = "",
    ) -> Page[FailedCheck]:
        """Return checks that failed, of an asset and of all that it is made of, on partitions of a
        range of time (of what has none, in that time), newest first."""
        from sextant.app.failed_checks import failed_checks

        return failed_checks(
            self._core,
            self._see,
            self._env(env),
            self._id(asset),
            self._span(since, until),
            limit=page_limit(limit),
            after=after,
        )

    def _span(self, since: str, until: str) -> tuple[int, int]:
        from sextant.app.instants import instant

        core = self._core
        return instant(core, since) if since else 0, instant(core, until) if until else FAR

    @operation("GET", "/diff", "viewer", "read")
    def diff(self, a: str, *, b: str = "", env: str = "") -> dict[str, Any]:
        """Return what differs between two states, each `asset`, `asset@version`, `asset@time` or
        `asset@env:name`: schema, partitions, rows by key."""
        from sextant.app.showing import diff

        return diff(self._core, self._see, self._env(env), a, b)

    @operation("GET", "/kpis/{name}", "viewer", "read")
    def kpi(
        self,
        name: str,
        *,
        by: Sequence[str] = (),
        grain: str = "",
        where: str = "",
        as_of: str = "",
        since: str = "",
        until: str = "",
        last: int = 0,
        points: int = 0,
        compare: str = "",
        states: bool = False,
        env: str = "",
    ) -> KpiSeen:
        """Return a business number: over all time, or by dimensions and grain (5m, 15m, 1h, 1d, 1w,
        1mo, 1q, 1y). Ratios are never averaged. Of a range `since` to before `until`, or of the
        `last` points; thinned to `points`; compared with the `previous` time of equal length or the
        same weekdays a `year` ago; with `states` also how the partitions of each point stand."""
        from sextant.formats.values import plain
        from sextant.kinds.kpi.views import kpi

        of_env, times = self._env(env), self._span(since, until)
        found = kpi(
            self._core,
            self._see,
            of_env,
            name,
            since=times[0] if since else None,
            until=times[1] if until else None,
            last=last,
            points=points,
            compare=compare,
            by=tuple(by),
            grain=grain,
            where=where,
            as_of=as_of,
            kept=self._p.memory.numbers,
        )
        if states and grain and not by and not found.get("hidden"):
            found["rows"] = self._stated(of_env, found)
        answer: KpiSeen = plain(found)
        return answer

    def _stated(self, env: str, found: KpiSeen) -> list[dict[str, Any]]:
        """Return the points of a business number with how the partitions of each stand."""
        from sextant.app.partitions import PARTITION_STATES, states_of
        from sextant.engine import keys
        from sextant.kinds.kpi.series import Span, stated
        from sextant.kinds.kpi.views import definition_of

        core = self._core
        held_by = values_by_definition(core.project.manifest(env).assets).get(
            definition_of(found), ""
        )
        if not held_by:
            return found["rows"]
        asset = core.assets.find(held_by, env)
        states = self._p.memory.kept.get(
            self._moment("states", env, asset.id, self._see.sees_personal),
            lambda: states_of(self._p.runs, self._see, env, asset),
        )
        sides = (
            datetime.fromisoformat(one) if one else None for one in (found["since"], found["until"])
        )
        slices = keys.partitioning(asset)
        return stated(found["rows"], Span(*sides), found["grain"], slices, states, PARTITION_STATES)

    @operation("GET", "/checks", "viewer", "read")
    def checks(
        self, *, asset: str = "", failed: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[dict[str, Any]]:
        """Return results of checks: of all assets or of one, all or only those that failed."""
        from sextant.app import lists

        return lists.checks(
            self._core,
            self._see,
            asset=self._id(asset),
            failed=failed,
            limit=page_limit(limit),
            after=after,
        )

    @operation("POST", "/assets/{asset}/checks", "operator", "check", "plan")
    def check(self, asset: str, *, env: str = "") -> list[CheckResult]:
        """Run all checks of an asset on what is live."""
        self._core.project.load()  # a server has been up for long: the files may be newer
        name = self._env(env)
        found = self._p.runs.check(name, self._core.assets.find(asset, name), by=self._who())
        return [self._see.check(one) for one in found]

    @operation("GET", "/assets/{asset}/failing-rows", "viewer", "read")
    def failing_rows(self, asset: str, sample: str) -> FailingRows:
        """Return the rows that a check kept as evidence, with personal columns masked: the first
        20. `sample` is that of the check's result. NotFound, also where the principal does not see
        what checks of the asset found."""
        core, asset = self._core, self._id(asset)
        is_digest = re.fullmatch(r"[0-9a-f]{64}", sample) is not None
        about = (asset, f'%"{sample}"%')
        found = core.state.read("check_result_of_sample", about) if is_digest else []
        results = [msgspec.json.decode(row[0], type=CheckResult) for row in found]
        seen = self._see.check(results[0]) if results else None
        if seen is None or seen.samples != sample:
            raise NotFound(
                "SX-CHECK-011",
                f"no check of `{asset}` has kept such rows, or they are hidden",
                hint="`sample` is `samples` of a failed result: `sextant check ASSET --json`",
            )
        if not core.blobs.has(sample):
            raise NotFound(
                "SX-CHECK-012",
                f"the failing rows of `{seen.name}` are not kept any more",
                hint=f"`sextant check {asset} --rows` looks again at what is live",
            )
        return msgspec.json.decode(core.blobs.get(sample), type=FailingRows)
