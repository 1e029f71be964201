"""Limits far from used up are given out in the process; near the limit, and at every end, the store's word holds."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from books import (
    COST,
    FAR,
    HOLD,
    NO_SLABS,
    attempt,
    audit,
    budget,
    counter,
    flushed,
    in_slab,
    journal,
    open_ledger,
    posted,
    returned,
    settle,
    until,
)
from redis.asyncio import Redis
from stores import StoreServer

from gateway.errors import CallerError, GatewayUnavailable
from gateway.ledger.attempt import Attempt
from gateway.ledger.exchange import tag
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Cap, Limits

DOLLAR = 10**9
RATED = Limits("main", rpm=(Cap("k1", 60_000),), tpm=(Cap("k1", 6_000_000),))


async def test_a_busy_key_asks_the_store_for_many_requests_at_once(store: Redis, tmp_path: Path) -> None:
    """A thousand requests in turn take some dozens of exchanges, and the books are as exact as ever."""
    async with open_ledger(store, tmp_path) as ledger:
        left = []
        for _ in range(1_000):
            headroom = await ledger.reserve(a := attempt(), FAR)
            left.append(headroom.budget_left_nano)
            assert headroom.output_cap_tokens == 180
            settle(ledger, a)
        await returned(ledger)
        exchanges = int(await store.hget(tag("main") + "own", ledger.owner))
        assert len(await audit(store)) == 1_000
        assert await counter(store) == (0, 1_000 * COST)
    assert exchanges < 500
    assert all(n is not None and 975 * DOLLAR <= n < 1_000 * DOLLAR for n in left)  # less two slabs at the most


async def test_a_lone_request_takes_no_slab(store: Redis, tmp_path: Path) -> None:
    """What is not asked for often is held exactly."""
    async with open_ledger(store, tmp_path) as ledger:
        for _ in range(3):
            await ledger.reserve(a := attempt(), FAR)
            assert await counter(store) == (HOLD, 0)
            ledger.void(a)
            await flushed(ledger)


async def test_near_the_limit_every_hold_is_exact(store: Redis, tmp_path: Path) -> None:
    """A budget of fewer than 800 holds is never divided."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        for _ in range(30):
            await ledger.reserve(a := attempt(), budget(799 * HOLD))
            assert not a.slab
            ledger.void(a)
        await returned(ledger)
        await audit(store)


async def test_posted_and_held_stay_within_what_was_allotted(store: Redis, tmp_path: Path) -> None:
    """What an attempt cost moves from held to posted in one step; the rest of its hold is given out again."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        first = await in_slab(ledger)
        held, _ = await counter(store)
        settle(ledger, first)
        await flushed(ledger)
        assert await counter(store) == (held - COST, COST)
        second = await in_slab(ledger)
        settle(ledger, second, usage_source="provider")
        await returned(ledger)
        assert await counter(store) == (0, 2 * COST)
        await audit(store)


async def test_an_idle_slab_goes_back(store: Redis, tmp_path: Path) -> None:
    """Two seconds after the last request nothing is held, and the rates that were not used are there again."""
    limits = Limits("main", budgets=FAR.budgets, rpm=RATED.rpm, tpm=RATED.tpm)
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        ledger.void(await in_slab(ledger, limits))
        assert (await counter(store))[0] > HOLD
        began = time.monotonic()
        await returned(ledger)
        assert time.monotonic() - began < 5
        assert (await counter(store))[0] == 0
        full_at = [float(v) for v in await store.hvals(tag("main") + "rl")]
        assert all(at - time.time() * 1000 < 1_000 for at in full_at)
        await audit(store)


async def test_a_long_stream_outlives_its_slab(store: Redis, tmp_path: Path) -> None:
    """After a second it holds by itself, so that the rest of the slab goes back; then it is settled as any other."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        a = await in_slab(ledger)
        await until(lambda: ledger.lag["attempts_open"] == 1)
        assert await counter(store) == (HOLD, 0)
        settle(ledger, a)
        await flushed(ledger)
        assert await counter(store) == (0, COST)
        await audit(store)


