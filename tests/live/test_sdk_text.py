"""OpenAI's SDK, unchanged: text, roles, parameters, streams, raw responses."""

from __future__ import annotations

from typing import Any

import answers
import openai
import pytest
from conformance import Conformance
from fakes import Reply, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import entries

from gateway.money import usd

HELLO: Any = [{"role": "user", "content": "Hello"}]


def test_text(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """A plain question gets the provider's answer, its usage and its model's own name."""
    scene.script(json_reply(answers.completion("Good day.")))
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert answer.choices[0].message.content == "Good day."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "upstream-model-2026-01-01"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 3, 12)
    assert scene.upstream_body == {"model": f"{scene.first}-upstream", "messages": HELLO}
    conforms.chat(answer.to_dict(), {"messages": HELLO})


async def test_text_from_the_async_client(async_client: openai.AsyncOpenAI, scene: Scene) -> None:
    """The async client gets the same answer."""
    answer = await async_client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert answer.choices[0].message.content == f"Hello from {scene.first}."


def test_stream(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """A stream comes chunk by chunk as the provider sent it, with no usage chunk that nobody asked for."""
    scene.script(stream_reply(answers.chunks("Good day to you.")))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks] == ["", "Good ", "day ", "to ", "you.", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    assert {c.id for c in chunks} == {"chatcmpl-fake"}
    assert scene.upstream_body["stream_options"]["include_usage"] is True
    conforms.stream([c.to_dict() for c in chunks])


def test_stream_with_usage(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Who asks for usage gets it in a last chunk without choices."""
    request: Any = {"messages": HELLO, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(model=scene.tier, stream=True, **request) as stream:
        chunks = list(stream)
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (9, 3, 12)
    assert all(c.usage is None for c in chunks[:-1])
    conforms.stream([c.to_dict() for c in chunks], request)


@pytest.mark.parametrize("asked", [True, False])
def test_the_cost_of_a_stream(client: openai.OpenAI, gateway: RunningGateway, scene: Scene, asked: bool) -> None:
    """The usage chunk carries what was booked, where that is asked for."""
    options = {"gateway": {"show_cost": True}} if asked else {}
    with client.chat.completions.with_raw_response.create(
        model=scene.tier, messages=HELLO, stream=True, stream_options={"include_usage": True}, extra_body=options
    ).parse() as stream:
        last = list(stream)[-1]
    (entry,) = entries(gateway, stream.response.headers["x-gateway-request-id"])
    usage = last.usage.to_dict() if last.usage else {}
    assert usage.get("cost_usd") == (usd(entry["cost_nano_usd"]) if asked else None)


async def test_stream_from_the_async_client(async_client: openai.AsyncOpenAI, scene: Scene) -> None:
    """The async client iterates over the same chunks."""
    async with await async_client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == f"Hello from {scene.first}."


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions(client: openai.OpenAI, scene: Scene, role: str) -> None:
    """System and developer messages reach the provider under their own role."""
    messages: Any = [{"role": role, "content": "Be brief."}, *HELLO]
    client.chat.completions.create(model=scene.tier, messages=messages)
    assert scene.upstream_body["messages"] == messages


def test_several_turns(client: openai.OpenAI, scene: Scene) -> None:
    """The SDK's own answer goes back into the conversation as it came."""
    first = client.chat.completions.create(model=scene.tier, messages=HELLO)
    said = first.choices[0].message
    again: Any = [*HELLO, said, {"role": "user", "content": "And then?"}]
    client.chat.completions.create(model=scene.tier, messages=again)
    sent = scene.requests[1].body["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == f"Hello from {scene.first}."


PARAMETERS: list[dict[str, Any]] = [
    {"stop": "END"},
    {"stop": ["END", "STOP"]},
    {"seed": 7},
    {"temperature": 0.2, "top_p": 0.9},
    {"presence_penalty": 0.5, "frequency_penalty": -0.5},
    {"logit_bias": {"50256": -100}},
    {"max_tokens": 5},
    {"max_completion_tokens": 5},
    {"service_tier": "flex"},
    {"prompt_cache_key": "conversation-1"},
    {"metadata": {"purpose": "test"}},
    {"user": "user-1"},
    {"safety_identifier": "user-1"},
    {"store": False},
    {"verbosity": "low"},
    {"reasoning_effort": "low"},
    {"prediction": {"type": "content", "content": "Hello"}},
    {"web_search_options": {}},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: "+".join(p))
def test_parameters_reach_the_provider(client: openai.OpenAI, scene: Scene, parameters: dict[str, Any]) -> None:
    """What the SDK can say arrives as it was said, and nothing is added."""
    client.chat.completions.create(model=scene.tier, messages=HELLO, **parameters)
    sent = scene.upstream_body
    del sent["model"], sent["messages"]
    assert sent == parameters


def test_unknown_fields_reach_the_provider_and_come_back(client: openai.OpenAI, scene: Scene) -> None:
    """What neither SDK nor gateway knows passes through both ways."""
    scene.script(json_reply(answers.completion("Fine.", message={"mood": "good"}, trace={"id": 1})))
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO, extra_body={"top_k": 3, "mode": ["x"]})
    assert scene.upstream_body["top_k"] == 3
    assert scene.upstream_body["mode"] == ["x"]
    assert answer.model_extra == {"trace": {"id": 1}}
    assert answer.choices[0].message.model_extra == {"mood": "good"}


def test_the_gateways_own_options_do_not_reach_the_provider(client: openai.OpenAI, scene: Scene) -> None:
    """The `gateway` object is for us alone."""
    options = {"gateway": {"preset": "precise", "tags": {"team": "search"}}}
    client.chat.completions.create(model=scene.tier, messages=HELLO, extra_body=options)
    assert "gateway" not in scene.upstream_body
    assert scene.upstream_body["temperature"] == 0.0


def test_service_tier_and_fingerprint_come_back(client: openai.OpenAI, scene: Scene) -> None:
    """Fields beside the choices are the provider's own."""
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert (answer.service_tier, answer.system_fingerprint) == ("default", "fp_fake")


def test_several_choices(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """n choices come back by their indexes."""
    choices = [answers.choice(0, "One."), answers.choice(1, "Two.")]
    scene.script(json_reply(answers.completion(choices=choices)))
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO, n=2)
    assert [(c.index, c.message.content) for c in answer.choices] == [(0, "One."), (1, "Two.")]
    assert scene.upstream_body["n"] == 2
    conforms.chat(answer.to_dict(), {"n": 2})


def test_several_choices_streamed(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Chunks of n choices may interleave."""
    said = [(0, "One"), (1, "Two"), (0, "!"), (1, "?")]
    events = [answers.chunk({"role": "assistant", "content": ""}, index=i) for i in (0, 1)]
    events += [answers.chunk({"content": text}, index=i) for i, text in said]
    events += [answers.chunk({}, index=i, finish_reason="stop") for i in (0, 1)]
    scene.script(stream_reply([*events, answers.usage_chunk()]))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, n=2, stream=True) as stream:
        chunks = list(stream)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["One!", "Two?"]
    conforms.stream([c.to_dict() for c in chunks], {"n": 2})


LOGPROBS = {
    "content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}],
    "refusal": None,
}


def test_logprobs(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Log probabilities are asked for and come back, buffered."""
    scene.script(json_reply(answers.completion("Hi", choice={"logprobs": LOGPROBS})))
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert (logprobs.content[0].token, logprobs.content[0].logprob) == ("Hi", -0.1)
    assert (scene.upstream_body["logprobs"], scene.upstream_body["top_logprobs"]) == (True, 2)
    conforms.chat(answer.to_dict())


def test_logprobs_streamed(client: openai.OpenAI, scene: Scene) -> None:
    """Log probabilities come back with their chunk."""
    events = [
        answers.chunk({"role": "assistant", "content": ""}),
        answers.chunk({"content": "Hi"}, logprobs=LOGPROBS),
        answers.chunk({}, finish_reason="stop"),
        answers.usage_chunk(),
    ]
    scene.script(stream_reply(events))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, logprobs=True, stream=True) as stream:
        found = [c.choices[0].logprobs for c in stream if c.choices[0].logprobs]
    assert len(found) == 1 and found[0].content is not None
    assert found[0].content[0].token == "Hi"


def test_reasoning(client: openai.OpenAI, scene: Scene) -> None:
    """Reasoning text stands beside the content, and its tokens are in the usage."""
    usage = {**answers.USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}
    scene.script(json_reply(answers.completion("4", message={"reasoning_content": "2+2"}, usage=usage)))
    answer = client.chat.completions.create(model=scene.tier, messages=HELLO, reasoning_effort="high")
    extra = answer.choices[0].message.model_extra
    assert extra is not None
    assert extra["reasoning_content"] == "2+2"
    assert scene.upstream_body["reasoning_effort"] == "high"
    assert answer.usage is not None and answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2


def test_reasoning_streamed(client: openai.OpenAI, scene: Scene) -> None:
    """Reasoning deltas come before the content, as the provider sent them."""
    events = [
        answers.chunk({"role": "assistant", "content": None, "reasoning_content": "2"}),
        answers.chunk({"reasoning_content": "+2"}),
        answers.chunk({"content": "4"}),
        answers.chunk({}, finish_reason="stop"),
        answers.usage_chunk(),
    ]
    scene.script(stream_reply(events))
    reasoning, content = "", ""
    with client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        for chunk in stream:
            delta = chunk.choices[0].delta
            reasoning += (delta.model_extra or {}).get("reasoning_content") or ""
            content += delta.content or ""
    assert (reasoning, content) == ("2+2", "4")


def test_raw_response(client: openai.OpenAI, scene: Scene) -> None:
    """Headers tell who answered and what it cost; the bytes are the provider's own."""
    body = answers.completion("Untouched.")
    scene.script(json_reply(body, openai_processing_ms="42", x_secret="hidden"))
    raw = client.chat.completions.with_raw_response.create(model=scene.tier, messages=HELLO)
    assert raw.parse().choices[0].message.content == "Untouched."
    assert raw.http_response.json() == body
    assert raw.request_id == raw.headers["x-gateway-request-id"]
    assert raw.headers["x-gateway-tier"] == scene.tier
    assert raw.headers["x-gateway-deployment"] == scene.first_deployment
    assert raw.headers["x-gateway-attempts"] == "1"
    assert raw.headers["x-gateway-cost-usd"] == "0.000015"  # 9 tokens at $1 and 3 at $2 a million
    assert len(raw.headers["x-gateway-catalog"]) == 12
    assert raw.headers["openai-processing-ms"] == "42"
    assert "x-secret" not in raw.headers


def test_streaming_response(client: openai.OpenAI, scene: Scene) -> None:
    """The raw lines of a stream end with [DONE]."""
    create = client.chat.completions.with_streaming_response.create
    with create(model=scene.tier, messages=HELLO, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[0].startswith("data: {")
    assert lines[-1] == "data: [DONE]"
    assert sum(line == "data: [DONE]" for line in lines) == 1


def test_a_stream_cut_into_single_bytes_reads_the_same(client: openai.OpenAI, scene: Scene) -> None:
    """However the provider's writes are cut, also within a character, the text is whole."""
    whole = b"".join(step for step in stream_reply(answers.chunks("Grüße, 世界 🚀!")).steps if isinstance(step, bytes))
    pieces = [whole[at : at + 1] for at in range(len(whole))]
    scene.script(Reply(200, {"content-type": "text/event-stream"}, pieces, chunked=True))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        text = "".join(c.choices[0].delta.content or "" for c in stream)
    assert text == "Grüße, 世界 🚀!"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["claude", "gemini"])
def test_other_apis_speak_the_same(client: openai.OpenAI, api: str, stream: bool, conforms: Conformance) -> None:
    """Anthropic's and Google's answers reach the SDK as OpenAI's."""
    request: Any = {"model": api, "messages": HELLO}
    if not stream:
        answer = client.chat.completions.create(**request)
        assert answer.choices[0].message.content == f"Hello from {api}."
        assert answer.usage is not None and answer.usage.total_tokens == 12
        conforms.chat(answer.to_dict())
        return
    request |= {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**request) as chunks:
        seen = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in seen if c.choices) == f"Hello from {api}."
    assert seen[-1].usage is not None and seen[-1].usage.total_tokens == 12
    conforms.stream([c.to_dict() for c in seen], request)
