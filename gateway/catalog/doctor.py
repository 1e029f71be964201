"""Looking over an installation: keys, providers, models, prices, clock, store, disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from redis.exceptions import RedisError

from adapters import ADAPTERS
from adapters.base import Listed
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.verify import ASKING, check_key
from gateway.errors import UpstreamError
from gateway.storage.client import StoreTooOld, connect, server_version
from gateway.types import Deployment, Provider
from gateway.upstream.client import Answer, Upstream

MOST_SKEW_S = 5.0
"""Budgets and prices go by the clock; beyond this it is worth a warning."""
LITTLE_BYTES, LEAST_BYTES = 1 << 30, 100 << 20

Level = Literal["ok", "warning", "failed", "unused"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    text: str


async def look_at_providers(snapshot: Snapshot, upstream: Upstream, clock: Callable[[], float]) -> list[Finding]:
    """Keys, reach, whether each provider lists the models that the catalog has of it, and our clock against theirs."""
    groups = await asyncio.gather(*(_provider(snapshot, p, upstream, clock) for p in snapshot.providers.values()))
    return [finding for group in groups for finding in group]


async def _provider(
    snapshot: Snapshot, provider: Provider, upstream: Upstream, clock: Callable[[], float]
) -> list[Finding]:
    subject = f"provider {provider.name}"
    if provider.unavailable is not None:
        return [Finding("unused", subject, provider.unavailable)]
    served = [d for d in snapshot.deployments.values() if d.provider is provider and d.model.status == "enabled"]
    verdict = await check_key(upstream, provider, served[0].upstream_id if served else "none")
    if verdict.state != "good":
        return [Finding("failed", subject, verdict.reason)]
    found = [Finding("ok", subject, "answers and takes the key" if provider.api_key else "answers")]
    adapter = ADAPTERS[provider.adapter]
    listed: list[Listed] = []
    answer: Answer | None = None
    try:
        for endpoint in adapter.model_lists(provider):
            answer = await upstream.get(endpoint, ASKING)
            if answer.status != 200:
                return [*found, Finding("warning", subject, f"answers {answer.status} when asked for its model list")]
            listed += adapter.models(answer.body)
    except UpstreamError as error:
        return [*found, Finding("warning", subject, f"its model list cannot be read: {error.message}")]
    if answer is None:
        return found
    return [*found, *_unlisted(subject, served, listed), *_skew(subject, answer.headers.get("date"), clock())]


def _unlisted(subject: str, served: list[Deployment], listed: list[Listed]) -> Iterator[Finding]:
    ids = {row.id for row in listed}
    for deployment in served if ids else ():
        if deployment.upstream_id not in ids:
            yield Finding("warning", subject, f"does not list {deployment.upstream_id} ({deployment.name})")


def _skew(subject: str, date: str | None, now: float) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return
    if abs(now - theirs) > MOST_SKEW_S:
        ahead = "ahead of" if now > theirs else "behind"
        yield Finding(
            "warning", "clock", f"ours is {abs(now - theirs):.0f} s {ahead} that of {subject}; synchronise it"
        )


async def look_at_store(address: str) -> Finding:
    """Whether the store answers, is new enough, and would rather refuse than forget."""
    try:
        store: Any = connect(address)
    except ValueError as error:
        return Finding("failed", "store", str(error))
    try:
        version = await server_version(store)
        policy = await store.execute_command("CONFIG", "GET", "maxmemory-policy")
    except StoreTooOld as error:
        return Finding("failed", "store", str(error))
    except (RedisError, OSError) as error:
        return Finding("failed", "store", f"does not answer ({type(error).__name__})")
    finally:
        await store.aclose()
    if b"noeviction" not in str(policy).encode():
        return Finding("warning", "store", "may evict keys when full; set maxmemory-policy noeviction")
    return Finding("ok", "store", f"answers, Redis {version[0]}.{version[1]} or what is like it")


def look_at_disk(folder: Path) -> Finding:
    """Whether the write-ahead log and the embedded store have room."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding("failed", "disk", f"{there} cannot be written")
    free = shutil.disk_usage(there).free
    level: Level = "failed" if free < LEAST_BYTES else "warning" if free < LITTLE_BYTES else "ok"
    return Finding(level, "disk", f"{free / (1 << 30):.1f} GiB free at {there}")
