"""The ledger's background work: registering, renewing, sweeping, recovering, replaying, pruning, archiving."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice, takewhile
from pathlib import Path

from redis.exceptions import RedisError

from gateway.background import end
from gateway.ledger.archive import Missing
from gateway.ledger.archiver import Archiver, Unverified
from gateway.ledger.attempt import Attempt
from gateway.ledger.exchange import TENANTS, Exchange, StoreDown, tag
from gateway.ledger.history import Story, read_log
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Alert, Outbox
from gateway.ledger.records import Booking, aid_hour, line
from gateway.ledger.recovery import TOO_OLD_S, Orphan, from_story
from gateway.ledger.slabs import Slabs
from gateway.ledger.thresholds import Thresholds
from gateway.ledger.underway import Underway
from gateway.ledger.wal import Wal, lock_directory, remove_log
from gateway.log import get_logger
from gateway.storage.client import Store, StoreTooOld, server_version

log = get_logger(__name__)

REGISTER_AFTER_S = 1.0
GRACE_S = 30.0
REPLAY_S = 900.0
"""How far back endings are sent again when the store has lost writes: more than any failover takes."""
_TICK_S, _RENEW_EVERY_S, _ARCHIVE_EVERY_S, _PATIENCE_S = 0.5, 30.0, 60.0, 10.0
_PAGE, _MOST_READ_AHEAD = 500, 5000
_PUT_OFF = (StoreDown, RedisError, OSError)
"""What may go well next time, for everyone; what else a tenant's upkeep fails at concerns that tenant alone."""


