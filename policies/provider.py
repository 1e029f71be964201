"""Which provider to try first: a wish, not a demand, so the others stay behind it."""

from __future__ import annotations

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Order


class PreferProvider(Order):
    """Puts the named providers first, in the order given; everything else keeps its place behind them."""

    name = "prefer_provider"

    def __init__(self, providers: tuple[str, ...]) -> None:
        self.providers = providers
        self._ranks = {name: rank for rank, name in enumerate(providers)}

    def rank(self, candidate: Candidate, context: Context) -> int:
        return self._ranks.get(candidate.deployment.provider.name, len(self._ranks))
