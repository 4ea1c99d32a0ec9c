"""`plan.plan`, pure: what would run, and why, in a scene made by hand."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from sextant.engine import keys
from sextant.engine.holds import Holds
from sextant.kinds.dataset.spec import Table
from sextant.kinds.kpi.spec import Measure
from sextant.engine.plan import Plan, Request, Scene, plan, reads
from sextant.kernel.clock import from_datetime
from sextant.kernel.errors import NotFound, ProjectError, UsageError
from sextant.kernel.nouns import (
    Asset,
    Build,
    CheckSpec,
    Code,
    Input,
    Manifest,
    Part,
    spec_of,
)
from sextant.kernel.partitions import Partitioning

DAILY = Partitioning(grain="daily", start="2026-01-01", end="2026-01-05")
MONTHLY = Partitioning(grain="monthly", start="2025-12", end="2026-03")
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
NOW = from_datetime(datetime(2026, 6, 1, tzinfo=UTC))
NONE = Partitioning()


def asset(
    name: str,
    *inputs: str,
    slices: Partitioning = DAILY,
    windows: dict[str, str] | None = None,
    code: str = "c1",
    **more: Any,
) -> Asset:
    bound = tuple(
        Input(name=i, asset=f"dataset:{i}", window=(windows or {}).get(i, "")) for i in inputs
    )
    return Asset(
        kind="dataset",
        name=name,
        build=Build(
            code=Code(language="python", entry=f"ops:{name}", file="ops.py", fingerprint=code),
            inputs=bound,
        ),
        spec=spec_of(Table(partitioning=slices)),
        **more,
    )


def manifest(*assets: Asset, **more: Any) -> Manifest:
    return Manifest(project="p", tz="UTC", assets=assets, **more)


def made(
    m: Manifest,
    name: str,
    partitions: list[str],
    live: dict[str, dict[str, Part]],
    version: str = "1",
) -> None:
    """Put into `live` what a run of asset `name` would have made: upstream first, as it stands in
    `live` then."""
    it = m.asset(f"dataset:{name}")
    assert it is not None
    assert it.build is not None
    out = {}
    for key in partitions:
        found: list[tuple[str, str, str]] = []
        for bound in it.build.inputs:
            upstream = m.asset(bound.asset)
            assert upstream is not None
            parts = live[bound.asset]
            slices, other = keys.partitioning(it), keys.partitioning(upstream)
            if (
                other.grain == "none"
                or bound.window == "all"
                or (slices.grain == "none" and not bound.window)
            ):
                found.append((bound.name, "*", keys.content_of(parts)))
            else:
                wanted = (
                    [key]
                    if other == slices and not bound.window
                    else reads(bound, other, slices, key, sorted(parts))
                )
                found += [(bound.name, n, parts[n].digest) for n in wanted]
        out[key] = Part(
            partition=key,
            digest=f"{name}-{key}-{version}",
            rows=1,
            code=keys.code_digest(it),
            inputs=keys.inputs_digest(found),
        )
    live.setdefault(it.id, {}).update(out)


def scene(live: dict[str, dict[str, Part]] | None = None, **more: Any) -> Scene:
    return Scene(env="prod", now=more.pop("now", NOW), live=live or {}, versions={}, **more)


def holds(*key: str, content: str = "bad", answer: str = "") -> Holds:
    return Holds([(*key, "version", content)], [(*key, answer)])


def reasons(found: Plan, name: str) -> dict[str, str]:
    return {
        item.partition: item.reason
        for step in found.steps
        if step.asset == f"dataset:{name}"
        for item in step.items
    }


CHAIN = manifest(asset("a"), asset("b", "a"), asset("c", "b", slices=NONE))


def whole() -> dict[str, dict[str, Part]]:
    live: dict[str, dict[str, Part]] = {}
    for name, partitions in (("a", DAYS), ("b", DAYS), ("c", ["all"])):
        made(CHAIN, name, partitions, live)
    return live


def edited(name: str, **more: Any) -> Manifest:
    """The chain with other code in one asset."""
    assets = []
    for it in CHAIN.assets:
        if it.name == name:
            assert it.build is not None
            it = msgspec.structs.replace(
                it,
                build=msgspec.structs.replace(
                    it.build, code=msgspec.structs.replace(it.build.code, fingerprint="c2")
                ),
                **more,
            )
        assets.append(it)
    return manifest(*assets)


def test_nothing_is_there() -> None:
    """The first run would make nothing, or in the wrong order."""
    found = plan(CHAIN, scene(), Request())
    assert [step.id for step in found.steps] == [
        "dataset:a[2026-01-01..2026-01-04]",
        "dataset:b[2026-01-01..2026-01-04]",
        "dataset:c[all]",
    ]
    assert [step.deps for step in found.steps] == [
        (),
        ("dataset:a[2026-01-01..2026-01-04]",),
        ("dataset:b[2026-01-01..2026-01-04]",),
    ]
    assert set(reasons(found, "a").values()) == set(reasons(found, "b").values()) == {"missing"}


def test_everything_is_there() -> None:
    """Unchanged work would be paid for again. A no-op, because code and inputs of all parts are
    those of the manifest."""
    found = plan(CHAIN, scene(whole()), Request())
    assert (found.steps, found.stale, found.up_to_date) == (
        (),
        {},
        {"dataset:a": 4, "dataset:b": 4, "dataset:c": 1},
    )


def test_one_is_missing() -> None:
    """A hole would stay, or everything be made again because of it."""
    live = whole()
    del live["dataset:a"]["2026-01-03"], live["dataset:b"]["2026-01-03"]
    found = plan(CHAIN, scene(live), Request())
    assert (reasons(found, "a"), reasons(found, "b"), reasons(found, "c")) == (
        {"2026-01-03": "missing"},
        {"2026-01-03": "missing"},
        {"all": "input runs"},
    )


def test_an_input_changed() -> None:
    """Late rows would never reach what stands on them."""
    live = whole()
    live["dataset:a"]["2026-01-02"] = msgspec.structs.replace(
        live["dataset:a"]["2026-01-02"], digest="late rows"
    )
    found = plan(CHAIN, scene(live), Request())
    assert (reasons(found, "a"), reasons(found, "b")) == ({}, {"2026-01-02": "inputs changed"})


@pytest.mark.parametrize(
    ("request_", "more", "runs"),
    [
        (Request(), {}, {}),
        (Request(stale=True), {}, dict.fromkeys(DAYS, "code changed")),
        (
            Request(assets=("dataset:b",), partitions=("2026-01-02", "2026-01-03")),
            {},
            {"2026-01-02": "code changed", "2026-01-03": "code changed"},
        ),
        (Request(assets=("dataset:b",)), {}, {}),
        (Request(partitions=("2026-01-02", "2026-01-03")), {}, {}),
        (Request(), {"on_change": "rebuild"}, dict.fromkeys(DAYS, "code changed")),
    ],
)
def test_code_changed(request_: Request, more: dict[str, Any], runs: dict[str, str]) -> None:
    """An edit would rewrite a year of data unasked; or could not be rolled out at all."""
    found = plan(edited("b", **more), scene(whole(), costs={"dataset:b": (2.0, 10.0)}), request_)
    assert reasons(found, "b") == runs
    if not runs and request_.partitions is None:
        assert found.stale == {"dataset:b": dict.fromkeys(DAYS, "code changed")}
        assert found.stale_seconds == {"dataset:b": 8.0}
    elif runs:
        assert reasons(found, "c") == {"all": "input runs"}
        assert found.steps[0].seconds == 2.0 * len(runs)


def test_an_unpartitioned_asset_that_is_named_is_made_again() -> None:
    """`run c` after an edit of c would say that it is up to date."""
    assert reasons(plan(edited("c"), scene(whole()), Request(assets=("dataset:c",))), "c") == {
        "all": "code changed"
    }
    assert plan(edited("c"), scene(whole()), Request()).stale == {
        "dataset:c": {"all": "code changed"}
    }


def test_other_code_that_made_the_same_is_up_to_date() -> None:
    """Early cut-off would be forgotten: the next plan would offer the same work for ever."""
    m, live = edited("b"), whole()
    changed_code = keys.code_digest(m.asset("dataset:b"))  # type: ignore[arg-type]
    facts = {(p.partition, changed_code, p.inputs): p.digest for p in live["dataset:b"].values()}
    found = plan(m, scene(live, made={"dataset:b": facts}), Request(stale=True))
    assert found.steps == ()
    wrong = {key: "another content" for key in facts}
    assert set(
        reasons(plan(m, scene(live, made={"dataset:b": wrong}), Request(stale=True)), "b")
    ) == set(DAYS)


@pytest.mark.parametrize(("force", "held"), [(False, True), (True, False)])
def test_held(force: bool, held: bool) -> None:
    """What was undone would be made again by the next run."""
    live = whole()
    bad = live["dataset:b"].pop("2026-01-04")
    found = plan(
        CHAIN,
        scene(live, held=holds("dataset:b", bad.partition, bad.code, bad.inputs)),
        Request(assets=("dataset:b",), force=force),
    )
    assert (found.held == {"dataset:b": ("2026-01-04",)}) is held
    assert ("2026-01-04" in reasons(found, "b")) is not held
    assert reasons(
        plan(
            edited("b"),
            scene(live, held=holds("dataset:b", bad.partition, bad.code, bad.inputs)),
            Request(),
        ),
        "b",
    ) == {"2026-01-04": "missing"}, "new code is not held"


def test_waiting() -> None:
    """A derived day without its input would be made from nothing."""
    m = manifest(asset("a"), asset("b", "a"))
    live: dict[str, dict[str, Part]] = {}
    made(m, "a", DAYS[:2], live)
    found = plan(m, scene(live), Request(assets=("dataset:b",)))
    assert reasons(found, "b") == dict.fromkeys(DAYS[:2], "missing")
    assert found.waiting == {"dataset:b": tuple(DAYS[2:])}


def test_orphans_stay_and_are_not_made() -> None:
    """A derived day whose input is gone must not be planned: there is nothing to make it from."""
    live = whole()
    del live["dataset:a"]["2026-01-02"]
    m = manifest(asset("b", "a"), asset("a"), asset("c", "b", slices=NONE))
    found = plan(m, scene(live), Request(assets=("dataset:b",)))
    assert reasons(found, "b") == {}
    assert found.waiting == {}


@pytest.mark.parametrize(
    ("now", "days"),
    [
        ("2026-01-02T23:59:59", 1),
        ("2026-01-03T00:00:00", 2),
        ("2030-01-01T00:00:00", 4),
        ("2025-12-31T00:00:00", 0),
    ],
)
def test_only_slices_that_are_over(now: str, days: int) -> None:
    """Half a day would be published as a whole one."""
    found = plan(
        CHAIN, scene(now=from_datetime(datetime.fromisoformat(now).replace(tzinfo=UTC))), Request()
    )
    assert len(reasons(found, "a")) == days


def test_look_back() -> None:
    """A source's late rows would be seen only by accident."""
    m = manifest(asset("a", lookback="2d"))
    live: dict[str, dict[str, Part]] = {}
    made(m, "a", DAYS, live)
    late = from_datetime(datetime(2026, 1, 5, 6, tzinfo=UTC))
    assert reasons(plan(m, scene(live, now=late), Request()), "a") == {
        "2026-01-03": "looks back",
        "2026-01-04": "looks back",
    }
    assert plan(m, scene(live, now=late), Request(look_back=False)).steps == ()
    assert (
        plan(m, scene(live, now=late), Request(partitions=("2026-01-04", "2026-01-04"))).steps == ()
    ), "who names days wants those only"
    assert plan(m, scene(live, now=NOW), Request()).steps == ()


