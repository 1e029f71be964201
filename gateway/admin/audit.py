"""Who changed what: an append-only stream in which each entry authenticates the one before it.

The chain is an HMAC under the installation's pepper, so that whoever can write to the store alone can neither change
nor forge an entry unnoticed. Each entry also goes to the log: a stream cut short at its end is found by comparing the
two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.callers.caller import Caller
from gateway.callers.keys import Pepper
from gateway.callers.records import store_away
from gateway.log import get_logger
from gateway.storage.client import Store

STREAM = "{audit}:s"
_HEAD = "{audit}:head"
_START = ""
_PAGE = 500
_TRIES = 50

_log = get_logger("audit")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change, or one attempt at it."""

    seq: int
    """Counts from 1 without a gap."""
    at: float
    """Seconds since the epoch."""
    tenant: str
    actor: str
    """Key id."""
    role: str
    action: str
    """What was done to what, e.g. `key.create`."""
    target: str
    before: str
    after: str
    """SHA-256 of what was there and what came of it, in hex; empty for nothing."""
    outcome: Literal["done", "failed"]
    """`done` is written before the change, `failed` follows where the change then did not happen."""
    request_id: str
    ip: str


class Verdict(msgspec.Struct, frozen=True):
    """What checking the whole chain found."""

    ok: bool
    entries: int
    head: str
    """The last entry's hash, to compare with the log's."""
    problem: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AuditEntry).decode

# KEYS stream, head; ARGV seq it must follow, entry, hash
_APPEND = """
if tonumber(redis.call('HGET', KEYS[2], 'seq') or 0) ~= tonumber(ARGV[1]) then return 0 end
redis.call('XADD', KEYS[1], '*', 'entry', ARGV[2], 'hash', ARGV[3])
redis.call('HSET', KEYS[2], 'seq', ARGV[1] + 1, 'hash', ARGV[3])
return 1
"""


class Audit:
    """The audit stream of the installation. Every method may raise one of `STORE_AWAY`."""

    def __init__(self, store: Store, pepper: Pepper, clock: Callable[[], float]) -> None:
        self._store: Any = store
        self._pepper = pepper
        self._clock = clock

    async def append(
        self,
        actor: Caller,
        action: str,
        target: str,
        *,
        request_id: str,
        ip: str,
        before: str = "",
        after: str = "",
        outcome: Literal["done", "failed"] = "done",
    ) -> None:
        """Adds an entry at the end of the chain.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, too many others append at the same time.
        """
        for _ in range(_TRIES):
            seq, previous = await self._head()
            entry = AuditEntry(
                seq=seq + 1,
                at=self._clock(),
                tenant=actor.tenant,
                actor=actor.key_id,
                role=actor.role,
                action=action,
                target=target,
                before=before,
                after=after,
                outcome=outcome,
                request_id=request_id,
                ip=ip,
            )
            text = _encode(entry)
            link = self._link(previous, text)
            if await self._store.execute_command("EVAL", _APPEND, 2, STREAM, _HEAD, seq, text, link):
                _log.info("audit", **msgspec.structs.asdict(entry), hash=link)
                return
        raise store_away()

    async def entries(self, tenant: str, limit: int) -> list[AuditEntry]:
        """The newest entries of a tenant, newest first."""
        found: list[AuditEntry] = []
        last = "+"
        while len(found) < limit:
            page = await self._store.execute_command("XREVRANGE", STREAM, last, "-", "COUNT", _PAGE)
            if not page:
                break
            found += [entry for _, fields in page if (entry := _decode(_value(fields, b"entry"))).tenant == tenant]
            last = "(" + page[-1][0].decode()
        return found[:limit]

    async def verify(self) -> Verdict:
        """Follows the whole chain, all tenants' entries, from its first entry to its head."""
        # the head first: entries that are appended while the chain is read then lie beyond it
        end, head = await self._head()
        count, link, first = 0, _START, "-"
        while count < end:
            page = await self._store.execute_command("XRANGE", STREAM, first, "+", "COUNT", min(_PAGE, end - count))
            if not page:
                return Verdict(False, count, link, f"the stream ends after entry {count}, its head says {end}")
            for _, fields in page:
                count += 1
                text = _value(fields, b"entry")
                link = self._link(link, text)
                if _value(fields, b"hash").decode() != link or _decode(text).seq != count:
                    return Verdict(
                        False, count, link, f"entry {count} has been changed, moved or put in by another hand"
                    )
            first = "(" + page[-1][0].decode()
        if link != head:
            return Verdict(False, count, link, f"the head does not belong to entry {count}")
        return Verdict(True, count, head)

    async def _head(self) -> tuple[int, str]:
        seq, link = await self._store.execute_command("HMGET", _HEAD, "seq", "hash")
        return int(seq or 0), (link or b"").decode()

    def _link(self, previous: str, text: bytes) -> str:
        return self._pepper.seal(b"audit\0" + previous.encode() + b"\0" + text)


def _value(fields: Any, name: bytes) -> bytes:
    """A field of a stream record, which comes as a mapping or as a flat list by the client's protocol version."""
    pairs = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    value: bytes = pairs.get(name, b"")
    return value
