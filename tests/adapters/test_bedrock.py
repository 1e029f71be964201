"""Bedrock's Converse API: requests as it gets them, answers as callers get them."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest

from adapters import ADAPTERS
from gateway.chat import Chat, parse_chat
from gateway.errors import CallerError, Kind, UpstreamError
from gateway.types import Provider, Secret, Usage
from tests.adapters.wire_harness import STAMP, deployment_of, replayed

ADAPTER = ADAPTERS["bedrock"]
HELLO = {"role": "user", "content": "Hello"}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TIME = {"type": "function", "function": {"name": "get_time"}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "W", "strict": True}}
EMPTY = {"json": {"type": "object", "properties": {}}}

# The shape of ConverseStream's events and of the same answer by Converse, as the API reference documents them.
USAGE = {
    "inputTokens": 12,
    "outputTokens": 17,
    "totalTokens": 159,
    "cacheReadInputTokens": 100,
    "cacheWriteInputTokens": 30,
}
DETAILS = {"cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 10}]}
COUNTED = Usage(input=12, cache_read=100, cache_write_5m=10, cache_write_1h=20, output=17)
BODY = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
                {"text": "Grüße ☀"},
                {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Köln"}}},
                {"toolUse": {"toolUseId": "t2", "name": "get_time", "input": {}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {**USAGE, **DETAILS},
    "serviceTier": {"type": "default"},
}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant", "p": "abc"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "."}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "aGlkZGVu"}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "Grüße "}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "☀"}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t1", "name": "get_weather"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '{"city":"Kö'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": 'ln"}'}}}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("contentBlockStart", {"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "t2", "name": "get_time"}}}),
    ("contentBlockStop", {"contentBlockIndex": 4}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {**USAGE, **DETAILS}, "serviceTier": {"type": "default"}}),
]


def frame(name: str, payload: dict[str, Any], kind: str = "event") -> bytes:
    """One frame of the AWS event stream."""
    pairs = [(f":{kind}-type", name), (":content-type", "application/json"), (":message-type", kind)]
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in pairs
    )
    headers = b"\x05count\x04" + struct.pack(">i", 7) + headers
    data = json.dumps(payload, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return message + struct.pack(">I", zlib.crc32(message))


def asked(*messages: dict[str, Any], **fields: Any) -> Chat:
    return parse_chat(json.dumps({"model": "fast", "messages": list(messages) or [HELLO], **fields}).encode())


STREAMED = asked(stream=True, stream_options={"include_usage": True})


def sent(*messages: dict[str, Any], params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """What goes upstream for a request with these messages and fields."""
    made: dict[str, Any] = json.loads(
        ADAPTER.request(asked(*messages, **fields), deployment_of(ADAPTER, **(params or {})))
    )
    return made


def call(ident: str, name: str = "get_time", arguments: str = "{}") -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_plain_request_carries_text_and_limits() -> None:
    """Scalars go over under Converse's names."""
    fields = {"max_tokens": 9, "temperature": 1.5, "top_p": 0.5, "stop": "END", "service_tier": "flex"}
    assert sent({"role": "system", "content": "Be kind."}, HELLO, **fields) == {
        "system": [{"text": "Be kind."}],
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 1.0, "topP": 0.5, "stopSequences": ["END"]},
        "serviceTier": {"type": "flex"},
    }
    alone = {"messages": [{"role": "user", "content": [{"text": "Be kind."}]}]}
    assert sent({"role": "system", "content": "Be kind."}) == alone


def test_conversation_with_tools_alternates_with_results_first() -> None:
    """Reasoning is given back, ids are made acceptable, results of a turn stand together before its text."""
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "aGlkZGVu"},
        {"type": "reasoning.encrypted", "data": "foreign", "format": "google-gemini-v1"},
    ]
    body = sent(
        HELLO,
        {"role": "assistant", "content": "So:", "reasoning_details": details, "tool_calls": [call("a:1"), call("b")]},
        {"role": "tool", "tool_call_id": "a:1", "content": "noon"},
        HELLO,
        {"role": "tool", "tool_call_id": "b", "content": ""},
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
                {"text": "So:"},
                {"toolUse": {"toolUseId": "a_1", "name": "get_time", "input": {}}},
                {"toolUse": {"toolUseId": "b", "name": "get_time", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "a_1", "content": [{"text": "noon"}]}},
                {"toolResult": {"toolUseId": "b", "content": [{"text": "(empty)"}]}},
                {"text": "Hello"},
            ],
        },
    ]


