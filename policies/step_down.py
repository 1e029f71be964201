"""Moving to a lesser tier while the caller's budget runs low."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.types import Candidate, Facts
from policies.base import Context, Decision

_WHEN = re.compile(r"\s*budget_left\s*<\s*(\d{1,3}(?:\.\d+)?)\s*%\s*")


class StepDown:
    """Serves tier `to` in place of this one while less than `below_share` (0..1) of the caller's budget is left.

    It concerns which tier is planned, so the planner acts on it before there are candidates; over candidates it does
    nothing. A caller without a budget never steps down.
    """

    name = "step_down"

    def __init__(self, below_share: float, to: str) -> None:
        self.below_share = below_share
        self.to = to

    def due(self, facts: Facts) -> bool:
        """Whether the caller's budget is that low."""
        return facts.budget_left_share is not None and facts.budget_left_share < self.below_share

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Decision:
        return Decision(candidates)


def parse_when(text: str) -> float:
    """The share (0..1) in a condition such as `budget_left < 20%`.

    Raises:
        ValueError: it is written otherwise.
    """
    match = _WHEN.fullmatch(text)
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise ValueError(
            f"`when` is {text!r}; write a share of the budget between 0 and 100, as in 'budget_left < 20%'"
        )
    return share
