"""A catalog of 1,000 models is read anew while requests are served: how long it takes, and what a request feels of it.

Run: `python -m benchmarks.catalog_reload`. One coroutine stands for the requests: it waits a millisecond over and over,
as a request waits for a socket, and notes how late it is woken; a request waits a few times.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import structlog

from gateway.catalog.source import CatalogSource

MODELS = 1_000
_TICK_S = 0.001


def document(models: int, mark: str) -> str:
    """A document with as many models, each of nine lines."""
    entry = (
        "  model-{n}:\n    display_name: Model {n} {mark}\n"
        "    capabilities: [text_input, text_output, streaming, function_calling]\n"
        "    context: {{input_tokens: 128000, output_tokens: 16000}}\n    prices:\n"
        '      - from: 2026-01-01\n        usd_per_mtok: {{input: "1.00", output: "4.00"}}\n'
        "        source: https://one.example/pricing\n    deployments: [{{provider: one, id: model-{n}}}]\n"
    )
    made = "".join(entry.format(n=n, mark=mark) for n in range(models))
    return f"providers:\n  one: {{adapter: openai, base_url: https://one.example/v1}}\nmodels:\n{made}"


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.yaml"
        path.write_text(document(MODELS, "0"))
        source = CatalogSource(path, {}, time.time)
        for mark in range(1, rounds + 1):
            path.write_text(document(MODELS, str(mark)))
            late: list[float] = []
            ticking = asyncio.create_task(_tick(late))
            began, cpu = time.perf_counter(), time.process_time()
            assert await source.reload()
            took, burnt = time.perf_counter() - began, time.process_time() - cpu
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            late.sort()
            sys.stdout.write(
                f"reload of {MODELS} models: {took:.2f} s ({burnt:.2f} s CPU); "
                f"a waiting coroutine was late by {1000 * late[len(late) // 2]:.2f} ms (median), "
                f"{1000 * late[int(len(late) * 0.99)]:.2f} ms (99 %), {1000 * late[-1]:.2f} ms (most)\n"
            )


async def _tick(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        late.append(time.perf_counter() - began - _TICK_S)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(measure(rounds=5))
