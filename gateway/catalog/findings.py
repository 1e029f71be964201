"""What discovery found, in the store: each provider's list, what waits for a decision, what has vanished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.catalog.discovery import Found, Listing
from gateway.catalog.learned import Learned
from gateway.catalog.pending import Pending
from gateway.storage.client import Store

PENDING = "{catalog}:pending"
LISTINGS = "{catalog}:listings"
CHANGES = "{catalog}:changes"
_ASKING = "{catalog}:asking:"
_ASKING_S = 60

_pending = msgspec.json.Decoder(Pending)
_listing = msgspec.json.Decoder(Listing)


class Findings:
    """Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, store: Store) -> None:
        self._store: Any = store
        self._count: bytes | None = b"unknown"
        self._learned = Learned()

    async def pending(self) -> dict[str, Pending]:
        """What waits for a decision, rejected ones included, by `provider/id`."""
        rows = await self._store.execute_command("HVALS", PENDING)
        return {found.key: found for found in map(_pending.decode, rows)}

    async def listings(self) -> dict[str, Listing]:
        """The lists by provider."""
        rows = await self._store.execute_command("HVALS", LISTINGS)
        return {found.provider: found for found in map(_listing.decode, rows)}

    async def keep(self, found: Found) -> None:
        """Remembers what a list brought."""
        for pending in found.new:
            await self._store.execute_command("HSETNX", PENDING, pending.key, msgspec.json.encode(pending))
        if found.dropped:
            await self._store.execute_command("HDEL", PENDING, *found.dropped)
        await self.note(found.listing)

    async def note(self, listing: Listing) -> None:
        """Remembers a list, or that it could not be had."""
        await self._store.execute_command("HSET", LISTINGS, listing.provider, msgspec.json.encode(listing))
        await self._changed()

    async def change(self, pending: Pending) -> None:
        """Replaces what is known of a pending model."""
        await self._store.execute_command("HSET", PENDING, pending.key, msgspec.json.encode(pending))
        await self._changed()

    async def drop(self, key: str) -> None:
        """Forgets a pending model, once it is in the catalog."""
        await self._store.execute_command("HDEL", PENDING, key)
        await self._changed()

    async def claim(self, provider: str) -> bool:
        """Whether this process is the one to ask the provider now."""
        name = _ASKING + provider
        return bool(await self._store.execute_command("SET", name, "1", "NX", "EX", _ASKING_S))

    async def release(self, provider: str) -> None:
        """Ends a claim."""
        await self._store.execute_command("DEL", _ASKING + provider)

    async def learned(self, unusable: Mapping[str, str]) -> Learned:
        """What is to be laid over the catalog; reads the store only where something has changed."""
        count: bytes | None = await self._store.execute_command("GET", CHANGES)
        if count != self._count:
            listings = await self.listings()
            gone = {(name, i): day for name, listing in listings.items() for i, day in listing.vanished.items()}
            pending = {key: found for key, found in (await self.pending()).items() if not found.rejected}
            self._learned = Learned(unusable, gone, pending)
            self._count = count
        if self._learned.unusable != unusable:
            self._learned = Learned(unusable, self._learned.vanished, self._learned.pending)
        return self._learned

    async def _changed(self) -> None:
        await self._store.execute_command("INCR", CHANGES)
