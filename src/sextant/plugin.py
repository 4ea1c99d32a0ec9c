"""The public face for packages that add checks, kinds of assets and words of the author's file.

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
params={"column": "n"})`, best by a function of the package that returns it. A kind is a row
`kind.NAME` with a `Kind` behind it, `perform.NAME` with the function that works in workers, and
`word.NAME` with what authors call; it may bring `command.NAME`, a command of click:
`docs/how-to/add-a-kind.md`.
"""

from typing import TYPE_CHECKING, Any

from sextant.core import Core
from sextant.engine.bodies import Bodies, blob_of, read, written
from sextant.engine.made import Made
from sextant.kernel.errors import NotFound
from sextant.kernel.kinds import (
    HOLDS,
    Instant,
    Kind,
    NothingShown,
    Released,
    Rolled,
    RolledOut,
    Sees,
    Shown,
    Table,
    Verdict,
)
from sextant.kernel.nouns import (
    Asset,
    Build,
    CheckResult,
    CheckSpec,
    Code,
    Edge,
    Held,
    Input,
    InputRef,
    Move,
    Noun,
    PartOutput,
    Release,
    Severity,
    Strategy,
    Trigger,
    Version,
    WorkOrder,
    WorkResult,
    spec_of,
)
from sextant.kinds.dataset.checks.finding import Context, Finding, Probe, Unanswerable
from sextant.kinds.dataset.declarations.declare import source_of
from sextant.project import forms
from sextant.project.assemble import Assembly, Authored, Draft
from sextant.project.collect import Place, caller
from sextant.project.declared import Declared
from sextant.release.made import MadeRelease

if TYPE_CHECKING:
    import pyarrow as pa


def rows(ref: InputRef) -> "pa.Table":
    """Return the rows of an input that is a dataset, as Arrow. In workers only."""
    from sextant.kinds.dataset.worker import table_of

    table: pa.Table = table_of(ref)
    return table


def result(order: WorkOrder, *outputs: PartOutput, **more: Any) -> WorkResult:
    """Return the answer to an order: what was written (`written`), and `checks` that ran on it."""
    return WorkResult(
        order=order.id,
        attempt=order.attempt,
        fence=order.fence,
        ok=True,
        outputs=outputs,
        **more,
    )


def body(core: Core, asset: str, version: str) -> bytes:
    """Return the body of a version that is one blob. NotFound, Damaged."""
    blob = blob_of(core.versions.get(asset, version).locator)
    if not blob:
        raise NotFound("SX-BLOB-006", f"version `{version[:12]}` of `{asset}` is no blob")
    return core.blobs.get(blob)


__all__ = [
    "HOLDS",
    "Assembly",
    "Asset",
    "Authored",
    "Bodies",
    "Build",
    "CheckResult",
    "CheckSpec",
    "Code",
    "Context",
    "Core",
    "Declared",
    "Draft",
    "Edge",
    "Finding",
    "Held",
    "Input",
    "InputRef",
    "Instant",
    "Kind",
    "Made",
    "MadeRelease",
    "Move",
    "NothingShown",
    "Noun",
    "PartOutput",
    "Place",
    "Probe",
    "Release",
    "Released",
    "Rolled",
    "RolledOut",
    "Sees",
    "Severity",
    "Shown",
    "Strategy",
    "Table",
    "Trigger",
    "Unanswerable",
    "Verdict",
    "Version",
    "WorkOrder",
    "WorkResult",
    "body",
    "caller",
    "forms",
    "read",
    "result",
    "rows",
    "source_of",
    "spec_of",
    "written",
]
