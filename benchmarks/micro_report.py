"""What a month's report costs at a hundred million attempts: seconds and memory, from roll-ups in the embedded Valkey.

    python benchmarks/micro_report.py [cells a day]

A month of 6,000 cells a day (2,000 keys, 3 models) stands for a hundred million attempts; sums are checked exactly.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from gateway.ledger.account import SEPARATOR
from gateway.ledger.exchange import tag
from gateway.ledger.records import METRICS
from gateway.ledger.reports import report
from gateway.storage.client import Store, connect
from gateway.storage.embedded import EmbeddedStore

DAY, DAYS, ATTEMPTS = 86_400, 30, 100_000_000
START = 1_790_812_800
"""2026-10-01T00:00:00Z."""
COST_NANO = 123_456_789


async def fill(store: Store, cells: int) -> int:
    """Writes the month; gives the attempts of one cell."""
    each = -(-ATTEMPTS // (DAYS * cells))
    numbers = [each if name == "attempts" else COST_NANO if name == "cost_nano" else 1_000 for name in METRICS]
    packed = msgspec.msgpack.encode(numbers)
    for day in range(DAYS):
        fields: list[str | bytes] = []
        for n in range(cells):
            who, model = f"k{n % 2000:06d}", f"model-{n // 2000}"
            names = (who, "fast", model, "openai", "openai/gpt-5-mini", "row@2026-01-01", "team")
            fields += [SEPARATOR.join(names), packed]
        period = time.strftime("%Y%m%d", time.gmtime(START + day * DAY))
        await store.execute_command("HSET", f"{tag('main')}r:d:{period}", *fields)
    return each


async def main(cells: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        embedded = EmbeddedStore(Path(folder))
        await embedded.start()
        store = connect(embedded.socket)
        each = await fill(store, cells)
        for by in ((), ("day", "model"), ("key", "model"), ("team",)):
            began = time.perf_counter()
            rows = await report(store, "main", START, START + DAYS * DAY, by, now=START + DAYS * DAY)
            took = time.perf_counter() - began
            assert sum(row.cost_nano for row in rows) == DAYS * cells * COST_NANO
            assert sum(row.numbers[0] for row in rows) == DAYS * cells * each
            print(f"{','.join(by) or 'total':12} {len(rows):6} rows  {took:6.2f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{DAYS * cells * each:,} attempts in {DAYS * cells:,} cells; peak memory {peak:.0f} MB")
        await store.aclose()
        await embedded.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 6_000))
