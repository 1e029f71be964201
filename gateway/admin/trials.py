"""Experiments, canaries and shadows for the admin API: which there are, how they stand, what came of their arms."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from gateway.gateway import Gateway
from gateway.ledger.reports import report
from gateway.money import usd
from policies.canary import Canary
from policies.trial import Trial


def canaries(gateway: Gateway) -> list[dict[str, Any]]:
    """How every canary stands."""
    return [_standing(gateway, tier.name, canary) for tier, canary in gateway.canaries.all()]


class Trials:
    """What the admin API asks. The methods may raise `redis.exceptions.RedisError`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def listed(self) -> list[dict[str, Any]]:
        """Every one that the catalog in force has, by tier."""
        return [
            _standing(self._gateway, tier.name, rule)
            for tier in self._gateway.catalog.current.tiers.values()
            for rule in tier.policy
            if isinstance(rule, Trial)
        ]

    async def report(self, tenant: str, title: str, start: datetime, end: datetime) -> dict[str, Any]:
        """Each arm's requests, errors, latency, cost and feedback over whole UTC days, the last excluded."""
        gateway = self._gateway
        days = [f"{start + timedelta(days=n):%Y%m%d}" for n in range((end - start).days)]
        counted = await gateway.arms.counted(tenant, title, days)
        tag, now = f"tag:experiment:{title}", gateway.clock()
        rows = await report(gateway.store, tenant, start.timestamp(), end.timestamp(), [tag], now=now)
        booked = {row.names[0]: row.as_dict([tag]) for row in rows}
        opinions: dict[str, _Opinions] = {}
        async for opinion in gateway.feedback.of(tenant, days):
            if (arm := opinion.arms.get(title)) is not None:
                opinions.setdefault(arm, _Opinions()).add(opinion.score, opinion.label)
        names = sorted({*counted, *opinions, *(name for name in booked if name != "(none)")})
        return {
            "experiment": title,
            "from": f"{start:%Y-%m-%d}",
            "to": f"{end:%Y-%m-%d}",
            "arms": [
                _arm(name, counted.get(name, Counter()), booked.get(name, {}), opinions.get(name, _Opinions()))
                for name in names
            ],
        }

    async def resume(self, title: str) -> bool:
        """Lets a stopped canary go on. Whether there was one."""
        return await self._gateway.canaries.resume(title)


class _Opinions:
    """The feedback on one arm, summed up."""

    def __init__(self) -> None:
        self.count = 0
        self.scores: list[float] = []
        self.labels: Counter[str] = Counter()

    def add(self, score: float | None, label: str | None) -> None:
        self.count += 1
        if score is not None:
            self.scores.append(score)
        if label is not None:
            self.labels[label] += 1

    def as_dict(self) -> dict[str, Any]:
        mean = round(sum(self.scores) / len(self.scores), 4) if self.scores else None
        return {"count": self.count, "scored": len(self.scores), "mean_score": mean, "labels": dict(self.labels)}


def _arm(name: str, counted: Counter[str], booked: dict[str, Any], opinions: _Opinions) -> dict[str, Any]:
    requests, errors = counted["requests"], counted["errors"]
    answered, cost = requests - errors, int(booked.get("cost_nano_usd", 0))
    return {
        "arm": name,
        "requests": requests,
        "errors": errors,
        "mean_latency_ms": counted["latency_ms"] // answered if answered else None,
        "mean_ttft_ms": counted["ttft_ms"] // counted["timed"] if counted["timed"] else None,
        "attempts": booked.get("attempts", 0),
        "input_tokens": sum(booked.get(n, 0) for n in ("input", "cache_read", "cache_write_5m", "cache_write_1h")),
        "output_tokens": booked.get("output", 0),
        "estimated": booked.get("estimated", 0),
        "cost_nano_usd": cost,
        "cost_usd": usd(cost),
        "feedback": opinions.as_dict(),
    }


def _standing(gateway: Gateway, tier: str, rule: Trial) -> dict[str, Any]:
    standing: dict[str, Any] = {"experiment": rule.title, "kind": rule.name, "tier": tier, "models": list(rule.models)}
    if isinstance(rule, Canary):
        stop = gateway.canaries.stop_of(rule)
        standing |= {
            "share": rule.share,
            "state": "running" if stop is None else "stopped",
            "reason": None if stop is None else stop.reason,
            "stopped_at": None if stop is None else stop.at,
        }
    return standing
