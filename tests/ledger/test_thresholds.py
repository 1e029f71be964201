"""Each threshold of a budget is told once, though answers get lost, processes die and webhooks fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from books import COST, attempt, budget, flushed, open_ledger, settle, until, until_async
from lossy import LossyProxy
from redis.asyncio import Redis
from stores import StoreServer

from gateway.ledger import thresholds
from gateway.ledger.exchange import tag
from gateway.ledger.journal import Journal
from gateway.ledger.ledger import Ledger
from gateway.ledger.outbox import Alert
from gateway.ledger.reconcile import BillRow, import_bill
from gateway.storage.client import connect

LIMITS = budget(10 * COST, hard=False)
SWEEP: dict[str, Any] = {"sweep_every_s": 0.05}


async def spend(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        a = attempt()
        await ledger.reserve(a, LIMITS)
        settle(ledger, a)
        await flushed(ledger)


def percents(told: list[Alert]) -> list[int]:
    return [alert.percent for alert in told]


async def kept(store: Redis) -> int:
    return int(await store.hlen(tag("main") + "alerts"))


async def acknowledged(store: Redis) -> None:
    async def none() -> bool:
        return await kept(store) == 0

    await until_async(none)


async def test_a_lost_answer_loses_no_alert(own_store: StoreServer, tmp_path: Path) -> None:
    """The answers that tell of the thresholds are all lost; each is told once, and again by nobody."""
    store = own_store.client()
    told: list[Alert] = []
    others: list[Alert] = []
    async with LossyProxy(own_store.socket.with_name("p"), own_store.socket, share=0.0) as proxy:
        client = connect(str(proxy.socket))
        async with (
            open_ledger(client, tmp_path / "a", on_alert=told.append, **SWEEP) as ledger,
            open_ledger(store, tmp_path / "b", on_alert=others.append, **SWEEP),
        ):
            for count in (5, 3, 2):
                await spend(ledger, count - 1)
                settled = attempt()
                await ledger.reserve(settled, LIMITS)
                before, proxy.share = proxy.lost, 1.0
                settle(ledger, settled)
                await until(lambda before=before: proxy.lost > before)  # type: ignore[misc]
                proxy.share = 0.0
                await flushed(ledger)
            await until(lambda: len(told) == 3)
            await acknowledged(store)
            await asyncio.sleep(0.3)
        await client.aclose()
    assert (percents(told), others) == ([50, 80, 100], [])
    assert [alert.spent_nano for alert in told] == [5 * COST, 8 * COST, 10 * COST]
    await store.aclose()


async def test_answers_lost_by_chance_tell_each_once(own_store: StoreServer, tmp_path: Path) -> None:
    """Also those to the acknowledgement."""
    store = own_store.client()
    told: list[Alert] = []
    async with LossyProxy(own_store.socket.with_name("p"), own_store.socket, share=0.2) as proxy:
        client = connect(str(proxy.socket))
        async with open_ledger(client, tmp_path, on_alert=told.append, **SWEEP) as ledger:
            await spend(ledger, 12)
            await until(lambda: len(told) == 3)
            await acknowledged(store)
        await client.aclose()
        assert proxy.lost > 3
    assert sorted(percents(told)) == [50, 80, 100]
    await store.aclose()


async def test_another_process_tells_what_the_dead_one_did_not(store: Redis, tmp_path: Path) -> None:
    """After its time is over, and only one of those that look."""
    told: list[Alert] = []
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with open_ledger(store, tmp_path / "a", on_alert=lambda alert: never) as dying:
        await spend(dying, 5)
    assert await kept(store) == 1
    async with (
        open_ledger(store, tmp_path / "b", on_alert=told.append, **SWEEP),
        open_ledger(store, tmp_path / "c", on_alert=told.append, **SWEEP),
    ):
        await asyncio.sleep(0.3)
        assert told == []
        ((name, packed),) = (await store.hgetall(tag("main") + "alerts")).items()
        owner, at_ms, *rest = msgspec.msgpack.decode(packed)
        old = msgspec.msgpack.encode([owner, at_ms - thresholds.LEASE_S * 1000, *rest])
        await store.hset(tag("main") + "alerts", name, old)
        await acknowledged(store)
        await asyncio.sleep(0.3)
    assert percents(told) == [50]


async def test_it_is_acknowledged_when_it_has_been_told(store: Redis, tmp_path: Path) -> None:
    """Not while the webhook is still being tried."""
    told: list[asyncio.Future[None]] = []

    def tell(alert: Alert) -> asyncio.Future[None]:
        told.append(asyncio.get_running_loop().create_future())
        return told[-1]

    async with open_ledger(store, tmp_path, on_alert=tell, **SWEEP) as ledger:
        await spend(ledger, 6)
        await asyncio.sleep(1.0)
        assert (len(told), await kept(store)) == (1, 1)
        told[0].set_result(None)
        await acknowledged(store)
        assert len(told) == 1


async def test_corrections_pass_thresholds_too(store: Redis, tmp_path: Path) -> None:
    """A bill that is dearer than the books; whoever looks next tells."""
    told: list[Alert] = []
    async with open_ledger(store, tmp_path, on_alert=told.append, **SWEEP) as ledger:
        a = attempt()
        await ledger.reserve(a, LIMITS)
        settle(ledger, a)
        await flushed(ledger)
        row = BillRow(attempt_id=a.aid, cost_nano=9 * COST)
        await import_bill(Journal(store), "main", [row], "november", run="r1")
        await until(lambda: len(told) == 2)
        await acknowledged(store)
    assert sorted(percents(told)) == [50, 80]


async def test_what_was_told_at_the_end_is_not_told_again(store: Redis, tmp_path: Path) -> None:
    """A process that stops acknowledges first."""
    told: list[Alert] = []
    async with open_ledger(store, tmp_path, on_alert=told.append) as ledger:
        await spend(ledger, 5)
    assert (percents(told), await kept(store)) == ([50], 0)
