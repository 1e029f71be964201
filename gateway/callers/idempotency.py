"""The Idempotency-Key header: a request sent twice is served, and charged, once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Literal

import msgspec

from gateway.callers.caller import Caller
from gateway.callers.records import STORE_AWAY, store_away
from gateway.callers.sealing import Seal
from gateway.errors import CallerError, Kind, bad_request
from gateway.log import get_logger
from gateway.storage.client import Store

KEPT_S = 600
"""How long an answer is kept for repeats."""
IN_FLIGHT_S = 660
"""How long a key stays taken by a request that never told its end: longer than any request may run."""
LARGEST_BYTES = 1024 * 1024
"""Larger answers are not kept."""

_LONGEST_KEY = 255
_NAME = "Idempotency-Key"

_log = get_logger("idempotency")


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """A buffered answer as it went out."""

    status: int
    lines: bytes
    """Its header lines, as `written()` makes them."""
    body: bytes


class _State(msgspec.Struct, array_like=True, frozen=True):
    """What the store holds under a key."""

    fingerprint: bytes
    state: Literal["in_flight", "kept", "not_kept"]
    claim: bytes
    """Random, so that a request which outlived its claim cannot touch the next one's."""
    sealed: bytes = b""


_encode = msgspec.msgpack.encode
_decode_state = msgspec.msgpack.Decoder(_State).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode

_TAKE = """
local held = redis.call('GET', KEYS[1])
if not held then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return held
"""
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Claim:
    """A key taken by the request that came first. Exactly one of its methods is to be called when the request ends."""

    __slots__ = ("_mine", "_name", "_seal", "_state", "_store")

    def __init__(self, store: Any, name: str, seal: Seal, state: _State) -> None:
        self._store = store
        self._name = name
        self._seal = seal
        self._state = state
        self._mine = _encode(state)

    async def keep(self, answer: Answer) -> None:
        """The request was answered: repeats get this answer (or, where it is too large to keep, are told so)."""
        plain = _encode(answer)
        if len(plain) > LARGEST_BYTES:
            await self.keep_nothing()
        else:
            await self._end(msgspec.structs.replace(self._state, state="kept", sealed=self._seal.close(plain)))

    async def keep_nothing(self) -> None:
        """The request was served by a stream: repeats are refused rather than charged again."""
        await self._end(msgspec.structs.replace(self._state, state="not_kept"))

    async def release(self) -> None:
        """The request failed: it may be sent again under the same key."""
        await self._end(None)

    async def _end(self, state: _State | None) -> None:
        value = b"" if state is None else _encode(state)
        try:
            await self._store.execute_command("EVAL", _REPLACE, 1, self._name, self._mine, value, KEPT_S)
        except STORE_AWAY as error:  # the key stays taken until it expires: refused repeats rather than a second charge
            _log.warning("idempotency_not_kept", error=type(error).__name__)


class Idempotency:
    """Keeps which requests were made under which keys, each caller's apart."""

    def __init__(self, store: Store, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._store: Any = store
        self._random = random

    async def claim(
        self, caller: Caller, authorization: bytes, key: bytes, target: bytes, body: bytes
    ) -> Claim | Answer:
        """Takes the key for this request, or gives the answer that it got before.

        `key` is the header's value, `target` the request's path. Answers are sealed with keys made from the credential
        and the idempotency key, neither of which the store has.

        Raises:
            CallerError: BAD_REQUEST for a key that is none, IDEMPOTENCY_MISMATCH where it was used for another request
                or its answer was not kept, IDEMPOTENCY_IN_FLIGHT while the first request runs.
            GatewayUnavailable: LEDGER_DOWN, the store cannot say whether this is a repeat.
        """
        if not (0 < len(key) <= _LONGEST_KEY and all(0x21 <= byte <= 0x7E for byte in key)):
            raise bad_request(f"{_NAME} must be 1 to {_LONGEST_KEY} visible ASCII characters.", _NAME)
        seal = Seal(authorization.partition(b" ")[2], key, self._random)
        state = _State(seal.fingerprint(target + b"\0" + body), "in_flight", self._random(16))
        name = f"{{t:{caller.tenant}}}:idem:{sha256(caller.key_id.encode() + b':' + key).hexdigest()}"
        try:
            held = await self._store.execute_command("EVAL", _TAKE, 1, name, _encode(state), IN_FLIGHT_S)
        except STORE_AWAY:
            raise store_away() from None
        if held is None:
            return Claim(self._store, name, seal, state)
        return _repeat(_decode_state(held), state.fingerprint, seal)


def _repeat(first: _State, fingerprint: bytes, seal: Seal) -> Answer:
    """What a repeat gets."""
    if first.fingerprint != fingerprint:
        raise CallerError(
            Kind.IDEMPOTENCY_MISMATCH,
            f"This {_NAME} was used for another request. Choose a new one for each request.",
            param=_NAME,
        )
    if first.state == "in_flight":
        raise CallerError(
            Kind.IDEMPOTENCY_IN_FLIGHT,
            f"The first request with this {_NAME} is still running.",
            param=_NAME,
            retry_after_s=1,
            retryable=True,
        )
    plain = seal.open(first.sealed) if first.state == "kept" else None
    if plain is None:
        raise CallerError(
            Kind.IDEMPOTENCY_MISMATCH,
            f"The first request with this {_NAME} was answered, and its answer (a stream, or over 1 MiB) is not kept. "
            "Choose a new one to ask, and be charged, again.",
            param=_NAME,
            code="idempotency_answer_not_kept",
        )
    return _decode_answer(plain)