async def test_an_attempt_that_ends_while_it_moves_out_is_booked_once(store: Redis, tmp_path: Path) -> None:
    """Its ending and its own hold reach the store in one exchange."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        a = await in_slab(ledger)
        ledger._slabs.move_out(a)
        a.in_store = True
        settle(ledger, a)
        await returned(ledger)
        assert await counter(store) == (0, COST)
        await audit(store)


async def test_a_refused_request_first_takes_back_its_own_slab(store: Redis, tmp_path: Path) -> None:
    """What one process keeps for its small requests it does not keep from its large one."""
    limits = budget(DOLLAR, per="total")
    large = {"output_tokens": 199_900, "input_bound_tokens": 0, "input_tokens": 0}  # 50 cents less half a thousandth
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        small = await in_slab(ledger, limits)
        settle(ledger, small)
        await flushed(ledger)
        spent = (await counter(store))[1]
        rest = (DOLLAR - spent) // 5_000
        await ledger.reserve(a := attempt(**{**large, "output_tokens": rest}), limits)
        assert not a.slab
        ledger.void(a)
        await returned(ledger)
        await audit(store)


@pytest.mark.parametrize("kept", ["disk", "disk for long", "nothing"])
async def test_a_lost_slab_does_not_stay_held(store: Redis, own_store: StoreServer, tmp_path: Path, kept: str) -> None:
    """The process dies: its log frees the slab, soon or late. The machine dies: it is booked at worst, for a day."""
    lost, fresh = tmp_path / "lost", tmp_path / "fresh"
    a, held = await die_with_a_slab(store, lost)
    if kept == "nothing":
        shutil.rmtree(lost)
        await expire(store)
    late_s = 200.0 if kept == "disk for long" else 0.0
    options = {"sweep_every_s": 0.1, "clock": lambda: time.time() + late_s}
    async with open_ledger(store, fresh if kept == "nothing" else lost, **options) as other:
        await until_held(store, 0)
        await flushed(other)
        found = [e for e in await journal(store) if e["settlement"] != "void"]
        if kept != "nothing":
            assert [(e["attempt_id"], e["cost_nano_usd"]) for e in found] == [(a.aid, HOLD)]
        else:
            assert [(e["model"], e["cost_nano_usd"], e["usage_source"]) for e in found] == [("", held, "held")]
            assert held < 11 * DOLLAR
        await audit(store)


async def test_a_slab_booked_at_worst_is_taken_back_by_its_log(store: Redis, tmp_path: Path) -> None:
    """Where the lost machine comes back after another one booked its slab."""
    a, held = await die_with_a_slab(store, tmp_path / "lost")
    await expire(store)
    async with open_ledger(store, tmp_path / "fresh", sweep_every_s=0.1):
        await until_held(store, 0)
        assert await counter(store) == (0, held)
        async with open_ledger(store, tmp_path / "lost"):
            assert await counter(store) == (0, HOLD)
            costs = {e["attempt_id"] == a.aid: e["cost_nano_usd"] for e in await audit(store)}
            assert costs == {True: HOLD, False: -held}


async def die_with_a_slab(store: Redis, data_dir: Path) -> tuple[Attempt, int]:
    """An attempt under way in a slab of a process that died, and what was held then."""
    ledger = Ledger(store, data_dir, clock=time.time, monotonic=time.monotonic, slab_rate=0)
    await ledger.start()
    a = await in_slab(ledger)
    held, _ = await counter(store)
    await ledger._upkeep.stop()
    for lane in ledger._outbox.lanes.values():
        lane.stop()
    await ledger._wal.close()
    return a, held


async def expire(store: Redis) -> None:
    """Lets the leases of all that is under way run out."""
    for aid in await store.zrange(tag("main") + "if", 0, -1):
        await store.zincrby(tag("main") + "if", -180_000, aid)


async def until_held(store: Redis, nano: int) -> None:
    end = time.monotonic() + 20
    while (await counter(store))[0] != nano:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_a_rate_is_kept_within_a_hundredth(store: Redis, tmp_path: Path) -> None:
    """Ledgers in turn, until the rate is used up: together they admit the limit, and what refilled meanwhile."""
    limits = Limits("main", rpm=(Cap("k1", 3_000),))
    admitted = 0
    async with (
        open_ledger(store, tmp_path / "a", slab_rate=0) as one,
        open_ledger(store, tmp_path / "b", slab_rate=0) as two,
    ):
        began = time.monotonic()

        async def caller(ledger: Ledger) -> int:
            n = slabs = 0
            while True:
                try:
                    await ledger.reserve(a := attempt(), limits)
                except CallerError:
                    assert slabs > 100
                    return n
                n += 1
                slabs += bool(a.slab)
                settle(ledger, a)
                await asyncio.sleep(0)

        admitted = sum(await asyncio.gather(*(caller(ledger) for ledger in (one, two))))
        took = time.monotonic() - began
        await returned(one)
        await returned(two)
    assert 3_000 * 0.97 <= admitted <= 3_000 * (1 + (took + 1) / 60) + 1


async def test_tokens_given_out_are_corrected_by_the_truth(store: Redis, tmp_path: Path) -> None:
    """The slab gives back what its attempts did not use, and takes what they used beyond."""
    async with open_ledger(store, tmp_path, slab_rate=0) as ledger:
        settle(ledger, await in_slab(ledger, RATED))  # thirty tokens where 190 were charged
        await returned(ledger)
        async with open_ledger(store, tmp_path / "exact", slab_rate=NO_SLABS) as exact:
            headroom = await exact.reserve(a := attempt(input_tokens=0, output_tokens=0), RATED)
            exact.void(a)
        used = 6_000_000 - headroom.remaining_tokens
        assert used <= 30
        await audit(store)


async def test_a_stopped_store_is_noticed_within_a_slab(own: Redis, own_store: StoreServer, tmp_path: Path) -> None:
    """What was allotted before is given out for a second more, exactly; then `deny` denies."""
    assert own_store._process is not None
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.2, slab_rate=0) as ledger:
        running = [await in_slab(ledger)]
        own_store._process.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                try:
                    await ledger.reserve(a := attempt(), FAR)
                    running.append(a)
                except GatewayUnavailable:
                    break
                await asyncio.sleep(0.01)
            else:
                pytest.fail("it was never denied")
        finally:
            own_store._process.send_signal(signal.SIGCONT)
        for a in running:
            settle(ledger, a)
        await returned(ledger)
        assert await counter(own) == (0, len(running) * COST)
        await audit(own)


@pytest.mark.parametrize("room_for_slab", [False, True])
async def test_a_slab_read_back_from_the_log_ends_after_what_it_paid(
    own: Redis, own_store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_for_slab: bool
) -> None:
    """Else its hold would be free for a moment before the cost is posted."""
    assert own_store._process is not None
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.2, slab_rate=0) as ledger:
        booked: list[str] = []
        run = ledger._exchange.run

        async def told(tenant: str, at: float, finishes: list[Any], *rest: Any) -> Any:
            reply = await run(tenant, at, finishes, *rest)
            booked.extend(item[0] for item in finishes)
            return reply

        a = await in_slab(ledger)
        monkeypatch.setattr(ledger._exchange, "run", told)
        own_store._process.send_signal(signal.SIGSTOP)
        try:
            if room_for_slab:
                await until(lambda: not ledger.lag["store_up"])  # the attempt tried to hold by itself meanwhile
            with monkeypatch.context() as full:
                full.setattr("gateway.ledger.lane.MAX_WAITING", 0)
                settle(ledger, a)
                if not room_for_slab:
                    await until(lambda: ledger.lag["entries_waiting"] >= 2)
            await until(lambda: ledger.lag["entries_waiting"] >= 2)  # the slab ends by itself
            monkeypatch.undo()
            monkeypatch.setattr(ledger._exchange, "run", told)
        finally:
            own_store._process.send_signal(signal.SIGCONT)
        await returned(ledger)
        assert [aid for aid in booked if aid in (a.aid, a.slab)] == [
            a.aid,
            a.slab,
        ]  # a late machine asks for more slabs
        await audit(own)


async def test_a_store_that_forgets_gets_slab_and_endings_again(own: Redis, tmp_path: Path) -> None:
    """All of a tenant's keys are lost while a slab is in use: its hold is made again, and every ending is booked."""
    async with open_ledger(own, tmp_path, slab_rate=0, sweep_every_s=0.1) as ledger:
        ended, running = await in_slab(ledger), await in_slab(ledger)
        settle(ledger, ended)
        await flushed(ledger)
        await own.flushall()
        settle(ledger, running)
        await returned(ledger)

        async def whole() -> bool:
            costs = [e["cost_nano_usd"] for e in await journal(own) if e["settlement"] != "void"]
            return costs == [COST, COST]

        end = time.monotonic() + 20
        while not await whole():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        await until_held(own, 0)
        assert await posted(own) == 2 * COST
