"""Lists services by what their spans say: requests a second, errors, latency. Called by
`Operations.services`."""

from sextant.app.telemetry.asking import Asking, where
from sextant.kernel.answers import ServiceSeen, ServicesFound

# the spans of a request that a service answers, and of a message that it takes
_SERVES = "kind IN ('server', 'consumer')"
_LEVEL = 0.95


def services(asking: Asking, *, since: str, until: str, limit: int) -> ServicesFound:
    """Return what sent telemetry in a window of time, with its requests: those with errors first,
    then the busiest."""
    window, params = where(asking.window(since, until))
    seen, _ = where(asking.window(since, "", "last_seen"))
    rows = asking.rows(
        "SELECT s.asset AS asset, s.owner AS owner, s.last_seen AS last_seen, r.requests AS "
        "requests, r.errors AS errors, r.p95_ns AS p95_ns FROM "
        f"(SELECT asset, owner, last_seen FROM obs.services WHERE {seen}) AS s LEFT JOIN "
        "(SELECT asset, count() AS requests, countIf(status = 'error') AS errors, "
        f"quantileTDigest({_LEVEL})(duration_ns) AS p95_ns FROM obs.spans WHERE {window} AND "
        f"{_SERVES} GROUP BY asset) AS r ON s.asset = r.asset "
        "ORDER BY errors DESC, requests DESC, asset LIMIT {limit:UInt32}",
        params | {"limit": limit + 1},
    )
    length_s = asking.length_s(since, until)
    return ServicesFound(
        services=[
            ServiceSeen(
                asset=row["asset"],
                owner=row["owner"],
                last_seen=row["last_seen"],
                requests=int(row["requests"]),
                requests_per_s=int(row["requests"]) / length_s,
                errors=int(row["errors"]),
                p95_ns=round(float(row["p95_ns"])) if int(row["requests"]) else None,
            )
            for row in rows[:limit]
        ],
        length_s=length_s,
        cut=len(rows) > limit,
    )
