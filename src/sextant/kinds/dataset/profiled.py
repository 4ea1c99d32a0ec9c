"""What people see of the profiles of a dataset's columns: values as rows show them, personal
columns hidden, beside those of another version. Reads only."""

import math
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sextant.core import Core
from sextant.engine import keys
from sextant.formats.values import plain
from sextant.kernel.answers import ColumnChange, ColumnFacts, ColumnSeen, ProfileSide
from sextant.kernel.errors import NotFound
from sextant.kernel.kinds import Sees
from sextant.kernel.limits import PROFILE_BARS, PROFILE_TOP_SHOWN
from sextant.kernel.nouns import Asset, Version

if TYPE_CHECKING:
    from sextant.stores.lake.merged import ColumnProfile, Merged

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times without a zone count from there too
_DAY_US = 86_400_000_000
_SAME = 1e-12  # two means this close differ by the order in which they were added up
_DIGITS = 12
_HINT = "`sextant doctor --data` makes the missing profiles of the rows"


def profile(
    core: Core,
    see: Sees,
    asset: Asset,
    version: Version,
    before: Version | None,
    span: tuple[str, str] | None,
) -> dict[str, Any]:
    """Return the columns of a version as `ProfileSeen` has them, beside those of another version.

    span    first and last partition; None = all
    Raises  NotFound for a range of which the version has nothing, UsageError for one that is none
    """
    wanted = None if span is None else keys.partitioning(asset).between(*span)
    if (
        wanted is not None
        and not set(wanted) & core.versions.parts(asset.id, version.digest).keys()
    ):
        raise NotFound(
            "SX-VERSION-012",
            f"version `{version.digest[:_DIGITS]}` of `{asset.id}` has no partition from "
            f"`{span[0] if span else ''}` to `{span[1] if span else ''}`",
            hint=f"`sextant show {asset.id} --partitions` lists those that are there",
        )
    sides = [_merged(core, one, wanted) for one in (version, before) if one is not None]
    personal = {
        name for one in (version, before) if one is not None for name in see.personal_columns(one)
    }
    now, was = sides[0], sides[1] if before is not None else None
    seen = [_side(version, now)] + ([_side(before, was)] if before and was else [])
    return {
        "now": seen[0],
        "before": seen[1] if len(seen) > 1 else None,
        "columns": _columns(now, was, personal),
        "hint": _HINT if any(one["missing"] for one in seen) else "",
    }


def _merged(core: Core, version: Version, wanted: Collection[str] | None) -> "Merged":
    from sextant.stores.lake.merged import merged

    return merged(
        core.lake.root,
        core.lake.files(version.locator) if version.locator else (),
        version.schema,
        wanted,
        of=f"{version.asset}@{version.digest[:_DIGITS]}",
    )


def _side(version: Version, found: "Merged") -> ProfileSide:
    return {
        "version": version.digest,
        "partitions": found.partitions,
        "rows": found.rows,
        "missing": len(found.missing),
        "missing_first": found.missing[0] if found.missing else "",
        "missing_last": found.missing[-1] if found.missing else "",
        "damaged": list(found.damaged),
    }


def _columns(now: "Merged", before: "Merged | None", personal: Collection[str]) -> list[ColumnSeen]:
    after = {column.name: column for column in now.columns}
    earlier = {column.name: column for column in before.columns} if before else {}
    out: list[ColumnSeen] = []
    for name in dict.fromkeys([*after, *earlier]):
        column, old = after.get(name), earlier.get(name)
        hidden = name in personal
        known = column or old
        assert known is not None
        out.append(
            {
                "name": name,
                "type": known.type,
                "hidden": hidden,
                "now": _facts(column, hidden=hidden) if column else None,
                "before": _facts(old, hidden=hidden) if old else None,
                "change": _change(old, column, hidden=hidden) if column and old else None,
            }
        )
    return out


