"""One round trip with the store: endings, reservations and renewals of a tenant in a single script call."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgspec
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from gateway.errors import masked
from gateway.ledger.records import Booking
from gateway.ledger.sums import add_up, alone
from gateway.storage.client import Store


class StoreDown(Exception):
    """The store did not answer, or not now. Whether it applied what it was asked is not known."""


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """What exchange.lua answers."""

    now_ms: int
    count: int
    """Exchanges of this owner that the store remembers; less than were answered means that it lost some."""
    exceptions: list[tuple[int, str]]
    """Index and verdict (DUP, LATE, CONFLICT, ADJ) of endings that did not simply apply."""
    touched: list[tuple[str, int, int]]
    """Budget counters with what they hold and have posted now."""
    alerts: list[tuple[str, int, int, int]]
    """Budget counters that passed a threshold: percent, posted, limit."""
    verdicts: list[tuple[Any, ...]]
    """One for each reservation; see reserve.lua."""


class Expired(msgspec.Struct, array_like=True, frozen=True):
    """What sweep.lua answers."""

    now_ms: int
    count: int
    attempts: list[tuple[str, Any, Any]]
    """Attempt id, held record or False, progress record or False."""


TENANTS = "tenants"
"""The set of all tenants that ever had an attempt, so that any process can sweep them."""

_encode = msgspec.msgpack.Encoder().encode
_decode_reply = msgspec.msgpack.Decoder(Reply | None, strict=True).decode
_decode_expired = msgspec.msgpack.Decoder(Expired).decode


class Exchange:
    """The scripts as this store takes them."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._normal = Script(source_of("common", "finish", "reserve", "exchange"))
        self._when_full = self._normal
        self._sweep = Script(source_of("sweep"))
        self._announced: set[str] = set()

    def allow_when_full(self) -> None:
        """Lets endings through while the store is out of memory; servers from version 7 on can."""
        self._when_full = Script("#!lua flags=allow-oom\n" + self._normal.source)

    def announce_again(self, tenant: str) -> None:
        """Makes the next exchange announce the tenant: the store may have forgotten it."""
        self._announced.discard(tenant)

    async def run(
        self,
        tenant: str,
        at: float,
        finishes: list[Booking],
        reservations: list[Booking],
        renewals: list[Booking],
        told: int = 0,
    ) -> Reply:
        """Applies all of it, in one step. `told` is the count of the last answer: a store that has less has lost some.

        It goes on counting only once that is known here, since answers may get lost as well.

        Raises:
            StoreDown: perhaps applied; asking again with the same items is safe.
        """
        if tenant not in self._announced:
            await self._announce(tenant, held=bool(reservations))
        script = self._normal if reservations else self._when_full
        for sums, apart in (add_up(finishes), (None, range(len(finishes)))):
            single = [alone(finishes[index]) for index in apart]
            lines, summed = (b"", None) if sums is None else (sums.text, sums[:-1])
            payload = _encode((self._owner, at * 1000, single, reservations, renewals, summed, told))
            reply: Reply | None = _decode_reply(await script.run(self._store, tag(tenant), payload, lines))
            if reply is None:  # some of those added up have ended before: now each is told by itself
                continue
            if reply.exceptions:  # Lua counts from one
                exceptions = [(apart[number - 1] + 1, verdict) for number, verdict in reply.exceptions]
                reply = msgspec.structs.replace(reply, exceptions=exceptions)
            return reply
        raise StoreDown("the store answered in another form than the script's")

    async def expired(self, tenant: str, grace_s: float) -> Expired:
        """Attempts whose lease ran out more than `grace_s` ago.

        Raises:
            StoreDown: the store does not answer.
        """
        return _decode_expired(await self._sweep.run(self._store, tag(tenant), self._owner, int(grace_s * 1000)))

    async def _announce(self, tenant: str, *, held: bool) -> None:
        """Adds a tenant to those that every process sweeps, before anything of it can be held.

        It is not done in the script, since a cluster has it elsewhere. A full store still takes endings.
        """
        try:
            await self._store.execute_command("SADD", TENANTS, tenant)
        except OutOfMemoryError as error:
            if held:
                raise StoreDown("out of memory") from error
            return
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreDown(_short(error)) from error
        self._announced.add(tenant)


class Script:
    """A script as the store is given it: by name once it knows it, else as text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, store: Store, key: str, *args: str | bytes | int) -> bytes:
        """What it answers, in MessagePack.

        Raises:
            StoreDown: perhaps applied.
        """
        try:
            try:
                answer = await store.execute_command("EVALSHA", self.sha, 1, key, *args)
            except NoScriptError:
                answer = await store.execute_command("EVAL", self.source, 1, key, *args)
        except OutOfMemoryError as error:
            raise StoreDown("out of memory") from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreDown(_short(error)) from error
        if not isinstance(answer, bytes):
            raise StoreDown("the store answered in another form than the script's")
        return answer


def source_of(*names: str) -> str:
    """The text of a script made of these parts."""
    return "".join(_source(name) for name in names)


def tag(tenant: str) -> str:
    """The beginning of every key of a tenant; its braces keep all of them in one slot of a cluster."""
    return f"{{t:{tenant}}}:"


def _short(error: Exception) -> str:
    """What the server said, which never repeats what it was given; else the kind of failure."""
    return masked(str(error), 200) if isinstance(error, ResponseError) else type(error).__name__


@cache
def _source(name: str) -> str:
    return files("gateway.ledger").joinpath("scripts", f"{name}.lua").read_text()
