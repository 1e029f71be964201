"""What happens when the store is stopped, slow, full, read-only, restarted, forgetful, or loses its answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from books import (
    COST,
    HOLD,
    NO_SLABS,
    attempt,
    audit,
    budget,
    flushed,
    journal,
    new_ledger,
    open_ledger,
    posted,
    settle,
    until,
    until_async,
)
from lossy import LossyProxy
from redis.asyncio import Redis
from redis.exceptions import RedisError
from stores import StoreServer

from gateway.errors import CallerError, GatewayUnavailable, Kind
from gateway.ledger import lane as lanes
from gateway.ledger import ledger as ledgers
from gateway.ledger.exchange import TENANTS, Exchange, StoreDown, tag
from gateway.ledger.history import Story, read_log
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Budget, Limits
from gateway.ledger.wal import Record, Wal
from gateway.storage.client import connect
from gateway.storage.embedded import EmbeddedStore


async def booked(ledger: Ledger) -> None:
    """One attempt begun and settled, and in the store."""
    ledger.begin(a := attempt())
    settle(ledger, a)
    await flushed(ledger)


@pytest.mark.parametrize(("slab_rate", "requests"), [(NO_SLABS, 150), (0, 1_500)])
async def test_lost_answers_change_nothing(
    own: Redis, own_store: StoreServer, tmp_path: Path, slab_rate: int, requests: int
) -> None:
    """Applied but unanswered reservations and endings are asked for again and known by their attempt."""
    async with LossyProxy(own_store.socket.with_name("p"), own_store.socket, share=0.1) as proxy:
        client = connect(str(proxy.socket))
        async with open_ledger(client, tmp_path, flush_every_s=0.002, slab_rate=slab_rate) as ledger:
            total = 0
            for n in range(requests):
                a = attempt()
                with contextlib.suppress(GatewayUnavailable):
                    await ledger.reserve(a, budget(10**12))
                    total += settle(ledger, a)
                if n % 10 == 0:
                    await asyncio.sleep(0.002)
            await until(lambda: ledger.lag["attempts_open"] == 0)
        await client.aclose()
    assert proxy.lost > 10
    assert sum(e["cost_nano_usd"] for e in await audit(own)) == total == await posted(own)


async def test_a_dead_store_denies_hard_budgets_and_serves_the_unlimited(
    own: Redis, own_store: StoreServer, tmp_path: Path
) -> None:
    """Endings wait in the log and are booked when the store is back; what was refused holds nothing."""
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.3) as ledger:
        a = attempt()
        await ledger.reserve(a, budget(10**9))
        own_store.stop()
        started = time.monotonic()
        with pytest.raises(GatewayUnavailable) as refused:
            await ledger.reserve(attempt(), budget(10**9))
        assert time.monotonic() - started < 1.0
        assert refused.value.kind is Kind.LEDGER_DOWN
        assert not ledger.lag["store_up"]
        b = attempt()
        ledger.begin(b)
        assert settle(ledger, a) == settle(ledger, b) == COST
        assert ledger.lag["entries_waiting"] == 3  # with the tombstone of what was refused
        own_store.start()
        await flushed(ledger)
        await until(lambda: bool(ledger.lag["store_up"]))
    assert sum(e["cost_nano_usd"] for e in await audit(own)) == 2 * COST


async def test_without_the_store_the_declared_policy_holds(own: Redis, own_store: StoreServer, tmp_path: Path) -> None:
    """`allow` lets everything through, `local` a share of the budget, and all of it is booked later."""
    limit = 100 * HOLD
    own_store.stop()
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.1, local_share=0.02) as ledger:
        for _ in range(3):
            a = attempt()
            headroom = await ledger.reserve(a, budget(limit, on_store_down="allow"))
            assert (headroom.output_cap_tokens, headroom.terms.mode) == (180, "allow")
            settle(ledger, a)
        local = Limits("main", budgets=(Budget("b2", limit, "day", on_store_down="local"),))
        lent = [attempt(), attempt()]
        for a in lent:
            assert (await ledger.reserve(a, local)).terms.mode == "local"
        with pytest.raises(GatewayUnavailable):
            await ledger.reserve(attempt(), local)
        for a in lent:
            settle(ledger, a)
        own_store.start()
        await flushed(ledger)
        assert (await posted(own), await posted(own, "b2")) == (3 * COST, 2 * COST)
        await ledger.reserve(a := attempt(), local)
        ledger.void(a)
        await flushed(ledger)
    assert len(await audit(own)) == 6


async def test_what_could_not_be_flushed_at_the_end_is_booked_at_the_next_start(
    own: Redis, own_store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shutdown while the store is away waits a little, then leaves the endings to the log."""
    monkeypatch.setattr(ledgers, "CLOSE_WITHIN_S", 0.2)
    async with open_ledger(own, tmp_path) as ledger:
        ledger.begin(a := attempt())
        own_store.stop()
        settle(ledger, a)
    own_store.start()
    async with open_ledger(own, tmp_path):
        (entry,) = await audit(own)
    assert (entry["attempt_id"], entry["cost_nano_usd"]) == (a.aid, COST)
    assert list((tmp_path / "wal").iterdir()) == []


