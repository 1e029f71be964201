"""Money as text is exact and plain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import usd


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (412_000, "0.000412"),
        (1_500_000_000, "1.50"),
        (10_000_000_000, "10.00"),
        (-5, "-0.000000005"),
        (-2_000_000_000, "-2.00"),
    ],
)
def test_dollars_have_two_digits_after_the_point_or_as_many_as_they_need(nano: int, text: str) -> None:
    assert usd(nano) == text


@given(nano=st.integers(-(10**17), 10**17))
def test_money_as_text_is_exact(nano: int) -> None:
    """At least cents, no more digits than needed, and back again."""
    text = usd(nano)
    whole, _, digits = text.lstrip("-").partition(".")
    assert 2 <= len(digits) <= 9
    assert (digits[-1] != "0" or len(digits) == 2) and whole.isdigit()
    assert (-1 if text[0] == "-" else 1) * int(whole + digits.ljust(9, "0")) == nano
