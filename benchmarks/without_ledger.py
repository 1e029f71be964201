"""`tiergate` whose ledger keeps no books: what accounting costs is the difference. For measurements alone."""

from __future__ import annotations

from typing import Any

import gateway.app
from gateway.cli.__main__ import main
from gateway.ledger.attempt import Attempt
from gateway.ledger.ledger import Ledger
from gateway.ledger.limits import Headroom, Limits, Terms


class NoBooks(Ledger):
    """Lets everything pass and writes nothing down."""

    def begin(self, attempt: Attempt) -> None:
        """Nothing."""
        attempt.state = "sent"

    async def reserve(self, attempt: Attempt, limits: Limits) -> Headroom:
        """Nothing is held."""
        attempt.state = "sent"
        return Headroom(Terms())

    def settle(self, attempt: Attempt, **_: Any) -> int:  # type: ignore[override]
        """Nothing is booked."""
        attempt.state = "ended"
        return 0

    def void(self, attempt: Attempt, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Nothing is booked."""
        attempt.state = "ended"


if __name__ == "__main__":
    gateway.app.Ledger = NoBooks  # type: ignore[misc]
    main()
