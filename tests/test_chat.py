"""A body that names its model twice is refused, wherever the second name hides."""

from __future__ import annotations

import pytest

from gateway.chat import parse_chat
from gateway.errors import CallerError

_TALK = b'"messages":[{"role":"user","content":"hello"}]'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a",' + _TALK + b',"model":"b"}',
        b'{"model":"a","model":"b",' + _TALK + b"}",
        b"{" + _TALK + b',"model":"a",' + _TALK + b',"model":"b"}',
        b'{"user":"messages","model":"a","metadata":{"k":"[x"},"model":"b",' + _TALK + b"}",
        b'{ "model" : "a", "model" : "b", "messages" : [{"role":"user","content":"hello"}] }',
    ],
)
def test_a_model_named_twice_is_refused(body: bytes) -> None:
    """Two readers of such a body could take it for two different requests."""
    with pytest.raises(CallerError, match="more than once"):
        parse_chat(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","messages":[{"role":"user","content":"{\\"model\\":1} \\"model\\""}]}',
        b'{"messages": [{"role":"user","content":[{"type":"text","model":"x","text":"model"}]}], "model": "a"}',
        b'{"model":"a","metadata":{"model":"mine"},' + _TALK + b"}",
    ],
)
def test_a_model_named_within_something_else_is_no_second_one(body: bytes) -> None:
    """Conversations and metadata may speak of models."""
    assert parse_chat(body).model == "a"


_LONG = {
    "a number of many digits": b'{"model":"a","messages":[{"role":"user"}],"metadata":{"model":"x"},"z":'
    + b"9" * 5000
    + b"}",
    "many keys": b'{"model":"a","messages":[{"role":"user"}],"metadata":{"model":"x"},%b}'
    % b",".join(b'"a%d":1' % number for number in range(100_000)),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", _LONG)
def test_looking_for_a_second_model_costs_little(name: str) -> None:
    """Neither does a long number break it, nor do many keys take more than a look each."""
    assert parse_chat(_LONG[name]).model == "a"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty; send a JSON object"),
        (b" \n", "is empty; send a JSON object"),
        (b'{"model":"a"', "truncated"),
        (b'{"model":"a",' + _TALK + b',"user":"\\ud800"}', "half of a surrogate pair"),
        (b'{"model":"a","messages":[{"role":"usr","content":"x"}]}', "one of system, developer, user, assistant"),
    ],
)
def test_what_cannot_be_read_is_told_in_words_that_help(body: bytes, words: str) -> None:
    """An empty body, half of a character, a role that there is not."""
    with pytest.raises(CallerError) as refused:
        parse_chat(body)
    assert words in refused.value.message
