"""What deployments let be asked of them, counted for all tenants and replicas together, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from books import until, until_async
from made_catalogs import deployment
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreGone

from gateway.errors import NoRoom
from gateway.ledger.rates import LEASE_S, Rates, Share
from gateway.types import Deployment


@asynccontextmanager
async def replicas(store: Any, count: int) -> AsyncIterator[list[Rates]]:
    async with AsyncExitStack() as stack:
        made = [Rates(store) for _ in range(count)]
        for rates in made:
            await rates.start()
            stack.push_async_callback(rates.close)
        yield made


async def taken(rates: Rates, at: Deployment, count: int, tokens: int = 1) -> list[Share]:
    """So many attempts at once; those that fitted."""
    asked = [rates.take(at, f"{id(rates)}-{tokens}-{n}", tokens) for n in range(count)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(a, Share | NoRoom) for a in answers), answers
    return [a for a in answers if isinstance(a, Share)]


async def test_requests_per_minute_hold_for_all_replicas_together(store: Redis) -> None:
    """Ten a minute are ten, whoever asks; the refusal says when to come again, and that nothing fits until then."""
    at = deployment("acme/m1", rpm=10)
    async with replicas(store, 3) as many:
        fitted = [await taken(rates, at, 6) for rates in many]
        assert [len(some) for some in fitted] == [6, 4, 0]
        with pytest.raises(NoRoom, match="acme/m1 is at its limit of 10 requests per minute") as refused:
            await many[0].take(at, "one-more", 1)
        assert refused.value.status == 429
        assert 5 < (refused.value.retry_after_s or 0) <= 6
        assert refused.value.rest_s == refused.value.retry_after_s
        assert len(await taken(many[0], deployment("acme/m2", rpm=10), 6)) == 6


async def test_what_was_never_sent_counts_for_nothing(store: Redis) -> None:
    """Its request and its tokens are there for the next one; a request that was sent stays counted."""
    at = deployment("acme/m1", rpm=2, tpm=1_000)
    async with replicas(store, 1) as (rates,):
        first, second = await taken(rates, at, 2, 400)
        first.end(sent=False, tokens=0)
        first.end(sent=False, tokens=0)
        assert len(await taken(rates, at, 2, 400)) == 1
        second.end(sent=True, tokens=0)
        assert await taken(rates, at, 1) == []


async def test_tokens_per_minute_follow_the_usage(store: Redis) -> None:
    """An attempt counts by estimate, then by what it used; one too large for any minute has a clear one to itself."""
    at = deployment("acme/m1", tpm=1_000)
    async with replicas(store, 1) as (rates,):
        (share,) = await taken(rates, at, 1, 900)
        with pytest.raises(NoRoom) as refused:
            await rates.take(at, "large", 500)
        assert 20 < (refused.value.retry_after_s or 0) <= 24
        assert refused.value.rest_s == 0  # a smaller one may fit
        share.end(sent=True, tokens=100)
        assert len(await taken(rates, at, 1, 890)) == 1
        assert await taken(rates, at, 1, 100) == []
        other = deployment("acme/m2", tpm=1_000)
        assert len(await taken(rates, other, 1, 50_000)) == 1


async def test_requests_at_once_hold_for_all_replicas_together(store: Redis) -> None:
    """Each that ends makes room for another."""
    at = deployment("acme/m1", concurrency=3)
    async with replicas(store, 2) as (one, other):
        mine = await taken(one, at, 2)
        theirs = await taken(other, at, 2)
        assert (len(mine), len(theirs)) == (2, 1)
        mine[0].end(sent=True, tokens=5)
        await until_async(lambda: taken(other, at, 1, 7))
        assert await taken(other, at, 1, 8) == []


async def test_room_that_a_lost_gateway_took_comes_back(store: Redis) -> None:
    """After its lease, unless somebody renews it."""
    at = deployment("acme/m1", concurrency=2)
    async with replicas(store, 2) as (alive, lost):
        (kept,) = await taken(alive, at, 1)
        assert len(await taken(lost, at, 1)) == 1
        for name in await store.zrange("{p:acme/m1}:cc", 0, -1):
            await store.zincrby("{p:acme/m1}:cc", -LEASE_S * 1000, name)
        for counter in alive._counters.values():
            counter.renew()
        await until_async(lambda: taken(alive, at, 1, 2))
        assert await taken(alive, at, 1, 3) == []
        assert kept.counted


async def test_a_caller_who_leaves_while_asking_takes_nothing(store: Redis) -> None:
    """Whether the store had been asked by then or not."""
    at = deployment("acme/m1", rpm=1, concurrency=1)
    async with replicas(store, 1) as (rates,):
        for steps in range(4):
            asking = asyncio.create_task(rates.take(at, f"gone-{steps}", 1))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: all(counter._task is None for counter in rates._counters.values()))
        assert len(await taken(rates, at, 2)) == 1


async def counted_again(rates: Rates, at: Deployment) -> bool:
    """Whether the store is known to be back; takes nothing."""
    try:
        share = await rates.take(at, "probe", 1)
    except NoRoom:
        return True
    share.end(sent=False, tokens=0)
    return share.counted


@pytest.fixture
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ledger.rates._ASK_AGAIN_S", 0.02)


class Flaky:
    """A store that is away, or whose answers get lost, while told so."""

    def __init__(self, store: Redis) -> None:
        self.store, self.away, self.losing, self.asked = store, False, False, 0

    async def execute_command(self, *words: Any) -> Any:
        self.asked += 1
        if self.away:
            raise StoreGone
        answer = await self.store.execute_command(*words)
        if self.losing:
            raise StoreGone
        return answer


@pytest.mark.usefixtures("soon_again")
async def test_without_the_store_nothing_is_refused(store: Redis) -> None:
    """It is not waited for again and again either; what ends meanwhile is told once it is back."""
    at = deployment("acme/m1", rpm=5, concurrency=1)
    flaky = Flaky(store)
    async with replicas(flaky, 1) as (rates,):
        (counted,) = await taken(rates, at, 1)
        assert counted.counted
        flaky.away = True
        asked = flaky.asked
        uncounted = await taken(rates, at, 9, 2) + await taken(rates, at, 9, 3)
        assert [share.counted for share in uncounted] == [False] * 18
        assert flaky.asked <= asked + 2
        counted.end(sent=True, tokens=1)
        uncounted[0].end(sent=True, tokens=1)
        flaky.away = False
        await until_async(lambda: counted_again(rates, at))
        assert [share.counted for share in await taken(rates, at, 2, 4)] == [True]


@pytest.mark.usefixtures("soon_again")
async def test_a_store_that_goes_away_at_the_close_is_asked_no_more(store: Redis) -> None:
    """What could not be given back runs out by itself."""

    class Slow(Flaky):
        async def execute_command(self, *words: Any) -> Any:
            if self.away:
                await asyncio.sleep(0.1)  # the close waits for the answer
            return await super().execute_command(*words)

    flaky = Slow(store)
    async with replicas(flaky, 1) as (rates,):
        (share,) = await taken(rates, deployment("acme/m1", concurrency=1), 1)
        flaky.away = True
        share.end(sent=True, tokens=1)
    asked = flaky.asked
    await asyncio.sleep(0.3)
    assert flaky.asked == asked


@pytest.mark.usefixtures("soon_again")
async def test_a_lost_answer_leaves_nothing_running(store: Redis) -> None:
    """What may have been taken unheard is ended; what was told to end has ended, and counts once."""
    at = deployment("acme/m1", tpm=1_000, concurrency=2)
    flaky = Flaky(store)
    async with replicas(flaky, 1) as (rates,):
        (share,) = await taken(rates, at, 1, 500)
        flaky.losing = True
        (unheard,) = await taken(rates, at, 1, 100)
        assert not unheard.counted
        flaky.losing = False
        await until_async(lambda: counted_again(rates, at))
        share.end(sent=True, tokens=400)
        assert [share.counted for share in await taken(rates, at, 3, 50)] == [True] * 2
        full_at = float(await store.hget("{p:acme/m1}:rl", "t"))
        now = [int(part) for part in await store.time()]
        used = 1_000 * (full_at - now[0] * 1000 - now[1] / 1000) / 60_000
        assert 580 < used <= 600  # 400 that were used, 100 unheard, twice 50


async def test_counts_are_forgotten_when_they_tell_nothing_any_more(store: Redis) -> None:
    """A deployment that nobody asks leaves nothing behind."""
    at = deployment("acme/m1", rpm=60, tpm=1_000, concurrency=3)
    async with replicas(store, 1) as (rates,):
        await taken(rates, at, 2)
        assert sorted(await store.keys("{p:*")) == [b"{p:acme/m1}:cc", b"{p:acme/m1}:rl"]
        assert 0 < await store.ttl("{p:acme/m1}:rl") <= 120
        assert 0 < await store.ttl("{p:acme/m1}:cc") <= 2 * LEASE_S


@pytest.mark.usefixtures("soon_again")
async def test_nobody_waits_for_what_cannot_be_told(store: Redis) -> None:
    """A count that does not fit into a message spoils that message alone: who waits beside it goes on, uncounted."""
    at = deployment("acme/m1", tpm=1_000)
    async with replicas(store, 1) as (rates,):
        (share,) = await taken(rates, at, 1, 500)
        share.end(sent=True, tokens=10**30)
        async with asyncio.timeout(5):
            assert [share.counted for share in await taken(rates, at, 1, 100)] == [False]
            await until_async(lambda: counted_again(rates, at))


@pytest.mark.usefixtures("soon_again")
@pytest.mark.parametrize("answer", [b"\x90", b"junk", None], ids=["too short", "unreadable", "none"])
async def test_nobody_waits_for_an_answer_that_is_none(store: Redis, answer: bytes | None) -> None:
    """Whatever the store says, whoever asked goes on."""
    at = deployment("acme/m1", rpm=5)

    class Odd(Flaky):
        async def execute_command(self, *words: Any) -> Any:
            return answer if self.away else await super().execute_command(*words)

    odd = Odd(store)
    async with replicas(odd, 1) as (rates,):
        odd.away = True
        async with asyncio.timeout(5):
            assert [share.counted for share in await taken(rates, at, 1)] == [False]
            odd.away = False
            await until_async(lambda: counted_again(rates, at))
