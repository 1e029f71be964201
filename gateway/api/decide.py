"""What is decided of a request before the first candidate is asked; the same for live traffic and for explanations."""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct

from gateway.api.recall import Asked, Recalled
from gateway.callers.caller import Caller
from gateway.catalog.snapshot import Target
from gateway.chat import Chat
from gateway.errors import GatewayError
from gateway.gateway import Gateway, Routing
from gateway.routing.batch import Decided
from gateway.routing.decision import recorded_refusal
from gateway.routing.needs import infer_needs
from gateway.types import Deployment, Facts, Needs, Options, Plan

_NONE: frozenset[str] = frozenset()


class Planned(Struct, frozen=True):
    """A request with its plan, and everything that the plan was made from."""

    caller: Caller
    chat: Chat
    options: Options
    routing: Routing
    target: Target
    needs: Needs
    facts: Facts
    plan: Plan
    session: str | None = None
    """Where the deployment of its session is kept; None where it names none."""


def decide(gateway: Gateway, asked: Asked, now: float, recalled: Recalled, *, request_id: str | None = None) -> Planned:
    """Plans a request at `now`, epoch seconds; what came of it is kept under `request_id`, if given.

    Raises:
        CallerError: the target is not allowed to this caller, or the request is none.
        RoutingError: nothing can serve the request, or nothing can now.
    """
    caller, chat, options, routing, target = asked.caller, asked.chat, asked.options, asked.routing, asked.target
    needs = infer_needs(chat, options)
    limits = recalled.limits
    subject, stopped = None, _NONE
    allowed_models = listed_models = None
    if caller.models is not None or caller.denied_models:
        allowed_models = caller.allowed_models(routing.snapshot.models)
        listed_models = None if caller.models is None else allowed_models
    if routing.planner.tries:
        subject, stopped = _subject(caller, chat, options), gateway.canaries.stopped
    facts = Facts(
        now=now,
        seed=gateway.chance.getrandbits(32),
        health=gateway.breakers.view(),
        stats=gateway.statistics.lately(),
        budget_left_share=recalled.budget_left_share,
        priced_only=limits is not None and bool(limits.budgets),
        allowed_tiers=caller.tiers,
        allowed_models=allowed_models,
        sticky=recalled.sticky,
        labels=caller.labels,
        subject=subject,
        stopped=stopped,
        listed_models=listed_models,
    )
    keep_as = request_id if gateway.decisions.kept else None
    try:
        plan = routing.planner.plan(chat.model, target, needs, options, facts, explain=options.explain)
    except GatewayError as error:
        if keep_as is not None:
            refused = recorded_refusal(
                routing.planner, chat.model, target, needs, options, facts, error, tenant=caller.tenant
            )
            gateway.decisions.record(keep_as, refused)
        raise
    planned = Planned(caller, chat, options, routing, target, needs, facts, plan, recalled.session)
    if keep_as is not None:
        gateway.decisions.keep(Decided(keep_as, routing.planner, target, needs, options, facts, plan, caller.tenant))
    return planned


def _subject(caller: Caller, chat: Chat, options: Options) -> int | None:
    """A digest of who stays in one arm: the key's session, else its user."""
    who = options.session or chat.head.user
    if who is None:
        return None
    return int.from_bytes(blake2b(f"{caller.key_id}\0{who}".encode("utf-8", "replace"), digest_size=8).digest())


def remember_session(gateway: Gateway, planned: Planned, session: str, answered: Deployment) -> None:
    """Keeps for the next request of this session who serves it."""
    tier = planned.target.tier
    conversations = planned.routing.planner.conversations
    gateway.sessions.put(session, conversations.goes_on(tier, planned.facts.sticky, answered))
