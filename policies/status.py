"""Whether a deployment is in use at all: its model enabled, its provider's key there. Always the first rule."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Filter


class InUse(Filter):
    """Drops deployments whose model is not enabled or past its end, or whose provider cannot be used."""

    name = "status"

    def against(self, candidate: Candidate, context: Context) -> str | None:
        provider, model = candidate.deployment.provider, candidate.deployment.model
        if provider.unavailable is not None:
            return f"provider {provider.name} cannot be used: {provider.unavailable}"
        if model.status not in ("enabled", "deprecated"):
            return f"model {model.name} is {model.status}"
        if model.retires_at is not None and model.retires_at <= context.facts.now:
            return f"model {model.name} was retired on {datetime.fromtimestamp(model.retires_at, UTC):%Y-%m-%d}"
        return None
