"""Canaries are stopped once and everywhere, and go on when they are let."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from clocks import SetClock
from made_catalogs import NOW, deployment, price, snapshot, tier
from redis.asyncio import Redis
from stores import StoreServer

from gateway.routing.canaries import Canaries, Stop
from gateway.routing.stats import Statistics
from gateway.storage.client import Store

OLD, NEW = deployment("openai/old", price(1, 1)), deployment("openai/new", price(1, 1))
NEXT = {"name": "next", "models": ["new"], "share": "50%", "least": 5}
CATALOG = snapshot(tier("fast", OLD, NEW, policy=[{"canary": NEXT}]), tier("smart", OLD))


class Replica:
    """One process's canaries and what it has observed."""

    def __init__(self, store: Store) -> None:
        self.statistics = Statistics(SetClock(0.0))
        self.catalog = CATALOG
        self.canaries = Canaries(store, self.statistics, lambda: self.catalog, SetClock(NOW))

    def observe(self, *, failed: bool, count: int = 10) -> None:
        for _ in range(count):
            self.statistics.observe("openai/new", failed=failed, ttft_ms=None if failed else 100)

    @property
    def reasons(self) -> list[str | None]:
        stops = [self.canaries.stop_of(canary) for _, canary in self.canaries.all()]
        return [None if stop is None else stop.reason for stop in stops]


async def test_a_regression_stops_it_in_every_replica(store: Redis) -> None:
    """And it stays stopped when the numbers are forgotten, or the process starts anew."""
    here, there = Replica(store), Replica(store)
    here.observe(failed=False)
    await here.canaries.look()
    assert here.reasons == [None]
    here.observe(failed=True)
    await here.canaries.look()
    (reason,) = here.reasons
    assert reason is not None and "error rate" in reason
    await there.canaries.look()
    assert there.reasons == [reason]
    assert there.canaries.stopped == here.canaries.stopped != frozenset()
    here.statistics.forget("openai/new")
    await here.canaries.look()
    assert here.reasons == [reason]


async def test_it_goes_on_when_it_is_let(store: Redis) -> None:
    """Everywhere, with its numbers begun anew, so that old failures do not stop it again."""
    here, there = Replica(store), Replica(store)
    for replica in (here, there):
        replica.observe(failed=True)
        await replica.canaries.look()
    assert await there.canaries.resume("next")
    await here.canaries.look()
    await there.canaries.look()
    assert here.reasons == there.reasons == [None]
    assert here.canaries.stopped == frozenset()
    assert not await there.canaries.resume("next")
    assert not await there.canaries.resume("unknown")


async def test_a_stop_found_while_another_is_written_stays(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's answer is from before it: it neither counts as written nor as let go on."""
    replica = Replica(store)
    other = {**NEXT, "name": "other"}
    replica.catalog = snapshot(
        tier("fast", OLD, NEW, policy=[{"canary": NEXT}]), tier("smart", OLD, NEW, policy=[{"canary": other}])
    )
    write, looking = store.hset, []

    async def written(name: str, mapping: dict[str, bytes]) -> int:
        count: int = await write(name, mapping=dict(mapping))
        if not looking:
            replica.observe(failed=True)
            looking.append(asyncio.create_task(replica.canaries.look()))
            await asyncio.sleep(0)
        return count

    first, second = (canary for _, canary in replica.canaries.all())
    replica.canaries._stops[first.mark] = stop = Stop("by hand", NOW)
    replica.canaries._unwritten[first.mark] = msgspec.json.encode(stop)
    monkeypatch.setattr(store, "hset", written)
    await replica.canaries.resume("unknown")
    await looking[0]
    assert replica.canaries.stopped == {first.mark, second.mark}
    there = Replica(store)
    await there.canaries.look()
    assert there.canaries.stopped == replica.canaries.stopped


async def test_a_changed_definition_begins_anew(store: Redis) -> None:
    """The stop was of the old one."""
    replica = Replica(store)
    replica.observe(failed=True)
    await replica.canaries.look()
    replica.statistics.forget("openai/new")
    replica.catalog = snapshot(tier("fast", OLD, NEW, policy=[{"canary": {**NEXT, "share": "10%"}}]))
    await replica.canaries.look()
    assert replica.reasons == [None]


async def test_without_the_store_it_is_stopped_here(own_store: StoreServer) -> None:
    """And told to the others as soon as that can be done."""
    store = own_store.client()
    replica = Replica(store)
    own_store.stop()
    replica.observe(failed=True)
    await replica.canaries.look()
    assert len(replica.canaries.stopped) == 1
    own_store.start()
    await replica.canaries.look()
    other = Replica(store)
    await other.canaries.look()
    assert other.canaries.stopped == replica.canaries.stopped
    await store.aclose()
