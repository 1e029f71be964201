"""What is known against a deployment right now: open breaker, cool-down, no room."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.types import Candidate, Facts, Health
from policies.base import Context, Decision
from policies.rules import Filter

_WORDS = {
    "open": "breaker open",
    "half_open": "breaker half open, its trials are under way",
    "resting": "cooling down",
    "full": "at its limit of concurrent requests",
    "ejected": "set aside as an outlier",
}


class Healthy(Filter):
    """Drops deployments that have something against them in the health view.

    Where that leaves none, those that rest, are set aside, or whose open breaker is a last resort are kept after all,
    the first to be back first: these move traffic elsewhere, and where there is no elsewhere the provider's own answer
    serves the caller better than ours.
    """

    name = "healthy"

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        if not context.facts.health:
            return Decision(candidates)
        decision = super().apply(candidates, context)
        return decision if decision.kept else _last_resort(candidates, decision, context.facts)

    def against(self, candidate: Candidate, context: Context) -> str | None:
        health = context.facts.health.get(candidate.deployment.name)
        if health is None:
            return None
        if health.until_at is not None and health.until_at <= context.facts.now:
            return None
        reason = _WORDS[health.state]
        if health.detail:
            reason += f" ({health.detail})"
        if health.until_at is not None:
            reason += f", for {health.until_at - context.facts.now:.1f} s more"
        return reason


def _last_resort(candidates: Sequence[Candidate], decision: Decision, facts: Facts) -> Decision:
    spare = [c for c in candidates if _merely_steered(facts.health[c.deployment.name])]
    spare.sort(key=lambda c: facts.health[c.deployment.name].until_at or 0.0)
    names = {c.deployment.name for c in spare}
    return Decision(spare, [drop for drop in decision.dropped if drop.deployment not in names])


def _merely_steered(health: Health) -> bool:
    return health.last_resort or health.state in ("resting", "ejected")
