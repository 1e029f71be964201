"""One attempt while it runs: the breaker's permit, the ledger's attempt and the provider's response in one hand.

However it ends (answer, failure, departed caller, deadline), it is concluded exactly once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec

from adapters import ADAPTERS
from adapters.base import Adapter, ChatStream, Completion, Stamp
from adapters.events import output_bytes_of, with_usage
from gateway.api.decide import Planned
from gateway.api.exchange import Exchange
from gateway.chat import Chat
from gateway.errors import GatewayError, Kind, NoRoom, RoutingError, UpstreamError
from gateway.ledger.account import account_of
from gateway.ledger.attempt import LEAST_OUTPUT_TOKENS, Attempt
from gateway.ledger.cost import affordable_output_tokens, estimate_tokens, estimate_usage, is_plausible
from gateway.ledger.limits import Headroom
from gateway.ledger.rates import Share
from gateway.log import get_logger
from gateway.money import usd
from gateway.routing.health import Permit
from gateway.telemetry.requests import AttemptRecord
from gateway.types import Candidate, Settlement, Timeouts, Usage, UsageSource
from gateway.upstream.client import UpstreamResponse, request_id
from gateway.upstream.failures import is_unsent

log = get_logger(__name__)

_ERROR_BODY_BYTES = 256 * 1024
_OF_PROXIES = frozenset({408, 502, 504, *range(520, 528)})
"""Statuses by which whoever stands before a provider says that it was not heard out. 52x are Cloudflare's.

Source: https://support.cloudflare.com/hc/en-us/articles/115003011431-5xx-Server-Error (read 2026-11-21).
"""
_LEAST_REST_S = 1.0
"""A deployment at its limit that has room again sooner is not kept out of plans: asking it tells."""
_LEAST_FOR_ITS_COST = 16
"""Fewest tokens that a request's own `max_cost_usd` must leave for the answer where the tier says nothing else."""
_LEAST_TEXT_BYTES = 256
"""Shorter prompts are mostly framing, and tell little of a tokenizer."""


