"""Limits on money: a known price, and a cap on what the request may cost."""

from __future__ import annotations

from gateway.money import usd
from gateway.types import Candidate
from policies.base import Context
from policies.cost import charge
from policies.rules import Filter


class PriceKnown(Filter):
    """Drops deployments without a price in force: unknown is never free.

    As an implicit rule it acts for callers with a budget only; named in a tier's chain it acts always.
    """

    name = "price_known"

    def __init__(self, *, always: bool = True) -> None:
        self.always = always

    def against(self, candidate: Candidate, context: Context) -> str | None:
        if candidate.price is not None or not (self.always or context.facts.priced_only):
            return None
        return "no price in force" if self.always else "no price in force, so it cannot be charged to a budget"


class MaxCost(Filter):
    """Drops deployments on which the request would cost more than a cap: the caller's, or the tier's own if lower.

    Where the caller capped the output, the whole cap is priced; elsewhere the expected length is.
    """

    name = "max_cost"

    def __init__(self, cap_nano: int | None = None) -> None:
        self.cap_nano = cap_nano

    def against(self, candidate: Candidate, context: Context) -> str | None:
        caps = [cap for cap in (self.cap_nano, context.options.max_cost_nano) if cap is not None]
        if not caps:
            return None
        if candidate.price is None or candidate.expected_nano is None:
            return "no price in force, so its cost cannot be held against the cap"
        needs, cost = context.needs, candidate.expected_nano
        if needs.output_tokens is not None:
            output_tokens = needs.output_tokens * needs.choices
            cost = charge(candidate.price, candidate.input_tokens, output_tokens, context.facts.now)
        if cost <= min(caps):
            return None
        return f"about ${usd(cost)} is more than the cap of ${usd(min(caps))}"
