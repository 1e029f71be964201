"""The quicker scanner beside the library's own: whatever the text, the same events or the same refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import Event

from gateway.catalog.scan import events_of

SHIPPED = Path(__file__).parents[2] / "catalog.yaml"
PIECES = (
    *("a", "b c", "key", "1", "é", "a#b", "a:b", "http://x/y", "-", "?", "'x'", '"y"', '"x\\n"', "'it''s'", '"', "'"),
    *(": ", ":", "[", "]", "{", "}", ",", ", ", ":]", ":}", "- ", "? ", "|\n", ">\n", "#", " # c", " ", "  ", "\t"),
    *("\n", "\n\n", "\n  ", "\n    ", "\n- ", "\n  - ", "\n \n", "\r\n", "\r", "\x85", "\u2028", "\ufeff", "\xa0"),
    *("---", "...", "\n---\n", "%YAML 1.1\n---\n", "&a ", "*a", "!t ", "!!str ", "!<t> ", "\\"),
)


def told(events: Callable[[str], Iterable[Event]], text: str) -> list[Any]:
    """What is said of each event, and of the error that it ends with, if it does."""
    seen: list[Any] = []
    try:
        for event in events(text):
            said = [getattr(event, name, None) for name in ("value", "style", "tag", "anchor")]
            marks = [(mark.index, mark.line, mark.column) for mark in (event.start_mark, event.end_mark)]
            seen.append((type(event).__name__, *said, *marks))
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        words = str(getattr(error, "problem", None) or error).partition("\n")[0]  # the library shows the text below
        seen.append((type(error).__name__, words, mark and (mark.line, mark.column)))
    return seen


def librarys(text: str) -> Iterable[Event]:
    events: Iterable[Event] = YAML(typ="safe", pure=True).parse(text)
    return events


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_any_text_is_read_as_the_library_reads_it(text: str) -> None:
    """Values, styles and places are the same, and so is what is refused, and where."""
    assert told(events_of, text) == told(librarys, text)


def test_the_shipped_catalog_is_read_as_the_library_reads_it() -> None:
    """Every event of a real document."""
    text = SHIPPED.read_text()
    assert told(events_of, text) == told(librarys, text)


@pytest.mark.parametrize(
    "text", ["a: b\n", "a:\n- b c\n-  d\n\n- {e: f, 'g': [1, \"h\"]} # i\n", "a: https://x/y\n\n# k\nb: [p:q, r]\n"]
)
def test_what_is_written_most_often_is_never_left_to_the_library(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be as slow as before, and nothing else would tell."""

    def slowly(*_: object) -> None:
        raise AssertionError("the library's own scanner was asked")

    for name in ("scan_plain", "scan_plain_spaces", "scan_flow_scalar"):
        monkeypatch.setattr(f"ruamel.yaml.scanner.Scanner.{name}", slowly)
    assert len(list(events_of(text))) > 5