def test_windows() -> None:
    """A three-day mean would read the wrong days, or miss that an old one changed."""
    m = manifest(asset("a"), asset("w", "a", windows={"a": "2d"}))
    live: dict[str, dict[str, Part]] = {}
    made(m, "a", DAYS, live)
    made(m, "w", DAYS, live)
    assert plan(m, scene(live), Request()).steps == ()
    live["dataset:a"]["2026-01-02"] = msgspec.structs.replace(
        live["dataset:a"]["2026-01-02"], digest="late"
    )
    assert reasons(plan(m, scene(live), Request()), "w") == {
        "2026-01-02": "inputs changed",
        "2026-01-03": "inputs changed",
    }
    bound = Input(name="a", asset="dataset:a", window="2d")
    assert reads(bound, DAILY, DAILY, "2026-01-03", DAYS) == ["2026-01-02", "2026-01-03"]
    assert reads(bound, DAILY, DAILY, "2026-01-01", DAYS) == ["2026-01-01"]


def test_grains() -> None:
    """A month would be made of the wrong days, or a day of no month."""
    m = manifest(asset("a"), asset("month", "a", slices=MONTHLY), asset("back", "month"))
    live: dict[str, dict[str, Part]] = {}
    made(m, "a", DAYS, live)
    found = plan(m, scene(live), Request())
    assert reasons(found, "month") == {"2026-01": "missing"}
    assert found.waiting == {"dataset:month": ("2025-12", "2026-02")}
    assert reasons(found, "back") == dict.fromkeys(DAYS, "missing")
    made(m, "month", ["2026-01"], live)
    made(m, "back", DAYS, live)
    live["dataset:a"]["2026-01-02"] = msgspec.structs.replace(
        live["dataset:a"]["2026-01-02"], digest="late"
    )
    assert reasons(
        plan(m, scene(live), Request(assets=("dataset:month",))), "back"
    ) == dict.fromkeys(DAYS, "input runs")


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        (("2026-01-02", "2026-01-03"), DAYS[1:3]),
        (("2026-01", "2026-01"), DAYS),
        (("2025-12", "2026-01-02"), DAYS[:2]),
        (("2026-02", "2026-02"), []),
    ],
)
def test_ranges_in_other_grains(partitions: tuple[str, str], expected: list[str]) -> None:
    """`--partition 2026-01` would mean nothing to a daily asset."""
    assert (
        list(reasons(plan(manifest(asset("a")), scene(), Request(partitions=partitions)), "a"))
        == expected
    )