async def test_a_store_that_forgot_is_told_again(own: Redis, tmp_path: Path) -> None:
    """Everything of the last minutes is sent again: endings once, and the holds of attempts under way."""
    limits = budget(10**9)
    async with open_ledger(own, tmp_path) as ledger:
        running = attempt()
        await ledger.reserve(running, limits)
        for _ in range(20):
            ledger.begin(a := attempt())
            settle(ledger, a)
        await flushed(ledger)
        await own.flushall()
        await booked(ledger)

        async def told_again() -> bool:
            return len(await journal(own)) == 21 and await ledger.spent("main", limits.budgets[0]) == (0, HOLD)

        await until_async(told_again)
        settle(ledger, running)
        await flushed(ledger)
        assert len(await audit(own)) == 22
        assert await posted(own) == COST


async def test_a_store_that_forgot_and_whose_answers_were_lost_is_told_again(
    own: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took without an answer does not make up for what it forgot, however much that is."""
    run, lost = Exchange.run, 8

    async def unheard(self: Exchange, *load: Any) -> Any:
        nonlocal lost
        reply = await run(self, *load)
        if lost:
            lost -= 1
            raise StoreDown("the answer was lost")
        return reply

    async with open_ledger(own, tmp_path) as ledger:
        for _ in range(3):
            await booked(ledger)
        await own.flushall()
        monkeypatch.setattr(Exchange, "run", unheard)
        await booked(ledger)
        assert not lost

        async def all_told() -> bool:
            return len(await journal(own)) == 4

        await until_async(all_told)
        await booked(ledger)
    assert len(await audit(own)) == 5


async def test_a_sweep_that_is_overtaken_by_an_exchange_takes_nothing_for_lost(
    own: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer has an older count of our exchanges than the one that came before it."""
    expired, lost = Exchange.expired, []

    async def late(self: Exchange, *asked: Any) -> Any:
        lost.append(set(ledger._outbox.lost))
        answer = await expired(self, *asked)
        await booked(ledger)
        return answer

    async with open_ledger(own, tmp_path, sweep_every_s=0.05) as ledger:
        await booked(ledger)
        monkeypatch.setattr(Exchange, "expired", late)
        await until(lambda: len(lost) > 3)
    assert not set().union(*lost)
    await audit(own)


async def test_what_could_not_be_told_again_is_told_later(
    own: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot be read just then, as where a process has too many files open."""
    failed = False

    def fails_once(directory: Path) -> Iterator[Story]:
        nonlocal failed
        if not failed:
            failed = True
            raise OSError(errno.EMFILE, "Too many open files")
        return read_log(directory)

    monkeypatch.setattr("gateway.ledger.upkeep.read_log", fails_once)
    async with open_ledger(own, tmp_path) as ledger:
        await booked(ledger)
        await own.flushall()
        ledger.begin(a := attempt())
        settle(ledger, a)

        async def told_again() -> bool:
            return len(await journal(own)) == 2

        await until_async(told_again)
        assert failed
        await audit(own)


async def test_one_tenants_broken_keys_stop_nobody_elses_upkeep(own: Redis, tmp_path: Path) -> None:
    """Others' lost attempts are booked all the same."""
    await own.sadd(TENANTS, "broken")
    await own.hset(tag("broken") + "alerts", "b:b1:total|50", b"not one of ours")
    async with open_ledger(own, tmp_path / "a") as lost, open_ledger(own, tmp_path / "b", sweep_every_s=0.1):
        await lost.reserve(a := attempt(), budget(10**9))
        await own.zadd(tag("main") + "if", {a.aid: 1})
        await until_async(lambda: journal(own))
        settle(lost, a)
        await flushed(lost)
        await audit(own)


async def test_a_log_that_nobody_understands_is_left_alone(own: Redis, tmp_path: Path) -> None:
    """It stays for people to look at, and the logs of other dead processes are recovered."""
    broken = Wal(tmp_path / "wal" / "0", monotonic=time.monotonic)
    broken.begin(Record.BEGUN, b"{}", attempt().account, None)
    await broken.close()
    dead = new_ledger(own, tmp_path)
    dead.begin(a := attempt())
    await dead._wal.close()
    async with open_ledger(own, tmp_path):
        assert [e["attempt_id"] for e in await journal(own)] == [a.aid]
    assert [directory.name for directory in (tmp_path / "wal").iterdir()] == ["0"]


async def test_a_store_killed_under_traffic_loses_nothing(tmp_path: Path) -> None:
    """The embedded store dies again and again; every attempt is booked once and nothing stays held."""
    embedded = EmbeddedStore(tmp_path)
    await embedded.start()
    client = connect(embedded.socket)
    done = sent = 0

    async def traffic(ledger: Ledger, limits: Limits | None) -> None:
        nonlocal sent
        while not done:
            a = attempt()
            try:
                if limits is None:
                    ledger.begin(a)
                else:
                    await ledger.reserve(a, limits)
            except GatewayUnavailable:
                await asyncio.sleep(0.01)
                continue
            sent += 1
            await asyncio.sleep(0.002)
            settle(ledger, a)

    async with open_ledger(client, tmp_path, reserve_deadline_s=1.0) as ledger:
        callers = [asyncio.create_task(traffic(ledger, limits)) for limits in [None, budget(10**15)] * 5]
        for _ in range(5):
            await asyncio.sleep(0.2)
            with contextlib.suppress(RedisError):
                os.kill((await client.info("server"))["process_id"], signal.SIGKILL)
        await asyncio.sleep(0.2)
        done = 1
        await asyncio.gather(*callers)
        await flushed(ledger)

        async def whole() -> bool:
            return len(await journal(client)) == sent

        await until_async(whole)
        await until(lambda: ledger.lag["attempts_open"] == 0)  # slabs go back within two seconds
        assert sum(e["cost_nano_usd"] for e in await audit(client)) == sent * COST
    assert sent > 500
    await client.aclose()
    await embedded.close()


async def test_forgotten_scripts_are_sent_again(own: Redis, tmp_path: Path) -> None:
    """SCRIPT FLUSH is nobody's error."""
    async with open_ledger(own, tmp_path) as ledger:
        for _ in range(5):
            await own.script_flush()
            a = attempt()
            await ledger.reserve(a, budget(10**9))
            settle(ledger, a)
        await flushed(ledger)
    assert len(await audit(own)) == 5


async def test_a_full_store_refuses_holds_and_takes_endings(own: Redis, tmp_path: Path) -> None:
    """Out of memory: 503 for those who must be held, every ending lands, and all is well again afterwards."""
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.5) as ledger:
        before = attempt()
        await ledger.reserve(before, budget(10**9))
        await own.config_set("maxmemory", "1")
        with pytest.raises(GatewayUnavailable):
            await ledger.reserve(attempt(), budget(10**9))
        settle(ledger, before)
        await booked(ledger)
        assert len(await journal(own)) == 2
        await own.config_set("maxmemory", "0")
        await ledger.reserve(a := attempt(), budget(10**9))
        settle(ledger, a)
        await flushed(ledger)
    assert len(await audit(own)) == 3


async def test_a_read_only_store_is_waited_for(own: Redis, tmp_path: Path) -> None:
    """A failover makes the master a replica for a while; nothing is lost and nothing restarted."""
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.3) as ledger:
        await own.execute_command("REPLICAOF", "127.0.0.1", "1")
        ledger.begin(a := attempt())
        settle(ledger, a)
        with pytest.raises(GatewayUnavailable):
            await ledger.reserve(attempt(), budget(10**9))
        await own.execute_command("REPLICAOF", "NO", "ONE")
        await flushed(ledger)
        await ledger.reserve(a := attempt(), budget(10**9))
        settle(ledger, a)
        await flushed(ledger)
    assert len(await audit(own)) == 2


