"""The protocols of the ingest endpoint, by name and by path."""

from sextant.server.protocols.otlp import Otlp
from sextant.server.protocols.plain import CloudEvents, JsonLines
from sextant.server.protocols.port import Protocol
from sextant.server.protocols.prometheus import Exposition, RemoteWrite

_ALL: tuple[Protocol, ...] = (Otlp(), RemoteWrite(), Exposition(), JsonLines(), CloudEvents())
BY_NAME = {protocol.name: protocol for protocol in _ALL}
BY_PATH = {path: protocol for protocol in _ALL for path in protocol.paths}
