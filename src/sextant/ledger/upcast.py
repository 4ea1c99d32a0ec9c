"""Reads old events in the current shape of their type. Called by `log.Entry` only; stored bytes are
never changed.

When the payload of a type changes its shape, the type's version `v` goes up by one, `CURRENT` says
so, and a pure
function from the old JSON object to the new one is added here. The corpus of old events under
`tests/cases/events` keeps
one of each (type, version) for ever.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sextant.kernel.errors import UserError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def with_spec(asset: dict[str, Any]) -> dict[str, Any]:
    """Return an asset whose kind's facts stood in fields of their own - `table`, `measure`,
    `lineage` of its build - with them in its `spec`."""
    out = {name: value for name, value in asset.items() if name not in ("table", "measure")}
    build = dict(asset.get("build") or {})
    lineage = build.pop("lineage", None)
    if build:
        out["build"] = build
    if "table" in asset:
        out["spec"] = {**asset["table"], **({"lineage": lineage} if lineage else {})}
        if "measure" in asset:
            out["defined_by"] = build["code"]["entry"]
    elif "measure" in asset:
        out["spec"] = asset["measure"]
    return out


def _of_asset(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "asset": with_spec(data["asset"])}


def _of_version(data: dict[str, Any]) -> dict[str, Any]:
    """The declaration of a definition stood in its version's `meta`, as `measure`."""
    version = dict(data["version"])
    meta = dict(version.get("meta") or {})
    if "measure" in meta:
        version |= {"spec": meta.pop("measure"), "meta": meta}
    return {**data, "version": version}


# Versions above 1 that today's code writes. A type that is not listed is at version 1.
_OF_ASSETS = ("asset.declared", "asset.observed", "asset.retired")
CURRENT: Mapping[str, int] = {**dict.fromkeys(_OF_ASSETS, 2), "version.created": 2}
# (type, version read) -> function to the next version.
UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    **{(type_, 1): _of_asset for type_ in _OF_ASSETS},
    ("version.created", 1): _of_version,
}


def current_version(type_: str) -> int:
    """Return the version that events of a type are written with."""
    return CURRENT.get(type_, 1)


def upcast(type_: str, v: int, body: bytes) -> bytes:
    """Return a payload in the shape of the current version of its type.

    Raises  UserError when the event was written by a newer Sextant
    """
    newest = current_version(type_)
    if v == newest:
        return body
    if v > newest:
        raise UserError(
            "SX-LEDGER-003",
            f"an event `{type_}` has version {v}, this Sextant reads versions up to {newest}",
            hint="install the newer sextant-ops that wrote it",
        )
    data = msgspec.json.decode(body)
    for version in range(v, newest):
        data = UPCASTERS[type_, version](data)
    return msgspec.json.encode(data, order="deterministic")
