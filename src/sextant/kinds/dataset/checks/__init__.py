"""Checks of data: pure functions over a frame. Called in workers (partition), by the release gate
(table) and on the clock (live).

`evaluate` is the one entry. Checks of rows become expressions that run in one pass over the frame;
only those that fail are
looked at a second time, for their positions and samples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sextant.kernel import registry
from sextant.kernel.errors import NotFound, ProjectError
from sextant.kernel.limits import SAMPLES_PER_CHECK_MAX
from sextant.kernel.nouns import CheckResult, CheckSpec
from sextant.kinds.dataset.checks.finding import Context, Finding, Probe, Unanswerable
from sextant.stores.lake.diff import without_nan

if TYPE_CHECKING:
    import polars as pl

_IDS = "check.dataops"
# What stands behind an id `check.dataops.NAME`: rows are looked at by a probe, which runs with
# others in one pass; anything else is found at once. Plug-ins bring rows of the same form.
Check = Callable[[Mapping[str, Any], Context], Probe | Finding]


def evaluate(
    specs: Sequence[CheckSpec],
    frame: "pl.DataFrame",
    *,
    asset: str,
    partition: str = "",
    references: Mapping[str, "pl.DataFrame"] | None = None,
    expect_schema: Sequence[tuple[str, str]] = (),
    time: str = "",
    now_ns: int = 0,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    personal: Sequence[str] = (),
    tz: str = "UTC",
) -> list[tuple[CheckResult, bytes]]:
    """Return each check's result, and a JSON sample of failing rows for the blob store (b"" for a
    check that passed).

    references     asset id -> rows, for foreign keys
    expect_schema  columns of the live version, for `schema`
    time, now_ns   the column of instants and the present, for `fresh`
    functions      registry key -> function, for `python`
    personal       columns whose values are masked in samples and messages
    tz             the project's zone, in which SQL reads dates
    Result         in the order of `specs`. A check that cannot be answered (no such column, wrong
                   type, a function that raises) failed
    Raises         ProjectError when the check itself is wrong: unknown, a parameter missing, a
                   query that does not parse
    """
    frame = without_nan(frame)  # which an earlier release kept
    context = Context(
        asset=asset,
        frame=frame,
        schema=frame.schema,
        references=references or {},
        expect_schema=expect_schema,
        time=time,
        now_ns=now_ns,
        functions=functions or {},
        personal=frozenset(personal),
        tz=tz,
    )
    probes: dict[int, Probe] = {}
    findings: dict[int, Finding] = {}
    for index, spec in enumerate(specs):
        try:
            answer = _check(spec)(spec.params, context)
            if isinstance(answer, Probe):
                probes[index] = answer
            else:
                findings[index] = answer
        except Unanswerable as reason:
            findings[index] = _unanswered(reason, frame.height)
    findings.update(_run(probes, frame))
    evidence = _evidence(
        {
            index: finding
            for index, finding in findings.items()
            if not _passed(specs[index], finding, frame.height)
        },
        context,
    )
    none: tuple[tuple[int, ...], bytes] = ((), b"")
    return [
        (
            _result(
                spec,
                findings[index],
                probes.get(index),
                asset=asset,
                partition=partition,
                height=frame.height,
                positions=evidence.get(index, none)[0],
            ),
            evidence.get(index, none)[1],
        )
        for index, spec in enumerate(specs)
    ]


def _check(spec: CheckSpec) -> Check:
    try:
        check: Check = registry.load(spec.check)
    except NotFound as error:
        known = [name.rpartition(".")[2] for name in registry.names(_IDS)]
        raise ProjectError(
            "SX-CHECK-007",
            f"there is no check `{spec.check}`",
            hint=f"there are {', '.join(known)}",
        ) from error
    return check


def _run(probes: Mapping[int, Probe], frame: "pl.DataFrame") -> dict[int, Finding]:
    """Compute all probes in one pass; one by one where that fails, so that a bad one does not spoil
    the others."""
    import polars as pl

    wanted = {
        f"{index}:{name}": expression
        for index, probe in probes.items()
        for name, expression in probe.counts.items()
    }
    try:
        values = (
            frame.lazy().select(**wanted).collect(engine="in-memory").row(0, named=True)
            if wanted
            else {}
        )  # streaming costs a day more than its checks
        return {index: probe.conclude(_own(values, index)) for index, probe in probes.items()}
    except pl.exceptions.PolarsError as error:
        if len(probes) == 1:
            return {index: _unanswered(error, frame.height) for index in probes}
        return {
            index: finding
            for index, probe in probes.items()
            for finding in _run({index: probe}, frame).values()
        }


def _own(values: Mapping[str, Any], index: int) -> dict[str, Any]:
    head = f"{index}:"
    return {
        name.removeprefix(head): value for name, value in values.items() if name.startswith(head)
    }


def _unanswered(reason: Exception, height: int) -> Finding:
    return Finding(
        failed=max(1, height), message=f"cannot be checked: {str(reason).splitlines()[0]}"
    )


def _evidence(
    findings: Mapping[int, Finding], context: Context
) -> dict[int, tuple[tuple[int, ...], bytes]]:
    """Return (positions, sample) of each finding: the first failing rows, found for all checks in
    one more pass."""
    masks = {
        str(index): finding.mask.arg_true().head(SAMPLES_PER_CHECK_MAX).implode()
        for index, finding in findings.items()
        if finding.failed and finding.mask is not None
    }
    found = (
        context.frame.lazy().select(**masks).collect(engine="in-memory").row(0, named=True)
        if masks
        else {}
    )
    out: dict[int, tuple[tuple[int, ...], bytes]] = {}
    for index, finding in findings.items():
        positions = tuple(int(position) for position in found.get(str(index), ()))
        failing = context.frame[list(positions)] if positions else finding.rows
        out[index] = (
            positions,
            _sample(failing, positions, context) if finding.failed and failing is not None else b"",
        )
    return out


def _sample(failing: "pl.DataFrame", positions: Sequence[int], context: Context) -> bytes:
    shown = [
        {name: context.show(name, value) for name, value in row.items()}
        for row in failing.head(SAMPLES_PER_CHECK_MAX).iter_rows(named=True)
    ]
    return msgspec.json.encode({"positions": positions, "rows": shown})


def _result(
    spec: CheckSpec,
    finding: Finding,
    probe: Probe | None,
    *,
    asset: str,
    partition: str,
    height: int,
    positions: tuple[int, ...],
) -> CheckResult:
    return CheckResult(
        name=spec.name,
        asset=asset,
        partition=partition,
        severity=spec.severity,
        ok=_passed(spec, finding, height),
        failed=finding.failed,
        rows=height,
        measured=finding.measured,
        positions=positions,
        message=finding.message or _message(spec, finding, probe, height),
    )


def _passed(spec: CheckSpec, finding: Finding, height: int) -> bool:
    tolerate = float(spec.params.get("tolerate") or 0.0)
    return finding.failed == 0 or (tolerate > 0 and _share(finding, height) <= tolerate)


def _share(finding: Finding, height: int) -> float:
    return finding.failed / height if height else float(finding.failed > 0)


def _message(spec: CheckSpec, finding: Finding, probe: Probe | None, height: int) -> str:
    """Return e.g. "`dep_delay` between -60 and 1800: 3 of 842 rows fail (0.36 %), worst 9999"."""
    said = probe.said if probe else spec.name
    if not finding.failed:
        return f"{said}: all {height} rows pass"
    tolerate = float(spec.params.get("tolerate") or 0.0)
    tolerated = f", {_percent(tolerate)} tolerated" if tolerate else ""
    return (
        f"{said}: {finding.failed} of {height} rows fail "
        f"({_percent(_share(finding, height))}{tolerated}){finding.detail}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
