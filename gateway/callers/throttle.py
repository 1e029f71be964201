"""A brake on guessing: how often one client may present a key that turns out to be unknown.

Nobody guesses 256 bits; what is saved is the store's time. Behind a load balancer all callers are one client here, so
the limits leave room for the mistakes of many.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable


class Throttle:
    """A bucket of tries for each client address (an IPv6 client is its /64), in bounded memory."""

    def __init__(
        self, monotonic: Callable[[], float], *, burst: int = 100, per_s: float = 20.0, clients: int = 10_000
    ) -> None:
        self._monotonic = monotonic
        self._burst = burst
        self._per_s = per_s
        self._clients = clients
        self._full_at: dict[str, float] = {}
        """When each client's bucket will be full again; a bucket that is full needs no place here."""

    def wait_s(self, client: str | None) -> float:
        """Seconds until this client has a try left; 0 where it has one now."""
        full_at = self._full_at.get(_network(client), 0.0)
        return max(0.0, full_at - self._monotonic() - (self._burst - 1) / self._per_s)

    def failed(self, client: str | None) -> None:
        """Takes a try from this client's bucket."""
        now, name = self._monotonic(), _network(client)
        full_at = max(now, self._full_at.pop(name, now)) + 1 / self._per_s
        if len(self._full_at) >= self._clients:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[name] = full_at


def _network(client: str | None) -> str:
    if client is None or ":" not in client:
        return client or ""
    try:
        return str(ipaddress.ip_network((client.partition("%")[0], 64), strict=False))
    except ValueError:
        return ""
