"""When to try again: retries are paid from a budget, so that they cannot multiply an outage."""

from __future__ import annotations

from collections.abc import Callable

SHARE = 0.2
"""Retries earned by each request."""
PER_SECOND = 10.0
"""Retries there are anyway, so that a quiet gateway can retry at all."""
LIFETIME_S = 10.0
"""What is not spent within this time is lost."""
_FILLED_EVERY_S = 0.05
"""Requests that follow each other more closely are counted without working out what has trickled in or run out."""
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 4.0


class RetryBudget:
    """Retries that may still be made: a token bucket that holds what `LIFETIME_S` seconds earn.

    `clock` gives monotonic seconds.
    """

    __slots__ = ("_clock", "_earned", "_filled_at", "_tokens")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._filled_at = clock() + 1.0  # the first second's retries are there at once
        self._tokens = PER_SECOND
        self._earned = 0.0
        """Earned by requests within about the last lifetime; what the bucket holds beyond its own rate."""

    def deposit(self) -> None:
        """Counts a request."""
        if self._clock() - self._filled_at > _FILLED_EVERY_S:
            self._refill()
        self._earned += SHARE
        self._tokens += SHARE

    def withdraw(self) -> bool:
        """Takes one retry from the budget, if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Puts back a retry that was not made."""
        self._tokens += 1

    def _refill(self) -> None:
        now = self._clock()
        passed_s = now - self._filled_at
        if passed_s > 0:
            self._filled_at = now
            self._earned *= max(0.0, 1 - passed_s / LIFETIME_S)
            self._tokens = min(self._tokens + PER_SECOND * passed_s, PER_SECOND + self._earned)


class RetryBudgets:
    """A budget for each tier, so that an outage of one leaves the others theirs."""

    __slots__ = ("_by_tier", "_clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_tier: dict[str, RetryBudget] = {}

    def of(self, tier: str) -> RetryBudget:
        """The budget of the tier of this name; names come from the catalog, so there is an end to them."""
        budget = self._by_tier.get(tier)
        if budget is None:
            budget = self._by_tier[tier] = RetryBudget(self._clock)
        return budget


def delay_s(failures: int, chance: float) -> float:
    """How long to wait before calling the same deployment again: full jitter, with `chance` in [0, 1).

    Another deployment is better asked at once.
    """
    return chance * min(LONGEST_DELAY_S, FIRST_DELAY_S * (1 << min(failures - 1, 16)))
