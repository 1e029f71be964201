"""What experiments, canaries and shadows have in common: a request belongs to one arm of each, always the same one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from gateway.types import Arm, Candidate, Facts
from policies.base import Context, Decision
from policies.chance import lot


class Trial(ABC):
    """A rule by which part of the requests is treated otherwise, to compare what comes of it."""

    name: str
    title: str
    """The name by which reports know it."""
    models: tuple[str, ...]
    """Every model that it names."""

    @abstractmethod
    def arm(self, context: Context) -> Arm | None:
        """The arm that the request is in; None where it takes no part."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        return Decision(candidates)

    def draw(self, facts: Facts) -> float:
        """A number in (0, 1]: the same for everything of one session or user, else each request's own."""
        return lot(facts.seed if facts.subject is None else facts.subject, f"trial:{self.title}")


def first(models: Sequence[str], candidates: Sequence[Candidate]) -> Decision:
    """The candidates of these models before the others; each group in its order."""
    if not models:
        return Decision(candidates)
    return Decision(sorted(candidates, key=lambda candidate: candidate.deployment.model.name not in models))


def last(models: Sequence[str], candidates: Sequence[Candidate]) -> Decision:
    """The candidates of these models behind the others; each group in its order."""
    return Decision(sorted(candidates, key=lambda candidate: candidate.deployment.model.name in models))
