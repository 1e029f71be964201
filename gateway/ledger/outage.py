"""What goes on while the store is away: each limit's declared policy, and the small shares that this process lends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gateway.ledger.attempt import Attempt
from gateway.ledger.limits import Cap, Limits, LimitsMode, OnStoreDown

Known = Mapping[tuple[str, str], tuple[int, int]]
"""(tenant, budget counter) -> (held, posted) at the store's last answer."""

_TIE_S = 1e-6


def policies_of(limits: Limits) -> Iterator[OnStoreDown]:
    """What each limit that a request must ask the store for declares."""
    yield from (b.on_store_down for b in limits.budgets if b.hard)
    for caps in (limits.rpm, limits.tpm, limits.concurrency):
        yield from (cap.on_store_down for cap in caps)


@dataclass(frozen=True, slots=True)
class _Loan:
    """What an attempt was lent, to be given back when it ends."""

    tenant: str
    hold_nano: int
    counters: tuple[str, ...]
    scopes: tuple[str, ...]


class Outage:
    """Lends shares of limits that are `local` while the store is away: `share` of each, and one request at least."""

    def __init__(self, share: float, monotonic: Callable[[], float]) -> None:
        self._share = share
        self._monotonic = monotonic
        self.loans: dict[str, _Loan] = {}
        """By attempt."""
        self._lent: dict[tuple[str, str], int] = {}
        """(tenant, budget counter) -> nano-USD lent since the store went away, less what is known to be unused."""
        self._full_at: dict[tuple[str, str, str], float] = {}
        """(tenant, rpm or tpm, scope) -> when (monotonic) that share's bucket is full again."""
        self._running: dict[tuple[str, str], int] = {}
        """(tenant, scope) -> attempts under way on a share of a concurrency."""

    def admit(self, attempt: Attempt, limits: Limits, known: Known) -> LimitsMode | None:
        """How the attempt goes on without the store; None where one of its limits denies that or has lent its share.

        Of a budget no more is lent than was left of it when the store last answered.
        """
        policies = set(policies_of(limits))
        if "deny" in policies:
            return None
        if "local" not in policies:
            return "allow"
        tenant, now = attempt.tenant, self._monotonic()
        counters = []
        for b, w in zip(limits.budgets, attempt.windows, strict=True):
            if b.hard and b.on_store_down == "local":
                left = w.limit_nano - sum(known.get((tenant, w.counter), (0, 0)))
                share = min(w.limit_nano * self._share, left)
                if self._lent.get((tenant, w.counter), 0) + attempt.hold_nano > share:
                    return None
                counters.append(w.counter)
        scopes = tuple([cap.scope for cap in limits.concurrency if cap.on_store_down == "local"])
        for cap in limits.concurrency:
            if cap.scope in scopes and self._running.get((tenant, cap.scope), 0) >= int(self._part(cap)):
                return None
        filled: dict[tuple[str, str, str], float] = {}
        for kind, caps, cost in (("rpm", limits.rpm, 1), ("tpm", limits.tpm, attempt.expected_tokens)):
            for cap in caps:
                if cap.on_store_down == "local":
                    part = self._part(cap)
                    full_at = max(self._full_at.get((tenant, kind, cap.scope), now), now) + min(cost, part) * 60 / part
                    if full_at - now > 60 + _TIE_S:
                        return None
                    filled[tenant, kind, cap.scope] = full_at
        self._full_at |= filled
        for counter in counters:
            self._lent[tenant, counter] = self._lent.get((tenant, counter), 0) + attempt.hold_nano
        for scope in scopes:
            self._running[tenant, scope] = self._running.get((tenant, scope), 0) + 1
        self.loans[attempt.aid] = _Loan(tenant, attempt.hold_nano, tuple(counters), scopes)
        return "local"

    def settle(self, attempt: str, nano: int) -> None:
        """The attempt has ended: what it did not use can be lent again. One that was lent nothing changes nothing."""
        loan = self.loans.pop(attempt, None)
        if loan is None:
            return
        for counter in loan.counters:
            if (loan.tenant, counter) in self._lent:
                self._lent[loan.tenant, counter] += nano - loan.hold_nano
        for scope in loan.scopes:
            self._running[loan.tenant, scope] -= 1
            if not self._running[loan.tenant, scope]:
                del self._running[loan.tenant, scope]

    def over(self, tenant: str) -> None:
        """The store answers again: what was spent meanwhile is on its way to it, and the next outage begins anew."""
        self._lent = {key: nano for key, nano in self._lent.items() if key[0] != tenant}
        self._full_at = {key: at for key, at in self._full_at.items() if key[0] != tenant}

    def _part(self, cap: Cap) -> float:
        return max(1.0, cap.limit * self._share)
