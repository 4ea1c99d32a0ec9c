"""Partitions: keys, ranges, bounds, and days that have 23 or 25 hours."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant.kernel.errors import UsageError
from sextant.kernel.partitions import Partitioning, ranges

NY = "America/New_York"
DAYS = Partitioning(grain="daily", start="2013-01-01", tz=NY)
HOURS = Partitioning(grain="hourly", start="2013-01-01", tz=NY)
MONTHS = Partitioning(grain="monthly", start="2013-01", tz=NY)
NAMES = Partitioning(grain="static", names=("EWR", "JFK", "LGA"))


def hours_of(slice_):
    return (slice_.end.astimezone(UTC) - slice_.start.astimezone(UTC)) / timedelta(hours=1)


def test_a_day_is_a_day_of_the_zone():
    """Rows of the evening would fall into the next day."""
    day = DAYS.partition("2013-02-09")
    assert day.start.isoformat() == "2013-02-09T00:00:00-05:00"
    assert day.end.isoformat() == "2013-02-10T00:00:00-05:00"
    assert day.date == date(2013, 2, 9)
    assert DAYS.key_at(datetime(2013, 2, 10, 4, 59, tzinfo=UTC)) == "2013-02-09"
    assert DAYS.key_at(datetime(2013, 2, 10, 5, 0, tzinfo=UTC)) == "2013-02-10"


def test_days_of_a_clock_change_have_23_and_25_hours():
    """An hour of data would be lost in March and read twice in November."""
    assert hours_of(DAYS.partition("2013-03-10")) == 23
    assert hours_of(DAYS.partition("2013-11-03")) == 25
    assert DAYS.between("2013-03-09", "2013-03-12") == [
        "2013-03-09",
        "2013-03-10",
        "2013-03-11",
        "2013-03-12",
    ]
    assert DAYS.between("2013-11-02", "2013-11-04") == ["2013-11-02", "2013-11-03", "2013-11-04"]


def test_hours_of_a_clock_change_skip_one_and_repeat_one():
    """The hour that does not exist would never be complete; of the two with one name one would
    overwrite the other."""
    spring = HOURS.between("2013-03-10T01-0500", "2013-03-10T04-0400")
    assert spring == ["2013-03-10T01-0500", "2013-03-10T03-0400", "2013-03-10T04-0400"]
    autumn = HOURS.between("2013-11-03T00-0400", "2013-11-03T02-0500")
    assert autumn == [
        "2013-11-03T00-0400",
        "2013-11-03T01-0400",
        "2013-11-03T01-0500",
        "2013-11-03T02-0500",
    ]
    for key in (*spring, *autumn):
        assert hours_of(HOURS.partition(key)) == 1
    first, second = HOURS.partition("2013-11-03T01-0400"), HOURS.partition("2013-11-03T01-0500")
    assert first.end.astimezone(UTC) == second.start.astimezone(UTC)
    assert HOURS.key_at(datetime(2013, 11, 3, 5, 30, tzinfo=UTC)) == "2013-11-03T01-0400"
    assert HOURS.key_at(datetime(2013, 11, 3, 6, 30, tzinfo=UTC)) == "2013-11-03T01-0500"


def test_a_range_of_one_repeated_hour_is_that_hour():
    """Local times compare equal there: the range was said to end before it starts."""
    for key in ("2013-11-03T01-0400", "2013-11-03T01-0500"):
        assert HOURS.between(key, key) == [key]
    with pytest.raises(UsageError, match="ends before it starts"):
        HOURS.between("2013-11-03T01-0500", "2013-11-03T01-0400")


def test_a_day_reads_the_hours_that_it_has():
    """A daily total over hourly data would miss one hour or count another twice."""
    assert [
        len(HOURS.overlapping(DAYS, key)) for key in ("2013-03-10", "2013-11-03", "2013-06-01")
    ] == [23, 25, 24]
    assert DAYS.overlapping(HOURS, "2013-11-03T01-0500") == ["2013-11-03"]


def test_zones_whose_clocks_change_at_midnight():
    """00:00 does not exist on that day in Sao Paulo, and is passed twice in Havana."""
    sao = Partitioning(grain="daily", start="2013-01-01", tz="America/Sao_Paulo")
    assert hours_of(sao.partition("2013-10-20")) == 23
    assert hours_of(sao.partition("2013-02-16")) == 25
    havana = Partitioning(grain="daily", start="2013-01-01", tz="America/Havana")
    assert hours_of(havana.partition("2013-11-03")) == 25
    apia = Partitioning(
        grain="daily", start="2011-12-29", end="2012-01-01", tz="Pacific/Apia"
    )  # went over the date line: no 30 December
    assert apia.until(datetime(2013, 1, 1, tzinfo=UTC)) == ["2011-12-29", "2011-12-31"]
    assert sao.between("2013-10-19", "2013-10-21") == ["2013-10-19", "2013-10-20", "2013-10-21"]


@pytest.mark.parametrize(
    "tz",
    [
        NY,
        "Europe/Berlin",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Kolkata",
        "Pacific/Auckland",
        "Pacific/Apia",
        "UTC",
    ],
)
@pytest.mark.parametrize(
    ("grain", "last"),
    [("daily", "2014-01-01"), ("hourly", "2011-06-01"), ("monthly", "2014-01-01")],
)
def test_slices_touch_and_hold_what_they_are_named_for(tz, grain, last):
    """A gap loses rows, an overlap doubles them; a key that does not come back is another
    partition."""
    slices = Partitioning(grain=grain, start="2011-01-01", end=last, tz=tz)
    keys = slices.until(datetime(2020, 1, 1, tzinfo=UTC))
    assert len(set(keys)) == len(keys)
    assert grain == "hourly" or keys == sorted(keys)
    end = None
    for key in keys:
        one = slices.partition(key)
        assert end is None or one.start.astimezone(UTC) == end, key
        end = one.end.astimezone(UTC)
        assert slices.key_at(one.start.astimezone(UTC)) == key
        assert slices.key_at(end - timedelta(microseconds=1)) == key


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from(["daily", "hourly", "monthly"]),
    st.sampled_from([NY, "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata"]),
)
def test_an_instant_lies_in_the_slice_that_its_key_names(at, grain, tz):
    """Late rows would be written into a partition that does not hold them."""
    slices = Partitioning(grain=grain, start="2000-01-01", tz=tz)
    instant = at.replace(tzinfo=UTC)
    one = slices.partition(slices.key_at(instant))
    assert one.start.astimezone(UTC) <= instant < one.end.astimezone(UTC)


def test_months():
    """Months have 28 to 31 days, and February's end is not 30 days on."""
    assert MONTHS.between("2013-01", "2013-03") == ["2013-01", "2013-02", "2013-03"]
    february = MONTHS.partition("2013-02")
    assert (february.start.isoformat(), february.end.isoformat()) == (
        "2013-02-01T00:00:00-05:00",
        "2013-03-01T00:00:00-05:00",
    )
    assert MONTHS.partition("2013-12").end.isoformat() == "2014-01-01T00:00:00-05:00"
    assert len(DAYS.overlapping(MONTHS, "2013-02")) == 28
    assert MONTHS.overlapping(DAYS, "2013-02-28") == ["2013-02"]


