"""What the ledger's tests share: attempts, a ledger on a real store, and the audit that every case ends with."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.ledger.account import account_of
from gateway.ledger.archive import Archive
from gateway.ledger.attempt import Attempt, new_request_id
from gateway.ledger.exchange import tag
from gateway.ledger.journal import Journal
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Budget, Limits
from gateway.ledger.reports import report
from gateway.types import Price, Rates, Usage

PRICE = Price("p1", 0.0, Rates(input=1_000_000, output=5_000_000))
"""$1 and $5 per million tokens: 1,000 and 5,000 nano-USD a token."""
USAGE = Usage(input=10, output=20)
COST = 110_000
CHANCE = random.Random(20261121)


def attempt(**changes: Any) -> Attempt:
    now = time.time()
    given: dict[str, Any] = {
        "request_id": new_request_id(now, CHANCE),
        "at": now,
        "price": PRICE,
        "input_tokens": 10,
        "input_bound_tokens": 100,
        "output_tokens": 180,
        **changes,
    }
    price = given["price"]
    members = {
        "tenant": "main",
        "key": "k1",
        "team": "search",
        "tags": (),
        "alias": "fast",
        "tier": "fast",
        "model": "m1",
        "provider": "acme",
        "deployment": "acme/m1",
        "price_id": price.price_id if price else "",
        "catalog": "0123456789ab",
    }
    account = account_of(*(given.pop(name, member) for name, member in members.items()))
    return Attempt(account=account, **given)


NO_SLABS = 10**9
"""A `slab_rate` that nobody reaches."""
HOLD = 100 * 1_000 + 180 * 5_000
"""What `attempt()` holds at worst, nano-USD."""


def budget(limit_nano: int, **changes: Any) -> Limits:
    return Limits("main", budgets=(Budget("b1", limit_nano, **{"per": "day", **changes}),))


FAR = budget(1_000 * 10**9)
"""So far from used up that it is given out in slabs."""


def settle(ledger: Ledger, a: Attempt, usage: Usage = USAGE, **changes: Any) -> int:
    given: dict[str, Any] = {
        "usage_source": "provider",
        "settlement": "complete",
        "latency_ms": 5,
        "ttft_ms": 1,
        **changes,
    }
    return ledger.settle(a, usage=usage, **given)


def new_ledger(store: Any, data_dir: Path, **options: Any) -> Ledger:
    given: dict[str, Any] = {"clock": time.time, "monotonic": time.monotonic, "reserve_deadline_s": 10.0, **options}
    return Ledger(store, data_dir, chance=random.Random(CHANCE.getrandbits(64)), **given)


@asynccontextmanager
async def open_ledger(store: Any, data_dir: Path, **options: Any) -> AsyncIterator[Ledger]:
    ledger = new_ledger(store, data_dir, **options)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.01)


async def until_async(condition: Callable[[], Awaitable[object]], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.02)


async def flushed(ledger: Ledger) -> None:
    await until(lambda: ledger.lag["entries_waiting"] == 0)


async def journal(store: Any, tenant: str = "main", archive: Archive | None = None) -> list[dict[str, Any]]:
    found = Journal(store, archive).entries(tenant, time.time() - 90 * 86_400, time.time() + 3600)
    return [e async for e in found]


async def audit(store: Any, tenant: str = "main", archive: Archive | None = None) -> list[dict[str, Any]]:
    """Checks that journal, hours, days and budgets agree and that nothing is held; gives the journal."""
    found = await journal(store, tenant, archive)
    now = time.time()
    end = now - now % 86_400 + 2 * 86_400
    booked = sum(e["cost_nano_usd"] for e in found)
    days = await report(store, tenant, end - 90 * 86_400, end, now=now)
    hours = await report(store, tenant, end - 3 * 86_400, end, ("hour",), now=now)
    assert sum(row.cost_nano for row in days) == booked
    assert sum(row.cost_nano for row in hours) == booked
    assert sum(row.numbers[0] for row in days) == sum(e["kind"] == "entry" for e in found)
    posted: dict[str, int] = {}
    for name in await store.keys(tag(tenant) + "b:*"):
        counter = name.decode().split(":")[3]
        held, spent = await store.hmget(name, "res", "post")
        assert int(held or 0) == 0, f"{name} holds {held}"
        posted[counter] = posted.get(counter, 0) + int(spent or 0)
    assert all(total <= booked for total in posted.values())
    assert await store.zcard(tag(tenant) + "if") == 0
    assert await store.hlen(tag(tenant) + "h") == 0
    assert all(int(n) == 0 for n in (await store.hgetall(tag(tenant) + "cc")).values())
    return found


async def posted(store: Any, budget_id: str = "b1", tenant: str = "main") -> int:
    total = 0
    for name in await store.keys(f"{tag(tenant)}b:{budget_id}:*"):
        total += int(await store.hget(name, "post") or 0)
    return total


async def in_slab(ledger: Ledger, limits: Limits = FAR, **changes: Any) -> Attempt:
    """An attempt whose hold is part of a slab; those before it are void."""
    while True:
        await ledger.reserve(a := attempt(**changes), limits)
        if a.slab:
            return a
        ledger.void(a)
        await flushed(ledger)


async def counter(store: Redis) -> tuple[int, int]:
    """What is held and what is posted."""
    (name,) = await store.keys(tag("main") + "b:b1:*")
    held, spent = await store.hmget(name, "res", "post")
    return int(held or 0), int(spent or 0)


async def returned(ledger: Ledger) -> None:
    await until(lambda: ledger.lag["attempts_open"] == 0)
