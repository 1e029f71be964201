"""What to book for attempts whose process died; pure."""

from __future__ import annotations

import msgspec

from gateway.ledger.cost import cost_nano
from gateway.ledger.history import Story
from gateway.ledger.records import Booking, Outcome, booking, decode_envelope, encode, line, tombstone, usage_numbers
from gateway.types import Usage

TOO_OLD_S = 48 * 3600.0
"""Older endings are set aside for people to look at: the markers that tell whether they are booked last 50 hours."""


class Orphan(msgspec.Struct, array_like=True, frozen=True):
    """An attempt that was sent and never ended, with the best that is known of it."""

    sealed: str
    """The envelope as it was sealed."""
    output_tokens: int
    nano: int
    """Estimated cost."""
    hold_nano: int
    unpriced: bool = False


def from_story(story: Story) -> Booking | Orphan:
    """The ending of an attempt as its log tells it: again as it was written, or never sent, or an orphan."""
    envelope = story.envelope
    ending = story.ending
    if ending is None:
        if not story.sent:
            return tombstone(envelope.aid)
        usage = Usage(input=envelope.input_tokens, output=story.output_tokens)
        nano = 0 if story.price is None else cost_nano(usage, story.price, started_at=envelope.at)
        return Orphan(story.sealed.decode(), story.output_tokens, nano, story.hold_nano, story.price is None)
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


def at_worst(orphan: Orphan) -> tuple[Booking, bool]:
    """What to book at first, and whether that is the whole hold.

    Under a hard budget it is: the provider may have billed as much, and the budget must not be overrun.
    """
    envelope = decode_envelope(orphan.sealed)
    whole = orphan.hold_nano > 0 and any(w.hard for w in envelope.windows)
    return _estimate(orphan, final=False, nano=orphan.hold_nano if whole else orphan.nano, whole=whole), whole


def at_last(orphan: Orphan) -> Booking:
    """What to book in the place of a whole hold when no truth came to light."""
    return _estimate(orphan, final=True, nano=orphan.nano, whole=False)


def _estimate(orphan: Orphan, *, final: bool, nano: int, whole: bool) -> Booking:
    envelope = decode_envelope(orphan.sealed)
    numbers = usage_numbers(Usage(input=envelope.input_tokens, output=orphan.output_tokens))
    outcome: Outcome = "P" if final else "E"
    source = "held" if whole else "estimated"
    ending = encode((outcome, nano, numbers, source, "failed", None, None, None, None, orphan.unpriced))
    return booking(
        envelope,
        outcome,
        nano,
        numbers,
        line(orphan.sealed.encode(), ending),
        may_be_held=True,
        unpriced=orphan.unpriced,
        estimated=True,
    )
