"""Histograms of durations, cheap enough to be counted for every request."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from prometheus_client import Histogram

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_BOUNDS_AND_MORE = (*BOUNDS_S, math.inf)


class Timings(Histogram):
    """A histogram of seconds that counts many durations at once.

    One `observe()` of the library's walks the buckets and takes two locks: for every request that cost as much as
    planning it. A batch costs a lock for each bucket that something fell into.
    """

    def observe_all(self, seconds: Sequence[float]) -> None:
        """Counts these durations, which belong to one set of label values."""
        ordered = sorted(seconds)
        counted = 0
        for bucket, bound in zip(self._buckets, _BOUNDS_AND_MORE, strict=True):
            up_to = bisect_right(ordered, bound)
            if up_to > counted:
                bucket.inc(up_to - counted)
                counted = up_to
        self._sum.inc(sum(ordered))
