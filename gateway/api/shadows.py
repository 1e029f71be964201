"""Copies of requests to other deployments: sent after the caller has its answer, booked apart, thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from gateway.api.decide import Planned
from gateway.api.exchange import Exchange
from gateway.background import end
from gateway.callers.caller import Caller
from gateway.callers.roles import Role
from gateway.errors import GatewayError, UpstreamError
from gateway.gateway import Gateway
from gateway.ledger.attempt import MAX_RETRY
from gateway.ledger.limits import Budget, Limits
from gateway.log import get_logger
from gateway.types import Candidate, Copy, Deployment
from gateway.upstream.call import Call
from policies.capability import offered
from policies.rules import expected_input_tokens

KEY = "shadow"
"""The key id that copies are booked under."""
MOST_AT_ONCE = 16
"""Copies under way in one process; what comes beyond is not copied."""
_MOST_CALLERS = 1_000
_WITHOUT: Mapping[str, bytes | None] = {"stream": None, "stream_options": None}

log = get_logger("shadows")


class Shadows:
    """Sends copies. Nothing that becomes of one reaches a caller."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: dict[tuple[str, Copy], Caller] = {}

    def follow(self, exchange: Exchange, planned: Planned) -> None:
        """Copies a request that was answered to wherever its arms say."""
        for number, arm in enumerate(planned.plan.arms):
            if arm.copy is None:
                continue
            outcome = "busy"
            if len(self._tasks) < MOST_AT_ONCE and not exchange.gateway.draining:
                copied = self._copied(planned, arm.copy)
                task = asyncio.create_task(_send(exchange.gateway, exchange.request_id, copied, arm.copy, number))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                outcome = "begun"
            exchange.gateway.metrics.shadows.labels(arm.experiment, outcome).inc()

    def _copied(self, planned: Planned, copy: Copy) -> Planned:
        """The same request without its stream, made by a caller of its own."""
        return replace(
            planned,
            caller=self._caller(planned.caller.tenant, copy),
            chat=planned.chat.replace(_WITHOUT),
            options=replace(planned.options, tags=(), session=None, deadline_s=None),
            plan=replace(planned.plan, arms=(copy.arm,)),
            session=None,
        )

    def _caller(self, tenant: str, copy: Copy) -> Caller:
        """Who pays for copies: a key without a record, which has just the budget that the catalog declares."""
        caller = self._callers.get((tenant, copy))
        if caller is None:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            budget = Budget(f"shadow-{copy.arm.experiment}", copy.budget_nano, copy.per, scope="shadow")
            caller = Caller(tenant, KEY, KEY, Role.APP, limits=Limits(tenant, (budget,)))
            self._callers[tenant, copy] = caller
        return caller

    async def close(self) -> None:
        """Ends what is under way; each copy is settled for what is known of it."""
        await end(*self._tasks)


async def _send(gateway: Gateway, request_id: str, copied: Planned, copy: Copy, number: int) -> None:
    deployment = _deployment(copied, copy)
    permit = None
    if deployment is not None:
        permit = gateway.breakers.admit(
            deployment.name, deployment.concurrency, of_provider=deployment.provider.concurrency
        )
    if deployment is None or permit is None:
        log.info("shadow_not_sent", experiment=copy.arm.experiment, reason="no usable deployment")
        return
    input_tokens = expected_input_tokens(copied.needs, copied.facts.stats.get(deployment.name))
    candidate = Candidate(deployment, deployment.price_at(gateway.clock()), None, input_tokens)
    copied = replace(copied, plan=replace(copied.plan, candidates=(candidate,)))
    exchange = Exchange(gateway, gateway.clock(), request_id)
    call = Call(exchange, copied, candidate, permit, number=MAX_RETRY - number)
    failed = False
    try:
        await call.open()
        call.complete()
    except GatewayError as error:
        call.fail(error)
        log.info("shadow_failed", experiment=copy.arm.experiment, kind=error.kind.value)
        if not isinstance(error, UpstreamError):
            return  # a spent budget, say: it never left, so it tells nothing of its arm
        failed = True
    except Exception as error:
        call.fail(error)
        log.error("shadow_broke", experiment=copy.arm.experiment, request_id=request_id, exc_info=error)
        return
    except asyncio.CancelledError as error:
        call.fail(error)
        raise
    gateway.arms.count(
        copied.caller.tenant,
        (copy.arm,),
        exchange.at,
        failed=failed,
        latency_ms=(gateway.monotonic() - exchange.started) * 1000,
        ttft_ms=exchange.ttft_ms,
    )


def _deployment(copied: Planned, copy: Copy) -> Deployment | None:
    """The first usable deployment of the copy's target that can do what the request needs."""
    snapshot = copied.routing.snapshot
    for deployment in snapshot.deployments.values():
        model = deployment.model
        named = copy.to in (deployment.name, model.name)
        usable = deployment.provider.unavailable is None and model.status in ("enabled", "deprecated")
        capable = not copied.needs.mask & ~offered(deployment)
        fits = model.input_tokens is None or copied.needs.input_tokens <= model.input_tokens
        if named and usable and capable and fits:
            return deployment
    return None
