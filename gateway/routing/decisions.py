"""The routing decisions of the last hours, kept in the store so that each can be explained and made again."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from itertools import chain, groupby
from typing import Any

from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.catalog.snapshot import Snapshot
from gateway.log import get_logger
from gateway.routing.circumstances import Unavailable, circumstances, read
from gateway.routing.decision import Record, decode
from gateway.storage.client import Store

_FLUSH_S = 0.5
_MOST_WAITING = 50_000
"""Records beyond this are lost while the store is away: they explain the past, they are not money."""
_PAGE = 500
_BATCH = 128
"""Records of one write: neither this process nor the store stands still for longer than some 0.2 ms over one."""
_CIRCUMSTANCES = "{decisions}:circumstances"
_DOCUMENTS = "{decisions}:documents"
_WRITE = """
local fields = {}
for part in string.gmatch(ARGV[1], '[^\\n]+') do fields[#fields + 1] = part end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
"""A batch is one argument, in lines: the client spends more on an argument than the store on splitting it."""

_Kept = tuple[bytes, bytes]
"""Request id and record, which is JSON and so has no line break in it."""

log = get_logger("decisions")


class Decisions:
    """Writes records in batches, one hash for each hour, which the store forgets after `kept_hours`."""

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

    def record(self, request_id: str, record: bytes) -> None:
        """Keeps a record as `decision.encode()` made it."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((request_id.encode(), record))

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        kept_s = (self._kept_hours + 1) * 3600
        try:
            for name, fields in ((_CIRCUMSTANCES, self._circumstances), (_DOCUMENTS, self._documents)):
                if fields:
                    await self._store.hset(name, mapping=fields)
                await self._store.expire(name, kept_s)
            self._circumstances, self._documents = {}, {}
            for hour, records in _by_hour(waiting):
                for start in range(0, len(records), _BATCH):
                    lines = b"\n".join(chain.from_iterable(records[start : start + _BATCH]))
                    await self._store.execute_command("EVAL", _WRITE, 1, _name(hour), lines, kept_s)
        except (RedisError, OSError) as error:
            log.warning("decisions_lost", count=len(waiting), error=type(error).__name__)

    async def find(self, request_id: str, tenant: str) -> Record | None:
        """The record of a tenant's request; None where none is kept.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        try:
            name = _name(_hour(request_id))
        except ValueError:
            return None
        kept: bytes | None = await self._store.hget(name, request_id)
        record = None if kept is None else decode(kept)
        return record if record is not None and record.tenant == tenant else None

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
        for hour in range(int(at) // 3600, int(now) // 3600 + 1):
            seen: set[bytes] = set()  # a scan may come by the same record twice
            cursor: int | None = None
            while cursor != 0:
                cursor, page = await self._store.hscan(_name(hour), cursor or 0, count=_PAGE)
                for field, record in page.items():
                    request_id = field.decode()
                    if field not in seen and _milliseconds(request_id) >= at * 1000:
                        seen.add(field)
                        if decode(record).tenant == tenant:
                            yield request_id, record


def _by_hour(records: list[_Kept]) -> list[tuple[int, list[_Kept]]]:
    """The records by the hour of their requests; as a rule all are of one, which shows without looking at each."""
    first, last = _hour_of(min(records)), _hour_of(max(records))
    if first == last:
        return [(first, records)]
    return [(hour, [*group]) for hour, group in groupby(sorted(records), key=_hour_of)]


def _hour_of(kept: _Kept) -> int:
    return _hour(kept[0].decode())


def _name(hour: int) -> str:
    return f"{{decisions}}:{hour}"


def _hour(request_id: str) -> int:
    return _milliseconds(request_id) // 3_600_000


def _milliseconds(request_id: str) -> int:
    """When the request came, which its id (a UUIDv7) tells.

    Raises:
        ValueError: it is not an id of ours.
    """
    return int(request_id.removeprefix("req_")[:12], 16)
