"""What a write-ahead log tells of its attempts: for the recovery of dead processes and for replays."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.records import Ending, Envelope, Outcome, decode_ending, decode_envelope, decode_price
from gateway.ledger.wal import Record, read_segment
from gateway.types import Price


@dataclass(slots=True)
class Story:
    """One attempt as far as its log tells."""

    sequence: int
    segment: int
    envelope: Envelope
    sealed: bytes
    price: Price | None
    sent: bool
    hold_nano: int = 0
    output_tokens: int = 0
    ending: Ending | None = None
    ending_text: bytes = b""
    settled: bool = False
    """Whether the store has it."""

    @property
    def outcome(self) -> Outcome | None:
        return self.ending.outcome if self.ending else None


def read_log(directory: Path) -> list[Story]:
    """Every attempt of a log in the order they began. Torn tails end a segment; a story without a start is left out."""
    stories: dict[int, Story] = {}
    finished: list[Story] = []
    for path in sorted(directory.glob("*.log")):
        _read(path.read_bytes(), int(path.stem), stories, finished)
    return sorted([*finished, *stories.values()], key=lambda s: (s.segment, s.sequence))


def _read(data: bytes, number: int, stories: dict[int, Story], finished: list[Story]) -> None:
    prices: dict[str, Price] = {}
    for kind, sequence, payload in read_segment(data):
        if kind is Record.PRICE:
            price = decode_price(payload)
            prices[price.price_id] = price
        elif kind is Record.SETTLED:
            for n in _sequences(payload):
                if story := stories.pop(n, None):
                    story.settled = True
                    finished.append(story)
        elif kind is Record.INTENT or kind is Record.BEGUN:
            envelope = decode_envelope(payload)
            price_row = prices.get(envelope.price_id)
            stories[sequence] = Story(sequence, number, envelope, payload, price_row, sent=kind is Record.BEGUN)
        elif story := stories.get(sequence):
            _extend(story, kind, payload)


def _extend(story: Story, kind: Record, payload: bytes) -> None:
    if kind is Record.SENT:
        story.sent = True
        story.hold_nano = int(payload)
    elif kind is Record.PROGRESS:
        story.output_tokens = int(payload)
    else:
        story.ending = decode_ending(payload)
        story.ending_text = payload


def _sequences(payload: bytes) -> Iterator[int]:
    return (n for (n,) in struct.iter_unpack("<I", payload))