def test_media_go_over_by_value_with_cache_points_after_them() -> None:
    """Images, documents and videos in Bedrock's formats."""
    content = [
        {**PNG, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "file", "file": {"filename": "Report_v1.pdf", "file_data": "JVBERi0="}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    ]
    assert sent({"role": "user", "content": content})["messages"][0]["content"] == [
        {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        {"document": {"format": "pdf", "name": "Report v1 pdf", "source": {"bytes": "JVBERi0="}}},
        {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
    ]


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({}, {}),
        ({"tool_choice": "auto"}, {"toolChoice": {"auto": {}}}),
        ({"tool_choice": "required"}, {"toolChoice": {"any": {}}}),
        ({"tool_choice": TIME}, {"toolChoice": {"tool": {"name": "get_time"}}}),
    ],
)
def test_tools_and_their_choice(fields: dict[str, Any], config: dict[str, Any]) -> None:
    """Each of OpenAI's choices has its form."""
    marked = {**TIME, "cache_control": {"type": "ephemeral"}}
    assert sent(tools=[WEATHER, marked], **fields)["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "get_weather", "description": "W", "inputSchema": EMPTY, "strict": True}},
            {"toolSpec": {"name": "get_time", "inputSchema": EMPTY}},
            {"cachePoint": {"type": "default"}},
        ],
        **config,
    }


def test_no_choice_of_tools_leaves_them_out_until_calls_were_made() -> None:
    """Converse has no choice `none`, and wants the tools of calls in the conversation."""
    assert "toolConfig" not in sent(tools=[TIME], tool_choice="none")
    called = [
        HELLO,
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert "toolConfig" in sent(*called, tools=[TIME], tool_choice="none")


@pytest.mark.parametrize(
    ("mode", "fields", "made"),
    [
        (None, {}, {"inferenceConfig": {"temperature": 0.5}}),
        ("budget", {"reasoning_effort": "none"}, {"inferenceConfig": {"temperature": 0.5}}),
        (
            "budget",
            {},
            {
                "inferenceConfig": {"maxTokens": 4096},
                "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 3072}},
            },
        ),
        (
            "adaptive",
            {},
            {"outputConfig": {"effort": "high"}, "additionalModelRequestFields": {"thinking": {"type": "adaptive"}}},
        ),
        (
            "always",
            {"reasoning_effort": "none"},
            {"outputConfig": {"effort": "low"}, "additionalModelRequestFields": {"thinking": {"type": "adaptive"}}},
        ),
        (
            "adaptive",
            {"reasoning_effort": "none"},
            {
                "inferenceConfig": {"temperature": 0.5},
                "additionalModelRequestFields": {"thinking": {"type": "disabled"}},
            },
        ),
        (
            "adaptive",
            {"tools": [TIME], "tool_choice": "required"},
            {"outputConfig": {"effort": "high"}, "inferenceConfig": {"temperature": 0.5}},
        ),
    ],
)
def test_effort_is_said_as_the_catalog_says(mode: str | None, fields: dict[str, Any], made: dict[str, Any]) -> None:
    """Without the parameter the model takes no effort; thinking excludes temperature and forced tools."""
    params = {} if mode is None else {"thinking_mode": mode}
    body = sent(params=params, **{"temperature": 0.5, "reasoning_effort": "high", **fields})
    assert {name: value for name, value in body.items() if name not in ("messages", "toolConfig")} == made


def test_formats_of_the_answer() -> None:
    """A schema goes over as text; JSON mode and single calls become instructions."""
    schema = {"name": "n", "description": "d", "schema": {"type": "object"}}
    body = sent(response_format={"type": "json_schema", "json_schema": schema})
    made = {"schema": '{"type":"object"}', "name": "n", "description": "d"}
    assert body["outputConfig"] == {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": made}}}
    assert "JSON object" in sent(response_format={"type": "json_object"})["system"][0]["text"]
    assert "at most one" in sent(tools=[TIME], parallel_tool_calls=False)["system"][0]["text"]


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([HELLO], {"logit_bias": {"1": 1}}, "logit_bias"),
        ([HELLO], {"n": 2}, "n"),
        ([HELLO], {"modalities": ["audio"]}, "modalities"),
        ([HELLO], {"response_format": {"type": "yaml"}}, "response_format"),
        (
            [{"role": "user", "content": [{**PNG, "image_url": "https://example.com/a.png"}]}],
            {},
            "messages[0].content[0]",
        ),
        (
            [{"role": "user", "content": [{**PNG, "image_url": "data:image/tiff;base64,AA"}]}],
            {},
            "messages[0].content[0]",
        ),
        ([{"role": "tool", "content": "x"}], {}, "messages[0].tool_call_id"),
        ([{"role": "function", "content": "x"}], {}, "messages[0].role"),
        ([{"role": "user", "content": ""}], {}, "messages"),
    ],
)
def test_what_converse_cannot_be_asked_is_refused_by_name(
    messages: list[dict[str, Any]], fields: dict[str, Any], param: str
) -> None:
    """Silence would give another answer than the one asked for."""
    with pytest.raises(CallerError) as caught:
        sent(*messages, **fields)
    assert caught.value.param == param


