"""Everything on its way to the store: one lane for each tenant, and what the store's answers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gateway.ledger.attempt import Receipt
from gateway.ledger.exchange import Exchange, Reply
from gateway.ledger.lane import MAX_ENDINGS, Lane
from gateway.ledger.records import Booking
from gateway.ledger.wal import Wal
from gateway.log import get_logger

log = get_logger(__name__)

_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Alert:
    """Something of the books that people should hear of."""

    tenant: str
    kind: Literal["budget", "conflict", "quarantine", "journal"]
    """A budget passed 50, 80 or 100 % (told once per period); an ending contradicts a booked one and was set aside; an
    ending is too old to be booked safely and was set aside; the journal in the store is too long."""
    subject: str
    """The budget's counter (`b:<id>:<period>`), the attempt's id, or the stream's name."""
    percent: int = 0
    spent_nano: int = 0
    limit_nano: int = 0


Tell = Callable[[Alert], "asyncio.Future[None] | None"]
"""Tells people of an alert. Gives what is done once they have been told, None where they have been already."""


class Passed(NamedTuple):
    """A threshold that a budget passed."""

    tenant: str
    counter: str
    percent: int

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.counter}|{self.percent}"


class Outbox:
    """The lanes of a process."""

    def __init__(
        self,
        exchange: Exchange,
        wal: Wal,
        *,
        clock: Callable[[], float],
        on_alert: Tell,
        on_back: Callable[[str], None],
        flush_every_s: float,
        deadline_s: float,
        patience_s: float,
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self.lost: set[str] = set()
        """Tenants of which the store has forgotten exchanges it had answered: their endings must be sent again."""
        self.known: dict[tuple[str, str], tuple[int, int]] = {}
        """(tenant, budget counter) -> (held, posted) at the last answer that touched it; of those touched last."""
        self.touched = 0
        """How many answers have told of a budget."""
        self.verdicts: dict[str, int] = {}
        """How many endings were DUP, LATE, ADJ or CONFLICT."""
        self.telling: dict[Passed, asyncio.Future[None] | None] = {}
        """Thresholds that this process tells of, until that is acknowledged; None where it is done."""
        self._told: dict[Passed, None] = {}
        self._exchange = exchange
        self._wal = wal
        self._clock = clock
        self._on_alert = on_alert
        self._on_back = on_back
        self._flush_every_s = flush_every_s
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._offset_s = 0.0

    def now(self) -> float:
        """The store's clock, epoch seconds, as sampled at its last answer."""
        return self._clock() + self._offset_s

    def sample(self, store_ms: int) -> None:
        """Takes the store's time."""
        self._offset_s = store_ms / 1000 - self._clock()

    def lane(self, tenant: str) -> Lane:
        """The tenant's lane, opened on first use."""
        lane = self.lanes.get(tenant)
        if lane is None:
            lane = self.lanes[tenant] = Lane(
                tenant,
                self._exchange,
                clock=self._clock,
                on_reply=self._take_from,
                on_back=self._back,
                flush_every_s=self._flush_every_s,
                deadline_s=self._deadline_s,
                patience_s=self._patience_s,
            )
        return lane

    async def book(self, tenant: str, bookings: list[Booking]) -> None:
        """Books endings now, past the queue.

        Raises:
            StoreDown: perhaps some are booked; booking all of them again is safe.
        """
        for start in range(0, len(bookings), MAX_ENDINGS):
            part = bookings[start : start + MAX_ENDINGS]
            lane = self.lanes.get(tenant)
            reply = await self._exchange.run(tenant, self._clock(), part, [], [], 0 if lane is None else lane.count)
            self._take(tenant, reply, [(b, None) for b in part])

    def alert(self, alert: Alert) -> asyncio.Future[None] | None:
        """Tells people; a listener that fails does not disturb the books. Gives what is done once they were told."""
        try:
            return self._on_alert(alert)
        except Exception:
            log.exception("alert_listener_failed", subject=alert.subject)
            return None

    def passed(self, passed: Passed, posted_nano: int, limit_nano: int) -> None:
        """Tells people of a threshold, once however often this process hears of it."""
        if passed in self._told:
            self.telling.setdefault(passed, None)
            return
        if len(self._told) > _MOST_KNOWN:
            del self._told[next(iter(self._told))]
        self._told[passed] = None
        tenant, counter, percent = passed
        self.telling[passed] = self.alert(Alert(tenant, "budget", counter, percent, posted_nano, limit_nano))

    def _take_from(self, lane: Lane, reply: Reply, endings: list[tuple[Booking, Receipt | None]]) -> None:
        if reply.count <= lane.count:
            self.lost.add(lane.tenant)
        lane.count = reply.count
        self._take(lane.tenant, reply, endings)

    def _take(self, tenant: str, reply: Reply, endings: list[tuple[Booking, Receipt | None]]) -> None:
        self.sample(reply.now_ms)
        if receipts := [receipt for _, receipt in endings if receipt is not None]:
            self._wal.settled(receipts)
        self.touched += bool(reply.touched)
        for counter, held, posted in reply.touched:
            self.known.pop((tenant, counter), None)
            self.known[tenant, counter] = (held, posted)
        while len(self.known) > _MOST_KNOWN:
            del self.known[next(iter(self.known))]
        for counter, percent, posted, limit in reply.alerts:
            self.passed(Passed(tenant, counter, percent), posted, limit)
        if reply.exceptions:
            self._except(tenant, reply.exceptions, [booking for booking, _ in endings])

    def _except(self, tenant: str, exceptions: Iterable[tuple[int, str]], bookings: list[Any]) -> None:
        for number, verdict in exceptions:
            self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
            if verdict == "CONFLICT":
                aid = bookings[number - 1][0]  # Lua counts from one
                log.error("ledger_conflict", tenant=tenant, attempt=aid)
                self.alert(Alert(tenant, "conflict", aid))

    def _back(self, lane: Lane) -> None:
        self._on_back(lane.tenant)
        log.warning("store_available", tenant=lane.tenant, endings_waiting=lane.waiting)
