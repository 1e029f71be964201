"""Attempts of whose end nobody knows: booked at worst, and at best knowledge a day later."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import msgspec

from gateway.ledger.exchange import tag
from gateway.ledger.history import Story
from gateway.ledger.outbox import Outbox
from gateway.ledger.records import Booking, aid_hour, tombstone
from gateway.ledger.recovery import Orphan, at_last, at_worst
from gateway.storage.client import Store

_MOST_AT_ONCE = 200

_decode = msgspec.msgpack.Decoder(Orphan).decode


class Orphans:
    """Books orphans of any tenant."""

    def __init__(self, store: Store, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock

    async def book(self, tenant: str, orphans: dict[str, Orphan]) -> None:
        """Books those of dead processes (by attempt id) at worst.

        Raises:
            StoreDown, redis.exceptions.RedisError: perhaps some are booked; booking all of them again is safe.
        """
        await self._outbox.book(tenant, [at_worst(orphan) for orphan in orphans.values()])

    async def settle_due(self, tenant: str) -> None:
        """Replaces whole holds that are a day old by the best estimate; a truth that came meanwhile stays.

        Raises:
            StoreDown, redis.exceptions.RedisError: the rest is done next time.
        """
        while await self._settle_some(tenant) == _MOST_AT_ONCE:
            pass

    async def _settle_some(self, tenant: str) -> int:
        due = tag(tenant) + "orphans:due"
        now = self._outbox.now()
        aids = await self._store.execute_command("ZRANGEBYSCORE", due, "-inf", now, "LIMIT", 0, _MOST_AT_ONCE)
        if not aids:
            return 0
        found = await self._store.execute_command("HMGET", tag(tenant) + "orphans", *aids)
        booked = await self._booked(tenant, [aid.decode() for aid in aids])
        bookings = [
            at_last(_decode(packed)) for aid, packed in zip(aids, found, strict=True) if packed and aid in booked
        ]
        await self._outbox.book(tenant, bookings)
        await self._store.execute_command("HDEL", tag(tenant) + "orphans", *aids)
        await self._store.execute_command("ZREM", due, *aids)
        return len(aids)

    async def end_of_slab(self, slab: Story) -> Booking:
        """What ends a slab of a dead process: it is freed, or taken back where it was booked at worst meanwhile.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        envelope = slab.envelope
        if await self._booked(envelope.tenant, [envelope.aid]):
            return at_last(Orphan(slab.sealed.decode(), 0, 0, 0))
        return tombstone(envelope.aid)

    async def _booked(self, tenant: str, aids: list[str]) -> set[bytes]:
        """Those of these attempts that are booked as estimates."""
        booked = set()
        for hour, some in groupby(sorted(aids), aid_hour):
            of_hour = list(some)
            markers = await self._store.execute_command("HMGET", f"{tag(tenant)}d:{hour}", *of_hour)
            found = zip(of_hour, markers, strict=True)
            booked |= {aid.encode() for aid, marker in found if marker is not None and marker.startswith(b"E:")}
        return booked
