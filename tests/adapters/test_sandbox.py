"""The sandbox answers every request of OpenAI's API, always the same way, and fails on demand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from adapters.sandbox import MODELS, answer, listing
from adapters.sandbox_schema import instance
from gateway.chat import parse_chat
from gateway.errors import Kind
from tests.adapters.answering import STAMP, fed, message_of, said

SANDBOX = ADAPTERS["sandbox"]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "days", "unit"],
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": WEATHER}} for name in ("weather", "news")]
FORM = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}


def request(text: Any = "Hello there, world!", **members: Any) -> dict[str, Any]:
    return {"model": "sandbox-small", "messages": [{"role": "user", "content": text}], **members}


def body_of(**members: Any) -> dict[str, Any]:
    """The buffered answer."""
    reply = answer(json.dumps(request(**members)).encode())
    assert reply.status == 200
    body: dict[str, Any] = json.loads(b"".join(reply.pieces))
    return body


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"model": "sandbox-large"},
        {"model": "sandbox-reasoning", "reasoning_effort": "high"},
        {"max_tokens": 2},
        {"model": "sandbox-reasoning", "max_completion_tokens": 3},
        {"stop": ["there"]},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "text": "Please call all of them"},
        {"response_format": FORM},
        {"metadata": {"sandbox": "tokens=50,cached_tokens=4"}},
    ],
)
def test_streamed_and_buffered_answers_are_the_same(members: dict[str, Any]) -> None:
    """Text, reasoning, calls, finish reason and usage do not depend on how the answer comes."""
    whole = request(**members)
    buffered = SANDBOX.completion(
        answer(json.dumps(whole).encode()).pieces[0], parse_chat(json.dumps(whole).encode()), STAMP
    )
    asked = json.dumps({**whole, "stream": True, "stream_options": {"include_usage": True}}).encode()
    stream = SANDBOX.stream(parse_chat(asked), STAMP)
    pieces = list(answer(asked).pieces)
    out = fed(stream, pieces)
    assert out == b"".join(pieces)
    assert said(out) == message_of(buffered.body)
    assert stream.usage == buffered.usage


def test_answer_echoes_what_was_said() -> None:
    """Text and media of the last message are named in the answer."""
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    assert body_of()["choices"][0]["message"]["content"] == "You said: Hello there, world!"
    assert body_of(text=parts)["choices"][0]["message"]["content"] == "You said: Look [image]"


def test_token_limit_cuts_the_answer() -> None:
    """As many tokens as allowed, finish reason `length`, and thinking counts among them."""
    body = body_of(max_tokens=2)
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 2)
    body = body_of(model="sandbox-reasoning", max_completion_tokens=3)
    assert body["choices"][0]["message"]["content"] == ""
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3


def test_choices_are_as_many_as_asked_for() -> None:
    """n choices, told apart."""
    choices = body_of(n=3)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"text": "Hello"}, []),
        ({"text": "Please call it"}, ["weather"]),
        ({"text": "Please call all"}, ["weather", "news"]),
        ({"text": "Please call all", "parallel_tool_calls": False}, ["weather"]),
        ({"tool_choice": "required"}, ["weather"]),
        ({"tool_choice": {"type": "function", "function": {"name": "news"}}}, ["news"]),
        ({"text": "Please call it", "tool_choice": "none"}, []),
        ({"tool_choice": allowed("required", "news")}, ["news"]),
        ({"text": "Please call all", "tool_choice": allowed("auto", "news")}, ["news"]),
        ({"tool_choice": allowed("auto", "news")}, []),
        ({"tool_choice": allowed("required", "sports")}, []),
    ],
)
def test_tools_are_called_where_the_request_says_so(members: dict[str, Any], names: list[str]) -> None:
    """By tool_choice, or by the word in the text."""
    calls = body_of(tools=TOOLS, **members)["choices"][0]["message"].get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == names
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert (arguments["days"], arguments["unit"]) == (2, "c")


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), (allowed("required", "news"), "tool_calls"), ({"function": {"name": "news"}}, "stop")],
)
def test_a_call_that_was_named_ends_otherwise(choice: Any, reason: str) -> None:
    """As with OpenAI: `stop` only where the request leaves no choice at all."""
    assert body_of(tools=TOOLS, tool_choice=choice)["choices"][0]["finish_reason"] == reason


def test_tool_result_ends_the_turn() -> None:
    """After a tool's result the sandbox says what the tool said instead of calling again."""
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "call it"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    assert body_of(messages=history, tools=TOOLS)["choices"][0]["message"]["content"] == "The tool said: sunny"


@pytest.mark.parametrize(
    ("directive", "kind", "wait_s"),
    [
        ("error=429,retry_after=2", Kind.RATE_LIMITED, 2.0),
        ("error=insufficient_quota", Kind.PROVIDER_QUOTA, None),
        ("error=401", Kind.OUR_KEY_REFUSED, None),
        ("error=404", Kind.UPSTREAM_MODEL_MISSING, None),
        ("error=context_length_exceeded", Kind.CONTEXT_TOO_LONG, None),
        ("error=content_filter", Kind.CONTENT_FILTERED, None),
        ("status=503", Kind.OVERLOADED, None),
        ("error=500", Kind.BROKEN, None),
        ("bogus=1", Kind.REJECTED, None),
        ("latency_ms=soon", Kind.REJECTED, None),
        ("tokens=inf", Kind.REJECTED, None),
        ("cut_after=nan", Kind.REJECTED, None),
        ("error=200", Kind.REJECTED, None),
        ("error=999", Kind.REJECTED, None),
        ("error=", Kind.REJECTED, None),
    ],
)
def test_errors_come_on_demand(directive: str, kind: Kind, wait_s: float | None) -> None:
    """By metadata or by a word in the text; a directive that is unknown is refused."""
    for asked in (request(metadata={"sandbox": directive}), request(f"Please fail. sandbox({directive})")):
        reply = answer(json.dumps(asked).encode())
        error = SANDBOX.error(reply.status, reply.headers, b"".join(reply.pieces))
        assert (error.kind, error.retry_after_s) == (kind, wait_s)


