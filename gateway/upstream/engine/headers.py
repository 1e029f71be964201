"""Response headers, decoded when first asked for: most answers need two or three of the thirty they carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def pairs(head: bytes) -> list[tuple[bytes, bytes]]:
    """Name and value of every header line, names in lower case, of a head that the parser has accepted.

    `head` is status line and headers, each ending in CRLF, without the blank line.
    """
    found = []
    for line in head.split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b":")
        found.append((name.lower(), value.strip(b" \t")))
    return found


class Headers(Mapping[str, str]):
    """Headers by lower-case name; values of a repeated one are joined with a comma and a space."""

    __slots__ = ("_head", "_values", "_without")

    def __init__(self, head: bytes, without: frozenset[bytes] = frozenset()) -> None:
        self._head = head
        self._without = without
        self._values: dict[str, str] | None = None

    def _decoded(self) -> dict[str, str]:
        if self._values is None:
            values: dict[str, str] = {}
            for raw_name, raw_value in pairs(self._head):
                if raw_name in self._without:
                    continue
                name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
                values[name] = f"{values[name]}, {value}" if name in values else value
            self._values = values
        return self._values

    def __getitem__(self, name: str) -> str:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every line as it came, repeated ones apart."""
        return [(name, value) for name, value in pairs(self._head) if name not in self._without]
