"""Random histories against a reference that keeps the same books in a few dictionaries."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from books import NO_SLABS, attempt, audit, budget, flushed, new_ledger, posted, until
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from stores import StoreServer

from gateway.errors import CallerError
from gateway.ledger.attempt import Attempt
from gateway.ledger.cost import cost_nano
from gateway.ledger.exchange import Exchange, tag
from gateway.ledger.records import OUTCOME, Booking, booking, encode, line, usage_numbers
from gateway.storage.client import connect
from gateway.types import Usage

LIMIT = 5_000_000


class Books(RuleBasedStateMachine):
    """Attempts are held, sent, settled, voided, repeated, corrected; the process is killed; the reference follows."""

    server: StoreServer
    limit = LIMIT
    slab_rate = NO_SLABS
    examples = 15

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="tg-"))
        self.under_way: list[Attempt] = []
        self.bookings: list[Booking] = []
        self.spent: dict[str, int] = {}
        """Attempt -> nano-USD that must be booked."""
        self.limited: set[str] = set()
        self.known: dict[str, Attempt] = {}
        self.later_s = 0.0
        """By how much the ledger's monotonic clock is ahead."""

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        async def start() -> None:
            self.store = connect(str(self.server.socket))
            await self.store.execute_command("FLUSHALL")
            await self._open()

        self.do(start())

    async def _open(self) -> None:
        self.ledger = new_ledger(
            self.store, self.folder, monotonic=lambda: time.monotonic() + self.later_s, slab_rate=self.slab_rate
        )
        await self.ledger.start()
        self.exchange = Exchange(self.store, "other")

    def committed(self) -> int:
        held = sum(a.hold_nano for a in self.under_way if a.aid in self.limited)
        return held + sum(nano for aid, nano in self.spent.items() if aid in self.limited)

    @rule()
    def begin(self) -> None:
        async def work() -> None:
            self.ledger.begin(a := attempt())
            self.under_way.append(a)

        self.do(work())

    @rule(output=st.integers(1, 400))
    def reserve(self, output: int) -> None:
        a = attempt(output_tokens=output)
        worst = 100_000 + 5_000 * output

        async def work() -> bool:
            await flushed(self.ledger)
            try:
                await self.ledger.reserve(a, budget(self.limit, per="total"))
            except CallerError:
                return False
            return True

        admitted = self.do(work())
        self.check(admitted, self.committed() + worst)
        if admitted:
            self.under_way.append(a)
            self.limited.add(a.aid)

    def check(self, admitted: bool, total: int) -> None:
        """Exactly what fits is admitted."""
        assert admitted == (total <= self.limit)

    @rule(pick=st.integers(0, 50), tokens=st.integers(0, 180), source=st.sampled_from(["provider", "estimated"]))
    def settle(self, pick: int, tokens: int, source: Any) -> None:
        if not self.under_way:
            return
        a = self.under_way.pop(pick % len(self.under_way))
        tokens = min(tokens, a.output_tokens or 0)
        usage = Usage(input=10, output=tokens)

        async def work() -> int:
            given: dict[str, Any] = {"usage_source": source, "settlement": "complete", "latency_ms": 1, "ttft_ms": None}
            self.ledger.settle(a, usage=usage, **given)
            return self.ledger.settle(a, usage=Usage(input=99), **given)

        assert self.do(work()) == 0
        assert a.price is not None
        self.spent[a.aid] = cost_nano(usage, a.price, started_at=a.at)
        outcome: Any = "P" if source == "provider" else "E"
        self.bookings.append(self._booking(a, outcome, usage))

    @rule(pick=st.integers(0, 50), tokens=st.integers(0, 180))
    def leave(self, pick: int, tokens: int) -> None:
        """A caller goes before the end: what is held is booked, or an estimate where nothing is."""
        if not self.under_way:
            return
        a = self.under_way.pop(pick % len(self.under_way))
        usage = Usage(input=10, output=min(tokens, a.output_tokens or 0))
        given: dict[str, Any] = {"usage_source": "estimated", "settlement": "caller_left", "may_be_more": True}

        async def work() -> int:
            return self.ledger.settle(a, usage=usage, latency_ms=1, ttft_ms=None, **given)

        assert a.price is not None
        self.spent[a.aid] = a.hold_nano or cost_nano(usage, a.price, started_at=a.at)
        assert self.do(work()) == self.spent[a.aid]

    @rule(pick=st.integers(0, 50))
    def void(self, pick: int) -> None:
        if self.under_way:
            a = self.under_way.pop(pick % len(self.under_way))

            async def work() -> None:
                self.ledger.void(a)

            self.do(work())
            self.spent[a.aid] = 0

    @rule(pick=st.integers(0, 50), times=st.integers(1, 3))
    def repeat(self, pick: int, times: int) -> None:
        """Another process books what is booked already."""
        if self.bookings:
            item = self.bookings[pick % len(self.bookings)]
            self.do(flushed(self.ledger))
            self.do(self.exchange.run("main", 0.0, [item] * times, [], []))

    @rule(pick=st.integers(0, 50), tokens=st.integers(0, 180))
    def correct(self, pick: int, tokens: int) -> None:
        """The truth of an estimate arrives."""
        estimates = [b for b in self.bookings if b[OUTCOME] == "E"]
        if not estimates:
            return
        item = estimates[pick % len(estimates)]
        a, usage = self.known[item[0]], Usage(input=10, output=tokens)
        truth = self._booking(a, "P", usage)
        self.do(flushed(self.ledger))
        self.do(self.exchange.run("main", 0.0, [truth], [], []))
        self.bookings[self.bookings.index(item)] = truth
        self.spent[a.aid] = truth[1]

    @rule()
    def die(self) -> None:
        """The process is gone; another one recovers its log."""

        async def work() -> None:
            await self.ledger._upkeep.stop()
            for lane in self.ledger._outbox.lanes.values():
                lane.stop()
            await asyncio.sleep(0)
            for a in self.under_way:
                assert a.price is not None
                estimate = cost_nano(Usage(input=10), a.price, started_at=a.at)
                self.spent[a.aid] = a.hold_nano or estimate
            self.under_way.clear()
            await self.ledger._wal.close()
            await self._open()

        self.do(work())

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ledger"):
            return

        async def work() -> None:
            await flushed(self.ledger)
            assert await posted(self.store) == sum(n for aid, n in self.spent.items() if aid in self.limited)
            if not self.under_way:
                await self.quiesce()
                assert sum(e["cost_nano_usd"] for e in await audit(self.store)) == sum(self.spent.values())

        self.do(work())

    @invariant()
    def within(self) -> None:
        """Posted and held never exceed the limit, and what is under way is held."""
        if not hasattr(self, "ledger"):
            return

        async def work() -> None:
            found = await self.store.hmget(f"{tag('main')}b:b1:total", "res", "post")
            held, spent = (int(n or 0) for n in found)
            assert held + spent <= self.limit
            assert held >= sum(a.hold_nano for a in self.under_way if a.aid in self.limited)

        self.do(work())

    async def quiesce(self) -> None:
        """Lets go of what is held for attempts yet to come."""

    def teardown(self) -> None:
        async def work() -> None:
            for a in self.under_way:
                self.ledger.void(a)
            await self.ledger.close()
            await audit(self.store)
            await self.store.aclose()

        if hasattr(self, "ledger"):
            self.do(work())
        self.loop.close()
        shutil.rmtree(self.folder)

    def _booking(self, a: Attempt, outcome: Any, usage: Usage) -> Booking:
        assert a.price is not None
        self.known[a.aid] = a
        nano = cost_nano(usage, a.price, started_at=a.at)
        numbers = usage_numbers(usage)
        text = encode((outcome, nano, numbers, "provider", "complete", 1, None, None, 200, False))
        return booking(a, outcome, nano, numbers, line(a.brief, text), may_be_held=True)


