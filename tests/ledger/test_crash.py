"""SIGKILL at every step of an attempt, then recovery; and many processes on one budget."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
from books import COST, HOLD, attempt, audit, budget, journal, open_ledger, posted, settle, until, until_async
from redis.asyncio import Redis
from stores import StoreServer

from gateway.errors import CallerError
from gateway.ledger.exchange import tag

CHILD = Path(__file__).parents[1] / "ledger_child.py"
ROOT = Path(__file__).parents[2]
DOLLAR = 10**9


async def child(what: str, server: StoreServer, data_dir: Path, attempts: int = 10) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, CHILD, what, server.socket, data_dir),
        env={"PYTHONPATH": f"{ROOT}:{CHILD.parent}", "ATTEMPTS": str(attempts)},
        stdout=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("point", "entries", "cost", "source"),
    [
        ("held", 0, 0, ""),
        ("begun", 10, 10 * 10_000, "estimated"),
        ("streaming", 10, 10 * (10_000 + 7 * 5_000), "estimated"),
        ("sent", 10, 10 * HOLD, "held"),
        ("ended", 10, 10 * COST, "provider"),
        ("booked", 10, 10 * COST, "provider"),
        ("slab-sent", 10, 10 * HOLD, "held"),
        ("slab-ended", 10, 10 * COST, "provider"),
        ("slab-booked", 10, 10 * COST, "provider"),
    ],
)
async def test_a_killed_process_leaves_exact_books(
    store: Redis, session_store: StoreServer, tmp_path: Path, point: str, entries: int, cost: int, source: str
) -> None:
    """Never sent: nothing. Sent: an estimate, the hold where a budget is hard. Ended: once, whoever books it.

    The same where the holds are part of a slab: it is freed.
    """
    process = await child(point, session_store, tmp_path)
    assert await process.wait() == -signal.SIGKILL
    async with open_ledger(store, tmp_path):
        found = [e for e in await audit(store) if e["settlement"] != "void"]
        assert [e["usage_source"] for e in found] == [source] * entries
        assert sum(e["cost_nano_usd"] for e in found) == cost
        assert await posted(store) == (cost if source in ("held", "provider") else 0)
    async with open_ledger(store, tmp_path):
        assert len([e for e in await audit(store) if e["settlement"] != "void"]) == entries
    assert list((tmp_path / "wal").iterdir()) == []


@pytest.mark.parametrize(
    ("point", "entries", "source"),
    [("held", 0, ""), ("sent", 1_000, "held"), ("ended", 1_000, "provider"), ("booked", 1_000, "provider")],
)
async def test_a_thousand_attempts_survive_their_process(
    store: Redis, session_store: StoreServer, tmp_path: Path, point: str, entries: int, source: str
) -> None:
    """D2, D3: killed between the holds and the sending, and between the usage and its booking."""
    process = await child(point, session_store, tmp_path, 1_000)
    assert await process.wait() == -signal.SIGKILL
    assert await store.hlen(tag("main") + "h") > 0 or point == "booked"
    async with open_ledger(store, tmp_path):
        found = await audit(store)
    assert [e["usage_source"] for e in found] == [source] * entries
    assert len({e["attempt_id"] for e in found}) == entries
    each = HOLD if source == "held" else COST
    assert sum(e["cost_nano_usd"] for e in found) == entries * each == await posted(store)


async def test_processes_killed_at_any_moment_leave_the_bill_in_the_journal(
    store: Redis, session_store: StoreServer, tmp_path: Path
) -> None:
    """What was sent is there, once; what ended is there with its cost; no hold is left."""
    for _ in range(6):
        size = bill_size(tmp_path)
        process = await child("traffic", session_store, tmp_path)
        await until(lambda size=size: bill_size(tmp_path) > size + 2_000)  # type: ignore[misc]
        await asyncio.sleep(random.random() / 5)
        process.kill()
        await process.communicate()
    async with open_ledger(store, tmp_path):
        found = await audit(store)
    booked = {e["attempt_id"]: e for e in found}
    assert len(booked) == len(found)
    lines = [line.split() for line in (tmp_path / "bill").read_text().splitlines()]
    sent = {aid for what, aid, _ in lines if what == "S"}
    ended = {aid: int(cost) for what, aid, cost in lines if what == "T"}
    assert sent <= booked.keys()
    assert len(booked.keys() - sent) <= 6 * 20  # logged as sent in the moment of death
    assert all(booked[aid]["cost_nano_usd"] == cost for aid, cost in ended.items())
    assert all(booked[aid]["usage_source"] == "provider" for aid in ended)
    assert len(ended) > 100


def bill_size(data_dir: Path) -> int:
    bill = data_dir / "bill"
    return bill.stat().st_size if bill.exists() else 0


@pytest.mark.parametrize("point", ["settled", "slab-settled"])
async def test_a_store_that_crashes_with_the_process_is_told_again(
    store: Redis, session_store: StoreServer, tmp_path: Path, point: str
) -> None:
    """A machine without power takes the store's last second with it; the log has on the disk what was booked in it."""
    process = await child(point, session_store, tmp_path)
    assert await process.wait() == -signal.SIGKILL
    kept = [e for e in await journal(store) if e["settlement"] != "void"]
    await store.flushall()
    for _ in range(2):
        async with open_ledger(store, tmp_path):
            found = [e for e in await audit(store) if e["settlement"] != "void"]
            assert sorted(e["attempt_id"] for e in found) == sorted(e["attempt_id"] for e in kept)
            assert len(found) == 10
            assert await posted(store) == 10 * COST
    assert list((tmp_path / "wal").iterdir()) == []