def _facts(column: "ColumnProfile", *, hidden: bool) -> ColumnFacts:
    """Return the facts of a column; of a hidden one counts only."""
    distinct, error = column.distinct() if column.form != "none" else (None, 0.0)
    facts: ColumnFacts = {
        "rows": column.rows,
        "nulls": column.nulls,
        "nans": column.nans,
        "infinite": column.infinite,
        "distinct": distinct,
        "distinct_error": round(error, 4),
        "low": None,
        "high": None,
        "mean": None,
        "deviation": None,
        "quantiles": {},
        "edges": [],
        "counts": [],
        "top": [],
        "top_exact": True,
        "lengths": None,
        "sampled": column.looked < column.values and column.form not in ("none", "bytes"),
    }
    if hidden or not column.values or column.form == "none":
        return facts
    if column.form in ("text", "bytes"):
        facts["lengths"] = {
            "low": int(column.low or 0),
            "high": int(column.high or 0),
            "mean": column.average() or 0.0,
        }
    if column.form in ("text", "bool"):
        facts["top"] = [
            {"value": text, "count": count} for text, count in column.frequent(PROFILE_TOP_SHOWN)
        ]
        facts["top_exact"] = column.complete and column.looked == column.values
    if column.form not in ("int", "float"):
        return facts
    edges, facts["counts"] = column.histogram(PROFILE_BARS)
    facts["edges"] = [_value(column, edge) for edge in edges]
    facts["low"], facts["high"] = _value(column, column.low), _value(column, column.high)
    facts["quantiles"] = {
        f"{share:g}": _value(column, value)
        for share, value in zip(_SHARES, column.quantiles(_SHARES), strict=True)
    }
    mean, deviation = column.average(), column.deviation()
    if _is_time(column):
        facts["mean"] = _value(column, round(mean)) if mean is not None else None
        return facts
    scale = 10.0**column.scale
    facts["mean"] = mean / scale if mean is not None else None
    facts["deviation"] = deviation / scale if deviation is not None else None
    return facts


def _change(before: "ColumnProfile", after: "ColumnProfile", *, hidden: bool) -> ColumnChange:
    from sextant.stores.lake.merged import apart

    has_values = before.values > 0 and after.values > 0
    is_number = before.form in ("int", "float") and after.form in ("int", "float")
    one, other = before.average(), after.average()
    mean = None
    if is_number and not hidden and not _is_time(after) and one is not None and other is not None:
        one, other = one / 10.0**before.scale, other / 10.0**after.scale
        mean = 0.0 if math.isclose(one, other, rel_tol=_SAME) else other - one
    return {
        "rows": after.rows - before.rows,
        "nulls_share": _share(after) - _share(before),
        "distinct": after.distinct()[0] - before.distinct()[0] if has_values else None,
        "mean": mean if mean is not None and math.isfinite(mean) else None,
        "shift": apart(before, after) if is_number and not hidden else None,
    }


def _share(column: "ColumnProfile") -> float:
    return column.nulls / column.rows if column.rows else 0.0


def _is_time(column: "ColumnProfile") -> bool:
    return column.type in ("date", "time", "timestamp", "timestamptz")


def _value(column: "ColumnProfile", value: Any) -> Any:
    """Return a number of a column as rows show it."""
    if value is None:
        return None
    if column.form == "float":
        return plain(_short(value) if column.type == "float32" else value)
    if column.scale:
        return plain(Decimal(value).scaleb(-column.scale))
    if not _is_time(column):
        return value
    try:
        return plain(_time(column.type, value))
    except (OverflowError, ValueError):  # an edge behind the last day
        return plain(_time(column.type, int(column.high or 0)))


def _short(value: float) -> float:
    """Return a float of 32 bits as the shortest text that reads back."""
    import numpy as np

    return float(str(np.float32(value))) if math.isfinite(value) else value


def _time(type_: str, value: int) -> date | time | datetime:
    if type_ == "date":
        return (_EPOCH + timedelta(days=value)).date()
    moment = _EPOCH + timedelta(microseconds=value)
    if type_ == "time":
        return moment.time() if value < _DAY_US else time.max
    return moment.replace(tzinfo=UTC) if type_ == "timestamptz" else moment
