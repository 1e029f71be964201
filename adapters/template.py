"""Runs of plain events: what most of a stream is, recognised by a few searches instead of being decoded.

A template is the bytes before and after the text of one plain event. Events made from it differ in nothing but that
text, so they are as right as the one that was looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


@dataclass(frozen=True, slots=True)
class Template:
    """`data: {…"delta":{"content":"` and `"},…}` with its blank line."""

    prefix: bytes
    suffix: bytes
    joint: bytes = field(init=False)
    """What stands between the texts of two such events."""
    size: int = field(init=False)
    """Bytes of such an event without its text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "joint", self.suffix + self.prefix)
        object.__setattr__(self, "size", len(self.joint))

    def run(self, text: bytes, at: int, *, alone: bool) -> tuple[int, int]:
        """Where the run of such events that begins at `at` ends, and how many they are; (`at`, 1) where it is none.

        `text` holds whole events and has the prefix at `at`. `alone`: look at one event only, since others were found
        among them and searching to the end again and again would be slow.
        """
        if not alone:
            stop = text.rfind(self.suffix, at) + len(self.suffix)
            if stop >= at + self.size:
                count = text.count(self.joint, at, stop) + 1
                if text.count(b"\n", at, stop) == 2 * count:  # JSON has no raw line ends: each belongs to a joint
                    return stop, count
        stop = text.index(b"\n\n", at) + 2
        fits = stop >= at + self.size and text.startswith(self.suffix, stop - len(self.suffix))
        return (stop, 1) if fits else (at, 1)


def learned(block: bytes, key: str) -> Template | None:
    """The template of an event whose delta holds one text, named `key`, and else nothing but nulls.

    None where it is written oddly.
    """
    start = block.find(b'"%b"' % key.encode(), block.find(b'"delta"')) + len(key) + 2
    text = _STRING.search(block, start)
    if text is None or block[start : text.start()].strip() != b":":
        return None
    return Template(block[: text.start() + 1], block[text.end() - 1 :])
