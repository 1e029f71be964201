"""Gemini's answers as callers get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from adapters import ADAPTERS
from adapters.base import ChatStream
from gateway.chat import Chat, parse_chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Provider, Secret, Usage
from tests.adapters.wire_harness import STAMP, deployment_of, replayed

ADAPTER = ADAPTERS["gemini"]
FIXTURES = Path(__file__).parent / "fixtures" / "gemini"
USAGE = Usage(input=22, cache_read=100, output=17, reasoning=5, audio_in=20)
SIGNED = {"type": "reasoning.encrypted", "data": "c2lnbmVk", "format": "google-gemini-v1", "index": 0}


def fixture(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return loaded


def sse(events: list[dict[str, Any]]) -> bytes:
    return "".join(f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in events).encode()


def asked(**fields: Any) -> Chat:
    return parse_chat(json.dumps({"model": "fast", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode())


STREAMED = asked(stream=True, stream_options={"include_usage": True})


def response(parts: list[dict[str, Any]], finish: str | None = "STOP", **candidate: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    made = {"content": {"parts": parts, "role": "model"}, "index": 0, **candidate}
    if finish is not None:
        made["finishReason"] = finish
    return {"candidates": [made], "usageMetadata": usage, "modelVersion": "g"}


def completed(body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(ADAPTER.completion(json.dumps(body).encode(), asked(), STAMP).body)
    return made


def streamed(data: bytes) -> tuple[ChatStream, list[dict[str, Any]]]:
    stream = ADAPTER.stream(STREAMED, STAMP)
    return stream, chunks_of(replayed(stream, [data]))


def chunks_of(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(event[6:]) for event in out.split(b"\n\n") if event and event != b"data: [DONE]"]


def calls_of(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Name and whole arguments of each call of a stream."""
    calls: list[list[str]] = []
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        for call in choice["delta"].get("tool_calls", []):
            if call["index"] == len(calls):
                calls.append([call["function"]["name"], ""])
            calls[call["index"]][1] += call["function"]["arguments"]
    return [(name, arguments) for name, arguments in calls]


def text_of(chunks: list[dict[str, Any]], key: str = "content") -> str:
    return "".join(choice["delta"].get(key) or "" for chunk in chunks for choice in chunk["choices"])


