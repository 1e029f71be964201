"""What is remembered of a caller and makes its next plan better; only looked up where something could be known."""

from __future__ import annotations

import asyncio

from msgspec import Struct
from redis.exceptions import RedisError

from gateway.callers.caller import Caller
from gateway.callers.roles import Role
from gateway.callers.rules import RuleSet
from gateway.catalog.snapshot import Target
from gateway.chat import Chat
from gateway.gateway import Gateway, Routing
from gateway.ledger.limits import Limits
from gateway.routing.resolve import resolve
from gateway.routing.sessions import place_of
from gateway.types import Options

SHARE_KEPT_S = 5.0
"""How long the store's word on a budget counts; what this process spends since is known without asking."""
_PATIENCE_S = 0.25
_ADMIN = Role.ADMIN


class Asked(Struct, frozen=True):
    """A request, and what it is made to, before anything is remembered or decided of it."""

    caller: Caller
    chat: Chat
    options: Options
    routing: Routing
    target: Target


def asked(gateway: Gateway, caller: Caller, chat: Chat, options: Options) -> Asked:
    """The request with the tier, model or deployment that it names.

    Raises:
        CallerError: the name is not known, or what it names may not be used.
    """
    routing = gateway.routing()
    target = resolve(routing.snapshot, chat.model, options, previews=caller.role is _ADMIN)
    return Asked(caller, chat, options, routing, target)


class Recalled(Struct, frozen=True):
    """What `decide()` takes of it."""

    limits: Limits | None = None
    """Everything that the request falls under."""
    session: str | None = None
    """Where the session is kept; None where the request names none."""
    sticky: str | None = None
    budget_left_share: float | None = None


_NOTHING = Recalled()


def known(gateway: Gateway, asked: Asked) -> Recalled:
    """What limits this request, as far as that is known without asking."""
    rules = gateway.rules.known(asked.caller.tenant)
    return Recalled(asked.caller.limits if rules is None else _limits(rules, asked))


def at_hand(gateway: Gateway, asked: Asked) -> Recalled | None:
    """What `recall()` gives, where nobody has to be asked; None where somebody may have to be."""
    rules = gateway.rules.known(asked.caller.tenant)
    if rules is None or asked.options.session is not None:
        return None
    recalled = _without_asking(gateway, asked, rules)
    return None if _depends_on_share(asked, recalled) else recalled


async def recall(gateway: Gateway, asked: Asked) -> Recalled:
    """What limits the request, its session's deployment, and the smallest share left of the budgets it falls under.

    The store is asked for a session that this process does not know, and for budgets where the tier steps down on a low
    one; while it is away, what is known here must do.

    Raises:
        GatewayUnavailable: LEDGER_DOWN, the tenant's rules are not known and the store cannot be asked.
    """
    caller, session = asked.caller, asked.options.session
    rules = gateway.rules.known(caller.tenant) or await gateway.rules.of(caller.tenant)
    recalled = _without_asking(gateway, asked, rules)
    limits, share = recalled.limits, recalled.budget_left_share
    place = sticky = None
    if session is not None:
        place = place_of(caller.tenant, caller.key_id, asked.target.name, session)
        sticky = await gateway.sessions.find(place)
    if limits is not None and _depends_on_share(asked, recalled):
        share = await _told_by_store(gateway, limits, share)
    return Recalled(limits, place, sticky, share)


def _without_asking(gateway: Gateway, asked: Asked, rules: RuleSet) -> Recalled:
    """What limits the request, and the share left of its budgets as far as this process knows it."""
    limits = _limits(rules, asked)
    if limits is None:
        return _NOTHING
    return Recalled(limits, budget_left_share=gateway.ledger.left_share(limits))


def _depends_on_share(asked: Asked, recalled: Recalled) -> bool:
    """Whether a low budget would have another tier serve."""
    return recalled.budget_left_share is not None and asked.routing.planner.steps_down(asked.target.tier)


def _limits(rules: RuleSet, asked: Asked) -> Limits | None:
    """What limits this request by the rules of key, team, tags, tier and session."""
    target, options = asked.target, asked.options
    tier = target.tier.name if target.kind == "tier" else None
    return rules.of_request(asked.caller, tier, options.session, options.tags)


async def _told_by_store(gateway: Gateway, limits: Limits, known_here: float | None) -> float | None:
    """The share as the store has it, other replicas' spending included, or less where this process knows of less."""
    shares = {budget: gateway.budget_shares.get((limits.tenant, budget.id)) for budget in limits.budgets}
    unknown = [budget for budget, share in shares.items() if share is None]
    try:
        async with asyncio.timeout(_PATIENCE_S):
            told = await asyncio.gather(*(gateway.ledger.spent(limits.tenant, budget) for budget in unknown))
    except (RedisError, OSError):
        return known_here
    for budget, spent in zip(unknown, told, strict=True):
        share = max(0.0, 1 - sum(spent) / budget.limit_nano) if budget.limit_nano else 0.0
        gateway.budget_shares.put((limits.tenant, budget.id), share)
        shares[budget] = share
    left = [share for share in (*shares.values(), known_here) if share is not None]
    return min(left)