def gathered(out: bytes) -> dict[str, Any]:
    """The message that a client puts together from a stream's deltas, with its end and usage."""
    whole: dict[str, Any] = {"content": "", "reasoning_content": "", "reasoning_details": [], "calls": []}
    for chunk in (json.loads(event[6:]) for event in out.split(b"\n\n") if event and event != b"data: [DONE]"):
        whole["usage"] = chunk.get("usage")
        for choice in chunk["choices"]:
            whole["finish_reason"] = choice["finish_reason"] or whole.get("finish_reason")
            whole["content"] += choice["delta"].get("content", "")
            whole["reasoning_content"] += choice["delta"].get("reasoning_content", "")
            whole["reasoning_details"] += choice["delta"].get("reasoning_details", [])
            for part in choice["delta"].get("tool_calls", []):
                if part["index"] == len(whole["calls"]):
                    whole["calls"].append([part["id"], part["function"]["name"], ""])
                whole["calls"][part["index"]][2] += part["function"]["arguments"]
    return whole


def test_streamed_and_buffered_answers_agree() -> None:
    """The same answer costs and says the same either way."""
    made = ADAPTER.completion(json.dumps(BODY).encode(), asked(), STAMP)
    body = json.loads(made.body)
    message = body["choices"][0]["message"]
    stream = ADAPTER.stream(STREAMED, STAMP)
    whole = gathered(replayed(stream, [b"".join(frame(*event) for event in EVENTS)]))
    assert made.usage == stream.usage == COUNTED
    assert made.service_tier == stream.service_tier == "default"
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "aGlkZGVu", "format": "anthropic-claude-v1", "index": 1},
    ]
    for name in ("content", "reasoning_content", "reasoning_details"):
        assert whole[name] == message[name]
    calls = [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message["tool_calls"]]
    assert calls == [("t1", "get_weather", {"city": "Köln"}), ("t2", "get_time", {})]
    assert [(ident, name, json.loads(arguments)) for ident, name, arguments in whole["calls"]] == calls
    assert whole["finish_reason"] == body["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["usage"] == body["usage"]


def test_stream_is_the_same_wherever_it_is_cut() -> None:
    """Every boundary, inside preludes and checksums too."""
    data = b"".join(frame(*event) for event in EVENTS)
    whole = replayed(ADAPTER.stream(STREAMED, STAMP), [data])
    for at in range(1, len(data)):
        assert replayed(ADAPTER.stream(STREAMED, STAMP), [data[:at], data[at:]]) == whole


def test_stream_that_ends_early_fails() -> None:
    """Until messageStop there is no answer; without the metadata after it there is no usage."""
    frames = [frame(*event) for event in EVENTS]
    for upto in range(len(frames) - 1):
        stream = ADAPTER.stream(STREAMED, STAMP)
        replayed(stream, [b"".join(frames[:upto]), frames[upto][:-1]])
        assert stream.failure is not None
    stream = ADAPTER.stream(STREAMED, STAMP)
    stream.feed(b"".join(frames[:-1]))
    assert stream.end().endswith(b"data: [DONE]\n\n")
    assert (stream.failure, stream.usage) == (None, None)


@pytest.mark.parametrize("at", [0, 5, 9, 14, 40, -1])
def test_damaged_frame_is_a_failure(at: int) -> None:
    """Checksums are checked; nothing after a damaged frame is believed."""
    damaged = bytearray(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}))
    damaged[at] ^= 1
    stream = ADAPTER.stream(STREAMED, STAMP)
    assert replayed(stream, [bytes(damaged), *[frame(*event) for event in EVENTS]]) == b""
    assert stream.failure is not None
    assert stream.failure.kind is Kind.BROKEN


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", Kind.RATE_LIMITED),
        ("serviceUnavailableException", Kind.OVERLOADED),
        ("modelStreamErrorException", Kind.BROKEN),
        ("validationException", Kind.BROKEN),
    ],
)
def test_exception_amid_the_stream_ends_it_as_failed(name: str, kind: Kind) -> None:
    """Its class says what it means."""
    stream = ADAPTER.stream(STREAMED, STAMP)
    out = replayed(stream, [*[frame(*event) for event in EVENTS[:9]], frame(name, {"message": "m"}, "exception")])
    assert gathered(out)["content"] == "Grüße ☀"
    assert stream.failure is not None
    assert stream.failure.kind is kind


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"output":{"message":{"content":3}}}'])
def test_body_that_is_no_answer_is_a_failure(body: bytes) -> None:
    """Such an attempt failed and may have been charged for."""
    with pytest.raises(UpstreamError) as caught:
        ADAPTER.completion(body, asked(), STAMP)
    assert (caught.value.kind, caught.value.billed) == (Kind.BROKEN, True)


