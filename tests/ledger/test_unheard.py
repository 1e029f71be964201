"""Attempts that ended before their provider did: a hard budget is charged with all that they may have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from books import (
    FAR,
    HOLD,
    NO_SLABS,
    attempt,
    audit,
    budget,
    counter,
    flushed,
    in_slab,
    journal,
    new_ledger,
    open_ledger,
    posted,
    returned,
    until_async,
)
from redis.asyncio import Redis

from gateway.errors import CallerError
from gateway.ledger.attempt import Attempt
from gateway.ledger.exchange import tag
from gateway.ledger.journal import Journal
from gateway.ledger.ledger import Ledger
from gateway.ledger.reconcile import BillRow, import_bill
from gateway.types import Usage

SEEN = Usage(input=10, output=4)
SEEN_COST = 30_000


def leave(ledger: Ledger, a: Attempt, **changes: Any) -> int:
    """Its caller has gone after four tokens of the answer."""
    given: dict[str, Any] = {
        "usage": SEEN,
        "usage_source": "estimated",
        "settlement": "caller_left",
        "latency_ms": 7,
        "ttft_ms": 3,
        "upstream_id": "up-1",
        "may_be_more": True,
        **changes,
    }
    return ledger.settle(a, **given)


async def test_nobody_leaves_his_way_past_a_hard_budget(store: Redis, tmp_path: Path) -> None:
    """Whoever is not heard out costs his whole hold, so that the bill cannot pass the limit."""
    async with open_ledger(store, tmp_path, slab_rate=NO_SLABS) as ledger:
        bill = 0
        for _ in range(3):
            await ledger.reserve(a := attempt(), budget(3 * HOLD, per="total"))
            bill += a.hold_nano  # the provider makes all that was asked for
            assert leave(ledger, a) == HOLD
            await flushed(ledger)
        with pytest.raises(CallerError):
            await ledger.reserve(attempt(), budget(3 * HOLD, per="total"))
        assert bill == 3 * HOLD == await posted(store)
        found = await audit(store)
    assert {(e["settlement"], e["usage_source"], e["usage"]["output"]) for e in found} == {("caller_left", "held", 4)}


@pytest.mark.parametrize(
    ("hard", "more", "changes", "cost"),
    [
        (True, True, {}, HOLD),
        (True, False, {}, SEEN_COST),
        (False, True, {}, SEEN_COST),
        (True, True, {"usage_source": "provider"}, SEEN_COST),
        (True, True, {"usage": Usage(input=10, output=400)}, 10_000 + 400 * 5_000),
    ],
    ids=["unheard", "heard out", "soft", "told", "beyond the hold"],
)
async def test_only_what_nobody_knows_is_booked_at_its_hold(
    store: Redis, tmp_path: Path, hard: bool, more: bool, changes: dict[str, Any], cost: int
) -> None:
    """An estimate stays one where the provider had ended, or where the budget is soft."""
    async with open_ledger(store, tmp_path) as ledger:
        await ledger.reserve(a := attempt(), budget(10**9, hard=hard))
        assert leave(ledger, a, may_be_more=more, **changes) == cost
        await flushed(ledger)
        assert await posted(store) == cost
        (entry,) = await audit(store)
    assert (entry["usage_source"] == "held") == (cost == HOLD)
    assert await store.zcard(tag("main") + "orphans:due") == (cost == HOLD)


async def test_it_is_paid_from_its_slab(store: Redis, tmp_path: Path) -> None:
    """The whole hold moves from held to posted in one step, and nothing of it is given out again."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        a = await in_slab(ledger)
        held, _ = await counter(store)
        leave(ledger, a)
        await flushed(ledger)
        assert await counter(store) == (held - HOLD, HOLD)
        await returned(ledger)
        assert await counter(store) == (0, HOLD)
        await audit(store)


@pytest.mark.parametrize("slab", [False, True])
@pytest.mark.parametrize("truth", [False, True])
async def test_it_gives_way_to_the_truth_or_after_a_day(store: Redis, tmp_path: Path, truth: bool, slab: bool) -> None:
    """The bill says what it cost; without one it is, a day later, what was seen of it, told as its process told it."""
    async with open_ledger(store, tmp_path, slab_rate=0 if slab else NO_SLABS, sweep_every_s=0.1) as ledger:
        if slab:
            a = await in_slab(ledger, FAR)
        else:
            await ledger.reserve(a := attempt(), FAR)
        leave(ledger, a)
        await returned(ledger)
        if truth:
            rows = [BillRow(attempt_id=a.aid, cost_nano=77)]
            assert (await import_bill(Journal(store), "main", rows, "bill", run="r")).corrected == 1
        assert await posted(store) == (77 if truth else HOLD)
        await a_day_later(store)
        assert await posted(store) == (77 if truth else SEEN_COST)
        found = [e for e in await audit(store) if e["settlement"] != "void"]
    last = found[-1]
    assert (len(found), last["settlement"], last["latency_ms"], last["ttft_ms"]) == (2, "caller_left", 7, 3)
    assert (last["upstream_request_id"], last["usage_source"]) == ("up-1", "provider" if truth else "estimated")


@pytest.mark.parametrize("booked", [False, True])
async def test_it_outlives_its_process(store: Redis, tmp_path: Path, booked: bool) -> None:
    """Killed before or after the store had it, it is booked once, and gives way all the same."""
    ledger = new_ledger(store, tmp_path)
    await ledger.start()
    await ledger.reserve(a := attempt(), budget(10**9))
    leave(ledger, a)
    if booked:
        await flushed(ledger)
    for lane in ledger._outbox.lanes.values():
        lane.stop()
    await ledger._upkeep.stop()
    await ledger._wal.close()
    assert len(await journal(store)) == booked
    async with open_ledger(store, tmp_path, sweep_every_s=0.1):
        assert await posted(store) == HOLD
        await a_day_later(store)
        assert await posted(store) == SEEN_COST
        found = await audit(store)
    assert [(e["kind"], e["usage_source"]) for e in found] == [("entry", "held"), ("adjustment", "estimated")]


async def test_many_give_way_in_one_round(store: Redis, tmp_path: Path) -> None:
    """However many callers left in an hour."""
    async with open_ledger(store, tmp_path, sweep_every_s=0.5) as ledger:
        for _ in range(450):
            await ledger.reserve(a := attempt(), FAR)
            leave(ledger, a)
        await returned(ledger)
        assert await posted(store) == 450 * HOLD
        await ledger._upkeep.stop()
        await make_due(store)
        await ledger._upkeep._orphans.settle_due("main")
        assert await posted(store) == 450 * SEEN_COST


async def a_day_later(store: Redis) -> None:
    """Comes to when all whole holds have given way."""
    await make_due(store)

    async def given_way() -> bool:
        return await store.zcard(tag("main") + "orphans:due") == 0

    await until_async(given_way)
    assert await store.hlen(tag("main") + "orphans") == 0


async def make_due(store: Redis) -> None:
    due = tag("main") + "orphans:due"
    assert (await store.zrange(due, 0, -1)) != []
    for aid in await store.zrange(due, 0, -1):
        await store.zadd(due, {aid: 1})
