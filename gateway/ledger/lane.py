"""Group commit for one tenant: one exchange with the store at a time; what comes meanwhile forms the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from gateway.ledger.attempt import Attempt, Receipt
from gateway.ledger.exchange import Exchange, Reply, StoreDown
from gateway.ledger.holds import hold_again, renewal
from gateway.ledger.records import OUTCOME, Booking
from gateway.log import get_logger

log = get_logger(__name__)


class Waiter(Protocol):
    """Who is told of a reservation: a future, or whoever wants to know at once."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, verdict: tuple[Any, ...], /) -> None:
        """The store's verdict."""

    def set_exception(self, error: BaseException, /) -> None:
        """The store did not answer."""


Load = tuple[list[Booking], list[Booking], list[Booking]]
"""Endings, reservations and renewals of one exchange."""

MAX_ENDINGS = 256
MAX_RESERVATIONS = 128
MAX_WAITING = 50_000
"""Endings kept in memory while the store is away; the rest waits in the write-ahead log alone."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _WARN_EVERY_S = 0.05, 1.0, 5.0


class Lane:
    """Everything on its way to the store for one tenant."""

    def __init__(
        self,
        tenant: str,
        exchange: Exchange,
        *,
        clock: Callable[[], float],
        on_reply: Callable[[Lane, Reply, list[tuple[Booking, Receipt | None]]], None],
        on_back: Callable[[Lane], None],
        flush_every_s: float,
        deadline_s: float,
        patience_s: float,
    ) -> None:
        self.tenant = tenant
        self.down_since: float | None = None
        """When the store was first missed (epoch seconds), None while it answers."""
        self.spilled: dict[int, int] = {}
        """Sequence -> segment of endings left to the write-ahead log alone, to be read back once the store answers."""
        self.count = 0
        """Our exchanges that the store had counted at its last answer."""
        self._exchange = exchange
        self._clock = clock
        self._on_reply = on_reply
        self._on_back = on_back
        self._flush_every_s = flush_every_s
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._endings: list[tuple[Booking, Receipt | None]] = []
        self._reservations: list[tuple[Booking, Waiter]] = []
        self._registrations: dict[str, Attempt] = {}
        self._renewals: dict[str, Attempt] = {}
        """Both by attempt id, and of attempts under way alone: an outage makes them no longer."""
        self._flying = 0
        self._patience: asyncio.Timeout | None = None
        """Of the exchange under way; it ends sooner where somebody begins to wait for the next one."""
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._warned_at = 0.0

    @property
    def waiting(self) -> int:
        """Endings that the store does not have yet."""
        return len(self._endings) + self._flying

    def finish(self, item: Booking, receipt: Receipt | None, *, soon: bool) -> None:
        """Queues an ending; `soon` where it frees a hold that others may be waiting for."""
        if self.down_since is not None:
            self._registrations.pop(item[0], None)
            self._renewals.pop(item[0], None)
        # A slab is ended behind all that is spilled: it holds what some of that cost.
        behind = self.spilled and item[OUTCOME] == "X" and not soon
        if (behind or len(self._endings) >= MAX_WAITING) and receipt is not None:
            self.spilled[receipt[0]] = receipt[1]
            return
        self._endings.append((item, receipt))
        if self.down_since is not None:
            self._later(self._pause_s)
        elif soon or len(self._endings) >= MAX_ENDINGS:
            self._due = True
            self._wake()
        elif self._timer is None:
            self._later(self._flush_every_s)

    async def reserve(self, item: Booking) -> tuple[Any, ...]:
        """The store's verdict on a reservation.

        Raises:
            StoreDown: the store did not answer in time; whether it holds the reservation is not known.
        """
        future: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self.ask(item, future)
        self._hurry()
        return await future

    def ask(self, item: Booking, waiter: Waiter) -> None:
        """The same for one who does not stop to wait."""
        self._reservations.append((item, waiter))
        self._wake()

    def register(self, attempt: Attempt) -> None:
        """Has the store hold an attempt under way, unless it ends before; nobody waits for the verdict."""
        self._registrations[attempt.aid] = attempt
        self._wake_unless_down()

    def renew(self, attempts: Iterable[Attempt]) -> None:
        """Renews leases of attempts under way. Those that a dead store misses are not kept."""
        self._renewals.update((attempt.aid, attempt) for attempt in attempts)
        self._wake_unless_down()

    async def drain(self, until: float) -> bool:
        """Flushes until nothing waits or the loop's time is `until`; says whether nothing waits."""
        loop = asyncio.get_running_loop()
        while (self.waiting or self._reservations or self._registrations) and loop.time() < until:
            self._due = True
            self._wake()
            if self._task is not None:
                await asyncio.wait([self._task], timeout=max(0.0, until - loop.time()))
            if self.down_since is not None:
                await asyncio.sleep(min(_FIRST_PAUSE_S, max(0.0, until - loop.time())))
        return not self.waiting

    def stop(self) -> None:
        """Ends the background work at once; what waits is in the write-ahead log."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _later(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._due = True
        self._wake()

    def _wake_unless_down(self) -> None:
        if self.down_since is None:
            self._wake()
        else:
            self._later(self._pause_s)

    def _wake(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._due or self._reservations or self._registrations or self._renewals:
                if not await self._once():
                    break
        finally:
            self._task = None
        if self.down_since is not None:
            self._later(self._pause_s)  # an exchange of nothing, if need be: it tells when the store is back
        elif self._endings:
            self._later(self._flush_every_s)

    async def _once(self) -> bool:
        """One exchange; False where the store did not answer."""
        self._due = len(self._endings) > MAX_ENDINGS
        endings, self._endings = self._endings[:MAX_ENDINGS], self._endings[MAX_ENDINGS:]
        # While the store refuses things, endings go first and alone: one out of memory still takes them.
        most = 0 if endings and self.down_since is not None else MAX_RESERVATIONS
        asked, self._reservations = self._reservations[:most], self._reservations[most:]
        joining = _taken(self._registrations, most - len(asked))
        reservations = [item for item, _ in asked]
        reservations += map(hold_again, joining)
        renewals = [*map(renewal, _taken(self._renewals, MAX_ENDINGS))]
        load = [item for item, _ in endings], reservations, renewals
        hurry = self.down_since is not None or _awaited(asked)
        self._flying = len(endings)
        reply = None
        try:
            reply = await self._try_twice(load, hurry)
        except StoreDown as error:
            self._missed(str(error))
        except Exception as error:
            log.exception("exchange_failed", tenant=self.tenant)
            self._missed(type(error).__name__)
        finally:
            self._flying = 0
            if reply is None:
                self._endings[:0] = endings
                self._refuse(asked)
                self._registrations |= {attempt.aid: attempt for attempt in joining if attempt.state != "ended"}
        if reply is None:
            return False
        if self.down_since is not None:
            self.down_since = None
            self._pause_s = _FIRST_PAUSE_S
            self._on_back(self)
        for (_, future), verdict in zip(asked, reply.verdicts, strict=False):  # those of `joining` follow
            if not future.done():
                future.set_result(verdict)
        self._on_reply(self, reply, endings)
        return True

    async def _try_twice(self, load: Load, hurry: bool) -> Reply:
        """The same load a second time where the first answer was lost; the store knows the items by attempt id."""
        try:
            return await self._try(load, hurry)
        except StoreDown:
            return await self._try(load, hurry or _awaited(self._reservations))

    async def _try(self, load: Load, hurry: bool) -> Reply:
        try:
            async with asyncio.timeout((self._deadline_s if hurry else self._patience_s) / 2) as self._patience:
                return await self._exchange.run(self.tenant, self._clock(), *load, self.count)
        except TimeoutError as error:
            raise StoreDown("no answer in time") from error
        finally:
            self._patience = None

    def _hurry(self) -> None:
        """Has the exchange under way wait no longer than one that somebody waits for: the next one waits for it."""
        if self._patience is not None and (ends_at := self._patience.when()) is not None:
            soon = asyncio.get_running_loop().time() + self._deadline_s / 2
            if soon < ends_at:
                self._patience.reschedule(soon)

    def _missed(self, why: str) -> None:
        now = self._clock()
        self.down_since = self.down_since or now
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            log.warning("store_unavailable", tenant=self.tenant, why=why)

    def _refuse(self, asked: list[tuple[Booking, Waiter]]) -> None:
        """Tells everyone who waits that the store did not answer."""
        waiting, self._reservations = [*asked, *self._reservations], []
        for _, future in waiting:
            if not future.done():
                future.set_exception(StoreDown("the store did not answer"))


def _taken(queue: dict[str, Attempt], most: int) -> list[Attempt]:
    """Takes up to so many out of it; gives those that have not ended meanwhile."""
    taken = [queue.pop(aid) for aid in list(islice(queue, most))]
    return [attempt for attempt in taken if attempt.state != "ended"]


def _awaited(reservations: list[tuple[Booking, Waiter]]) -> bool:
    """Whether a request stands still for one of these."""
    return any(isinstance(waiter, asyncio.Future) for _, waiter in reservations)
