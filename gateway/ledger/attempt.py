"""One try of one deployment, as the ledger knows it: what was pinned when it began and how it ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.ledger.account import Account, whole
from gateway.ledger.limits import Limits, Window
from gateway.types import Price

if TYPE_CHECKING:
    from gateway.ledger.slabs import Slab


State = Literal["new", "held", "sent", "ended"]

Receipt = tuple[int, int]
"""Sequence and segment of an attempt in this process's write-ahead log."""

MAX_RETRY = 15
LEAST_OUTPUT_TOKENS = 1024
"""What a hard budget must still afford where the tier says nothing else."""

_DIGITS = "0123456789abcdef"
_VERSION = 0x7 << 76 | 0b10 << 62
_CHANCE = 0xFFF << 64 | (1 << 62) - 0x10
"""The bits of a UUIDv7 that say that it is one, and those that chance fills, in its lower 80."""

_encode = msgspec.json.Encoder().encode


def new_request_id(at: float, chance: random.Random) -> str:
    """`req_` and a UUIDv7 whose last digit is 0: attempts replace that digit by their number in the request.

    Source of the layout: https://www.rfc-editor.org/rfc/rfc9562#section-5.7 (read 2026-11-21).
    """
    number = int(at * 1000) << 80 | chance.getrandbits(80) & _CHANCE | _VERSION
    return "req_" + number.to_bytes(16, "big").hex()  # to format the number takes twice as long


class Attempt(msgspec.Struct, kw_only=True, eq=False):
    """One attempt. Made by the request path, filled by the ledger; not shared between tasks.

    Raises:
        ValueError: the request id is of another form, or `retry` is above 15.
    """

    request_id: str
    """From `new_request_id`."""
    at: float
    """When it started, epoch seconds."""
    account: Account
    price: Price | None
    """The row that the account names."""
    stream: bool = False
    retry: int = 0
    input_tokens: int = 0
    input_bound_tokens: int = 0
    output_tokens: int | None = None
    """The request's own cap per choice; holds take the smaller of this and the model's."""
    output_limit_tokens: int | None = None
    """The model's cap."""
    least_output_tokens: int = LEAST_OUTPUT_TOKENS
    """Where a hard budget has less left, the answer is capped further, but never below this."""
    choices: int = 1
    sdk_retry: int = 0
    """How often the caller's SDK says that it has tried before."""

    # The ledger's own.
    aid: str = ""
    state: State = "new"
    limits: Limits | None = None
    enforced: bool = False
    windows: tuple[Window, ...] = ()
    hold_nano: int = 0
    charged_tokens: int = 0
    in_store: bool = False
    slab: str = ""
    """Attempt id of the slab that its hold was taken from."""
    lender: Slab | None = None
    """That slab, for as long as it is the slab that holds it."""
    brief: bytes = b""
    """From `seal()`."""
    receipt: Receipt = (-1, -1)
    meter: Callable[[], int] | None = None
    """Tells the output tokens so far; asked once a second while the attempt runs, and never by the relay."""
    progress_tokens: int = 0
    progress_at: float = 0.0
    """Monotonic time of the last note."""

    def __post_init__(self) -> None:
        request_id, retry = self.request_id, self.retry
        if len(request_id) != 36 or request_id[-1] != "0" or not 0 <= retry <= MAX_RETRY:
            raise ValueError(f"attempt {retry} of {request_id!r}: want an id of new_request_id() and a number up to 15")
        self.aid = request_id[4:35] + _DIGITS[retry]
        if not self.input_bound_tokens:
            self.input_bound_tokens = self.input_tokens

    @property
    def tenant(self) -> str:
        """Whose books it is kept in."""
        return self.account.tenant

    @property
    def expected_tokens(self) -> int:
        """What it counts for against limits of tokens per minute until its usage is known."""
        return self.input_tokens + (self.output_tokens or 0) * self.choices

    @property
    def envelope(self) -> bytes:
        """All that was pinned, for whoever does not know the account: the first half of the journal entry."""
        return whole(self.brief, self.account.sealed)

    def seal(self) -> bytes:
        """Pins everything known before sending, and gives it as a brief: JSON without what stands in the account, and
        without the request's id, which the attempt's tells."""
        self.brief = brief = _encode(
            (
                self.aid,
                self.at,
                self.stream,
                self.retry,
                self.input_tokens,
                self.hold_nano,
                self.windows,
                self.sdk_retry,
                self.slab,
            )
        )
        return brief
