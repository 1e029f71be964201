"""Booked attempts by the prices known now: told first, then booked once, and reports have both."""

from __future__ import annotations

import time
from pathlib import Path

from books import COST, PRICE, attempt, audit, budget, flushed, open_ledger, posted, settle
from redis.asyncio import Redis

from gateway.ledger.journal import Journal
from gateway.ledger.reconcile import BillRow, import_bill
from gateway.ledger.reports import report
from gateway.ledger.rerate import Rerated, rerate
from gateway.types import Price, Rates

DOUBLE = Price("p2", 0.0, Rates(input=2_000_000, output=10_000_000))


async def run(store: Redis, price: Price | None = DOUBLE, *, book: bool = True, model: str | None = None) -> Rerated:
    now = time.time()
    return await rerate(
        Journal(store),
        "main",
        now - 60,
        now + 60,
        lambda name, at: price,
        model=model,
        now=now,
        run=str(now),
        book=book,
    )


async def test_differences_are_booked_once_and_reported_beside_what_was_booked(store: Redis, tmp_path: Path) -> None:
    """Exact attempts alone: void, estimated and billed ones stay."""
    async with open_ledger(store, tmp_path) as ledger:
        exact, void, guessed, billed = (attempt() for _ in range(4))
        for each in (exact, void, guessed, billed):
            await ledger.reserve(each, budget(10**9))
        settle(ledger, exact)
        ledger.void(void)
        settle(ledger, guessed, usage_source="estimated", settlement="upstream_cut")
        settle(ledger, billed)
        await flushed(ledger)
    await import_bill(Journal(store), "main", [BillRow(attempt_id=billed.aid, cost_nano=7)], "november", run="b")
    told = await run(store, book=False)
    assert (told.attempts, told.corrected, told.booked_nano, told.rerated_nano) == (1, 0, COST, 2 * COST)
    assert (await run(store)).corrected == 1
    assert (await run(store)).corrected == 0
    found = await audit(store)
    assert sum(e["cost_nano_usd"] for e in found) == 2 * COST + COST + 7 == await posted(store)
    assert found[-1]["reason"] == "re-rated by p2"
    now = time.time()
    start = now - now % 86_400
    (row,) = await report(store, "main", start - 86_400, start + 2 * 86_400, now=now)
    shown = row.as_dict(())
    assert (shown["as_booked_usd"], shown["cost_usd"]) == ("0.000220007", "0.000330007")


async def test_other_models_and_unknown_prices_are_left_alone(store: Redis, tmp_path: Path) -> None:
    """As is what the old row still says."""
    async with open_ledger(store, tmp_path) as ledger:
        ledger.begin(a := attempt())
        settle(ledger, a)
        await flushed(ledger)
    assert (await run(store, model="m9")).attempts == 0
    assert (await run(store, None)).attempts == 0
    assert (await run(store, PRICE)).corrected == 0
    assert len(await audit(store)) == 1


async def test_what_had_no_price_gets_one(store: Redis, tmp_path: Path) -> None:
    """And is no longer counted as unpriced."""
    async with open_ledger(store, tmp_path) as ledger:
        ledger.begin(a := attempt(price=None))
        settle(ledger, a)
        await flushed(ledger)
    assert (await run(store, PRICE)).corrected == 1
    now = time.time()
    start = now - now % 86_400
    (row,) = await report(store, "main", start - 86_400, start + 2 * 86_400, now=now)
    assert (row.cost_nano, row.as_dict(())["unpriced"]) == (COST, 0)
