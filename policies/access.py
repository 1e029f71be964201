"""What the caller's key may use."""

from __future__ import annotations

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Filter


class Allowed(Filter):
    """Drops models that the caller's key is not allowed; a key without a list may use all."""

    name = "access"

    def against(self, candidate: Candidate, context: Context) -> str | None:
        allowed, deployment = context.facts.allowed_models, candidate.deployment
        if allowed is None or deployment.model.name in allowed or deployment.name in allowed:
            return None
        return f"this key may not use model {deployment.model.name}"
