"""What the ledger costs: CPU microseconds per request, in this process and in the embedded Valkey, by concurrency.

    python benchmarks/micro_ledger.py [requests]

CPU is user + system time: of this process from its own accounting, of Valkey from /proc/<pid>/stat. `begin+settle` is
an unlimited key; `reserve+settle` a key with a hard budget, requests and tokens per minute; batch is how many requests
run at the same time, which is what bounds the size of an exchange.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from gateway.ledger.account import account_of
from gateway.ledger.attempt import Attempt, new_request_id
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Budget, Cap, Limits
from gateway.storage.client import connect
from gateway.storage.embedded import EmbeddedStore
from gateway.types import Price, Rates, Usage

PRICE = Price("gpt-5-mini@2025-08-07", 0.0, Rates(250_000, 2_000_000, cache_read=25_000))
USAGE = Usage(input=400, cache_read=128, output=250, reasoning=64)
LIMITS = Limits(
    "main",
    budgets=(Budget("b_8f3k2", 9_000_000 * 10**9, "month"),),
    rpm=(Cap("k:8f3k2", 10**8),),
    tpm=(Cap("k:8f3k2", 10**11),),
)
ACCOUNT = (
    *("main", "8f3k2", "search", (), "fast", "fast"),
    *("gpt-5-mini", "openai", "openai/gpt-5-mini", PRICE.price_id, "0123456789ab"),
)
CHANCE = random.Random(7)


def attempt() -> Attempt:
    now = time.time()
    return Attempt(
        request_id=new_request_id(now, CHANCE),
        at=now,
        account=account_of(*ACCOUNT),
        price=PRICE,
        input_tokens=528,
        input_bound_tokens=2048,
        output_limit_tokens=16384,
    )


async def request(ledger: Ledger, limited: bool) -> None:
    a = attempt()
    if limited:
        await ledger.reserve(a, LIMITS)
    else:
        ledger.begin(a)
    await asyncio.sleep(0)
    ledger.settle(a, usage=USAGE, usage_source="provider", settlement="complete", latency_ms=900, ttft_ms=200)


async def worker(ledger: Ledger, limited: bool, count: int) -> None:
    for _ in range(count):
        await request(ledger, limited)


async def idle(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(ledger: Ledger, pid: int, limited: bool, batch: int, total: int) -> None:
    each = total // batch
    await asyncio.gather(*(worker(ledger, limited, each // 10 + 1) for _ in range(batch)))
    loop_start = time.process_time()
    await asyncio.gather(*(idle(each) for _ in range(batch)))
    loop_cost = time.process_time() - loop_start
    ours, theirs, wall = time.process_time(), cpu_of(pid), time.perf_counter()
    await asyncio.gather(*(worker(ledger, limited, each) for _ in range(batch)))
    while ledger.lag["entries_waiting"]:  # noqa: ASYNC110  # the ledger flushes by a timer of its own
        await asyncio.sleep(0.005)
    wall = time.perf_counter() - wall
    ours = time.process_time() - ours - loop_cost
    theirs = cpu_of(pid) - theirs
    per = 1e6 / (each * batch)
    name = "reserve+settle" if limited else "begin+settle"
    print(f"{name:15} {batch:5d} {ours * per:9.1f} {theirs * per:9.1f} {(ours + theirs) * per:9.1f} {wall * per:9.1f}")


async def main(total: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedStore(Path(folder))
        await embedded.start()
        store = connect(embedded.socket)
        pid = int((await store.execute_command("INFO", "server"))["process_id"])
        ledger = Ledger(
            store, Path(folder), clock=time.time, monotonic=time.monotonic, chance=CHANCE, reserve_deadline_s=5.0
        )
        await ledger.start()
        print("what            batch gateway us valkey us  total us   wall us")
        for limited in (False, True):
            for batch in (1, 8, 64):
                await measure(ledger, pid, limited, batch, total if batch > 1 or not limited else total // 4)
        await ledger.close()
        await store.aclose()
        await embedded.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
