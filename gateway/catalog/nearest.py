"""The names most like one that there is not, found in a time that does not grow with the catalog."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable

_MOST_CHARACTERS = 128
_MOST_SEEN = 1_000
"""Entries of the index that one search looks at; the rarest pairs of letters come first, since they tell most."""
_COMPARED = 12
"""Names that are compared letter by letter."""
_CUTOFF = 0.4


class Nearest:
    """An index of names by pairs of letters. Comparing with each name would stop the event loop for 20 ms at 1,000
    models, and whoever has a key may ask for names that there are not."""

    __slots__ = ("_having",)

    def __init__(self, names: Iterable[str]) -> None:
        having: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            for pair in _pairs(name):
                having[pair].append(name)
        self._having = dict(having)

    def find(self, name: str, count: int) -> list[str]:
        """At most `count` names, the nearest first, whatever their case."""
        name = name[:_MOST_CHARACTERS].lower()
        lists = sorted((self._having[pair] for pair in _pairs(name) if pair in self._having), key=len)
        shared: Counter[str] = Counter()
        left = _MOST_SEEN
        for names in lists:
            shared.update(names[:left])
            left -= len(names)
            if left <= 0:
                break
        best = {found.lower(): found for found, _ in shared.most_common(_COMPARED)}
        return [best[found] for found in difflib.get_close_matches(name, best, n=count, cutoff=_CUTOFF)]


def _pairs(name: str) -> list[str]:
    """Each once, in lower case, with the beginning and the end of the name as letters."""
    text = f"^{name.lower()}$"
    return list(dict.fromkeys(map(str.__add__, text, text[1:])))
