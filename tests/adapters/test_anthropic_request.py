"""OpenAI's chat requests as Anthropic gets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from gateway.chat import parse_chat
from gateway.errors import CallerError
from tests.adapters.wire_harness import deployment_of

HELLO = {"role": "user", "content": "Hello"}
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}


def sent(*messages: dict[str, Any], params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """What goes upstream for a request with these messages and fields."""
    adapter = ADAPTERS["anthropic"]
    body = {"model": "fast", "messages": list(messages) or [HELLO], **fields}
    chat = parse_chat(json.dumps(body).encode())
    made: dict[str, Any] = json.loads(adapter.request(chat, deployment_of(adapter, **(params or {}))))
    return made


def refusal(*messages: dict[str, Any], **fields: Any) -> CallerError:
    """The error of a request that cannot be translated."""
    with pytest.raises(CallerError) as caught:
        sent(*messages, **fields)
    return caught.value


def call(ident: str, name: str = "get_weather", arguments: str = "{}") -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_plain_request_carries_model_text_and_limits() -> None:
    """Scalars go over under Anthropic's names."""
    assert sent(HELLO, max_completion_tokens=99, temperature=0.5, top_p=0.9, stop="END", stream=True) == {
        "model": "the-model",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
    }


def test_max_tokens_is_given_where_the_caller_gives_none() -> None:
    """Anthropic demands max_tokens: 4096 where the catalog knows no limit of the model."""
    assert sent()["max_tokens"] == 4096


def test_system_and_developer_messages_become_the_system_prompt() -> None:
    """Instructions are gathered in order; their cache marks stay."""
    marked = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = sent({"role": "system", "content": [marked]}, HELLO, {"role": "developer", "content": "Be brief."})
    assert body["system"] == [marked, {"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert sent({"role": "system", "content": "Be kind."}, HELLO)["system"] == "Be kind."


def test_conversation_of_instructions_alone_becomes_a_users_turn() -> None:
    """Anthropic wants a user's turn where OpenAI does not."""
    body = sent({"role": "system", "content": "Say hello."})
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
    assert "system" not in body


def test_tool_results_of_a_turn_stand_first_in_one_users_turn() -> None:
    """Results of parallel calls and the text after them are one turn, results first."""
    body = sent(
        HELLO,
        {"role": "assistant", "content": "Looking.", "tool_calls": [call("a", arguments='{"city":"Köln"}'), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        {"role": "user", "content": "Well?"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "sun"}]},
    )
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "b", "name": "get_weather", "input": {}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "b", "content": "sun"},
        {"type": "text", "text": "Well?"},
    ]
    assert len(body["messages"]) == 3


def test_tool_call_ids_of_other_providers_are_made_acceptable_alike_on_both_sides() -> None:
    """Letters that Anthropic refuses in ids are replaced in call and result."""
    body = sent(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("functions.get:0")]},
        {"role": "tool", "tool_call_id": "functions.get:0", "content": "rain"},
    )
    assert body["messages"][1]["content"][0]["id"] == "functions_get_0"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "functions_get_0"


