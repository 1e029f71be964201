"""YAML text as the library's events, some three times faster than by its own scanner, and in bounded time.

What is written most often (a scalar on one line, what lies between two tokens) is taken by one search each; the library
takes whatever is written otherwise, character by character. Both give the same events and refuse the same texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import FileMark
from ruamel.yaml.events import Event, MappingStartEvent, ScalarEvent, SequenceStartEvent
from ruamel.yaml.parser import Parser
from ruamel.yaml.reader import Reader
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tokens import FlowMappingStartToken, FlowSequenceStartToken, ScalarToken, Token

_SHOWN_OF_A_TAG = 100
# No group is repeated possessively here: Python before 3.11.5 may then take in what the last round tried in vain
# (https://github.com/python/cpython/issues/106052). Repeated otherwise, a long line would take hundreds of megabytes.
_STOP = re.compile(r"[^\S ]|[\0#\ufeff]|:(?![^\s\0])")
_STOP_IN_FLOW = re.compile(r"[^\S ]|[\0#\ufeff,?\[\]{}]|:(?![^\s\0,\[\]{}])")
"""Where a plain scalar ends, or what the library is left to judge."""
_BLANK = re.compile(r"[ \n]*+")
_DOUBLE = re.compile(r'"[^"\\\n\r\x85\u2028\u2029\0]*+"')
_SINGLE = re.compile(r"'[^'\n\r\x85\u2028\u2029\0]*+'(?!')")
_SPACES = re.compile(" *+")
_REST = re.compile(r" *+(?:#[^\n\r\x85\u2028\u2029\0\ufeff]*+)?\n")
"""Of a line, that tells nothing."""
_LINE = re.compile(r"^ *+(?=[^ \n#])|[\r\x85\u2028\u2029\0\ufeff]", re.MULTILINE)
"""The indent of a line that is neither empty nor a comment; or what makes a comment one for the library to end."""
_MORE_BETWEEN = frozenset("\t#\r\x85\u2028\u2029\ufeff")
_BETWEEN_BEGINS = _MORE_BETWEEN | {" ", "\n"}
_BEGINNINGS = {
    "[": "fetch_flow_sequence_start",
    "{": "fetch_flow_mapping_start",
    "]": "fetch_flow_sequence_end",
    "}": "fetch_flow_mapping_end",
    ",": "fetch_flow_entry",
    ":": "fetch_value",
    "'": "fetch_single",
    '"': "fetch_double",
}
"""What begins one sort of token only (a colon need not), besides letters and digits, which begin plain scalars."""
_ODD = re.compile("[\r\ufeff]")
"""What may move a mark otherwise than a line end or another character does."""


def events_of(text: str) -> Iterator[Event]:
    """Raises:
    ruamel.yaml.error.YAMLError: the text is no YAML.
    ValueError: nor is this.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Reader, reader.Scanner, reader.Parser = _Reader, _Scanner, _Parser
    yield from reader.parse(text)


class _Reader(Reader):
    """The library's, which looks at each character that it steps over."""

    def forward(self, length: int = 1) -> None:
        passed = self.buffer[self.pointer : self.pointer + length]
        if len(passed) < length or _ODD.search(passed):
            super().forward(length)
        else:
            self.pass_over(passed)

    def pass_over(self, text: str) -> None:
        """Steps over this text, which comes next, and has in it no carriage return nor byte order mark."""
        length = len(text)
        self.pointer += length
        self.index += length
        if "\n" in text:
            self.line += text.count("\n")
            self.column = length - 1 - text.rindex("\n")
        else:
            self.column += length

    def get_mark(self) -> FileMark:
        return FileMark(self.name, self.index, self.line, self.column)  # without the text around it


