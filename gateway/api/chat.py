"""POST /v1/chat/completions: the life of a request, top to bottom."""

from __future__ import annotations

import asyncio

from gateway.api.decide import decide, remember_session
from gateway.api.exchange import Exchange
from gateway.api.http import (
    EVENT_STREAM_LINES,
    JSON_LINES,
    CallerLeft,
    HeaderLines,
    Receive,
    Scope,
    Send,
    error_frame,
    written,
)
from gateway.api.inbound import Bridged, Inbound, reply_error
from gateway.api.recall import asked, at_hand, recall
from gateway.api.replies import limit_lines, provider_lines, with_cost
from gateway.callers.caller import Caller
from gateway.callers.callers import credential
from gateway.callers.idempotency import Answer
from gateway.callers.roles import Permission
from gateway.chat import parse_chat
from gateway.errors import GatewayError, GatewayUnavailable, Kind, UpstreamError
from gateway.gateway import Gateway
from gateway.ledger.attempt import new_request_id
from gateway.log import get_logger
from gateway.money import usd
from gateway.routing.explain import explain_header
from gateway.routing.options import parse_options
from gateway.upstream.attempts import first_to_answer
from gateway.upstream.call import Call

log = get_logger("chat")

_INFER = Permission.INFER  # by a name of the module: to ask an enumeration for a member takes ten times as long


