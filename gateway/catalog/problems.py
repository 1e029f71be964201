"""What is wrong with a catalog document: every problem at once, each with its line, its place and its fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.errors import CatalogError, masked

Path = tuple[str | int, ...]
"""Keys and indexes from the root of the document to a value."""

SHOWN = 100
"""Problems that one error message lists; a thoroughly broken document would otherwise fill the log."""
WORDED = 1_000
"""Problems of a sort that are put into words, which takes longer than to find them."""

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
"""User and password of an address."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend in the document."""

    line: int
    """Line in the file, counted from 1; 0 where no line is to blame."""
    path: str
    """Where in the document, e.g. `tiers.fast.models[1]`; empty for the document as a whole."""
    message: str
    """What is wrong, the offending value, and what to do."""

    def at(self, file: str) -> str:
        """As editors and terminals like it: `catalog.yaml:42: tiers.fast.models[1]: unknown model …`."""
        place = f"{self.path}: " if self.path else ""
        return f"{file}{f':{self.line}' if self.line else ''}: {place}{self.message}"


class InvalidCatalog(CatalogError):
    """A document that cannot take effect. `problems` holds all that was found, in the order of their lines."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems: Sequence[Problem] = tuple(sorted(set(problems)))
        lines = [problem.at(file) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"{file}: {len(self.problems) - SHOWN} more problems")
        super().__init__("\n".join(lines))


def written(path: Path) -> str:
    """A path as people write it: `models.gpt-5.deployments[0].provider`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{printable(step)}" if parts else printable(step))
    return "".join(parts)


def printable(text: str, limit: int = 80) -> str:
    """Text from the document as it may stand in a message: one line, cut short, nothing that looks like a key."""
    return masked(_USERINFO.sub("***@", text.replace("\n", " ").replace("\r", " ")), limit)


def shown(value: object) -> str:
    """A value of the document as it may stand in a message."""
    if isinstance(value, str):
        return f"'{printable(value)}'"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return {None: "nothing", True: "true", False: "false"}.get(value) or printable(str(value))  # type: ignore[call-overload]  # scalars only


def hint(value: str, known: Iterable[str], *, what: str = "known") -> str:
    """The fix for a name that does not exist: the nearest one, or what there is to choose from."""
    names = list(known)
    near = difflib.get_close_matches(value[:128], names, n=1, cutoff=0.6)
    if near:
        return f" — did you mean {shown(near[0])}?"
    if not names:
        return f" — {what}: none"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f" — {what}: {', '.join(map(printable, sorted(names)[:12]))}{more}"
