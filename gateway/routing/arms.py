"""How requests fared in each arm of each experiment: counted per day, for the experiments' report."""

from __future__ import annotations

from collections import Counter
from time import gmtime, strftime
from typing import Any

from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.log import get_logger
from gateway.storage.client import Store
from gateway.types import Arm

COUNTED = ("requests", "errors", "latency_ms", "timed", "ttft_ms")
"""`latency_ms` sums over good answers, `ttft_ms` over the `timed` ones among them."""

_FLUSH_S = 1.0
_KEPT_S = 400 * 86_400
_MOST_WAITING = 50_000
_SEPARATOR = "\x1f"

log = get_logger("arms")


class Arms:
    """Adds up in this process and writes the sums to the store in the background."""

    def __init__(self, store: Store) -> None:
        self._store: Any = store
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._writer = Repeated("arms", _FLUSH_S, self.flush)

    def count(
        self, tenant: str, arms: tuple[Arm, ...], at: float, *, failed: bool, latency_ms: float, ttft_ms: float | None
    ) -> None:
        """Counts a request that came at `at` (epoch seconds) for each of its arms."""
        if len(self._waiting) > _MOST_WAITING:  # the store has been away for long
            return
        name = _name(tenant, strftime("%Y%m%d", gmtime(at)))
        counts = {"requests": 1, "errors": int(failed)}
        if not failed:
            counts["latency_ms"] = int(latency_ms)
            if ttft_ms is not None:
                counts |= {"timed": 1, "ttft_ms": int(ttft_ms)}
        for arm in arms:
            for what, count in counts.items():
                if count:
                    self._waiting[name, _SEPARATOR.join((arm.experiment, arm.name, what))] += count

    async def start(self) -> None:
        await self._writer.start()

    async def close(self) -> None:
        await self._writer.close()
        await self.flush()

    async def flush(self) -> None:
        """Writes what waits; while the store is away it goes on waiting."""
        waiting, self._waiting = self._waiting, Counter()
        if not waiting:
            return
        pipeline = self._store.pipeline(transaction=False)
        for (name, field), count in waiting.items():
            pipeline.hincrby(name, field, count)
        for name in {name for name, _ in waiting}:
            pipeline.expire(name, _KEPT_S)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            self._waiting.update(waiting)
            log.warning("arms_not_written", error=type(error).__name__)

    async def counted(self, tenant: str, experiment: str, days: list[str]) -> dict[str, Counter[str]]:
        """Sums of `COUNTED` by arm over these days (as `20261121`).

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        await self.flush()
        found: dict[str, Counter[str]] = {}
        for day in days:
            for field, count in (await self._store.hgetall(_name(tenant, day))).items():
                title, arm, what = field.decode().split(_SEPARATOR)
                if title == experiment:
                    found.setdefault(arm, Counter())[what] += int(count)
        return found


def _name(tenant: str, day: str) -> str:
    return f"{{t:{tenant}}}:arms:{day}"
