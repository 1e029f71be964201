"""Corrections: what a bill or a price says otherwise, booked as differences. Nothing that was booked is changed."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.ledger.exchange import Script, source_of, tag
from gateway.ledger.lines import Line
from gateway.ledger.records import METRICS, USAGE_FIELDS, Booking, Ending, Envelope, aid_hour, cells, encode, line
from gateway.storage.client import Store

COST = METRICS.index("cost_nano")
ESTIMATED = METRICS.index("estimated")
VOID = METRICS.index("void")
UNPRICED = METRICS.index("unpriced")
RERATED = METRICS.index("rerated_nano")
USAGE = slice(1, 1 + len(USAGE_FIELDS))

_LOCK_S = 60
"""How long a run that died keeps others waiting."""
_BATCH = 200
_KEEP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

_pack = msgspec.msgpack.Encoder().encode


class Position(NamedTuple):
    """What the books say of an attempt now: its lines summed up."""

    envelope: Envelope
    ending: Ending
    """As the last line tells it."""
    numbers: tuple[int, ...]
    """In the order of `METRICS`."""

    @property
    def cost_nano(self) -> int:
        return self.numbers[COST]


class Correction(NamedTuple):
    """What the books shall say of an attempt instead."""

    position: Position
    numbers: tuple[int, ...]
    reason: str


class CorrectionsBusy(Exception):
    """Another run of corrections is under way in this tenant."""


class _Reply(msgspec.Struct, array_like=True, frozen=True):
    """What correct.lua answers."""

    verdict: str
    moved: list[int]


_decode = msgspec.msgpack.Decoder(_Reply).decode


def positions(lines: Iterable[Line]) -> dict[str, Position]:
    """The positions that these lines make, by attempt id."""
    summed: dict[str, Position] = {}
    for each in lines:
        add_line(summed, each)
    return summed


async def positions_of(lines: AsyncIterable[Line]) -> dict[str, Position]:
    """As `positions()`, of lines that are still being read."""
    summed: dict[str, Position] = {}
    async for each in lines:
        add_line(summed, each)
    return summed


def add_line(summed: dict[str, Position], added: Line) -> None:
    """Adds a line to the position of its attempt."""
    before = summed.get(added.envelope.aid)
    numbers = added.numbers
    if before is not None:
        numbers = tuple([a + b for a, b in zip(before.numbers, numbers, strict=True)])
    summed[added.envelope.aid] = Position(added.envelope, added.ending, numbers)


class Corrections:
    """One run of corrections; only one at a time in a tenant, so that none is booked twice.

    Positions must be read after it was entered.
    """

    def __init__(self, store: Store, tenant: str, run: str) -> None:
        """`run` is any text that no other run has."""
        self._store = store
        self._tenant = tenant
        self._run = run
        self._lock = tag(tenant) + "correcting"
        self._script = Script(source_of("common", "finish", "correct"))
        self._keeping = Repeated("corrections", _LOCK_S / 3, self._keep)

    async def __aenter__(self) -> Corrections:
        """Raises:
        CorrectionsBusy: another run is under way.
        """
        if not await self._store.execute_command("SET", self._lock, self._run, "NX", "EX", _LOCK_S):
            raise CorrectionsBusy
        await self._keeping.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keeping.close()
        await self._store.execute_command("EVAL", _RELEASE, 1, self._lock, self._run)

    async def book(self, corrections: Sequence[Correction]) -> list[Correction]:
        """Books the differences; gives those whose attempt was booked otherwise meanwhile and so was left alone.

        Raises:
            StoreDown: perhaps some are booked; a new run finds what is left.
            CorrectionsBusy: the store was away for so long that this run is not the one under way any more.
        """
        left: list[Correction] = []
        for start in range(0, len(corrections), _BATCH):
            part = corrections[start : start + _BATCH]
            load = _pack((self._run, [_item(c) for c in part]))
            reply = _decode(await self._script.run(self._store, tag(self._tenant), load))
            if reply.verdict == "LOCKED":
                raise CorrectionsBusy
            left += [part[number - 1] for number in reply.moved]  # Lua counts from one
        return left

    async def _keep(self) -> None:
        """Stays the one run under way: reading a busy day takes long."""
        with suppress(RedisError, OSError):
            await self._store.execute_command("EVAL", _KEEP, 1, self._lock, self._run, _LOCK_S)


def _item(correction: Correction) -> Booking:
    """One item for correct.lua, in the order its head describes."""
    position, numbers, reason = correction
    envelope = position.envelope
    differences = tuple([a - b for a, b in zip(numbers, position.numbers, strict=True)])
    hour, day, dimension, tagged = cells(envelope)
    ending = msgspec.structs.replace(
        position.ending,
        outcome="P",
        cost_nano=numbers[COST],
        usage=numbers[USAGE],
        usage_source="estimated" if numbers[ESTIMATED] else "provider",
        unpriced=bool(numbers[UNPRICED]),
        reason=reason,
    )
    text = "A " + ",".join(map(str, differences)) + " " + line(encode(envelope), encode(ending)).decode()
    return (
        envelope.aid,
        aid_hour(envelope.aid),
        position.cost_nano,
        hour,
        day,
        dimension,
        differences,
        differences[COST],
        tagged,
        [(w.counter, w.limit_nano, w.forget_at) for w in envelope.windows],
        text,
    )
