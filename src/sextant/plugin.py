"""The public face for packages that add checks and kinds of assets.

A package names a function under the entry-point group `sextant.plugins`; the function returns rows
`(id, "module:attribute")`:

    [project.entry-points."sextant.plugins"]
    acme = "acme:rows"

    def rows():
        return [("check.acme.even", "acme:even")]

    def even(params, context):  # -> Probe, for a check of rows; or Finding
        odd = pl.col(params["column"]) % 2 != 0
        return Probe(...)

A project then declares the check as `CheckSpec(name="even(n)", check="check.acme.even",
params={"column": "n"})`, best by a function of the package that returns it.
"""

from sextant.kernel.kinds import Instant, Kind, Released, Verdict
from sextant.kernel.nouns import CheckSpec, Held, Move, Release, Severity
from sextant.kinds.dataset.checks.finding import Context, Finding, Probe, Unanswerable

__all__ = [
    "CheckSpec",
    "Context",
    "Finding",
    "Held",
    "Instant",
    "Kind",
    "Move",
    "Probe",
    "Release",
    "Released",
    "Severity",
    "Unanswerable",
    "Verdict",
]
