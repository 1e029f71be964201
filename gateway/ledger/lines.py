"""The lines of the journal: as the store has them, and as the archive keeps them.

A record of the store holds the lines of a batch, with line feeds between them: `N <entry>`, `L <brief entry>` of an
attempt with the account of the entry before it, or `A <differences> <entry>` for a correction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.ledger.account import whole
from gateway.ledger.records import ACCOUNT, METRICS, USAGE_FIELDS, Ending, Envelope, decode_line, entry, numbers_of

Id = tuple[int, int]
"""The id of a record of the journal: milliseconds, and a number within them. One record holds the lines of a batch."""

BEGINNING: Id = (0, 0)


class Line(NamedTuple):
    """One line of the journal."""

    adjustment: bool
    """Whether it corrects an earlier one: `numbers` are then differences."""
    envelope: Envelope
    ending: Ending
    numbers: tuple[int, ...]
    """What it adds to the sums, in the order of `METRICS`."""

    def as_dict(self) -> dict[str, Any]:
        """As tools and finance read it; usage and cost of an adjustment are what it adds."""
        if not self.adjustment:
            return {"kind": "entry", **entry(self.envelope, self.ending)}
        added = dict(zip(METRICS, self.numbers, strict=True))
        usage = {name: added[name] for name in USAGE_FIELDS}
        shown = entry(self.envelope, self.ending)
        return {"kind": "adjustment", **shown, "usage": usage, "cost_nano_usd": added["cost_nano"]}


def id_of(text: str | bytes) -> Id:
    """An id from `<milliseconds>-<number>`."""
    milliseconds, number = (text.decode() if isinstance(text, bytes) else text).split("-")
    return int(milliseconds), int(number)


def id_text(id: Id) -> str:
    return f"{id[0]}-{id[1]}"


def after(id: Id) -> Id:
    """The least id that comes after this one."""
    return id[0], id[1] + 1


def lines_of(record: bytes) -> Iterator[bytes]:
    """The lines of a record, brief ones made whole."""
    account, last_whole = b"", b""
    for text in record.split(b"\n"):
        kind, rest = text[:2], text[2:]
        if kind == b"L ":
            account = account or _account_in(last_whole)
            yield b"N " + whole(rest, account)
            continue
        if kind == b"N ":
            account, last_whole = b"", rest
        yield text


def _account_in(text: bytes) -> bytes:
    envelope, _ = _decode_entry(text)
    return b",".join(map(bytes, envelope[ACCOUNT]))


def parse(text: bytes) -> Line:
    """A whole line as the store has it."""
    kind, _, rest = text.partition(b" ")
    if kind == b"N":
        envelope, ending = decode_line(rest)
        return Line(False, envelope, ending, numbers_of(envelope, ending))
    differences, _, rest = rest.partition(b" ")
    return _adjustment(tuple(map(int, differences.split(b","))), *decode_line(rest))


def archived(id: Id, text: bytes) -> bytes:
    """A whole line as the archive keeps it: JSON, `[id, "N", null, entry]` or `[id, "A", [differences], entry]`."""
    name = id_text(id).encode()
    kind, _, rest = text.partition(b" ")
    if kind == b"N":
        return b'["%b","N",null,%b]' % (name, rest)
    differences, _, entry_ = rest.partition(b" ")
    return b'["%b","A",[%b],%b]' % (name, differences, entry_)


def parse_archived(text: bytes) -> tuple[Id, Line]:
    """A line of the archive.

    Raises:
        msgspec.DecodeError: it is none.
    """
    name, kind, differences, (envelope, ending) = _decode_archived(text)
    if kind == "N" or differences is None:
        return id_of(name), Line(False, envelope, ending, numbers_of(envelope, ending))
    return id_of(name), _adjustment(differences, envelope, ending)


_decode_entry = msgspec.json.Decoder(tuple[list[msgspec.Raw], msgspec.Raw]).decode
_decode_archived = msgspec.json.Decoder(
    tuple[str, Literal["N", "A"], tuple[int, ...] | None, tuple[Envelope, Ending]]
).decode


def _adjustment(numbers: tuple[int, ...], envelope: Envelope, ending: Ending) -> Line:
    """Numbers that it is too old to have are 0."""
    return Line(True, envelope, ending, numbers + (0,) * (len(METRICS) - len(numbers)))