def test_empty_text_is_left_out() -> None:
    """Anthropic refuses text blocks that are empty or white space."""
    body = sent(
        HELLO, {"role": "assistant", "content": ""}, {"role": "user", "content": [{"type": "text", "text": " "}]}
    )
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def test_last_turn_of_the_assistant_loses_its_trailing_white_space() -> None:
    """A prefill must not end in white space."""
    assert sent(HELLO, {"role": "assistant", "content": "I am \n"})["messages"][1]["content"][0]["text"] == "I am"


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": PNG}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": "https://example.com/a.jpg"},
                "cache_control": {"type": "ephemeral"},
            },
            {
                "type": "image",
                "source": {"type": "url", "url": "https://example.com/a.jpg"},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"filename": "a.txt", "file_data": "SGFsbG8="}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Hallo"},
                "title": "a.txt",
            },
        ),
        (
            {"type": "file", "file": {"file_data": "https://example.com/a.pdf"}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        ),
    ],
)
def test_media_become_images_and_documents(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Images and files go over by value or by address."""
    assert sent({"role": "user", "content": [part]})["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,SUkqAA=="}},
        {"type": "image_url", "image_url": {"url": "ftp://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,raw"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": "not base64!"}},
        {"type": "hologram"},
        {"type": "image_url"},
    ],
)
def test_media_that_claude_cannot_read_are_refused_by_name(part: dict[str, Any]) -> None:
    """The error points at the part."""
    error = refusal({"role": "user", "content": [{"type": "text", "text": "See:"}, part]})
    assert error.status == 400
    assert (error.param or "").startswith("messages[0].content[1]")


def test_tools_carry_name_description_schema_and_cache_mark() -> None:
    """A tool without parameters gets an empty object schema."""
    body = sent(tools=[WEATHER, {**TIME, "cache_control": {"type": "ephemeral"}}])
    assert body["tools"] == [
        {
            "name": "get_weather",
            "description": "Weather of a city",
            "input_schema": WEATHER["function"]["parameters"],
        },
        {
            "name": "get_time",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        },
    ]
    assert "tool_choice" not in body


def test_strict_tools_get_a_strict_schema() -> None:
    """Objects are closed, and what the grammar cannot hold moves into the description."""
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "How many"},
            "when": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "minItems": 1, "maxItems": 3},
        },
        "$defs": {"Tag": {"type": "object", "properties": {"x": {"type": "string", "format": "color"}}}},
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}
    made = sent(tools=[tool])["tools"][0]
    assert made["strict"] is True
    assert made["input_schema"] == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "How many (minimum: 1)"},
            "when": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "minItems": 1, "description": "(maxItems: 3)"},
        },
        "$defs": {
            "Tag": {
                "type": "object",
                "properties": {"x": {"type": "string", "description": '(format: "color")'}},
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            {"type": "tool", "name": "get_time"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_tool_choice_is_said_in_anthropics_words(fields: dict[str, Any], choice: dict[str, Any] | None) -> None:
    """All of OpenAI's choices have a counterpart."""
    assert sent(tools=[WEATHER, TIME], **fields).get("tool_choice") == choice


def test_choice_among_allowed_tools_leaves_the_others_out() -> None:
    """OpenAI's allowed_tools has no counterpart but a shorter list."""
    named = [{"type": "function", "function": {"name": name}} for name in ("get_time", "get_date")]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["get_time"]
    assert body["tool_choice"] == {"type": "any"}


def test_choice_of_one_allowed_tool_when_free_to_call_leaves_the_others_out() -> None:
    """A single allowed tool in mode auto is not forced, but the others are not there to be called."""
    named = [{"type": "function", "function": {"name": "get_time"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": named}}
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["get_time"]
    assert body["tool_choice"] == {"type": "auto"}


def test_json_schema_becomes_the_output_format() -> None:
    """The schema is made strict and takes the format's description."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
    body = sent(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "description": "D", "schema": schema}}
    )
    assert body["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "string", "description": "(maxLength: 3)"}},
                "required": ["a"],
                "additionalProperties": False,
                "description": "D",
            },
        }
    }


def test_schema_with_free_keys_is_refused() -> None:
    """Closing such an object would leave it empty."""
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    error = refusal(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    assert error.param == "response_format.json_schema.schema.additionalProperties"


def test_json_mode_becomes_an_instruction() -> None:
    """Anthropic has no JSON mode; the instruction follows the caller's own."""
    body = sent({"role": "system", "content": "Be kind."}, HELLO, response_format={"type": "json_object"})
    assert body["system"][0] == {"type": "text", "text": "Be kind."}
    assert "JSON object" in body["system"][1]["text"]


@pytest.mark.parametrize(
    ("effort", "max_tokens", "thinking"),
    [
        ("high", 64000, {"type": "enabled", "budget_tokens": 24576}),
        ("medium", 8000, {"type": "enabled", "budget_tokens": 6000}),
        ("low", 64000, {"type": "enabled", "budget_tokens": 1024}),
        ("low", 1200, None),
        ("none", 64000, None),
    ],
)
def test_effort_becomes_a_budget_within_the_answers_limit(
    effort: str, max_tokens: int, thinking: dict[str, Any] | None
) -> None:
    """A budget leaves a quarter of max_tokens to the answer; below Anthropic's least there is no thinking."""
    body = sent(reasoning_effort=effort, max_tokens=max_tokens, temperature=0.2)
    assert body.get("thinking") == thinking
    assert ("temperature" in body) == (thinking is None)


def test_effort_is_adaptive_where_the_catalog_says_so() -> None:
    """The deployment's parameter decides, never the model's name."""
    adaptive = {"thinking_mode": "adaptive"}
    body = sent(params=adaptive, reasoning_effort="minimal", temperature=0.2)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    assert "temperature" not in body
    assert sent(params=adaptive, reasoning_effort="none")["thinking"] == {"type": "disabled"}
    forced = sent(params=adaptive, reasoning_effort="high", tools=[TIME], tool_choice="required")
    assert "thinking" not in forced
    assert forced["output_config"] == {"effort": "high"}


def test_least_effort_stands_for_none_where_thinking_cannot_be_switched_off() -> None:
    """Models that always think refuse to be told not to."""
    body = sent(params={"thinking_mode": "always"}, reasoning_effort="none")
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})


def test_forced_tools_exclude_thinking() -> None:
    """Anthropic refuses both together; the tool is what the caller insists on."""
    body = sent(reasoning_effort="high", tools=[TIME], tool_choice="required", temperature=0.2)
    assert "thinking" not in body
    assert body["temperature"] == 0.2


def test_reasoning_is_given_back_before_text_and_calls() -> None:
    """Signed and redacted thinking returns unchanged; other providers' reasoning does not."""
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.encrypted", "data": "g1", "format": "google-gemini-v1", "index": 2},
        {"type": "reasoning.text", "text": "unsigned", "index": 3},
    ]
    body = sent(
        HELLO,
        {"role": "assistant", "content": "So:", "reasoning_details": details, "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        reasoning_effort="high",
        max_tokens=64000,
    )
    assert [block["type"] for block in body["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
    ]
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "s1"}
    assert body["messages"][1]["content"][1] == {"type": "redacted_thinking", "data": "d1"}
    assert body["thinking"]["type"] == "enabled"


def test_thinking_by_budget_waits_where_the_calls_before_had_none() -> None:
    """Anthropic refuses to think after tool results whose calls came without thinking."""
    body = sent(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        reasoning_effort="high",
        max_tokens=64000,
    )
    assert "thinking" not in body


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"temperature": 1.7}, "temperature", 1.0),
        ({"user": "u1"}, "metadata", {"user_id": "u1"}),
        ({"user": "u1", "safety_identifier": "s1"}, "metadata", {"user_id": "s1"}),
        ({"service_tier": "default"}, "service_tier", "standard_only"),
        ({"service_tier": "priority"}, "service_tier", "auto"),
        ({"service_tier": "flex"}, "service_tier", None),
        ({"top_k": 5}, "top_k", 5),
        ({"stop": ["a", "b"]}, "stop_sequences", ["a", "b"]),
        ({"thinking": {"type": "disabled"}}, "thinking", {"type": "disabled"}),
    ],
)
def test_fields_with_another_name_or_range(fields: dict[str, Any], name: str, value: object) -> None:
    """Each is said as Anthropic says it."""
    assert sent(**fields).get(name) == value