def test_bad_ranges() -> None:
    """A typo would silently make nothing."""
    with pytest.raises(UsageError, match="2026-13"):
        plan(manifest(asset("a")), scene(), Request(partitions=("2026-13", "2026-13")))
    with pytest.raises(UsageError, match="ends before"):
        plan(manifest(asset("a")), scene(), Request(partitions=("2026-01-03", "2026-01-01")))


def test_force() -> None:
    """Force is for what was named; what reads it decides by content."""
    found = plan(CHAIN, scene(whole()), Request(assets=("dataset:a",), force=True))
    assert set(reasons(found, "a").values()) == {"forced"}
    assert set(reasons(found, "b").values()) == {"input runs"}
    assert set(reasons(plan(CHAIN, scene(whole()), Request(force=True)), "c").values()) == {
        "forced"
    }


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        (Request(assets=("dataset:b",)), {"b", "c"}),
        (Request(assets=("dataset:b",), downstream=False), {"b"}),
    ],
)
def test_selection(request_: Request, chosen: set[str]) -> None:
    """`run b` would leave c stale, or make what nobody asked for."""
    assert {
        name.removeprefix("dataset:") for name in plan(CHAIN, scene(), request_).up_to_date
    } == chosen


def test_unknown_asset() -> None:
    """A typo would be a run of nothing."""
    with pytest.raises(NotFound, match="dataset:x"):
        plan(CHAIN, scene(), Request(assets=("dataset:x",)))


