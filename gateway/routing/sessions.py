"""Which deployment serves each conversation: known to this process, and kept in the store for the other replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.log import get_logger
from gateway.routing.recent import Recent
from gateway.storage.client import Store

KEPT_S = 86_400
"""How long a conversation may pause and still be known."""
_KNOWN_HERE_S = 3_600.0
_FLUSH_S = 0.5
_PATIENCE_S = 0.25
"""How long a request waits to learn of its session; without the store it is planned as a new one."""
_MOST_WAITING = 50_000

log = get_logger("sessions")


class Sessions:
    """Reads the store only for what this process does not know; writes to it in the background.

    `monotonic` gives seconds that never go back.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store: Any = store
        self._known: Recent[str, str] = Recent(monotonic, _KNOWN_HERE_S)
        self._waiting: dict[str, str] = {}
        self._writer = Repeated("sessions", _FLUSH_S, self.flush)

    async def find(self, place: str) -> str | None:
        """The deployment that serves the session at this place; None for a new one, or while the store is away."""
        known = self._known.get(place)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(_PATIENCE_S):
                kept: bytes | None = await self._store.get(place)
        except (RedisError, OSError) as error:
            log.warning("session_not_found", error=type(error).__name__)
            return None
        if kept is None:
            return None
        deployment = kept.decode()
        self._known.put(place, deployment)
        return deployment

    def put(self, place: str, deployment: str) -> None:
        """The session goes on at this deployment."""
        self._known.put(place, deployment)
        if len(self._waiting) < _MOST_WAITING or place in self._waiting:
            self._waiting[place] = deployment

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        pipeline = self._store.pipeline(transaction=False)
        for place, deployment in waiting.items():
            pipeline.set(place, deployment, ex=KEPT_S)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("sessions_lost", count=len(waiting), error=type(error).__name__)


def place_of(tenant: str, key_id: str, name: str, session: str) -> str:
    """The store's name of a key's session at a tier or model of this name. What callers wrote is only in its digest."""
    digest = blake2b(f"{key_id}\0{name}\0{session}".encode(), digest_size=16).hexdigest()
    return f"{{t:{tenant}}}:session:{digest}"
