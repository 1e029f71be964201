"""The ledger's face to the request path: begin or reserve, then settle or void, each attempt exactly once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.attempt import Attempt
from gateway.ledger.limits import Budget, Headroom, Limits
from gateway.storage.client import Store
from gateway.types import Settlement, Usage, UsageSource


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget passed a threshold of its period (told once per period), or an entry was set aside as contradictory."""

    tenant: str
    kind: str
    """`budget` or `conflict` or `quarantine`."""
    subject: str
    """The budget's counter (`b:<id>:<period>`), or the attempt."""
    percent: int = 0
    spent_nano: int = 0
    limit_nano: int = 0


class Ledger:
    """Keeps the money of one process."""

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        on_alert: Callable[[Alert], None] | None = None,
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Opens the write-ahead log, recovers those of dead processes, starts the background work."""
        raise NotImplementedError

    async def close(self) -> None:
        """Flushes everything, for at most 5 s; what could not be flushed is recovered at the next start."""
        raise NotImplementedError

    def begin(self, attempt: Attempt) -> None:
        """Books that an attempt of an unlimited caller is about to be sent. Call it just before sending.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, the write-ahead log cannot take it.
        """
        raise NotImplementedError

    async def reserve(self, attempt: Attempt, limits: Limits) -> Headroom:
        """Holds the attempt's worst case against all limits, then books that it is about to be sent.

        Raises:
            CallerError: BUDGET_SPENT (details: budget, window, resets_at) or RATE_LIMIT (retry_after_s).
            GatewayUnavailable: LEDGER_DOWN.
        """
        raise NotImplementedError

    def progress(self, attempt: Attempt, output_tokens: int) -> None:
        """Notes the output so far, for the estimate should this process die; at most one note per 30 s is kept."""
        raise NotImplementedError

    def settle(
        self,
        attempt: Attempt,
        *,
        usage: Usage,
        usage_source: UsageSource,
        settlement: Settlement,
        latency_ms: int,
        ttft_ms: int | None,
        service_tier: str | None = None,
        status: int = 200,
    ) -> int:
        """Books how the attempt ended; gives its cost in nano-USD. A second call changes nothing and gives 0."""
        raise NotImplementedError

    def void(
        self, attempt: Attempt, reason: Settlement = "void", *, status: int | None = None, latency_ms: int | None = None
    ) -> None:
        """Books that the attempt was provably not billed. Does nothing if it has ended already."""
        raise NotImplementedError

    async def spent(self, tenant: str, budget: Budget) -> tuple[int, int]:
        """What is posted and what is held in the budget's current period, in nano-USD."""
        raise NotImplementedError

    @property
    def lag(self) -> dict[str, int | float | bool]:
        """For health: entries not yet in the store, the oldest one's age in seconds, whether the store answers."""
        raise NotImplementedError
