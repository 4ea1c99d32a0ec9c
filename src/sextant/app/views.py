"""What people ask to see: status, graph, rows, versions, differences, KPIs, causes. Reads only;
returns plain data.

Every view is JSON-ready; the command line and the HTTP interface render the same values.
"""

import re
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine import keys
from sextant.engine.history import History
from sextant.engine.plan import Request, order
from sextant.formats.values import plain, records, text
from sextant.kernel.answers import (
    AssetStatus,
    BatchSeen,
    EnvironmentSeen,
    EventSeen,
    FailingRows,
    GraphSeen,
    IncidentSeen,
    KpiSeen,
    Page,
    Printed,
    SignalSeen,
    Status,
    VersionSeen,
)
from sextant.kernel.clock import iso
from sextant.kernel.errors import Denied, NotFound, UsageError, UserError
from sextant.kernel.lengths import length_s
from sextant.kernel.limits import INTEGER_MAX, PAGE_ROWS, PAGE_ROWS_MAX
from sextant.kernel.nouns import (
    Asset,
    CheckResult,
    FileSet,
    Incident,
    InputRef,
    Release,
    Signal,
    Version,
)
from sextant.kernel.partitions import ALL
from sextant.kernel.ports import Row
from sextant.kinds.dataset.checks.finding import MASK
from sextant.kinds.dataset.inbox import Refusal, columns_of
from sextant.kinds.dataset.spec import KIND, table_spec
from sextant.kinds.kpi.spec import Goal, Measure, measure_spec
from sextant.ledger.log import Entry, entries
from sextant.ledger.projections import stored_run
from sextant.ledger.versions import changed
from sextant.project.config import telemetry_off
from sextant.release.as_of import version_as_of
from sextant.release.releases import open_releases

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


_FAR = 1 << 62
_REPORTS_SHOWN = 20  # newest events of an observed asset that `why` looks at
_CAUSES_MAX = 50  # events of one chain of causes: longer is a loop in somebody's reporting


