"""Past decisions for the admin API: one of them explained, or all of them as lines."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import msgspec

from gateway.admin.desk import Facts
from gateway.callers.caller import Caller
from gateway.catalog.past import PastCatalogs
from gateway.catalog.simulate import FORMAT, NOW, Header
from gateway.gateway import Gateway
from gateway.routing.circumstances import circumstances, read, vanished
from gateway.routing.retrace import retrace

_BATCH_BYTES = 64 * 1024


class PastDecisions:
    """What the gateway's store tells of earlier plans. The methods may raise `redis.exceptions.RedisError`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        document = gateway.decisions.document
        self._catalogs = PastCatalogs(document, lambda: gateway.catalog.current, os.environ, gateway.clock)

    async def explain(self, request_id: str, caller: Caller) -> Facts | None:
        """How a request of the caller's tenant was routed, made again where its catalog is still kept."""
        decisions = self._gateway.decisions
        record = await decisions.find(request_id, caller.tenant)
        if record is None:
            return None
        unavailable = await decisions.unavailable(record.circumstances)
        gone = None if unavailable is None else vanished(unavailable)
        return retrace(request_id, record, await self._catalogs.find(record.catalog, gone), unavailable)

    async def lines(self, since: float, caller: Caller) -> AsyncIterator[bytes]:
        """The header and a line for each decision of the caller's tenant since then, in pieces."""
        gateway, snapshot = self._gateway, self._gateway.catalog.current
        known = dict(await gateway.decisions.all_circumstances())
        known[NOW] = dict(read(circumstances(snapshot)[1]))
        piece = bytearray(msgspec.json.encode(Header(FORMAT, snapshot.version, known)) + b"\n")
        async for request_id, record in gateway.decisions.since(since, gateway.clock(), caller.tenant):
            piece += b'{"id":"%b","record":%b}\n' % (request_id.encode(), record)
            if len(piece) > _BATCH_BYTES:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece)
