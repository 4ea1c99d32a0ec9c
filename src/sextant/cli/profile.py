"""Lines of `sextant show --profile`: the columns of a version, beside those of another one."""

from typing import TYPE_CHECKING, Any

from sextant.cli.output import BARS, harmless, mark, short, table
from sextant.formats.values import text as text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sextant.kernel.answers import ColumnChange, ColumnFacts, ColumnSeen, ProfileSeen

_VALUE_CHARS = 24  # of a value in a cell: times and numbers are shorter
_TOP = 3  # most frequent values in a cell


def profile_lines(found: "ProfileSeen") -> list[str]:
    """Return a line for each column, with what differs where versions are compared."""
    now, before = found["now"], found["before"]
    head = f"{found['asset']}@{short(now['version'])} in {found['env']}: {now['rows']:,} rows"
    head += f" of {now['partitions']:,} partitions"
    if before is not None:
        head += f", against {short(before['version'])}: {before['rows']:,} rows"
    out = [head]
    for side in (now, *([before] if before else [])):
        if side["missing"]:
            first, last = side["missing_first"], side["missing_last"]
            span = first if first == last else f"{first} .. {last}"
            out.append(f"{side['missing']:,} partitions have no profile: {span}")
        out += [mark(harmless(text), "bad") for text in side["damaged"]]
    names = ["column", "type", "nulls", "distinct", "range", "mean", "values"]
    changes = ["rows ±", "nulls ±", "distinct ±", "mean ±", "shift"] if before is not None else []
    rows = [
        [*_cells(column), *(_changes(column) if changes else [])] for column in found["columns"]
    ]
    out += table([*names, *changes], rows, spare=("mean", "rows ±", "distinct ±"))
    if found["hint"]:
        out.append(f"hint: {found['hint']}")
    return out


def _cells(column: "ColumnSeen") -> list[str]:
    name = harmless(column["name"])
    facts = column["now"]
    if facts is None:
        return [name, column["type"], "gone", *[""] * 4]
    return [
        name,
        column["type"],
        _share(facts["nulls"], facts["rows"]),
        _distinct(facts),
        *(
            ["hidden", "hidden", "hidden"]
            if column["hidden"]
            else [_range(facts), _number(facts["mean"]), _values(facts)]
        ),
    ]


def _share(count: int, rows: int) -> str:
    if not count or not rows:
        return "0"
    share = 100 * count / rows
    return f"{share:.1f}%" if share >= 0.1 else "<0.1%"


def _distinct(facts: "ColumnFacts") -> str:
    if facts["distinct"] is None:
        return ""
    return f"{'~' if facts['distinct_error'] else ''}{facts['distinct']:,}"


def _range(facts: "ColumnFacts") -> str:
    if facts["lengths"] is not None:
        low, high = facts["lengths"]["low"], facts["lengths"]["high"]
        return f"length {low}" if low == high else f"length {low} .. {high}"
    if facts["low"] is None:
        return ""
    return f"{_value(facts['low'])} .. {_value(facts['high'])}"


def _values(facts: "ColumnFacts") -> str:
    """Return the histogram of numbers, or the most frequent texts."""
    if facts["counts"]:
        return bars(facts["counts"])
    about = "" if facts["top_exact"] else "~"
    return ", ".join(
        f"{_value(one['value'])} {about}{one['count']:,}" for one in facts["top"][:_TOP]
    )


def bars(counts: "Sequence[int]") -> str:
    """Return a histogram as one character for each count; a blank for none."""
    most = max(counts, default=0)
    return "".join(
        BARS[(count * len(BARS) - 1) // most if count < most else -1] if count else " "
        for count in counts
    )


def _value(value: Any) -> str:
    text = text_of(value)
    return text if len(text) <= _VALUE_CHARS else f"{text[: _VALUE_CHARS - 1]}…"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else _value(value)


def _changes(column: "ColumnSeen") -> list[str]:
    change = column["change"]
    if change is None:
        return ["new" if column["before"] is None else "", *[""] * 4]
    return [
        f"{change['rows']:+,}" if change["rows"] else "",
        f"{100 * change['nulls_share']:+.1f}%" if abs(change["nulls_share"]) >= 0.0005 else "",
        f"{change['distinct']:+,}" if change["distinct"] else "",
        f"{change['mean']:+.6g}" if change["mean"] else "",
        _shift(change),
    ]


def _shift(change: "ColumnChange") -> str:
    return "" if change["shift"] is None else f"{change['shift']:.3f}"
