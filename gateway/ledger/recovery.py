"""What to book for attempts of whose end nobody knows: their process died, or nobody heard their provider out; pure."""

from __future__ import annotations

import msgspec

from gateway.ledger.cost import cost_nano
from gateway.ledger.history import Story
from gateway.ledger.records import (
    Booking,
    Ending,
    Outcome,
    aid_hour,
    booking,
    decode_ending,
    decode_envelope,
    encode,
    line,
    tombstone,
    usage_numbers,
)
from gateway.types import Usage

TOO_OLD_S = 48 * 3600.0
"""Older endings are set aside for people to look at: the markers that tell whether they are booked last 50 hours."""
TRUTH_WITHIN_S = 24 * 3600.0
"""How long a whole hold stays booked while the truth may still come to light."""


class Orphan(msgspec.Struct, array_like=True, frozen=True):
    """An attempt that was sent and of whose end nobody knows, with the best that is known of it.

    Written to the store: fields are only ever added, at the end, with a default.
    """

    sealed: str
    """The envelope as it was sealed."""
    output_tokens: int
    nano: int
    """Estimated cost."""
    hold_nano: int
    unpriced: bool = False
    ending: str = ""
    """What is booked of it for now, as JSON, where its own process has booked it."""


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
    item = booking(
        envelope,
        ending.outcome,
        ending.cost_nano,
        ending.usage,
        line(envelope.brief, story.ending_text),
        may_be_held=True,
        unpriced=ending.unpriced,
    )
    return item if ending.usage_source != "held" else until_known(item, _held(story, ending))


def until_known(item: Booking, orphan: Orphan) -> Booking:
    """The booking of a whole hold, by which the store notes as well what replaces it and when."""
    return *item, (aid_hour(item[0]) * 3600 + TRUTH_WITHIN_S, orphan)


def at_worst(orphan: Orphan) -> Booking:
    """What to book at first.

    Under a hard budget it is the whole hold: the provider may have billed as much, and the budget must not be overrun.
    """
    envelope = decode_envelope(orphan.sealed)
    if orphan.hold_nano > 0 and any(w.hard for w in envelope.windows):
        return until_known(_estimate(orphan, final=False, nano=orphan.hold_nano, whole=True), orphan)
    return _estimate(orphan, final=False, nano=orphan.nano, whole=False)


def at_last(orphan: Orphan) -> Booking:
    """What to book in the place of a whole hold when no truth came to light."""
    if not orphan.ending:
        return _estimate(orphan, final=True, nano=orphan.nano, whole=False)
    ending = msgspec.structs.replace(
        decode_ending(orphan.ending), outcome="P", cost_nano=orphan.nano, usage_source="estimated"
    )
    envelope = decode_envelope(orphan.sealed)
    return booking(
        envelope,
        "P",
        orphan.nano,
        ending.usage,
        line(envelope.brief, encode(ending)),
        may_be_held=True,
        unpriced=ending.unpriced,
        estimated=True,
    )


def _held(story: Story, ending: Ending) -> Orphan:
    """The orphan that its own process booked at its hold, as the log tells it."""
    envelope = story.envelope
    nano = 0
    if story.price is not None:
        usage = Usage(*ending.usage)
        nano = cost_nano(usage, story.price, started_at=envelope.at, service_tier=ending.service_tier)
    return Orphan(story.sealed.decode(), 0, nano, ending.cost_nano, ending.unpriced, story.ending_text.decode())


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
        line(envelope.brief, ending),
        may_be_held=True,
        unpriced=orphan.unpriced,
        estimated=True,
    )
