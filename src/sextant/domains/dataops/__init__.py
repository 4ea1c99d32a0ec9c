"""DataOps: version control for data, automated testing of data, orchestration and monitoring of
data pipelines."""

ROWS: tuple[tuple[str, str], ...] = (
    ("check.dataops.accepted_values", "sextant.domains.dataops.checks.rows:accepted_values"),
    ("check.dataops.between", "sextant.domains.dataops.checks.rows:between"),
    ("check.dataops.foreign_key", "sextant.domains.dataops.checks.rows:foreign_key"),
    ("check.dataops.fresh", "sextant.domains.dataops.checks.whole:fresh"),
    ("check.dataops.matches", "sextant.domains.dataops.checks.rows:matches"),
    ("check.dataops.not_null", "sextant.domains.dataops.checks.rows:not_null"),
    ("check.dataops.python", "sextant.domains.dataops.checks.whole:python"),
    ("check.dataops.row_count", "sextant.domains.dataops.checks.whole:row_count"),
    ("check.dataops.schema", "sextant.domains.dataops.checks.whole:schema"),
    ("check.dataops.sql", "sextant.domains.dataops.checks.whole:sql"),
    ("check.dataops.unique", "sextant.domains.dataops.checks.rows:unique"),
)
