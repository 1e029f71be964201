"""What is kept of a key, and where: one sealed record each in the tenant's slot of the store."""

from __future__ import annotations

import hmac
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError

from gateway.callers.keys import Pepper
from gateway.callers.roles import Role
from gateway.errors import GatewayUnavailable, Kind
from gateway.ledger.limits import OnStoreDown, Per
from gateway.storage.client import Store

Criticality = Literal["sheddable", "default", "critical"]

STORE_AWAY = (RedisError, OSError)
"""What the store's client raises when it cannot be asked now."""


class BudgetRule(msgspec.Struct, frozen=True):
    """A cap on a key's cost over a period of the calendar, UTC."""

    limit_nano: int
    per: Per
    hard: bool = True
    """Hard budgets refuse what might pass them; soft ones only count and warn."""
    on_store_down: OnStoreDown = "deny"


class StoredSecret(msgspec.Struct, frozen=True):
    """The digest of one secret of a key, under the installation's pepper."""

    digest: str
    expires_at: float | None = None
    """End of a rotated secret's overlap."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Times are seconds since the epoch; None for a limit means that there is none."""

    key_id: str
    tenant: str
    name: str
    role: Role
    secrets: tuple[StoredSecret, ...]
    """Newest first; a second one only while a rotation overlaps."""
    created_at: float
    created_by: str
    """Key id of the minter."""
    version: int = 1
    """Counts changes, so that two at once cannot overwrite each other."""
    team: str = ""
    tags: dict[str, str] = {}
    tiers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    denied_models: tuple[str, ...] = ()
    budgets: tuple[BudgetRule, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    rates_on_store_down: OnStoreDown = "allow"
    """What becomes of requests under rpm, tpm and concurrency while the store is away; each budget has its own word."""
    cidrs: tuple[str, ...] = ()
    criticality: Criticality = "default"
    not_before: float | None = None
    expires_at: float | None = None
    revoked_at: float | None = None

    def active(self, at: float) -> bool:
        """Whether the key may be used at this time."""
        return (
            self.revoked_at is None
            and (self.not_before is None or self.not_before <= at)
            and (self.expires_at is None or at < self.expires_at)
        )


class Unsealed(Exception):
    """A record in the store that was not sealed with this installation's pepper: another hand, or another pepper."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KeyRecord).decode

# KEYS record, index of the tenant's keys; ARGV the version it must follow (0: none yet), record, seal, key id
_WRITE = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'seal', ARGV[3], 'version', ARGV[1] + 1)
redis.call('SADD', KEYS[2], ARGV[4])
return 1
"""


class KeyRecords:
    """The key records of the store. Every method may raise one of `STORE_AWAY`."""

    def __init__(self, store: Store, pepper: Pepper) -> None:
        self._store: Any = store
        self._pepper = pepper

    async def load(self, tenant: str, key_id: str) -> KeyRecord | None:
        """The record, or None where there is none.

        Raises:
            Unsealed: it is not as this gateway wrote it.
        """
        return self._read(await self._store.execute_command("HMGET", record_name(tenant, key_id), "record", "seal"))

    async def all(self, tenant: str) -> list[KeyRecord]:
        """Every record of a tenant, revoked ones included, oldest first."""
        pipeline = self._store.pipeline(transaction=False)
        for key_id in await self._store.execute_command("SMEMBERS", _index(tenant)):
            pipeline.execute_command("HMGET", record_name(tenant, key_id.decode()), "record", "seal")
        records = [self._read(fields) for fields in await pipeline.execute()]
        return sorted((r for r in records if r is not None), key=lambda r: (r.created_at, r.key_id))

    async def write(self, record: KeyRecord) -> bool:
        """Writes a new record, or the next version of the one kept; False where another change came first."""
        text = _encode(record)
        keys = (record_name(record.tenant, record.key_id), _index(record.tenant))
        values = (record.version - 1, text, self._pepper.seal(text), record.key_id)
        return bool(await self._store.execute_command("EVAL", _WRITE, 2, *keys, *values))

    def _read(self, fields: list[bytes | None]) -> KeyRecord | None:
        text, seal = fields
        if text is None:
            return None
        if seal is None or not hmac.compare_digest(seal, self._pepper.seal(text).encode()):
            raise Unsealed
        return _decode(text)


def record_name(tenant: str, key_id: str) -> str:
    """The store's name of a key record."""
    return f"{{t:{tenant}}}:k:{key_id}"


def _index(tenant: str) -> str:
    return f"{{t:{tenant}}}:keys"


def store_away() -> GatewayUnavailable:
    """The answer while the store cannot be asked and no cached knowledge will do."""
    return GatewayUnavailable(
        Kind.LEDGER_DOWN, "The gateway's store cannot be reached just now. Try again shortly.", retry_after_s=1
    )
