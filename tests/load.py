"""Requests that come at their own pace, whether or not those before them have been answered."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def steadily(
    ask: Callable[[int], Result],
    *,
    per_second: float,
    seconds: float,
    threads: int,
    until: Callable[[], bool] = lambda: False,
) -> list[Result]:
    """Calls `ask` with 0, 1, …, each at its time, from as many threads as may be waiting for answers at once.

    Ends early once `until()` holds.
    """
    numbers = itertools.count()
    count = round(per_second * seconds)
    start = time.monotonic() + 0.1
    results: list[Result] = []

    def work(_: int) -> None:
        while (number := next(numbers)) < count and not until():
            time.sleep(max(0.0, start + number / per_second - time.monotonic()))
            results.append(ask(number))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return results


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
