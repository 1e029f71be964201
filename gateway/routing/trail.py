"""What planning did, step by step; kept only where somebody wants to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.routing.pool import Pool
from gateway.types import Candidate, Drop
from policies.base import Decision

_MOST_NAMED = 6
"""Names in a step; the candidates and drops of a plan list them all."""


class Trail:
    """Every drop with its reason, and a line for each rule."""

    __slots__ = ("dropped", "steps")

    def __init__(self) -> None:
        self.dropped: list[Drop] = []
        self.steps: list[str] = []

    def begin(self, pool: Pool, candidates: Sequence[Candidate]) -> None:
        """Notes what the catalog and the needed capabilities left."""
        self.dropped += pool.dropped
        for rule in dict.fromkeys(drop.rule for drop in pool.dropped):
            self.steps.append(f"{rule}: dropped {_names(d.deployment for d in pool.dropped if d.rule == rule)}")
        self.steps.append(f"candidates: {_names(c.deployment.name for c in candidates)}")

    def note(self, rule: str, before: Sequence[Candidate], decision: Decision) -> None:
        """Notes what one rule did."""
        dropped = list(decision.dropped)
        accounted = {c.deployment.name for c in decision.kept} | {drop.deployment for drop in dropped}
        dropped += [  # a plugin's rule may forget to say
            Drop(c.deployment.name, rule, "dropped without a reason")
            for c in before
            if c.deployment.name not in accounted
        ]
        self.dropped += dropped
        gone = {drop.deployment for drop in dropped}
        remaining = [c.deployment.name for c in before if c.deployment.name not in gone]
        after = [c.deployment.name for c in decision.kept]
        said = [f"dropped {_names(drop.deployment for drop in dropped)}"] if dropped else []
        if after != remaining:
            said.append(f"order is now {_names(after)}")
        self.steps.append(f"{rule}: {'; '.join(said) or 'no change'}")


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:_MOST_NAMED]) or "none"
    return shown if len(listed) <= _MOST_NAMED else f"{shown} and {len(listed) - _MOST_NAMED} more"