def finishes(chunks: list[dict[str, Any]]) -> list[str]:
    return [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"] is not None]


def test_response_becomes_a_completion() -> None:
    """Text, model, and usage in OpenAI's counting: tool use and thoughts included, audio apart."""
    made = ADAPTER.completion(json.dumps(fixture("plain")["body"]).encode(), asked(), STAMP)
    assert (made.usage, made.model) == (USAGE, "gemini-example-1")
    assert json.loads(made.body) == {
        "id": STAMP.id,
        "object": "chat.completion",
        "created": STAMP.created,
        "model": "gemini-example-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": 'Grüße, Welt ☀ — "zitiert".', "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 142,
            "completion_tokens": 17,
            "total_tokens": 159,
            "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


def test_calls_get_ids_and_keep_their_signatures() -> None:
    """An id is made where Gemini gives none; a signature stands at the call and among the reasoning details."""
    choice = completed(fixture("tools")["body"])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Looking.",
        "refusal": None,
        "reasoning_content": "Both are needed.",
        "reasoning_details": [{**SIGNED, "id": "call_0123456789_0"}],
        "tool_calls": [
            {
                "id": "call_0123456789_0",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city":"K\\u00f6ln"}'},
                "extra_content": {"google": {"thought_signature": "c2lnbmVk"}},
            },
            {"id": "their-id", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("names", [("plain", "stream"), ("tools", "tools_stream")])
def test_streamed_and_buffered_answers_agree(names: tuple[str, str]) -> None:
    """The same answer costs and says the same either way."""
    buffered = ADAPTER.completion(json.dumps(fixture(names[0])["body"]).encode(), asked(), STAMP)
    stream, chunks = streamed(sse(fixture(names[1])["events"]))
    body = json.loads(buffered.body)
    told = body["choices"][0]["message"]
    assert (stream.failure, stream.usage, stream.model) == (None, buffered.usage, buffered.model)
    assert text_of(chunks) == told["content"]
    assert text_of(chunks, "reasoning_content") == told.get("reasoning_content", "")
    assert [(name, json.loads(arguments)) for name, arguments in calls_of(chunks)] == [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in told.get("tool_calls", [])
    ]
    assert finishes(chunks) == [body["choices"][0]["finish_reason"]]
    assert chunks[-1]["usage"] == body["usage"]


@pytest.mark.parametrize("name", ["stream", "tools_stream"])
def test_stream_is_the_same_wherever_it_is_cut(name: str) -> None:
    """Every boundary, inside characters and between CR and LF too."""
    data = sse(fixture(name)["events"])
    whole = replayed(ADAPTER.stream(STREAMED, STAMP), [data])
    for at in range(1, len(data)):
        assert replayed(ADAPTER.stream(STREAMED, STAMP), [data[:at], data[at:]]) == whole
    assert whole.endswith(b"data: [DONE]\n\n")


def test_stream_that_ends_early_fails() -> None:
    """Without a finish reason no caller takes it for an answer."""
    data = sse(fixture("tools_stream")["events"])
    for at in range(len(data) - len(b"}\r\n\r\n")):
        stream = ADAPTER.stream(STREAMED, STAMP)
        out = replayed(stream, [data[:at]])
        assert stream.failure is not None
        assert stream.failure.kind is Kind.BROKEN
        assert b"[DONE]" not in out


def test_json_array_is_read_as_a_stream_too() -> None:
    """What Gemini sends without alt=sse, cut anywhere."""
    events = fixture("tools_stream")["events"]
    data = (
        "\n[" + "\n,\r\n".join(json.dumps(event, indent=2, ensure_ascii=False) for event in events) + "]\n"
    ).encode()
    whole = replayed(ADAPTER.stream(STREAMED, STAMP), [sse(events)])
    for at in range(0, len(data), 7):
        assert replayed(ADAPTER.stream(STREAMED, STAMP), [data[:at], data[at:]]) == whole


def test_text_after_a_finish_reason_still_counts() -> None:
    """Streams with server tools have more than one; the caller sees one, at the end."""
    _, chunks = streamed(sse([response([{"text": "a"}]), response([{"text": "b"}], None), response([{"text": "c"}])]))
    assert text_of(chunks) == "abc"
    assert finishes(chunks) == ["stop"]


def test_answer_tokens_once_told_stay_told() -> None:
    """A last response may leave them out after server tools."""
    last = response([])
    last["usageMetadata"] = {"promptTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 13}
    stream, _ = streamed(sse([response([{"text": "a"}], None), last]))
    assert stream.usage == Usage(input=9, output=5, reasoning=4)


def test_arguments_in_pieces_are_put_together() -> None:
    """Gemini streams them as values at JSON paths; the caller gets one JSON text."""
    pieces: list[dict[str, Any]] = [
        {"name": "f", "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x", "willContinue": True}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.a", "stringValue": "y"}], "willContinue": True},
        {
            "partialArgs": [
                {"jsonPath": "$.b[0].c", "numberValue": 2},
                {"jsonPath": "$['d e']", "boolValue": False},
                {"jsonPath": "$.n", "nullValue": "NULL_VALUE"},
                {"jsonPath": "$.b[7].c", "numberValue": 1},
                {"jsonPath": "$.a.b", "numberValue": 1},
                {"jsonPath": "$", "numberValue": 1},
            ],
            "willContinue": True,
        },
        {},
        {"name": "g", "partialArgs": [{"jsonPath": "$.h", "numberValue": 0.5}]},
    ]
    events = [response([{"functionCall": piece}], None) for piece in pieces]
    _, chunks = streamed(sse([*events, response([])]))
    calls = [(name, json.loads(arguments)) for name, arguments in calls_of(chunks)]
    assert calls == [("f", {"a": "xy", "b": [{"c": 2}], "d e": False, "n": None}), ("g", {"h": 0.5})]
    assert finishes(chunks) == ["tool_calls"]


def test_call_that_is_never_finished_ends_with_what_came() -> None:
    """The next call or the end of the answer completes it."""
    begun = [{"name": "f", "willContinue": True}, {"name": "g", "willContinue": True}]
    events = [response([{"functionCall": call}], None) for call in begun]
    _, chunks = streamed(sse([*events, response([])]))
    assert calls_of(chunks) == [("f", "{}"), ("g", "{}")]


def test_choices_are_told_apart_by_index() -> None:
    """Candidates of one response go to their own choices, buffered and streamed."""
    candidates = [{"index": i, "content": {"parts": [{"text": f"t{i}"}]}, "finishReason": "STOP"} for i in (0, 1)]
    body = {"candidates": candidates, "usageMetadata": {"promptTokenCount": 1}, "modelVersion": "g"}
    assert [(c["index"], c["message"]["content"]) for c in completed(body)["choices"]] == [(0, "t0"), (1, "t1")]
    stream, chunks = streamed(sse([body]))
    assert stream.failure is None
    assert [(c["index"], c["finish_reason"]) for chunk in chunks for c in chunk["choices"]] == [
        (0, None),
        (1, None),
        (0, "stop"),
        (1, "stop"),
    ]


def test_stream_with_an_unfinished_choice_fails() -> None:
    """One choice's end does not excuse another's."""
    candidates = [{"index": i, "content": {"parts": [{"text": "t"}]}} for i in (0, 1)]
    stream, _ = streamed(sse([{"candidates": candidates}, response([])]))
    assert stream.failure is not None


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        ("SOMETHING_NEW", "stop"),
    ],
)
def test_finish_reasons_are_said_in_openais_words(reason: str, finish: str) -> None:
    """With or without content, buffered and streamed alike."""
    body = response([], reason)
    del body["candidates"][0]["content"]
    made = completed(body)["choices"][0]
    assert (made["finish_reason"], made["message"]["content"]) == (finish, "")
    stream, chunks = streamed(sse([body]))
    assert (stream.failure, finishes(chunks)) == (None, [finish])


def test_blocked_prompt_is_an_answer_that_the_filter_ended() -> None:
    """Status 200 without candidates; no tokens told, none counted."""
    body = {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "Not this."}}
    made = ADAPTER.completion(json.dumps(body).encode(), asked(), STAMP)
    choice = json.loads(made.body)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["refusal"], made.usage) == (
        "content_filter",
        "Not this.",
        Usage(),
    )
    stream, chunks = streamed(sse([body]))
    assert (stream.failure, stream.usage, finishes(chunks)) == (None, Usage(), ["content_filter"])
    assert text_of(chunks, "refusal") == "Not this."


def test_log_probabilities_are_carried() -> None:
    """Each chosen token with the candidates beside it, buffered and streamed."""
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5, "tokenId": 1}],
        "topCandidates": [
            {"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -1.5}]}
        ],
    }
    body = response([{"text": "é"}], logprobsResult=result)
    e_acute = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    tops = [e_acute, {"token": "e", "logprob": -1.5, "bytes": [101]}]
    told = {"content": [{**e_acute, "top_logprobs": tops}], "refusal": None}
    assert completed(body)["choices"][0]["logprobs"] == told
    _, chunks = streamed(sse([body]))
    assert chunks[0]["choices"][0]["logprobs"] == told


