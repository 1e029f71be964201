"""The engine's bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of memory, sockets and time that hold whatever a provider sends."""

    connections_per_origin: int = 512
    keepalive_s: float = 30.0
    """How long an idle connection is kept for reuse."""
    header_bytes: int = 64 * 1024
    """Most bytes of response heads in one exchange, informational ones included."""
    body_bytes: int = 32 * 1024 * 1024
    """Most bytes of a body that is read whole, and most bytes that a compressed body may grow to."""
    read_bytes: int = 18 * 1024
    """Most bytes of one read of an answer that is relayed, while its reader waits for more: a stream of fifty events
    that come at once is one read."""
    ahead_bytes: int = 4 * 1024
    """Most bytes of one read while it does not: what a slow reader costs is the sum of these and `buffer_bytes`."""
    buffer_bytes: int = 4 * 1024
    """Unread bytes of a body at which the engine stops reading from the socket until its reader catches up."""
    drain_bytes: int = 64 * 1024
    """Most bytes of an abandoned body that are read to save its connection."""
    drain_s: float = 1.0
    dns_s: float = 60.0
    """How long resolved addresses are used before they are looked up again."""
    stagger_s: float = 0.25
    """Head start of each address before the next one is tried beside it (RFC 8305, section 5)."""