class SlabBooks(Books):
    """The same under limits that are divided, from far off down to the last nano-dollar."""

    limit = 200_000_000
    slab_rate = 0
    examples = 8

    @rule(count=st.integers(1, 40), output=st.integers(1, 3))
    def burst(self, count: int, output: int) -> None:
        """Small requests at once, some of which end at once."""
        for n in range(count):
            self.reserve(output)
            if n % 3 and self.under_way:
                self.settle(-1, output, "provider")

    @rule(share=st.integers(1, 9))
    def gulp(self, share: int) -> None:
        """One request takes tenths of what is left."""
        self.reserve(max(1, (self.limit - self.committed()) * share // 50_000 // 10))

    @rule(times=st.integers(1, 4))
    def tick(self, times: int) -> None:
        """Time passes: slabs come to their end."""

        async def work() -> None:
            for _ in range(times):
                self.later_s += 0.6
                await self.ledger._upkeep._tick()
                await asyncio.sleep(0)

        self.do(work())

    @rule()
    def grow_old(self) -> None:
        """All that runs has run for longer than a second: it holds by itself."""

        async def work() -> None:
            for a in self.ledger._underway.young.values():
                a.at -= 2.0
            await self.ledger._upkeep._tick()
            await asyncio.sleep(0.01)

        self.do(work())

    async def quiesce(self) -> None:
        """Slabs go back once their time is over."""
        self.later_s += 1.1
        await self.ledger._upkeep._tick()
        await until(lambda: self.ledger.lag["attempts_open"] == 0)

    def check(self, admitted: bool, total: int) -> None:
        """Nothing too much is admitted; nothing is refused that fits beside slabs of a hundredth of the limit each."""
        assert not admitted or total <= self.limit
        assert admitted or total > self.limit * 97 // 100


def run(machine: type[Books], server: StoreServer) -> None:
    machine.server = server
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=machine.examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(120)
def test_any_history_keeps_the_books(own_store: StoreServer) -> None:
    """Journal, roll-ups, budget and reference agree after every step; a failure prints the history to replay."""
    run(Books, own_store)


@pytest.mark.timeout(240)
def test_any_history_with_slabs_keeps_the_books(own_store: StoreServer) -> None:
    """The same where limits are given out in slabs."""
    run(SlabBooks, own_store)
