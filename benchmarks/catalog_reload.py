"""A catalog of 1,000 models is read anew while requests are served: how long it takes, and what a request feels of it.

Run: `python -m benchmarks.catalog_reload`. One coroutine stands for the requests: it waits a millisecond over and over,
as a request waits for a socket, and notes how late it is woken; a request waits a few times. The first line is the same
without a reload: what the machine itself makes it late by, and more of it the more else it does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import structlog

from gateway.catalog.source import CatalogSource
from gateway.server import TAKE_TURNS_S

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
    sys.setswitchinterval(TAKE_TURNS_S)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.yaml"
        path.write_text(document(MODELS, "0"))
        source = CatalogSource(path, {}, time.time)
        sys.stdout.write(f"nothing: {await _lateness(asyncio.sleep(1.0))}\n")
        for mark in range(1, rounds + 1):
            path.write_text(document(MODELS, str(mark)))
            began, cpu = time.perf_counter(), time.process_time()
            late = await _lateness(source.reload())
            took, burnt = time.perf_counter() - began, time.process_time() - cpu
            assert source.problem is None
            sys.stdout.write(f"reload of {MODELS} models: {took:.2f} s ({burnt:.2f} s CPU in this process); {late}\n")


async def _lateness(meanwhile: Awaitable[object]) -> str:
    late: list[float] = []
    ticking = asyncio.create_task(_tick(late))
    await meanwhile
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    late.sort()
    median, most_of, most = (1000 * late[int(len(late) * share)] for share in (0.5, 0.99, 0.999999))
    return f"a waiting coroutine was late by {median:.2f} ms (median), {most_of:.2f} ms (99 %), {most:.2f} ms (most)"


async def _tick(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        late.append(time.perf_counter() - began - _TICK_S)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(measure(rounds=5))
