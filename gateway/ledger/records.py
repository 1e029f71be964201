"""What is written of an attempt: the halves of a journal entry, price rows, and the form the store books them in."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import gmtime, strftime
from typing import Any, Literal

import msgspec

from gateway.ledger.account import Account, account_of
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
encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What `Attempt.envelope` has, in the same order.

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
    def account(self) -> Account:
        """What it has in common with others."""
        return account_of(
            self.tenant,
            self.key,
            self.team,
            self.tags,
            self.alias,
            self.tier,
            self.model,
            self.provider,
            self.deployment,
            self.price_id,
            self.catalog,
        )

    @property
    def brief(self) -> bytes:
        """What `Attempt.seal()` gave."""
        return encode((self.aid, self.at, *msgspec.structs.astuple(self)[_BEHIND_ACCOUNT:]))

    @property
    def is_slab(self) -> bool:
        """Whether it is a slab itself: nothing that is sent lacks a model."""
        return not self.model


_BEHIND_ACCOUNT = Envelope.__struct_fields__.index("stream")
ACCOUNT = slice(Envelope.__struct_fields__.index("tenant"), _BEHIND_ACCOUNT)
"""Where an envelope has what its account says."""


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
    void = ending.outcome == "V"
    flags = _flags(guessed, void, ending.unpriced, envelope.sdk_retry > 0)
    return metrics_of(ending.usage, ending.cost_nano, flags)


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


def line(envelope: bytes, ending: bytes) -> bytes:
    """A journal entry, from its halves as JSON; of a brief a brief one."""
    return b"[%b,%b]" % (envelope, ending)


usage_numbers: Callable[[Usage], tuple[int, ...]] = msgspec.structs.astuple
"""A usage as the plain numbers that endings carry, in the order of `USAGE_FIELDS`."""


Booking = tuple[Any, ...]
"""How an attempt ended, for the store: its id, nano-USD, usage, brief journal line, slab or "", nano-USD held in that,
and corrections of rates; then what many have in common: outcome, whether it may hold something by itself, hour of the
id, account, hour of its start, flags, windows; and for a whole hold what replaces it, and when."""
OUTCOME = ALIKE = 7
"""Where a booking has its outcome, and where what many have in common begins."""

Cells = tuple[str, str, str, tuple[str, ...]]
"""Where an attempt is summed up: hour, day, the name of its cell, and of those of its tags."""
Flags = tuple[int, ...]
"""What it counts as, by the last of `METRICS`: 0 or 1 each."""


def booking(
    attempt: Attempt | Envelope,
    outcome: Outcome,
    nano: int,
    usage: tuple[int, ...],
    text: bytes,
    *,
    may_be_held: bool,
    unpriced: bool = False,
    estimated: bool = False,
    corrections: tuple[tuple[str, int, int], ...] = (),
) -> Booking:
    """How an attempt ended; `text` is the journal line, brief."""
    aid = attempt.aid
    return (
        aid,
        nano,
        usage,
        text,
        attempt.slab,
        attempt.hold_nano,
        corrections,
        outcome,
        may_be_held,
        _hour(aid[:11]),
        attempt.account,
        attempt.at // 3600,
        _flags(estimated or outcome == "E", outcome == "V", unpriced, attempt.sdk_retry > 0),
        attempt.windows,
    )


def metrics_of(usage: tuple[int, ...], nano: int, flags: Flags) -> tuple[int, ...]:
    """What one ending adds to the sums, in the order of `METRICS`."""
    return 1, *usage, nano, *flags


@lru_cache(16)
def _flags(guessed: bool, void: bool, unpriced: bool, sdk_retried: bool) -> Flags:
    return int(guessed), int(void), int(unpriced), int(sdk_retried), 0


def cells(attempt: Attempt | Envelope) -> Cells:
    """Where an attempt is summed up."""
    return cells_of(attempt.account, attempt.at // 3600)


@lru_cache(4096)
def cells_of(account: Account, hours: float) -> Cells:
    """Where an account is summed up that began an attempt so many hours after the epoch."""
    hour = strftime("%Y%m%d%H", gmtime(hours * 3600))
    return hour, hour[:8], account.cell, account.tag_cells


def tombstone(aid: str, corrections: tuple[tuple[str, int, int], ...] = ()) -> Booking:
    """Ends an attempt that was never sent: frees what it may hold and refuses a reservation that arrives late.

    A slab ends so too; it gives back the rates that it did not use.
    """
    return aid, 0, (), b"", "", 0, corrections, "X", True, aid_hour(aid), None, 0.0, (), ()


def aid_hour(aid: str) -> int:
    """Hours since the epoch at the making of an attempt id."""
    return _hour(aid[:11])


@lru_cache(64)
def _hour(sixteen_ms: str) -> int:
    """Of the milliseconds less their last digit: many attempts have it in common, and hours begin where it changes."""
    return int(sixteen_ms, 16) // 225_000
