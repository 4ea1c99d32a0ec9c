"""Hours and days of zones that are not whole hours off UTC, and of clocks that change by half an
hour or at midnight."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from sextant import testing
from sextant.app import doctor
from sextant.kernel.clock import from_datetime
from sextant.kernel.partitions import Grain, Partitioning, hours_of
from sextant.stores.lake import frames

CHANGES = {
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "America/St_Johns": ("2026-03-08T05:30", "2026-11-01T04:30"),
    "Pacific/Chatham": ("2026-04-04T14:00", "2026-09-26T14:00"),
    "Asia/Kathmandu": ("1985-12-31T18:30", "2026-01-01T00:00"),
    "America/Havana": ("2026-03-08T05:00", "2026-11-01T05:00"),
    "Pacific/Apia": ("2011-12-30T10:00", "2010-09-26T11:00"),
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
}


@pytest.mark.parametrize("tz", CHANGES)
@pytest.mark.parametrize("grain", ["hourly", "daily"])
def test_slices_tile_time_over_every_change(tz: str, grain: Grain) -> None:
    """An instant would lie in no slice, in two, or in one that no key names."""
    for text in CHANGES[tz]:
        near = datetime.fromisoformat(text).replace(tzinfo=UTC)
        slices = Partitioning(grain=grain, start="1980-01-01", tz=tz)
        at = near - timedelta(hours=4)
        seen: dict[str, tuple[datetime, datetime]] = {}
        while at < near + timedelta(hours=4):
            key = slices.key_at(at)
            slice_ = slices.partition(key)
            assert slice_.start is not None
            assert slice_.end is not None
            start, end = slice_.start.astimezone(UTC), slice_.end.astimezone(UTC)
            assert start <= at < end, (key, at)
            seen[key] = (start, end)
            at += timedelta(minutes=7)
        ends = sorted(seen.values())
        assert all(one[1] == other[0] for one, other in zip(ends, ends[1:], strict=False))
        first, last = list(seen)[0], list(seen)[-1]
        assert set(slices.between(first, last)) == set(seen)


@pytest.mark.parametrize("tz", CHANGES)
def test_rows_are_filed_as_the_calendar_says(tz: str) -> None:
    """Polars and the calendar of the partitions would file an hour differently."""
    near = datetime.fromisoformat(CHANGES[tz][0]).replace(tzinfo=UTC)
    at = [near + timedelta(minutes=10 * n) for n in range(-30, 30)]
    slices = Partitioning(grain="hourly", start="1980-01-01", tz=tz)
    table = frames.canonical(frames.to_arrow(pl.DataFrame({"at": at})))
    for key, rows in frames.split(table, "at", slices):
        assert {slices.key_at(one) for one in rows["at"].to_pylist()} == {key}


def test_which_hours_are_those_of_utc() -> None:
    """A KPI in New York would be made again for nothing, one in Lord Howe keep wrong hours."""
    assert hours_of("America/New_York") == (True, ())
    assert hours_of("Asia/Kolkata") == (False, ())
    whole, odd = hours_of("Australia/Lord_Howe")
    assert not whole
    assert datetime(2026, 4, 4, 15, tzinfo=UTC) in odd


def test_times_of_checks_are_those_of_the_project() -> None:
    """A dataset of local days would be stale for hours, or fresh for too long."""
    import sextant as sx

    rows = pl.DataFrame({"at": [datetime(2026, 1, 1, 20, tzinfo=UTC)]})
    kolkata = datetime(2026, 1, 2, tzinfo=ZoneInfo("Asia/Kolkata"))
    for bound, ok in (("2026-01-02", True), ("2026-01-02T01:31", False)):
        (found,) = testing.check(sx.between("at", bound), rows, tz="Asia/Kolkata")
        assert found.ok is ok
    days = pl.DataFrame({"day": [kolkata.date()]})
    for hours, ok in ((35, True), (37, False)):
        found = testing.check(
            _fresh(), days, at=kolkata + timedelta(hours=hours), tz="Asia/Kolkata"
        )[0]
        assert found.ok is ok, found.message


def _fresh() -> object:
    import sextant as sx

    @sx.dataset(time="day", checks=[sx.fresh(within="36h")])
    def local_days() -> pl.DataFrame: ...  # type: ignore[empty-body]

    return local_days


def test_doctor_says_when_zone_data_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions and KPIs would cut days at two places, and nobody know why."""
    now = from_datetime(datetime(2026, 6, 1, tzinfo=UTC))
    assert doctor.zone_differs("Europe/Berlin", now) == ""
    monkeypatch.setattr(doctor, "ZoneInfo", lambda _: ZoneInfo("Africa/Tunis"))
    assert doctor.zone_differs("Europe/Berlin", now) == "2026-03-29 01:00 UTC" or (
        doctor.zone_differs("Europe/Berlin", now) == "2025-06-01 00:00 UTC"
    )
