"""The two shapes that most rules have: a filter gives a reason against a candidate, an order gives a rank to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gateway.types import Candidate, Drop, Needs, Stats
from policies.base import Context, Decision

ENOUGH_SAMPLES = 10
"""From how many answers on a learned mean is trusted."""
DEFAULT_OUTPUT_TOKENS = 256
"""What an answer is taken to be long where neither the caller nor experience says."""


class Filter(ABC):
    """A rule that drops candidates and keeps the order of the rest."""

    name: str

    @abstractmethod
    def against(self, candidate: Candidate, context: Context) -> str | None:
        """Why this candidate may not serve the request, naming the values compared; None if it may."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        kept: list[Candidate] = []
        dropped: list[Drop] = []
        for candidate in candidates:
            reason = self.against(candidate, context)
            if reason is None:
                kept.append(candidate)
            else:
                dropped.append(Drop(candidate.deployment.name, self.name, reason))
        return Decision(kept, dropped)


class Order(ABC):
    """A rule that sorts by rank, lowest first. Sorting is stable: equals stay as the rules before left them."""

    name: str

    @abstractmethod
    def rank(self, candidate: Candidate, context: Context) -> Any:
        """What to sort by."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        if len(candidates) < 2:
            return Decision(candidates)
        return Decision(sorted(candidates, key=lambda candidate: self.rank(candidate, context)))


def expected_input_tokens(needs: Needs, stats: Stats | None) -> int:
    """How many tokens this deployment is likely to count the prompt as, by what was learned of its tokenizer."""
    if stats is None or not stats.bytes_per_token or not needs.text_bytes:
        return needs.input_tokens
    return int(needs.text_bytes / stats.bytes_per_token) + 1


def expected_output_tokens(cap: int | None, stats: Stats | None) -> int:
    """How long one choice is likely to be: what was learned, within the caller's cap; else the cap; else a default."""
    if stats is not None and stats.samples >= ENOUGH_SAMPLES:
        learned = int(stats.output_tokens)
        return learned if cap is None or learned < cap else cap
    return DEFAULT_OUTPUT_TOKENS if cap is None else cap
