"""Periods of budgets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.ledger.limits import MAX_LIMIT_NANO, Budget, Cap, Limits, Per, resets_at, window

NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
NEW_YEAR = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("per", "counter", "end"),
    [
        ("hour", "b:x:2026123123", NEW_YEAR),
        ("day", "b:x:20261231", NEW_YEAR),
        ("month", "b:x:202612", NEW_YEAR),
        ("total", "b:x:total", None),
    ],
)
def test_a_period_ends_at_the_next_utc_boundary(per: Per, counter: str, end: int | None) -> None:
    """A total has no end, and its counter is never forgotten."""
    budget = Budget("x", 5, per)
    pinned = window(budget, NEW_YEARS_EVE + 0.9)
    assert pinned.counter == counter
    assert resets_at(budget, NEW_YEARS_EVE) == end
    assert pinned.forget_at == (end + 35 * 86_400 if end else 0)


def test_a_february_day_is_in_february() -> None:
    """The month ends with its own last day."""
    at = datetime(2028, 2, 29, 12, tzinfo=UTC).timestamp()
    assert resets_at(Budget("x", 5, "month"), at) == datetime(2028, 3, 1, tzinfo=UTC).timestamp()


def test_limits_beyond_what_the_store_can_compare_are_refused() -> None:
    """Doubles are exact to 2^53."""
    Budget("x", MAX_LIMIT_NANO, "day")
    with pytest.raises(ValueError, match=r"\$9,000,000"):
        Budget("x", MAX_LIMIT_NANO + 1, "day")
    with pytest.raises(ValueError, match="at least 1"):
        Cap("k1", 0)


def test_soft_budgets_alone_are_not_enforced() -> None:
    """Nobody waits for the store because of them."""
    assert not Limits("main", budgets=(Budget("x", 5, "day", hard=False),)).enforced
    assert Limits("main", budgets=(Budget("x", 5, "day"),)).enforced
    assert Limits("main", rpm=(Cap("k1", 5),)).enforced
