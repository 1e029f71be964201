"""The quick look at plain chunks sees what the thorough one sees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import ADAPTERS
from adapters.plain_chunk import plain_chunk
from tests.adapters.answering import STAMP, chunk, fed, sse, streaming

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
_TEXTS = st.sampled_from(["", "a", "ü☀", ' "quoted"', " \n\n data: x", None])
_DELTAS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={"role": st.sampled_from(["assistant", "user", None]), "content": _TEXTS, "reasoning_content": _TEXTS},
    ),
    st.just({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f"}}]}),
)
_CHUNKS = st.one_of(
    st.builds(chunk, _DELTAS, st.sampled_from([None, None, None, "stop", "length", "tool_calls", "odd"])),
    st.builds(
        lambda delta, change: {**chunk(delta), **change},
        _DELTAS,
        st.sampled_from([{"id": "another"}, {"created": 0}, {"usage": USAGE}, {"obfuscation": "x"}, {"extra": 1}]),
    ),
    st.builds(lambda usage: chunk(choices=[], usage=usage), st.sampled_from([USAGE, {}, {"prompt_tokens": 3}, None])),
)


def outcome(body: bytes) -> tuple[Any, ...]:
    stream = ADAPTERS["openai"].stream(streaming(), STAMP)
    out = fed(stream, [body])
    failure = None if stream.failure is None else stream.failure.kind
    return out, failure, stream.usage, stream.model, stream.service_tier, stream.output_bytes, stream.started


@given(st.lists(_CHUNKS, max_size=6), st.booleans())
def test_both_looks_give_the_same_answer(events: list[dict[str, Any]], done: bool) -> None:
    """Bytes, usage and verdict of a stream do not depend on which of its chunks were judged quickly."""
    body = sse(chunk({"role": "assistant", "content": ""}), *events, *(["data: [DONE]"] if done else []))
    quick = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapters.openai_stream.plain_chunk", lambda block: None)
        thorough = outcome(body)
    assert quick == thorough


@pytest.mark.parametrize(
    "block",
    [
        b'data: {"id":"a"}\n\n',
        b"data: [DONE]\n\n",
        b": comment\n\n",
        sse(chunk({"content": "x"})).replace(b"data: ", b"event: x\ndata: "),
        sse(chunk({"content": "x"})).replace(b', "', b',\n"', 1),
        sse(chunk({"content": "x"})).replace(b'"index": 0', b'"index": 1'),
        sse(chunk({"content": "x"})).replace(b'"x"', b'"\xff"'),
        b"data: " + b'{"id":' * 10_000 + b"\n\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_thorough_look(block: bytes) -> None:
    """Other framing, other members, other choices, bytes that are no text."""
    assert plain_chunk(block) is None
