"""The attempts of this process that have not ended."""

from __future__ import annotations

from gateway.ledger.attempt import Attempt


class Underway:
    """What the background work must look after."""

    def __init__(self) -> None:
        self.young: dict[str, Attempt] = {}
        """Attempts the store does not know of, by attempt id, oldest first."""
        self.registered: dict[str, Attempt] = {}
        """Attempts the store knows of, by attempt id; their leases must be renewed."""