class ChatCompletions:
    """The endpoint as an ASGI application: it costs a third of what Starlette's Request and Response would."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await serve_chat(scope["app"].state.gateway, Bridged(scope, receive, send))


async def serve_chat(gateway: Gateway, inbound: Inbound) -> None:
    """Answers one request; every error, too."""
    at = gateway.clock()
    exchange = Exchange(gateway, at, new_request_id(at, gateway.ids), inbound)
    gateway.inflight += 1
    status, failure = 200, None
    try:
        await _serve(exchange, inbound)
    except GatewayError as error:
        status, failure = error.status, error
        if not exchange.caller_left:
            await reply_error(inbound, error, exchange.request_id, _explanation(exchange))
    except (CallerLeft, asyncio.CancelledError) as gone:
        status, failure = 499, None
        if not isinstance(gone, CallerLeft) and not exchange.caller_left:
            failure = GatewayUnavailable(Kind.DRAINING, "The gateway is shutting down; send the request again.")
            status = failure.status
            await reply_error(inbound, failure, exchange.request_id)
    except Exception as error:
        failure = GatewayError(Kind.INTERNAL, "The gateway failed while serving this request.")
        status = failure.status
        log.error("request_failed", request_id=exchange.request_id, exc_info=error)
        await reply_error(inbound, failure, exchange.request_id)
    finally:
        gateway.inflight -= 1
        exchange.record(status, failure)


async def _serve(exchange: Exchange, inbound: Inbound) -> None:
    gateway, head = exchange.gateway, inbound.head
    if gateway.inflight > gateway.max_inflight:
        raise GatewayUnavailable(Kind.SHED, "The gateway is at its limit; try again shortly.", retry_after_s=1)
    caller = None if head.who is None else gateway.callers.cached(head.who)
    if caller is None:
        caller = await gateway.callers.identify(credential(head.lines), inbound.client)
    exchange.caller = caller
    caller.require(_INFER)
    if gateway.inflight > gateway.room[caller.criticality]:
        raise GatewayUnavailable(Kind.SHED, "The gateway is nearly at its limit; try again shortly.", retry_after_s=1)
    fields = head.fields
    if (retries := fields.get(b"x-stainless-retry-count")) is not None:
        exchange.sdk_retry = _count(retries)
    body = inbound.content
    if body is None:
        body = await inbound.body(gateway.max_body_bytes)
    if b"idempotency-key" in fields:
        answer = await _complete_once(exchange, caller, inbound, body)
    else:
        answer = await _complete(exchange, caller, inbound, body)
    if answer is not None:
        inbound.reply(answer.status, JSON_LINES + answer.lines)
        if (waiting := inbound.write(answer.body)) is not None:
            await waiting
    if exchange.planned is not None and exchange.planned.plan.arms:
        gateway.shadows.follow(exchange, exchange.planned)


async def _complete_once(
    exchange: Exchange,
    caller: Caller,
    inbound: Inbound,
    body: bytes,
) -> Answer | None:
    """Serves a request with an Idempotency-Key: a repeat gets the first one's answer and costs nothing.

    An answer is kept before it is sent, so that a caller whose connection breaks just then finds it when it asks again.
    """
    authorization, key = credential(inbound.head.lines) or b"", inbound.head.fields[b"idempotency-key"]
    claim = await exchange.gateway.idempotency.claim(caller, authorization, key, b"/v1/chat/completions", body)
    if isinstance(claim, Answer):
        return Answer(claim.status, b"x-gateway-idempotent-replay: true\r\n" + claim.lines, claim.body)
    try:
        kept = await _complete(exchange, caller, inbound, body)
    except BaseException:
        await asyncio.shield(claim.release())
        raise
    await asyncio.shield(claim.keep_nothing() if kept is None else claim.keep(kept))
    return kept


async def _complete(
    exchange: Exchange,
    caller: Caller,
    inbound: Inbound,
    body: bytes,
) -> Answer | None:
    """Asks the planned candidates and relays a stream; an answer that came whole is given back, to be sent."""
    exchange.chat = chat = parse_chat(body)
    options = parse_options(chat.head.gateway, inbound.head.options)
    if options.deadline_s is not None:
        exchange.deadline = exchange.started + options.deadline_s
    request = asked(exchange.gateway, caller, chat, options)
    recalled = at_hand(exchange.gateway, request) or await recall(exchange.gateway, request)
    exchange.planned = planned = decide(
        exchange.gateway, request, exchange.at, recalled, request_id=exchange.request_id
    )
    exchange.watch_caller(inbound, planned.target.tier.on_caller_left)
    call = await first_to_answer(exchange, planned)
    try:
        if planned.session is not None:
            remember_session(exchange.gateway, planned, planned.session, call.candidate.deployment)
        if call.stream is None:
            return whole(exchange, call)
        await relay(exchange, call, inbound)
        return None
    except BaseException as error:
        call.fail(error)
        raise


def _count(retries: bytes) -> int:
    """How often an SDK of Stainless's making has tried before; 0 where the header is none of theirs.

    Source: https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py (read 2026-11-21).
    """
    return int(retries) if len(retries) <= 3 and retries.isdigit() else 0


def whole(exchange: Exchange, call: Call) -> Answer:
    """A buffered answer, booked before it is sent, so that whoever sees it is in the books."""
    assert call.completion is not None
    cost = call.complete()
    lines = b"%bx-gateway-cost-usd: %b\r\n" % (_lines(exchange, call), usd(cost).encode())
    return Answer(200, lines, call.completion.body)


async def relay(exchange: Exchange, call: Call, inbound: Inbound) -> None:
    """A stream, event by event as it comes. The end goes out after the attempt is booked; a failure ends it instead."""
    stream, response = call.stream, call.response
    assert stream is not None
    assert response is not None
    inbound.reply(200, EVENT_STREAM_LINES + _lines(exchange, call))
    out, call.first = call.first, b""
    try:
        if not stream.finished:
            waiting, out = inbound.write(out, more=True), b""  # not to be written again, nor held, while it waits
            if waiting is not None:
                await waiting
            due_at = 0.0
            async for data in response.chunks():
                out = stream.feed(data)
                data = b""  # not to be held while the caller reads
                if stream.finished or stream.failure is not None:
                    break
                if exchange.caller_left:
                    exchange.count_drained(stream.output_bytes)
                if out:
                    waiting, out = inbound.write(out, more=True), b""
                    if waiting is not None:
                        await waiting
                    due_at = 0.0
                else:
                    due_at = call.due_at(due_at)
        last = call.end_of_stream()
        cost = call.complete()
        if exchange.planned is not None and exchange.planned.options.show_cost:
            last = with_cost(last, cost)
    except UpstreamError as error:
        call.fail(error)
        exchange.failures.append((call.candidate, error))
        last = error_frame(error, exchange.request_id)
    except asyncio.CancelledError as error:
        call.fail(error)
        if exchange.caller_left:
            raise
        stopping = GatewayUnavailable(Kind.DRAINING, "The gateway is shutting down.")
        last = error_frame(stopping, exchange.request_id)
    except Exception as error:
        call.fail(error)
        log.error("relay_failed", request_id=exchange.request_id, exc_info=error)
        last = error_frame(GatewayError(Kind.INTERNAL, "The gateway failed amid the answer."), exchange.request_id)
    if (waiting := inbound.write(out + last)) is not None:
        await waiting


def _lines(exchange: Exchange, call: Call) -> bytes:
    """The header lines of a good answer, beside those that depend on its form."""
    response = call.response
    assert response is not None
    lines = exchange.lines() + provider_lines(response.head, limits=call.headroom is None)
    if call.headroom is not None:
        freed_nano = 0 if call.stream is not None else call.headroom.hold_nano - call.cost_nano
        lines += limit_lines(call.headroom, freed_nano)
    elif call.share is not None:
        lines += b"x-gateway-limits-mode: %b\r\n" % (b"exact" if call.share.counted else b"allow")
    return (
        lines
        if exchange.planned is None or not exchange.planned.options.explain
        else lines + written(_explanation(exchange))
    )


def _explanation(exchange: Exchange) -> HeaderLines:
    planned = exchange.planned
    if planned is None or not planned.options.explain:
        return []
    return [(b"x-gateway-explain", explain_header(planned.plan))]
