"""Which models a conversation is to go on with, in one version of the catalog."""

from __future__ import annotations

from gateway.catalog.snapshot import Snapshot
from gateway.types import Deployment, Model, Tier
from policies.session import Keep
from policies.sticky import Sticky

_MOST_KEPT = 4096
"""Sessions may name deployments of earlier catalogs, so what is remembered of them is bounded."""


class Conversations:
    """A conversation keeps the model it began on while that is enabled, then goes on with the model's replacement."""

    __slots__ = ("_orders", "_snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._orders: dict[str, Keep] = {}

    def order(self, sticky: str) -> Keep:
        """The order for a session that this deployment has served so far."""
        order = self._orders.get(sticky)
        if order is None:
            models: list[str] = []
            model = self._model_of(sticky)
            while model is not None and model.name not in models:
                models.insert(0, model.name)
                model = None if model.status == "enabled" else self._snapshot.models.get(model.replacement or "")
            order = Keep(sticky, models)
            if len(self._orders) < _MOST_KEPT:
                self._orders[sticky] = order
        return order

    def goes_on(self, tier: Tier, sticky: str | None, answered: Deployment) -> str:
        """The deployment to remember for a session of `tier` that `sticky` has served so far.

        Another model that had to answer once does not take a conversation over, except in tiers with `sticky`, where
        the warm prompt is what counts.
        """
        if sticky is None or weighs_cost(tier):
            return answered.name
        model = self._model_of(sticky)
        if model is None or model is answered.model or model.status != "enabled":
            return answered.name
        in_use = any(deployment.model is model for deployment in tier.deployments)
        return sticky if in_use else answered.name

    def _model_of(self, deployment: str) -> Model | None:
        """The model of a deployment, even of one that this version of the catalog does not have any more."""
        known = self._snapshot.deployments.get(deployment)
        if known is not None:
            return known.model
        return self._snapshot.models.get(deployment.partition("/")[2].partition("#")[0])


def weighs_cost(tier: Tier) -> bool:
    """Whether the tier keeps conversations by `sticky`, which looks at what the warm prompt saves."""
    return any(isinstance(rule, Sticky) for rule in tier.policy)
