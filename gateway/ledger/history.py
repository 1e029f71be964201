"""What a write-ahead log tells of its attempts: for the recovery of dead processes and for replays."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.account import whole
from gateway.ledger.records import Ending, Envelope, decode_ending, decode_envelope, decode_price
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


def read_log(directory: Path) -> Iterator[Story]:
    """The attempts of a log: each that is settled when that is read, those left open at the end.

    A segment ends where it is torn. No more is kept in memory than one segment and the open attempts.
    """
    open_ones: dict[int, Story] = {}
    for path in sorted(directory.glob("*.log")):
        yield from _read(path.read_bytes(), int(path.stem), open_ones)
    yield from open_ones.values()


def _read(data: bytes, number: int, open_ones: dict[int, Story]) -> Iterator[Story]:
    prices: dict[str, Price] = {}
    accounts: dict[bytes, bytes] = {}
    for kind, sequence, payload in read_segment(data):
        if kind is Record.NAMED:
            if payload.startswith(b"{"):
                price = decode_price(payload)
                prices[price.price_id] = price
            else:
                name, _, account = payload.partition(b",")
                accounts[name] = account
        elif kind is Record.SETTLED:
            for (settled,) in struct.iter_unpack("<I", payload):
                if story := open_ones.pop(settled, None):
                    story.settled = True
                    yield story
        elif kind is Record.INTENT or kind is Record.BEGUN:
            name, bracket, brief = payload.partition(b"[")
            # Logs of versions before 2026-12 have the envelope itself.
            sealed = whole(bracket + brief, accounts[name]) if name else payload
            envelope = decode_envelope(sealed)
            price_row = prices.get(envelope.price_id)
            begun = kind is Record.BEGUN
            hold = envelope.hold_nano if begun else 0
            open_ones[sequence] = Story(sequence, number, envelope, sealed, price_row, sent=begun, hold_nano=hold)
        elif story := open_ones.get(sequence):
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
