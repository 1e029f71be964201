"""Response headers, decoded when first asked for: most answers need two or three of the thirty they carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def pairs(head: bytes) -> list[tuple[bytes, bytes]]:
    """Name and value of every header line, names in lower case, of a head that the parser has accepted.

    `head` is status line and headers, each ending in CRLF, without the blank line.
    """
    found = []
    for line in head.split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b":")
        found.append((name.lower(), value.strip(b" \t")))
    return found


def head_of(headers: Iterable[tuple[str, str]]) -> bytes:
    """A head such as `pairs()` reads, for responses that did not come over a connection of ours."""
    lines = [f"{name}: {value}\r\n" for name, value in headers if "\n" not in value and "\r" not in value]
    return "".join(["HTTP/1.1\r\n", *lines]).encode("latin-1", "replace")


class Headers(Mapping[str, str]):
    """Headers by lower-case name; values of a repeated one are joined with a comma and a space."""

    __slots__ = ("_head", "_values", "_without")

    def __init__(self, head: bytes, without: frozenset[str] = frozenset()) -> None:
        self._head = head
        self._without = without
        self._values: dict[str, str] | None = None

    def _decoded(self) -> dict[str, str]:
        if self._values is None:
            values: dict[str, str] = {}
            for line in self._head.decode("latin-1").split("\r\n")[1:-1]:
                raw_name, _, raw_value = line.partition(":")
                name, value = raw_name.lower(), raw_value.strip(" \t")
                values[name] = f"{values[name]}, {value}" if name in values else value
            for name in self._without:
                values.pop(name, None)
            self._values = values
        return self._values

    def get(self, name: str, default: Any = None) -> Any:  # the base class's own raises and catches for each miss
        return self._decoded().get(name, default)

    def __getitem__(self, name: str) -> str:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every line as it came, repeated ones apart."""
        without = {name.encode() for name in self._without}
        return [(name, value) for name, value in pairs(self._head) if name not in without]
