"""A business number over a part of time, in cases that were never live."""

import functools
from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

import msgspec

from sextant.app.derivation.changes import Changes
from sextant.app.derivation.deriving import At, Content, Job
from sextant.app.derivation.past import code_of
from sextant.app.derivation.question import keys_within, no_values, slices_of, values_of_kpi
from sextant.engine.staged import RunAsset
from sextant.kernel import kinds
from sextant.kernel.errors import Denied, NotFound, UsageError
from sextant.kernel.nouns import Asset
from sextant.kinds.kpi import cases as numbers
from sextant.kinds.kpi.cases import Piece, exact
from sextant.kinds.kpi.series import Span
from sextant.kinds.kpi.spec import Measure, measure_spec

_DIGITS = 200  # of a float as exact as it is, and of decimals


class Known(NamedTuple):
    """A number as it was known, with the pieces that it was added up from."""

    value: Decimal
    measure: Measure
    pieces: list[Piece]


class Number:
    """A number over a part of time, and what it is added up from in each case of some changes."""

    def __init__(self, changes: Changes, kpi: Asset, span: Span) -> None:
        self.changes, self.core, self.kpi, self.span = changes, changes.core, kpi, span
        self.past, self.variants = changes.past, changes.variants
        self.values = values_of_kpi(self.core, changes.env, kpi)
        self.tz = self.core.project.manifest(changes.env).tz
        self.slices = slices_of(self.values)

    def read(self) -> None:
        """Read what became of it, and number the changes that can matter."""
        self.changes.read([self.values.id])
        self.changes.number(self.keys)

    def refuse_hidden(self, columns: Iterable[str]) -> None:
        """Raise Denied where some columns of its values are not for the principal."""
        live = self.core.versions.live_version(self.changes.env, self.values.id)
        if not live:
            raise no_values(self.kpi, self.changes.env)
        hidden = self.changes.see.hidden_columns(self.core.versions.get(self.values.id, live))
        personal = [name for name in ("value", "bucket", *columns) if name in hidden]
        if personal:
            raise Denied(
                "SX-DERIVE-012",
                f"{', '.join(personal)} of `{self.kpi.id}` is personal",
                hint="an administrator can ask",
            )

    def known(self, versions: Mapping[str, str], span: Span) -> Known:
        """Return the number over a part of time as some versions had it. UsageError where it had
        none, NotFound where they are not kept any more."""
        core, values = self.core, self.values.id
        if not versions.get(values):
            raise no_values(self.kpi, self.changes.env)
        parts = core.versions.parts(values, versions[values])
        wanted = keys_within(self.slices, span, parts)
        if not wanted:
            raise no_values(self.kpi, self.changes.env)
        measure = self.measure(parts[wanted[-1]].code)
        stored = numbers.stored_in(measure, values)
        version = versions.get(stored, "")
        if core.state.read("version_expired_is", (stored, version)) or not version:
            raise NotFound(
                "SX-DERIVE-003",
                f"the rows of `{stored}` as they were known then are not kept any more",
                hint="choose a later --known-from; `keep` of an asset says how long versions stay",
            )
        record = core.versions.get(stored, version)
        of = self.variants.any(stored)
        slices = slices_of(of) if of is not None else self.slices
        there = core.versions.parts(stored, version)
        table = RunAsset(
            stored,
            version,
            record.locator,
            there,
            record.schema,
            kinds.made(stored.partition(":")[0]).bodies(core).files,
        )
        pieces = [
            Piece(key, table.sets([key]), record.schema) for key in keys_within(slices, span, there)
        ]
        value = exact(numbers.values(core, measure, self.tz, span, {0: pieces})[0])
        if value is None:
            raise UsageError(
                "SX-DERIVE-013",
                f"`{self.kpi.id}` has no value over {text_of(span)}",
                hint="choose a time with rows",
            )
        return Known(value, measure, pieces)

    def measure(self, code: str) -> Measure:
        """Return the definition by which values were made."""
        variant = self.variants.get(self.values.id, code)
        if variant is None:  # made by an earlier release of Sextant: as it is declared now
            return self._timed(measure_spec(self.kpi))
        metric = variant.manifest.asset(variant.asset.defined_by)
        return self._timed(measure_spec(metric if metric is not None else self.kpi))

    def _timed(self, measure: Measure) -> Measure:
        from sextant.kinds.dataset.spec import table_spec

        of = self.variants.any(measure.of)
        time = measure.time or (table_spec(of).time if of is not None else "")
        return msgspec.structs.replace(measure, time=time)

    @functools.cached_property
    def keys(self) -> list[tuple[str, str]]:
        """The partitions that the number may be added up from, over the time after."""
        codes = {
            code
            for (asset, _), written in self.past.slots.items()
            if asset == self.values.id
            for code in written.codes()
        }
        stored = {numbers.stored_in(self.measure(code), self.values.id) for code in codes}
        out: list[tuple[str, str]] = []
        for root in sorted({self.values.id, *stored}):
            of = self.variants.any(root)
            if of is not None:
                there = [key for asset, key in self.past.slots if asset == root]
                out += [(root, key) for key in keys_within(slices_of(of), self.span, there)]
        return out

    def wanted(self, case: int) -> tuple[Measure, list[At]]:
        """Return the definition in a case, and the contents that the number is added up from."""
        mask = self.changes.mask_of(case)
        slots = [key for asset, key in self.keys if asset == self.values.id]
        content = self.past.slots[self.values.id, slots[-1]].at(mask) if slots else None
        measure = self.measure(code_of(content))
        root = numbers.stored_in(measure, self.values.id)
        return measure, [(asset, key, mask) for asset, key in self.keys if asset == root]

    def values_of(self, cases: Iterable[int]) -> dict[int, Fraction | None]:
        """Return the number in each case; None where it has none, or was not derived."""
        by_measure: dict[Measure, dict[int, list[Piece]]] = {}
        out: dict[int, Fraction | None] = {}
        pieces: dict[At, Piece] = {}
        for case in cases:
            measure, wanted = self.wanted(case)
            chosen: list[Piece] = []
            for asset, key, mask in wanted:
                at = (asset, key, mask & self.changes.deriving.mask(asset, key))
                if at not in pieces:
                    content = self.changes.deriving.content(*at)
                    if isinstance(content, Job):
                        out[case] = None
                        break
                    if content is None:
                        continue
                    pieces[at] = self.piece(asset, content)
                chosen.append(pieces[at])
            else:
                by_measure.setdefault(measure, {})[case] = chosen
        for measure, mine in by_measure.items():
            found = numbers.values(self.core, measure, self.tz, self.span, mine)
            for case, value in found.items():
                number = exact(value)
                out[case] = None if number is None else Fraction(number)
        return out

    def piece(self, asset: str, content: Content) -> Piece:
        part = content.staged.part
        files = kinds.made(asset.partition(":")[0]).bodies(self.core).files
        table = RunAsset(asset, "", "", {}, content.schema, files)
        table.staged[part.partition] = content.staged
        return Piece(part.partition, table.sets([part.partition]), content.schema)


def text_of(span: Span) -> str:
    since, until = span.texts()
    return f"{since} .. {until}" if since else "all of the time"


def decimal_text(value: Decimal) -> str:
    """Return a decimal as text, without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fraction_text(value: Fraction) -> str:
    """Return a fraction that is a decimal as text, with all of its digits."""
    with localcontext(prec=_DIGITS):
        return decimal_text(Decimal(value.numerator) / value.denominator)