class Call:
    """One attempt while it runs. `complete()` or `fail()` ends it; what comes second changes nothing."""

    __slots__ = (
        "_concluded",
        "_dispatched",
        "_estimated",
        "_inner_events",
        "attempt",
        "candidate",
        "completion",
        "cost_nano",
        "exchange",
        "first",
        "headroom",
        "permit",
        "planned",
        "response",
        "share",
        "started",
        "stream",
        "tokens",
        "ttft_ms",
    )

    def __init__(
        self, exchange: Exchange, planned: Planned, candidate: Candidate, permit: Permit, *, number: int | None = None
    ) -> None:
        """`number` tells it from the request's other attempts; left out, it is the next."""
        gateway, caller, plan, needs = exchange.gateway, planned.caller, planned.plan, planned.needs
        deployment = candidate.deployment
        self.exchange = exchange
        self.planned = planned
        self.candidate = candidate
        self.permit = permit
        self.started = gateway.monotonic()
        self.response: UpstreamResponse | None = None
        self.completion: Completion | None = None
        self.stream: ChatStream | None = None
        self.headroom: Headroom | None = None
        self.share: Share | None = None
        """What it takes of its deployment's rates, where those are limited."""
        self.first = b""
        """What a stream's first event gave for the caller."""
        self.ttft_ms: int | None = None
        self.cost_nano = 0
        self.tokens = 0, 0
        """All input and all output, as booked."""
        self._concluded = False
        self._estimated = False
        self._inner_events = 0
        self._dispatched = False
        """Whether the provider may have seen anything of the request."""
        tags = caller.tags
        if planned.options.tags:  # a name has one value, lest its sums count an attempt twice
            tags = tuple({**dict(tags), **dict(planned.options.tags)}.items())
        if plan.arms:
            tags = (*tags, *(arm.tag for arm in plan.arms))
        price = candidate.price
        account = account_of(
            caller.tenant,
            caller.key_id,
            caller.team,
            tags,
            plan.alias,
            plan.tier,
            deployment.model.name,
            deployment.provider.name,
            deployment.name,
            "" if price is None else price.price_id,
            planned.routing.snapshot.version,
        )
        self.attempt = Attempt(
            request_id=exchange.request_id,
            at=gateway.clock(),
            account=account,
            price=price,
            stream=planned.chat.stream,
            retry=len(exchange.attempts) if number is None else number,
            input_tokens=candidate.input_tokens,
            input_bound_tokens=needs.input_bound_tokens,
            output_tokens=needs.output_tokens,
            output_limit_tokens=deployment.model.output_tokens,
            least_output_tokens=planned.target.tier.min_output_tokens or LEAST_OUTPUT_TOKENS,
            choices=needs.choices,
            sdk_retry=exchange.sdk_retry,
        )

    async def open(self) -> None:
        """Sends the request and waits for a good answer: all of it, or the first event of its stream.

        Raises:
            UpstreamError: this candidate did not answer well.
            NoRoom: this candidate is at a limit of its own.
            GatewayError: the request cannot be sent to it at all, or a limit of the caller forbids it.
        """
        planned, deployment = self.planned, self.candidate.deployment
        gateway, chat, tier = self.exchange.gateway, planned.chat, planned.target.tier
        caller, options = planned.caller, planned.options
        rules = gateway.rules.known(caller.tenant) or await gateway.rules.of(caller.tenant)
        limits = rules.of_request(caller, planned.plan.tier, options.session, options.tags)
        asks = deployment, tier, options.preset, planned.plan.arms
        if self.attempt.output_tokens is None and (limits is not None or options.max_cost_nano is not None):
            self.attempt.output_tokens = planned.routing.parameters.output_cap(*asks)
        if options.max_cost_nano is not None:
            chat = self._within(chat, options.max_cost_nano)
        if deployment.rpm or deployment.tpm or deployment.concurrency:
            self.share = await gateway.rates.take(deployment, self.attempt.aid, self.attempt.expected_tokens)
        if limits is not None:
            self.headroom = await gateway.ledger.reserve(self.attempt, limits)
            if self.headroom.output_cap_tokens is not None:
                chat = chat.capped(self.headroom.output_cap_tokens)
        chat, self.exchange.warnings = planned.routing.parameters.apply(chat, *asks)
        adapter = ADAPTERS[deployment.provider.adapter]
        body = adapter.request(chat, deployment)
        endpoint = deployment.stream_endpoint if chat.stream else deployment.endpoint
        if endpoint is None:
            raise UpstreamError(Kind.OUR_KEY_REFUSED, f"{deployment.provider.name} has no usable credentials.")
        if limits is None:
            gateway.ledger.begin(self.attempt)
        timeouts = tier.timeouts or deployment.provider.timeouts
        if self.exchange.deadline is not None:
            timeouts = self._before(self.exchange.deadline, timeouts)
        extra = b"x-client-request-id: %b\r\n" % self.attempt.aid.encode()
        self._dispatched = True
        self.response = response = await gateway.upstream.send(endpoint, body, timeouts, extra)
        if response.status != 200:
            raise await _refusal(adapter, response)
        stamp = Stamp(self.exchange.request_id, self.exchange.at)
        if chat.stream:
            self.stream = adapter.stream(chat, stamp)
            self.attempt.meter = self._output_tokens
            await self._first_event(self.stream, response)
            self._first_byte()
        else:
            content = await response.read()
            self._first_byte()
            completion = adapter.completion(content, chat, stamp)
            if self._believed(completion.usage) is None:
                completion = self._counted(completion)
            self.completion = completion

    def _counted(self, completion: Completion) -> Completion:
        """The answer with a usage of ours, in its body too: the provider told none that can be."""
        usage = self._estimate(output_bytes_of(completion.body))
        return msgspec.structs.replace(completion, body=with_usage(completion.body, usage), usage=usage)

    def _within(self, chat: Chat, max_cost_nano: int) -> Chat:
        """The request with its answer capped to what is left of the caller's `max_cost_usd` at the worst.

        Raises:
            RoutingError: it does not cover the prompt and the beginning of an answer.
        """
        attempt, deployment = self.attempt, self.candidate.deployment
        if attempt.price is None:
            raise RoutingError(Kind.NO_CANDIDATE, f"{deployment.name} has no price, so max_cost_usd cannot hold it.")
        left = max_cost_nano - sum(earlier.cost_nano_usd for earlier in self.exchange.attempts)
        tokens = affordable_output_tokens(
            attempt.price, left, input_tokens=attempt.input_bound_tokens, choices=attempt.choices
        )
        least = self.planned.target.tier.min_output_tokens or _LEAST_FOR_ITS_COST
        wanted = least if attempt.output_tokens is None else attempt.output_tokens
        if tokens < min(wanted, least):
            raise RoutingError(
                Kind.NO_CANDIDATE,
                f"max_cost_usd leaves ${usd(max(0, left))}, which may not cover the prompt and an answer of "
                f"{deployment.name}.",
            )
        attempt.output_limit_tokens = min(tokens, attempt.output_limit_tokens or tokens)
        return chat.capped(attempt.output_limit_tokens)

    def _output_tokens(self) -> int:
        """The stream's output so far, for the estimate should this process die; asked for by the ledger's clock."""
        return 0 if self.stream is None else estimate_tokens(self.stream.output_bytes)

    async def _first_event(self, stream: ChatStream, response: UpstreamResponse) -> None:
        """Reads until the stream has begun well, so that one which fails at once can still be replaced."""
        first = []
        due_at = 0.0
        async for data in response.chunks():
            first.append(stream.feed(data))
            if stream.failure is not None:
                raise stream.failure
            if stream.started or stream.finished:
                break
            due_at = self.due_at(due_at)
        else:
            stream.end()
            raise stream.failure or UpstreamError(Kind.BROKEN, "The provider's stream is empty.", billed=True)
        self.first = b"".join(first)

    def due_at(self, due_at: float) -> float:
        """By when the stream must bring an event, asked after a read that gave nothing for the caller.

        `due_at` is what this said after the read before it, 0 where that gave something. Signs of life renew the
        engine's limit of silence but not this one; reads that bring events cost nothing here.

        Raises:
            UpstreamError: TIMED_OUT, that time is over.
        """
        stream = self.stream
        assert stream is not None
        if stream.inner_events != self._inner_events:
            self._inner_events = stream.inner_events
            due_at = 0.0
        now = self.exchange.gateway.monotonic()
        if not due_at:
            timeouts = self.planned.target.tier.timeouts or self.candidate.deployment.provider.timeouts
            begun = stream.started or stream.inner_events
            return now + (timeouts.progress_s if begun else timeouts.first_byte_s)
        if now >= due_at:
            raise UpstreamError(Kind.TIMED_OUT, "The provider sent signs of life, but no answer.", billed=True)
        return due_at

    def _before(self, deadline: float, timeouts: Timeouts) -> Timeouts:
        """
        Raises:
            RoutingError: the request's deadline has passed.
        """
        left = deadline - self.exchange.gateway.monotonic()
        if left <= 0:
            raise RoutingError(Kind.DEADLINE, "The request's deadline passed before a candidate could be asked.")
        return replace(timeouts, total_s=min(timeouts.total_s, left))

    def _first_byte(self) -> None:
        now = self.exchange.gateway.monotonic()
        self.ttft_ms = int((now - self.started) * 1000)
        self.exchange.ttft_ms = (now - self.exchange.started) * 1000

    # ------------------------------------------------------------------------------------------------ how it ends

    def end_of_stream(self) -> bytes:
        """The stream's last bytes for the caller, with our estimate where the provider told no usage.

        Raises:
            UpstreamError: the stream did not come to its proper end.
        """
        stream = self.stream
        assert stream is not None
        if stream.failure is None and self._believed(stream.usage) is None:
            stream.usage = self._estimate(stream.output_bytes)
        last = stream.end()
        if stream.failure is not None:
            raise stream.failure
        return last

    def complete(self) -> int:
        """The provider's answer came whole: the cost in nano-USD is booked and the deployment did well."""
        answer = self.completion or self.stream
        usage = answer.usage if answer else None
        try:
            cost = self._settle(usage, "complete", answer.service_tier if answer else None)
        finally:  # books that fail keep neither its place nor its connection
            self.permit.settle("success", slow=None if self.stream is None else self._slow())
            if self.response is not None:
                self.response.finish()
        self._observe(usage)
        return cost

    def fail(self, error: BaseException) -> None:
        """It ended badly, or its caller left: books what is known and judges the deployment."""
        if self._concluded:
            return
        if isinstance(error, NoRoom):  # it was none: nothing is to be told of it
            self._concluded = True
            self.permit.settle("neutral")
            if error.rest_s >= _LEAST_REST_S:
                self.exchange.gateway.breakers.rest(self.candidate.deployment.name, error.rest_s)
            return
        if self.response is not None:
            self.response.abort()
        kind = error.kind if isinstance(error, GatewayError) else None
        if isinstance(error, UpstreamError):
            if (key := self.candidate.deployment.provider.api_key) is not None:
                error.hide(key.reveal())
            self._judge(error)
            if not error.billed:
                self._void(error)
                return
            settlement: Settlement = "upstream_cut" if self.response is not None else "failed"
        else:
            self.permit.settle("neutral")
            if is_unsent(error):
                self._dispatched = False
            if not self._dispatched or self._refused():
                self._void(error)
                return
            settlement = "caller_left" if self.exchange.caller_left else "deadline"
            if kind is not None or not isinstance(error, asyncio.CancelledError):
                settlement = "failed"
        self._settle(self._told(), settlement, None, error, unheard=not _is_answer(error))

    def _refused(self) -> bool:
        """Whether the provider has answered with a status that it does not bill, though its body was not waited for."""
        response = self.response
        if response is None or response.status == 200:
            return False
        adapter = ADAPTERS[self.candidate.deployment.provider.adapter]
        return not adapter.error(response.status, response.headers, b"").billed

    def _told(self) -> Usage | None:
        """The usage of an answer that ended badly, where the provider has told all of it, not a part."""
        if self.stream is not None:
            return self._believed(self.stream.usage) if self.stream.told_all else None
        return self.completion.usage if self.completion else None

    def _believed(self, usage: Usage | None) -> Usage | None:
        """What a provider told; None where no attempt can have used as much."""
        if usage is None or is_plausible(usage):
            return usage
        log.error("usage_out_of_range", attempt=self.attempt.aid, deployment=self.candidate.deployment.name)
        return None

    def _judge(self, error: UpstreamError) -> None:
        """The verdict on the deployment, and its rest where it asked for one."""
        gateway, deployment = self.exchange.gateway, self.candidate.deployment
        if not deployment.provider.breaker:
            self.permit.settle("neutral")
            return
        if error.kind is Kind.TIMED_OUT and self.exchange.overdue:
            self.permit.settle("neutral")  # as short a time as the caller gave says nothing of the deployment
            return
        self.permit.settle(error.verdict, gateway_error=error.of_gateway)
        if error.kind is Kind.RATE_LIMITED:
            gateway.breakers.rest(deployment.name, error.retry_after_s)
        elif error.kind in (Kind.PROVIDER_QUOTA, Kind.OUR_KEY_REFUSED):
            gateway.breakers.rest_credential(deployment.provider.name, error.retry_after_s)
        if error.verdict == "failure":
            gateway.statistics.observe(deployment.name, failed=True)

    def _void(self, error: BaseException) -> None:
        self._concluded = True
        if self.share is not None:
            self.share.end(sent=self._dispatched, tokens=0)
        self.exchange.gateway.ledger.void(
            self.attempt, status=getattr(error, "upstream_status", None), latency_ms=self._latency_ms()
        )
        self._record("void", error)

    def _settle(
        self,
        usage: Usage | None,
        settlement: Settlement,
        service_tier: str | None,
        error: BaseException | None = None,
        *,
        unheard: bool = False,
    ) -> int:
        """Books it. `unheard` says that the provider may have gone on working, where it has told no usage."""
        if self._concluded:
            return self.cost_nano
        self._concluded = True
        unheard = unheard and usage is None
        if usage is None:
            usage = self._estimate(self.stream.output_bytes if self.stream else 0)
        prompt, completion = self.tokens = usage.prompt_tokens, usage.completion_tokens
        if self.share is not None:
            self.share.end(sent=True, tokens=prompt + completion)
        source: UsageSource = "provider"
        if self._estimated:
            source = "estimated"
        elif self.exchange.caller_left:
            source = "drained"
        self.cost_nano = self.exchange.gateway.ledger.settle(
            self.attempt,
            usage=usage,
            usage_source=source,
            settlement=settlement,
            latency_ms=self._latency_ms() if self.completion is None or self.ttft_ms is None else self.ttft_ms,
            ttft_ms=self.ttft_ms,
            service_tier=service_tier,
            status=self.response.status if self.response else 0,
            upstream_id=request_id(self.response) if self.response else None,
            may_be_more=unheard,
        )
        self._record(settlement, error)
        return self.cost_nano

    def _slow(self) -> bool | None:
        """Whether its stream began later than its deployment, tier or provider have it; None where it has not begun or
        nobody is judged."""
        if self.ttft_ms is None or not self.candidate.deployment.provider.breaker:
            return None
        deployment, tier = self.candidate.deployment, self.planned.target.tier
        provider = deployment.provider
        slow_s = deployment.slow_ttft_s or tier.slow_ttft_s or provider.slow_ttft_s
        if slow_s is None:
            slow_s = (tier.timeouts or provider.timeouts).first_byte_s / 2
        return self.ttft_ms > slow_s * 1000

    def _observe(self, usage: Usage | None) -> None:
        """What this answer tells of its deployment's speed, and of how its tokenizer took the prompt.

        A prompt that is mostly framing tells nothing of the tokenizer.
        """
        speed = output_tokens = bytes_per_token = None
        if usage is not None:
            prompt, completion = self.tokens
            if completion:
                output_tokens = completion // self.attempt.choices
                if self.stream is not None and self.ttft_ms is not None:
                    after_first_s = (self._latency_ms() - self.ttft_ms) / 1000
                    speed = completion / after_first_s if after_first_s > 0 else None
            text_bytes = self.planned.needs.text_bytes
            if prompt and text_bytes >= _LEAST_TEXT_BYTES and not self._estimated:
                bytes_per_token = text_bytes / prompt
        self.exchange.gateway.statistics.observe(
            self.candidate.deployment.name,
            ttft_ms=self.ttft_ms,
            tokens_per_s=speed,
            output_tokens=output_tokens,
            bytes_per_token=bytes_per_token,
        )

    def _estimate(self, output_bytes: int) -> Usage:
        self._estimated = True
        guess = estimate_usage(input_tokens=self.attempt.input_tokens, output_bytes=output_bytes)
        told = None if self.stream is None else self._believed(self.stream.usage)
        return guess if told is None else msgspec.structs.replace(told, output=max(told.output, guess.output))

    def _latency_ms(self) -> int:
        return int((self.exchange.gateway.monotonic() - self.started) * 1000)

    def _record(self, settlement: str, error: BaseException | None) -> None:
        deployment = self.candidate.deployment
        prompt, completion = self.tokens
        self.exchange.attempts.append(
            AttemptRecord(
                deployment=deployment.name,
                settlement=settlement,
                model=deployment.model.name,
                provider=deployment.provider.name,
                error=None if error is None else getattr(error, "code", None) or type(error).__name__,
                cost_nano_usd=self.cost_nano,
                prompt_tokens=prompt,
                completion_tokens=completion,
            )
        )


async def _refusal(adapter: Adapter, response: UpstreamResponse) -> UpstreamError:
    """What a status other than 200 means. It tells what is billed and when to come again, though its body be cut."""
    try:
        content = await response.read(_ERROR_BODY_BYTES)
    except UpstreamError:
        content = b""
    return adapter.error(response.status, response.headers, content)


def _is_answer(error: BaseException) -> bool:
    """Whether a provider said so itself before it began to answer, and so has done with the request."""
    status = getattr(error, "upstream_status", None)
    return status is not None and status != 200 and status not in _OF_PROXIES
