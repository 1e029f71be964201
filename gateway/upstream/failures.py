"""What an exchange's failures are to the gateway: one table for our engine and for any other httpx transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from gateway.errors import Kind, UpstreamError
from gateway.upstream.engine import EngineError, errors


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exchange's failure is to the gateway."""

    kind: Kind
    message: str
    unsent: bool = False
    """Whether it can only happen before a byte of the request was written."""


_UNREACHABLE = Failure(Kind.UNREACHABLE, "The provider could not be reached.", unsent=True)
_CONNECT_TIMEOUT = Failure(Kind.UNREACHABLE, "The provider did not accept a connection in time.", unsent=True)
_POOL = Failure(Kind.CROWDED, "All connections that the gateway may have to the provider stayed busy.", unsent=True)
_TLS = Failure(Kind.UNREACHABLE, "No trusted connection to the provider could be made.", unsent=True)
_WRITE = Failure(Kind.BROKEN, "The request could not be sent to the provider whole.")
_FIRST_BYTE = Failure(Kind.TIMED_OUT, "The provider did not begin its answer in time.")
_IDLE = Failure(Kind.TIMED_OUT, "The provider's answer stopped coming.")
_TOTAL = Failure(Kind.TIMED_OUT, "The provider's answer took too long.")
_CUT = Failure(Kind.BROKEN, "The provider's answer was cut short.")
_GARBLED = Failure(Kind.BROKEN, "The provider's answer is not valid HTTP.")
_TOO_LARGE = Failure(Kind.BROKEN, "The provider's answer is larger than the gateway reads.")
_HUNG_UP = Failure(Kind.BROKEN, "The provider closed the connection without an answer.")

FAILURES: Mapping[type[Exception], Failure] = {
    errors.PoolTimeout: _POOL,
    errors.ConnectFailed: _UNREACHABLE,
    errors.ConnectTimeout: _CONNECT_TIMEOUT,
    errors.TlsFailed: _TLS,
    errors.WriteFailed: _WRITE,
    errors.FirstByteTimeout: _FIRST_BYTE,
    errors.IdleTimeout: _IDLE,
    errors.TotalTimeout: _TOTAL,
    errors.Truncated: _CUT,
    errors.ProtocolError: _GARBLED,
    errors.TooLarge: _TOO_LARGE,
    errors.Disconnected: _HUNG_UP,
    httpx.PoolTimeout: _POOL,
    httpx.ConnectError: _UNREACHABLE,
    httpx.ConnectTimeout: _CONNECT_TIMEOUT,
    httpx.ProxyError: _UNREACHABLE,
    httpx.UnsupportedProtocol: _UNREACHABLE,
    httpx.LocalProtocolError: _UNREACHABLE,
    httpx.WriteError: _WRITE,
    httpx.WriteTimeout: Failure(Kind.TIMED_OUT, "The provider stopped reading the request."),
    httpx.ReadTimeout: _IDLE,
    httpx.ReadError: _CUT,
    httpx.CloseError: _CUT,
    httpx.RemoteProtocolError: _GARBLED,
    TimeoutError: _TOTAL,
}
"""By exact type, our engine's failures and those of any other httpx transport."""


def is_unsent(error: BaseException) -> bool:
    """Whether what ended an exchange from outside ended it before a byte of the request was written, provably."""
    return isinstance(error.__cause__, EngineError) and not error.__cause__.sent


def upstream_error(error: Exception) -> UpstreamError:
    """The gateway's error for a transport's: unbilled only where provably no byte of the request was written."""
    failure = FAILURES[type(error)]
    sent = error.sent if isinstance(error, EngineError) else not failure.unsent
    return UpstreamError(failure.kind, failure.message, billed=sent)
