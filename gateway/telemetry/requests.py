"""One log line and the metrics of each request, made off the request path in batches.

Rendering a line through structlog costs more than planning the route, so requests only append a record here; a flush
a few times a second encodes the lines, writes them with one call and adds up the metrics.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from gateway.telemetry.metrics import Metrics


class AttemptRecord(msgspec.Struct, array_like=False, omit_defaults=True):
    """One upstream attempt of a request."""

    deployment: str
    settlement: str
    model: str = ""
    provider: str = ""
    error: str | None = None
    cost_nano_usd: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RequestRecord(msgspec.Struct, omit_defaults=True):
    """What is logged of one request: facts about it, never its content."""

    request_id: str
    at: float
    status: int
    stream: bool = False
    key: str | None = None
    team: str | None = None
    alias: str | None = None
    tier: str | None = None
    deployment: str | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    overhead_ms: float | None = None
    code: str | None = None
    substituted: str | None = None
    warnings: list[str] = []
    attempts: list[AttemptRecord] = []


class _Line(msgspec.Struct, omit_defaults=True):
    timestamp: str
    level: str
    event: str
    request: RequestRecord


class RequestLog:
    """Takes the record of every request; `flush()` turns those waiting into log lines and metrics."""

    FLUSH_S = 0.25
    LIMIT = 20_000

    def __init__(self, metrics: Metrics, *, log: bool = True, out: TextIO | None = None) -> None:
        self._metrics = metrics
        self._log = log
        self._out = out or sys.stderr
        self._waiting: list[RequestRecord] = []
        self._task: asyncio.Task[None] | None = None
        self.record: Callable[[RequestRecord], None] = self._waiting.append

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="request-log")

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.FLUSH_S)
            self.flush()

    def flush(self) -> None:
        """Writes the lines and adds the metrics of everything recorded since the last call."""
        records = self._waiting[:]
        self._waiting.clear()
        if not records:
            return
        self._count(records)
        if not self._log:
            return
        if len(records) > self.LIMIT:
            self._metrics.log_lines_dropped.inc(len(records) - self.LIMIT)
        encode = msgspec.json.encode
        lines = [encode(_line(record)) for record in records[: self.LIMIT]]
        try:
            self._out.write(b"\n".join(lines).decode() + "\n")
            self._out.flush()
        except OSError:  # the reader of our log is gone or full; serving goes on
            self._metrics.log_lines_dropped.inc(len(lines))

    def _count(self, records: list[RequestRecord]) -> None:
        metrics = self._metrics
        requests: Counter[tuple[str, str, str]] = Counter()
        attempts: Counter[tuple[str, str]] = Counter()
        tokens: Counter[tuple[str, str]] = Counter()
        cost: Counter[tuple[str, str]] = Counter()
        for record in records:
            tier = record.tier or ""
            requests[tier, str(record.status), "true" if record.stream else "false"] += 1
            metrics.seconds.labels(tier).observe(record.latency_ms / 1000)
            if record.ttft_ms is not None:
                metrics.first_byte_seconds.labels(tier).observe(record.ttft_ms / 1000)
            for attempt in record.attempts:
                attempts[attempt.deployment, attempt.settlement] += 1
                tokens[attempt.model, "input"] += attempt.prompt_tokens
                tokens[attempt.model, "output"] += attempt.completion_tokens
                cost[tier, attempt.provider] += attempt.cost_nano_usd
        for counter, sums in (
            (metrics.requests, requests),
            (metrics.attempts, attempts),
            (metrics.tokens, tokens),
            (metrics.cost, cost),
        ):
            for labels, amount in sums.items():
                counter.labels(*labels).inc(amount)


def _line(record: RequestRecord) -> _Line:
    level = "error" if record.status >= 500 and record.status != 503 else "info"
    return _Line(datetime.fromtimestamp(record.at, UTC).isoformat(), level, "request", record)
