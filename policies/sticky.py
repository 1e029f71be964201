"""Keeping a conversation where its prompt cache is warm."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.money import PICO_PER_NANO
from gateway.types import Candidate
from policies.base import Context, Decision


class Sticky:
    """Puts the deployment that served the session so far first, while its warm prompt makes it no dearer than the rest.

    The comparison takes the whole prompt as cached there, which long conversations come close to. Without a price for
    cached reads nothing is known to be won, so the order stays.
    """

    name = "sticky"

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        warm = next((c for c in candidates if c.deployment.name == context.facts.sticky), None)
        if warm is None or warm is candidates[0] or warm.price is None or warm.expected_nano is None:
            return Decision(candidates)
        needs = context.needs
        rates = warm.price.rates_at(needs.input_tokens, context.facts.now)
        if rates.cache_read is None:
            return Decision(candidates)
        saved_nano = needs.input_tokens * (rates.input - rates.cache_read) // PICO_PER_NANO
        others = [c.expected_nano for c in candidates if c is not warm and c.expected_nano is not None]
        if others and warm.expected_nano - saved_nano > min(others):
            return Decision(candidates)
        return Decision([warm, *(c for c in candidates if c is not warm)])
