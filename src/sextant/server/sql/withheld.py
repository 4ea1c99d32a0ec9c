"""What `ops` and `obs` show to who may not see personal columns: views that leave out texts which
may quote a value of some assets. Called by the catalogue.

The same texts as `app/visibility.py` hides, with counts, times and codes in place.
"""

from collections.abc import Sequence

from sextant.kernel.personal import HIDDEN, STOPPED, TEXTS
from sextant.server.sql.tokens import literal


def selects(assets: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return (database, table) -> the SELECT that stands for it.

    assets  those that have personal columns, or read some; none: nothing is left out
    """
    if not assets:
        return {}
    names = ", ".join(map(literal, assets))
    of_one = f"asset IN ({names})"
    sent = f"{of_one} OR (asset = 'service:sextant' AND attributes['sextant.asset'] IN ({names}))"
    of_some = f"hasAny(assets, [{names}])"
    said = ", ".join(literal(f'"{word}":') for word in (*TEXTS, "reason"))
    quoted = ", ".join(literal(f"{asset}{end}") for asset in assets for end in ('"', "@", "[", ":"))
    stopped = f"state IN ({', '.join(map(literal, STOPPED))})"
    event = (
        f"(startsWith(type, 'run.') OR multiSearchAny(concat(subject, '\"', data), [{quoted}])) "
        f"AND multiSearchAny(data, [{said}])"
    )
    texts = {
        ("ops", "steps"): (of_one, "error"),
        ("ops", "checks"): (of_one, "message"),
        ("ops", "signals"): (of_one, "message"),
        ("ops", "runs"): ("error != ''", "error"),  # a run does not say of which assets
        ("ops", "releases"): (f"{stopped} AND {of_some}", "reason"),
        ("ops", "incidents"): (of_some, "title"),
        ("ops", "events"): (event, "data"),
        # the first span of a run has the error of the run
        ("obs", "spans"): (f"{sent} OR startsWith(name, 'RUN ')", "status_message"),
    }
    found = {
        (database, table): (
            f"SELECT * REPLACE (if(({when}) AND {column} != '', {literal(HIDDEN)}, {column}) AS "
            f"{column}) FROM {database}.{table}"
        )
        for (database, table), (when, column) in texts.items()
    }
    # left out, not replaced: a search in texts goes on to use its index
    found["obs", "logs"] = f"SELECT * FROM obs.logs WHERE NOT ({sent})"
    return found
