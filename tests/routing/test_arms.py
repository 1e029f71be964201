"""Counts of experiments' arms, and opinions on requests, in the store."""

from __future__ import annotations

import pytest
from made_catalogs import NOW
from redis.asyncio import Redis
from stores import StoreServer

from gateway.routing import feedback
from gateway.routing.arms import Arms
from gateway.routing.feedback import Feedback, Opinion
from gateway.types import Arm

A, B, OTHER = Arm("size", "a"), Arm("size", "b"), Arm("tone", "a")
DAY = "20260921"
"""The day of `NOW`."""


async def test_requests_are_summed_by_arm_and_day(store: Redis) -> None:
    """Of all replicas; latency only of good answers, and each experiment apart."""
    for arms in (Arms(store), Arms(store)):
        arms.count("main", (A, OTHER), NOW, failed=False, latency_ms=250.7, ttft_ms=100.2)
        arms.count("main", (A,), NOW, failed=True, latency_ms=9_000, ttft_ms=None)
        arms.count("main", (B,), NOW, failed=False, latency_ms=50, ttft_ms=None)
        arms.count("main", (B,), NOW - 86_400, failed=False, latency_ms=50, ttft_ms=None)
        arms.count("other", (B,), NOW, failed=False, latency_ms=50, ttft_ms=None)
        await arms.close()
    found = await Arms(store).counted("main", "size", [DAY])
    assert found == {
        "a": {"requests": 4, "errors": 2, "latency_ms": 500, "timed": 2, "ttft_ms": 200},
        "b": {"requests": 2, "latency_ms": 100},
    }
    both = await Arms(store).counted("main", "size", ["20260920", DAY])
    assert both["b"]["requests"] == 4


async def test_counts_wait_for_the_store(own_store: StoreServer) -> None:
    """None is lost while it is away for a while."""
    store = own_store.client()
    arms = Arms(store)
    own_store.stop()
    arms.count("main", (A,), NOW, failed=False, latency_ms=1, ttft_ms=1)
    await arms.flush()
    own_store.start()
    assert (await arms.counted("main", "size", [DAY]))["a"]["requests"] == 1
    await store.aclose()


async def opinions(store: Redis, tenant: str = "main") -> list[float | None]:
    return sorted([opinion.score async for opinion in Feedback(store).of(tenant, [DAY])], key=lambda s: s or 0)


async def test_an_opinion_replaces_the_one_before(store: Redis) -> None:
    """One for each request; each tenant's apart."""
    for score in (-1.0, 0.5):
        assert await Feedback(store).put("main", "req_1", NOW, Opinion(NOW, {"size": "a"}, score))
    assert await Feedback(store).put("main", "req_2", NOW, Opinion(NOW, {}, 1.0))
    assert await Feedback(store).put("other", "req_3", NOW, Opinion(NOW, {}, -0.5))
    assert await opinions(store) == [0.5, 1.0]
    assert await opinions(store, "other") == [-0.5]


async def test_opinions_are_bounded(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day takes so many and no more; those that are there can still change."""
    monkeypatch.setattr(feedback, "MOST_A_DAY", 2)
    for n in range(2):
        assert await Feedback(store).put("main", f"req_{n}", NOW, Opinion(NOW, {}, 0.0))
    assert not await Feedback(store).put("main", "req_2", NOW, Opinion(NOW, {}, 0.0))
    assert await Feedback(store).put("main", "req_1", NOW, Opinion(NOW, {}, 1.0))
    assert await opinions(store) == [0.0, 1.0]
