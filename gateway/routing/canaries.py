"""Canaries that did worse than the rest: stopped everywhere, and until somebody lets them go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.catalog.snapshot import Snapshot
from gateway.log import get_logger
from gateway.routing.stats import Statistics
from gateway.storage.client import Store
from gateway.types import Tier
from policies.canary import Canary

_STOPPED = "{experiments}:stopped"
_LOOK_S = 1.0

log = get_logger("canaries")


class Stop(msgspec.Struct, frozen=True):
    """Why and when a canary was stopped."""

    reason: str
    at: float


_decode_stop = msgspec.json.Decoder(Stop).decode


class Canaries:
    """Judges each canary by the statistics of this process, and shares what was stopped through the store.

    `current` gives the snapshot in force, `clock` seconds since the epoch.
    """

    def __init__(
        self, store: Store, statistics: Statistics, current: Callable[[], Snapshot], clock: Callable[[], float]
    ) -> None:
        self._store: Any = store
        self._statistics = statistics
        self._current = current
        self._clock = clock
        self._stops: dict[str, Stop] = {}
        self._unwritten: dict[str, bytes] = {}
        self.stopped: frozenset[str] = frozenset()
        """Their marks, for `Facts.stopped`."""
        self._one_at_a_time = asyncio.Lock()
        """What was read of the store must not be taken over after something was changed there."""
        self._looking = Repeated("canaries", _LOOK_S, self.look)

    async def start(self) -> None:
        await self._looking.start()

    async def close(self) -> None:
        await self._looking.close()

    async def look(self) -> None:
        """Stops what has regressed, tells the others, and learns what they stopped or let go on."""
        for tier, canary in self.all():
            if canary.mark not in self._stops:
                reason = canary.regressed(self._statistics.view(), tier.deployments)
                if reason is not None:
                    stop = self._stops[canary.mark] = Stop(reason, self._clock())
                    self._unwritten[canary.mark] = msgspec.json.encode(stop)
                    log.warning("canary_stopped", experiment=canary.title, tier=tier.name, reason=reason)
        self.stopped = frozenset(self._stops)
        if any(True for _ in self.all()):
            async with self._one_at_a_time:
                await self._share()

    async def resume(self, title: str) -> bool:
        """Lets the stopped canaries of this name go on, everywhere. Whether there were any.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        async with self._one_at_a_time:
            await self._share()
            marks = {canary.mark for _, canary in self.all() if canary.title == title and canary.mark in self._stops}
            for mark in marks:
                await self._store.hdel(_STOPPED, mark)
                self._go_on(mark)
        return bool(marks)

    def all(self) -> Iterator[tuple[Tier, Canary]]:
        """Every canary of the catalog in force, with its tier."""
        for tier in self._current().tiers.values():
            for rule in tier.policy:
                if isinstance(rule, Canary):
                    yield tier, rule

    def stop_of(self, canary: Canary) -> Stop | None:
        """Why it was stopped; None while it runs."""
        return self._stops.get(canary.mark)

    async def _share(self) -> None:
        try:
            if unwritten := dict(self._unwritten):
                await self._store.hset(_STOPPED, mapping=unwritten)
                for mark in unwritten:
                    del self._unwritten[mark]
            kept: dict[bytes, bytes] = await self._store.hgetall(_STOPPED)
        except (RedisError, OSError) as error:
            log.warning("canaries_not_shared", error=type(error).__name__)
            return
        found = {mark.decode(): _decode_stop(stop) for mark, stop in kept.items()}
        for mark in self._stops.keys() - found.keys() - self._unwritten.keys():
            self._go_on(mark)
        self._stops.update(found)
        self.stopped = frozenset(self._stops)

    def _go_on(self, mark: str) -> None:
        """Forgets the stop, and what led to it: else the next look would stop the canary again."""
        self._stops.pop(mark, None)
        self._unwritten.pop(mark, None)
        self.stopped = frozenset(self._stops)
        for tier, canary in self.all():
            if canary.mark == mark:
                for deployment in tier.deployments:
                    if deployment.model.name in canary.models:
                        self._statistics.forget(deployment.name)
