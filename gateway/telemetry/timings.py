"""Histograms of durations, cheap enough to be counted for every request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


_bucket = partial(bisect_left, BOUNDS_S)


class Timings(Collector):
    """A Prometheus histogram of seconds by tier.

    The library's own walks its buckets and takes a lock for each observation: two of them cost every request as much as
    planning it. Here a batch is bisected and added up; the page is put together when it is asked for.
    """

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, tier: str, seconds: Sequence[float]) -> None:
        """Counts these durations."""
        counts = self._counts.setdefault(tier, [0] * (len(BOUNDS_S) + 1))
        for bucket, count in Counter(map(_bucket, seconds)).items():
            counts[bucket] += count
        self._sums[tier] = self._sums.get(tier, 0.0) + sum(seconds)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The histogram as the Prometheus text formats have it: cumulative counts up to each bound."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=["tier"])
        bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
        for tier, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric([tier], buckets, self._sums[tier])
        return [family]
