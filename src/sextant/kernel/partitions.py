"""Partitions: named slices of a dataset, in time (of the project's zone) or by a static list of
names.

A partition's key is text: `2013-02-09` (daily), `2013-11-03T01-0400` (hourly, with the UTC offset
so that both hours of a clock change are told apart), `2013-02` (monthly), the name itself (static),
`all` (an unpartitioned dataset). An hour is the time for which a clock on the wall shows one hour
under one offset: where clocks change by half an hour, one of them lasts half an hour. Keys of one
grain sort in time order, but for the repeated hour of a clock change.
"""

import functools
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from sextant.kernel.errors import UsageError
from sextant.kernel.limits import PARTITIONS_MAX

ALL = "all"
Grain = Literal["none", "hourly", "daily", "monthly", "static"]


class Partition(msgspec.Struct, frozen=True):
    """One slice, as project code receives it: `start` (inclusive) and `end` (exclusive) are aware
    datetimes in the project's zone; both are None for a static or unpartitioned dataset."""

    key: str
    start: datetime | None = None
    end: datetime | None = None

    @property
    def date(self) -> date:
        """Return the local date on which the slice starts. UsageError for a slice without a
        time."""
        if self.start is None:
            raise UsageError("SX-PART-001", f"partition `{self.key}` has no date")
        return self.start.date()


class Partitioning(msgspec.Struct, frozen=True, kw_only=True):
    """How a dataset is sliced. `start`/`end`: first slice and first slice no more (local ISO text),
    time grains only."""

    grain: Grain = "none"
    start: str = ""
    end: str = ""
    names: tuple[str, ...] = ()
    tz: str = "UTC"

    def check(self) -> None:
        """Do nothing when the bounds are well formed. UsageError names the bad one."""
        if self.grain in ("none", "static"):
            return
        zone = ZoneInfo(self.tz)
        start = _bound(self.grain, self.start, zone)
        if self.end and _utc(_bound(self.grain, self.end, zone)) <= _utc(start):
            raise UsageError(
                "SX-PART-004", f"the range `{self.start}..{self.end}` ends before it starts"
            )

    def partition(self, key: str) -> Partition:
        """Return the slice named `key`. UsageError if the key is not one of this partitioning's
        form."""
        if self.grain == "none":
            if key != ALL:
                raise UsageError(
                    "SX-PART-002",
                    f"`{key}` is not a partition: the dataset has none",
                    hint=f"leave --partition out, or write {ALL}",
                )
            return Partition(ALL)
        if self.grain == "static":
            if key not in self.names:
                raise UsageError(
                    "SX-PART-003",
                    f"`{key}` is not one of the partitions {', '.join(self.names[:10])}",
                )
            return Partition(key)
        start = _parse(self.grain, key, ZoneInfo(self.tz))
        return Partition(key, start, _next(self.grain, start))

    def key_at(self, at: datetime) -> str:
        """Return the key of the slice that holds an aware instant (time grains)."""
        return _key(self.grain, at.astimezone(ZoneInfo(self.tz)))

    def between(self, first: str, last: str) -> list[str]:
        """Return the keys from `first` to `last`, both included, clipped to the declared bounds.
        UsageError on bad keys."""
        if self.grain == "none":
            return [ALL]
        if self.grain == "static":
            self.partition(first), self.partition(last)
            a, b = self.names.index(first), self.names.index(last)
            return list(self.names[a : b + 1])
        begin, until = self.partition(first), self.partition(last)
        assert begin.start is not None
        assert until.end is not None
        if _utc(begin.start) >= _utc(
            until.end
        ):  # by instant: the two hours of a clock change have one local time
            raise UsageError("SX-PART-004", f"the range `{first}..{last}` ends before it starts")
        return list(self._keys(begin.start, until.end))

    def until(self, now: datetime) -> list[str]:
        """Return every key that is complete at `now` (its end has passed), oldest first."""
        if self.grain == "none":
            return [ALL]
        if self.grain == "static":
            return list(self.names)
        return list(_complete(self, self.key_at(now)))

    def overlapping(self, other: "Partitioning", key: str) -> list[str]:
        """Return this partitioning's keys that share time (or name) with slice `key` of `other`."""
        if self.grain == "none":
            return [ALL]
        if self == other or (self.grain, self.tz) == (other.grain, other.tz) != ("static", self.tz):
            return [key] if self.holds(key) else []
        slice_ = other.partition(key)
        if self.grain == "static":
            return (
                [key] if key in self.names else list(self.names) if other.grain != "static" else []
            )
        if slice_.start is None or slice_.end is None:
            return []
        return list(
            self._keys(
                slice_.start.astimezone(ZoneInfo(self.tz)), slice_.end.astimezone(ZoneInfo(self.tz))
            )
        )

    def holds(self, key: str) -> bool:
        if self.grain in ("none", "static"):
            return True
        zone = ZoneInfo(self.tz)
        at = _utc(_parse(self.grain, key, zone))
        if self.start and at < _utc(_bound(self.grain, self.start, zone)):
            return False
        return not self.end or at < _utc(_bound(self.grain, self.end, zone))

    def _keys(self, start: datetime, end: datetime, *, complete: bool = False) -> Iterator[str]:
        """Yield keys of slices that begin before `end` (complete: end by `end`), from the slice
        holding `start`."""
        zone = ZoneInfo(self.tz)
        at = _floor(self.grain, start)
        if self.start:
            at = max(at, _bound(self.grain, self.start, zone), key=_utc)
        last = _utc(end)
        if self.end:
            last = min(last, _utc(_bound(self.grain, self.end, zone)))
        count = 0
        while _utc(at) < last:
            following = _next(self.grain, at)
            if complete and _utc(following) > _utc(end):
                return
            if _utc(following) > _utc(
                at
            ):  # a zone that moved over the date line has skipped a whole day
                yield _key(self.grain, at)
            at = following
            count += 1
            if count > PARTITIONS_MAX:
                raise UsageError(
                    "SX-PART-005",
                    f"more than {PARTITIONS_MAX} partitions",
                    hint="choose a coarser grain or a later start",
                )