class Views:
    """Views of one platform, as one principal may see them; `see` left out: everything."""

    def __init__(self, core: Core, runs: Runs, see: Visibility) -> None:
        self._core = core
        self._runs, self._inbox, self._personal = runs, runs.inbox, runs.personal
        self.see = see

    # ------------------------------------------------------------ the whole

    def status(self, env: str, chosen: Collection[str] = ()) -> Status:
        """Return what is live, stale, held and waiting in an environment, of the assets `chosen`
        (none = of all), and what needs a person."""
        core = self._core
        core.project.check_environment(env)
        manifest = core.project.manifest()
        # what a source looks back to is read by every run: nothing of it is due by that
        plan = self._runs.plan(env, Request(look_back=False))
        live = core.versions.live(env)
        planned: dict[str, dict[str, int]] = {}
        for step in plan.steps:
            counts = planned.setdefault(step.asset, {})
            for item in step.items:
                counts[item.reason] = counts.get(item.reason, 0) + 1
        assets: list[AssetStatus] = []
        for asset in sorted(manifest.assets, key=lambda a: a.id):
            if chosen and asset.id not in chosen:
                continue
            pointer = live.get(asset.id)
            version = core.versions.get(asset.id, pointer.version) if pointer else None
            assets.append(
                {
                    "asset": asset.id,
                    "owner": asset.owner,
                    "tier": asset.tier,
                    "version": pointer.version if pointer else "",
                    "from_env": pointer.env if pointer else "",
                    "published_at": iso(pointer.moved_at) if pointer else "",
                    "rows": version.rows if version else 0,
                    "partitions": len(core.versions.parts(asset.id, version.digest))
                    if version and asset.kind == "dataset"
                    else 0,
                    "to_run": planned.get(asset.id, {}),
                    "looks_back": asset.lookback,
                    "stale": len(plan.stale.get(asset.id, {})),
                    "held": len(plan.held.get(asset.id, ())),
                    "waiting": len(plan.waiting.get(asset.id, ())),
                }
            )
        signals = self.signals(open_only=True).items
        return {
            "project": manifest.project,
            "env": env,
            "assets": assets,
            "signals": signals,
            "waiting": [
                msgspec.to_builtins(self.see.release(r))
                for r in open_releases(core.state)
                if r.state in ("waiting", "paused")
            ],
            "failed_run": self._failed_run(env),
            "runs_open": [row[0] for row in core.state.read("runs_open")],
            "inbox": self._inbox.waits(),
            "load_problem": core.project.problem.message if core.project.problem else "",
            "telemetry_off": telemetry_off(core.project.config),
        }

    def _failed_run(self, env: str) -> str:
        newest = self.runs(env=env, limit=1).items
        return str(newest[0]["id"]) if newest and newest[0]["state"] == "failed" else ""

    def graph(self, chosen: Collection[str] = ()) -> GraphSeen:
        """Return assets and the edges between them: of those `chosen` (none = of all)."""
        core = self._core
        manifest = core.project.manifest()
        known, edges = core.assets.graph()
        chosen = set(chosen or known)
        ordered = [asset.id for asset in order(manifest)]
        place = {id_: n for n, id_ in enumerate(ordered)}
        nodes = sorted(
            (known[id_] for id_ in chosen if id_ in known),
            key=lambda a: (place.get(a.id, len(place)), a.id),
        )
        return {
            "assets": [
                {
                    "id": a.id,
                    "kind": a.kind,
                    "owner": a.owner,
                    "tier": a.tier,
                    "mode": a.mode,
                    "description": a.description,
                    "tags": list(a.tags),
                }
                for a in nodes
            ],
            "edges": [
                {"source": e.source, "target": e.target, "kind": e.kind}
                for e in edges
                if e.source in chosen and e.target in chosen
            ],
        }

    # ------------------------------------------------------------ data

    def frame(self, version: Version, partitions: Sequence[str] | None = None) -> "pl.DataFrame":
        """Return the rows of a version as a Polars frame. NotFound when its bytes have expired."""
        import polars as pl

        return pl.DataFrame(pl.from_arrow(self.table(version, partitions)))

    def table(self, version: Version, partitions: Sequence[str] | None = None) -> "pa.Table":
        """Return the rows of a version as an Arrow table. NotFound when its bytes have expired."""
        from sextant.stores.lake import frames

        if self._core.state.read("version_expired_is", (version.asset, version.digest)):
            raise NotFound(
                "SX-VERSION-007",
                (
                    f"the rows of version `{version.digest[:12]}` of `{version.asset}` have "
                    "expired; its record stays"
                ),
                hint="keep= of the asset says how long rows are kept",
            )
        files = self._core.lake.files(version.locator) if version.locator else ()
        table: pa.Table = frames.read(
            self._core.lake.root,
            files,
            partitions=partitions,
            frame="pyarrow",
            schema=version.schema,
            key=next(
                (
                    table_spec(one).key
                    for one in self._core.project.manifest().assets
                    if one.id == version.asset
                ),
                (),
            ),
            of=f"{version.asset}@{version.digest[:12]}",
        )
        return table

    def show(
        self, env: str, name: str, *, as_of: str = "", limit: int = 20, partition: str = ""
    ) -> dict[str, Any]:
        """Return an asset's facts and the first rows of a version."""
        core = self._core
        asset = core.assets.find(name)
        facts: dict[str, Any] = {
            "asset": asset.id,
            "owner": asset.owner,
            "tier": asset.tier,
            "mode": asset.mode,
            "description": asset.description,
            "tags": list(asset.tags),
            "file": f"{asset.file}:{asset.line}" if asset.file else "",
            "checks": [
                {"name": c.name, "severity": c.severity, "scope": c.scope} for c in asset.checks
            ],
            "inputs": [i.asset for i in asset.build.inputs] if asset.build else [],
        }
        if asset.mode == "observed":
            facts["reports"] = self.events(subject=asset.id, limit=20).items
            return facts
        if asset.kind == "kpi":
            facts["measure"] = msgspec.to_builtins(measure_spec(asset))
        version = version_as_of(self._core, env, asset.id, as_of)
        parts = core.versions.parts(asset.id, version.digest)
        facts |= {
            "version": version.digest,
            "created_at": iso(version.created_at),
            "run": version.run,
            "rows": version.rows,
            "size_bytes": version.size_bytes,
            "partitions": len(parts),
            "schema": [list(column) for column in version.schema],
            "made_from": version.inputs,
            "locator": version.locator,
            "refused": [self.see.text(one, asset.id) for one in version.meta.get("refused", [])],
        }
        if asset.kind != KIND:
            return facts
        table = table_spec(asset)
        personal = self._personal().of(version)
        facts |= {
            "key": list(table.key),
            "time": table.time,
            "personal": list(personal),
            "public": list(table.public),
        }
        wanted = None
        if partition:
            keys.partitioning(asset).partition(partition)
            if partition not in parts:
                raise NotFound(
                    "SX-VERSION-008",
                    (
                        f"version `{version.digest[:12]}` of `{asset.id}` has no partition "
                        f"`{partition}`"
                    ),
                    hint=f"it has {min(parts, default='none')} to {max(parts, default='none')}",
                )
            wanted = [partition]
        elif limit and parts and ALL not in parts and limit < version.rows:
            wanted, count = [], 0
            for key in sorted(parts):
                wanted.append(key)
                count += parts[key].rows
                if count >= limit:
                    break
        facts["sample"] = (
            _masked(records(self.table(version, wanted).slice(0, limit)), personal) if limit else []
        )
        return facts

    def count(self, env: str, name: str, *, as_of: str = "", partition: str = "") -> int:
        """Return the number of rows of a version, or of one of its partitions."""
        asset = self._core.assets.find(name)
        version = version_as_of(self._core, env, asset.id, as_of)
        parts = self._core.versions.parts(asset.id, version.digest)
        if partition:
            return parts[partition].rows if partition in parts else 0
        return sum(part.rows for part in parts.values())

    def versions(
        self, env: str, name: str, *, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[VersionSeen]:
        """Return versions of an asset: what made them, what they changed, how they stand in
        `env`."""
        core = self._core
        asset = core.assets.find(name)
        live = core.versions.live_version(env, asset.id)
        withdrawn = {(row[0], row[1]): row[3] for row in core.state.read("withdrawn", (env,))}
        out: list[VersionSeen] = []
        at, last = _cursor(after)
        rows = core.state.read("versions_page", (asset.id, at, at, last, limit))
        for digest, doc, locator, expired, _, refused in rows:
            version = msgspec.json.decode(doc, type=Version)
            changed_keys = sorted(row[0] for row in core.state.read("parts_of", (asset.id, digest)))
            mark = (
                "live"
                if digest == live
                else f"withdrawn: {withdrawn[(asset.id, digest)]}"
                if (asset.id, digest) in withdrawn
                else "refused"
                if refused
                else ""
            )
            out.append(
                {
                    "version": digest,
                    "state": mark,
                    "created_at": iso(version.created_at),
                    "rows": version.rows,
                    "run": version.run,
                    "parent": version.parent,
                    "changed": changed_keys
                    if len(changed_keys) <= 3
                    else [
                        changed_keys[0],
                        f"... {len(changed_keys)} partitions ...",
                        changed_keys[-1],
                    ],
                    "locator": locator,
                    "expired": bool(expired),
                }
            )
        return Page(out, _next(rows, limit, lambda row: (row[4], row[0])))

    def diff(self, env: str, one: str, other: str) -> dict[str, Any]:
        """Return what differs between two states, each `asset`, `asset@version`, `asset@time` or
        `asset@env:name`.

        other   a version of the same asset may be named alone; "" = what is live, and an `asset`
                alone is then compared with what was live before
        Result  schema, partitions, and rows by key (counts and samples)
        """
        from sextant.stores.lake import diff as lake_diff

        asset, before = self._state(env, one)
        asset_b, after = self._state(
            env,
            other
            if "@" in other or ":" in other
            else f"{asset.id}@{other}"
            if other not in ("", asset.name)
            else asset.id,
        )
        if not other and "@" not in one:
            move = self._core.versions.source_of(env, asset.id)
            if move is None or not move.source:
                raise NotFound(
                    "SX-VERSION-009",
                    (
                        f"the live version of `{asset.id}` is the first in `{env}`: there is "
                        "nothing to compare it with"
                    ),
                    hint=f"`sextant versions {asset.id}` lists all there are",
                )
            before = self._core.versions.get(asset.id, move.source)
        if asset.id != asset_b.id:
            raise UserError(
                "SX-DIFF-001",
                f"`{asset.id}` and `{asset_b.id}` are two assets",
                hint="compare two versions of one",
            )
        a, b = (
            self._core.versions.parts(asset.id, before.digest),
            self._core.versions.parts(asset.id, after.digest),
        )
        differs, gone = changed(
            {k: msgspec.structs.replace(v, code="", inputs="") for k, v in a.items()},
            {k: msgspec.structs.replace(v, code="", inputs="") for k, v in b.items()},
        )
        touched = sorted({*differs, *gone})
        out: dict[str, Any] = {
            "asset": asset.id,
            "before": before.digest,
            "after": after.digest,
            "partitions": touched,
        }
        if asset.kind == "kpi":
            out["measure"] = {
                "before": before.meta.get("measure"),
                "after": after.meta.get("measure"),
            }
            out["history"] = self._history(asset, before, after)
            return out
        left = self.table(before, [k for k in touched if k in a])
        right = self.table(after, [k for k in touched if k in b])
        found = lake_diff.diff(left, right, table_spec(asset).key)
        personal = {*self._personal().of(before), *self._personal().of(after)}
        return {**out, **msgspec.to_builtins(found), "samples": _masked(found.samples, personal)}

    def _history(self, asset: Asset, before: Version, after: Version) -> list[dict[str, Any]]:
        """Return what two definitions of a KPI say month by month (over all time where it has no
        grain)."""
        from sextant.kinds.kpi import measures

        sides: list[dict[str, Any]] = []
        for version in (before, after):
            measure = msgspec.convert(version.meta["measure"], Measure)
            values = self._values_of(asset, version.digest)
            month = "1mo" if "1mo" in measures.NESTS[measure.grain] else measure.grain
            rows = (
                self._shown_rollup(asset, measure, values, values, grain=month)[0] if values else []
            )
            sides.append({str(row.get("bucket", "all"))[:7]: plain(row["value"]) for row in rows})
        return [
            {"bucket": bucket, "before": sides[0].get(bucket), "after": sides[1].get(bucket)}
            for bucket in sorted({*sides[0], *sides[1]})
        ]

    def _values_of(self, asset: Asset, definition: str) -> Version | None:
        """Return the newest kept version of a KPI's values that was made by a definition."""
        derived = self._core.state.read("provenance_downstream", (asset.id, definition))
        made = {row[1] for row in derived}
        for digest, doc, locator, expired in self._core.state.read(
            "versions", (f"dataset:kpi_{asset.name}", _FAR, PAGE_ROWS_MAX)
        ):
            if digest in made and not expired:
                version = msgspec.json.decode(doc, type=Version)
                return msgspec.structs.replace(version, locator=locator)
        return None

    def _state(self, env: str, text: str) -> tuple[Asset, Version]:
        name, _, at = text.partition("@")
        asset = self._core.assets.find(name)
        if at.startswith("env:"):
            self._core.project.check_environment(at.removeprefix("env:"))
            return asset, version_as_of(self._core, at.removeprefix("env:"), asset.id, "")
        return asset, version_as_of(self._core, env, asset.id, at)

    def env_diff(self, one: str, other: str) -> dict[str, Any]:
        """Return what differs between two environments: per asset versions, partitions and rows;
        KPI values where both have them."""
        core = self._core
        core.project.check_environment(one)
        core.project.check_environment(other)
        a, b = core.versions.live(one), core.versions.live(other)
        assets = []
        for id_ in sorted({*a, *b}):
            before, after = a[id_].version if id_ in a else "", b[id_].version if id_ in b else ""
            if before == after:
                continue
            entry: dict[str, Any] = {"asset": id_, "before": before, "after": after}
            left = core.versions.get(id_, before) if before else None
            right = core.versions.get(id_, after) if after else None
            entry["code_changed"] = bool(left and right and left.code != right.code)
            if id_.startswith("kpi:"):
                entry["measure"] = {
                    "before": left.meta.get("measure") if left else None,
                    "after": right.meta.get("measure") if right else None,
                }
            else:
                differs, gone = changed(
                    core.versions.parts(id_, before), core.versions.parts(id_, after)
                )
                entry |= {
                    "partitions": sorted({*differs, *gone}),
                    "rows_before": left.rows if left else 0,
                    "rows_after": right.rows if right else 0,
                }
            assets.append(entry)
        kpis = []
        for asset in core.project.manifest().assets:
            if asset.kind == "kpi" and f"dataset:kpi_{asset.name}" in {e["asset"] for e in assets}:
                values = [self._total(env, asset) for env in (one, other)]
                kpis.append({"kpi": asset.id, "before": values[0], "after": values[1]})
        return {"before": one, "after": other, "assets": assets, "kpis": kpis}

    def _total(self, env: str, asset: Asset) -> Any:
        try:
            rows = self.kpi(env, asset.name)["rows"]
        except NotFound:
            return None
        return plain(rows[0]["value"]) if rows else None

    # ------------------------------------------------------------ business numbers

    def kpi(
        self,
        env: str,
        name: str,
        *,
        by: Sequence[str] = (),
        grain: str = "",
        where: str = "",
        as_of: str = "",
    ) -> KpiSeen:
        """Return a KPI's values: over all time, or by dimensions and grain (5m, 15m, 1h, 1d, 1w,
        1mo, 1q, 1y), and whether its goal is met over the goal's own window.

        Values are Python's; `plain` makes JSON of them.

        Ratios are never averaged: stored parts are added up and divided then; a measure that cannot
        be taken apart is computed again from the rows.
        """
        from sextant.kinds.kpi import measures

        core = self._core
        asset = core.assets.find(name if name.startswith("kpi:") else f"kpi:{name}")
        defined = version_as_of(
            self._core, env, asset.id, "" if as_of and "-" not in as_of else as_of
        )
        measure = msgspec.convert(
            defined.meta["measure"], Measure
        )  # what is live, not what the file says by now
        version = version_as_of(
            self._core,
            env,
            measure.of if measures.needs_rows(measure) else f"dataset:kpi_{asset.name}",
            as_of,
        )
        shown = measure_spec(asset)  # how it is shown is no part of what it means
        values = version
        if version.asset == measure.of:
            values = self._values_at(env, f"dataset:kpi_{asset.name}", as_of) or version
        rows, hidden = self._shown_rollup(
            asset, measure, version, values, by=by, grain=grain, where=where
        )
        goal = None
        if shown.goal and "value" not in hidden:
            goal = self._goal(asset, measure, version, shown.goal)
        seen: KpiSeen = {
            "kpi": asset.id,
            "definition": defined.digest,
            "version": version.digest,
            "unit": shown.unit,
            "format": shown.format,
            "over_time": measure.over_time,
            "by": list(by),
            "grain": grain,
            "goal": _said(shown.goal) if shown.goal else "",
            "goal_value": goal[0] if goal else None,
            "goal_met": goal[1] if goal else None,
            "rows": rows,
        }
        if hidden:
            seen["hidden"] = hidden
        return seen

    def _values_at(self, env: str, id_: str, as_of: str) -> Version | None:
        """Return the version of a KPI's values beside the rows that it is computed from."""
        try:
            return version_as_of(self._core, env, id_, as_of if "-" in as_of else "")
        except NotFound:
            return None

    def _shown_rollup(
        self,
        asset: Asset,
        measure: Measure,
        version: Version,
        values: Version,
        *,
        by: Sequence[str] = (),
        grain: str = "",
        where: str = "",
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return a measure's values as the principal may see them, and what is hidden of them:
        personal dimensions are left out, and cannot be asked with; a personal value is masked.

        version  what is added up
        values   the KPI's values, which say what is personal; the rows themselves where there are
                 none yet
        """
        personal = {name.lower() for name in self.see.hidden_columns(values)}
        if personal and values.asset == measure.of:  # nothing says what flows into the measure
            personal |= {"value"}
        hides_bucket = "bucket" in personal
        if hides_bucket and where:
            raise Denied(
                "SX-KPI-004",
                f"the time of `{asset.id}` is personal: nobody else asks with conditions",
                hint="an administrator can",
            )
        rows = self._rollup(
            asset,
            msgspec.structs.replace(
                measure, by=tuple(name for name in measure.by if name.lower() not in personal)
            ),
            version,
            by=[name for name in by if name.lower() not in personal],
            grain="" if hides_bucket else grain,
            where=where,
        )
        hidden = [name for name in by if name.lower() in personal]
        hidden += ["bucket"] if grain and hides_bucket else []
        hidden += ["value"] if "value" in personal else []
        return _masked(rows, {"value"} & personal), hidden

    def _goal(
        self, asset: Asset, measure: Measure, version: Version, goal: Goal
    ) -> tuple[Any, bool | None]:
        """Return a measure's value over a goal's own window, which ends with the newest bucket, and
        whether it meets the goal; None where there is no value."""
        since = f"INTERVAL {length_s(goal.over):.0f} SECOND" if goal.over and measure.grain else ""
        rows = self._rollup(asset, measure, version, since=since)
        value = rows[0]["value"] if rows else None
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return value, None
        bound = Decimal(str(goal.value))
        met = {
            ">=": number >= bound,
            "<=": number <= bound,
            ">": number > bound,
            "<": number < bound,
        }[goal.op]
        return value, met

    def _rollup(
        self,
        asset: Asset,
        measure: Measure,
        version: Version,
        *,
        by: Sequence[str] = (),
        grain: str = "",
        where: str = "",
        since: str = "",
    ) -> list[dict[str, Any]]:
        """Return a measure's values from a version of its stored parts (or, where it needs them, of
        its rows)."""
        import duckdb

        from sextant.kinds.dataset.worker import table_of
        from sextant.kinds.kpi import measures
        from sextant.stores.lake import frames

        core = self._core
        manifest = core.project.manifest()
        of = manifest.asset(measure.of)
        measure = msgspec.structs.replace(
            measure,
            # an earlier release did not keep it with the definition
            time=measure.time or (table_spec(of).time if of else ""),
            year_starts=measure_spec(asset).year_starts,
        )
        query = measures.rollup_sql(
            measure,
            by=list(by),
            grain=grain,
            where=where,
            table="t",
            tz=manifest.tz,
            since=since,
        )
        parts = core.versions.parts(version.asset, version.digest)
        files = core.lake.files(version.locator) if version.locator else ()
        rows = table_of(
            str(core.lake.root),
            InputRef(
                name="t",
                asset=version.asset,
                version=version.digest,
                sets=(FileSet(files=files, partitions=tuple(parts)),),
                schema=version.schema,
            ),
        )
        with duckdb.connect(
            config={"enable_external_access": "false", "python_enable_replacements": "false"}
        ) as connection:
            connection.register("t", rows)
            connection.execute(f"SET TimeZone = '{manifest.tz}'")
            connection.execute("SET threads = 1")  # sums of floats depend on their order
            connection.execute(
                "SET lock_configuration = true"
            )  # a condition of somebody else's is part of the question
            try:
                table = connection.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise UsageError(
                    "SX-KPI-005",
                    f"the question cannot be answered: {str(error).splitlines()[0]}",
                    hint="--where is a condition over the dimensions",
                ) from error
        found: list[dict[str, Any]] = frames.finite(table, "value").to_pylist()
        return found

    # ------------------------------------------------------------ lists

    def events(
        self, *, subject: str = "", kind: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[EventSeen]:
        """Return ledger entries: all, those about a subject, those of a type. Those about
        an asset include those of its versions and releases. An erased payload is shown as
        erased."""
        found = entries(
            self._core.state.read,
            "events_page",
            (_cursor(after)[0], subject, subject, subject, subject, kind, kind, limit),
        )
        return Page(
            [self.see.event(event_seen(entry)) for entry in found],
            f"{found[-1].envelope.seq}:" if len(found) == limit else "",
        )

    def runs(
        self, *, env: str = "", state: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[dict[str, Any]]:
        at, last = _cursor(after)
        rows = self._core.state.read("runs_page", (at, at, last, env, env, state, state, limit))
        return Page(
            [msgspec.to_builtins(self.see.run(stored_run(row[1]))) for row in rows],
            _next(rows, limit, lambda row: (row[2], row[0])),
        )

    def run(self, id_: str) -> dict[str, Any]:
        """Return a run with its steps, attempts, resources, checks and releases. NotFound."""
        core = self._core
        rows = core.state.read("run_get", (id_,))
        if not rows:
            raise NotFound(
                "SX-RUN-003", f"there is no run `{id_}`", hint="`sextant runs` lists them"
            )
        history = History.open(core.state, id_)
        facts = stored_run(rows[0][3])
        steps = [
            msgspec.to_builtins(msgspec.structs.replace(self.see.record(record), output=""))
            for record in history.records
        ]
        checks = [
            msgspec.to_builtins(self.see.check(msgspec.json.decode(row[0], type=CheckResult)))
            for row in core.state.read("check_results_of_run", (id_,))
        ]
        return {
            **msgspec.to_builtins(self.see.run(facts)),
            "steps_recorded": steps,
            "checks": checks,
            "seal_ok": not facts.seal or facts.seal == history.seal or not history.records,
        }

    def log(self, run: str, step: str = "") -> list[Printed]:
        """Return the captured output of a run's attempts."""
        return [
            {
                "step": record.step,
                "attempt": record.attempt,
                "at": iso(record.at),
                "text": self.see.text(
                    self._core.blobs.get(record.log).decode(errors="replace"), record.asset
                ),
            }
            for record in History.open(self._core.state, run).records
            if record.log and (not step or record.step == step)
        ]

    def releases(
        self,
        *,
        env: str = "",
        asset: str = "",
        state: str = "",
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[dict[str, Any]]:
        at, last = _cursor(after)
        rows = self._core.state.read(
            "releases_page", (at, at, last, env, env, state, state, asset, asset, limit)
        )
        return Page(
            [
                msgspec.to_builtins(self.see.release(msgspec.json.decode(row[1], type=Release)))
                for row in rows
            ],
            _next(rows, limit, lambda row: (row[2], row[0])),
        )

    def checks(
        self, *, asset: str = "", failed: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[dict[str, Any]]:
        at, last = _cursor(after)
        rows = self._core.state.read(
            "checks_page", (at, at, int(last or 0), asset, asset, int(failed), limit)
        )
        found = [
            {
                **msgspec.to_builtins(self.see.check(msgspec.json.decode(doc, type=CheckResult))),
                "run": run,
                "version": version,
            }
            for _, _, doc, run, version in rows
        ]
        return Page(found, _next(rows, limit, lambda row: (row[0], str(row[1]))))

    def failing_rows(self, asset: str, sample: str) -> FailingRows:
        """Return the rows that a check of an asset kept as evidence. NotFound."""
        core = self._core
        is_digest = re.fullmatch(r"[0-9a-f]{64}", sample) is not None
        about = (asset, f'%"{sample}"%')
        found = core.state.read("check_result_of_sample", about) if is_digest else []
        seen = self.see.check(msgspec.json.decode(found[0][0], type=CheckResult)) if found else None
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

    def signals(
        self,
        *,
        asset: str = "",
        kind: str = "",
        open_only: bool = False,
        limit: int = PAGE_ROWS,
        after: str = "",
    ) -> Page[SignalSeen]:
        at, last = _cursor(after)
        rows = self._core.state.read(
            "signals_page", (at, at, last, asset, asset, kind, kind, int(open_only), limit)
        )
        found: list[SignalSeen] = [
            {  # type: ignore[typeddict-item]
                **msgspec.to_builtins(  # type: ignore[typeddict-item]
                    self.see.signal(msgspec.json.decode(row[1], type=Signal))
                ),
                "closed_at": iso(row[2]) if row[2] else "",
            }
            for row in rows
        ]
        return Page(found, _next(rows, limit, lambda row: (row[3], row[0])))

    def batches(
        self, asset: Asset, *, refused: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[BatchSeen]:
        """Return the pushed batches that are not part of a dataset yet: all, or the refused
        ones."""
        columns_of(asset)
        at, last = _cursor(after)
        rows = self._core.state.read("inbox_page", (asset.id, at, at, last, int(refused), limit))
        found: list[BatchSeen] = [
            {
                "batch": batch,
                "state": "refused" if refusal else "waiting",
                "rows": int(count),
                "by": by,
                "taken_at": iso(taken),
                "error": self.see.text(
                    msgspec.json.decode(refusal, type=Refusal).error if refusal else "", asset.id
                ),
            }
            for batch, _, count, by, taken, refusal in rows
        ]
        return Page(found, _next(rows, limit, lambda row: (row[4], row[1])))

    def incidents(
        self, *, state: str = "", limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[IncidentSeen]:
        at, last = _cursor(after)
        rows = self._core.state.read("incidents_page", (at, at, last, state, state, limit))
        found: list[IncidentSeen] = [
            {  # type: ignore[typeddict-item]
                **msgspec.to_builtins(  # type: ignore[typeddict-item]
                    self.see.incident(msgspec.json.decode(row[1], type=Incident))
                ),
                "state": row[2],
                "closed_at": iso(row[3]) if row[3] else "",
            }
            for row in rows
        ]
        return Page(found, _next(rows, limit, lambda row: (row[4], row[0])))

    def envs(self) -> list[EnvironmentSeen]:
        return [
            {"name": name, "parent": parent, "created_at": iso(created)}
            for name, parent, created in self._core.state.read("envs")
        ]


def event_seen(entry: Entry) -> EventSeen:
    """Return an entry of the ledger as people and clients see it."""
    seal = entry.envelope
    return {
        "seq": seal.seq,
        "id": seal.id,
        "type": seal.type,
        "at": iso(seal.time),
        "actor": seal.actor,
        "subject": seal.subject,
        "cause": seal.cause,
        "data": entry.shown,
    }


def _cursor(after: str) -> tuple[int, str]:
    """Return the sort key behind which a page begins. UsageError for a text that no page gave."""
    at, _, last = after.partition(":")
    if not after:
        return _FAR, ""
    if not re.fullmatch(r"[0-9]{1,19}", at) or int(at) > INTEGER_MAX:
        raise UsageError(
            "SX-PAGE-001",
            f"`{after}` is not where a page ends",
            hint="pass what `next` of the page before said",
        )
    return int(at), last


def _next(rows: Sequence[Row], limit: int, key: Callable[[Row], tuple[int, str]]) -> str:
    """Return where the next page begins: behind the last row of a full one."""
    if not rows or len(rows) < limit:
        return ""
    at, last = key(rows[-1])
    return f"{at}:{last}"


def _said(goal: Goal) -> str:
    bound = text(goal.value).removesuffix(".0")
    return f"{goal.op} {bound}" + (f" over {goal.over}" if goal.over else "")


def _masked(value: Any, personal: Collection[str]) -> Any:
    """Return rows (in whatever lists and dicts they lie) with the values of personal columns
    hidden."""
    if not personal:
        return value
    if isinstance(value, list):
        return [_masked(one, personal) for one in value]
    if isinstance(value, dict):
        return {
            name: MASK if name in personal and one is not None else _masked(one, personal)
            for name, one in value.items()
        }
    return value
