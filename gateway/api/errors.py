"""How errors of the Starlette routes are answered: always OpenAI's error object, always with our request id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.http import error_headers
from gateway.errors import CallerError, GatewayError, Kind
from gateway.ledger.attempt import new_request_id
from gateway.log import get_logger

log = get_logger("api")
Handler = Callable[[Request, Exception], Awaitable[Response]]
_VERSION = "v1"


def handlers(clock: Callable[[], float], ids: Random) -> Mapping[Any, Handler]:
    """Starlette's table of exception handlers. `clock` and `ids` make the request ids."""

    def respond(error: GatewayError) -> Response:
        request_id = new_request_id(clock(), ids)
        body = msgspec.json.encode(error.envelope(request_id))
        response = Response(body, status_code=error.status, media_type="application/json")
        response.raw_headers.extend(error_headers(error, request_id))
        return response

    async def gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return respond(error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED}.get(error.status_code, Kind.BAD_REQUEST)
        place = f"{request.method} {request.url.path[:200]}"
        if kind is Kind.NOT_FOUND:
            message = f"Unknown request URL: {place}.{_hint(request)}"
        else:
            able = (error.headers or {}).get("Allow")
            message = f"Not allowed: {place}." + (f" This path takes {able}." if able else "")
        response = respond(CallerError(kind, message))
        if error.headers:
            response.headers.update(error.headers)
        return response

    async def internal_error(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return respond(GatewayError(Kind.INTERNAL, "The gateway failed while serving this request."))

    return {GatewayError: gateway_error, HTTPException: http_error, Exception: internal_error}


def _hint(request: Request) -> str:
    """What else the caller may have meant by a path that is none of ours."""
    parts = [part for part in request.url.path.lower().split("/") if part]
    versioned = parts[:1] == [_VERSION]
    while parts[:1] == [_VERSION]:
        del parts[0]
    known = {getattr(route, "path", None) for route in request.app.routes}
    for path in ("/".join(("", _VERSION, *parts)), "/".join(("", *parts))):
        if path in known:
            base = f" The base URL ends in /{_VERSION}." if path.startswith(f"/{_VERSION}/") else ""
            return f" Did you mean {path}?{base}"
    return " Of OpenAI's API there are chat completions and models here." if versioned else ""