def test_cycle() -> None:
    """A circle would hang the planner."""
    with pytest.raises(ProjectError, match="circle") as caught:
        plan(manifest(asset("a", "b"), asset("b", "a")), scene(), Request())
    assert "dataset:a" in caught.value.message


def test_months_are_steps_of_their_own() -> None:
    """One step for a year could not be retried in parts, nor written in one commit."""
    year = Partitioning(grain="daily", start="2026-01-30", end="2026-03-02")
    found = plan(manifest(asset("a", slices=year)), scene(), Request())
    assert [step.id for step in found.steps] == [
        "dataset:a[2026-01-30..2026-01-31]",
        "dataset:a[2026-02-01..2026-02-28]",
        "dataset:a[2026-03-01]",
    ]


def test_static_slices() -> None:
    """Each region is a step of its own; a new one is missing."""
    regions = Partitioning(grain="static", names=("eu", "us"))
    m = manifest(asset("a", slices=regions), asset("b", "a", slices=regions))
    found = plan(m, scene(), Request())
    assert [step.id for step in found.steps] == [
        "dataset:a[eu]",
        "dataset:a[us]",
        "dataset:b[eu]",
        "dataset:b[us]",
    ]
    assert found.steps[2].deps == ("dataset:a[eu]",)


def test_a_reference_table_is_made_first() -> None:
    """A foreign key would be checked against yesterday's table."""
    m = manifest(
        asset(
            "a",
            checks=(
                CheckSpec(
                    name="fk",
                    check="check.dataops.foreign_key",
                    params={"column": "x", "to": "dataset:r.x"},
                ),
            ),
        ),
        asset("r", slices=NONE),
    )
    found = plan(m, scene(), Request())
    step = next(s for s in found.steps if s.asset == "dataset:a")
    assert step.deps == ("dataset:r[all]",)
    both = manifest(
        *(
            asset(
                n,
                checks=(
                    CheckSpec(
                        name="fk",
                        check="check.dataops.foreign_key",
                        params={"column": "x", "to": f"dataset:{o}.x"},
                    ),
                ),
            )
            for n, o in ("ab", "ba")
        )
    )
    assert len(plan(both, scene(), Request()).steps) == 2, (
        "two tables that refer to each other are no circle"
    )


