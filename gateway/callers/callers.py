"""From an Authorization header to a caller: from memory while it is fresh, from the store otherwise."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

from gateway.background import end
from gateway.callers.caller import Caller, caller_of
from gateway.callers.keys import Key, Pepper, parse
from gateway.callers.records import STORE_AWAY, KeyRecord, KeyRecords, StoredSecret, Unsealed, store_away
from gateway.callers.throttle import Throttle
from gateway.errors import CallerError, Kind
from gateway.log import get_logger

FRESH_S = 5.0
"""How long a record is trusted after it was asked for: a revoked key is dead everywhere within this time."""
REFRESH_S = 3.0
"""Age from which a use asks for the record again in the background, so that a busy key never waits for the store."""
GRACE_S = 60.0
"""How long a record is trusted while the store cannot be asked."""
WRONG_S = 1.0
"""How long a credential that was wrong is taken to be so still: an app that goes on with a revoked key costs one
look-up a second, and no try of those who share its address."""

_RETRY_S = 1.0
_LOOKUP_S = 1.0
_PATIENCE_S = 0.25
"""How long a caller who was right a moment ago waits for the store; after that it counts as away."""
_KNOWN = 20_000
_WRONG = 1_000
_NOBODY = (StoredSecret("0" * 64),)

_log = get_logger("callers")


class _Known:
    """What is remembered of a credential that was right. Times are monotonic seconds."""

    __slots__ = ("caller", "digest", "fresh_until", "grace_until", "key", "record", "refresh_at")

    def __init__(
        self,
        caller: Caller,
        record: KeyRecord | None,
        key: tuple[str, str],
        digest: str,
        asked_at: float,
        ends_at: float,
    ) -> None:
        self.caller = caller
        self.record = record
        """What the caller was made of; None for one of the installation's settings."""
        self.key = key
        self.digest = digest
        self.fresh_until = min(asked_at + FRESH_S, ends_at)
        self.refresh_at = min(asked_at + REFRESH_S, self.fresh_until)
        self.grace_until = min(asked_at + GRACE_S, ends_at)

    def hold_over(self, now: float) -> None:
        """Stays trusted for another moment while the store is away, never past its grace."""
        self.fresh_until = max(self.fresh_until, min(now + _RETRY_S, self.grace_until))
        self.refresh_at = min(now + _RETRY_S / 2, self.fresh_until)


