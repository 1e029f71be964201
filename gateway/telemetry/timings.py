"""Histograms of durations, cheap enough to be counted for every request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import partial

from prometheus_client import Histogram

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_bucket = partial(bisect_left, BOUNDS_S)


class Timings(Histogram):
    """A histogram of seconds that counts many durations at once.

    One `observe()` of the library's walks the buckets and takes two locks: for every request that cost as much as
    planning it. A batch costs a lock for each bucket that something fell into.
    """

    def observe_all(self, seconds: Sequence[float]) -> None:
        """Counts these durations, which belong to one set of label values."""
        for bucket, count in Counter(map(_bucket, seconds)).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(seconds))