def test_definitions() -> None:
    """A changed meaning of a number would go live unseen; an undone one come back."""
    kpi = Asset(
        kind="kpi",
        name="rate",
        spec=spec_of(Measure(of="dataset:a", sql="count(*)", definition="d1")),
    )
    m = manifest(asset("a"), kpi)
    target = keys.definition_digest(kpi)
    assert [(d.source, d.target) for d in plan(m, scene(), Request()).definitions] == [("", target)]
    assert (
        plan(
            m, Scene(env="prod", now=NOW, live={}, versions={"kpi:rate": target}), Request()
        ).definitions
        == ()
    )
    assert plan(m, scene(held=holds("kpi:rate", "all", target, "")), Request()).definitions == ()
    assert plan(m, scene(), Request(assets=("dataset:a",), downstream=False)).definitions == ()


def test_a_range_limits_what_is_named_and_its_readers_follow() -> None:
    """`run a --partition P` would clip the readers too: what reads P by a window, or reads all of
    it, would keep the old values, live and unmentioned."""
    m = manifest(
        asset("a"),
        asset("b", "a"),
        asset("w", "a", windows={"a": "2d"}),
        asset("all", "a", windows={"a": "all"}),
        asset("far", "w", windows={"w": "2d"}),
        asset("total", "far", slices=NONE),
    )
    live: dict[str, dict[str, Part]] = {}
    for name in ("a", "b", "w", "all", "far"):
        made(m, name, DAYS, live)
    made(m, "total", ["all"], live)
    day = ("2026-01-02", "2026-01-02")
    for request in (
        Request(assets=("dataset:a",), partitions=day, force=True),
        Request(partitions=day, force=True),
    ):
        found = plan(m, scene(live), request)
        assert list(reasons(found, "a")) == ["2026-01-02"]
        assert list(reasons(found, "b")) == ["2026-01-02"]
        assert list(reasons(found, "w")) == ["2026-01-02", "2026-01-03"]
        assert list(reasons(found, "all")) == DAYS
        assert list(reasons(found, "far")) == ["2026-01-02", "2026-01-03", "2026-01-04"]
        assert list(reasons(found, "total")) == ["all"]
    only = Request(assets=("dataset:w",), partitions=day, force=True)
    assert list(reasons(plan(m, scene(live), only), "w")) == ["2026-01-02"], "it is named itself"


def test_a_range_makes_nothing_beyond_it_that_was_never_made() -> None:
    """A day's run would begin to fill a year of windows that nobody asked for."""
    m = manifest(asset("a"), asset("w", "a", windows={"a": "2d"}))
    live: dict[str, dict[str, Part]] = {}
    made(m, "a", DAYS, live)
    made(m, "w", DAYS[:2], live)
    request = Request(assets=("dataset:a",), partitions=("2026-01-02", "2026-01-02"), force=True)
    assert list(reasons(plan(m, scene(live), request), "w")) == ["2026-01-02"]
