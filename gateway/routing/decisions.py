"""The routing decisions of the last hours, kept in the store so that each can be explained and made again.

Every request leaves one, few are ever read: so they are kept in batches (see `batch.py`) under the first and the last
id in each, and a reader looks through the batches of the minute.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.catalog.snapshot import Snapshot
from gateway.log import get_logger
from gateway.routing.batch import Decided, Packed, Whole, milliseconds_of, minute_of, packed, unpacked
from gateway.routing.circumstances import Unavailable, circumstances, read
from gateway.routing.decision import Record, encode
from gateway.storage.client import Store

_FLUSH_S = 0.5
_BATCH = 256
"""Records of one write: this process does not stand still for longer than some 0.2 ms over one."""
_WRITTEN_TOGETHER = 16
"""Batches of one command: some 100 KB."""
_MOST_WAITING = 50_000
"""Records beyond this, the oldest, are lost while the store is away: they explain the past, they are not money."""
_CIRCUMSTANCES = "{decisions}:circumstances"
_DOCUMENTS = "{decisions}:documents"

_minute = attrgetter("minute")

log = get_logger("decisions")


class Decisions:
    """Writes records in batches, in a hash for each minute, which the store forgets after `kept_hours`."""

    def __init__(self, store: Store, kept_hours: int) -> None:
        self._store: Any = store
        self._kept_hours = kept_hours
        self.kept = kept_hours > 0
        """Whether records are kept at all; making one costs time."""
        self._recorded: list[Whole | Decided] = []
        """Less than a batch."""
        self._waiting: list[Packed] = []
        self._lost = 0
        """Records that were dropped and not told of yet."""
        self._circumstances: dict[str, bytes] = {}
        """Those of this process, to be written with the next records."""
        self._documents: dict[str, bytes] = {}
        """Likewise the catalogs' documents, by version, compressed."""
        self._writer = Repeated("decisions", _FLUSH_S, self.flush)

    def begin(self, snapshot: Snapshot, document: bytes) -> None:
        """From now on plans are made from this snapshot of this document."""
        digest, text = circumstances(snapshot)
        self._circumstances[digest] = text
        self._documents[snapshot.version] = zlib.compress(document)

    def record(self, request_id: str, record: Record) -> None:
        """Keeps a request's record."""
        self.keep(Whole(request_id, record))

    def keep(self, kept: Whole | Decided) -> None:
        """Keeps a request's record, or that of its plan."""
        self._recorded.append(kept)
        if len(self._recorded) >= _BATCH:
            self._pack()

    def _pack(self) -> None:
        """Packed, records take little memory until they are written."""
        if self._recorded:
            recorded, self._recorded = self._recorded, []
            self._waiting += packed(recorded)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drops what waits beyond what may."""
        waiting = sum(batch.count for batch in self._waiting)
        while waiting > _MOST_WAITING:
            lost = self._waiting.pop(0).count
            waiting -= lost
            self._lost += lost

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        self._pack()
        if not self._waiting:
            return
        batches, self._waiting = self._waiting, []
        circumstances, self._circumstances = self._circumstances, {}
        documents, self._documents = self._documents, {}
        kept_s = (self._kept_hours + 1) * 3600
        try:
            for name, fields in ((_CIRCUMSTANCES, circumstances), (_DOCUMENTS, documents)):
                if fields:
                    await self._store.hset(name, mapping=fields)
                await self._store.expire(name, kept_s)
            while batches:
                minute, group = next(groupby(batches[:_WRITTEN_TOGETHER], key=_minute))
                written = {batch.span: batch.data for batch in group}
                await self._store.hset(_name(minute), mapping=written)
                await self._store.expire(_name(minute), kept_s)
                del batches[: len(written)]
        except (RedisError, OSError) as error:
            self._circumstances = circumstances | self._circumstances
            self._documents = documents | self._documents
            self._waiting = batches + self._waiting
            self._drop_oldest()
            count, lost, self._lost = sum(batch.count for batch in self._waiting), self._lost, 0
            log.warning("decisions_wait", count=count, lost=lost, error=type(error).__name__)

    async def find(self, request_id: str, tenant: str) -> Record | None:
        """The record of a tenant's request; None where none is kept.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        try:
            name = _name(minute_of(request_id))
        except ValueError:
            return None
        for span in await self._store.hkeys(name):
            first, _, last = span.decode().partition(" ")
            if first <= request_id <= last:
                for kept in unpacked(await self._store.hget(name, span)):
                    if kept.id == request_id and kept.record.tenant == tenant:
                        return kept.record
        return None

    async def unavailable(self, digest: str) -> Unavailable | None:
        """Which providers could not be used under these circumstances; None where that is not kept.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        kept: bytes | None = await self._store.hget(_CIRCUMSTANCES, digest)
        return None if kept is None else read(kept)

    async def document(self, version: str) -> bytes | None:
        """The catalog document that plans of this version were made from; None where it is not kept.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        kept: bytes | None = await self._store.hget(_DOCUMENTS, version)
        return None if kept is None else zlib.decompress(kept)

    async def all_circumstances(self) -> dict[str, dict[str, str]]:
        """Every set of circumstances that is kept, by digest.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        kept: dict[bytes, bytes] = await self._store.hgetall(_CIRCUMSTANCES)
        return {digest.decode(): dict(read(text)) for digest, text in kept.items()}

    async def since(self, at: float, now: float, tenant: str) -> AsyncIterator[tuple[str, bytes]]:
        """Ids and records, as `decode()` takes them, of a tenant's requests from `at` to `now` (epoch seconds).

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        for minute in range(int(at) // 60, int(now) // 60 + 1):
            name = _name(minute)
            for span in await self._store.hkeys(name):
                for kept in unpacked(await self._store.hget(name, span)):
                    if milliseconds_of(kept.id) >= at * 1000 and kept.record.tenant == tenant:
                        yield kept.id, encode(kept.record)


def _name(minute: int) -> str:
    return f"{{decisions}}:{minute}"
