"""What `ops` and `obs` show to who may not see personal columns: views that leave out texts which
may quote a value of some assets. Called by the catalogue.

The same texts as `app/visibility.py` hides, with counts, times and codes in place.
"""

from collections.abc import Sequence

from sextant.kernel.hidden import HIDDEN, STOPPED, TEXTS
from sextant.server.sql.tokens import literal

# What OpenTelemetry calls the texts of an exception: of the events of a span, or of the span itself
_EXCEPTION = ("exception.message", "exception.stacktrace", "error.message")
_NAMES = "|".join(name.replace(".", r"\.") for name in _EXCEPTION)
# keys and texts as `formats/telemetry/otlp.py` writes them
_IN_JSON = rf'"({_NAMES})":"(?:[^"\\]|\\.)*"'


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
    # the first span of a run has the error of the run
    span = f"{sent} OR startsWith(name, 'RUN ')"
    texts = {
        ("ops", "steps"): (of_one, ("error",)),
        ("ops", "checks"): (of_one, ("message",)),
        ("ops", "signals"): (of_one, ("message",)),
        ("ops", "runs"): ("error != ''", ("error",)),  # a run does not say of which assets
        ("ops", "releases"): (f"{stopped} AND {of_some}", ("reason",)),
        ("ops", "incidents"): (of_some, ("title",)),
        ("ops", "events"): (event, ("data",)),
        ("obs", "spans"): (span, ("status_message", "events", "attributes")),
    }
    found = {
        (database, table): f"SELECT * REPLACE ({', '.join(_replaced(when, one) for one in columns)}"
        f") FROM {database}.{table}"
        for (database, table), (when, columns) in texts.items()
    }
    # left out, not replaced: a search in texts goes on to use its index
    found["obs", "logs"] = f"SELECT * FROM obs.logs WHERE NOT ({sent})"
    return found


def _replaced(when: str, column: str) -> str:
    """Return a column as it is shown: where `when` holds, without texts that may quote a value."""
    hidden = literal(HIDDEN)
    if column == "events":  # JSON: what else an event says stays
        text = literal(rf'"\1":"{HIDDEN}"')
        hidden = f"replaceRegexpAll({column}, {literal(_IN_JSON)}, {text})"
    elif column == "attributes":
        names = ", ".join(map(literal, _EXCEPTION))
        hidden = f"mapApply((k, v) -> (k, if(k IN ({names}), {hidden}, v)), {column})"
    shown = f"if(({when}) AND notEmpty({column}), {hidden}, {column})"
    if column == "attributes":  # `if` knows no keys of low cardinality
        shown = f"CAST({shown}, toTypeName({column}))"
    return f"{shown} AS {column}"
