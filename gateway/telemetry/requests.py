"""One log line and the metrics of each request, made in batches.

Rendering a line through structlog costs more than planning the route, so requests only append a record here; of each
batch the lines are encoded, written with one call, and added to the metrics.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TextIO

import msgspec

from gateway.background import Repeated
from gateway.telemetry.metrics import Metrics

_FLUSH_S = 0.25
_BATCH = 128
"""Records written together, in some 0.2 ms. They are written before they are many: what lies in memory until the next
flush costs its page faults."""
_encoder = msgspec.json.Encoder()


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


class RequestRecord(msgspec.Struct, omit_defaults=True, tag_field="event", tag="request"):
    """What is logged of one request: facts about it, never its content."""

    timestamp: float
    """When it came, seconds since the epoch."""
    request_id: str
    status: int
    level: str = "info"
    stream: bool = False
    key: str | None = None
    team: str | None = None
    alias: str | None = None
    tier: str | None = None
    deployment: str | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    code: str | None = None
    substituted: str | None = None
    warnings: list[str] = []
    attempts: list[AttemptRecord] = []


class RequestLog:
    """Takes the record of every request; a full batch, or what waited for a while, becomes log lines and metrics."""

    def __init__(self, metrics: Metrics, *, log: bool = True, out: TextIO | None = None) -> None:
        self._metrics = metrics
        self._log = log
        self._out = out or sys.stderr
        self._waiting: list[RequestRecord] = []
        self._writer = Repeated("request-log", _FLUSH_S, self._write)

    def record(self, record: RequestRecord) -> None:
        """Has a request logged and counted: at once where it fills a batch, else soon."""
        self._waiting.append(record)
        if len(self._waiting) == _BATCH:
            self._writer.hurry()

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        self.flush()

    async def _write(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Writes the lines and adds the metrics of everything recorded since the last call."""
        records, self._waiting = self._waiting, []
        if not records:
            return
        self._count(records)
        if not self._log:
            return
        lines = _encoder.encode_lines(records)
        try:
            self._out.write(lines.decode())
            self._out.flush()
        except OSError:  # the reader of our log is gone or full; serving goes on
            self._metrics.log_lines_dropped.inc(len(records))

    def _count(self, records: list[RequestRecord]) -> None:
        metrics = self._metrics
        served: defaultdict[tuple[str, int, bool], list[RequestRecord]] = defaultdict(list)
        tried: defaultdict[tuple[str, str, str, str, str], list[AttemptRecord]] = defaultdict(list)
        for record in records:
            tier = record.tier or ""
            served[tier, record.status, record.stream].append(record)
            for attempt in record.attempts:
                key = (tier, attempt.deployment, attempt.model, attempt.provider, attempt.settlement)
                tried[key].append(attempt)
        for (tier, status, stream), alike in served.items():
            metrics.requests.labels(tier, str(status), "true" if stream else "false").inc(len(alike))
            metrics.seconds.labels(tier).observe_all([record.latency_ms / 1000 for record in alike])
            first_byte = [record.ttft_ms / 1000 for record in alike if record.ttft_ms is not None]
            metrics.first_byte_seconds.labels(tier).observe_all(first_byte)
        for (tier, deployment, model, provider, settlement), attempts in tried.items():
            metrics.attempts.labels(deployment, settlement).inc(len(attempts))
            metrics.tokens.labels(model, "input").inc(sum([a.prompt_tokens for a in attempts]))
            metrics.tokens.labels(model, "output").inc(sum([a.completion_tokens for a in attempts]))
            metrics.cost.labels(tier, provider).inc(sum([a.cost_nano_usd for a in attempts]))
