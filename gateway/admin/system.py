"""Health, catalog reload, explanations, audit: the operations that other parts of the gateway answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field

from gateway.admin.bodies import Input, Nothing
from gateway.admin.noted import noted
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.errors import CallerError, Kind

_SECONDS = {"m": 60, "h": 3600, "d": 86_400}

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ExplainPast(Query):
    """Which request to explain."""

    request_id: RequestId


class ExplainNow(Input):
    """A request to plan without sending it."""

    request: dict[str, Any] = Field(description="A chat-completions body.")


class DecisionsQuery(Query):
    """Which decisions."""

    last: str = Field("24h", pattern=r"^[1-9][0-9]{0,5}[mhd]$", description="How far back: 90m, 24h, 7d.")


class AuditQuery(Query):
    """How many entries."""

    limit: int = Field(100, ge=1, le=1000)


async def health(call: Call[Nothing, Query]) -> Reply:
    return reply(await call.desk.health())


async def reload_catalog(call: Call[Nothing, Query]) -> Reply:
    async with noted(call, "catalog.reload", "catalog"):
        return reply(await call.desk.reload_catalog())


async def explain_past(call: Call[Nothing, ExplainPast]) -> Reply:
    decision = await call.desk.explain_past(call.query.request_id, call.caller)
    if decision is None:
        raise CallerError(Kind.NOT_FOUND, "No decision is kept for this request id.")
    return reply(decision)


async def list_decisions(call: Call[Nothing, DecisionsQuery]) -> Reply:
    """Decisions as lines of JSON, streamed; the first says what they were made under."""
    amount, unit = int(call.query.last[:-1]), call.query.last[-1]
    since = call.desk.clock() - amount * _SECONDS[unit]
    return Reply(call.desk.decisions(since, call.caller), media_type=b"application/x-ndjson")


async def explain_now(call: Call[ExplainNow, Query]) -> Reply:
    return reply(await call.desk.explain(msgspec.json.encode(call.body.request), call.caller))


async def list_audit(call: Call[Nothing, AuditQuery]) -> Reply:
    return reply({"data": await call.desk.audit.entries(call.caller.tenant, call.query.limit)})


async def verify_audit(call: Call[Nothing, Query]) -> Reply:
    return reply(msgspec.structs.asdict(await call.desk.audit.verify()))
