"""Re-rating: what the prices that are known now say of attempts already booked, booked as adjustments."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.ledger.corrections import (
    COST,
    ESTIMATED,
    RERATED,
    UNPRICED,
    USAGE,
    VOID,
    Correction,
    Corrections,
    positions_of,
)
from gateway.ledger.cost import cost_nano
from gateway.ledger.journal import LATEST_S, Journal
from gateway.ledger.reconcile import BILLED
from gateway.types import Price, Usage

PriceAt = Callable[[str, float], Price | None]
"""The price row of a deployment (by name) in force at a time; None where there is none."""


class Rerated(msgspec.Struct, kw_only=True):
    """What became of a period's attempts. Nano-USD."""

    attempts: int = 0
    """Those that could be re-rated: exact, not void, not corrected to a bill, by a deployment with a price."""
    corrected: int = 0
    booked_nano: int = 0
    """What they cost as booked."""
    rerated_nano: int = 0
    """What they cost by the rows known now."""


async def rerate(
    journal: Journal,
    tenant: str,
    from_at: float,
    to_at: float,
    price_at: PriceAt,
    *,
    model: str | None,
    now: float,
    run: str,
    book: bool,
) -> Rerated:
    """Books for each attempt of the period what its usage costs by the row that was in force when it began.

    Estimates that may still become exact are left alone. `book=False` only tells. Doing it again corrects nothing.

    Raises:
        CorrectionsBusy: another run of corrections is under way.
        StoreDown, redis.exceptions.RedisError: perhaps some is corrected; do it again.
    """
    done = Rerated()
    async with Corrections(journal.store, tenant, run) as books:
        corrections = []
        for position in (await positions_of(journal.lines(tenant, from_at, to_at))).values():
            envelope, ending, numbers = position
            settled = not numbers[ESTIMATED] or now - envelope.at > LATEST_S
            told = ending.usage_source != "held" and not ending.reason.startswith(BILLED) and not numbers[VOID]
            price = price_at(envelope.deployment, envelope.at)
            if price is None or not (settled and told) or (model is not None and envelope.model != model):
                continue
            usage = Usage(*numbers[USAGE])
            cost = cost_nano(usage, price, started_at=envelope.at, service_tier=ending.service_tier)
            done.attempts += 1
            done.booked_nano += position.cost_nano
            done.rerated_nano += cost
            if cost != position.cost_nano:
                changed = list(numbers)
                changed[RERATED] += cost - position.cost_nano
                changed[COST], changed[UNPRICED] = cost, 0
                corrections.append(Correction(position, tuple(changed), f"re-rated by {price.price_id}"))
        if book:
            done.corrected = len(corrections) - len(await books.book(corrections))
    return done
