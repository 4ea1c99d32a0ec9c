"""The declared project to an asset."""

from collections.abc import Iterable
from typing import Any

from sextant.kernel.nouns import Asset
from sextant.kinds.project.declare import DeclaredProject
from sextant.kinds.project.spec import KIND
from sextant.project.assemble import Assembly, Authored, Draft

_KEEP = "400d"  # undo window: files are small, and a quarter's figures are asked for after a year


class AuthoredProject(Authored):
    """Reads `sx.project`."""

    def draft(self, declared: Any, project: Assembly) -> Draft:  # noqa: ARG002
        one: DeclaredProject = declared
        return Draft(KIND, one.id, one.name, one.owner, one.place)

    def assets(self, draft: Draft, project: Assembly) -> Iterable[Asset]:
        yield Asset(
            kind=KIND,
            name=draft.name,
            owner=project.owner(draft),
            tier=1,
            keep=_KEEP,
            file=project.collector.relative(draft.place.file),
            line=draft.place.line,
        )

    def definition(self, asset: Asset) -> str:  # noqa: ARG002
        """Its version is all that the project is: no asset of it can say that."""
        return ""