class Upkeep:
    """Runs for as long as the ledger is open."""

    def __init__(
        self,
        store: Store,
        exchange: Exchange,
        outbox: Outbox,
        wal: Wal,
        underway: Underway,
        archiver: Archiver,
        slabs: Slabs,
        root: Path,
        *,
        on_progress: Callable[[Attempt, int], None],
        clock: Callable[[], float],
        chance: random.Random,
        sweep_every_s: float,
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._outbox = outbox
        self._wal = wal
        self._underway = underway
        self._archiver = archiver
        self._slabs = slabs
        self._root = root
        self._on_progress = on_progress
        self._clock = clock
        self._chance = chance
        self._sweep_every_s = sweep_every_s
        self._orphans = Orphans(store, outbox, clock)
        self._thresholds = Thresholds(store, outbox, wal.directory.name)
        self._greeted = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Recovers once, then goes on in the background; a store that is away is tried again there.

        Raises:
            StoreTooOld: the server lacks what the ledger needs.
        """
        await self._greet()
        await self._guarded(self._archiver.attach)
        await self._guarded(self._recover)
        self._tasks = [
            asyncio.create_task(self._every(_TICK_S, self._tick)),
            asyncio.create_task(self._every(self._sweep_every_s, self._sweep_round)),
            asyncio.create_task(self._every(_RENEW_EVERY_S, self._renew)),
            asyncio.create_task(self._every(_ARCHIVE_EVERY_S, self._archive_round)),
        ]

    async def stop(self) -> None:
        """Ends the background work."""
        await end(*self._tasks)

    async def sign_off(self) -> None:
        """Takes this process off the tenants' counts of exchanges, once nothing more will be exchanged."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._thresholds.acknowledge()
                for tenant in self._outbox.lanes:
                    await self._store.execute_command("HDEL", tag(tenant) + "own", self._wal.directory.name)

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s * self._chance.uniform(0.8, 1.2))
            await self._guarded(work)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does the work, or leaves it for the next time."""
        try:
            await work()
        except _PUT_OFF as error:
            log.info("ledger_upkeep_put_off", work=work.__name__.strip("_"), why=type(error).__name__)
        except Exception:
            log.exception("ledger_upkeep_failed", work=work.__name__.strip("_"))

    async def _greet(self) -> None:
        try:
            async with asyncio.timeout(2.0):
                if await server_version(self._store) >= (7, 0):
                    self._exchange.allow_when_full()
                    self._archiver.allow_when_full()
            self._greeted = True
        except StoreTooOld:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("store_unavailable", why=type(error).__name__)

    async def _tick(self) -> None:
        self._register()
        self._slabs.tick()
        self._read_meters()
        await self._thresholds.acknowledge()
        for tenant in list(self._outbox.lost):
            self._outbox.lost.discard(tenant)
            log.error("store_lost_writes", tenant=tenant)
            self._exchange.announce_again(tenant)
            try:
                await self._resend(tenant)
            except BaseException:
                self._outbox.lost.add(tenant)  # from the start next time
                raise
        for lane in self._outbox.lanes.values():
            if lane.spilled and lane.down_since is None and not lane.waiting:
                await self._read_back(lane.tenant)

    async def _sweep_round(self) -> None:
        if not self._greeted:
            await self._greet()
        if self._archiver.waits:
            await self._archiver.attach()
        for name in await self._store.execute_command("SMEMBERS", TENANTS):
            tenant = name.decode()
            try:
                await self._sweep(tenant)
                await self._orphans.settle_due(tenant)
                await self._thresholds.look(tenant)
            except _PUT_OFF:
                raise
            except Exception:
                log.exception("tenant_not_swept", tenant=tenant)
        await self._recover()
        self._wal.prune()

    async def _archive_round(self) -> None:
        await self._archiver.attach()
        for tenant in await self._store.execute_command("SMEMBERS", TENANTS):
            try:
                await self._archiver.round(tenant.decode())
            except (OSError, Unverified, Missing) as error:
                log.error("journal_not_archived", tenant=tenant.decode(), why=str(error))

    def _register(self) -> None:
        """Tells the store of attempts that live longer than a second, so that a lost host's are noticed."""
        young, before = self._underway.young, self._clock() - REGISTER_AFTER_S
        for attempt in takewhile(lambda attempt: attempt.at <= before, list(young.values())):
            del young[attempt.aid]
            attempt.in_store = True
            self._underway.registered[attempt.aid] = attempt
            lane = self._outbox.lane(attempt.tenant)
            if attempt.lender is not None:
                self._slabs.move_out(attempt)
            else:
                lane.register(attempt)
            lane.renew([attempt])

    def _read_meters(self) -> None:
        """Notes how far the attempts under way have come, those that can tell."""
        for attempt in self._underway.registered.values():
            if attempt.meter is not None and (tokens := attempt.meter()) > attempt.progress_tokens:
                self._on_progress(attempt, tokens)

    async def _renew(self) -> None:
        by_tenant: dict[str, list[Attempt]] = {}
        for attempt in self._underway.registered.values():
            by_tenant.setdefault(attempt.tenant, []).append(attempt)
        for tenant, attempts in by_tenant.items():
            self._outbox.lane(tenant).renew(attempts)

    async def _sweep(self, tenant: str) -> None:
        """Books estimates for attempts nobody renews any more."""
        lane = self._outbox.lanes.get(tenant)
        told = 0 if lane is None else lane.count  # as of now: an exchange may be answered before this is
        answer = await self._exchange.expired(tenant, GRACE_S)
        self._outbox.sample(answer.now_ms)
        if lane is not None and answer.count < told:
            lane.count = answer.count
            self._outbox.lost.add(tenant)
        if not answer.attempts:
            return
        orphans = {}
        for aid, held, progress in answer.attempts:
            if held:
                tokens, nano = progress or (0, held[5])
                orphans[aid] = Orphan(held[3], int(tokens), int(nano), int(held[0]))
            else:
                await self._store.execute_command("ZREM", tag(tenant) + "if", aid)
        log.warning("attempts_orphaned", tenant=tenant, count=len(orphans))
        await self._orphans.book(tenant, orphans)

    async def _recover(self) -> None:
        """Books what dead processes of this machine left in their logs."""
        for directory in sorted(self._root.iterdir()):
            if directory == self._wal.directory or directory.name.startswith("."):
                continue
            try:
                lock = lock_directory(directory)
            except OSError:  # its process lives, or another one recovers it
                continue
            try:
                await self._recover_log(directory)
            except (StoreDown, RedisError):
                raise
            except Exception:
                log.exception("log_not_recovered", log=str(directory))
            finally:
                os.close(lock)

    async def _recover_log(self, directory: Path) -> None:
        left: list[Story] = []
        told: list[Story] = []
        tenants: set[str] = set()
        async for story in _stories(directory):
            tenants.add(story.envelope.tenant)
            if not story.settled:
                left.append(story)
            elif story.ending is not None and self._clock() - story.envelope.at <= TOO_OLD_S:
                told.append(story)
                if len(told) == _PAGE:
                    left += await self._tell_again(told)
                    told.clear()
        left += await self._tell_again(told)
        bookings: dict[str, list[Booking]] = {}
        orphans: dict[str, dict[str, Orphan]] = {}
        slabs: dict[str, list[Booking]] = {}
        for story in left:
            if story.envelope.is_slab:
                slabs.setdefault(story.envelope.tenant, []).append(await self._orphans.end_of_slab(story))
                continue
            if self._clock() - story.envelope.at > TOO_OLD_S:
                await self._quarantine(story)
                continue
            item = from_story(story)
            if isinstance(item, Orphan):
                orphans.setdefault(story.envelope.tenant, {})[story.envelope.aid] = item
            else:
                bookings.setdefault(story.envelope.tenant, []).append(item)
        for tenant, items in bookings.items():
            await self._outbox.book(tenant, items)
        for tenant, ones in orphans.items():
            await self._orphans.book(tenant, ones)
        for tenant, items in slabs.items():  # last, since they hold what the others may have cost
            await self._outbox.book(tenant, items)
        for tenant in tenants:
            await self._store.execute_command("HDEL", tag(tenant) + "own", directory.name)
        remove_log(directory)
        if left:
            log.warning("ledger_recovered", attempts=len(left))

    async def _tell_again(self, told: list[Story]) -> list[Story]:
        """Books those of these endings that the store took and has lost since: it may have crashed with their process.

        Gives the slabs among them, which end after all that they paid.
        """
        by_key: dict[str, list[Story]] = {}
        for story in told:
            aid, tenant = story.envelope.aid, story.envelope.tenant
            by_key.setdefault(f"{tag(tenant)}d:{aid_hour(aid)}", []).append(story)
        lost: dict[str, list[Booking]] = {}
        slabs: list[Story] = []
        for key, stories in by_key.items():
            markers = await self._store.execute_command("HMGET", key, *(story.envelope.aid for story in stories))
            for story in (story for story, marker in zip(stories, markers, strict=True) if marker is None):
                if story.envelope.is_slab:
                    slabs.append(story)
                elif not isinstance(item := from_story(story), Orphan):
                    lost.setdefault(story.envelope.tenant, []).append(item)
        for tenant, items in lost.items():
            log.error("store_lost_writes", tenant=tenant, endings=len(items))
            await self._outbox.book(tenant, items)
        return slabs

    async def _quarantine(self, story: Story) -> None:
        tenant, aid = story.envelope.tenant, story.envelope.aid
        text = line(story.sealed, story.ending_text or b"null")
        await self._store.execute_command("XADD", tag(tenant) + "quarantine", "*", "why", "TOO_OLD", "e", text)
        self._outbox.alert(Alert(tenant, "quarantine", aid))

    async def _resend(self, tenant: str) -> None:
        """Gives the store again what it may have lost: holds of attempts under way and all endings of late."""
        now = self._clock()
        loop = asyncio.get_running_loop()
        lane = self._outbox.lane(tenant)
        for attempt in list(self._underway.registered.values()):
            if attempt.tenant == tenant:
                lane.register(attempt)
        async for story in _stories(self._wal.directory):
            if story.envelope.tenant != tenant or story.ending is None:
                continue
            ended_at = story.envelope.at + (story.ending.latency_ms or 0) / 1000
            item = from_story(story)
            if now - ended_at <= REPLAY_S and not isinstance(item, Orphan):
                lane.finish(item, None, soon=True)
            if lane.waiting > _MOST_READ_AHEAD and not await lane.drain(loop.time() + _PATIENCE_S):
                self._outbox.lost.add(tenant)  # away again: from the start next time
                return

    async def _read_back(self, tenant: str) -> None:
        """Queues the endings that did not fit in memory while the store was away."""
        lane = self._outbox.lane(tenant)
        slabs: dict[int, Booking] = {}
        async for story in _stories(self._wal.directory):
            sequence = story.sequence
            if sequence not in lane.spilled or isinstance(item := from_story(story), Orphan):
                continue
            if story.envelope.is_slab:
                slabs[sequence] = item
            else:
                lane.finish(item, (sequence, lane.spilled.pop(sequence)), soon=True)
        if len(lane.spilled) == len(slabs):  # last, since they hold what the others cost
            for sequence, item in slabs.items():
                lane.finish(item, (sequence, lane.spilled.pop(sequence)), soon=True)


async def _stories(directory: Path) -> AsyncIterator[Story]:
    """A log, read in a thread some at a time: fifteen minutes of it may be more than fits in memory."""
    log_of = read_log(directory)
    while some := await asyncio.to_thread(list, islice(log_of, _PAGE)):
        for story in some:
            yield story
