"""What this request is likely to cost, and the order by it. Integers throughout: pico-USD rates, nano-USD costs."""

from __future__ import annotations

from gateway.money import PICO_PER_NANO
from gateway.types import Candidate, Price
from policies.base import Context
from policies.rules import Order


class Cheapest(Order):
    """Lowest expected cost of this request first; deployments without a price last."""

    name = "cheapest"

    def rank(self, candidate: Candidate, context: Context) -> tuple[bool, int]:
        cost = candidate.expected_nano
        return (True, 0) if cost is None else (False, cost)


def charge(price: Price, input_tokens: int, output_tokens: int, at: float) -> int:
    """Nano-USD, rounded up, for so many tokens; all input taken as uncached, since nobody knows before the call."""
    rates = price.rates_at(input_tokens, at)
    return -(-(input_tokens * rates.input + output_tokens * rates.output) // PICO_PER_NANO)