@pytest.mark.parametrize(
    ("status", "class_", "message", "kind"),
    [
        (403, "ExpiredTokenException", "m", Kind.OUR_KEY_REFUSED),
        (429, "ThrottlingException:http://internal.amazon.com/", "m", Kind.RATE_LIMITED),
        (400, "ServiceQuotaExceededException", "m", Kind.PROVIDER_QUOTA),
        (408, "ModelTimeoutException", "m", Kind.TIMED_OUT),
        (424, "ModelErrorException", "m", Kind.BROKEN),
        (400, "ValidationException", "Input is too long for requested model.", Kind.CONTEXT_TOO_LONG),
        (400, "ValidationException", "The provided model identifier is invalid.", Kind.UPSTREAM_MODEL_MISSING),
        (400, "ValidationException", "Malformed input request", Kind.REJECTED),
        (503, "", "m", Kind.OVERLOADED),
    ],
)
def test_errors_are_judged_by_their_class(status: int, class_: str, message: str, kind: Kind) -> None:
    """It stands in a header alone."""
    error = ADAPTER.error(status, {"x-amzn-errortype": class_}, json.dumps({"message": message}).encode())
    assert error.kind is kind


def test_endpoint_encodes_the_whole_model_id() -> None:
    """Ids hold colons, ARNs slashes too."""
    provider = Provider("b", "bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", Secret("k"))
    endpoint = ADAPTER.endpoint(provider, "arn:aws:bedrock:us-east-1:1:inference-profile/x-v1:0", stream=True)
    assert (
        endpoint.target == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx-v1%3A0/converse-stream"
    )
    assert dict(endpoint.headers)["authorization"] == "Bearer k"


def at(base_url: str, key: str | None = "k") -> Provider:
    return Provider("b", "bedrock", base_url, None if key is None else Secret(key))


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/", "bedrock-fips.us-gov-west-1.amazonaws.com"),
        ("https://bedrock-runtime.eu-west-1.api.aws", "bedrock.eu-west-1.api.aws"),
    ],
)
def test_models_and_profiles_are_listed_by_another_host(base_url: str, host: str) -> None:
    """With the same key; so they say nothing of whether the key may make requests."""
    lists = ADAPTER.model_lists(at(base_url))
    assert [(e.origin.host, e.method, e.target) for e in lists] == [
        (host, "GET", "/foundation-models"),
        (host, "GET", "/inference-profiles?maxResults=1000&typeEquals=SYSTEM_DEFINED"),
    ]
    assert all(dict(e.headers)["authorization"] == "Bearer k" for e in lists)
    assert ADAPTER.models_endpoint(at(base_url)) is None


@pytest.mark.parametrize(
    "provider",
    [
        at("https://bedrock.example"),
        at("https://vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com"),
        at("https://bedrock-runtime.us-east-1.amazonaws.com", None),
        at("https://bedrock-runtime.us-east-1.amazonaws.com.example"),
    ],
)
def test_no_other_host_is_sent_the_key(provider: Provider) -> None:
    """A proxy or private address need not have the lists beside it."""
    assert ADAPTER.model_lists(provider) == ()


def test_what_can_be_called_is_listed() -> None:
    """Models on demand and active profiles, shaped as AWS documents them; a model that wants a profile is left out."""
    models = {
        "modelSummaries": [
            {"modelId": "amazon.nova-pro-v1:0", "outputModalities": ["TEXT"], "inferenceTypesSupported": ["ON_DEMAND"]},
            {"modelId": "anthropic.claude-opus-5", "inferenceTypesSupported": ["INFERENCE_PROFILE"]},
            {
                "modelId": "amazon.titan-embed-v9",
                "outputModalities": ["EMBEDDING"],
                "inferenceTypesSupported": ["ON_DEMAND"],
            },
        ]
    }
    listed = ADAPTER.models(json.dumps(models).encode())
    assert [(row.id, row.metadata["type"]) for row in listed] == [
        ("amazon.nova-pro-v1:0", None),
        ("amazon.titan-embed-v9", "embedding"),
    ]
    profiles = {
        "inferenceProfileSummaries": [
            {"inferenceProfileId": "global.anthropic.claude-opus-5", "inferenceProfileName": "Opus", "status": "ACTIVE"}
        ]
    }
    (profile,) = ADAPTER.models(json.dumps(profiles).encode())
    assert (profile.id, profile.metadata) == ("global.anthropic.claude-opus-5", {"name": "Opus"})
