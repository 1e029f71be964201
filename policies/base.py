"""What a policy is: one rule over candidates, pure; time, chance and health arrive as facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.types import Candidate, Drop, Facts, Needs, Options, Tier


class Context(Struct, frozen=True):
    """What a policy may look at beside the candidates."""

    needs: Needs
    options: Options
    facts: Facts
    tier: Tier | None


class Decision(Struct, frozen=True):
    """What a policy leaves, in its order, and what it dropped, each with the reason."""

    kept: Sequence[Candidate]
    dropped: Sequence[Drop] = ()


class Policy(Protocol):
    """One rule. A filter drops and keeps the order; an order reorders and drops nothing."""

    name: str

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        """Decides over `candidates`; never changes its arguments."""
        ...
