"""YAML text as plain values, with the line of each. Strict where YAML is generous, because what it says moves money.

Only mappings, lists and scalars of YAML's core schema: no tags, no aliases, no repeated keys, no merge keys. The
text is read as a stream of events: nothing is ever constructed from it; depth and size are bounded before they cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from gateway.catalog.problems import SHOWN, InvalidCatalog, Path, Problem, printable, written
from gateway.catalog.scan import events_of

MAX_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 32
MAX_LINES = 100_000
"""A thousand models, written as those that are shipped, have some 30,000."""
MAX_NODES = 120_000
"""Keys and values: a thousand such models have 109,000; what is refused at this bound is refused within a second."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")
_WORDS: Mapping[str, object] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document."""

    file: str
    """The name that messages show."""
    data: dict[str, Any]
    lines: Mapping[Path, int]
    """Line (from 1) of every key and list item."""

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.line(path), written(path), message)


def parse_document(text: bytes, file: str) -> Document:
    """Parses catalog text.

    Raises:
        InvalidCatalog: not YAML, or YAML beyond the subset above; lists every problem that could be told apart.
    """
    if len(text) > MAX_BYTES:
        raise _refused(file, 1, f"is {len(text):,} bytes long; at most {MAX_BYTES:,} are read")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _refused(file, line, "is not UTF-8; save it in that encoding") from None
    if (lines := text.count(b"\n")) > MAX_LINES:
        raise _refused(file, 1, f"has {lines:,} lines; at most {MAX_LINES:,} are read")
    reader = _Reader(file)
    try:
        for event in events_of(decoded):
            reader.take(event)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        reader.problems.append(Problem(mark.line + 1 if mark else 1, "", f"is not valid YAML: {printable(words, 300)}"))
    except (YAMLError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0], 300)
        reader.problems.append(Problem(1, "", f"is not valid YAML: {reason}"))
    if reader.problems:
        raise InvalidCatalog(file, reader.problems)
    if not isinstance(reader.root, dict):
        kind = "is empty" if reader.root is None else "is not a mapping"
        raise _refused(file, 1, f"{kind}; it must hold providers, models and tiers")
    return Document(file, reader.root, reader.lines)


def _refused(file: str, line: int, message: str) -> InvalidCatalog:
    return InvalidCatalog(file, [Problem(line, "", message)])


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    value: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None
    """The mapping key whose value comes next."""


@dataclass(slots=True)
class _Reader:
    """Builds plain values from events, keeping its own stack, so that depth costs no recursion."""

    file: str
    root: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    documents: int = 0
    nodes: int = 0

    def take(self, event: Event) -> None:
        if getattr(event, "anchor", None) is not None:
            self._count(event)  # of no use without aliases, and takes as long to read
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, MappingStartEvent):
            self._start(event, {})
        elif isinstance(event, SequenceStartEvent):
            self._start(event, [])
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self.open.pop()
        elif isinstance(event, AliasEvent):
            self._say(
                event, f"alias *{printable(str(event.anchor))} is not supported; write the value out where it is used"
            )
            self._place(event, None)
        elif isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._stop(event, "starts a second document; a catalog is one document")

    def _scalar(self, event: ScalarEvent) -> None:
        self._refuse_tag(event)
        parent = self.open[-1] if self.open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            self._key(event, parent)
        else:
            plain = event.style is None
            self._place(event, _resolve(event.value) if plain else event.value)

    def _key(self, event: ScalarEvent, parent: _Open) -> None:
        key = event.value
        path = (*parent.path, key)
        if key == "<<" and event.style is None:
            self._say(event, "merge key << is not supported; write the keys out")
        elif path in self.lines:
            self._say(event, f"key '{printable(key)}' stands here again; first on line {self.lines[path]}; keep one")
        else:
            self.lines[path] = event.start_mark.line + 1
        self._count(event)
        self._refuse_surrogates(event, key)
        parent.key = key

    def _start(self, event: MappingStartEvent | SequenceStartEvent, value: dict[str, Any] | list[Any]) -> None:
        self._refuse_tag(event)
        if len(self.open) >= MAX_DEPTH:
            raise self._stop(event, f"is nested more than {MAX_DEPTH} levels deep")
        path = self._place(event, value)
        self.open.append(_Open(value, path))

    def _place(self, event: Event, value: Any) -> Path:
        """Puts a value where it belongs; gives its path."""
        self._count(event)
        if isinstance(value, str):
            self._refuse_surrogates(event, value)
        if not self.open:
            self.root = value
            return ()
        parent = self.open[-1]
        if isinstance(parent.value, list):
            path: Path = (*parent.path, len(parent.value))
            self.lines[path] = event.start_mark.line + 1
            parent.value.append(value)
            return path
        if parent.key is None:
            raise self._stop(event, "has a list or mapping as a key; keys are plain text")
        path = (*parent.path, parent.key)
        parent.value[parent.key] = value
        parent.key = None
        return path

    def _count(self, event: Event) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._stop(event, f"holds more than {MAX_NODES:,} keys and values")

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._say(event, f"tag {printable(str(event.tag))} is not supported; write plain values")

    def _refuse_surrogates(self, event: Event, text: str) -> None:
        if not text.isascii() and _SURROGATE.search(text):
            self._say(event, "has half of a surrogate pair; write the character itself")

    def _say(self, event: Event, message: str) -> None:
        path = self.open[-1].path if self.open else ()
        self.problems.append(Problem(event.start_mark.line + 1, written(path), message))
        if len(self.problems) > SHOWN:
            raise InvalidCatalog(self.file, self.problems)

    def _stop(self, event: Event, message: str) -> InvalidCatalog:
        path = self.open[-1].path if self.open else ()
        return InvalidCatalog(
            self.file, [*self.problems, Problem(event.start_mark.line + 1, written(path[:4]), message)]
        )


def _resolve(text: str) -> object:
    """A plain scalar by YAML's core schema; what is no finite number of reasonable length stays text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def walk(data: Any, path: Path) -> Iterator[Any]:
    """The values along a path, as far as it exists."""
    for step in path:
        in_mapping = isinstance(data, dict) and isinstance(step, str) and step in data
        in_list = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if not (in_mapping or in_list):
            return
        data = data[step]
        yield data
