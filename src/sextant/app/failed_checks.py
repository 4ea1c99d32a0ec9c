"""Checks that failed on what an asset is made of, in a range of time of its data. Called by
`Operations.failed_checks`."""

import functools
from collections.abc import Mapping

import msgspec

from sextant.app.graph import graph
from sextant.app.visibility import Visibility
from sextant.core import Core
from sextant.engine import keys
from sextant.kernel.answers import FailedCheck, Page
from sextant.kernel.clock import from_datetime, iso
from sextant.kernel.errors import SextantError
from sextant.kernel.limits import TIMELINE_READ_MAX
from sextant.kernel.nouns import CheckResult, Part
from sextant.kernel.pages import page_start


def failed_checks(
    core: Core,
    see: Visibility,
    env: str,
    asset: str,
    span: tuple[int, int],
    *,
    limit: int,
    after: str,
) -> Page[FailedCheck]:
    """Return checks that failed, of an asset and of all that it is made of, newest first: those of
    partitions that have a part of the span (from, until before: ns since 1970); of results without
    a partition of time, those that were found in it. Of runs in other environments only those whose
    rows are live here."""
    upstream = {node["id"] for node in graph(core, core.assets.select([f"+{asset}"]))["assets"]}
    manifest = core.project.manifest(env)
    live = core.versions.live(env)

    @functools.cache
    def ends(id_: str, key: str) -> tuple[int, int] | None:
        """Return from when until before when a partition is; None where it has no time."""
        found = manifest.asset(id_)
        try:
            part = keys.partitioning(found).partition(key) if found and key else None
        except SextantError:  # a key of an earlier declaration
            return None
        if part is None or part.start is None or part.end is None:
            return None
        return from_datetime(part.start), from_datetime(part.end)

    @functools.cache
    def parts(id_: str, version: str) -> Mapping[str, Part]:
        return core.versions.parts(id_, version)

    def is_live(result: CheckResult, version: str) -> bool:
        pointer = live.get(result.asset)
        if pointer is None or not version:
            return False
        if pointer.version == version or not result.partition:
            return pointer.version == version
        now = parts(result.asset, pointer.version).get(result.partition)
        then = parts(result.asset, version).get(result.partition)
        return now is not None and then is not None and now.digest == then.digest

    at, last = page_start(after)
    n = int(last or 0)
    found: list[FailedCheck] = []
    for _ in range(TIMELINE_READ_MAX // limit + 1):
        rows = core.state.read("failed_checks_page", (at, at, n, limit))
        for seq, number, doc, run, version, time, run_env in rows:
            at, n = seq, number
            result = msgspec.json.decode(doc, type=CheckResult)
            if result.asset not in upstream:
                continue
            start, end = ends(result.asset, result.partition) or (time, time + 1)
            if start >= span[1] or end <= span[0]:
                continue
            stands = is_live(result, version)
            if run_env not in (None, env) and not stands:
                continue
            seen = see.check(result)
            found.append(
                {
                    "asset": seen.asset,
                    "name": seen.name,
                    "partition": seen.partition,
                    "severity": seen.severity,
                    "failed": seen.failed,
                    "rows": seen.rows,
                    "message": seen.message,
                    "run": run,
                    "version": version,
                    "at": iso(time),
                    "is_live": stands,
                }
            )
            if len(found) == limit:
                return Page(found, f"{at}:{n}")
        if len(rows) < limit:
            return Page(found)
    return Page(found, f"{at}:{n}")
