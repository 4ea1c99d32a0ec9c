"""The table of what ships with Sextant and is loaded by id from a layer below it."""

ROWS: tuple[tuple[str, str], ...] = (
    ("check.dataops.accepted_values", "sextant.kinds.dataset.checks.rows:accepted_values"),
    ("check.dataops.between", "sextant.kinds.dataset.checks.rows:between"),
    ("check.dataops.foreign_key", "sextant.kinds.dataset.checks.rows:foreign_key"),
    ("check.dataops.fresh", "sextant.kinds.dataset.checks.whole:fresh"),
    ("check.dataops.matches", "sextant.kinds.dataset.checks.rows:matches"),
    ("check.dataops.not_null", "sextant.kinds.dataset.checks.rows:not_null"),
    ("check.dataops.python", "sextant.kinds.dataset.checks.whole:python"),
    ("check.dataops.row_count", "sextant.kinds.dataset.checks.whole:row_count"),
    ("check.dataops.schema", "sextant.kinds.dataset.checks.whole:schema"),
    ("check.dataops.sql", "sextant.kinds.dataset.checks.whole:sql"),
    ("check.dataops.unique", "sextant.kinds.dataset.checks.rows:unique"),
    ("kind.dataset", "sextant.kinds.dataset:KIND"),
    ("kind.kpi", "sextant.kinds.kpi:KIND"),
    ("kpi.reconcile", "sextant.author.measures:reconcile"),
    ("perform.dataset", "sextant.kinds.dataset.worker:perform"),
    ("project.open", "sextant.app.opening:open_project"),
    ("query.local", "sextant.server.processes.local:asker"),
    ("secrets.local", "sextant.project.secrets:for_order"),
    ("secrets.redact", "sextant.project.secrets:redact"),
)
