"""The deployments that could serve a tier for given capabilities: all of a plan that requests do not change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gateway.types import Candidate, Deployment, Drop, Facts, Needs, Options, Price, Tier
from policies.base import Context, Policy
from policies.capability import Capable
from policies.cost import charge
from policies.health import Healthy
from policies.rules import Order, expected_input_tokens, expected_output_tokens
from policies.status import InUse

_STATIC = (InUse(), Capable())


class Pool:
    """The usable, capable deployments of a tier for one capability mask, with the prices in force.

    Valid from `since` until `until` (seconds since the epoch), when a price changes or a model retires.
    """

    __slots__ = (
        "deployments",
        "dropped",
        "for_one",
        "most_input_tokens",
        "most_output_tokens",
        "priced",
        "since",
        "tier",
        "until",
        "usual",
    )

    def __init__(self, tier: Tier, mask: int, now: float, usual: Sequence[Policy] = ()) -> None:
        """`usual` are the rules that act on every request of the tier."""
        context = Context(Needs(mask, 0, 0, None), Options(), Facts(now), tier)
        listed = dict.fromkeys(tier.deployments)
        candidates, dropped = _select(listed, context)
        if not candidates and all(drop.rule == InUse.name for drop in dropped):
            candidates, also_dropped = _select([d for d in tier.fallback if d not in listed], context)
            dropped = [*dropped, *also_dropped]
        self.tier = tier
        self.usual = usual
        self.for_one = [rule for rule in usual if not isinstance(rule, Order | Healthy)]
        """Those that matter to a single deployment with nothing against it."""
        self.deployments: tuple[tuple[Deployment, Price | None], ...] = tuple(
            (candidate.deployment, candidate.price) for candidate in candidates
        )
        self.dropped: tuple[Drop, ...] = tuple(dropped)
        self.priced = all(candidate.price is not None for candidate in candidates)
        models = [candidate.deployment.model for candidate in candidates]
        self.most_input_tokens = min((m.input_tokens for m in models if m.input_tokens is not None), default=math.inf)
        """A prompt up to this length fits everywhere."""
        self.most_output_tokens = min(
            (m.output_tokens for m in models if m.output_tokens is not None), default=math.inf
        )
        self.since, self.until = _validity((*tier.deployments, *tier.fallback), now)

    def candidates(self, needs: Needs, facts: Facts) -> Sequence[Candidate]:
        """The deployments with what is expected of this request on each."""
        stats = facts.stats
        found = []
        for deployment, price in self.deployments:
            learned = stats.get(deployment.name)
            input_tokens = expected_input_tokens(needs, learned)
            expected_nano = None
            if price is not None:
                output_tokens = expected_output_tokens(needs.output_tokens, learned) * needs.choices
                expected_nano = charge(price, input_tokens, output_tokens, facts.now)
            found.append(Candidate(deployment, price, expected_nano, input_tokens))
        return found


def _select(deployments: Iterable[Deployment], context: Context) -> tuple[Sequence[Candidate], list[Drop]]:
    now = context.facts.now
    candidates: Sequence[Candidate] = [Candidate(d, d.price_at(now), None, 0) for d in deployments]
    dropped: list[Drop] = []
    for rule in _STATIC:
        decision = rule.apply(candidates, context)
        candidates = decision.kept
        dropped.extend(decision.dropped)
    return candidates, dropped


def _validity(deployments: Sequence[Deployment], now: float) -> tuple[float, float]:
    """The span around `now` in which no price begins and no model retires."""
    events = [price.from_at for deployment in deployments for price in deployment.prices]
    events += [d.model.retires_at for d in deployments if d.model.retires_at is not None]
    past = [at for at in events if at <= now]
    future = [at for at in events if at > now]
    return max(past, default=-math.inf), min(future, default=math.inf)
