"""What was undone in an environment and must not come back by itself. Pure; read by planner and
engine.

What reads inputs is held by what it is made of: the same code and inputs would make the same again.
A source reads nothing that the platform knows, so it is held by content: it is read again as
usual, what differs from what was undone is published, and the same is kept out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sextant.kernel.nouns import Asset, Part

Key = tuple[str, str, str, str]  # asset, partition, code, inputs


def is_source(asset: Asset) -> bool:
    """Tell whether an asset is read from outside: it has neither inputs nor pushed rows."""
    return asset.build is not None and not asset.build.inputs and not asset.is_pushed


class Holds:
    """The holds of one environment.

    rows     (asset, partition, code, inputs, version, content digest) of what was undone
    answers  (asset, partition, code, inputs, content digest): what was made last of what is held
    """

    def __init__(self, rows: Iterable[Any] = (), answers: Iterable[Any] = ()) -> None:
        self._contents: dict[Key, set[str]] = {}
        for asset, partition, code, inputs, _version, content in rows:
            self._contents.setdefault((asset, partition, code, inputs), set()).add(content)
        self._answers: Mapping[Key, str] = {
            (asset, partition, code, inputs): content
            for asset, partition, code, inputs, content in answers
        }

    def __contains__(self, key: Key) -> bool:
        """Tell whether something that was made of exactly this was undone."""
        return key in self._contents

    def keeps_out(self, asset: Asset, part: Part) -> bool:
        """Tell whether a partition must not be published."""
        contents = self._contents.get(_key(asset, part))
        return contents is not None and (not is_source(asset) or part.digest in contents)

    def is_answered_by(self, asset: Asset, part: Part) -> bool:
        """Tell whether a live partition is what its held code and inputs made last: nothing is
        held back then."""
        return self._answers.get(_key(asset, part)) == part.digest


def _key(asset: Asset, part: Part) -> Key:
    return asset.id, part.partition, part.code, part.inputs
