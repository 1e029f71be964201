"""Keeping a conversation on the model it began on."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Order


class Keep(Order):
    """Puts the models of a conversation first, the most wanted one foremost, and of these the deployment known to it.

    Cost does not count: a tier where it should has `sticky` instead. The rest stays behind, to fall back on.
    """

    name = "session"

    def __init__(self, deployment: str, models: Sequence[str]) -> None:
        self.deployment = deployment
        self._ranks = {name: rank for rank, name in enumerate(models)}

    def rank(self, candidate: Candidate, context: Context) -> tuple[int, bool]:
        deployment = candidate.deployment
        rank = self._ranks.get(deployment.model.name)
        if rank is None:
            return len(self._ranks), False
        return rank, deployment.name != self.deployment