@functools.lru_cache(maxsize=32)  # of a hundred thousand hours it takes a second
def _complete(slices: Partitioning, unfinished: str) -> tuple[str, ...]:
    """Return the keys of all slices before the one that is not complete yet."""
    start = _bound(slices.grain, slices.start, ZoneInfo(slices.tz))
    until = slices.partition(unfinished).start
    assert until is not None
    return tuple(slices._keys(start, until, complete=True))


def ranges(keys: list[str], order: list[str], size_max: int) -> list[list[str]]:
    """Cut `keys` into runs that are adjacent in `order`, each of at most `size_max`."""
    place = {key: index for index, key in enumerate(order)}
    out: list[list[str]] = []
    for key in sorted(keys, key=lambda k: place.get(k, 1 << 60)):
        if (
            out
            and key in place
            and len(out[-1]) < size_max
            and place.get(out[-1][-1], -2) + 1 == place[key]
        ):
            out[-1].append(key)
        else:
            out.append([key])
    return out


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _bound(grain: Grain, text: str, zone: ZoneInfo) -> datetime:
    """Return the start of the slice that a declared bound lies in: a date, a month or a time, local
    unless it says otherwise."""
    try:
        at = datetime.fromisoformat(f"{text}-01" if len(text) == 7 else text)
    except ValueError as error:
        raise UsageError(
            "SX-PART-006",
            f"`{text}` is not a date or time",
            hint="write it as 2013-01-31 or 2013-01-31T05:00",
        ) from error
    return _floor(grain, at.astimezone(zone) if at.tzinfo else at.replace(tzinfo=zone))


