"""The words by which authors say how releases of an asset are rolled out. A kind brings those that
it can do as rows of the registry: `("word.canary", "sextant.project.strategies:canary")`."""

from typing import Never

from sextant.kernel.nouns import Strategy
from sextant.project import forms
from sextant.project.collect import fitting, refuse_unknown, report


def direct() -> Strategy:
    """Go live all at once."""
    return Strategy(kind="direct")


def blue_green(*, lasts: str = "5m", **unknown: Never) -> Strategy:
    """Stand beside the old version, without traffic, for a while; then take all of it over.

    lasts  how long it stands beside at least
    """
    refuse_unknown("blue_green", unknown, blue_green.__kwdefaults__)
    return Strategy(kind="blue_green", steps=(0, 100), step_s=forms.length("lasts", lasts))


def canary(*shares: int, every: str = "10m", **unknown: Never) -> Strategy:
    """Take traffic over by a growing share, and go on while it does no worse than the old version.

    shares  of the traffic, in percent and growing; 100 comes by itself
    every   how long each of them lasts at least
    """
    refuse_unknown("canary", unknown, canary.__kwdefaults__)
    steps = tuple(
        int(fitting("a share", share, int, "a whole number of percent", 0)) for share in shares
    )
    if not steps or sorted(set(steps)) != list(steps) or not 0 < steps[0] <= steps[-1] <= 100:
        report(
            "SX-PROJ-093",
            f"`{', '.join(map(str, shares))}` are not the shares of a canary",
            hint="growing, in percent: `sx.canary(5, 25, 50)`",
        )
        steps = (10,)
    if steps[-1] < 100:
        steps = (*steps, 100)
    return Strategy(kind="canary", steps=steps, step_s=forms.length("every", every))


def shadow(*, lasts: str = "1h", **unknown: Never) -> Strategy:
    """Get copies of the traffic, whose answers nobody sees, for a while; then take all of it over.

    lasts  how long it gets copies at least
    """
    refuse_unknown("shadow", unknown, shadow.__kwdefaults__)
    return Strategy(kind="shadow", steps=(0, 100), step_s=forms.length("lasts", lasts))
