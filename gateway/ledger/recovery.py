"""What to book for attempts whose process died; pure."""

from __future__ import annotations

from gateway.ledger.cost import cost_nano
from gateway.ledger.history import Story
from gateway.ledger.records import Booking, Envelope, booking, encode, line, tombstone, usage_numbers
from gateway.types import Usage, UsageSource

TOO_OLD_S = 48 * 3600.0
"""Older endings are set aside for people to look at: the markers that tell whether they are booked last 50 hours."""


def from_story(story: Story) -> Booking:
    """The ending of an attempt as its log tells it: again as it was written, or an estimate, or never sent."""
    envelope = story.envelope
    ending = story.ending
    if ending is None:
        if not story.sent:
            return tombstone(envelope.aid)
        usage = Usage(input=envelope.input_tokens, output=story.output_tokens)
        nano = 0 if story.price is None else cost_nano(usage, story.price, started_at=envelope.at)
        return orphan(envelope, story.sealed, usage, nano, story.hold_nano, unpriced=story.price is None)
    if ending.outcome == "X":
        return tombstone(envelope.aid)
    return booking(
        envelope,
        ending.outcome,
        ending.cost_nano,
        ending.usage,
        line(story.sealed, story.ending_text),
        may_be_held=True,
        unpriced=ending.unpriced,
    )


def orphan(
    envelope: Envelope, sealed: bytes, usage: Usage, nano: int, hold_nano: int, *, unpriced: bool = False
) -> Booking:
    """An estimate for an attempt that was sent and never ended.

    Under a hard budget the whole hold is booked: the provider may have billed as much, and the budget must not be
    overrun. The truth, once known, replaces it.
    """
    source: UsageSource = "estimated"
    if hold_nano and any(w.hard for w in envelope.windows):
        nano, source = hold_nano, "held"
    numbers = usage_numbers(usage)
    ending = encode(("E", nano, numbers, source, "failed", None, None, None, None, unpriced))
    return booking(envelope, "E", nano, numbers, line(sealed, ending), may_be_held=True, unpriced=unpriced)