async def test_recovery_that_dies_is_recovered(store: Redis, session_store: StoreServer, tmp_path: Path) -> None:
    """The log of the dead is deleted only when the store has all of it."""
    await (await child("ended", session_store, tmp_path)).wait()
    (log,) = (tmp_path / "wal").iterdir()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in log.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    async with open_ledger(store, tmp_path):
        assert len(await audit(store)) == 10
    copy.rename(tmp_path / "wal" / log.name)
    async with open_ledger(store, tmp_path) as ledger:
        assert len(await audit(store)) == 10
        assert ledger.lag["endings_dup"] == 10


async def test_no_number_of_processes_overruns_a_hard_budget(
    store: Redis, session_store: StoreServer, tmp_path: Path
) -> None:
    """Four processes, fifty callers each: spent and held never exceed the dollar, and nearly all of it can be used."""
    children = [await child(f"{n}/4", session_store, tmp_path) for n in range(4)]
    waiting = asyncio.gather(*(c.communicate() for c in children))
    worst = 0
    while not waiting.done():
        for name in await store.keys(tag("main") + "b:b1:*"):
            held, spent = await store.hmget(name, "res", "post")
            worst = max(worst, int(held or 0) + int(spent or 0))
        await asyncio.sleep(0.002)
    spent_by_each = [int(out) for out, _ in waiting.result()]
    spent_by_children = sum(spent_by_each)
    assert [c.returncode for c in children] == [0] * 4
    assert (
        sum(spent > 0 for spent in spent_by_each) >= 2
    )  # one that starts late on a busy machine may find nothing left
    assert spent_by_children <= DOLLAR
    assert DOLLAR * 9 // 10 <= worst <= DOLLAR
    async with open_ledger(store, tmp_path) as ledger:
        assert sum(e["cost_nano_usd"] for e in await audit(store)) == spent_by_children == await posted(store)
        with contextlib.suppress(CallerError):
            for _ in range(100_000):
                await ledger.reserve(a := attempt(), budget(DOLLAR))
                settle(ledger, a)
        assert DOLLAR * 9 // 10 <= await posted(store) <= DOLLAR


async def test_a_budget_is_not_overrun_by_the_dying(store: Redis, session_store: StoreServer, tmp_path: Path) -> None:
    """One of two competing processes is killed: what it had sent is booked at worst, and nothing stays held."""
    doomed, other = [await child(f"{n}/2", session_store, tmp_path) for n in range(2)]
    await until_async(lambda: store.hlen(tag("main") + "h"))
    doomed.send_signal(signal.SIGKILL)
    await asyncio.gather(doomed.communicate(), other.communicate())
    async with open_ledger(store, tmp_path):
        await audit(store)
        assert await posted(store) <= DOLLAR


@pytest.mark.parametrize(("point", "cost"), [("held", HOLD), ("sent", 10 * HOLD)])
async def test_a_new_tenants_first_second_is_swept_without_its_machine(
    store: Redis, session_store: StoreServer, tmp_path: Path, point: str, cost: int
) -> None:
    """The process and its disk are gone at once and nobody asks for the tenant again: its holds are booked at worst."""
    await (await child(point, session_store, tmp_path / "lost")).wait()
    shutil.rmtree(tmp_path / "lost")
    for aid, lease in await store.zrange(tag("main") + "if", 0, -1, withscores=True):
        await store.zadd(tag("main") + "if", {aid: lease - 180_000})
    async with open_ledger(store, tmp_path / "other", sweep_every_s=0.05):

        async def swept() -> bool:
            return await store.hlen(tag("main") + "h") == 0

        await until_async(swept)
        assert sum(e["cost_nano_usd"] for e in await audit(store)) == cost == await posted(store)
