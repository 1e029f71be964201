"""One try of one deployment, as the ledger knows it: what was pinned when it began and how it ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

import msgspec

from gateway.ledger.limits import Limits, Window
from gateway.types import Price

State = Literal["new", "held", "sent", "ended"]

MAX_RETRY = 15
LEAST_OUTPUT_TOKENS = 1024
"""What a hard budget must still afford where the tier says nothing else."""

_encode = msgspec.json.Encoder().encode


def new_request_id(at: float, chance: random.Random) -> str:
    """`req_` and a UUIDv7 whose last digit is 0: attempts replace that digit by their number in the request.

    Source of the layout: https://www.rfc-editor.org/rfc/rfc9562#section-5.7 (read 2026-11-21).
    """
    bits = chance.getrandbits(74)
    high = 0x7000 | bits >> 62
    low = (0x2 << 62) | (bits & ((1 << 62) - 1))
    return f"req_{int(at * 1000):012x}{high:04x}{low & ~0xF:016x}"


class Attempt:
    """One attempt. Made by the request path, filled by the ledger; not shared between tasks."""

    __slots__ = (
        "aid",
        "alias",
        "at",
        "catalog",
        "charged_tokens",
        "choices",
        "deployment",
        "enforced",
        "envelope",
        "hold_nano",
        "in_store",
        "input_bound_tokens",
        "input_tokens",
        "key",
        "least_output_tokens",
        "limits",
        "meter",
        "model",
        "output_limit_tokens",
        "output_tokens",
        "price",
        "price_id",
        "progress_at",
        "progress_tokens",
        "provider",
        "request_id",
        "retry",
        "sdk_retry",
        "segment",
        "sequence",
        "state",
        "stream",
        "tags",
        "team",
        "tenant",
        "tier",
        "windows",
    )

    def __init__(
        self,
        *,
        request_id: str,
        at: float,
        tenant: str,
        key: str,
        alias: str,
        model: str,
        provider: str,
        deployment: str,
        price: Price | None,
        catalog: str,
        team: str = "",
        tags: tuple[tuple[str, str], ...] = (),
        tier: str | None = None,
        stream: bool = False,
        retry: int = 0,
        input_tokens: int = 0,
        input_bound_tokens: int = 0,
        output_tokens: int | None = None,
        output_limit_tokens: int | None = None,
        least_output_tokens: int = LEAST_OUTPUT_TOKENS,
        choices: int = 1,
        sdk_retry: int = 0,
    ) -> None:
        """`request_id` comes from `new_request_id`; `at` is the attempt's start in epoch seconds.

        `output_tokens` is the request's own cap per choice, `output_limit_tokens` the model's: holds take the smaller.
        Where a hard budget has less left, the answer is capped further, but never below `least_output_tokens`.
        `sdk_retry` is how often the caller's SDK says that it has tried before.

        Raises:
            ValueError: the request id is of another form, or `retry` is above 15.
        """
        if len(request_id) != 36 or request_id[-1] != "0" or not 0 <= retry <= MAX_RETRY:
            raise ValueError(f"attempt {retry} of {request_id!r}: want an id of new_request_id() and a number up to 15")
        self.aid = f"{request_id[4:35]}{retry:x}"
        self.request_id = request_id
        self.at = at
        self.tenant = tenant
        self.key = key
        self.team = team
        self.tags = tags
        self.alias = alias
        self.tier = tier
        self.model = model
        self.provider = provider
        self.deployment = deployment
        self.price = price
        self.price_id = "" if price is None else price.price_id
        self.catalog = catalog
        self.stream = stream
        self.retry = retry
        self.input_tokens = input_tokens
        self.input_bound_tokens = input_bound_tokens or input_tokens
        self.output_tokens = output_tokens
        self.output_limit_tokens = output_limit_tokens
        self.least_output_tokens = least_output_tokens
        self.choices = choices
        self.sdk_retry = sdk_retry
        # the ledger's own
        self.state: State = "new"
        self.limits: Limits | None = None
        self.enforced = False
        self.windows: tuple[Window, ...] = ()
        self.hold_nano = 0
        self.charged_tokens = 0
        self.in_store = False
        self.envelope = b""
        self.sequence = -1
        self.segment = -1
        self.meter: Callable[[], int] | None = None
        """Tells the output tokens so far; asked once a second while the attempt runs, and never by the relay."""
        self.progress_tokens = 0
        self.progress_at = 0.0
        """Monotonic time of the last note."""

    def seal(self) -> bytes:
        """Pins everything known before sending as JSON; the first half of the journal entry, encoded once."""
        self.envelope = _encode(
            (
                self.aid,
                self.request_id,
                self.at,
                self.tenant,
                self.key,
                self.team,
                self.tags,
                self.alias,
                self.tier,
                self.model,
                self.provider,
                self.deployment,
                self.price_id,
                self.catalog,
                self.stream,
                self.retry,
                self.input_tokens,
                self.hold_nano,
                self.windows,
                self.sdk_retry,
            )
        )
        return self.envelope
