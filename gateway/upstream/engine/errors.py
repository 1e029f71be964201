"""How an exchange can fail: one class per phase, and whether the provider can have seen anything of it."""

from __future__ import annotations

from gateway.errors import TiergateError


class EngineError(TiergateError):
    """An exchange failed. Messages name hosts and sizes, never headers or bodies.

    `sent` is False where provably no byte of the request was written: nothing can have been processed or billed.
    """

    sent: bool

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class _NotSent(EngineError):
    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class PoolTimeout(_NotSent):
    """All connections to the origin stayed busy for `pool_s`."""


class ConnectFailed(_NotSent):
    """Name not resolved, address not permitted, connection refused, or engine closed."""


class ConnectTimeout(_NotSent):
    """No connection within `connect_s`, TLS included."""


class TlsFailed(_NotSent):
    """The peer's certificate was not accepted, ours was not, or the peer does not speak TLS."""


class WriteFailed(EngineError):
    """The request could not be written whole: its body's source failed, or the peer stopped reading it."""


class FirstByteTimeout(EngineError):
    """The final response head did not arrive within `first_byte_s`."""


class IdleTimeout(EngineError):
    """The response body stood still for `idle_s` while the reader was waiting for it."""


class TotalTimeout(EngineError):
    """The exchange took longer than `total_s`."""


class Truncated(EngineError):
    """The connection ended within the response."""


class ProtocolError(EngineError):
    """The peer sent what is not HTTP/1.x, or what two readers could understand differently."""


class TooLarge(EngineError):
    """The response's head or body exceeds its cap."""


class Disconnected(EngineError):
    """The connection ended before any byte of the response, or was given up by its reader.

    `unacknowledged` is how many of the bytes written last had not reached the peer when it ended a pooled connection: a
    request that is among them whole was not seen, and may be sent again. 0 where that is not known.
    """

    def __init__(self, message: str, *, sent: bool = True, unacknowledged: int = 0) -> None:
        super().__init__(message, sent=sent)
        self.unacknowledged = unacknowledged
