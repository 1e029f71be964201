"""Slabs: parts of limits far from used up, held in the store as one and given out here without asking it each time.

To the store a slab is an attempt that is never sent: it has an envelope, a lease, a hold against each budget, and a
tombstone at its end. What an attempt paid by it turns out to cost is taken off its hold in the same step that posts it,
so that posted and held together never exceed a limit. It is given out for a second; what is left over then goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.errors import GatewayUnavailable
from gateway.ledger.account import account_of
from gateway.ledger.attempt import Attempt
from gateway.ledger.holds import hold_again, rated_tokens, reservation
from gateway.ledger.lane import Lane
from gateway.ledger.limits import Headroom, Limits, resets_at, windows
from gateway.ledger.records import NO_USAGE, Booking, encode, tombstone
from gateway.ledger.refusal import headroom
from gateway.ledger.underway import Underway
from gateway.ledger.wal import Record, Wal

LIFE_S = 1.0
"""How long a slab is given out: what others may be refused while it lies here unused is refused for no longer."""
BUSY = 8
"""Requests within a second from which a slab is worth having."""
LEAST_REQUESTS, MOST_REQUESTS = 8, 4096
"""For how many requests like the one that asks a slab is made."""
_NO_END = 1 << 50

NEVER_SENT = encode(("X", 0, NO_USAGE, "held", "void", None, None, None, None, False))


class Slab:
    """What is left of one slab."""

    __slots__ = ("attempt", "granted", "limits", "low", "nano", "requests", "tokens", "until", "users", "windows")

    def __init__(self, attempt: Attempt, limits: Limits, verdict: tuple[Any, ...], until: float) -> None:
        self.attempt = attempt
        """As the ledger knows it."""
        self.limits = limits
        self.windows = attempt.windows
        self.granted = headroom(verdict[:10], limits, None)
        """What there was beside it when it was granted; what others took since is not known."""
        self.nano: int = verdict[1]
        self.requests: int = verdict[10]
        self.tokens: int = verdict[11]
        self.low = self.requests // 3, self.nano // 3
        """Below which the next one is asked for."""
        self.until = until
        """Monotonic time of its end."""
        self.users = 0
        """Attempts under way whose hold is part of it."""

    def headroom(self, hold_nano: int, cap: int | None) -> Headroom:
        """What is left after a hold out of this slab."""
        beside = self.granted
        return Headroom(
            beside.terms,
            hold_nano,
            cap,
            beside.remaining_requests + self.requests,
            beside.remaining_tokens + self.tokens,
            beside.budget_left_nano + self.nano,
        )


class _Demand:
    """How much one set of limits is asked for."""

    __slots__ = ("asking", "before", "count", "rests_until", "second", "slab")

    def __init__(self) -> None:
        self.slab: Slab | None = None
        self.asking = False
        self.rests_until = 0.0
        """No slab is asked for until then: the last one was refused."""
        self.second = 0.0
        """When the count began."""
        self.count = 0
        self.before = 0
        """The count of the second before."""

    def rate(self, now: float) -> int:
        """Counts one more; gives the requests of this second and the one before."""
        if now - self.second >= 1.0:
            self.before = self.count if now - self.second < 2.0 else 0
            self.second, self.count = now, 0
        self.count += 1
        return self.count + self.before


class _Asked:
    """Waits for the store's verdict on a slab, or on a hold that leaves one."""

    __slots__ = ("_on_failure", "_on_verdict")

    def __init__(self, on_verdict: Callable[[tuple[Any, ...]], None], on_failure: Callable[[], None]) -> None:
        self._on_verdict = on_verdict
        self._on_failure = on_failure

    def done(self) -> bool:
        """Never: somebody always wants to know."""
        return False

    def set_result(self, verdict: tuple[Any, ...], /) -> None:
        """Passes it on."""
        self._on_verdict(verdict)

    def set_exception(self, error: BaseException, /) -> None:
        """Passes it on."""
        self._on_failure()


