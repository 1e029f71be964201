"""Thresholds that budgets passed: kept in the store until somebody has told of them, since an answer can get lost.

`alerts` of a tenant has them by counter and percent: {owner, ms, posted, limit}, written by the step that posts the
money. The owner tells at once, by the answer, or where that was lost at its next look; another process tells where the
owner has not acknowledged in time, or where there is none (corrections). Told is what the webhook took, if there is
one. So each is told once, whoever dies before telling; only a death between telling and acknowledging tells one twice.
"""

from __future__ import annotations

import msgspec

from gateway.ledger.exchange import tag
from gateway.ledger.outbox import Outbox, Passed
from gateway.storage.client import Store

LEASE_S = 300.0
"""How long the owner has: longer than a webhook is tried."""
_TAKE_OVER = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) + 1
"""


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """What the store keeps of one."""

    owner: str
    at_ms: float
    posted: int
    limit: int


_decode = msgspec.msgpack.Decoder(_Kept, strict=False).decode
_encode = msgspec.msgpack.Encoder().encode


class Thresholds:
    """Sees to it that each is told, and forgotten then. Both methods may raise redis.exceptions.RedisError."""

    def __init__(self, store: Store, outbox: Outbox, owner: str) -> None:
        self._store = store
        self._outbox = outbox
        self._owner = owner

    async def acknowledge(self) -> None:
        """Forgets those that this process has told."""
        telling = self._outbox.telling
        for passed, done in list(telling.items()):
            if done is None or done.done():
                await self._store.execute_command("HDEL", tag(passed.tenant) + "alerts", passed.name)
                del telling[passed]

    async def look(self, tenant: str) -> None:
        """Tells those of which nobody has told."""
        key = tag(tenant) + "alerts"
        found: dict[bytes, bytes] = await self._store.execute_command("HGETALL", key)
        for name, packed in found.items():
            kept = _decode(packed)
            if kept.owner != self._owner:
                if kept.owner and self._outbox.now() - kept.at_ms / 1000 < LEASE_S:
                    continue
                mine = _encode(_Kept(self._owner, int(self._outbox.now() * 1000), kept.posted, kept.limit))
                if not await self._store.execute_command("EVAL", _TAKE_OVER, 1, key, name, packed, mine):
                    continue
            counter, percent = name.decode().rsplit("|", 1)
            self._outbox.passed(Passed(tenant, counter, int(percent)), kept.posted, kept.limit)
