"""What moved a business number, as it is known; and proofs of it: documents by which somebody else
asks the same of the same ledger again, derives everything anew and compares.
"""

import hashlib
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import msgspec

from sextant.app.causes import moved
from sextant.app.derivation.number import fraction_text
from sextant.app.derivation.past import Content, Held
from sextant.app.derivation.question import Question, question
from sextant.app.progress import Progress
from sextant.app.runs import Runs
from sextant.app.visibility import Visibility
from sextant.app.waterfall import Waterfall, waterfall
from sextant.kernel.answers import Moved, Proof, ProofChecked
from sextant.kernel.errors import SextantError, UsageError
from sextant.kernel.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX, PROOF_DIFFERENCES_SHOWN
from sextant.kernel.nouns import Asset, Principal
from sextant.kernel.texts import check_text
from sextant.kinds.kpi.spec import KIND
from sextant.ledger import merkle
from sextant.ledger.log import subtrees

_FORMAT = "sextant.proof.1"
_CASE = re.compile(r"[0-9]{1,10}")
_VALUE = re.compile(r"(-?[0-9]{1,400}(\.[0-9]{1,400})?)?")
_TEXTS: tuple[Literal["asset", "env", "before", "after", "known_from", "known_to"], ...] = (
    *("asset", "env", "before", "after", "known_from", "known_to"),
)


def what_moved(
    runs: Runs, see: Visibility, env: str, asset: Asset, before: str, after: str
) -> Moved | None:
    """Return what moved a business number, from what is known already; None for what is none, or
    has no past that can be told."""
    if asset.kind != KIND:
        return None
    try:
        asked = question(runs.core, env, asset.id, before, after, "", "", ())
        return moved(runs.core, see, asset, waterfall(runs, see, asked))
    except SextantError:
        if before or after:  # somebody has asked for it by name
            raise
        return None


def prove(
    runs: Runs, see: Visibility, asked: Question, by: Principal, told: Progress | None
) -> Proof:
    """Derive what moved a number, and return it with all that it takes to do so again."""
    found = Waterfall(runs, see, asked)
    found.changes.lend()
    cost = found.changes.plan(found.wanted)
    run = found.changes.derive(cost, by, told) if cost.partitions else ""
    answer = found.answer(cost, run)
    read = runs.core.state.read
    size = int(read("event_head", ())[0][0]) + 1
    spans = ["/".join(span.texts()) for span in (asked.before, asked.after)]
    return {
        "format": _FORMAT,
        "asset": asked.asset.id,
        "env": asked.env,
        "before": spans[0].strip("/"),
        "after": spans[1].strip("/"),
        "known_from": f"#{asked.known[0]}",
        "known_to": f"#{asked.known[1]}",
        "by": list(asked.by),
        "size": size,
        "root": merkle.root(size, subtrees(read)).hex(),
        "contents": _contents(found),
        "cases": _cases(found),
        "waterfall": answer,
    }


def check(
    runs: Runs,
    see: Visibility,
    env: str,
    asset: str,
    stated: Any,
    by: Principal,
    told: Progress | None,
) -> ProofChecked:
    """Follow a proof again: ask what it asks, make everything anew, and compare. UsageError for
    what is no proof, or one of another environment or asset."""
    proof = _read(stated)
    if (proof["asset"], proof["env"]) != (asset, env):
        raise UsageError(
            "SX-DERIVE-024",
            f"the proof is of `{proof['asset']}` in `{proof['env']}`",
            hint=f"name those: not `{asset}` in `{env}`",
        )
    read = runs.core.state.read
    size = int(read("event_head", ())[0][0]) + 1
    if proof["size"] > size or merkle.root(proof["size"], subtrees(read)).hex() != proof["root"]:
        differs = ["the ledger: it is another one, or its past was changed"]
        return _checked(proof, differs, "", 0)
    asked = question(
        runs.core,
        env,
        proof["asset"],
        proof["before"],
        proof["after"],
        proof["known_from"],
        proof["known_to"],
        proof["by"],
    )
    found = Waterfall(runs, see, asked, afresh=True)
    cost = found.changes.plan(found.wanted)
    run = found.changes.derive(cost, by, told) if cost.partitions else ""
    answer = found.answer(cost, run)
    differs = [] if _contents(found) == proof["contents"] else ["what was live, and by which code"]
    differs += [
        f"{asset}[{partition}] came out otherwise than it was live"
        for asset, partition in found.changes.deriving.otherwise()
    ]
    now = _cases(found)
    differs += [
        f"the number in case {case}: {proof['cases'].get(case) or 'none'} by the proof, "
        f"{now.get(case) or 'none'} now"
        for case in sorted({*now, *proof["cases"]}, key=int)
        if now.get(case) != proof["cases"].get(case)
    ]
    said = [[bar["text"], bar["amount"]] for bar in proof["waterfall"].get("bars", [])]
    if said != [[bar["text"], bar["amount"]] for bar in answer.get("bars", [])]:
        differs.append("the bars")
    return _checked(proof, differs, run, cost.partitions)


def _checked(proof: Proof, differs: list[str], run: str, partitions: int) -> ProofChecked:
    more = len(differs) - PROOF_DIFFERENCES_SHOWN
    if more > 0:
        differs = [*differs[:PROOF_DIFFERENCES_SHOWN], f"and {more} more"]
    return {
        "asset": proof["asset"],
        "env": proof["env"],
        "holds": not differs,
        "differs": differs,
        "run": run,
        "partitions": partitions,
        "cases": len(proof["cases"]),
    }


def _read(stated: Any) -> Proof:
    try:
        proof = msgspec.convert(stated, type=Proof)
        wrong = "" if proof["format"] == _FORMAT else f"its format is `{proof['format'][:40]}`"
        cases = proof["cases"].items()
        if (
            proof["size"] < 1
            or len(proof["by"]) > LIST_ITEMS_MAX
            or not all(_CASE.fullmatch(case) and _VALUE.fullmatch(value) for case, value in cases)
        ):
            wrong = wrong or "its ledger or its cases cannot be"
    except msgspec.ValidationError as error:
        wrong = str(error)
    if wrong:
        raise UsageError(
            "SX-DERIVE-023",
            f"this is no proof of what moved a number: {wrong}",
            hint=f"one is JSON with `format: {_FORMAT}`; `sextant why KPI --prove FILE` writes it",
        )
    for name in _TEXTS:
        check_text("line", name, proof[name], NAME_CHARS_MAX)
    for one in proof["by"]:
        check_text("line", "by", one, NAME_CHARS_MAX)
    return proof


def _cases(found: Waterfall) -> dict[str, str]:
    values = found.number.values_of(found.cases)
    return {str(case): _text(values.get(case)) for case in found.cases}


def _text(value: Fraction | None) -> str:
    return "" if value is None else fraction_text(value)


def _contents(found: Waterfall) -> str:
    """Return a digest over what was written of all that the number is made of."""

    def said(content: Content) -> list[str]:
        if content is None:
            return []
        if isinstance(content, Held):
            return ["rows", content.part.digest]
        return ["code", content.code]

    past = found.changes.past
    releases: Sequence[str] = [change.release.id for change in past.changes]
    listed = [
        [*slot, said(written.base), [[releases[n], said(one)] for n, one in written.writes]]
        for slot, written in sorted(past.slots.items())
    ]
    return hashlib.sha256(msgspec.json.encode(listed)).hexdigest()
