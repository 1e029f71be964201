"""The routing decisions of the last hours, kept in the store so that each can be explained and made again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from redis.exceptions import RedisError

from gateway.catalog.snapshot import Snapshot
from gateway.log import get_logger
from gateway.routing.decision import decode, replay
from gateway.routing.explain import explain
from gateway.storage.client import Store

_FLUSH_S = 0.5
_MOST_WAITING = 50_000
"""Records beyond this are lost while the store is away: they explain the past, they are not money."""

log = get_logger("decisions")


class Decisions:
    """Writes records in batches, one hash for each hour, which the store forgets after `kept_hours`."""

    def __init__(self, store: Store, kept_hours: int) -> None:
        self._store: Any = store
        self._kept_hours = kept_hours
        self._waiting: list[tuple[str, bytes]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def kept(self) -> bool:
        """Whether records are kept at all; making one costs time."""
        return self._kept_hours > 0

    def record(self, request_id: str, record: bytes) -> None:
        """Keeps a record as `decision.encode()` made it."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((request_id, record))

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="decisions")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        waiting, self._waiting = self._waiting, []
        by_hour: dict[str, dict[str, bytes]] = defaultdict(dict)
        for request_id, record in waiting:
            by_hour[_name(request_id)][request_id] = record
        try:
            for name, records in by_hour.items():
                await self._store.hset(name, mapping=records)
                await self._store.expire(name, (self._kept_hours + 1) * 3600)
        except (RedisError, OSError) as error:
            log.warning("decisions_lost", count=len(waiting), error=type(error).__name__)

    async def find(self, request_id: str, snapshot: Snapshot) -> dict[str, Any] | None:
        """How a past request was routed, made again where the catalog is still the same; None where none is kept."""
        await self.flush()
        try:
            name = _name(request_id)
        except ValueError:
            return None
        kept: bytes | None = await self._store.hget(name, request_id)
        if kept is None:
            return None
        record = decode(kept)
        said: dict[str, Any] = {
            "request_id": request_id,
            "catalog": record.catalog,
            "alias": record.alias,
            "tier": record.tier,
            "order": record.order,
            "reproduced": None,
        }
        if record.catalog == snapshot.version:
            plan = replay(record, snapshot, explain=True)
            said["plan"] = explain(plan)
            said["reproduced"] = [c.deployment.name for c in plan.candidates] == record.order
        return said

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._waiting:
                await self.flush()


def _name(request_id: str) -> str:
    """The hash of the hour in which the request came, which its id (a UUIDv7) tells.

    Raises:
        ValueError: it is not an id of ours.
    """
    milliseconds = int(request_id.removeprefix("req_")[:12], 16)
    return f"{{decisions}}:{milliseconds // 3_600_000}"
