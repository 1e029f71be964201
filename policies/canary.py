"""A new model on a small share of the requests, which it loses as soon as it does worse than the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.types import Arm, Candidate, Deployment, Facts, Stats
from policies.base import Context, Decision
from policies.trial import Trial, first, last

CANARY, REST = "canary", "rest"


class Canary(Trial):
    """Puts `models` first for a share of the requests and last for the others, or for all once it is stopped.

    It regresses when, after `least` calls, its error rate is above the rest's by more than `error_rate` (0..1), or its
    time to the first event is more than `latency` times the rest's. Both are the recent, weighted means that are kept
    of each deployment, so a single failure counts for a tenth.
    """

    name = "canary"

    def __init__(
        self, title: str, models: tuple[str, ...], share: float, *, error_rate: float, latency: float, least: int
    ) -> None:
        self.title = title
        self.models = models
        self.share = share
        self.error_rate = error_rate
        self.latency = latency
        self.least = least
        self.mark = f"{title}:{','.join(models)}:{share:g}:{error_rate:g}:{latency:g}:{least}"
        """Names it in `Facts.stopped`. A changed definition is another canary, and begins anew."""
        self._canary = Arm(title, CANARY)
        self._rest = Arm(title, REST)

    def arm(self, context: Context) -> Arm:
        return self._canary if self._runs(context) and self.draw(context.facts) <= self.share else self._rest

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        in_canary = self.arm(context) is self._canary
        return first(self.models, candidates) if in_canary else last(self.models, candidates)

    def regressed(self, stats: Mapping[str, Stats], deployments: Sequence[Deployment]) -> str | None:
        """Why it must stop, naming the values compared; None while it does well enough, or too little is known."""
        canary = _mean(stats, [d.name for d in deployments if d.model.name in self.models])
        rest = _mean(stats, [d.name for d in deployments if d.model.name not in self.models])
        if canary.samples < self.least:
            return None
        if canary.error_rate > rest.error_rate + self.error_rate:
            return f"error rate {canary.error_rate:.0%}, the rest's is {rest.error_rate:.0%}"
        if rest.ttft_ms and canary.ttft_ms > rest.ttft_ms * self.latency:
            return f"{canary.ttft_ms:.0f} ms to the first event, the rest takes {rest.ttft_ms:.0f} ms"
        return None

    def _runs(self, context: Context) -> bool:
        facts: Facts = context.facts
        if self.mark in facts.stopped:
            return False
        deployments = context.tier.deployments if context.tier is not None else ()
        return self.regressed(facts.stats, deployments) is None


def _mean(stats: Mapping[str, Stats], names: Sequence[str]) -> Stats:
    """The deployments together, each weighing as much as its calls."""
    known = [stats[name] for name in names if name in stats]
    samples = sum(one.samples for one in known)
    timed = sum(one.samples for one in known if one.ttft_ms)
    return Stats(
        ttft_ms=sum(one.ttft_ms * one.samples for one in known) / timed if timed else 0.0,
        tokens_per_s=0.0,
        error_rate=sum(one.error_rate * one.samples for one in known) / samples if samples else 0.0,
        output_tokens=0.0,
        samples=samples,
    )
