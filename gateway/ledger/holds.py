"""What an attempt asks of the store before and while it runs, as items for reserve.lua and exchange.lua; pure."""

from __future__ import annotations

from gateway.errors import Kind, RoutingError, bad_request
from gateway.ledger.attempt import Attempt
from gateway.ledger.cost import cost_nano, worst_case_nano
from gateway.ledger.limits import Limits
from gateway.ledger.records import Booking, aid_hour
from gateway.types import Usage

LEASE_MS = 120_000


def worst_case(attempt: Attempt, limits: Limits) -> tuple[int, int | None]:
    """What to hold, in nano-USD, and the output cap per choice that the hold stands for."""
    if not limits.hard:
        return 0, None
    price = attempt.price
    if price is None:
        raise RoutingError(
            Kind.NO_CANDIDATE,
            f"{attempt.account.deployment} has no price in force, so it cannot serve a key that has a budget.",
        )
    cap, most_tokens = attempt.output_tokens, attempt.output_limit_tokens
    if cap is None or (most_tokens is not None and most_tokens < cap):
        cap = most_tokens
    if cap is None:
        raise bad_request("Set max_tokens: this key has a budget, and nothing else caps the answer.", "max_tokens")
    tokens = attempt.input_bound_tokens
    return worst_case_nano(price, input_tokens=tokens, output_tokens=cap, choices=attempt.choices), cap


def least_worth_holding(attempt: Attempt, cap: int | None) -> int:
    """The least hold, in nano-USD, that is of use to an attempt whose worst case is capped so and held already."""
    fewest = attempt.least_output_tokens
    if cap is None or attempt.price is None or cap <= fewest:
        return attempt.hold_nano
    tokens = attempt.input_bound_tokens
    return worst_case_nano(attempt.price, input_tokens=tokens, output_tokens=fewest, choices=attempt.choices)


def reservation(attempt: Attempt, limits: Limits, least_nano: int) -> Booking:
    """One item for reserve.lua, in the order its head describes."""
    attempt.charged_tokens = attempt.expected_tokens
    return (
        attempt.aid,
        aid_hour(attempt.aid),
        attempt.hold_nano,
        least_nano,
        LEASE_MS,
        False,
        attempt.envelope.decode(),
        limits.record or "",
        [(w.counter, w.limit_nano if w.hard else -1, w.forget_at) for w in attempt.windows],
        [(c.scope, c.limit) for c in limits.rpm],
        [(c.scope, c.limit, attempt.charged_tokens) for c in limits.tpm],
        [(c.scope, c.limit) for c in limits.concurrency],
        so_far_nano(attempt),
        False,
    )


def corrections(attempt: Attempt, usage: tuple[int, ...]) -> tuple[tuple[str, int, int], ...]:
    """Tokens per minute as they were, less what the reservation took from the store: (bucket, limit, difference)."""
    if attempt.limits is None or not attempt.limits.tpm:
        return ()
    tokens = rated_tokens(usage)
    return tuple([(f"t:{c.scope}", c.limit, tokens - min(attempt.charged_tokens, c.limit)) for c in attempt.limits.tpm])


def rated_tokens(usage: tuple[int, ...]) -> int:
    """The tokens of a usage that count against tokens per minute."""
    return sum(usage[:5]) + usage[6] + usage[7]


def hold_again(attempt: Attempt) -> Booking:
    """A reservation that refuses nothing: the attempt is under way. What its slab holds of it, it holds itself now."""
    limits = attempt.limits
    return (
        attempt.aid,
        aid_hour(attempt.aid),
        attempt.hold_nano,
        0,
        LEASE_MS,
        True,
        attempt.envelope.decode(),
        "",
        [(w.counter, -1, w.forget_at) for w in attempt.windows],
        (),
        (),
        [(c.scope, c.limit) for c in limits.concurrency] if limits else (),
        so_far_nano(attempt),
        attempt.slab or False,
    )


def renewal(attempt: Attempt) -> Booking:
    """Keeps an attempt under way from being swept, and says what it may have cost so far."""
    return attempt.aid, LEASE_MS, attempt.progress_tokens, so_far_nano(attempt)


def so_far_nano(attempt: Attempt) -> int:
    """The estimated cost of an attempt under way."""
    if attempt.price is None:
        return 0
    usage = Usage(input=attempt.input_tokens, output=attempt.progress_tokens)
    return cost_nano(usage, attempt.price, started_at=attempt.at)
