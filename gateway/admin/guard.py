"""The door of every admin route: identifies, authorises, reads, and answers whatever goes wrong in OpenAI's way.

Nothing is decided by the URL's text: each route object carries its operations, each operation its permission, and a
route without operations refuses everybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.admin.desk import Desk
from gateway.admin.operation import Call, Operation, Reply, read, read_query
from gateway.api.http import CallerLeft, Receive, Scope, Send, id_headers, written
from gateway.api.inbound import Bridged, reply_error
from gateway.callers.callers import credential
from gateway.callers.records import STORE_AWAY, Unsealed, store_away
from gateway.errors import CallerError, CatalogError, GatewayError, Kind, bad_request
from gateway.log import get_logger

_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]*")
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]

_log = get_logger("admin")


class Guarded:
    """The operations of one path as an ASGI application."""

    def __init__(self, operations: Mapping[str, Operation[Any, Any]]) -> None:
        """`operations` by method."""
        self._operations = operations
        self._able = ", ".join(operations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk: Desk = scope["app"].state.desk
        inbound, request_id = Bridged(scope, receive, send), desk.new_request_id()
        try:
            answer = await self._serve(desk, scope, inbound, request_id)
            first = answer.body if isinstance(answer.body, bytes) else await anext(answer.body)
        except CallerLeft:
            return
        except Exception as error:
            refusal = _as_gateway_error(error, request_id)
            able = [(b"allow", self._able.encode())] if refusal.kind is Kind.METHOD_NOT_ALLOWED else []
            await reply_error(inbound, refusal, request_id, [*_HEADERS, *able])
            return
        lines = [(b"content-type", answer.media_type), *_HEADERS, *id_headers(request_id), *answer.headers]
        inbound.reply(answer.status, written(lines))
        if isinstance(answer.body, bytes):
            await inbound.write(first)
            return
        await inbound.write(first, more=True)
        async for piece in answer.body:
            await inbound.write(piece, more=True)
        await inbound.write(b"")

    async def _serve(self, desk: Desk, scope: Scope, inbound: Bridged, request_id: str) -> Reply:
        hosts = [value for name, value in inbound.head.lines if name == b"host"]
        if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
            raise bad_request("The Host header is not a host name.", "Host")
        caller = await desk.callers.identify(credential(inbound.head.lines), inbound.client)
        operation = self._operations.get(scope["method"])
        if operation is None:
            raise self._nothing_here(scope["method"])
        caller.require(operation.permission)
        text = await inbound.body(operation.largest_body)
        call = Call(
            desk=desk,
            caller=caller,
            body=read(operation.body, text or b"{}"),
            query=read_query(operation.query, _parameters(scope["query_string"])),
            path=scope.get("path_params", {}),
            request_id=request_id,
            ip=inbound.client or "",
        )
        return await operation.handle(call)

    def _nothing_here(self, method: str) -> CallerError:
        if not self._operations:
            return CallerError(Kind.NOT_FOUND, "There is nothing at this path; see /admin/api/openapi.json.")
        return CallerError(Kind.METHOD_NOT_ALLOWED, f"This path takes {self._able}, not {method[:16]}.")


def _parameters(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise bad_request("The query string is not percent-encoded UTF-8, or has over 50 parameters.") from None


def _as_gateway_error(error: Exception, request_id: str) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, CatalogError):
        return bad_request(str(error), code="catalog_invalid")
    if isinstance(error, STORE_AWAY):
        _log.warning("admin_store_away", request_id=request_id, error=type(error).__name__)
        return store_away()
    if isinstance(error, Unsealed):
        _log.error("key_record_unsealed", request_id=request_id)
        return GatewayError(
            Kind.INTERNAL, "A key record in the store was changed by another hand than the gateway's.", retryable=False
        )
    _log.error("admin_request_failed", request_id=request_id, exc_info=error)
    return GatewayError(Kind.INTERNAL, "The gateway failed while serving this request.")
