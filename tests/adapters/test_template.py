"""Runs of plain events: never one too many, and none too few where every event is plain."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.template import Template

_PREFIX, _SUFFIX = b'data: {"delta":{"content":"', b'"},"finish_reason":null}\n\n'
_PIECES = [
    b"a",
    b'"',
    b"\\",
    b"\n",
    b"\n\n",
    b'\\"',
    b"{",
    _PREFIX,
    _SUFFIX,
    _SUFFIX + _PREFIX,
    _SUFFIX + b"event: x\n\n",
]
_said = st.lists(st.sampled_from(_PIECES), max_size=4).map(b"".join)


def _events(said: list[bytes]) -> bytes:
    return b"".join(_PREFIX + text + _SUFFIX for text in said)


@given(st.lists(_said, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_a_run_holds_nothing_but_events_of_the_template(said: list[bytes], counted: bool, alone: bool) -> None:
    """However texts, quotes, line ends and other events are mixed: what is relayed unseen is what it seems."""
    text = _events(said)
    stop, count = Template(_PREFIX, _SUFFIX, counted=counted).run(text, 0, alone=alone)
    if not stop:
        return
    run = text[:stop]
    assert run.startswith(_PREFIX)
    assert run.endswith(_SUFFIX)
    found = run[len(_PREFIX) : -len(_SUFFIX)].split(_SUFFIX + _PREFIX)
    assert len(found) == count
    assert not any(b"\n" in one for one in found)
    if counted:
        assert all(one.count(b'"') == one.count(b'\\"') and not one.endswith(b"\\") for one in found)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters='"\\')), min_size=1, max_size=8), st.booleans())
def test_a_whole_read_of_plain_events_is_one_run(said: list[str], counted: bool) -> None:
    """What follows it stays apart."""
    text = _events([json.dumps(one, ensure_ascii=False)[1:-1].encode() for one in said])
    template = Template(_PREFIX, _SUFFIX, counted=counted)
    assert template.run(b"..." + text + b"data: [DONE]\n\n", 3, alone=False) == (3 + len(text), len(said))
    assert template.run(text, 0, alone=True) == (text.index(b"\n\n") + 2, 1)


@pytest.mark.parametrize(
    ("said", "taken"), [(b'a\\"b', True), (b'a","x":"b', False), (b"a\\", False), (b"a\\\\", False), (b"", True)]
)
def test_quotes_count_where_a_text_may_hide_something(said: bytes, taken: bool) -> None:
    """A backslash before the closing quote is not certain to be one of its own, and so is looked at closely."""
    text = _events([b"x", said, b"y"])
    stop, _ = Template(_PREFIX, _SUFFIX, counted=True).run(text, 0, alone=False)
    assert (stop == len(text)) is taken
