"""Why a request has no candidate, told to the one who can act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.errors import CallerError, GatewayError, Kind, RoutingError
from gateway.routing.trail import Trail
from gateway.types import Drop, Facts, Needs, capabilities_of
from policies.health import Healthy
from policies.status import InUse

_MOST_SHOWN = 10
_SOON_S = 1.0
"""When to come back where only room is missing."""

Reroute = Callable[[Facts], tuple[bool, Trail]]
"""Whether the same request has a candidate under other facts, and how that came about."""


def refusal(alias: str, mask: int, needs: Needs, facts: Facts, reroute: Reroute) -> GatewayError:
    """The error for a request that has no candidate under `facts`.

    What would help decides whose it is: better health, nobody's (503, come back); a key with more rights, the caller's
    (403); a usable provider, the operators' (503, do not come back); else no model can do what is asked (400).
    """
    _, trail = reroute(facts)
    known = (drop for drop in trail.dropped if _may_know(drop, facts))
    drops = sorted(known, key=lambda drop: drop.rule == InUse.name)  # what this request met with comes first
    if facts.health and reroute(replace(facts, health={}))[0]:
        return RoutingError(
            Kind.NONE_HEALTHY,
            f"No deployment for '{alias}' can take this request right now: {_listed(drops)}.",
            retry_after_s=_soonest(drops, facts),
            details=_details(drops),
        )
    if facts.allowed_models is not None and reroute(replace(facts, allowed_models=None))[0]:
        return CallerError(
            Kind.FORBIDDEN, f"This key may not use the models that '{alias}' needs for this request.", param="model"
        )
    if all(drop.rule == InUse.name for drop in drops):
        return RoutingError(
            Kind.NONE_HEALTHY,
            f"No deployment for '{alias}' is in use: {_listed(drops)}.",
            code="no_usable_deployment",
            retryable=False,
            details=_details(drops),
        )
    asked = ", ".join(capabilities_of(mask)) or "no capability"
    return RoutingError(
        Kind.NO_CANDIDATE,
        f"No model for '{alias}' can serve this request, which needs {asked} for about {needs.input_tokens:,} input "
        f"tokens: {_listed(drops)}.",
        param="model",
        details={"needs": list(capabilities_of(mask)), **_details(drops)},
    )


def _may_know(drop: Drop, facts: Facts) -> bool:
    """Whether the caller may hear of this deployment: one whose model its key is not allowed is kept from it."""
    allowed = facts.allowed_models
    model = drop.deployment.partition("/")[2].partition("#")[0]
    return allowed is None or model in allowed or drop.deployment in allowed


def _soonest(drops: Sequence[Drop], facts: Facts) -> float:
    """Seconds until the first unhealthy deployment may be back."""
    waits = []
    for drop in drops:
        if drop.rule == Healthy.name:
            until_at = facts.health[drop.deployment].until_at
            waits.append(_SOON_S if until_at is None else max(0.0, until_at - facts.now))
    return min(waits, default=_SOON_S)


def _listed(drops: Sequence[Drop]) -> str:
    shown = [f"{drop.deployment}: {drop.reason}" for drop in drops[:_MOST_SHOWN]]
    if len(drops) > _MOST_SHOWN:
        shown.append(f"and {len(drops) - _MOST_SHOWN} more")
    return "; ".join(shown) or "it has no deployment"


def _details(drops: Sequence[Drop]) -> dict[str, Any]:
    return {
        "candidates": [
            {"deployment": drop.deployment, "rule": drop.rule, "reason": drop.reason} for drop in drops[:_MOST_SHOWN]
        ]
    }
