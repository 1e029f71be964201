"""What a request needs, read from its body."""

from __future__ import annotations

import json
import warnings
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import parse_chat
from gateway.errors import CallerError
from gateway.routing.needs import infer_needs
from gateway.types import Capability, Needs, Options, capabilities_of

C = Capability
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def inferred(options: Options | None = None, **body: Any) -> Needs:
    """The needs of a request with one short message, unless the body says otherwise."""
    whole = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], **body}
    return infer_needs(parse_chat(msgspec.json.encode(whole)), options or Options())


def message(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "look"}, *parts]}]


def test_the_text_is_measured_for_those_whose_tokenizer_is_known() -> None:
    """Its bytes in JSON; none where media weigh in."""
    assert inferred().text_bytes == len(b'[{"role":"user","content":"hi"}]')
    assert inferred(messages=message({"type": "image_url", "image_url": {"url": "https://x/y.png"}})).text_bytes == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, set()),
        ({"stream": True}, {C.STREAMING}),
        ({"stream": False}, set()),
        ({"tools": [TOOL]}, {C.FUNCTION_CALLING}),
        ({"tools": []}, set()),
        ({"functions": [{"name": "f"}]}, {C.FUNCTION_CALLING}),
        ({"tools": [TOOL], "parallel_tool_calls": True}, {C.FUNCTION_CALLING, C.PARALLEL_TOOL_CALLS}),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {C.FUNCTION_CALLING}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {C.JSON_MODE}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, {C.STRUCTURED_OUTPUT}),
        ({"response_format": {"type": ["odd"]}}, set()),
        ({"logprobs": True}, {C.LOGPROBS}),
        ({"logprobs": False}, set()),
        ({"n": 1}, set()),
        ({"n": 2}, {C.MULTIPLE_CHOICES}),
        ({"reasoning_effort": "low"}, {C.EXTENDED_THINKING}),
        ({"reasoning_effort": "none"}, set()),
        ({"modalities": ["text"]}, set()),
        ({"modalities": ["text", "audio"]}, {C.AUDIO_OUTPUT}),
        ({"messages": message({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}})}, {C.IMAGE_INPUT}),
        ({"messages": message({"type": "input_audio", "input_audio": {"data": "AAAA"}})}, {C.AUDIO_INPUT}),
        ({"messages": message({"type": "file", "file": {"file_id": "f"}})}, {C.DOCUMENT_INPUT}),
        ({"messages": message({"type": "video_url", "video_url": {"url": "x"}})}, {C.VIDEO_INPUT}),
        ({"messages": message({"type": "something_new", "text": "?"})}, set()),
        ({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]}, set()),
        ({"messages": [{"role": "tool", "content": "42", "tool_call_id": "c"}]}, {C.FUNCTION_CALLING}),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, set()),
    ],
)
def test_capabilities_follow_from_the_body(body: dict[str, Any], expected: set[Capability]) -> None:
    """Text output is always needed; everything else only where the answer would not be what was asked for."""
    assert set(capabilities_of(inferred(**body).mask)) == {C.TEXT_OUTPUT, *expected}


def test_what_the_caller_requires_is_needed() -> None:
    """Requirements beyond the body join those of the body."""
    needs = inferred(Options(require=C.CODE_GENERATION.bit), stream=True)
    assert set(capabilities_of(needs.mask)) == {C.TEXT_OUTPUT, C.STREAMING, C.CODE_GENERATION}


def test_choices_stream_and_output_cap_are_read() -> None:
    """`max_completion_tokens` counts over its older name."""
    needs = inferred(n=3, stream=True, max_tokens=10, max_completion_tokens=20)
    assert (needs.choices, needs.stream, needs.output_tokens) == (3, True, 20)
    assert inferred(max_tokens=10).output_tokens == 10
    assert inferred().output_tokens is None


def test_the_estimate_is_a_quarter_of_the_bytes() -> None:
    """Text counts by its length, wherever it stands."""
    plain = inferred(messages=[{"role": "user", "content": "x" * 40_000}])
    parts = inferred(messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 40_000}]}])
    assert 10_000 <= plain.input_tokens <= 10_020
    assert 10_000 <= parts.input_tokens <= 10_030


def test_the_bound_is_a_token_for_each_byte_and_more() -> None:
    """No tokenizer makes more tokens than bytes, and templates add a little."""
    text = "日本語" * 1000
    assert inferred(messages=[{"role": "user", "content": text}]).input_bound_tokens >= len(text.encode())


WORDS = ["日本語のテキスト", "Привет, мир", "😀👍🏽", "plain", "a <b> & 'c' \u0001\u007f", "नमस्ते ไทย \u0800\uffff"]


@pytest.mark.parametrize("text", WORDS)
def test_escaped_text_counts_as_the_text_it_is(text: str) -> None:
    """A client that writes ASCII alone is estimated and bounded like one that writes UTF-8, tools and schemas too."""
    tools = [{"type": "function", "function": {"name": "f", "description": text * 20}}]
    form = {"type": "json_schema", "json_schema": {"name": "x", "description": text * 20}}
    body = {"model": "fast", "messages": [{"role": "user", "content": text * 50}]}
    body |= {"tools": tools, "response_format": form}
    escaped, plain = (
        infer_needs(parse_chat(json.dumps(body, ensure_ascii=ascii).encode()), Options()) for ascii in (True, False)
    )
    assert escaped.input_bound_tokens >= 90 * len(text.encode())
    if text.isprintable():
        assert escaped == plain


