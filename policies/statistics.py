"""Orders by what was observed of each deployment: speed, reliability, and a balance of these with cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.types import Candidate
from policies.base import Context, Decision
from policies.rules import Order, expected_output_tokens


class Fastest(Order):
    """Shortest expected time to the whole answer first: time to first token plus output at the observed speed.

    What was never measured goes first, so that it gets measured; what has only failed so far goes last.
    """

    name = "fastest"

    def rank(self, candidate: Candidate, context: Context) -> tuple[int, float]:
        time_ms = expected_ms(candidate, context)
        if time_ms is not None:
            return 1, time_ms
        stats = context.facts.stats.get(candidate.deployment.name)
        return (2, 0.0) if stats is not None and stats.error_rate else (0, 0.0)


class Reliable(Order):
    """Lowest error rate first, in whole percent, so that noise does not reorder equals. Unobserved counts as none."""

    name = "reliable"

    def rank(self, candidate: Candidate, context: Context) -> int:
        return round(_error_rate(candidate, context) * 100)


class Balanced:
    """Lowest weighted sum of scores first: `cost`, `latency` (time to the whole answer) and `reliability` (error rate).

    Each score runs from 0 (best of these candidates) to 1 (worst); an unknown value scores 0.5. Weights are relative.
    """

    name = "balanced"

    def __init__(self, weights: Mapping[str, float]) -> None:
        total = sum(weights.values())
        self.weights = {name: weight / total for name, weight in weights.items() if weight}

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        if len(candidates) < 2:
            return Decision(candidates)
        sums = [0.0] * len(candidates)
        for name, weight in self.weights.items():
            scores = _normalised([SCORES[name](candidate, context) for candidate in candidates])
            sums = [so_far + weight * score for so_far, score in zip(sums, scores, strict=True)]
        # Rounded, so that equal candidates stay in order however the floats were added up.
        ranks = sorted(range(len(candidates)), key=lambda i: round(sums[i], 9))
        return Decision([candidates[i] for i in ranks])


def expected_ms(candidate: Candidate, context: Context) -> float | None:
    """Milliseconds until the answer is whole; None where the deployment was not measured yet."""
    stats = context.facts.stats.get(candidate.deployment.name)
    if stats is None or stats.ttft_ms <= 0:
        return None
    if stats.tokens_per_s <= 0:
        return stats.ttft_ms
    output_tokens = expected_output_tokens(context.needs.output_tokens, stats)
    return stats.ttft_ms + output_tokens * 1000 / stats.tokens_per_s


def _cost(candidate: Candidate, context: Context) -> float | None:
    return candidate.expected_nano


def _error_rate(candidate: Candidate, context: Context) -> float:
    stats = context.facts.stats.get(candidate.deployment.name)
    return stats.error_rate if stats is not None else 0.0


SCORES: Mapping[str, Callable[[Candidate, Context], float | None]] = {
    "cost": _cost,
    "latency": expected_ms,
    "reliability": _error_rate,
}


def _normalised(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span = high - low
    return [0.5 if value is None else (value - low) / span if span else 0.0 for value in values]
