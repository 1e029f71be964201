"""Regular expressions mean the same in every Python that we run on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [path for folder in ("adapters", "gateway", "policies") for path in sorted((ROOT / folder).rglob("*.py"))]
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]*\})\+")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_group_is_repeated_possessively(path: Path) -> None:
    """Before Python 3.11.5 such a group may end behind what it does not match.

    Source: https://github.com/python/cpython/issues/106052 (read 2026-11-21). A single character or class is safe.
    """
    assert not POSSESSIVE_GROUP.search(path.read_text())


@pytest.mark.parametrize(("pattern", "found"), [(r"(?:ab?c)*+", True), (r"(a){2,3}+", True), (r"[ab]*+(?:c)+", False)])
def test_such_a_group_is_found(pattern: str, found: bool) -> None:
    """Else the test above could not fail."""
    assert bool(POSSESSIVE_GROUP.search(pattern)) is found
