"""What is remembered of a caller and makes its next plan better; only looked up where something could be known."""

from __future__ import annotations

import asyncio

from msgspec import Struct
from redis.exceptions import RedisError

from gateway.callers.caller import Caller
from gateway.gateway import Gateway
from gateway.ledger.limits import Limits
from gateway.routing.sessions import place_of
from gateway.types import Options

SHARE_KEPT_S = 5.0
"""How long the store's word on a budget counts; what this process spends since is known without asking."""
_PATIENCE_S = 0.25


class Recalled(Struct, frozen=True):
    """What `decide()` takes of it."""

    session: str | None = None
    """Where the session is kept; None where the request names none."""
    sticky: str | None = None
    budget_left_share: float | None = None


NOTHING = Recalled()


def limits_of(gateway: Gateway, caller: Caller) -> Limits | None:
    """What limits every request of this caller, as far as it is known without asking: its own limits and its team's."""
    rules = gateway.rules.known(caller.tenant)
    return caller.limits if rules is None else rules.of_caller(caller)


async def recall(gateway: Gateway, caller: Caller, limits: Limits | None, model: str, options: Options) -> Recalled:
    """The deployment of the caller's session, and the share left of its budgets.

    `limits` are those of `limits_of()`, `model` is the name that the caller sent. The store is asked for a session that
    this process does not know, and for budgets where the tier steps down on a low one; while it is away, what is known
    here must do.
    """
    routing = gateway.routing()
    target = routing.snapshot.targets.get(model)
    if target is None:
        return NOTHING
    place = sticky = share = None
    if options.session is not None:
        place = place_of(caller.tenant, caller.key_id, target.name, options.session)
        sticky = await gateway.sessions.find(place)
    if limits is not None and limits.budgets:
        share = gateway.ledger.left_share(limits)
        if routing.planner.steps_down(target.tier):
            share = await _told_by_store(gateway, caller, limits, share)
    return Recalled(place, sticky, share)


async def _told_by_store(gateway: Gateway, caller: Caller, limits: Limits, known_here: float | None) -> float | None:
    """The share as the store has it, other replicas' spending included, or less where this process knows of less."""
    share = gateway.budget_shares.get(caller.key_id)
    if share is None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                spent = [sum(await gateway.ledger.spent(caller.tenant, budget)) for budget in limits.budgets]
        except (RedisError, OSError):
            return known_here
        left = [
            1 - used / budget.limit_nano if budget.limit_nano else 0.0
            for used, budget in zip(spent, limits.budgets, strict=True)
        ]
        share = max(0.0, min(left))
        gateway.budget_shares.put(caller.key_id, share)
    return share if known_here is None else min(share, known_here)
