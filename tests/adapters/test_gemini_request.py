"""OpenAI's chat requests as Gemini gets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from gateway.chat import parse_chat
from gateway.errors import CallerError
from tests.adapters.wire_harness import deployment_of

HELLO = {"role": "user", "content": "Hello"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "get_time"}}
UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="


def sent(*messages: dict[str, Any], params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """What goes upstream for a request with these messages and fields."""
    adapter = ADAPTERS["gemini"]
    body = {"model": "fast", "messages": list(messages) or [HELLO], **fields}
    chat = parse_chat(json.dumps(body).encode())
    made: dict[str, Any] = json.loads(adapter.request(chat, deployment_of(adapter, **(params or {}))))
    return made


def refusal(*messages: dict[str, Any], **fields: Any) -> CallerError:
    """The error of a request that cannot be translated."""
    with pytest.raises(CallerError) as caught:
        sent(*messages, **fields)
    return caught.value


def call(ident: str, name: str = "get_weather", arguments: str = "{}", **extra: Any) -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}, **extra}


def test_plain_request_carries_text_and_settings() -> None:
    """Settings go over under Gemini's names; model and streaming stand in the URL."""
    body = sent(
        {"role": "system", "content": "Be kind."},
        HELLO,
        max_tokens=99,
        temperature=1.5,
        top_p=0.9,
        top_k=3,
        n=2,
        seed=-1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        stop="END",
        logprobs=True,
        top_logprobs=4,
        stream=True,
        service_tier="flex",
    )
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "generationConfig": {
            "maxOutputTokens": 99,
            "temperature": 1.5,
            "topP": 0.9,
            "topK": 3,
            "candidateCount": 2,
            "seed": 2147483647,
            "presencePenalty": 0.5,
            "frequencyPenalty": -0.5,
            "stopSequences": ["END"],
            "responseLogprobs": True,
            "logprobs": 4,
        },
        "serviceTier": "flex",
    }
    assert sent(n=1, store=True, user="u", metadata={"a": "b"}) == {"contents": body["contents"]}


def test_conversation_of_instructions_alone_becomes_a_users_content() -> None:
    """Gemini wants contents where OpenAI is content with instructions."""
    assert sent({"role": "developer", "content": "Say hello."}) == {
        "contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]
    }


def test_calls_and_results_are_matched_by_name() -> None:
    """Results of one turn stand together, named after their calls, each an object."""
    body = sent(
        HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("a", arguments='{"city":"Köln"}'), call("b", "get_time")],
        },
        {"role": "tool", "tool_call_id": "b", "content": '{"hour": 7}'},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        HELLO,
    )
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "get_weather", "args": {"city": "Köln"}, "id": "a"}},
                {"functionCall": {"name": "get_time", "args": {}, "id": "b"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "get_time", "response": {"hour": 7}, "id": "b"}},
                {"functionResponse": {"name": "get_weather", "response": {"output": "rain"}, "id": "a"}},
            ],
        },
        {"role": "user", "parts": [{"text": "Hello"}]},
    ]


@pytest.mark.parametrize("text", ["[1]", "7", "{broken", "", "null"])
def test_results_that_are_no_object_are_wrapped(text: str) -> None:
    """Gemini takes objects only."""
    messages = [
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": text},
    ]
    response = sent(HELLO, *messages)["contents"][2]["parts"][0]["functionResponse"]["response"]
    assert response == {"output": text}


def test_signatures_return_to_the_parts_they_came_with() -> None:
    """By the call's extra content or by reasoning details; that of the text by a detail without id."""
    details = [
        {"type": "reasoning.encrypted", "data": "text-signature", "format": "google-gemini-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "b-signature", "format": "google-gemini-v1", "id": "b", "index": 1},
        {"type": "reasoning.encrypted", "data": "foreign", "format": "anthropic-claude-v1", "index": 2},
    ]
    signed = {"extra_content": {"google": {"thought_signature": "a-signature"}}}
    parts = sent(
        HELLO,
        {
            "role": "assistant",
            "content": "So:",
            "reasoning_details": details,
            "tool_calls": [call("a", **signed), call("b"), call("c")],
        },
        params={"thinking_mode": "level"},
    )["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["text-signature", "a-signature", "b-signature", None]
    alone = sent(HELLO, {"role": "assistant", "content": None, "reasoning_details": details[:1]})["contents"][1][
        "parts"
    ]
    assert alone == [{"text": "", "thoughtSignature": "text-signature"}]


def test_calls_of_other_models_are_marked_where_signatures_are_demanded() -> None:
    """The first call of a turn gets the documented stand-in, and only where the catalog names such a model."""
    turn = {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]}
    marked = sent(HELLO, turn, params={"thinking_mode": "level"})["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in marked] == [UNSIGNED, None]
    plain = sent(HELLO, turn)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in plain] == [None, None]


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,iVBORw0KGgo="}},
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?x=1"}},
            {"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/a.webp?x=1"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}},
        ),
        ({"type": "text", "text": "Hi"}, {"text": "Hi"}),
    ],
)
def test_media_become_inline_or_file_data(part: dict[str, Any], made: dict[str, Any]) -> None:
    """Images, sound, video and files go over by value or by address."""
    assert sent({"role": "user", "content": [part]})["contents"][0]["parts"] == [made]


