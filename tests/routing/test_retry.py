"""The retry budget and delays."""

from __future__ import annotations

import pytest
from clocks import SetClock

from gateway.routing.retry import RetryBudget, RetryBudgets, delay_s


def withdrawn(budget: RetryBudget, most: int = 100_000) -> int:
    """How many retries can be had at once."""
    count = 0
    while count < most and budget.withdraw():
        count += 1
    return count


def test_an_outage_is_not_multiplied() -> None:
    """D26: 200 requests a second for 30 seconds, each failing: at most 20 % retries and 10 a second."""
    clock = SetClock(50.0)
    budget = RetryBudget(clock)
    retries = 0
    for _ in range(30 * 200):
        budget.deposit()
        retries += withdrawn(budget, 2)
        clock.advance(1 / 200)
    assert 1_400 <= retries <= 0.2 * 6_000 + 300


def test_a_quiet_gateway_can_retry_at_once() -> None:
    """A second's worth is there from the start, and again after a second."""
    clock = SetClock(50.0)
    budget = RetryBudget(clock)
    assert withdrawn(budget) == 10
    clock.advance(2)
    assert withdrawn(budget) == 10


def test_a_retry_that_was_not_made_can_be_made_later() -> None:
    """And is no more than it was."""
    budget = RetryBudget(SetClock(50.0))
    assert withdrawn(budget, 4) == 4
    budget.give_back()
    assert withdrawn(budget) == 7


def test_unspent_retries_are_lost() -> None:
    """What a busy hour earned does not pay for a later outage."""
    clock = SetClock(50.0)
    budget = RetryBudget(clock)
    for _ in range(1000):
        budget.deposit()
    assert withdrawn(budget, 1) == 1
    clock.advance(3600)
    assert withdrawn(budget) == 10


def test_one_tiers_outage_leaves_the_others_their_retries() -> None:
    """Each tier has a budget of its own, the same one each time."""
    budgets = RetryBudgets(SetClock(50.0))
    assert withdrawn(budgets.of("fast")) == 10
    assert withdrawn(budgets.of("fast")) == 0
    assert withdrawn(budgets.of("smart")) == 10


@pytest.mark.parametrize(
    ("failures", "chance", "expected"),
    [(1, 0.0, 0.0), (1, 1.0, 0.25), (2, 1.0, 0.5), (3, 0.5, 0.5), (5, 1.0, 4.0), (100, 1.0, 4.0)],
)
def test_delays_grow_and_are_spread_over_their_whole_length(failures: int, chance: float, expected: float) -> None:
    """Full jitter up to a quarter of a second, doubled each time, at most four."""
    assert delay_s(failures, chance) == expected