class _Scanner(Scanner):
    """The library's, which asks up to ten times for each token whether it must read on."""

    reader: Any = None
    _enough_at = -1
    """How many tokens were taken when it last found that it need not."""

    def __init__(self, loader: Any) -> None:
        self.reader = loader.reader  # a property otherwise, with a search for each character
        super().__init__(loader)

    def check_token(self, *choices: type[Token]) -> bool:
        if self._enough_at != self.tokens_taken:
            while self.need_more_tokens():
                self.fetch_more_tokens()
        return bool(self.tokens) and (not choices or isinstance(self.tokens[0], choices))

    def need_more_tokens(self) -> bool:
        if self._enough_at == self.tokens_taken:
            return False
        if not self.done:
            if not self.tokens:
                return True
            if self.possible_simple_keys:  # the next token may yet turn out to be a key
                self.stale_possible_simple_keys()
                if self.next_possible_simple_key() == self.tokens_taken:
                    return True
        self._enough_at = self.tokens_taken
        return False

    def fetch_more_tokens(self) -> Any:
        self.scan_to_next_token()
        begins = self.reader.peek()
        fetch = "fetch_plain" if begins.isalnum() else _BEGINNINGS.get(begins)
        if fetch is None or (begins == ":" and not self.check_value()):
            return super().fetch_more_tokens()
        if self.possible_simple_keys:
            self.stale_possible_simple_keys()
        if not self.flow_context:
            self.unwind_indent(self.reader.column)
        return getattr(self, fetch)()

    def scan_to_next_token(self) -> Any:
        reader = self.reader
        if reader.peek() not in _BETWEEN_BEGINS:
            return None
        passed = reader.buffer[reader.pointer : _end_of_blanks(reader.buffer, reader.pointer)]
        if passed:
            reader.pass_over(passed)
            if "\n" in passed and not self.flow_context:
                self.allow_simple_key = True
        return super().scan_to_next_token() if reader.peek() in _MORE_BETWEEN else None

    def scan_plain(self) -> Any:
        """Takes one that ends on its line, by what can only be its end."""
        reader = self.reader
        text, pointer = reader.buffer, reader.pointer
        found = (_STOP_IN_FLOW if self.flow_context else _STOP).search(text, pointer)
        stop = found.start()  # type: ignore[union-attr]  # the NUL at the end at the latest
        value = text[pointer:stop].rstrip(" ")
        stops = text[stop]
        is_key = stops == ":" and len(value) == stop - pointer and text[stop + 1] in " \n"
        if value and (is_key or (self.flow_context and stops in ",]}")):
            end = stop
        elif not self.flow_context and stops == "\n" and value:
            end = _BLANK.match(text, stop).end()  # type: ignore[union-attr]  # matches nothing, too
            indent = end - 1 - text.rindex("\n", stop, end)
            if text[end].isspace() or text[end] == "\ufeff" or (indent > self.indent and text[end] != "#"):
                return super().scan_plain()  # it may go on on the next line
            self.allow_simple_key = True
        else:
            return super().scan_plain()
        start_mark = reader.get_mark()
        reader.pass_over(value)
        end_mark = reader.get_mark()
        if end > reader.pointer:
            reader.pass_over(text[reader.pointer : end])
        return ScalarToken(value, True, start_mark, end_mark)

    def scan_flow_scalar(self, style: str) -> Any:
        """Takes one that is on one line and means what it says, character by character."""
        reader = self.reader
        found = (_DOUBLE if style == '"' else _SINGLE).match(reader.buffer, reader.pointer)
        if found is None:
            return super().scan_flow_scalar(style)
        start_mark = reader.get_mark()
        reader.forward(found.end() - found.start())
        return ScalarToken(found[0][1:-1], False, start_mark, reader.get_mark(), style)

    def scan_tag(self) -> Any:
        """Keeps the beginning of a long one, which the library would add up character by character."""
        token = super().scan_tag()
        handle, suffix = token.value
        token.value = (handle, suffix[:_SHOWN_OF_A_TAG])
        return token


def _end_of_blanks(text: str, at: int) -> int:
    """Where the next thing begins that is neither space nor line end nor a whole comment."""
    rest = _REST.match(text, at)
    if rest is None:
        return _SPACES.match(text, at).end()  # type: ignore[union-attr]  # matches nothing, too
    found = _LINE.search(text, rest.end())  # the NUL at the end at the latest
    at = found.end()  # type: ignore[union-attr]
    if found[0].strip(" "):  # type: ignore[index]
        at = _SPACES.match(text, max(rest.end(), text.rfind("\n", rest.end(), at) + 1)).end()  # type: ignore[union-attr]
    return at


class _Parser(Parser):
    """The library's, which looks for its scanner with every token, and last of all whether that is a scalar."""

    scanner: Any = None

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self.scanner = loader.scanner

    def parse_node(self, block: bool = False, indentless_sequence: bool = False) -> Any:
        token = self.scanner.peek_token()
        if isinstance(token, ScalarToken):
            self.scanner.get_token()
            self.state = self.states.pop()
            implicit = (True, False) if token.plain else (False, True)
            return ScalarEvent(None, None, implicit, token.value, token.start_mark, token.end_mark, style=token.style)
        if isinstance(token, FlowSequenceStartToken):
            self.state = self.parse_flow_sequence_first_entry
            return SequenceStartEvent(None, None, True, token.start_mark, token.end_mark, flow_style=True)
        if isinstance(token, FlowMappingStartToken):
            self.state = self.parse_flow_mapping_first_key
            return MappingStartEvent(None, None, True, token.start_mark, token.end_mark, flow_style=True)
        return super().parse_node(block, indentless_sequence)
