"""Runs of plain events: what most of a stream is, recognised by a few searches instead of being decoded.

A template is the bytes before and after the text of one plain event. Events made from it differ in nothing but that
text, so they are as right as the one that was looked at. What a tool is called with is such a text, too; but there what
is none could look like one, a second call behind the first one's arguments, so its quotes are counted.
"""

from __future__ import annotations

import re

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
        if not alone:
            stop = text.rfind(self.suffix, at) + len(self.suffix)
            if stop >= at + self.size:
                count = text.count(self.joint, at, stop) + 1
                # JSON has no raw line ends: each belongs to a joint
                if text.count(b"\n", at, stop) == 2 * count and self._quoted(text, at, stop, count):
                    return stop, count
        stop = text.index(b"\n\n", at) + 2
        fits = stop >= at + self.size and text.startswith(self.suffix, stop - len(self.suffix))
        return (stop, 1) if fits and self._quoted(text, at, stop, 1) else (at, 1)

    def _quoted(self, text: bytes, at: int, stop: int, count: int) -> bool:
        """Whether all quotes in these events are their own or have a backslash; False where that is not certain."""
        if not self.counted:
            return True
        return text.count(b'"', at, stop) - text.count(b'\\"', at, stop) == count * self.joint.count(b'"')


def learned(block: bytes, key: str, *, counted: bool = False) -> Template | None:
    """The template of an event whose delta holds one text, named `key`, and else nothing that may change.

    None where it is written oddly.
    """
    start = block.find(b'"%b"' % key.encode(), block.find(b'"delta"')) + len(key) + 2
    text = _STRING.search(block, start)
    if text is None or block[start : text.start()].strip() != b":":
        return None
    return Template(block[: text.start() + 1], block[text.end() - 1 :], counted=counted)
