"""The routing decisions of the last hours, kept in the store so that each can be explained and made again.

Every request leaves one, few are ever read: so they are kept in batches, a compressed text of many lines under the
first and the last id in it, and a reader looks through the batches of the minute.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Raw
from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.catalog.snapshot import Snapshot
from gateway.log import get_logger
from gateway.routing.circumstances import Unavailable, circumstances, read
from gateway.routing.decision import Record, decode
from gateway.storage.client import Store

_FLUSH_S = 0.5
_MOST_WAITING = 50_000
"""Records beyond this, the oldest, are lost while the store is away: they explain the past, they are not money."""
_BATCH = 256
"""Records of one write: this process does not stand still for longer than some 0.3 ms over one."""
_CIRCUMSTANCES = "{decisions}:circumstances"
_DOCUMENTS = "{decisions}:documents"
_Kept = tuple[str, bytes]
"""Request id, and the line that is kept of it: JSON of the id and the record."""

_encode = msgspec.json.Encoder().encode
_id = itemgetter(0)
_decode_line = msgspec.json.Decoder(tuple[str, Raw]).decode

log = get_logger("decisions")


class Decisions:
    """Writes records in batches, in a hash for each minute, which the store forgets after `kept_hours`."""

    def __init__(self, store: Store, kept_hours: int) -> None:
        self._store: Any = store
        self._kept_hours = kept_hours
        self._waiting: list[_Kept] = []
        self._circumstances: dict[str, bytes] = {}
        """Those of this process, to be written with the next records."""
        self._documents: dict[str, bytes] = {}
        """Likewise the catalogs' documents, by version, compressed."""
        self._writer = Repeated("decisions", _FLUSH_S, self.flush)

    @property
    def kept(self) -> bool:
        """Whether records are kept at all; making one costs time."""
        return self._kept_hours > 0

    def begin(self, snapshot: Snapshot, document: bytes) -> None:
        """From now on plans are made from this snapshot of this document."""
        digest, text = circumstances(snapshot)
        self._circumstances[digest] = text
        self._documents[snapshot.version] = zlib.compress(document)

    def record(self, request_id: str, record: Record) -> None:
        """Keeps a request's record: as text at once, which takes a third of the memory until it is written."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((request_id, _encode((request_id, record))))

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        if not self._waiting:
            return
        batches, self._waiting = _batches(self._waiting), []
        circumstances, self._circumstances = self._circumstances, {}
        documents, self._documents = self._documents, {}
        kept_s = (self._kept_hours + 1) * 3600
        try:
            for name, fields in ((_CIRCUMSTANCES, circumstances), (_DOCUMENTS, documents)):
                if fields:
                    await self._store.hset(name, mapping=fields)
                await self._store.expire(name, kept_s)
            while batches:
                minute, batch = batches[0]
                name = _name(minute)
                await self._store.hset(name, _span(batch), _packed(batch))
                await self._store.expire(name, kept_s)
                del batches[0]
        except (RedisError, OSError) as error:
            self._circumstances = circumstances | self._circumstances
            self._documents = documents | self._documents
            waiting = [kept for _, batch in batches for kept in batch] + self._waiting
            lost = max(0, len(waiting) - _MOST_WAITING)
            self._waiting = waiting[lost:]
            log.warning("decisions_wait", count=len(self._waiting), lost=lost, error=type(error).__name__)

    async def find(self, request_id: str, tenant: str) -> Record | None:
        """The record of a tenant's request; None where none is kept.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        try:
            name = _name(_minute(request_id))
        except ValueError:
            return None
        for span in await self._store.hkeys(name):
            first, _, last = span.decode().partition(" ")
            if first <= request_id <= last:
                for kept, raw in _lines(await self._store.hget(name, span)):
                    if kept == request_id and (record := decode(raw)).tenant == tenant:
                        return record
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
                for request_id, raw in _lines(await self._store.hget(name, span)):
                    if _milliseconds(request_id) >= at * 1000 and decode(raw).tenant == tenant:
                        yield request_id, bytes(raw)


def _batches(records: list[_Kept]) -> list[tuple[int, list[_Kept]]]:
    """The records in the pieces that they are written in, each with its minute."""
    return [
        (minute, of_minute[start : start + _BATCH])
        for minute, of_minute in _by_minute(records)
        for start in range(0, len(of_minute), _BATCH)
    ]


def _by_minute(records: list[_Kept]) -> list[tuple[int, list[_Kept]]]:
    """The records by the minute of their requests; as a rule all are of one, which shows without looking at each."""
    first, last = _minute(min(records, key=_id)[0]), _minute(max(records, key=_id)[0])
    if first == last:
        return [(first, records)]
    by_id = sorted(records, key=_id)
    return [(minute, [*group]) for minute, group in groupby(by_id, key=lambda kept: _minute(kept[0]))]


def _span(batch: list[_Kept]) -> str:
    """What a batch is kept under: the first and the last id in it."""
    return f"{min(batch, key=_id)[0]} {max(batch, key=_id)[0]}"


def _packed(batch: list[_Kept]) -> bytes:
    """A batch as it is kept: a sixth of its text, for half a microsecond a record."""
    return zlib.compress(b"\n".join([line for _, line in batch]), level=1)


def _lines(batch: bytes | None) -> list[tuple[str, Raw]]:
    return [] if batch is None else [_decode_line(line) for line in zlib.decompress(batch).splitlines()]


def _name(minute: int) -> str:
    return f"{{decisions}}:{minute}"


def _minute(request_id: str) -> int:
    return _milliseconds(request_id) // 60_000


def _milliseconds(request_id: str) -> int:
    """When the request came, which its id (a UUIDv7) tells.

    Raises:
        ValueError: it is not an id of ours.
    """
    return int(request_id.removeprefix("req_")[:12], 16)
