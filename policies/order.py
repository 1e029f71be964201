"""Orders that follow from the catalog alone."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.types import Candidate
from policies.base import Context, Decision
from policies.rules import Order


class Ordered:
    """The order in which the tier lists its deployments, or the models, deployments or providers named here first."""

    name = "ordered"

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        names = self.names or tuple(d.name for d in (context.tier.deployments if context.tier else ()))
        ranks = {name: rank for rank, name in reversed(list(enumerate(names)))}

        def rank(candidate: Candidate) -> int:
            deployment = candidate.deployment
            known_as = (deployment.name, deployment.model.name, deployment.provider.name)
            return min(ranks.get(name, len(names)) for name in known_as)

        return Decision(sorted(candidates, key=rank))


class DefaultFirst(Order):
    """The tier's default model or deployment first; the rest stays as it was."""

    name = "default_first"

    def rank(self, candidate: Candidate, context: Context) -> bool:
        default = context.tier.default if context.tier else None
        return default not in (candidate.deployment.model.name, candidate.deployment.name)


class Newest(Order):
    """The most recently released model first; a model without a date counts as oldest."""

    name = "newest"

    def rank(self, candidate: Candidate, context: Context) -> int:
        return -candidate.deployment.model.created_at