class Slabs:
    """The slabs of one process."""

    def __init__(
        self,
        wal: Wal,
        underway: Underway,
        lane: Callable[[str], Lane],
        *,
        new_id: Callable[[], tuple[str, float]],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        busy: int = BUSY,
    ) -> None:
        """`new_id` makes a request id and tells its time; `now` is the store's clock."""
        self._wal = wal
        self._underway = underway
        self._lane = lane
        self._new_id = new_id
        self._now = now
        self._monotonic = monotonic
        self._busy = busy
        self._demands: dict[Limits, _Demand] = {}
        self._staying: list[tuple[Attempt, Slab]] = []
        """Attempts that are to hold by themselves once the store answers again."""
        self._closed = False

    def draw(self, attempt: Attempt, limits: Limits) -> Slab | None:
        """Takes an attempt's hold out of a slab; None where the store must be asked."""
        demand = self._demands.get(limits)
        if demand is None:
            if limits.concurrency or self._closed:
                return None
            demand = self._demands[limits] = _Demand()
        now = self._monotonic()
        rate = demand.rate(now)
        slab = demand.slab
        if slab is None or now >= slab.until:
            self._want(demand, attempt, limits, rate, now)
            return None
        tokens = attempt.expected_tokens
        if slab.nano < attempt.hold_nano or not slab.requests or slab.tokens < tokens:
            self._want(demand, attempt, limits, rate, now)
            return None
        slab.nano -= attempt.hold_nano
        slab.requests -= 1
        slab.tokens -= tokens
        slab.users += 1
        attempt.charged_tokens = tokens
        attempt.windows = slab.windows
        attempt.slab = slab.attempt.aid
        attempt.lender = slab
        if slab.requests < slab.low[0] or slab.nano < slab.low[1] or slab.until - now < LIFE_S / 3:
            self._want(demand, attempt, limits, rate, now)
        return slab

    def settle(self, attempt: Attempt, nano: int, usage: tuple[int, ...]) -> None:
        """Gives back what an attempt did not use of its hold. Call it once its ending is on its way to the store."""
        slab, attempt.lender = attempt.lender, None
        if slab is not None:
            if nano < attempt.hold_nano:
                slab.nano += attempt.hold_nano - nano
            slab.tokens += attempt.charged_tokens - rated_tokens(usage)
            self._left(slab)

    def undo(self, attempt: Attempt) -> None:
        """Takes a draw back: the attempt will not be sent."""
        slab, attempt.lender = attempt.lender, None
        if slab is not None:
            slab.nano += attempt.hold_nano
            slab.requests += 1
            slab.tokens += attempt.charged_tokens
            self._left(slab)

    def move_out(self, attempt: Attempt) -> None:
        """Lets an attempt that lives longer than its slab hold by itself. Until the store says so, the slab stays."""
        slab, attempt.lender = attempt.lender, None
        if slab is not None:
            self._ask_to_move(attempt, slab)

    def give_way(self, counter: str) -> bool:
        """Gives back what lies unused of a budget that has become short; whether any was."""
        ours = [d for d in self._demands.values() if d.slab and any(w.counter == counter for w in d.slab.windows)]
        returned = [self._end(demand) for demand in ours]
        return any(returned)

    def tick(self) -> None:
        """Ends the slabs whose time is over; forgets who asks no more."""
        staying, self._staying = self._staying, []
        for attempt, slab in staying:
            if attempt.state == "ended":
                self._left(slab)
            else:
                self._ask_to_move(attempt, slab)
        now = self._monotonic()
        for limits, demand in list(self._demands.items()):
            if demand.slab is not None and now >= demand.slab.until:
                self._end(demand)
            if demand.slab is None and not demand.asking and now - demand.second > 2.0:
                del self._demands[limits]

    def close(self) -> None:
        """Gives back what is not in use."""
        self._closed = True
        for demand in self._demands.values():
            self._end(demand)

    def _ask_to_move(self, attempt: Attempt, slab: Slab) -> None:
        asked = _Asked(lambda _: self._left(slab), lambda: self._staying.append((attempt, slab)))
        self._lane(attempt.tenant).ask(hold_again(attempt), asked)

    def _want(self, demand: _Demand, attempt: Attempt, limits: Limits, rate: int, now: float) -> None:
        """Asks for the next slab where that is worth it; nobody waits for it."""
        lane = self._lane(limits.tenant)
        if demand.asking or rate < self._busy or now < demand.rests_until or lane.down_since is not None:
            return
        request_id, at = self._new_id()
        asking = attempt.account
        own = Attempt(
            request_id=request_id,
            at=at,
            account=account_of(limits.tenant, asking.key, asking.team, (), "", None, *("",) * 4, asking.catalog),
            price=None,
        )
        store_now = self._now()
        own.limits = limits
        own.windows = windows(limits, store_now)
        requests = min(max(2 * rate, 4 * LEAST_REQUESTS), MOST_REQUESTS)
        own.hold_nano = requests * attempt.hold_nano
        try:
            own.receipt = self._wal.begin(Record.INTENT, own.seal(), own.account, None)
        except GatewayUnavailable:
            return
        demand.asking = True
        lives_s = min([LIFE_S, *(end - store_now for b in limits.budgets if (end := resets_at(b, store_now)))])
        asked = _Asked(
            lambda verdict: self._granted(demand, own, verdict, now + lives_s), lambda: self._not_granted(demand, own)
        )
        lane.ask(_item(own, limits, requests, attempt), asked)

    def _granted(self, demand: _Demand, own: Attempt, verdict: tuple[Any, ...], until: float) -> None:
        demand.asking = False
        assert own.limits is not None
        if verdict[0] == "OK" and len(verdict) == 12:
            own.hold_nano = verdict[1]
            own.state = "held"
            own.in_store = True
            self._underway.registered[own.aid] = own
            self._end(demand)
            demand.slab = Slab(own, own.limits, verdict, until)
            if self._closed:
                self._end(demand)
        elif verdict[0] == "HELD":  # the answer that said how much was lost
            self._give_back(own, ())
        else:
            demand.rests_until = self._monotonic() + LIFE_S
            own.state = "ended"
            self._wal.drop(own.receipt)

    def _not_granted(self, demand: _Demand, own: Attempt) -> None:
        demand.asking = False
        demand.rests_until = self._monotonic() + LIFE_S
        self._give_back(own, ())

    def _end(self, demand: _Demand) -> bool:
        """Gives the demand's slab out no more; whether it goes back at once."""
        slab, demand.slab = demand.slab, None
        if slab is None:
            return False
        slab.until = 0.0
        return self._return_unused(slab)

    def _left(self, slab: Slab) -> None:
        slab.users -= 1
        if not slab.until:
            self._return_unused(slab)

    def _return_unused(self, slab: Slab) -> bool:
        if slab.users:
            return False
        requests = [(f"r:{c.scope}", c.limit, -slab.requests) for c in slab.limits.rpm]
        tokens = [(f"t:{c.scope}", c.limit, -slab.tokens) for c in slab.limits.tpm]
        self._give_back(slab.attempt, (*requests, *tokens))
        return True

    def _give_back(self, own: Attempt, corrections: tuple[tuple[str, int, int], ...]) -> None:
        own.state = "ended"
        self._underway.registered.pop(own.aid, None)
        self._wal.end(own.receipt[0], NEVER_SENT)
        item = tombstone(own.aid, corrections)
        self._lane(own.tenant).finish(item, own.receipt, soon=False)


def _item(own: Attempt, limits: Limits, requests: int, attempt: Attempt) -> Booking:
    """What is asked of reserve.lua for a slab: a reservation that says in its last place what it is to hold."""
    tokens = attempt.expected_tokens
    tokens_wanted = requests * tokens if limits.tpm else _NO_END
    held = reservation(own, limits, LEAST_REQUESTS * attempt.hold_nano)
    return (*held[:-1], (requests, tokens_wanted, LEAST_REQUESTS, LEAST_REQUESTS * tokens))
