"""A copy of some requests to another deployment, after the caller has its answer; what it says is thrown away."""

from __future__ import annotations

from typing import Literal

from gateway.types import Arm, Copy
from policies.base import Context
from policies.trial import Trial

PRIMARY, SHADOW = "primary", "shadow"
Period = Literal["hour", "day", "month", "total"]


class Shadow(Trial):
    """Marks a share of the requests to be copied; it neither drops nor orders anything."""

    name = "shadow"

    def __init__(self, title: str, to: str, share: float, budget_nano: int, per: Period) -> None:
        """`to` is a model or deployment; the budget is what all copies of a tenant's requests may cost in a period."""
        self.title = title
        self.models = (to,)
        self.share = share
        self._primary = Arm(title, PRIMARY, copy=Copy(to, Arm(title, SHADOW), budget_nano, per))

    def arm(self, context: Context) -> Arm | None:
        return self._primary if self.draw(context.facts) <= self.share else None
