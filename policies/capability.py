"""What the request needs done: a candidate must have every capability, or it would break the contract in silence."""

from __future__ import annotations

from gateway.types import Candidate, Capability, Deployment, capabilities_of
from policies.base import Context
from policies.rules import Filter

_TEXT = Capability.TEXT_INPUT.bit | Capability.TEXT_OUTPUT.bit


class Capable(Filter):
    """Drops deployments that lack a capability which the request implies or its caller requires."""

    name = "capability"

    def against(self, candidate: Candidate, context: Context) -> str | None:
        missing = (context.needs.mask | context.options.require) & ~offered(candidate.deployment)
        return f"lacks {', '.join(capabilities_of(missing))}" if missing else None


def offered(deployment: Deployment) -> int:
    """The deployment's mask with what follows from it: a schema-keeping model keeps to JSON, and chat is text."""
    mask = deployment.capabilities
    if mask & Capability.STRUCTURED_OUTPUT.bit:
        mask |= Capability.JSON_MODE.bit
    if deployment.model.category == "text":
        mask |= _TEXT
    return mask