def _parse(grain: Grain, key: str, zone: ZoneInfo) -> datetime:
    start: datetime | None
    try:
        if grain == "daily":
            start = datetime.strptime(key, "%Y-%m-%d").replace(tzinfo=zone)
        elif grain == "monthly":
            start = datetime.strptime(key, "%Y-%m").replace(tzinfo=zone)
        else:
            start = _hour_named(datetime.strptime(key, "%Y-%m-%dT%H%z"), zone)
    except ValueError:
        start = None
    if (
        start is None or _key(grain, start) != key
    ):  # one slice, one key: no `2013-1`, no hour under another offset than its own
        shape = {"daily": "2013-01-31", "monthly": "2013-01", "hourly": "2013-01-31T05-0500"}[grain]
        raise UsageError(
            "SX-PART-007", f"`{key}` is not a {grain} partition", hint=f"write it as {shape}"
        )
    return start


def _key(grain: Grain, local: datetime) -> str:
    return local.strftime(
        {"daily": "%Y-%m-%d", "monthly": "%Y-%m", "hourly": "%Y-%m-%dT%H%z"}[grain]
    )


def _hour(local: datetime) -> tuple[datetime, datetime]:
    """Return start and end of the hour that holds an instant, in its zone: all instants around it
    of the same local hour and the same offset."""
    zone, offset = local.tzinfo, local.utcoffset()
    assert offset is not None
    start = (local.replace(minute=0, second=0, microsecond=0, tzinfo=None) - offset).replace(
        tzinfo=UTC
    )
    end = start + timedelta(hours=1)
    at = local.astimezone(UTC)
    if start.astimezone(zone).utcoffset() != offset:
        start = _change(start, at, zone)
    if (end - timedelta(microseconds=1)).astimezone(zone).utcoffset() != offset:
        end = _change(at, end, zone)
    return start.astimezone(zone), end.astimezone(zone)


def _hour_named(named: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the start of the hour that begins at `named` if its offset holds then, else at the
    change that brings it."""
    at = named.astimezone(UTC)
    if at.astimezone(zone).utcoffset() == named.utcoffset():
        return at.astimezone(zone)
    end = at + timedelta(hours=1)
    if (end - timedelta(microseconds=1)).astimezone(zone).utcoffset() != named.utcoffset():
        return None
    return _change(at, end, zone).astimezone(zone)


def _change(before: datetime, after: datetime, zone: tzinfo | None) -> datetime:
    """Return the second at which the offset of `before` ends, somewhere up to `after` (UTC)."""
    old = before.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), math.ceil(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        here = datetime.fromtimestamp(middle, UTC).astimezone(zone)
        low, high = (middle, high) if here.utcoffset() == old else (low, middle)
    return datetime.fromtimestamp(high, UTC)


@functools.lru_cache(maxsize=16)
def hours_of(tz: str) -> tuple[bool, tuple[datetime, ...]]:
    """Return whether a zone's hours have been those of UTC since 1970, and the changes of its
    clocks, up to 2100, that fall inside of an hour of the wall clock."""
    zone = ZoneInfo(tz)
    whole, odd = True, []
    at, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    step = timedelta(days=4)  # two changes are never nearer than Ramadan is long
    while at < last:
        offset = at.astimezone(zone).utcoffset()
        assert offset is not None
        whole = whole and not offset.total_seconds() % 3600
        if (at + step).astimezone(zone).utcoffset() != offset:
            change = _change(at, at + step, zone)
            local = change.astimezone(zone)
            if local.minute or local.second:
                whole = False
                odd.append(change)
            whole = whole and not change.minute
        at += step
    return whole, tuple(odd)


def _floor(grain: Grain, local: datetime) -> datetime:
    if grain == "hourly":
        return _hour(local)[0]
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return day if grain == "daily" else day.replace(day=1)


def _next(grain: Grain, local: datetime) -> datetime:
    if grain == "hourly":
        return _hour(local)[1]
    naive = local.replace(tzinfo=None)
    if grain == "daily":
        return (naive + timedelta(days=1)).replace(tzinfo=local.tzinfo)
    return (naive.replace(day=1) + timedelta(days=32)).replace(day=1, tzinfo=local.tzinfo)
