"""Requests to Ollama's own API, and the ends of its streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from gateway.chat import parse_chat
from gateway.errors import CallerError, Kind
from gateway.types import Usage
from tests.adapters.answering import HELLO, STAMP, chat, deployment, fed, provider, streaming

OLLAMA = ADAPTERS["ollama"]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PIXEL = "iVBORw0KGgo="


def sent(**members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(OLLAMA.request(chat(**members), deployment("ollama")))
    return body


def test_parameters_go_into_options() -> None:
    """OpenAI's parameters under Ollama's names, beside options of the caller's own."""
    body = sent(max_tokens=9, temperature=0.5, seed=7, stop="END", options={"num_ctx": 4096}, keep_alive="5m")
    assert body == {
        "model": "upstream-1",
        "messages": HELLO,
        "stream": False,
        "keep_alive": "5m",
        "options": {"num_ctx": 4096, "temperature": 0.5, "seed": 7, "num_predict": 9, "stop": ["END"]},
    }


def test_options_that_are_none_are_left_out() -> None:
    """What is no object says nothing; what nobody can read is refused by its name."""
    assert not sent(options=5).get("options")
    body = b'{"model":"fast","messages":[{"role":"user","content":"x"}],"options":{"num_ctx":1e400}}'
    with pytest.raises(CallerError) as refused:
        OLLAMA.request(parse_chat(body), deployment("ollama"))
    assert (refused.value.kind, refused.value.param) == (Kind.BAD_REQUEST, "options")


def test_what_ollama_is_not_told_may_be_anything() -> None:
    """A member of another provider's, and reasoning in another form."""
    messages = b'[{"role":"assistant","content":"a","reasoning_content":{"n":1e400}},{"role":"user","content":"x"}]'
    body = json.loads(
        OLLAMA.request(parse_chat(b'{"model":"fast","top_k":1e400,"messages":%b}' % messages), deployment("ollama"))
    )
    assert [sorted(message) for message in body["messages"]] == [["content", "role"]] * 2


@pytest.mark.parametrize(("effort", "think"), [("none", False), ("low", "low")])
def test_reasoning_effort_becomes_think(effort: str, think: Any) -> None:
    """The effort goes on by name, and `none` turns thinking off."""
    assert sent(reasoning_effort=effort)["think"] == think


def test_formats_are_schema_or_json() -> None:
    """A schema is sent bare, JSON mode by its word."""
    schema = {"type": "object", "properties": {}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert sent(response_format=form)["format"] == schema
    assert sent(response_format={"type": "json_object"})["format"] == "json"
    assert "format" not in sent(response_format={"type": "text"})


def test_history_with_tools_images_and_thinking() -> None:
    """Arguments as objects, results by the tool's name, images as bare base64, thinking in its own member."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    assert sent(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1", "tool_name": "f"},
    ]


def test_no_tools_are_sent_where_none_may_be_called() -> None:
    """`tool_choice: none` cannot be said, so the tools stay away."""
    assert "tools" not in sent(tools=[TOOL], tool_choice="none")
    assert len(sent(tools=[TOOL], tool_choice="auto")["tools"]) == 1


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a"}}]}
                ]
            },
            "messages[0].content[0]",
        ),
    ],
)
def test_what_ollama_cannot_be_told_is_refused(members: dict[str, Any], param: str) -> None:
    """A request that would change its meaning is refused, naming the field."""
    with pytest.raises(CallerError) as caught:
        sent(**members)
    assert caught.value.param == param
    assert caught.value.kind is Kind.BAD_REQUEST


def test_error_line_within_a_stream_fails_it() -> None:
    """Ollama tells a failure as a line of its own."""
    stream = OLLAMA.stream(streaming(), STAMP)
    line = json.dumps({"model": "m", "message": {"content": "a"}}).encode() + b"\n"
    out = fed(stream, [line + b'{"error":"model runner has stopped"}\n'])
    assert b'"a"' in out
    assert b"[DONE]" not in out
    assert stream.failure is not None


def test_prompt_count_may_be_absent() -> None:
    """A prompt that was cached whole is not counted; an answer without counts tells no usage."""
    body = {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": True, "eval_count": 2}
    assert OLLAMA.completion(json.dumps(body).encode(), chat(), STAMP).usage == Usage(output=2)
    del body["eval_count"]
    assert OLLAMA.completion(json.dumps(body).encode(), chat(), STAMP).usage is None


def test_addresses_stand_below_the_servers_root() -> None:
    """With or without `/api` in the base URL; a key only where there is one."""
    for base_url in ("http://127.0.0.1:11434", "http://127.0.0.1:11434/api/"):
        endpoint = OLLAMA.endpoint(provider("ollama", base_url, key=None), "m", stream=True)
        assert endpoint.target == "/api/chat"
        assert "authorization" not in dict(endpoint.headers)
    listing = OLLAMA.models_endpoint(provider("ollama", "https://ollama.com", key="k"))
    assert listing is not None
    assert (listing.target, dict(listing.headers)["authorization"]) == ("/api/tags", "Bearer k")


def test_models_are_listed_by_the_name_that_requests_use() -> None:
    """`/api/tags` names each model with its tag."""
    body = json.dumps({"models": [{"name": "llama3:8b", "model": "llama3:8b", "size": 1}, {"name": "x"}]}).encode()
    (listed,) = OLLAMA.models(body)
    assert listed.id == "llama3:8b"