async def test_what_does_not_fit_in_memory_is_read_back_from_the_log(
    own: Redis, own_store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long outage fills the disk, not the memory."""
    monkeypatch.setattr(lanes, "MAX_WAITING", 10)
    async with open_ledger(own, tmp_path) as ledger:
        await booked(ledger)
        own_store.stop()
        for _ in range(50):
            ledger.begin(a := attempt())
            settle(ledger, a)
        assert ledger.lag["entries_waiting"] == 50
        own_store.start()
        await flushed(ledger)
        await until(lambda: ledger.lag["attempts_open"] == 0)

        # the store came back empty, so what it had before was sent again as well
        async def all_told() -> bool:
            return len(await journal(own)) == 51

        await until_async(all_told)
    assert len(await audit(own)) == 51


async def test_a_long_attempt_is_known_to_the_store_while_it_runs(own: Redis, tmp_path: Path) -> None:
    """Unlimited attempts are registered after a second, so that others notice when their host is lost."""
    async with open_ledger(own, tmp_path) as ledger:
        ledger.begin(a := attempt())
        assert await own.zcard(tag("main") + "if") == 0
        await until_async(lambda: own.zcard(tag("main") + "if"))
        settle(ledger, a)
        await flushed(ledger)
        await audit(own)


async def test_what_ends_in_an_outage_is_not_held_after_it(
    own: Redis, own_store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of attempts that began and ended while the store was away only the endings are kept; others it is told of."""
    run, told = Exchange.run, []

    async def spied(
        self: Exchange, tenant: str, at: float, finishes: Any, holds: Any, renewals: Any, *rest: Any
    ) -> Any:
        reply = await run(self, tenant, at, finishes, holds, renewals, *rest)
        told.extend(("held", aid) for aid, *_ in holds)
        told.extend(("renewed", aid) for aid, *_ in renewals)
        return reply

    monkeypatch.setattr(Exchange, "run", spied)
    async with open_ledger(own, tmp_path) as ledger:
        await booked(ledger)
        own_store.stop()
        ledger.begin(a := attempt())  # its ending finds out that the store is away
        settle(ledger, a)
        await until(lambda: not ledger.lag["store_up"])
        short = [attempt(at=time.time() - 2) for _ in range(20)]
        long = attempt(at=time.time() - 2)
        for a in (*short, long):
            ledger.begin(a)
        await until(lambda: all(a.in_store for a in (*short, long)))
        for a in short:
            settle(ledger, a)
        own_store.start()
        await flushed(ledger)
        await until_async(lambda: own.zcard(tag("main") + "if"))
        assert {aid for _, aid in told} == {long.aid}
        assert await own.hkeys(tag("main") + "h") == [long.aid.encode()]
        settle(ledger, long)

        async def all_told() -> bool:
            return len(await journal(own)) == 23  # with what was booked before, should the store have forgotten it

        await until_async(all_told)
    assert len(await audit(own)) == 23


async def test_an_attempt_nobody_renews_is_booked_as_an_estimate(own: Redis, tmp_path: Path) -> None:
    """The sweeper of any process books it in full under a hard budget; the truth of a returned host replaces it."""
    async with open_ledger(own, tmp_path / "a") as lost, open_ledger(own, tmp_path / "b", sweep_every_s=0.2):
        a = attempt()
        await lost.reserve(a, budget(10**9))
        await own.zadd(tag("main") + "if", {a.aid: 1})
        await until_async(lambda: journal(own))
        (entry,) = await audit(own)
        assert (entry["usage_source"], entry["cost_nano_usd"]) == ("held", HOLD)
        settle(lost, a)
        await flushed(lost)
        assert sum(e["cost_nano_usd"] for e in await audit(own)) == COST == await posted(own)


@pytest.mark.parametrize("truth", [True, False])
async def test_a_whole_hold_gives_way_after_a_day(own: Redis, tmp_path: Path, truth: bool) -> None:
    """To the best estimate (here the prompt alone), unless the truth came to light before."""
    async with open_ledger(own, tmp_path / "a") as lost, open_ledger(own, tmp_path / "b", sweep_every_s=0.2):
        a = attempt()
        await lost.reserve(a, budget(10**9))
        await own.zadd(tag("main") + "if", {a.aid: 1})
        await until_async(lambda: journal(own))
        if truth:
            settle(lost, a)
            await flushed(lost)
        await own.zadd(tag("main") + "orphans:due", {a.aid: 1})

        async def given_way() -> bool:
            return await own.zcard(tag("main") + "orphans:due") == 0

        await until_async(given_way)
        assert await posted(own) == (COST if truth else 10 * 1_000)
        found = await audit(own)
        assert (len(found), found[-1]["usage_source"]) == (2, "provider" if truth else "estimated")
        assert await own.hlen(tag("main") + "orphans") == 0


async def test_a_stopped_store_costs_no_caller_more_than_a_second(
    own: Redis, own_store: StoreServer, tmp_path: Path
) -> None:
    """It accepts and says nothing: everyone is refused in time, and the books are whole once it goes on."""
    assert own_store._process is not None
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.15, slab_rate=NO_SLABS) as ledger:
        running = [attempt() for _ in range(20)]
        for a in running:
            await ledger.reserve(a, budget(10**9))
        own_store._process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            asked = [ledger.reserve(attempt(), budget(10**9)) for _ in range(200)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert time.monotonic() - started < 1.0
            assert all(isinstance(answer, GatewayUnavailable) for answer in answers)
            for a in running:
                settle(ledger, a)
        finally:
            own_store._process.send_signal(signal.SIGCONT)
        await flushed(ledger)
    assert len(await audit(own)) == 20
    assert await posted(own) == 20 * COST


async def test_nobody_waits_for_the_patience_of_those_before(
    own: Redis, own_store: StoreServer, tmp_path: Path
) -> None:
    """An exchange that nobody waits for may take two seconds; it gives way when somebody waits for the next one."""
    async with open_ledger(own, tmp_path, reserve_deadline_s=0.3) as ledger:
        ledger._outbox._patience_s = 60.0
        ledger.begin(a := attempt())
        own_store.signal(signal.SIGSTOP)
        try:
            settle(ledger, a)
            await asyncio.sleep(0.1)
            async with asyncio.timeout(30):
                with pytest.raises(GatewayUnavailable):
                    await ledger.reserve(attempt(), budget(10**9))
        finally:
            own_store.signal(signal.SIGCONT)
        await flushed(ledger)
    assert len(await audit(own)) == 1


async def test_refusals_of_callers_are_not_outages(own: Redis, tmp_path: Path) -> None:
    """A budget that is spent says nothing against the store."""
    async with open_ledger(own, tmp_path) as ledger:
        with pytest.raises(CallerError):
            await ledger.reserve(attempt(), budget(1))
        assert ledger.lag["store_up"]
        assert ledger.lag["attempts_open"] == 0
