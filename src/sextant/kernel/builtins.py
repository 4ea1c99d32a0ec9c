"""The visible table of what ships with Sextant and is reached by id from a layer below it."""

ROWS: tuple[tuple[str, str], ...] = (
    ("check.dataops", "sextant.kinds.dataset.checks:evaluate"),
    ("kpi.reconcile", "sextant.author.measures:reconcile"),
    ("project.open", "sextant.app.opening:open_project"),
    ("query.local", "sextant.server.local:asker"),
    ("secrets.local", "sextant.project.secrets:for_order"),
    ("secrets.redact", "sextant.project.secrets:redact"),
)