def test_images_of_an_answer_are_carried() -> None:
    """As data URLs under `images`, buffered and streamed."""
    body = response([{"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}])
    images = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
    assert completed(body)["choices"][0]["message"]["images"] == images
    _, chunks = streamed(sse([body]))
    assert chunks[1]["choices"][0]["delta"] == {"images": images}


def test_signature_of_the_text_is_a_detail_without_id() -> None:
    """Also where it comes last, with empty text; a server tool's signature has nowhere to return to."""
    server = {"toolCall": {"id": "s", "toolType": "X"}, "thoughtSignature": "c2VydmVy"}
    body = response([server, {"text": "a"}, {"text": "", "thoughtSignature": "c2lnbmVk"}])
    assert completed(body)["choices"][0]["message"]["reasoning_details"] == [SIGNED]
    _, chunks = streamed(sse([body]))
    assert [c["delta"].get("reasoning_details") for chunk in chunks for c in chunk["choices"]] == [None, [SIGNED], None]


def test_signatures_survive_openais_sdk() -> None:
    """A client that sends back the message it got, as its SDK gives it, returns every signature to its place."""
    body = fixture("tools")["body"]
    made = ChatCompletion.model_validate(completed(body))
    out = replayed(ADAPTER.stream(STREAMED, STAMP), [sse(fixture("tools_stream")["events"])])
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks_of(out):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    for answer in (made, state.get_final_completion()):
        turn = answer.choices[0].message.model_dump(exclude_none=True)
        assert _sent_after(turn) == [None, "c2lnbmVk", None]
        del turn["reasoning_details"]
        assert _sent_after(turn) == [None, "c2lnbmVk", None]
        turn = answer.choices[0].message.model_dump(exclude_none=True)
        del turn["tool_calls"][0]["extra_content"]
        assert _sent_after(turn) == [None, "c2lnbmVk", None]


def _sent_after(turn: dict[str, Any]) -> list[str | None]:
    """Signatures of the parts of the model's turn in the next request."""
    messages = [{"role": "user", "content": "Hi"}, turn]
    body = json.loads(ADAPTER.request(asked(messages=messages), deployment_of(ADAPTER)))
    return [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}", b'{"candidates":"x"}'])
def test_body_that_is_no_response_is_a_failure(body: bytes) -> None:
    """Such an attempt failed and may have been charged for."""
    with pytest.raises(UpstreamError) as caught:
        ADAPTER.completion(body, asked(), STAMP)
    assert (caught.value.kind, caught.value.billed) == (Kind.BROKEN, True)


def test_error_under_status_200_is_an_error() -> None:
    """Buffered and streamed; the code inside says what it means."""
    body = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(UpstreamError) as caught:
        ADAPTER.completion(json.dumps(body).encode(), asked(), STAMP)
    assert caught.value.kind is Kind.OVERLOADED
    for data in (sse([body]), json.dumps([body]).encode(), json.dumps(body).encode()):
        stream, chunks = streamed(data)
        assert (chunks, stream.started) == ([], False)
        assert stream.failure is not None
        assert stream.failure.kind is Kind.OVERLOADED


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"promptTokenCount": 5, "candidatesTokenCount": 2}, Usage(input=5, output=2)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 3}, Usage(input=5, output=3, reasoning=3)),
        ({"promptTokenCount": 5, "toolUsePromptTokenCount": 7}, Usage(input=12)),
        (
            {"candidatesTokenCount": 9, "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}]},
            Usage(output=3, audio_out=6),
        ),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 8, "promptTokensDetails": "x"}, Usage(cache_read=8)),
        ({"promptTokenCount": None, "candidatesTokenCount": -1, "promptTokensDetails": [3]}, Usage()),
    ],
)
def test_usage_is_read_into_disjoint_buckets(raw: dict[str, Any], usage: Usage) -> None:
    """Caches and audio are taken out of the prompt, thoughts added to the answer."""
    assert ADAPTER.usage(raw) == usage


