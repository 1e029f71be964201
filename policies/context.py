"""Whether prompt and answer fit: the context window and the longest answer of each model."""

from __future__ import annotations

from gateway.types import Candidate
from policies.base import Context
from policies.rules import Filter


class Fits(Filter):
    """Drops models whose context is below the estimated prompt, or whose longest answer is below the asked cap."""

    name = "context"

    def against(self, candidate: Candidate, context: Context) -> str | None:
        model, needs = candidate.deployment.model, context.needs
        if model.input_tokens is not None and needs.input_tokens > model.input_tokens:
            return f"prompt of about {needs.input_tokens:,} tokens exceeds its context of {model.input_tokens:,}"
        if model.output_tokens is not None and needs.output_tokens is not None:
            if needs.output_tokens <= model.output_tokens:
                return None
            return f"{needs.output_tokens:,} output tokens asked, it writes at most {model.output_tokens:,}"
        return None