_FAN = {"type": "object", "properties": {name: {"$ref": "#/$defs/a"} for name in "abcd"}, "required": list("abcd")}
_DOUBLED = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}


def _formed(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


COSTLY: dict[str, dict[str, Any]] = {
    "a schema that holds itself four times": _formed({"$defs": {"a": _FAN}, "$ref": "#/$defs/a"}),
    "a schema of two to the fortieth parts": _formed({"$defs": _DOUBLED, "$ref": "#/$defs/d0"}),
    "long strings": _formed({"type": "array", "minItems": 1e308, "items": {"type": "string", "minLength": 1e308}}),
    "many tools": {
        "n": 128,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": _FAN}}] * 2000,
        "tool_choice": "required",
        "text": "call all",
    },
    "directives that never end": {"text": "sandbox(" * 200_000},
    "many directives": {"text": "sandbox(tokens=1)" * 100_000},
    "a long echo": {"text": "a b " * 500_000, "stream": True, "n": 128},
    "many tokens": {"n": 128, "logprobs": True, "top_logprobs": 20, "metadata": {"sandbox": "tokens=1e300"}},
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", COSTLY)
def test_no_request_is_costly(name: str) -> None:
    """The sandbox answers on the gateway's own loop, so what any request can make it say is bounded."""
    reply = answer(json.dumps(request(**COSTLY[name])).encode())
    assert reply.status == 200
    assert sum(map(len, reply.pieces)) < 20_000_000


@pytest.mark.parametrize(
    "members",
    [
        _formed({"allOf": 5}),
        _formed({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        _formed({"type": "integer", "minimum": 1e308, "multipleOf": 1e-300}),
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"allOf": 5}}}], "text": "call"},
    ],
)
def test_a_schema_that_is_none_is_refused(members: dict[str, Any]) -> None:
    """As a request that is wrong, not as a fault of ours."""
    reply = answer(json.dumps(request(**members)).encode())
    assert reply.status == 400
    assert "JSON Schema" in json.loads(reply.pieces[0])["error"]["message"]


@pytest.mark.parametrize(
    "members",
    [
        {"response_format": {"type": "json_schema", "json_schema": 5}},
        {"tool_choice": {"function": 5}, "tools": TOOLS},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": 5}, "tools": TOOLS},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": 5}}, "tools": TOOLS},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": [], "tools": [5, {}]}}, "tools": TOOLS},
        {"tool_choice": "required", "tools": [{"type": "function", "function": {}}]},
        _formed({"type": 5, "$ref": 5, "required": 5}),
    ],
)
def test_odd_members_are_taken_as_absent(members: dict[str, Any]) -> None:
    """What has the wrong type deep within the request does not break the sandbox."""
    assert answer(json.dumps(request(**members)).encode()).status == 200


def test_times_and_cuts_are_told_to_the_transport() -> None:
    """The reply says how it is to come."""
    steer = {"metadata": {"sandbox": "latency_ms=300,gap_ms=20,cut_after=5"}}
    reply = answer(json.dumps(request(stream=True, **steer)).encode())
    assert (reply.latency_s, reply.gap_s, len(reply.pieces), reply.cut) == (0.3, 0.02, 5, True)


def test_bad_request_is_refused_as_elsewhere() -> None:
    """What is no chat request gets a 400 in OpenAI's form."""
    reply = answer(b'{"model":"sandbox-small"}')
    assert reply.status == 400
    assert json.loads(reply.pieces[0])["error"]["param"] == "messages"


def test_models_can_be_listed() -> None:
    """Discovery finds the three models."""
    assert [model.id for model in SANDBOX.models(listing().pieces[0])] == list(MODELS)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "hi"),
        ({"type": "string", "minLength": 4}, "hi.."),
        ({"type": "string", "maxLength": 1}, "h"),
        ({"type": "string", "format": "date"}, "2025-01-15"),
        ({"type": ["null", "integer"], "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "multipleOf": 5}, 5),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"const": 3}, 3),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "null"}, {"const": 1}]}, 1),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
        ({"type": "array", "items": {"const": 1}, "minItems": 2}, [1, 1]),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"const": "y"}}}, "y"),
        ({"properties": {"a": {"type": "object"}}}, {"a": {}}),
    ],
)
def test_instances_fit_their_schema(schema: dict[str, Any], value: Any) -> None:
    """The commonest keywords are kept to."""
    assert instance(schema, "hi") == value


def test_schema_that_contains_itself_comes_to_an_end() -> None:
    """Recursion ends where it may: at null, at what is not required, and at the latest where it is too deep."""
    node: dict[str, Any] = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    assert depth(instance(node, "x")) < 10
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert depth(instance(endless, "x")) < 20


def depth(value: Any) -> int:
    return 1 + depth(value["next"]) if isinstance(value, dict) and "next" in value else 0
