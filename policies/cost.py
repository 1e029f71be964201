"""What this request is likely to cost, and the order by it. Integers throughout: pico-USD rates, nano-USD costs."""

from __future__ import annotations

from gateway.types import PICO_PER_NANO, Candidate, Price, Rates
from policies.base import Context
from policies.rules import Order


class Cheapest(Order):
    """Lowest expected cost of this request first; deployments without a price last."""

    name = "cheapest"

    def rank(self, candidate: Candidate, context: Context) -> tuple[bool, int]:
        cost = candidate.expected_nano
        return (True, 0) if cost is None else (False, cost)


def rates_at(price: Price, prompt_tokens: int, at: float) -> Rates:
    """The rates of a row that apply to a prompt of this length at this time: off-peak window, else cliff, else base."""
    if price.off_peak:
        minute = int(at) // 60 % 1440
        for window in price.off_peak:
            start, end = window.start_minute, window.end_minute
            if start <= minute < end if start <= end else minute >= start or minute < end:
                return window.rates
    rates = price.rates
    if price.cliffs:
        for cliff in sorted(price.cliffs, key=lambda cliff: cliff.above_tokens):
            if prompt_tokens > cliff.above_tokens:
                rates = cliff.rates
    return rates


def charge(price: Price, input_tokens: int, output_tokens: int, at: float) -> int:
    """Nano-USD, rounded up, for so many tokens; all input taken as uncached, since nobody knows before the call."""
    rates = price.rates if not (price.cliffs or price.off_peak) else rates_at(price, input_tokens, at)
    return -(-(input_tokens * rates.input + output_tokens * rates.output) // PICO_PER_NANO)
