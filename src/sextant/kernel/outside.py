"""Names of what stands outside and data comes from: tables of databases (`table:`) and topics of
brokers (`topic:`). One has the same name whether a project says that it reads it or a client's span
does.

The names of attributes are those of OpenTelemetry's semantic conventions for databases and
messaging, those of before 1.26 included.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import QUERY_CHARS_READ, QUERY_TABLES_READ

# what others call the same system
_SYSTEMS = {
    "postgresql": "postgres",
    "microsoft.sql_server": "sqlserver",
    "mssql": "sqlserver",
    "oracle.db": "oracle",
    "aws.dynamodb": "dynamodb",
    "azure.cosmosdb": "cosmosdb",
    "aws_sqs": "sqs",
    "aws.sqs": "sqs",
    "gcp_pubsub": "pubsub",
    "rabbit": "rabbitmq",
}
_SCHEMA = {"postgres": "public", "sqlserver": "dbo"}  # where none is said
_BROKERS = frozenset(
    ("kafka", "rabbitmq", "pulsar", "nats", "sqs", "pubsub", "activemq", "rocketmq", "eventhubs")
)
_READS = frozenset(
    ("select", "find", "get", "scan", "query", "read", "aggregate", "count", "fetch")
)
_URL = re.compile(r"(?P<system>[a-z][a-z0-9_.]*)://(?P<host>[^/?#\s]+)(?P<path>(?:/[^/?#\s]+)*)/?")
_NAME = re.compile(r"[A-Za-z0-9_$-][A-Za-z0-9_$@-]{0,62}")
_FROM = re.compile(
    r"\b(from|join|into|update|table)\s+(?:only\s+)?"
    r"((?:[\"`\[]?[A-Za-z_][\w$-]{0,62}[\"`\]]?\.){0,2}[\"`\[]?[A-Za-z_][\w$-]{0,62}[\"`\]]?)",
    re.IGNORECASE,
)
_ID_CHARS_MAX = 128


class Used(NamedTuple):
    """A table or topic that a client's span is about; `written`: it gives, else it takes."""

    asset: str
    written: bool


def table_id(system: str, database: str, name: str) -> str:
    """Return `table:postgres/shop/public.orders`; "" where a name cannot be one.

    name  with its schema or without: then it is that in which such a database looks first
    """
    system = _system(system)
    database, _, schema = database.partition("|")  # as the conventions join both
    parts = [part.strip('"`[]') for part in name.split(".")]
    if len(parts) == 3:
        database, *parts = parts
    if len(parts) == 1 and (inner := schema or _SCHEMA.get(system, "")):
        parts = [inner, *parts]
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in (system, database, *parts)):
        return ""
    return _fitting(f"table:{system}/{database}/{'.'.join(parts)}")


def topic_id(system: str, name: str) -> str:
    """Return `topic:kafka/orders`; "" where a name cannot be one."""
    system = _system(system)
    if not (_NAME.fullmatch(system) and re.fullmatch(r"[A-Za-z0-9_.:/@-]{1,100}", name)):
        return ""
    return _fitting(f"topic:{system}/{name.replace(':', '_').lstrip('/')}")


def named(url: str) -> str:
    """Return what `postgres://shop/public.orders` or `kafka://orders` stands for. UsageError."""
    hint = "as in postgres://shop/public.orders, or kafka://orders for a topic"
    if "@" in url:
        raise UsageError(
            "SX-PROJ-103",
            "`reads` has a user or a password in it",
            hint=f"it is a name and not an address, {hint}",
        )
    parts, found = _URL.fullmatch(url), ""
    if parts is not None:
        system, host, path = parts["system"], parts["host"], parts["path"].strip("/")
        if _system(system) in _BROKERS:
            found = topic_id(system, f"{host}/{path}".strip("/"))
        else:
            found = table_id(system, host, path.replace("/", "."))
    if not found:
        raise UsageError("SX-PROJ-104", f"`{url[:80]}` names no table and no topic", hint=hint)
    return found


def used(attributes: Mapping[bytes, bytes], *, gives: bool, takes: bool) -> tuple[Used, ...]:
    """Return what the attributes of a client's span say that it uses.

    gives, takes  it is a span of a producer, or of a consumer
    """
    system = _first(attributes, b"db.system.name", b"db.system")
    if system:
        database = _first(attributes, b"db.namespace", b"db.name")
        verb = _first(attributes, b"db.operation.name", b"db.operation").lower()
        table = _first(attributes, b"db.collection.name", b"db.sql.table", b"db.mongodb.collection")
        if table:
            found = [(table, bool(verb) and verb.split()[0] not in _READS)]
        else:
            text = _first(attributes, b"db.query.text", b"db.statement")
            found = _of_query(text[:QUERY_CHARS_READ])
        names = [(table_id(system, database, name), written) for name, written in found]
        return tuple(dict.fromkeys(Used(id_, written) for id_, written in names if id_))
    system = _first(attributes, b"messaging.system")
    if system and (gives or takes):
        if _first(attributes, b"messaging.destination.temporary") == "true" or (
            _first(attributes, b"messaging.destination.anonymous") == "true"
        ):
            return ()
        name = _first(
            attributes,
            b"messaging.destination.template",
            b"messaging.destination.name",
            b"messaging.destination",
        )
        topic = topic_id(system, name)
        return (Used(topic, gives),) if topic else ()
    return ()


def _of_query(text: str) -> list[tuple[str, bool]]:
    """Return the tables that a query names, and whether it writes them. It is read for its words
    alone: what is no SQL gives nothing, or names that are no tables."""
    deletes = text.lstrip()[:6].lower() == "delete"
    out: list[tuple[str, bool]] = []
    for n, (word, name) in enumerate(_FROM.findall(text)):
        written = word.lower() in ("into", "update") or (deletes and n == 0)
        out.append((name, written))
        if len(out) == QUERY_TABLES_READ:
            break
    return out


def _system(text: str) -> str:
    text = text.lower()
    return _SYSTEMS.get(text, text)


def _first(attributes: Mapping[bytes, bytes], *names: bytes) -> str:
    for name in names:
        if value := attributes.get(name):
            return value[:QUERY_CHARS_READ].decode("utf-8", "replace")
    return ""


def _fitting(id_: str) -> str:
    return id_ if len(id_) <= _ID_CHARS_MAX else ""