def failed(status: int, error: dict[str, Any]) -> UpstreamError:
    return ADAPTER.error(status, {}, json.dumps({"error": {"code": status, "message": "m", **error}}).encode())


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, Kind.REJECTED),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, Kind.OUR_KEY_REFUSED),
        (
            400,
            {
                "status": "INVALID_ARGUMENT",
                "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            },
            Kind.CONTEXT_TOO_LONG,
        ),
        (400, {"status": "FAILED_PRECONDITION"}, Kind.OUR_KEY_REFUSED),
        (403, {"status": "PERMISSION_DENIED"}, Kind.OUR_KEY_REFUSED),
        (404, {"status": "NOT_FOUND"}, Kind.UPSTREAM_MODEL_MISSING),
        (429, {"status": "RESOURCE_EXHAUSTED"}, Kind.RATE_LIMITED),
        (429, {"details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]}, Kind.PROVIDER_QUOTA),
        (500, {"status": "INTERNAL"}, Kind.BROKEN),
        (503, {"status": "UNAVAILABLE"}, Kind.OVERLOADED),
        (504, {"status": "DEADLINE_EXCEEDED"}, Kind.TIMED_OUT),
    ],
)
def test_errors_are_judged(status: int, error: dict[str, Any], kind: Kind) -> None:
    """By status and details; by words only where Google gives nothing else."""
    assert failed(status, error).kind is kind


def test_rate_limit_says_when_to_come_back() -> None:
    """The wait stands in RetryInfo, not in a header."""
    recorded = fixture("error_429")
    error = ADAPTER.error(recorded["status"], recorded["headers"], json.dumps(recorded["body"]).encode())
    assert (error.kind, error.retry_after_s) == (Kind.RATE_LIMITED, 34.0)


@pytest.mark.parametrize(
    ("upstream_id", "stream", "target"),
    [
        ("gemini-x", False, "/v1beta/models/gemini-x:generateContent"),
        ("gemini-x", True, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"),
        ("tunedModels/my model", False, "/v1beta/tunedModels/my%20model:generateContent"),
    ],
)
def test_endpoint_names_model_and_call(upstream_id: str, stream: bool, target: str) -> None:
    """The key goes in a header, never in the URL."""
    base_url = "https://generativelanguage.googleapis.com/v1beta/"
    endpoint = ADAPTER.endpoint(Provider("g", "gemini", base_url, Secret("k")), upstream_id, stream=stream)
    assert endpoint.target == target
    assert dict(endpoint.headers) == {"content-type": "application/json", "x-goog-api-key": "k"}
