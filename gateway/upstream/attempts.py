"""The try loop: candidates in order until one answers, before the first byte only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gateway.api.decide import Planned
from gateway.api.exchange import Exchange
from gateway.errors import CallerError, GatewayError, Kind, NoRoom, RoutingError, UpstreamError
from gateway.ledger.attempt import MAX_RETRY
from gateway.routing.retry import RetryBudget, delay_s
from gateway.types import Candidate, Plan
from gateway.upstream.call import Call


async def first_to_answer(exchange: Exchange, planned: Planned) -> Call:
    """The first candidate's good answer: whole and translated, or a stream whose first event has come.

    Raises:
        CallerError: no candidate's API has a way to say what is asked, or a limit of the caller forbids the attempt.
        UpstreamError: a provider refused the request itself, which another would refuse too.
        GatewayError: every attempt failed (502, or 429 or 504 where all failed alike), every candidate is at a limit of
            its own (429), or the deadline has passed.
    """
    gateway = exchange.gateway
    budget = gateway.retries.of(planned.target.tier.name)
    budget.deposit()
    refused: CallerError | None = None
    full: dict[str, NoRoom] = {}
    for candidate, again in _in_turns(exchange, planned, budget):
        if again:
            await asyncio.sleep(delay_s(len(exchange.failures), gateway.chance.random()))
        deployment = candidate.deployment
        permit = gateway.breakers.admit(
            deployment.name,
            deployment.concurrency,
            of_provider=deployment.provider.concurrency,
            despite_rest=deployment.name in planned.facts.health,
        )
        if permit is None:
            if exchange.failures:
                budget.give_back()  # it was no retry
            continue
        call = Call(exchange, planned, candidate, permit)
        try:
            await call.open()
        except NoRoom as error:
            call.fail(error)
            full[deployment.name] = error
            if exchange.failures:
                budget.give_back()  # it was no retry
        except UpstreamError as error:
            call.fail(error)
            exchange.failures.append((candidate, error))
            if not error.try_next and not _larger_context_may_help(error, candidate, planned.plan):
                break
        except CallerError as error:
            call.fail(error)
            if error.kind is not Kind.BAD_REQUEST:
                raise
            refused = refused or error  # this candidate has no way to say what is asked; another may have
        except BaseException as error:
            call.fail(error)
            raise
        else:
            exchange.answered_by = candidate
            return call
    if refused is not None and not exchange.failures:
        raise refused
    if full and not exchange.failures:
        raise _no_room(full)
    raise attempts_failed(exchange)


def _in_turns(exchange: Exchange, planned: Planned, budget: RetryBudget) -> Iterator[tuple[Candidate, bool]]:
    """Candidates in the plan's order, then again from the first, while a further attempt is allowed.

    With each comes whether it was asked before: then it is given a moment to recover. Who would not be admitted anyway
    costs neither a retry nor a wait.
    """
    rounds = 0
    while True:
        asked = len(exchange.failures)
        for candidate in planned.plan.candidates:
            if len(exchange.attempts) > MAX_RETRY:
                return
            if exchange.failures:
                name = candidate.deployment.name
                health = exchange.gateway.breakers.view().get(name)
                if health is not None and health.state != "half_open":
                    last_resort = name in planned.facts.health
                    if not last_resort or (rounds and health.state == "resting"):
                        continue
                if not _may_try_again(exchange, budget):
                    return
            yield candidate, rounds > 0
        rounds += 1
        if len(exchange.failures) == asked or rounds > candidate.deployment.provider.retries:
            return  # nobody was admitted in this round


def _may_try_again(exchange: Exchange, budget: RetryBudget) -> bool:
    failed, _ = exchange.failures[-1]
    if len(exchange.failures) > failed.deployment.provider.retries:
        return False
    if exchange.overdue:
        return False
    if exchange.caller_left:
        return False  # nobody is there to have a second answer
    return budget.withdraw()


def _larger_context_may_help(error: UpstreamError, failed: Candidate, plan: Plan) -> bool:
    limit = failed.deployment.model.input_tokens or 0
    return error.kind is Kind.CONTEXT_TOO_LONG and any(
        (candidate.deployment.model.input_tokens or 0) > limit for candidate in plan.candidates
    )


def _no_room(full: dict[str, NoRoom]) -> GatewayError:
    """What the caller is told where every candidate that might have answered is at a limit of its own."""
    waits = [error.retry_after_s for error in full.values() if error.retry_after_s is not None]
    return RoutingError(
        Kind.RATE_LIMITED,
        " ".join(error.message for error in full.values()),
        code="rate_limit_exceeded",
        retry_after_s=min(waits),
        details={"deployments": list(full)},
    )


def attempts_failed(exchange: Exchange) -> GatewayError:
    """What the caller is told when no candidate answered: the one failure itself, or all of them listed."""
    failures = exchange.failures
    if not failures:
        return RoutingError(
            Kind.NONE_HEALTHY, "Every deployment that could serve this request is resting or busy.", retry_after_s=1
        )
    last = failures[-1][1]
    listed = [
        {"deployment": c.deployment.name, "code": e.code or e.kind.value, "status": getattr(e, "upstream_status", None)}
        for c, e in failures
    ]
    if last.kind is Kind.TIMED_OUT and exchange.overdue:
        message = "The deadline that the request sets passed before a provider had answered."
        return RoutingError(Kind.DEADLINE, message, details={"attempts": listed})
    if len(failures) == 1 or not getattr(last, "try_next", False):
        last.details.setdefault("attempts", listed)
        return last
    kinds = {e.kind for _, e in failures}
    limited = kinds <= {Kind.RATE_LIMITED, Kind.PROVIDER_QUOTA}
    kind = Kind.RATE_LIMITED if limited else Kind.TIMED_OUT if kinds == {Kind.TIMED_OUT} else Kind.BROKEN
    waits = [e.retry_after_s for _, e in failures if e.retry_after_s is not None]
    return UpstreamError(
        kind,
        f"All {len(failures)} attempts failed: " + ", ".join(f"{a['deployment']} ({a['code']})" for a in listed) + ".",
        code="rate_limit_exceeded" if limited else "all_attempts_failed",
        retry_after_s=min(waits) if limited and waits else None,
        details={"attempts": listed},
    )