class Callers:
    """Who presents which credential.

    `bootstrap` maps digests (of `pepper.digest`) of the credentials that are part of the installation's settings to
    their callers; they are known without the store.
    """

    def __init__(
        self,
        records: KeyRecords,
        pepper: Pepper,
        bootstrap: Mapping[str, Caller],
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._records = records
        self._pepper = pepper
        self._bootstrap = bootstrap
        self._clock = clock
        self._monotonic = monotonic
        self._throttle = Throttle(monotonic)
        self._known: dict[bytes, _Known] = {}
        """By the SHA-256 of the whole header: no credential is kept in memory, and only right ones take a place."""
        self._wrong: dict[bytes, float] = {}
        """Until when a credential counts as wrong, by the same digest."""
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._changes = 0
        """How often something was forgotten; what was asked for before may be from before the change."""

    def cached(self, name: bytes) -> Caller | None:
        """The caller whose header has this name (see `name_of()`), where that is known without asking or checking
        anything further; for the request path."""
        known = self._known.get(name)
        if known is None or known.caller.networks:
            return None
        return known.caller if self._monotonic() < known.refresh_at else self._fresh(name)

    def _fresh(self, name: bytes) -> Caller | None:
        known = self._known.get(name)
        if known is None:
            return None
        now = self._monotonic()
        if now >= known.refresh_at:
            if now >= known.fresh_until:
                return None
            self._ask(name, known.key, known.digest)
        return known.caller

    async def identify(self, authorization: bytes | None, client_ip: str | None) -> Caller:
        """The caller behind the value of an Authorization header (see `credential()`).

        Raises:
            CallerError: UNAUTHENTICATED, in the same words for every wrong key; RATE_LIMIT for a client that guesses.
            GatewayUnavailable: LEDGER_DOWN, the store cannot be asked and the key was not in use lately.
        """
        caller = await self._find(authorization, client_ip)
        if not caller.admits(client_ip):
            raise _incorrect()
        return caller

    async def _find(self, authorization: bytes | None, client_ip: str | None) -> Caller:
        token = _token(authorization)
        if authorization is None or token is None:
            raise _missing()
        name = name_of(authorization)
        if caller := self._fresh(name):
            return caller
        digest = self._pepper.digest(token)
        if caller := self._bootstrap.get(digest):
            self._remember(name, _Known(caller, None, ("", ""), digest, math.inf, math.inf))
            return caller
        key = parse(token)
        if key is None:
            raise _incorrect()
        if self._wrong.get(name, 0.0) > self._monotonic():
            raise _incorrect()
        if name not in self._known and (wait := self._throttle.wait_s(client_ip)):
            raise CallerError(Kind.RATE_LIMIT, "Too many wrong API keys from this address.", retry_after_s=wait)
        return await self._look_up(name, key, digest, client_ip)

    async def _look_up(self, name: bytes, key: Key, digest: str, client_ip: str | None) -> Caller:
        known = self._known.get(name)
        try:
            async with asyncio.timeout(None if known is None else _PATIENCE_S):
                caller = await asyncio.shield(self._ask(name, (key.tenant, key.key_id), digest))
        except STORE_AWAY:
            known = self._known.get(name)
            if known is None or self._monotonic() >= known.grace_until:
                raise store_away() from None
            known.hold_over(self._monotonic())
            return known.caller
        if caller is None:
            self._throttle.failed(client_ip)
            if len(self._wrong) >= _WRONG:
                del self._wrong[next(iter(self._wrong))]
            self._wrong[name] = self._monotonic() + WRONG_S
            raise _incorrect()
        return caller

    def forget(self, tenant: str, key_id: str) -> None:
        """Drops what is remembered of a key, so that a change holds in this process at once."""
        self._wrong.clear()
        self._changes += 1
        for name in [name for name, known in self._known.items() if known.key == (tenant, key_id)]:
            del self._known[name]

    async def close(self) -> None:
        """Ends the background work."""
        tasks = list(self._asking.values())
        await end(*tasks)

    def _ask(self, name: bytes, key: tuple[str, str], digest: str) -> asyncio.Task[Caller | None]:
        """Asks the store, once for all who want the same answer now."""
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._refresh(name, key, digest))
            self._asking[name] = task
            task.add_done_callback(lambda done: self._asked(name, done))
        return task

    def _asked(self, name: bytes, task: asyncio.Task[Caller | None]) -> None:
        del self._asking[name]
        if not task.cancelled() and (error := task.exception()):  # looked at here, since nobody may be waiting for it
            _log.warning("key_lookup_failed", error=type(error).__name__)

    async def _refresh(self, name: bytes, key: tuple[str, str], digest: str) -> Caller | None:
        """Reads the record anew and remembers or forgets; None where the credential is not right (any more)."""
        asked_at, changes = self._monotonic(), self._changes
        try:
            async with asyncio.timeout(_LOOKUP_S):
                record = await self._records.load(*key)
        except Unsealed:
            _log.error("key_record_unsealed", key_id=key[1])  # changed in the store by another hand: of no worth
            record = None
        except STORE_AWAY:
            if known := self._known.get(name):
                known.hold_over(self._monotonic())
            raise
        ends_at = self._ends_at(record, digest)
        if record is None or ends_at is None:
            self._known.pop(name, None)
            return None
        known = self._known.get(name)
        # Of an unchanged record the same caller: much is remembered by it and by its limits.
        caller = known.caller if known is not None and known.record == record else caller_of(record)
        if changes == self._changes:
            self._remember(name, _Known(caller, record, key, digest, asked_at, ends_at))
        return caller

    def _ends_at(self, record: KeyRecord | None, digest: str) -> float | None:
        """When (monotonic) this credential's validity ends by what the record says; None where it is not valid."""
        now = self._clock()
        ends = None
        for secret in record.secrets if record else _NOBODY:
            right = hmac.compare_digest(secret.digest, digest)
            if right and record and record.active(now) and now < (end := secret.expires_at or math.inf):
                ends = min(end, record.expires_at or math.inf)
        return None if ends is None else self._monotonic() + ends - now

    def _remember(self, name: bytes, known: _Known) -> None:
        if len(self._known) >= _KNOWN and name not in self._known:
            del self._known[next(iter(self._known))]
        self._known[name] = known


def name_of(authorization: bytes) -> bytes:
    """What an Authorization header is remembered by."""
    return sha256(authorization).digest()


def credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The credential of a request as the value of an Authorization header, from its header lines (names in lower case).

    Anthropic's `x-api-key` counts where there is no Authorization. A header that comes twice is no credential.
    """
    authorization: bytes | None = None
    api_key: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                return None
            authorization = value
        elif name == b"x-api-key":
            if api_key is not None:
                return None
            api_key = value
    if authorization is None and api_key is not None:
        return b"Bearer " + api_key
    return authorization


def _token(authorization: bytes | None) -> bytes | None:
    """The token of `Bearer <token>`; None where there is none."""
    scheme, _, token = (authorization or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip():
        return None
    return token


def _missing() -> CallerError:
    return CallerError(
        Kind.UNAUTHENTICATED,
        "You didn't provide an API key. Send one in the Authorization header: 'Authorization: Bearer YOUR_KEY'.",
    )


def _incorrect() -> CallerError:
    return CallerError(
        Kind.UNAUTHENTICATED, "Incorrect API key provided. It is unknown, revoked, expired or not valid from here."
    )