def test_escapes_beside_text_as_it_is_count_by_their_bytes() -> None:
    """Nobody writes so; the bound holds all the same, and the body is not searched."""
    raw = rb'{"model":"fast","messages":[{"role":"user","content":"' + rb"\u65e5" * 50 + "é".encode() * 50 + b'"}]}'
    assert infer_needs(parse_chat(raw), Options()).input_bound_tokens >= 50 * 6 + 50 * 2


NASTY = st.text(st.sampled_from('\\u0123dD8cCfFé"日😀\x00/n'), max_size=40)


@given(st.lists(NASTY, min_size=1, max_size=4), st.booleans())
def test_the_bound_is_never_less_than_the_text(texts: list[str], parts: bool) -> None:
    """Whatever backslashes, quotes and things that look like escapes stand in it."""
    content: Any = [{"type": "text", "text": text} for text in texts] if parts else "".join(texts)
    body = {"model": "fast", "messages": [{"role": "user", "content": content}]}
    needs = infer_needs(parse_chat(json.dumps(body).encode()), Options())
    assert needs.input_bound_tokens >= sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_an_escaped_slash_is_no_harm(action: Literal["error", "ignore"]) -> None:
    """PHP writes it so. Python knows no such escape, and says so where warnings are on."""
    content = '"https:\\/\\/example.com\\/caf\\u00e9"'
    raw = f'{{"model":"fast","messages":[{{"role":"user","content":{content}}}]}}'.encode()
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        needs = infer_needs(parse_chat(raw), Options())
    assert needs.input_bound_tokens >= len("https://example.com/café".encode())


def test_long_escaped_text_counts_as_the_text_it_is() -> None:
    """However long it is, of any script."""
    for text, most in (("語" * 100_000, 3.01), ("я" * 100_000, 2.01), ("😀" * 10_000, 4.03)):
        raw = json.dumps({"model": "fast", "messages": [{"role": "user", "content": text}]}).encode()
        bound = infer_needs(parse_chat(raw), Options()).input_bound_tokens
        assert len(text.encode()) <= bound <= most * len(text)


def test_escapes_in_a_payload_are_not_taken_off_twice() -> None:
    """What is no text is not counted as text, however its bytes are written."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/" + "é" * 500}}
    body = {"model": "fast", "messages": message(image, {"type": "text", "text": "日" * 100})}
    escaped, plain = (
        infer_needs(parse_chat(json.dumps(body, ensure_ascii=ascii).encode()), Options()) for ascii in (True, False)
    )
    assert escaped == plain


def test_half_a_surrogate_pair_is_refused() -> None:
    """So that no escape can stand for more than what it is counted as."""
    for half in ("\\ud800", "\\udc00x", "\\ud800\\u0041"):
        with pytest.raises(CallerError):
            parse_chat(b'{"model":"fast","messages":[{"role":"user","content":"%b"}]}' % half.encode())


def test_tools_and_schemas_count_as_prompt() -> None:
    """Providers render them into the prompt, with words of their own for tools."""
    plain = inferred()
    schema = inferred(response_format={"type": "json_schema", "json_schema": {"description": "x" * 4000}})
    tools = inferred(tools=[{**TOOL, "description": "x" * 4000}])
    assert schema.input_tokens - plain.input_tokens >= 1000
    assert tools.input_tokens - plain.input_tokens >= 1000
    assert tools.input_bound_tokens - plain.input_bound_tokens >= 5000


def test_inline_media_count_by_kind_and_not_as_text() -> None:
    """A megabyte of image data is one image, not a quarter of a million tokens."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    needs = inferred(messages=message(image, image))
    assert needs.input_tokens < 5_000
    assert 100_000 <= needs.input_bound_tokens < 110_000


def test_media_out_of_sight_are_bounded_high() -> None:
    """A file by its id or a video by its URL may be large; a hold must cover that."""
    assert inferred(messages=message({"type": "file", "file": {"file_id": "f"}})).input_bound_tokens >= 100_000
    assert inferred(messages=message({"type": "video_url", "video_url": {"url": "u"}})).input_bound_tokens >= 1_000_000


def test_a_part_without_its_payload_is_left_to_the_provider() -> None:
    """A malformed part needs its capability all the same."""
    assert C.IMAGE_INPUT in capabilities_of(inferred(messages=message({"type": "image_url"})).mask)


@pytest.mark.parametrize("content", [["text"], [1], [[]], [{"type": 1}]])
def test_content_that_is_no_list_of_parts_is_refused(content: list[Any]) -> None:
    """The error names the message."""
    with pytest.raises(CallerError, match="content parts must be objects") as error:
        inferred(messages=[{"role": "user", "content": "hi"}, {"role": "user", "content": content}])
    assert error.value.param == "messages[1].content"
