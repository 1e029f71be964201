"""What is written of an attempt: the halves of a journal entry, price rows, and the form the store books them in."""

from __future__ import annotations

from functools import lru_cache
from time import gmtime, strftime
from typing import Any, Literal

import msgspec

from gateway.ledger.attempt import Attempt
from gateway.ledger.limits import Window
from gateway.types import Price, Settlement, Usage, UsageSource

Outcome = Literal["P", "E", "V", "X"]
"""Posted as the provider told it, estimated, void (provably not billed), or the tombstone of what was never sent."""

USAGE_FIELDS = tuple(Usage.__struct_fields__)
METRICS = ("attempts", *USAGE_FIELDS, "cost_nano", "estimated", "void", "unpriced", "sdk_retries", "rerated_nano")
"""What a roll-up cell sums up, in the order of its numbers. Only ever added to, at the end: older cells are shorter."""
DIMENSIONS = ("key", "tier", "model", "provider", "deployment", "price_id", "team")
"""What a roll-up cell is named by, in the order of its name."""
SEPARATOR = "\x1f"

encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What `Attempt.seal()` wrote, in the same order.

    Journals and logs of earlier versions are read by this: fields are only ever added, at the end, with a default.
    """

    aid: str
    request_id: str
    at: float
    tenant: str
    key: str
    team: str
    tags: tuple[tuple[str, str], ...]
    alias: str
    tier: str | None
    model: str
    provider: str
    deployment: str
    price_id: str
    catalog: str
    stream: bool
    retry: int
    input_tokens: int
    hold_nano: int
    windows: tuple[Window, ...]
    sdk_retry: int = 0
    """How often the caller's SDK says that it has tried this request before."""
    slab: str = ""
    """Attempt id of the slab that its hold was taken from."""

    @property
    def is_slab(self) -> bool:
        """Whether it is a slab itself: nothing that is sent lacks a model."""
        return not self.model


class Ending(msgspec.Struct, array_like=True, frozen=True):
    """How an attempt ended; the second half of the journal entry. Fields are only ever added, as in `Envelope`."""

    outcome: Outcome
    cost_nano: int
    usage: tuple[int, ...]
    """The fields of `Usage` in their order."""
    usage_source: UsageSource
    settlement: Settlement
    latency_ms: int | None
    ttft_ms: int | None
    service_tier: str | None
    status: int | None
    unpriced: bool
    upstream_id: str | None = None
    """The provider's own name of the request, from its answer's head."""
    reason: str = ""
    """Why a correction was booked; empty for what the attempt itself told."""


def numbers_of(envelope: Envelope, ending: Ending) -> tuple[int, ...]:
    """What an attempt's first entry adds to the sums, in the order of `METRICS`."""
    guessed = ending.outcome == "E" or ending.usage_source in ("estimated", "held")
    return _numbers(envelope, ending.usage, ending.cost_nano, guessed, ending.outcome == "V", ending.unpriced)


def entry(envelope: Envelope, ending: Ending) -> dict[str, Any]:
    """A journal entry as tools and finance read it. `cost_nano_usd` is an integer, never a float."""
    return {
        "attempt_id": envelope.aid,
        "request_id": envelope.request_id,
        "at": envelope.at,
        "key": envelope.key,
        "team": envelope.team,
        "tags": dict(envelope.tags),
        "alias": envelope.alias,
        "tier": envelope.tier,
        "model": envelope.model,
        "provider": envelope.provider,
        "deployment": envelope.deployment,
        "price_id": envelope.price_id,
        "usage": dict(zip(USAGE_FIELDS, ending.usage, strict=True)),
        "cost_nano_usd": ending.cost_nano,
        "usage_source": ending.usage_source,
        "settlement": ending.settlement,
        "catalog": envelope.catalog,
        "latency_ms": ending.latency_ms,
        "ttft_ms": ending.ttft_ms,
        "service_tier": ending.service_tier,
        "stream": envelope.stream,
        "retry": envelope.retry,
        "status": ending.status,
        "unpriced": ending.unpriced,
        "sdk_retry": envelope.sdk_retry,
        "upstream_request_id": ending.upstream_id,
        "reason": ending.reason,
    }


NO_USAGE = (0,) * len(USAGE_FIELDS)
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_ending = msgspec.json.Decoder(Ending).decode
decode_line = msgspec.json.Decoder(tuple[Envelope, Ending]).decode
encode_price = msgspec.json.Encoder().encode
decode_price = msgspec.json.Decoder(Price).decode


def line(envelope: bytes, ending: bytes) -> str:
    """A journal entry, from its halves as JSON."""
    return f"[{envelope.decode()},{ending.decode()}]"


def usage_numbers(usage: Usage) -> tuple[int, ...]:
    """A usage as the plain numbers that endings carry."""
    return (
        usage.input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
        usage.reasoning,
        usage.audio_in,
        usage.audio_out,
        usage.images,
        usage.characters,
    )


Booking = tuple[Any, ...]
"""One item for finish.lua, in the order its head describes."""


def booking(
    attempt: Attempt | Envelope,
    outcome: Outcome,
    nano: int,
    usage: tuple[int, ...],
    text: str,
    *,
    may_be_held: bool,
    unpriced: bool = False,
    estimated: bool = False,
    corrections: tuple[tuple[str, int, int], ...] = (),
) -> Booking:
    """How an attempt ended, as the store books it; `text` is the journal line."""
    aid = attempt.aid
    hour, day, dimension, tagged = cells(attempt)
    return (
        aid,
        aid_hour(aid),
        outcome,
        nano,
        may_be_held,
        hour,
        day,
        dimension,
        _numbers(attempt, usage, nano, estimated or outcome == "E", outcome == "V", unpriced),
        tagged,
        [(w.counter, w.limit_nano, w.forget_at) for w in attempt.windows],
        corrections,
        text,
        attempt.slab,
        attempt.hold_nano,
    )


def _numbers(
    attempt: Attempt | Envelope, usage: tuple[int, ...], nano: int, guessed: bool, void: bool, unpriced: bool
) -> tuple[int, ...]:
    return 1, *usage, nano, int(guessed), int(void), int(unpriced), int(attempt.sdk_retry > 0), 0


def cells(attempt: Attempt | Envelope) -> tuple[str, str, str, tuple[str, ...]]:
    """Where an attempt is summed up: hour, day, the name of its cell, and of those of its tags."""
    hour, day = _periods(int(attempt.at) // 3600)
    names = (attempt.key, attempt.tier or "", attempt.model, attempt.provider, attempt.deployment, attempt.price_id)
    dimension = SEPARATOR.join((*names, attempt.team))
    tagged = tuple([f"{_plain(name)}{SEPARATOR}{_plain(value)}{SEPARATOR}{dimension}" for name, value in attempt.tags])
    return hour, day, dimension, tagged


def tombstone(aid: str, corrections: tuple[tuple[str, int, int], ...] = ()) -> Booking:
    """Ends an attempt that was never sent: frees what it may hold and refuses a reservation that arrives late.

    A slab ends so too; it gives back the rates that it did not use.
    """
    return aid, aid_hour(aid), "X", 0, True, "", "", "", (), (), (), corrections, "", "", 0


def aid_hour(aid: str) -> int:
    """Hours since the epoch at the making of an attempt id."""
    return int(aid[:12], 16) // 3_600_000


@lru_cache(64)
def _periods(hours: int) -> tuple[str, str]:
    text = strftime("%Y%m%d%H", gmtime(hours * 3600))
    return text, text[:8]


def _plain(text: str) -> str:
    return text.replace(SEPARATOR, " ")
