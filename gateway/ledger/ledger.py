"""The ledger's face to the request path: begin or reserve, then settle or void, each attempt exactly once."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

from gateway.errors import GatewayUnavailable
from gateway.ledger.archive import Archive
from gateway.ledger.archiver import Archiver
from gateway.ledger.attempt import Attempt, new_request_id
from gateway.ledger.cost import affordable_output_tokens, cost_nano, is_plausible
from gateway.ledger.exchange import Exchange, StoreDown, tag
from gateway.ledger.holds import corrections, least_worth_holding, reservation, worst_case
from gateway.ledger.journal import Journal
from gateway.ledger.limits import Budget, Headroom, Limits, LimitsMode, Terms, Window, window, windows
from gateway.ledger.outage import Outage, policies_of
from gateway.ledger.outbox import Outbox, Tell
from gateway.ledger.records import (
    NO_USAGE,
    Outcome,
    booking,
    encode,
    line,
    tombstone,
    usage_numbers,
)
from gateway.ledger.recovery import Orphan, until_known
from gateway.ledger.refusal import headroom, refusal, unavailable
from gateway.ledger.slabs import BUSY, NEVER_SENT, Slab, Slabs
from gateway.ledger.underway import Underway
from gateway.ledger.upkeep import Upkeep
from gateway.ledger.wal import Fsync, Record, Wal
from gateway.log import get_logger
from gateway.storage.client import Store
from gateway.types import Settlement, Usage, UsageSource

log = get_logger(__name__)

_BEGUN = Record.BEGUN  # members of an enum are slow to find
PROGRESS_EVERY_S = 1.0
CLOSE_WITHIN_S = 5.0
_MOST_SHARES = 10_000
"""That are remembered; a budget for each session makes many."""


class Ledger:
    """Keeps the money of one process."""

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        chance: random.Random | None = None,
        on_alert: Tell = lambda alert: None,
        flush_every_s: float = 0.05,
        reserve_deadline_s: float = 0.4,
        segment_bytes: int = 16 * 1024 * 1024,
        local_share: float = 0.05,
        sweep_every_s: float = 5.0,
        archive_dir: Path | None = None,
        wal_fsync: Fsync = "group",
        slab_rate: int = BUSY,
    ) -> None:
        """Opens the write-ahead log of this process under `data_dir`.

        `reserve_deadline_s` is for both tries of a reservation; it is above what a busy event loop takes to notice an
        answer, since a busy gateway must not look like a dead store. `local_share` is the part of a limit with
        `on_store_down: local` that this process may lend in one outage. `archive_dir` is where the journal is
        archived; None for nowhere. With `wal_fsync="always"` the log is on the disk before an attempt is sent, and its
        ending before the caller has the last byte: each waits for the disk, and so does everyone else meanwhile. From
        `slab_rate` requests in a second under the same limits, these are held for many requests at once (see slabs.py).

        Raises:
            OSError: the log's first segment cannot be made.
        """
        root = data_dir / "wal"
        chance = chance or random.SystemRandom()
        self.owner = f"{os.getpid()}-{chance.getrandbits(64):016x}"
        self._monotonic = monotonic
        self._outage = Outage(local_share, monotonic)
        self._store = store
        self._wal = Wal(root / self.owner, monotonic=monotonic, segment_bytes=segment_bytes, fsync=wal_fsync)
        self._exchange = Exchange(store, self.owner)
        self._outbox = Outbox(
            self._exchange,
            self._wal,
            clock=clock,
            on_alert=on_alert,
            on_back=self._outage.over,
            flush_every_s=flush_every_s,
            deadline_s=reserve_deadline_s,
            patience_s=2.0,
        )
        self._underway = Underway()
        self._shares: dict[Limits, float] = {}
        self._shares_as_of = (0, 0)
        """The share left to callers, and of which answer of the store and hour it was worked out."""
        archive = None if archive_dir is None else Archive(archive_dir)
        self.journal = Journal(store, archive)
        self._archiver = Archiver(store, archive, self.owner, alert=self._outbox.alert)
        self._slabs = Slabs(
            self._wal,
            self._underway,
            self._outbox.lane,
            new_id=lambda: (new_request_id(at := clock(), chance), at),
            now=self._outbox.now,
            monotonic=monotonic,
            busy=slab_rate,
        )
        self._upkeep = Upkeep(
            store,
            self._exchange,
            self._outbox,
            self._wal,
            self._underway,
            self._archiver,
            self._slabs,
            root,
            on_progress=self.progress,
            clock=clock,
            chance=chance,
            sweep_every_s=sweep_every_s,
        )

    async def start(self) -> None:
        """Recovers the logs of dead processes and starts the background work. The store may be away; see `lag`.

        Raises:
            StoreTooOld: the server lacks what the ledger needs.
        """
        await self._upkeep.start()

    async def close(self) -> None:
        """Flushes everything, for at most 5 s; what could not be flushed is recovered at the next start."""
        await self._upkeep.stop()
        self._slabs.close()
        until = asyncio.get_running_loop().time() + CLOSE_WITHIN_S
        lanes = list(self._outbox.lanes.values())
        await asyncio.gather(*(lane.drain(until) for lane in lanes))
        for lane in lanes:
            lane.stop()
        await self._upkeep.sign_off()
        await self._wal.close()

    def begin(self, attempt: Attempt) -> None:
        """Books that an attempt of an unlimited caller is about to be sent. Call it just before sending.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, the write-ahead log cannot take it.
        """
        attempt.receipt = self._wal.begin(_BEGUN, attempt.seal(), attempt.account, attempt.price)
        if self._wal.waits:
            self._commit(attempt)
        attempt.state = "sent"
        self._underway.young[attempt.aid] = attempt

    async def reserve(self, attempt: Attempt, limits: Limits) -> Headroom:
        """Holds the attempt's worst case against all limits, then books that it is about to be sent.

        `attempt.input_bound_tokens` and a cap on the output must be known where a hard budget applies; the cap that the
        hold stands for comes back in `Headroom.output_cap_tokens` and must be sent upstream. Where all that is limited
        is soft, this does not wait.

        Raises:
            CallerError: BUDGET_SPENT (details: budget, window, resets_at), RATE_LIMIT (retry_after_s), or BAD_REQUEST
                where nothing caps the output.
            RoutingError: the deployment has no price in force, and a budget cannot be charged by guess.
            GatewayUnavailable: LEDGER_DOWN.
        """
        attempt.limits = limits
        if not limits.enforced:
            self._pin(attempt, limits)
            self.begin(attempt)
            return self._soft_headroom(attempt, limits)
        most, cap = worst_case(attempt, limits)
        attempt.hold_nano = most
        if (slab := self._slabs.draw(attempt, limits)) is not None:
            return self._begin_within(slab, attempt, cap)
        at = self._pin(attempt, limits)
        attempt.enforced = True
        attempt.receipt = self._wal.begin(Record.INTENT, attempt.seal(), attempt.account, attempt.price)
        lane = self._outbox.lane(attempt.tenant)
        if lane.down_since is not None and not _denied_without_store(limits):
            return self._go_without_store(attempt, limits, cap)
        least = least_worth_holding(attempt, cap)
        try:
            item = reservation(attempt, limits, least)
            verdict = await lane.reserve(item)
            if verdict[0] == "DENY" and self._slabs.give_way(attempt.windows[verdict[1] - 1].counter):
                verdict = await lane.reserve(item)
        except StoreDown:
            return self._go_without_store(attempt, limits, cap)
        except BaseException:
            self._abandon(attempt)
            raise
        if verdict[0] == "HELD":  # the answer to the first try was lost
            verdict = ("OK", verdict[1], 0, 0, 0, 0, 0, 0, 0, 0)
        if verdict[0] != "OK":
            attempt.state = "ended"
            self._wal.drop(attempt.receipt)
            raise refusal(verdict, limits, attempt.windows, (least, min(cap or 0, attempt.least_output_tokens)), at)
        attempt.hold_nano = verdict[1]
        if cap is not None and attempt.hold_nano < most and attempt.price is not None:
            cap = affordable_output_tokens(
                attempt.price, attempt.hold_nano, input_tokens=attempt.input_bound_tokens, choices=attempt.choices
            )
        self._send(attempt)
        return headroom(verdict, limits, cap)

    def progress(self, attempt: Attempt, output_tokens: int) -> None:
        """Notes the output so far, for the estimate should this process die; at most one note a second is kept."""
        attempt.progress_tokens = output_tokens
        now = self._monotonic()
        if attempt.state == "sent" and now - attempt.progress_at >= PROGRESS_EVERY_S:
            attempt.progress_at = now
            self._wal.note(Record.PROGRESS, attempt.receipt[0], b"%d" % output_tokens)

    def settle(
        self,
        attempt: Attempt,
        *,
        usage: Usage,
        usage_source: UsageSource,
        settlement: Settlement,
        latency_ms: int,
        ttft_ms: int | None,
        service_tier: str | None = None,
        status: int = 200,
        upstream_id: str | None = None,
        may_be_more: bool = False,
    ) -> int:
        """Books how the attempt ended; gives its cost in nano-USD. A second call changes nothing and gives 0.
        `may_be_more` says of an estimate that the provider may have gone on working unseen. What is held for it under a
        hard budget is booked then, until the truth or a day has come, lest the provider's bill overrun the budget.

        Raises:
            RuntimeError: the attempt was never begun.
        """
        if attempt.state == "ended":
            return 0
        if attempt.state != "sent":
            raise RuntimeError(f"attempt {attempt.aid} is settled before it was begun")
        if not is_plausible(usage):
            log.error("usage_out_of_range", attempt=attempt.aid, deployment=attempt.account.deployment)
            usage, usage_source = Usage(input=attempt.input_tokens, output=attempt.progress_tokens), "estimated"
        numbers = usage_numbers(usage)
        if service_tier is not None and len(service_tier) > 64:
            service_tier = service_tier[:64]
        price = attempt.price
        cost = 0 if price is None else cost_nano(usage, price, started_at=attempt.at, service_tier=service_tier)
        outcome: Outcome = "P" if usage_source in ("provider", "drained") else "E"
        estimated_nano = cost
        if may_be_more and attempt.hold_nano > cost and outcome == "E":
            cost, usage_source = attempt.hold_nano, "held"
        ending = (
            outcome,
            cost,
            numbers,
            usage_source,
            settlement,
            latency_ms,
            ttft_ms,
            service_tier,
            status,
            price is None,
            upstream_id,
        )
        text = encode(ending)
        orphan = None
        if usage_source == "held":
            orphan = Orphan(attempt.envelope.decode(), 0, estimated_nano, cost, price is None, text.decode())
        self._end(attempt, outcome, cost, numbers, text, price is None, orphan)
        return cost

    def void(
        self,
        attempt: Attempt,
        reason: Settlement = "void",
        *,
        status: int | None = None,
        latency_ms: int | None = None,
    ) -> None:
        """Books that the attempt was provably not billed. Does nothing if it has ended already or was never begun."""
        if attempt.state != "sent":
            return
        ending = ("V", 0, NO_USAGE, "provider", reason, latency_ms, None, None, status, False)
        self._end(attempt, "V", 0, NO_USAGE, encode(ending), unpriced=False)

    async def spent(self, tenant: str, budget: Budget) -> tuple[int, int]:
        """What is posted and what is held in the budget's current period, in nano-USD.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        key = tag(tenant) + window(budget, self._outbox.now()).counter
        posted, held = await self._store.execute_command("HMGET", key, "post", "res")
        return int(posted or 0), int(held or 0)

    def left_share(self, limits: Limits) -> float | None:
        """The smallest share (0 to 1) left of the caller's budgets; None where there are none.

        As of the store's last answers to this process: good enough to route by, and never waited for.
        """
        if not limits.budgets:
            return None
        now = self._outbox.now()
        as_of = self._outbox.touched, int(now) // 3600
        if as_of != self._shares_as_of or len(self._shares) > _MOST_SHARES:
            self._shares_as_of, self._shares = as_of, {}
        share = self._shares.get(limits)
        if share is None:
            share = self._shares[limits] = max(0.0, self._tightest(limits, windows(limits, now))[0])
        return share

    @property
    def lag(self) -> dict[str, int | float | bool]:
        """For health: endings not yet in the store, for how long it has been missed, what it answered to endings."""
        lanes = self._outbox.lanes.values()
        missed = [lane.down_since for lane in lanes if lane.down_since is not None]
        return {
            "entries_waiting": sum(lane.waiting + len(lane.spilled) for lane in lanes),
            "attempts_open": self._wal.open_attempts,
            "store_up": not missed,
            "store_missed_s": round(self._outbox.now() - min(missed), 3) if missed else 0.0,
            "log_up": self._wal.broken is None,
            "archive_in_use": self._archiver.in_use,
            "journal_records": max(self._archiver.records.values(), default=0),
            **{f"endings_{verdict.lower()}": n for verdict, n in self._outbox.verdicts.items()},
        }

    def _end(
        self,
        attempt: Attempt,
        outcome: Outcome,
        nano: int,
        usage: tuple[int, ...],
        ending: bytes,
        unpriced: bool,
        orphan: Orphan | None = None,
    ) -> None:
        self._wal.end(attempt.receipt[0], ending)
        attempt.state = "ended"
        if attempt.meter is not None:
            attempt.meter = None
        underway = self._underway.registered if attempt.in_store else self._underway.young
        underway.pop(attempt.aid, None)
        if self._outage.loans:
            self._outage.settle(attempt.aid, nano)
        item = booking(
            attempt,
            outcome,
            nano,
            usage,
            line(attempt.brief, ending),
            may_be_held=attempt.in_store,
            unpriced=unpriced,
            corrections=corrections(attempt, usage) if attempt.in_store else (),
        )
        if orphan is not None:
            item = until_known(item, orphan)
        self._outbox.lane(attempt.account.tenant).finish(item, attempt.receipt, soon=attempt.enforced)
        if attempt.lender is not None:
            self._slabs.settle(attempt, nano, usage)

    def _pin(self, attempt: Attempt, limits: Limits) -> float:
        """Fixes the periods that the attempt is charged to; gives their time, the store's."""
        at = self._outbox.now()
        attempt.windows = windows(limits, at)
        return at

    def _begin_within(self, slab: Slab, attempt: Attempt, cap: int | None) -> Headroom:
        try:
            self.begin(attempt)
        except BaseException:
            self._slabs.undo(attempt)
            raise
        return slab.headroom(attempt.hold_nano, cap)

    def _send(self, attempt: Attempt) -> None:
        self._wal.sent(attempt.receipt[0], attempt.hold_nano)
        self._commit(attempt)
        attempt.state = "sent"
        attempt.in_store = True
        self._underway.registered[attempt.aid] = attempt

    def _commit(self, attempt: Attempt) -> None:
        """Has the log keep what it was told of the attempt; where it cannot, the attempt is over."""
        try:
            self._wal.commit()
        except GatewayUnavailable:
            self._abandon(attempt)
            raise

    def _abandon(self, attempt: Attempt) -> None:
        """Ends what was never sent but may be held."""
        attempt.state = "ended"
        self._outage.settle(attempt.aid, 0)
        self._wal.end(attempt.receipt[0], NEVER_SENT)
        self._outbox.lane(attempt.tenant).finish(tombstone(attempt.aid), attempt.receipt, soon=True)

    def _go_without_store(self, attempt: Attempt, limits: Limits, cap: int | None) -> Headroom:
        mode = self._outage.admit(attempt, limits, self._outbox.known)
        if mode is None:
            self._abandon(attempt)
            raise unavailable("the store does not answer")
        self._send(attempt)
        return Headroom(Terms(mode=mode), attempt.hold_nano, cap)

    def _soft_headroom(self, attempt: Attempt, limits: Limits) -> Headroom:
        mode: LimitsMode = "exact" if self._outbox.lane(attempt.tenant).down_since is None else "allow"
        if not limits.budgets:
            return Headroom(Terms(mode=mode))
        _, budget, left_nano = self._tightest(limits, attempt.windows)
        return Headroom(Terms(budget=budget, mode=mode), budget_left_nano=left_nano)

    def _tightest(self, limits: Limits, windows: Sequence[Window]) -> tuple[float, Budget, int]:
        """The smallest share left of any budget, that budget, and what is left of it, at the store's last answers."""
        left: list[tuple[float, Budget, int]] = []
        for budget, pinned in zip(limits.budgets, windows, strict=True):
            held, posted = self._outbox.known.get((limits.tenant, pinned.counter), (0, 0))
            nano = pinned.limit_nano - held - posted
            left.append((nano / pinned.limit_nano if pinned.limit_nano else 0.0, budget, nano))
        return min(left, key=itemgetter(0))


def _denied_without_store(limits: Limits) -> bool:
    return "deny" in policies_of(limits)
