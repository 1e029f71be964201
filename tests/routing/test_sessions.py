"""Sessions in this process and in the store."""

from __future__ import annotations

from clocks import SetClock
from redis.asyncio import Redis
from stores import StoreServer

from gateway.routing.sessions import KEPT_S, Sessions, place_of

PLACE = place_of("main", "key1", "fast", "conversation 1")


async def test_another_replica_knows_the_session(store: Redis) -> None:
    """What one process wrote, another reads."""
    here, there = Sessions(store, SetClock(0.0)), Sessions(store, SetClock(0.0))
    here.put(PLACE, "openai/a")
    assert await here.find(PLACE) == "openai/a"
    await here.flush()
    assert await there.find(PLACE) == "openai/a"
    assert 0 < await store.ttl(PLACE) <= KEPT_S


async def test_the_last_answer_counts(store: Redis) -> None:
    """In the store too, whatever was known there before."""
    sessions = Sessions(store, SetClock(0.0))
    sessions.put(PLACE, "openai/a")
    await sessions.flush()
    sessions.put(PLACE, "openai/b")
    await sessions.flush()
    assert await store.get(PLACE) == b"openai/b"
    assert await sessions.find(PLACE) == "openai/b"


async def test_what_was_forgotten_here_is_read_again(store: Redis) -> None:
    """A process remembers for an hour, the store for a day."""
    clock = SetClock(0.0)
    sessions = Sessions(store, clock)
    sessions.put(PLACE, "openai/a")
    await sessions.flush()
    clock.advance(3601)
    await store.set(PLACE, "openai/elsewhere")
    assert await sessions.find(PLACE) == "openai/elsewhere"


async def test_closing_writes_what_waits(store: Redis) -> None:
    """A deploy forgets no session."""
    sessions = Sessions(store, SetClock(0.0))
    await sessions.start()
    sessions.put(PLACE, "openai/a")
    await sessions.close()
    assert await store.get(PLACE) == b"openai/a"


async def test_without_the_store_a_process_knows_its_own(own_store: StoreServer) -> None:
    """Others are new to it, and no request fails for that."""
    store = own_store.client()
    sessions = Sessions(store, SetClock(0.0))
    own_store.stop()
    sessions.put(PLACE, "openai/a")
    await sessions.flush()
    assert await sessions.find(PLACE) == "openai/a"
    assert await sessions.find(place_of("main", "key1", "fast", "another")) is None
    await store.aclose()


def test_places_are_apart_and_tell_nothing() -> None:
    """Tenants, keys, tiers and sessions each have their own; what a caller wrote is not in the name."""
    places = {
        place_of(tenant, key, name, session)
        for tenant in ("main", "other")
        for key in ("key1", "key2")
        for name in ("fast", "smart")
        for session in ("s", "t\0s", "fast")
    }
    assert len(places) == 24
    assert PLACE.startswith("{t:main}:session:")
    assert "conversation" not in PLACE
