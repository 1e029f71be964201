"""What the gateway knows of one request while it serves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.api.http import written
from gateway.api.inbound import Inbound
from gateway.api.replies import retirement_headers
from gateway.errors import CallerError, GatewayError
from gateway.ledger.cost import estimate_tokens
from gateway.telemetry.requests import AttemptRecord, RequestRecord

if TYPE_CHECKING:
    from gateway.api.decide import Planned
    from gateway.callers.caller import Caller
    from gateway.chat import Chat
    from gateway.gateway import Gateway
    from gateway.types import Arm, Candidate, OnCallerLeft


class Exchange:
    """One request from its first byte to its last. Facts are filled in as they become known."""

    __slots__ = (
        "_drained_from",
        "_policy",
        "_task",
        "_timer",
        "answered_by",
        "at",
        "attempts",
        "caller",
        "chat",
        "deadline",
        "failures",
        "gateway",
        "inbound",
        "planned",
        "request_id",
        "sdk_retry",
        "started",
        "ttft_ms",
        "warnings",
    )

    def __init__(self, gateway: Gateway, at: float, request_id: str, inbound: Inbound | None = None) -> None:
        """`at` is when it came, seconds since the epoch; `inbound` the caller's end of it, which a copy of a request
        has none of."""
        self.gateway = gateway
        self.inbound = inbound
        self.request_id = request_id
        self.at = at
        self.started = gateway.monotonic()
        self.deadline: float | None = None
        """Monotonic time by which the caller wants its answer."""
        self.caller: Caller | None = None
        self.chat: Chat | None = None
        self.planned: Planned | None = None
        self.sdk_retry = 0
        """How often the caller's SDK says that it has tried this request before."""
        self.answered_by: Candidate | None = None
        self.ttft_ms: float | None = None
        self.attempts: list[AttemptRecord] = []
        """How each attempt ended, for the log."""
        self.failures: list[tuple[Candidate, GatewayError]] = []
        self.warnings: list[str] = []
        """What the request lost on its way to the candidate that answered."""
        self._task: asyncio.Task[Any] | None = None
        self._policy: OnCallerLeft | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drained_from: int | None = None
        """Bytes of output there were when the caller was first seen to have left."""

    @property
    def overdue(self) -> bool:
        """Whether the caller's own deadline has passed."""
        return self.deadline is not None and self.gateway.monotonic() >= self.deadline

    @property
    def caller_left(self) -> bool:
        return self.inbound is not None and self.inbound.left

    def watch_caller(self, inbound: Inbound, policy: OnCallerLeft) -> None:
        """From now on a departure cancels the serving task: at once, or after the tier's drain allowance."""
        self._task, self._policy = inbound.task, policy
        inbound.watch(self._left)

    def _left(self) -> None:
        task, policy = self._task, self._policy
        assert task is not None
        assert policy is not None
        if policy.action == "cancel":
            task.cancel()
        else:
            self._timer = task.get_loop().call_later(policy.seconds, task.cancel)

    def count_drained(self, output_bytes: int) -> None:
        """Told how long the answer is while it is read on for a departed caller; ends that beyond the allowance."""
        if self._drained_from is None:
            self._drained_from = output_bytes
        drained_tokens = estimate_tokens(output_bytes - self._drained_from)
        if self._task is not None and self._policy is not None and drained_tokens > self._policy.tokens:
            self._task.cancel()

    def lines(self) -> bytes:
        """The header lines by which every good answer tells who gave it."""
        planned, candidate = self.planned, self.answered_by
        assert planned is not None
        assert candidate is not None
        name = self.request_id.encode()
        lines = b"x-request-id: %b\r\nx-gateway-request-id: %b\r\nx-gateway-attempts: %d\r\n%b" % (
            name,
            name,
            len(self.failures) + 1,
            planned.routing.served_by(planned.plan.tier, candidate.deployment.name),
        )
        substituted, asked = planned.plan.substituted, planned.target.model
        if substituted:
            lines += written([(b"x-gateway-substituted", substituted.encode())])
        if asked is not None:
            asked = planned.routing.snapshot.models.get(substituted or "", asked)
            if asked.deprecated_at is not None or asked.retires_at is not None:
                lines += written(retirement_headers(asked))
        if self.warnings:
            lines += written([(b"x-gateway-warnings", "; ".join(self.warnings).encode("ascii", "replace"))])
        return lines

    def record(self, status: int, error: GatewayError | None = None) -> None:
        """Puts the request on the log and into the metrics; called once, when all is over."""
        if self.inbound is not None:
            self.inbound.close()
        if self._timer is not None:
            self._timer.cancel()
        caller, chat, planned, candidate = self.caller, self.chat, self.planned, self.answered_by
        key = team = alias = tier = substituted = None
        if caller is not None:
            key, team = caller.key_id, caller.team
        if planned is not None:
            plan = planned.plan
            alias, tier, substituted = plan.alias, plan.tier, plan.substituted
            if plan.arms:
                self._count_arms(planned.caller.tenant, plan.arms, status, error)
        self.gateway.requests.record(
            RequestRecord(
                # The first three by their places: from fifteen keywords on, a call takes four times as long.
                self.at,
                self.request_id,
                status,
                level="error" if status >= 500 and status != 503 else "info",
                stream=chat is not None and chat.stream,
                key=key,
                team=team,
                alias=alias,
                tier=tier,
                deployment=None if candidate is None else candidate.deployment.name,
                latency_ms=(self.gateway.monotonic() - self.started) * 1000,
                ttft_ms=self.ttft_ms,
                code=None if error is None else error.code or error.kind.value,
                substituted=substituted,
                warnings=self.warnings,
                attempts=self.attempts,
            )
        )

    def _count_arms(self, tenant: str, arms: tuple[Arm, ...], status: int, error: GatewayError | None) -> None:
        """What the request says of its arms; nothing where its caller left, or was refused for what it asked."""
        if isinstance(error, CallerError) or (400 <= status < 500 and status != 429):
            return
        broke_off = bool(self.failures) and self.answered_by is self.failures[-1][0]
        self.gateway.arms.count(
            tenant,
            arms,
            self.at,
            failed=broke_off or status >= 500 or status == 429,
            latency_ms=(self.gateway.monotonic() - self.started) * 1000,
            ttft_ms=self.ttft_ms,
        )
