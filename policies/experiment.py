"""A/B: each session, user or request is in one arm, which has its own models or parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.types import Arm, Candidate
from policies.base import Context, Decision
from policies.trial import Trial, first


@dataclass(frozen=True, slots=True)
class Treatment:
    """One arm as the catalog describes it."""

    arm: Arm
    weight: float
    """Relative to the other arms'."""
    models: tuple[str, ...] = ()
    """What goes first in this arm; empty where only parameters differ."""


class Experiment(Trial):
    """Puts the models of the request's arm first; those of the other arms stay, to fall back on.

    A request counts for its arm whoever answers in the end: leaving out those that fell back would flatter the arm.
    """

    name = "experiment"

    def __init__(self, title: str, treatments: Sequence[Treatment]) -> None:
        self.title = title
        self.models = tuple(dict.fromkeys(model for treatment in treatments for model in treatment.models))
        total = sum(treatment.weight for treatment in treatments)
        bounds, so_far = [], 0.0
        for treatment in treatments:
            so_far += treatment.weight / total
            bounds.append((so_far, treatment))
        self._bounds = tuple(bounds)

    def arm(self, context: Context) -> Arm:
        return self._treatment(context).arm

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        return first(self._treatment(context).models, candidates)

    def _treatment(self, context: Context) -> Treatment:
        drawn = self.draw(context.facts)
        return next((treatment for bound, treatment in self._bounds if drawn <= bound), self._bounds[-1][1])
