"""Callers over a real store."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from clocks import SetClock
from redis.asyncio import Redis

from gateway.callers.callers import Callers
from gateway.callers.keys import Pepper, mint, new_key_id
from gateway.callers.records import KeyRecord, KeyRecords, StoredSecret
from gateway.callers.roles import Role


@dataclasses.dataclass
class House:
    """Callers, the records behind them, and a way to make keys."""

    store: Any
    records: KeyRecords
    callers: Callers
    pepper: Pepper
    clock: SetClock
    monotonic: SetClock

    async def key(self, **fields: Any) -> tuple[bytes, KeyRecord]:
        """A key in the store: its Authorization header and its record."""
        key_id = fields.pop("key_id", None) or new_key_id()
        tenant = fields.pop("tenant", "main")
        text = mint(tenant, key_id).reveal()
        base = {"name": "a key", "role": Role.APP, "created_at": self.clock(), "created_by": "bootstrapadm"}
        secrets = (StoredSecret(self.pepper.digest(text.encode())),)
        record = KeyRecord(key_id=key_id, tenant=tenant, secrets=secrets, **{**base, **fields})
        assert await self.records.write(record)
        return b"Bearer " + text.encode(), record

    def replica(self) -> Callers:
        """Another process's callers over the same store."""
        return Callers(self.records, self.pepper, {}, clock=self.clock, monotonic=self.monotonic)


def open_house(store: Redis, clock: SetClock, monotonic: SetClock) -> House:
    """Callers without bootstrap credentials."""
    pepper = Pepper(b"a pepper for the tests")
    records = KeyRecords(store, pepper)
    callers = Callers(records, pepper, {}, clock=clock, monotonic=monotonic)
    return House(store, records, callers, pepper, clock, monotonic)


@pytest.fixture
def make_house() -> Callable[[Redis, SetClock, SetClock], House]:
    """For tests that bring their own store."""
    return open_house


@pytest.fixture
async def house(store: Redis, clock: SetClock, monotonic: SetClock) -> AsyncIterator[House]:
    """Callers over the session's store."""
    house = open_house(store, clock, monotonic)
    yield house
    await house.callers.close()