def test_only_complete_slices_are_due():
    """Today would be made at one in the morning and be missing the rest of the day."""
    slices = Partitioning(grain="daily", start="2013-03-08", tz=NY)
    midnight = datetime(2013, 3, 11, 0, 0, tzinfo=ZoneInfo(NY))
    assert slices.until(midnight) == ["2013-03-08", "2013-03-09", "2013-03-10"]
    assert slices.until(midnight - timedelta(seconds=1)) == ["2013-03-08", "2013-03-09"]
    assert slices.until(datetime(2013, 3, 11, 4, 0, tzinfo=UTC)) == [
        "2013-03-08",
        "2013-03-09",
        "2013-03-10",
    ]
    assert slices.until(datetime(2013, 3, 8, tzinfo=UTC)) == []


def test_bounds_clip_and_mean_whole_slices():
    """A start at five in the morning shifted every following day by five hours."""
    slices = Partitioning(grain="daily", start="2013-01-10T05:00", end="2013-01-13", tz=NY)
    assert slices.between("2013-01-01", "2013-01-31") == ["2013-01-10", "2013-01-11", "2013-01-12"]
    assert slices.until(datetime(2013, 1, 11, 5, tzinfo=UTC)) == ["2013-01-10"]
    assert slices.overlapping(slices, "2013-01-12") == ["2013-01-12"]
    other = Partitioning(grain="daily", start="2013-01-01", tz=NY)
    assert slices.overlapping(other, "2013-01-13") == []
    assert slices.overlapping(other, "2013-01-09") == []
    assert slices.overlapping(other, "2013-01-10") == ["2013-01-10"]
    # an instant of another zone names the slice that holds it
    assert Partitioning(grain="daily", start="2013-01-10T02:00+00:00", tz=NY).between(
        "2013-01-01", "2013-01-10"
    ) == ["2013-01-09", "2013-01-10"]
    months = Partitioning(grain="monthly", start="2013-02-15", end="2013-04", tz=NY)
    assert months.between("2013-01", "2013-12") == ["2013-02", "2013-03"]


