"""Made-up telemetry as real systems send it: targets scraped on a grid, counters, gauges,
histograms, noise. Seeded, so runs replay.

Used by bench/telemetry.py. The mix follows what a Prometheus in front of services and machines
holds: most series are counters and histogram buckets, many of which stand still; gauges have few
decimals; a small part is floats without any pattern.
"""

import numpy as np

# (kind, share of series)
MIX = (
    ("counter", 0.24),  # requests, bytes: whole, a rate of its own
    ("seconds", 0.08),  # cpu seconds: counters with two decimals
    ("bucket", 0.32),  # histogram buckets: whole, many still
    ("still", 0.12),  # limits, versions, up
    ("walk", 0.14),  # gauges with two decimals
    ("level", 0.06),  # memory in bytes: whole, pages of 4096
    ("sum", 0.02),  # _sum of a histogram: floats that grow
    ("random", 0.02),  # floats without pattern
)
STEP_MS = 15_000


class Fleet:
    """`series` series over targets of 250 series each; `step()` gives the values of one scrape of
    everything."""

    def __init__(
        self, series: int, seed: int = 1, metrics: int = 200, only: str = "", prefix: str = "bench"
    ) -> None:
        self.random = random = np.random.default_rng(seed)
        self.count, self._prefix = series, prefix
        kinds = np.concatenate(
            [
                np.full(round(share * series), i)
                for i, (name, share) in enumerate(MIX)
                if only in ("", name)
            ]
        )
        kinds = np.resize(kinds, series)
        # a target's series stand together, as in a scrape; kinds are mixed within it
        self.kind = np.sort(kinds.reshape(-1), kind="stable")
        per_metric = max(1, series // metrics)
        self.metric = np.arange(series) // per_metric  # each metric is on all targets
        self.target = np.arange(series) % per_metric
        self.offset_ms = (self.target * 7919) % STEP_MS  # each target has its place in the interval
        self.rate = random.gamma(0.6, 20.0, series)
        self.rate[(self.kind == 2) & (random.random(series) < 0.5)] = 0.0
        self.value = np.zeros(series)
        self.value[self.kind == 0] = random.integers(0, 10**7, (self.kind == 0).sum())
        self.value[self.kind == 3] = random.integers(0, 5, (self.kind == 3).sum())
        self.value[self.kind == 4] = random.normal(50, 20, (self.kind == 4).sum()).round(2)
        self.value[self.kind == 5] = random.integers(1000, 10**6, (self.kind == 5).sum()) * 4096.0
        self.at = {name: np.flatnonzero(self.kind == i) for i, (name, _) in enumerate(MIX)}
        self.steps = 0

    def step(self) -> np.ndarray:
        """Advance every series by one scrape; return the values."""
        random, at, value = self.random, self.at, self.value
        for name in ("counter", "bucket"):
            value[at[name]] += random.poisson(self.rate[at[name]])
        value[at["seconds"]] = (
            value[at["seconds"]] + random.gamma(2.0, 0.5, len(at["seconds"]))
        ).round(2)
        moved = at["walk"][random.random(len(at["walk"])) < 0.8]
        value[moved] = (value[moved] + random.normal(0, 0.5, len(moved))).round(2)
        moved = at["level"][random.random(len(at["level"])) < 0.5]
        value[moved] += random.integers(-50, 51, len(moved)) * 4096.0
        value[at["sum"]] += random.gamma(2.0, 0.1, len(at["sum"]))
        value[at["random"]] = random.random(len(at["random"]))
        restarted = random.random() < 0.002
        if restarted:  # a service starts anew: its counters begin at nought
            gone = np.isin(self.kind, (0, 1, 2, 6)) & (
                self.target == random.integers(0, self.target.max() + 1)
            )
            value[gone] = 0.0
        self.steps += 1
        return value

    def labels(self, i: int) -> list[tuple[str, str]]:
        """Return the sorted labels of a series."""
        name = MIX[self.kind[i]][0]
        out = {
            "__name__": f"{self._prefix}_{name}_{self.metric[i]}",
            "job": f"service-{self.target[i] % 40}",
            "instance": f"10.0.{self.target[i] // 250}.{self.target[i] % 250}:9100",
            "env": "prod",
            "region": f"eu-{self.target[i] % 3}",
            "method": ("GET", "POST", "PUT")[self.metric[i] % 3],
            "status": str(200 + self.metric[i] % 4),
        }
        if name == "bucket":
            out["le"] = str(0.005 * 2 ** (self.metric[i] % 12))
        return sorted(out.items())
