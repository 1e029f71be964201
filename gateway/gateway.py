"""The parts of a running gateway, wired once by `app.py` and reached by every endpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from gateway.api.http import written
from gateway.callers.records import Criticality
from gateway.routing.params import Parameters
from gateway.routing.plan import Planner

if TYPE_CHECKING:
    from gateway.api.shadows import Shadows
    from gateway.callers.callers import Callers
    from gateway.callers.idempotency import Idempotency
    from gateway.callers.rules import Rules
    from gateway.catalog.living import LivingCatalog
    from gateway.catalog.snapshot import Snapshot
    from gateway.catalog.source import CatalogSource
    from gateway.ledger.ledger import Ledger
    from gateway.ledger.rates import Rates
    from gateway.routing.arms import Arms
    from gateway.routing.canaries import Canaries
    from gateway.routing.decisions import Decisions
    from gateway.routing.feedback import Feedback
    from gateway.routing.health import Breakers
    from gateway.routing.recent import Recent
    from gateway.routing.retry import RetryBudgets
    from gateway.routing.sessions import Sessions
    from gateway.routing.stats import Statistics
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.requests import RequestLog
    from gateway.upstream.client import Upstream


ROOM_SHARES: Mapping[Criticality, float] = {"sheddable": 0.8, "default": 0.95, "critical": 1.0}
"""Of `max_inflight`: what is left above is for those that matter more."""


@dataclass(frozen=True, slots=True)
class Routing:
    """One version of the catalog, with the planner and the parameters that were worked out for it."""

    snapshot: Snapshot
    planner: Planner
    parameters: Parameters
    _served: dict[tuple[str | None, str], bytes] = field(default_factory=dict)

    def served_by(self, tier: str | None, deployment: str) -> bytes:
        """The header lines that tell of tier, deployment and catalog; made once for each pair of names."""
        lines = self._served.get((tier, deployment))
        if lines is None:
            headers = [
                (b"x-gateway-deployment", deployment.encode()),
                (b"x-gateway-catalog", self.snapshot.version.encode()),
            ]
            if tier:
                headers.append((b"x-gateway-tier", tier.encode()))
            lines = self._served[tier, deployment] = written(headers)
        return lines


@dataclass(slots=True, kw_only=True)
class Gateway:
    """Everything a request may need; `clock` is seconds since the epoch, `monotonic` never goes back."""

    settings: Settings
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    chance: Random
    """Chance in routing, seeded where the operator wants decisions to be reproducible."""
    ids: Random
    """Makes ids, and is never seeded: two processes must not make the same ones, or costs would count as one."""
    catalog: CatalogSource
    living: LivingCatalog
    callers: Callers
    rules: Rules
    idempotency: Idempotency
    ledger: Ledger
    rates: Rates
    upstream: Upstream
    breakers: Breakers
    statistics: Statistics
    retries: RetryBudgets
    metrics: Metrics
    requests: RequestLog
    decisions: Decisions
    sessions: Sessions
    budget_shares: Recent[tuple[str, str], float]
    """By tenant and budget, what the store said lately of the share left."""
    canaries: Canaries
    arms: Arms
    shadows: Shadows
    feedback: Feedback
    store: Any
    inflight: int = 0
    draining: bool = False
    max_inflight: int = field(init=False)
    max_body_bytes: int = field(init=False)
    """Both as the settings say: read there, they take longer."""
    room: Mapping[Criticality, int] = field(init=False)
    """Up to how many requests at once one of a key of this criticality is still served."""
    _routing: Routing | None = None

    def __post_init__(self) -> None:
        self.max_inflight, self.max_body_bytes = self.settings.max_inflight, self.settings.max_body_bytes
        self.room = {criticality: math.ceil(self.max_inflight * share) for criticality, share in ROOM_SHARES.items()}

    def routing(self) -> Routing:
        """The catalog in force with what is remembered of it; a request takes it once and keeps it."""
        snapshot = self.catalog.current
        if self._routing is None or self._routing.snapshot is not snapshot:
            self._routing = Routing(snapshot, Planner(snapshot), Parameters(snapshot.presets))
            self.decisions.begin(snapshot, self.catalog.text)
        return self._routing
