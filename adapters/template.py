"""Runs of plain events: what most of a stream is, recognised by a few searches instead of being decoded.

A template is the bytes before and after the text of one plain event. Events made from it differ in nothing but that
text, so they are as right as the one that was looked at. What a tool is called with is such a text, too; but there what
is none could look like one, a second call behind the first one's arguments, so its quotes are counted.
"""

from __future__ import annotations

import re
from io import BytesIO

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


class Template:
    """`data: {…"delta":{"content":"` and `"},…}` with its blank line."""

    __slots__ = ("counted", "joint", "prefix", "size", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes, *, counted: bool = False) -> None:
        self.prefix = prefix
        self.suffix = suffix
        self.counted = counted
        """Whether a text that holds a quote without a backslash must not be taken for one."""
        self.joint = suffix + prefix
        """What stands between the texts of two such events."""
        self.size = len(self.joint)
        """Bytes of such an event without its text."""

    def run(self, text: bytes, at: int, *, alone: bool) -> tuple[int, int]:
        """Where the run of such events that begins at `at` ends, and how many they are; (`at`, 1) where it is none.

        `text` holds whole events and has the prefix at `at`. `alone`: look at one event only, since others were found
        among them and searching to the end again and again would be slow.
        """
        stop = text.index(b"\n", at) + 2
        if not alone and stop < len(text) and (many := self._many(text, at)) is not None:
            return many
        last = stop - len(self.suffix)
        fits = stop >= at + self.size and text.startswith(self.suffix, last)
        if fits and (not self.counted or _quoted([text[at + len(self.prefix) : last]])):
            return stop, 1
        return at, 1

    def _many(self, text: bytes, at: int) -> tuple[int, int] | None:
        """The run up to the last suffix; None where something else stands in between.

        Each event is a line and a blank one, since JSON has no raw line ends. To cut at these, put it all together
        again and compare takes half the time of counting line ends and joints: finding a byte, copying and comparing
        look at many bytes in one step, counting at each.
        """
        stop = text.rfind(self.suffix, at) + len(self.suffix)
        if stop < at + self.size:
            return None
        lines = BytesIO(text)
        lines.seek(at)
        start, end = len(self.prefix), 1 - len(self.suffix)
        said = [line[start:end] for line in lines.readlines(stop - at)[::2]]
        again = self.joint.join(said)
        whole = at + start + len(again) + len(self.suffix) == stop and text.startswith(again, at + start)
        return (stop, len(said)) if whole and (not self.counted or _quoted(said)) else None


def _quoted(said: list[bytes]) -> bool:
    """Whether all quotes within these texts have a backslash; False where that is not certain."""
    closed = b'"'.join((*said, b""))  # a backslash at a text's end would belong to the quote that closes it
    return closed.count(b'"') - closed.count(b'\\"') == len(said)


def learned(block: bytes, key: str, *, counted: bool = False) -> Template | None:
    """The template of an event whose delta holds one text, named `key`, and else nothing that may change.

    None where it is written oddly.
    """
    start = block.find(b'"%b"' % key.encode(), block.find(b'"delta"')) + len(key) + 2
    text = _STRING.search(block, start)
    if text is None or block[start : text.start()].strip() != b":":
        return None
    return Template(block[: text.start() + 1], block[text.end() - 1 :], counted=counted)
