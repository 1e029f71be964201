"""What a caller may spend, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

Per = Literal["hour", "day", "month", "total"]
OnStoreDown = Literal["deny", "allow", "local"]
LimitsMode = Literal["exact", "local", "allow"]
"""How limits were applied: by the store, by a local share of the budget, or not at all while the store was away."""

MAX_LIMIT_NANO = 9_000_000 * 1_000_000_000
"""Largest enforceable limit ($9 million): Lua compares doubles, which are exact up to 2^53."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap on cost over a period.

    A hard budget refuses what might exceed it; a soft one only counts. `on_store_down` says what becomes of a request
    while the store cannot be asked: `deny` it, `allow` it (posted later, may overrun), or allow a `local` share.
    """

    id: str
    """Opaque, unique in the tenant; letters, digits, `_` and `-` only."""
    limit_nano: int
    per: Per
    hard: bool = True
    scope: str = "key"
    """Whose it is, in a word for messages: `key`, `team`, `tag`, `tier`, `session` or `tenant`."""
    on_store_down: OnStoreDown = "deny"

    def __post_init__(self) -> None:
        if not 0 <= self.limit_nano <= MAX_LIMIT_NANO:
            raise ValueError(
                f"budget {self.id}: the limit must be between $0 and $9,000,000, not {self.limit_nano} nano-USD"
            )


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit per minute (requests, tokens) or at once (concurrency), counted for everyone who names the same scope."""

    scope: str
    """Opaque, unique in the tenant, e.g. `k:<key id>`."""
    limit: int
    on_store_down: OnStoreDown = "allow"
    """As for a budget; a `local` share is one of the rate."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"the limit of {self.scope} must be at least 1, not {self.limit}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that limits one caller. A request must fit all of it; a refusal changes nothing."""

    tenant: str
    budgets: tuple[Budget, ...] = ()
    rpm: tuple[Cap, ...] = ()
    tpm: tuple[Cap, ...] = ()
    concurrency: tuple[Cap, ...] = ()
    record: str | None = None
    """The Redis key of the record these limits come from (same tenant tag). Where given and gone, requests are refused:
    a store that lost its keys has lost its counters too, and they must not start again at zero."""
    hard: bool = field(init=False, compare=False)
    """Whether any of the budgets is hard."""
    enforced: bool = field(init=False, compare=False)
    """Whether a request must ask the store before it is sent."""
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Worked out once: all of them are asked for at each request. What tells callers' sessions apart comes last.
        of_last = [all_of[-1].scope for all_of in (self.rpm, self.tpm, self.concurrency) if all_of]
        budget = self.budgets[-1].id if self.budgets else ""
        hard = any(budget.hard for budget in self.budgets)
        object.__setattr__(self, "hard", hard)
        object.__setattr__(self, "enforced", bool(self.rpm or self.tpm or self.concurrency or hard))
        object.__setattr__(self, "_hash", hash((self.tenant, self.record, budget, *of_last)))

    def __hash__(self) -> int:
        return self._hash


class Window(NamedTuple):
    """A budget's period as pinned in an attempt: the charge stays in it however late the attempt ends."""

    counter: str
    """`b:<budget id>:<period>`, the counter's key within the tenant."""
    limit_nano: int
    forget_at: int
    """Epoch seconds after which the counter may be forgotten; 0 for never."""
    hard: bool


class Terms(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """What a reservation was granted under; None where there is no such limit. Times are seconds until full again.

    Reservations out of one slab share them, so that what is made of them is made once.
    """

    limit_requests: int | None = None
    reset_requests_s: float = 0.0
    limit_tokens: int | None = None
    reset_tokens_s: float = 0.0
    budget: Budget | None = None
    """The budget with the smallest share left, this hold included."""
    mode: LimitsMode = "exact"


class Headroom(msgspec.Struct, frozen=True, gc=False):
    """What is left after a reservation, of those limits alone that its terms name."""

    terms: Terms
    hold_nano: int = 0
    output_cap_tokens: int | None = None
    """The cap per choice the hold stands for; it must be sent upstream. None: no hold, send what the caller asked."""
    remaining_requests: int = 0
    remaining_tokens: int = 0
    budget_left_nano: int = 0


_KEPT_AFTER = 35 * 86_400


def window(budget: Budget, at: float) -> Window:
    """The period of `budget` that `at` (epoch seconds, the store's clock) falls into."""
    name, end = _period(budget.per, int(at) // 3600)
    return Window(f"b:{budget.id}:{name}", budget.limit_nano, end + _KEPT_AFTER if end else 0, budget.hard)


def windows(limits: Limits, at: float) -> tuple[Window, ...]:
    """The periods of all budgets that `at` falls into."""
    return _windows(limits, int(at) // 3600)


@lru_cache(1024)
def _windows(limits: Limits, hours: int) -> tuple[Window, ...]:
    return tuple([window(budget, hours * 3600) for budget in limits.budgets])


def resets_at(budget: Budget, at: float) -> int | None:
    """When the period ends, epoch seconds; None for a budget that never starts anew."""
    return _period(budget.per, int(at) // 3600)[1] or None


@lru_cache(256)
def _period(per: Per, hours: int) -> tuple[str, int]:
    """Name and end (epoch seconds, 0 for never) of the UTC period that holds an hour since the epoch."""
    if per == "total":
        return "total", 0
    start = datetime.fromtimestamp(hours * 3600, UTC)
    if per == "hour":
        return start.strftime("%Y%m%d%H"), int((start + timedelta(hours=1)).timestamp())
    start = start.replace(hour=0)
    if per == "day":
        return start.strftime("%Y%m%d"), int((start + timedelta(days=1)).timestamp())
    start = start.replace(day=1)
    return start.strftime("%Y%m"), int((start + timedelta(days=32)).replace(day=1).timestamp())
