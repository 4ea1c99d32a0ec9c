"""The protocols of the ingest endpoint, by name and by path: the rows `protocol.NAME` of the
registry. One of a package that cannot be loaded is left out; `sextant doctor` says why."""

from collections.abc import Iterator

from sextant.kernel import registry
from sextant.kernel.errors import ProjectError
from sextant.server.protocols.port import Protocol


def _all() -> Iterator[Protocol]:
    for id_ in registry.names("protocol"):
        try:
            yield registry.load(id_)()
        except ProjectError:
            continue


BY_NAME = {protocol.name: protocol for protocol in _all()}
BY_PATH = {path: protocol for protocol in BY_NAME.values() for path in protocol.paths}
