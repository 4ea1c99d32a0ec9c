"""Names that a project's state knows, for shells that complete them: quick, and without a trace.

Nothing is made, written or migrated, and nobody is waited for. A state in Postgres has no names
here: asking it is not quick.
"""

from pathlib import Path

import msgspec

from sextant.kernel.nouns import kind_of
from sextant.project.config import find_config, read_config
from sextant.stores.state.sqlite import SqliteReader, glance

_FAR = 1 << 62
_NEWEST = 50  # of lists without an end


def names(kind: str, start: Path | None, *, asset: str = "", of: str = "") -> dict[str, str]:
    """Return name -> a word about it.

    kind   assets, environments, runs, releases, incidents; versions, of `asset`
    of     only assets of this kind, by their names alone
    start  a folder of the project; None = the working directory
    Raises whatever opening meets: a caller that only offers names offers none then
    """
    address = read_config(find_config(start or Path.cwd())).state_address
    if not isinstance(address, Path) or not address.exists():
        return {}
    state = SqliteReader(address, connect=glance)
    try:
        if kind == "environments":
            return {
                row[0]: f"falls through to {row[1]}" if row[1] else "" for row in state.read("envs")
            }
        if kind in ("runs", "releases"):
            page = (
                _FAR,
                _FAR,
                "",
                "",
                "",
                "",
                "",
                *(("", "") if kind == "releases" else ()),
                _NEWEST,
            )
            rows = state.read(f"{kind}_page", page)
            return {row[0]: str(msgspec.json.decode(row[1]).get("state", "")) for row in rows}
        if kind == "incidents":
            page = (_FAR, _FAR, "", "", "", _NEWEST)
            found = state.read("incidents_page", page)
            return {row[0]: "closed" if row[3] else "open" for row in found}
        ids = [row[0] for row in state.read("assets")]
        if kind == "versions":
            found = [one for one in ids if asset in (one, _name(one))]
            return {
                row[0][:12]: ""
                for one in found[:1]
                for row in state.read("versions_page", (one, _FAR, _FAR, "", _NEWEST))
            }
        if of:
            return {_name(one): "" for one in ids if kind_of(one) == of}
        short = [_name(one) for one in ids]
        return {
            (name if short.count(name) == 1 else one): one
            for name, one in zip(short, ids, strict=True)
        }
    finally:
        state.close()


def _name(asset: str) -> str:
    return asset.partition(":")[2]