def test_the_end_of_hours_at_a_clock_change_is_an_instant():
    """One of the repeated hours would count as past the end."""
    slices = Partitioning(grain="hourly", start="2013-11-03", end="2013-11-03T02:00", tz=NY)
    assert slices.until(datetime(2014, 1, 1, tzinfo=UTC)) == [
        "2013-11-03T00-0400",
        "2013-11-03T01-0400",
        "2013-11-03T01-0500",
    ]
    free = Partitioning(grain="hourly", start="2013-11-01", tz=NY)
    assert slices.overlapping(free, "2013-11-03T01-0500") == ["2013-11-03T01-0500"]
    assert slices.overlapping(free, "2013-11-03T02-0500") == []


@pytest.mark.parametrize(
    ("slices", "key", "code", "hint"),
    [
        (DAYS, "2013-1-5", "SX-PART-007", "2013-01-31"),
        (DAYS, "2013-02-30", "SX-PART-007", "2013-01-31"),
        (DAYS, "09.02.2013", "SX-PART-007", "2013-01-31"),
        (DAYS, "2013-02", "SX-PART-007", "2013-01-31"),
        (DAYS, "2013-2-009", "SX-PART-007", "2013-01-31"),
        (MONTHS, "2013-1", "SX-PART-007", "2013-01"),
        (MONTHS, "2013-02-09", "SX-PART-007", "2013-01"),
        (HOURS, "2013-07-01T05", "SX-PART-007", "2013-01-31T05-0500"),
        (
            HOURS,
            "2013-07-01T05-0500",
            "SX-PART-007",
            "2013-01-31T05-0500",
        ),  # summer there is -0400: a second name for 06-0400
        (
            HOURS,
            "2013-03-10T02-0500",
            "SX-PART-007",
            "2013-01-31T05-0500",
        ),  # an hour that does not exist
        (NAMES, "BOS", "SX-PART-003", ""),
        (Partitioning(), "2013-01-01", "SX-PART-002", "leave --partition out"),
    ],
)
def test_a_key_of_another_form_is_refused(slices, key, code, hint):
    """Two keys for one slice are two partitions with the same rows."""
    with pytest.raises(UsageError) as caught:
        slices.partition(key)
    assert caught.value.code == code
    assert f"`{key}`" in caught.value.message
    assert hint in caught.value.hint


def test_static_and_unpartitioned():
    """Names have no order but their own, and no time."""
    assert NAMES.between("EWR", "JFK") == ["EWR", "JFK"]
    assert NAMES.until(datetime(2013, 1, 1, tzinfo=UTC)) == ["EWR", "JFK", "LGA"]
    assert NAMES.overlapping(NAMES, "JFK") == ["JFK"]
    assert NAMES.overlapping(Partitioning(grain="static", names=("JFK", "BOS")), "BOS") == []
    assert NAMES.overlapping(DAYS, "2013-02-09") == ["EWR", "JFK", "LGA"]
    assert Partitioning().overlapping(DAYS, "2013-02-09") == ["all"]
    assert Partitioning().until(datetime(2013, 1, 1, tzinfo=UTC)) == ["all"]
    with pytest.raises(UsageError, match="has no date"):
        _ = NAMES.partition("JFK").date


def test_bad_bounds_are_refused_before_anything_uses_them():
    """The first `plan` would fail instead of the load."""
    for bad, code in [
        ({"start": ""}, "SX-PART-006"),
        ({"start": "soon"}, "SX-PART-006"),
        ({"start": "2013-02-01", "end": "2013-01-01"}, "SX-PART-004"),
        ({"start": "2013-01-01", "end": "2013-01-01"}, "SX-PART-004"),
    ]:
        with pytest.raises(UsageError) as caught:
            Partitioning(grain="daily", **bad).check()
        assert caught.value.code == code
    Partitioning(grain="monthly", start="2013-01", end="2014-01").check()
    Partitioning(grain="hourly", start="2013-01-01T05:00").check()
    NAMES.check()


def test_too_many_slices_are_an_error_and_no_hang():
    """A typing error in the year would fill the memory."""
    with pytest.raises(UsageError) as caught:
        Partitioning(grain="hourly", start="1990-01-01").until(datetime(2013, 1, 1, tzinfo=UTC))
    assert caught.value.code == "SX-PART-005"


def test_ranges_are_adjacent_and_bounded():
    """A gap in a range would be recomputed with it."""
    order = [f"{n:02d}" for n in range(10)]
    assert ranges(["03", "01", "02", "07", "05", "06"], order, 31) == [
        ["01", "02", "03"],
        ["05", "06", "07"],
    ]
    assert ranges(["00", "01", "02", "03", "04"], order, 2) == [["00", "01"], ["02", "03"], ["04"]]
    assert ranges(["x", "01", "y"], order, 5) == [["01"], ["x"], ["y"]]
    assert ranges([], order, 5) == []
