"""A process that keeps books and dies, or competes for a budget: `python ledger_child.py WHAT SOCKET DATA_DIR`."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from books import CHANCE, NO_SLABS, PRICE, attempt, budget, flushed, open_ledger, settle

from gateway.errors import CallerError
from gateway.ledger import archiver
from gateway.ledger.archive import Archive
from gateway.ledger.archiver import Archiver
from gateway.ledger.ledger import Ledger
from gateway.ledger.wal import Wal
from gateway.storage.client import Store, connect
from gateway.types import Usage

DOLLAR = 10**9
COUNT = int(os.environ.get("ATTEMPTS", "10"))


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def crash(ledger: Ledger, point: str) -> None:
    """Comes as far as `point` with so many attempts, then dies. `slab-…`: their holds are part of a slab."""
    if point.startswith("slab-"):
        point = point.removeprefix("slab-")
        await take_slab(ledger)
    attempts = [attempt() for _ in range(COUNT)]
    if point == "held":  # the store holds, the log does not say that anything was sent
        Wal.sent = die  # type: ignore[assignment,method-assign]
        await asyncio.gather(*(ledger.reserve(a, budget(10 * DOLLAR)) for a in attempts[: COUNT - 9]))
    for a in attempts:
        if point in ("begun", "streaming"):
            ledger.begin(a)
        else:
            await ledger.reserve(a, budget(1_000 * DOLLAR))
    if point == "streaming":
        for a in attempts:
            ledger.progress(a, 7)
    if point in ("begun", "sent", "streaming"):
        die()
    if point == "booked":  # the store has it, the log does not say so
        Wal.settled = die  # type: ignore[assignment,method-assign]
    for a in attempts:
        settle(ledger, a)
    if point == "ended":
        die()
    await flushed(ledger)
    if point == "settled":  # the store has it, and the log says so
        die()


async def archive(store: Store, data_dir: Path, point: str) -> None:
    """Archives the whole journal, a few records a file, and dies at `point` of the second file."""
    archiver.SETTLED_S, archiver.FILE_BYTES = -7200, 1
    place = Archive(data_dir / "archive")
    mover = Archiver(store, place, "dying", alert=print)
    await mover.attach()
    owner, name = {
        "written": (Archive, "write_aside"),
        "compared": (archiver, "_compare"),
        "named": (Archive, "keep"),
        "removed": (Archiver, "_lease"),
    }[point]
    real, calls = getattr(owner, name), 0

    def counted(*given: Any) -> Any:
        nonlocal calls
        done = real(*given)
        calls += 1
        if name != "_lease" and calls == 2:
            die()
        return done

    async def leased(*given: Any) -> Any:
        nonlocal calls
        done = await real(*given)
        calls += 1
        if calls == 3:  # the first call takes the lease
            die()
        return done

    setattr(owner, name, leased if name == "_lease" else counted)
    await mover.round("main")


async def take_slab(ledger: Ledger) -> None:
    """Asks for little until a slab for much has come."""
    while True:
        await ledger.reserve(a := attempt(), budget(1_000 * DOLLAR))
        ledger.void(a)
        if a.slab:
            return
        await flushed(ledger)


async def compete(ledger: Ledger, store: Store, seed: int, of: int) -> None:
    """Fifty callers spend from one dollar, five cents at worst each time; prints what they spent.

    All `of` processes begin together. A caller who is refused comes again some times.
    """
    await store.execute_command("INCR", "ready")
    while int(await store.execute_command("GET", "ready")) < of:  # noqa: ASYNC110  # other processes count, too
        await asyncio.sleep(0.005)
    chance = random.Random(seed)
    spent = 0

    async def caller() -> None:
        nonlocal spent
        for _ in range(40):
            a = attempt(price=PRICE, input_bound_tokens=1_000, output_tokens=9_800)
            try:
                await ledger.reserve(a, budget(DOLLAR))
            except CallerError:
                await asyncio.sleep(chance.random() / 50)
                continue
            await asyncio.sleep(chance.random() / 200)
            spent += settle(ledger, a, Usage(input=chance.randint(0, 1_000), output=chance.randint(0, 200)))

    await asyncio.gather(*(caller() for _ in range(50)))
    await flushed(ledger)
    print(spent, flush=True)


async def traffic(ledger: Ledger, data_dir: Path) -> None:
    """Endless traffic of both kinds. `bill` tells what was sent (S) and what ended (T), as a provider's bill would."""
    bill = os.open(data_dir / "bill", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def caller(limited: bool) -> None:
        while True:
            a = attempt()
            if limited:
                await ledger.reserve(a, budget(1_000 * DOLLAR))
            else:
                ledger.begin(a)
            os.write(bill, b"S %b 0\n" % a.aid.encode())
            await asyncio.sleep(CHANCE.random() / 100)
            cost = settle(ledger, a, Usage(input=10, output=CHANCE.randint(0, 180)))
            os.write(bill, b"T %b %d\n" % (a.aid.encode(), cost))

    await asyncio.gather(*(caller(n % 2 == 0) for n in range(20)))


async def main(what: str, socket: str, data_dir: Path) -> None:
    CHANCE.seed(os.getpid())  # no two processes make the same ids
    store = connect(socket)
    if what.startswith("archive:"):
        await archive(store, data_dir, what.removeprefix("archive:"))
        return
    slab_rate = 8 if what == "traffic" or "/" in what else 0 if what.startswith("slab-") else NO_SLABS
    async with open_ledger(store, data_dir, slab_rate=slab_rate) as ledger:
        if "/" in what:
            seed, of = map(int, what.split("/"))
            await compete(ledger, store, seed, of)
        elif what == "traffic":
            await traffic(ledger, data_dir)
        else:
            await crash(ledger, what)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
