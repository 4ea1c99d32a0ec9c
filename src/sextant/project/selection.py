"""The assets that a person names: `orders`, `+orders`, `orders+`, `tag:daily`, `owner:growth`,
`kind:kpi`, `path:ops/sales`, the same words in every command. Pure.

Several texts are a union; parts of one text that commas join are an intersection. `+` before a part
adds all that it is made of, `+` behind it all that is made of it; `2+orders+1` goes two edges up
and one down. Values of `tag:`, `owner:`, `kind:` and `path:` may be patterns with `*`; a path is a
file, or a folder with all below it.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from sextant.kernel import graph
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.nouns import Asset, Edge

_PART = re.compile(
    r"(?:(?P<up>[0-9]{0,4})(?P<above>\+))?(?P<word>[^+]+)(?:(?P<below>\+)(?P<down>[0-9]{0,4}))?"
)
_SHOWN = 8  # values that an error lists


def _paths(asset: Asset) -> set[str]:
    code = asset.build.code.file if asset.build else ""
    return {asset.file, code} - {""}


_METHODS: Mapping[str, Callable[[Asset], Iterable[str]]] = {
    "tag": lambda asset: asset.tags,
    "owner": lambda asset: (asset.owner,),
    "kind": lambda asset: (asset.kind,),
    "path": _paths,
}


def selected(
    texts: Sequence[str],
    assets: Mapping[str, Asset],
    edges: Sequence[Edge],
    *,
    find: Callable[[str], str],
) -> tuple[str, ...]:
    """Return the ids of the assets that these texts select, in the order of `assets`.

    assets  id -> asset, and the edges between them
    find    name or id -> id; raises for an unknown one
    Raises  NotFound for a word that means no asset, and for parts that have none in common;
            UsageError for what is no selection
    """
    chosen: set[str] = set()
    for text in texts:
        parts = [_part(part.strip(), text, assets, edges, find) for part in text.split(",")]
        common = set.intersection(*parts)
        if not common:
            raise NotFound(
                "SX-PLAN-008",
                f"no asset is in all parts of `{text}`",
                hint="commas join parts that must all hold; separate arguments add up",
            )
        chosen |= common
    return tuple(id_ for id_ in assets if id_ in chosen)


def _part(
    part: str,
    text: str,
    assets: Mapping[str, Asset],
    edges: Sequence[Edge],
    find: Callable[[str], str],
) -> set[str]:
    """Return the ids that one part of a text selects."""
    read = _PART.fullmatch(part)
    word = read["word"] if read else ""
    if read is None or word != word.strip():
        raise UsageError(
            "SX-PLAN-007",
            f"`{text}` is no selection",
            hint="`orders`, `+orders`, `orders+`, `tag:daily`, `owner:growth`, `kind:kpi`, "
            "`2+orders+1`, `path:ops/*`; in a URL write %2B for +",
        )
    method, colon, value = word.partition(":")
    found = _by_method(method, value, assets) if colon and method in _METHODS else {find(word)}
    above = graph.upstream(edges, *found, far=_far(read["up"])) if read["above"] else found
    below = graph.downstream(edges, *found, far=_far(read["down"])) if read["below"] else found
    return above | below


def _far(text: str) -> int | None:
    """Return how many edges a part goes; None = however many."""
    return int(text) if text else None


def _by_method(method: str, value: str, assets: Mapping[str, Asset]) -> set[str]:
    values = _METHODS[method]
    found = {
        id_
        for id_, asset in assets.items()
        if any(_fits(method, one, value) for one in values(asset))
    }
    if found:
        return found
    known = sorted({one for asset in assets.values() for one in values(asset) if one})
    near = difflib.get_close_matches(value, known, n=2)
    there = ", ".join(f"`{one}`" for one in known[:_SHOWN])
    raise NotFound(
        "SX-PLAN-008",
        f"no asset has the {method} `{value}`",
        hint=f"did you mean {' or '.join(f'`{one}`' for one in near)}?"
        if near
        else f"there are {there}"
        if known
        else "no asset has one",
    )


def _fits(method: str, one: str, value: str) -> bool:
    if method == "path":
        value = value.removeprefix("./").rstrip("/")
        return fnmatch.fnmatchcase(one, value) or one.startswith(f"{value}/")
    return fnmatch.fnmatchcase(one, value)
