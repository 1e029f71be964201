"""A document that another process parsed is the same as one that this one did."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

from gateway.catalog import reading
from gateway.catalog.document import parse_document
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.reading import parse_elsewhere


@pytest.fixture(autouse=True)
def _nothing_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHORT_BYTES", -1)


ODD = """\
a: [1, -7, 1.5, 1e3, true, ~, "", 999999999999999999, "ä\\u0000\\n", {b: {c: [[]]}}]
"": 0
1: {2: 3}
"""


@pytest.mark.parametrize("text", [(ROOT / "catalog.yaml").read_bytes(), ODD.encode()], ids=["shipped", "odd"])
def test_data_and_lines_are_the_same(text: bytes) -> None:
    """Every value with its type, every key and item with its line, all in their order."""
    ours, theirs = parse_document(text, "file"), parse_elsewhere(text, "file")
    assert repr(theirs.data) == repr(ours.data)
    assert list(theirs.lines.items()) == list(ours.lines.items())
    assert theirs.file == "file"


@pytest.mark.parametrize("text", [b"a: [", b"a: 1\na: 2\nb: *c", b"\xff", b"", b"- 1", b'a: "\\ud800"'])
def test_problems_are_the_same(text: bytes) -> None:
    """With line, place and words."""
    with pytest.raises(InvalidCatalog) as ours:
        parse_document(text, "file")
    with pytest.raises(InvalidCatalog) as theirs:
        parse_elsewhere(text, "file")
    assert theirs.value.problems == ours.value.problems
    assert str(theirs.value) == str(ours.value)


def test_a_short_document_is_worth_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is parsed at once."""
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(reading, "SHORT_BYTES", 4)
    assert parse_elsewhere(b"a: 1", "file").data == {"a": 1}


@pytest.mark.parametrize("failure", [OSError("no processes left"), subprocess.CalledProcessError(1, "python")])
def test_where_no_process_can_be_had_this_one_parses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    """A container may forbid them; reloads go on."""

    def refuse(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", refuse)
    assert parse_elsewhere(b"a: 1", "file").data == {"a": 1}
