"""What requests and replies have in common, whichever way they come and go (see `inbound.py`): an ASGI request's body
read within bounds, a reply's header lines, and how errors are told.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from gateway.errors import CallerError, GatewayError, Kind

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderLines = list[tuple[bytes, bytes]]

JSON_LINES = b"content-type: application/json\r\n"
EVENT_STREAM_LINES = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)


_DISCARDED_LIMITS = 4
"""A body that is too large is read to its end up to so many times the limit; beyond, the connection just closes."""


class CallerLeft(Exception):
    """The caller closed the connection before its request was whole."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The request body.

    Raises:
        CallerError: TOO_LARGE beyond `limit` bytes, UNSUPPORTED_MEDIA for a compressed body.
        CallerLeft: the caller went away while sending.
    """
    encoding = headers.get(b"content-encoding")
    if encoding and encoding.lower() != b"identity":
        raise CallerError(
            Kind.UNSUPPORTED_MEDIA, "Compressed request bodies are not accepted; send the JSON uncompressed."
        )
    size = int(headers.get(b"content-length", b"0"))  # the server has refused what is no number
    if size > limit:
        if size <= limit * _DISCARDED_LIMITS and b"expect" not in headers:
            await _discard(receive, size)
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeft
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            parts.clear()
            if message.get("more_body"):
                await _discard(receive, limit * _DISCARDED_LIMITS - size)
            raise _too_large(limit)
    return b"".join(parts)


async def _discard(receive: Receive, most: int) -> None:
    """Reads on, so that a caller who is still sending gets to see the answer instead of a broken connection."""
    while most >= 0:
        message = await receive()
        if not message.get("more_body"):
            return
        most -= len(message.get("body", b""))


def _too_large(limit: int) -> CallerError:
    return CallerError(Kind.TOO_LARGE, f"The request body is larger than the gateway's limit of {limit:,} bytes.")


def written(headers: HeaderLines) -> bytes:
    """Headers as they stand in a head, a line each.

    Raises:
        ValueError: one of them has a line break in it.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not lines.count(b"\n") == lines.count(b"\r") == len(headers):
        raise ValueError("a header of the reply has a line break in it")
    return lines


def error_headers(error: GatewayError, request_id: str) -> HeaderLines:
    """The headers by which OpenAI's SDKs decide whether to try again, and when."""
    lines = id_headers(request_id)
    if error.retry_after_s is not None:
        lines.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
        lines.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after_s * 1000)))
    if error.retryable is not None:
        lines.append((b"x-should-retry", b"true" if error.retryable else b"false"))
    if error.kind is Kind.UNAUTHENTICATED:
        lines.append((b"www-authenticate", b"Bearer"))
    if error.kind is Kind.TOO_LARGE:
        lines.append((b"connection", b"close"))  # the rest of the body is not read
    return lines


def id_headers(request_id: str) -> HeaderLines:
    """The request id under both of its names."""
    encoded = request_id.encode()
    return [(b"x-request-id", encoded), (b"x-gateway-request-id", encoded)]


def error_frame(error: GatewayError, request_id: str) -> bytes:
    """The last event of a stream that failed after its first byte; no `[DONE]` follows it."""
    return b"data: " + msgspec.json.encode(error.envelope(request_id)) + b"\n\n"
