"""The result of decoding a request of telemetry: columns, refusals, and the assets that sent it. No
I/O, no state.

Called by the modules of the formats and read by the intake. Rows for tables are ready-made blocks
of ClickHouse's Native format. Samples are not, since their series are looked up by the intake
first: they come as columns with the sender's own bytes for the labels.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sextant.kernel import limits
from sextant.kernel.errors import UsageError
from sextant.kernel.outside import Used

if TYPE_CHECKING:
    import numpy as np

Labels = list[tuple[bytes, bytes]]  # sorted by name, `__name__` among them, UTF-8
# reasons that mean "kept, but not as it was sent": the sender is told, nobody is alarmed
NOTICES = frozenset(
    {
        "not_utf8_repaired",  # bytes that are not UTF-8 became U+FFFD
        "time_malformed",  # the time cannot be read: kept with the time of arrival
        "end_before_start",  # a span: kept with a duration of 0
        "integer_rounded",  # a sample beyond 2^53: kept as the nearest float64
        "id_not_kept",  # the trace or span id of a log line is none: kept without it
        "exemplar_not_kept",  # it is older than spans are kept, or cannot be read: its sample is
    }
)
_LABELS_END = b"\xff"  # in no UTF-8 text, so joined labels cannot run into each other


class Rows(NamedTuple):
    """Rows of one table. `block` is Native format."""

    table: str
    rows: int
    block: bytes


class Identity(NamedTuple):
    """What is known of a series once its labels are read. `refused` names the reason when it cannot
    be taken."""

    labels: Labels
    kind: str = ""  # counter, gauge, histogram, summary, delta; "" = not said
    unit: str = ""
    asset: str = ""  # "" = follows from the labels
    owner: str = ""  # "" = the sender's
    refused: str = ""
    # what tells series of equal labels apart and is not shown: the process, whether values are
    # increments
    stream: bytes = b""
    start_ns: int = 0  # when a cumulative counting began; 0 = not known
    is_reference: bool = False  # what was counted before the start is in it: it is no growth
    histogram: bytes = b""  # the name of the histogram that this is a bucket, count or sum of
    histogram_unit: str = ""
    layout: bytes = b""  # of the bounds that this is a bucket of: other bounds, other buckets
    is_read: bool = False  # its histogram is made of it: it is a bucket, or comes with cells
    is_kind_said: bool = False  # by whoever sends it, not guessed by its name
    is_count: bool = False  # it only grows for as long as its process lives


class Cells(NamedTuple):
    """The cells of an exponential histogram. Those of one side of zero have neighbouring indexes,
    or gaps: cell `index` of scale `s` is (2^(index/2^s), 2^((index+1)/2^s)], or its mirror image
    below zero.

    sides    int8: -1, 0 or 1; 0 is the cell around zero, whose index is 0
    indexes  int32, counts: uint64, as bytes
    zero     half the width of the cell around zero
    delta    the counts are those since the last one of the same series
    """

    scale: int
    zero: float
    delta: bool
    sides: bytes
    indexes: bytes
    counts: bytes


class Exemplar(NamedTuple):
    """A measurement behind a sample, as it was gathered. `key` stands for the labels of its series,
    as in `Samples`; `labels` are its own, with the ids of its trace and span among them."""

    key: bytes
    value: float
    ts_ns: int
    labels: Labels


class Samples(NamedTuple):
    """Samples as columns of one length.

    keys    the sender's bytes that stand for the labels: equal bytes are the same series
    ts      int64, milliseconds since the epoch
    values  float64, as sent
    read    turns a key into what it says; called once for each new key
    cells   of exponential histograms, by the place of the sample that counts their observations
    starts  of increments, by their place: a number that tells since when they were counted, and
            differs between two processes that report at the same millisecond
    """

    keys: list[bytes]
    ts: "np.ndarray[Any, Any]"
    values: "np.ndarray[Any, Any]"
    read: Callable[[bytes], Identity]
    cells: Mapping[int, Cells] = MappingProxyType({})
    starts: Mapping[int, int] = MappingProxyType({})


class Span(NamedTuple):
    """What matters of a span for who calls whom. `peer` is the asset that a client names, "" when
    it names none; `used` the tables and topics that it is about."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    kind: int  # OTLP's SpanKind: 2 server, 3 client, 4 producer, 5 consumer
    asset: str
    peer: str
    ts_ms: int
    used: tuple[Used, ...] = ()


