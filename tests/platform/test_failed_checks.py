"""Checks that failed on what a number is made of: all of the span and of upstream, none of others,
and whether their rows are live."""

from typing import Any

import pytest
from shop_project import Shop, run

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.answers import FailedCheck
from sextant.kernel.errors import UsageError
from sextant.kernel.nouns import Principal

OPS = """
@sx.dataset(partition=days, time="at", personal=["note"], checks=[
    sx.between("amount", 0, 5, severity="warn"), sx.unique("id")])
def orders(day: sx.Partition) -> pl.DataFrame:
    high = 9.0 if day.key == "2026-01-02" else 2.0
    ids = [1, 2] if day.key == "2026-01-03" else [3, 4]
    return pl.DataFrame({"at": [day.start] * 2, "id": ids, "amount": [1.0, high], "note": ["x", "y"]})

@sx.dataset(checks=[sx.between("id", 0, 5, severity="warn")])
def other() -> pl.DataFrame:
    return pl.DataFrame({"id": [7]})

sx.kpi("revenue", of=orders, measure="sum(amount)", grain="1d", owner=ops)
"""


def found(
    p: LocalPlatform, asset: str = "kpi:revenue", who: Principal | None = None, **more: Any
) -> list[FailedCheck]:
    return Operations(p, who).failed_checks(asset, **more).items


def brief(items: list[FailedCheck]) -> set[tuple[str, str, bool]]:
    return {(one["partition"], one["severity"], one["is_live"]) for one in items}


def test_checks_that_failed_upstream(shop: Shop) -> None:
    """If this fails, somebody looks at a number and is not told that its rows failed a check."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        shop.edit("[1, 2] if", "[1, 1] if")
        p.core.project.load()
        run(
            p, "dev", "dataset:orders", partitions=("2026-01-03", "2026-01-03"), stale=True
        )  # refused
        whole = found(p)
        assert brief(whole) == {("2026-01-02", "warn", True), ("2026-01-03", "error", False)}
        assert {one["asset"] for one in whole} == {"dataset:orders"}
        (warned,) = found(p, since="2026-01-02", until="2026-01-03")
        assert (warned["failed"], warned["rows"], warned["is_live"]) == (1, 2, True)
        assert warned["run"].startswith("run_")
        assert "amount" in warned["message"]
        assert found(p, since="2026-01-04") == []
        assert found(p, until="2026-01-02") == []
        # of what has no partitions of time by when it was found
        assert len(found(p, "other")) == 1
        assert found(p, "other", until="2026-01-05") == []
        pages = []
        after = ""
        while True:
            page = Operations(p).failed_checks("kpi:revenue", limit=1, after=after)
            pages += page.items
            after = page.next
            if not after:
                break
        assert pages == whole
        with pytest.raises(UsageError, match="is no time"):
            found(p, since="yesterdy")

        # its rows are replaced: it is of the past
        shop.edit("[1, 1] if", "[1, 2] if")
        shop.edit('9.0 if day.key == "2026-01-02" else 2.0', "3.0")
        p.core.project.load()
        run(p, stale=True)
        assert brief(found(p, since="2026-01-02", until="2026-01-03")) == {
            ("2026-01-02", "warn", False)
        }


def test_of_other_environments_only_what_is_live_here(shop: Shop) -> None:
    """If this fails, an experiment somewhere else is shown as what is wrong with a number."""
    shop.write(OPS)
    with shop.open() as p:
        Operations(p).create_environment("test", "dev")
        run(p, "test")
        assert brief(found(p, env="test")) >= {("2026-01-02", "warn", True)}
        assert found(p, env="dev") == []
        run(p, "dev")
        assert ("2026-01-02", "warn", True) in brief(found(p, env="dev"))


def test_who_may_not_see_personal_columns_sees_counts(shop: Shop) -> None:
    """If this fails, a message quotes a value to somebody who may not read it."""
    shop.write(OPS)
    with shop.open() as p:
        run(p)
        (seen,) = found(
            p, since="2026-01-02", until="2026-01-03", who=Principal(name="vic", role="viewer")
        )
        assert (seen["failed"], seen["rows"]) == (1, 2)
        assert "hidden" in seen["message"]


def test_the_command_tells_them_below_a_comparison(
    shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the command is silent about what the page shows."""
    from sextant.cli.main import call

    shop.write(OPS)
    with shop.open() as p:
        run(p)
    monkeypatch.chdir(shop.root)
    asked = ("kpi", "revenue", "--since", "2026-01-02", "--until", "2026-01-03", "--compare")
    assert call([*asked, "previous"]) == 0
    said = capfd.readouterr().out
    assert "dataset:orders[2026-01-02]" in said
    assert "its rows are live" in said