def test_media_in_a_tools_result_stand_beside_its_object() -> None:
    """Gemini takes them as parts of the function's response."""
    content = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": "data:image/png;base64,iVBORw0KGgo="},
    ]
    messages = [
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": content},
    ]
    assert sent(HELLO, *messages)["contents"][2]["parts"][0]["functionResponse"] == {
        "name": "get_weather",
        "id": "a",
        "response": {"output": "see"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
    }


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (TIME, {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME, WEATHER]}},
            {"mode": "ANY", "allowedFunctionNames": ["get_time", "get_weather"]},
        ),
        (None, None),
    ],
)
def test_tools_and_their_choice(choice: Any, config: dict[str, Any] | None) -> None:
    """Schemas go over as JSON Schema; every choice has its mode."""
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    declared = {"name": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA}
    assert body["tools"] == [{"functionDeclarations": [declared, {"name": "get_time"}]}]
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})


def test_free_choice_among_allowed_tools_leaves_the_others_out() -> None:
    """Gemini can limit names only where a call is forced."""
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}}
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    assert body["tools"] == [{"functionDeclarations": [{"name": "get_time"}]}]


def test_one_call_at_a_time_becomes_an_instruction() -> None:
    """Gemini has no switch for parallel calls."""
    body = sent(tools=[TIME], parallel_tool_calls=False)
    assert "at most one" in body["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("effort", "mode", "config"),
    [
        ("none", None, {"thinkingBudget": 0}),
        ("low", None, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("medium", "budget", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("high", None, {"thinkingBudget": 24576, "includeThoughts": True}),
        ("none", "level", {"thinkingLevel": "minimal"}),
        ("medium", "level", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("xhigh", "level", {"thinkingLevel": "high", "includeThoughts": True}),
    ],
)
def test_effort_becomes_a_budget_or_a_level(effort: str, mode: str | None, config: dict[str, Any]) -> None:
    """The deployment's parameter decides, never the model's name."""
    params = {} if mode is None else {"thinking_mode": mode}
    assert sent(params=params, reasoning_effort=effort)["generationConfig"] == {"thinkingConfig": config}


@pytest.mark.parametrize(
    ("form", "config"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
    ],
)
def test_response_format_becomes_type_and_schema(form: dict[str, Any], config: dict[str, Any] | None) -> None:
    """The schema goes over as it is."""
    assert sent(response_format=form).get("generationConfig") == config


def test_geminis_own_fields_are_carried() -> None:
    """What operators set in the catalog for Gemini reaches it under Gemini's names."""
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    body = sent(safety_settings=settings, cached_content="cachedContents/1", thinking_config={"thinkingBudget": -1})
    assert body["safetySettings"] == settings
    assert body["cachedContent"] == "cachedContents/1"
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingBudget": -1}}
    images = sent(modalities=["image", "text"])["generationConfig"]
    assert images == {"responseModalities": ["IMAGE", "TEXT"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {"1": 5}},
        {"functions": [{"name": "f"}]},
        {"web_search_options": {"search_context_size": "low"}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"modalities": ["text", "audio"]},
        {"reasoning_effort": "enormous"},
        {"tool_choice": "perhaps", "tools": [TIME]},
        {"response_format": {"type": "yaml"}},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_fields_that_would_change_the_answer_are_refused_by_name(fields: dict[str, Any]) -> None:
    """Silence would give another answer than the one asked for."""
    error = refusal(**fields)
    assert (error.status, error.param) == (400, next(iter(fields)))


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "tool_call_id": "gone", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "function", "content": "x"}, "messages[1].role"),
        (
            {"role": "assistant", "tool_calls": [call("a", arguments="1")]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
            "messages[1].content[0].file.file_id",
        ),
    ],
)
def test_misshapen_messages_are_refused_by_place(message: dict[str, Any], param: str) -> None:
    """The error says where in the request it is."""
    assert refusal(HELLO, message).param == param


def test_tools_other_than_functions_are_refused() -> None:
    """Neither adapter can say them."""
    assert refusal(tools=[{"type": "custom", "custom": {"name": "x"}}]).param == "tools[0]"