class Batch(msgspec.Struct):
    """What one request says.

    rows      for the tables
    samples   in any number of groups
    services  asset -> owner, of everything that spoke
    refused   reason -> how many records were not taken; of `NOTICES`, how many were taken otherwise
              than sent
    first     the first record that could not be read, in words for its sender
    spans     for the calls between services
    exemplars of samples, until they become rows; see `exemplars.py`
    timed     every record has a time of its own, so that an equal body is a repetition and not a
              second report
    """

    rows: list[Rows] = msgspec.field(default_factory=list)
    samples: list[Samples] = msgspec.field(default_factory=list)
    services: dict[str, str] = msgspec.field(default_factory=dict)
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    spans: list[Span] = msgspec.field(default_factory=list)
    exemplars: list[Exemplar] = msgspec.field(default_factory=list)
    timed: bool = True
    first: str = ""

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count records that are not taken."""
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count

    def notice(self, reason: str, count: int = 1) -> None:
        """Count records that are kept, but not as they were sent. `reason` is one of `NOTICES`."""
        assert reason in NOTICES, reason
        self.refuse(reason, count)


class TooMuch(UsageError):
    """A request comes to more than its budget."""


def lost(refused: Mapping[str, int]) -> dict[str, int]:
    """Return the reasons for which records were not taken."""
    return {reason: count for reason, count in refused.items() if reason not in NOTICES}


def noticed(refused: Mapping[str, int]) -> dict[str, int]:
    """Return the reasons for which records were taken otherwise than sent."""
    return {reason: count for reason, count in refused.items() if reason in NOTICES}


class Budget:
    """What one request may come to, spent while it is decoded: a few kilobytes may hold millions of
    records, or attributes that stand in each row."""

    def __init__(
        self,
        *,
        records: int = limits.BODY_RECORDS_MAX,
        row_bytes: int = limits.BODY_ROWS_BYTES_MAX,
        groups: int = limits.BODY_GROUPS_MAX,
        field_bytes: int = limits.BODY_UNPACKED_BYTES_MAX,
    ) -> None:
        self._left = {
            "records": records,
            "bytes of rows": row_bytes,
            "resources and scopes": groups,
            "bytes of fields": field_bytes,
        }
        self._most = dict(self._left)

    def begin_again(self) -> None:
        """Give back what was spent: the request is decoded from its beginning once more."""
        self._left = dict(self._most)

    def records(self, count: int = 1) -> None:
        """Spend records: samples, lines, spans, events. TooMuch when none are left."""
        self._spend("records", count)

    def row_bytes(self, size: int) -> None:
        """Spend bytes of rows. TooMuch when none are left."""
        self._spend("bytes of rows", size)

    def group(self) -> None:
        """Spend one resource, or one of its scopes. TooMuch when none are left."""
        self._spend("resources and scopes", 1)

    def attributes(self, count: int) -> None:
        """Spend attributes, and what is as small: four are as dear as a record."""
        self._spend("records", count // 4)

    def field_bytes(self, size: int) -> None:
        """Spend bytes of a message that is read field by field. TooMuch when none are left."""
        self._spend("bytes of fields", size)

    def check_row_bytes(self, size: int) -> None:
        """Raise TooMuch when the rows as they were made are larger than the whole budget."""
        if size > self._most["bytes of rows"]:
            raise self._exceeded("bytes of rows")

    def _spend(self, what: str, count: int) -> None:
        self._left[what] -= count
        if self._left[what] < 0:
            raise self._exceeded(what)

    def _exceeded(self, what: str) -> TooMuch:
        return TooMuch(
            "SX-INTAKE-062",
            f"the request comes to more than {self._most[what]:,} {what}",
            hint="send smaller batches; nothing was taken",
            status=413,
        )


def series_id(labels: Iterable[tuple[bytes, bytes]], owner: str, stream: bytes = b"") -> int:
    """Return the 64-bit id of a series: a hash of its sorted labels, its owner, and what tells it
    from others of the same labels. Two owners never share a series."""
    text = _LABELS_END.join(part for pair in labels for part in pair) + _LABELS_END + owner.encode()
    if stream:
        text += _LABELS_END + stream
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def checked(labels: Labels, *, name: bytes = b"__name__") -> str:
    """Return why a label set cannot be taken, "" when it can. Empty values are no labels and must
    be gone by now."""
    if len(labels) > limits.LABELS_MAX:
        return "labels_too_many"
    before = b""
    named = False  # an empty name is none
    for key, value in labels:
        if len(key) > limits.LABEL_NAME_BYTES_MAX or len(value) > limits.LABEL_VALUE_BYTES_MAX:
            return "label_too_long"
        if key <= before:
            return "label_repeated" if key == before and key else "label_unnamed"
        named = named or (key == name and bool(value))
        before = key
        try:
            key.decode(), value.decode()
        except UnicodeDecodeError:
            return "label_not_utf8"
    return "" if named else "metric_unnamed"


def asset_of(labels: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the asset that labels or attributes speak of.

    `sextant.asset` (or `asset`) when it is written `kind:name`; else `service:` with `service.name`
    (`service_name`), else with `job`.
    """
    found = dict(labels)
    for key in (b"sextant.asset", b"sextant_asset", b"asset"):
        said = found.get(key, b"")
        if b":" in said:
            return said.decode("utf-8", "replace")
    for key in (b"service.name", b"service_name", b"job"):
        if found.get(key):
            return "service:" + found[key].decode("utf-8", "replace")
    return ""


def owner_of(labels: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the owner that attributes name (`sextant.owner`), "" when they name none."""
    found = dict(labels)
    return (found.get(b"sextant.owner") or found.get(b"sextant_owner") or b"").decode(
        "utf-8", "replace"
    )


def histogram_of(labels: Labels) -> bytes:
    """Return the name of the histogram that a series of Prometheus is a bucket of, b"" when it is
    none."""
    found = dict(labels)
    metric = found.get(b"__name__", b"")
    return (
        metric.removesuffix(b"_bucket") if b"le" in found and metric.endswith(b"_bucket") else b""
    )


def kind_by_name(metric: bytes) -> str:
    """Return the kind of a metric whose sender did not say it, by the naming rules of
    Prometheus."""
    if metric.endswith(b"_bucket"):
        return "histogram"
    return "counter" if metric.endswith((b"_total", b"_count", b"_sum")) else ""
