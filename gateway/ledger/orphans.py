"""Attempts whose process died after sending: booked at worst, and at best knowledge a day later."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.ledger.exchange import tag
from gateway.ledger.history import Story
from gateway.ledger.outbox import Outbox
from gateway.ledger.records import Booking, aid_hour, tombstone
from gateway.ledger.recovery import Orphan, at_last, at_worst
from gateway.storage.client import Store

TRUTH_WITHIN_S = 24 * 3600.0
"""How long the whole hold stays booked while the truth may still come to light."""
_MOST_AT_ONCE = 200

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Orphan).decode


class Orphans:
    """Books orphans of any tenant."""

    def __init__(self, store: Store, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock

    async def book(self, tenant: str, orphans: dict[str, Orphan]) -> None:
        """Books them (by attempt id) at worst; whole holds are noted first, so that none is forgotten.

        Raises:
            StoreDown, redis.exceptions.RedisError: perhaps some are booked; booking all of them again is safe.
        """
        bookings = []
        for aid, orphan in orphans.items():
            item, whole = at_worst(orphan)
            bookings.append(item)
            if whole:
                due = aid_hour(aid) * 3600 + TRUTH_WITHIN_S
                await self._store.execute_command("HSET", tag(tenant) + "orphans", aid, _encode(orphan))
                await self._store.execute_command("ZADD", tag(tenant) + "orphans:due", due, aid)
        await self._outbox.book(tenant, bookings)

    async def settle_due(self, tenant: str) -> None:
        """Replaces whole holds that are a day old by the best estimate; a truth that came meanwhile stays.

        Raises:
            StoreDown, redis.exceptions.RedisError: the rest is done next time.
        """
        due = tag(tenant) + "orphans:due"
        now = self._outbox.now()
        aids = await self._store.execute_command("ZRANGEBYSCORE", due, "-inf", now, "LIMIT", 0, _MOST_AT_ONCE)
        if not aids:
            return
        found = await self._store.execute_command("HMGET", tag(tenant) + "orphans", *aids)
        bookings = []
        for aid, packed in zip(aids, found, strict=True):
            if packed and await self._booked(tenant, aid.decode()):
                bookings.append(at_last(_decode(packed)))
        await self._outbox.book(tenant, bookings)
        await self._store.execute_command("HDEL", tag(tenant) + "orphans", *aids)
        await self._store.execute_command("ZREM", due, *aids)

    async def end_of_slab(self, slab: Story) -> Booking:
        """What ends a slab of a dead process: it is freed, or taken back where it was booked at worst meanwhile.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        envelope = slab.envelope
        if await self._booked(envelope.tenant, envelope.aid):
            return at_last(Orphan(slab.sealed.decode(), 0, 0, 0))
        return tombstone(envelope.aid)

    async def _booked(self, tenant: str, aid: str) -> bool:
        """Whether an attempt is booked as an estimate."""
        marker = await self._store.execute_command("HGET", f"{tag(tenant)}d:{aid_hour(aid)}", aid)
        return marker is not None and marker.startswith(b"E:")