def test_hints_and_bookkeeping_are_left_out() -> None:
    """Fields without influence on what the answer means do not stop a request."""
    left_out = {"store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k", "seed": 1, "verbosity": "low", "x": 1}
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False, "n": 1}
    assert sent(**left_out, **neutral) == sent()


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {"1": 5}},
        {"logprobs": True},
        {"frequency_penalty": 0.5},
        {"presence_penalty": -1},
        {"functions": [{"name": "f"}]},
        {"web_search_options": {"search_context_size": "low"}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"n": 2},
        {"modalities": ["text", "audio"]},
        {"reasoning_effort": "enormous"},
        {"tool_choice": "perhaps", "tools": [TIME]},
        {"response_format": {"type": "yaml"}},
        {"thinking": "hard"},
    ],
)
def test_fields_that_would_change_the_answer_are_refused_by_name(fields: dict[str, Any]) -> None:
    """Silence would give another answer than the one asked for."""
    error = refusal(**fields)
    assert (error.status, error.param) == (400, next(iter(fields)))


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "assistant", "tool_calls": [call("a", arguments="[1]")]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [call("a", arguments="{")]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "messages[1].tool_calls[0]"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "function", "content": "x"}, "messages[1].role"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": PNG}]}, "messages[1].content[0]"),
        ({"role": "assistant", "content": "x", "reasoning_details": 5}, "messages[1].reasoning_details"),
    ],
)
def test_misshapen_messages_are_refused_by_place(message: dict[str, Any], param: str) -> None:
    """The error says where in the request it is."""
    assert refusal(HELLO, message).param == param
