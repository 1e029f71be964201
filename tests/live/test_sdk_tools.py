"""OpenAI's SDK, unchanged: tools, structured outputs, media."""

from __future__ import annotations

import json
from typing import Any, Literal

import answers
import openai
import pytest
from conformance import Conformance
from fakes import json_reply, stream_reply
from pydantic import BaseModel
from scenes import Scene

ASK: Any = [{"role": "user", "content": "Weather in Oslo and Bergen?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}},
                "required": ["place"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


class Weather(BaseModel):
    """What `.parse()` fills."""

    place: str
    celsius: int
    sky: Literal["clear", "cloudy"]


SUNNY = '{"place":"Oslo","celsius":3,"sky":"clear"}'


def test_a_tool_is_called_and_its_result_goes_back(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Two turns of an app with a tool, the SDK's own message object in between."""
    calls = [answers.tool_call("weather", '{"place":"Oslo"}')]
    scene.script(json_reply(answers.completion(None, finish_reason="tool_calls", message={"tool_calls": calls})))
    request: Any = {"messages": ASK, "tools": TOOLS}
    first = client.chat.completions.create(model=scene.tier, **request)
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"place": "Oslo"})
    conforms.chat(first.to_dict(), request)

    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}
    client.chat.completions.create(model=scene.tier, messages=[*ASK, message, result], tools=TOOLS)
    sent = scene.requests[1].body["messages"]
    assert sent[1]["tool_calls"] == calls
    assert sent[2] == result
    assert scene.requests[1].body["tools"] == TOOLS


def test_parallel_tool_calls_streamed(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Arguments come in deltas by call index and join to JSON."""
    scene.script(
        stream_reply(
            answers.tool_chunks(("weather", ['{"pla', 'ce":"Oslo"}']), ("weather", ['{"place":', '"Bergen"}']))
        )
    )
    request: Any = {"messages": ASK, "tools": TOOLS, "parallel_tool_calls": True}
    with client.chat.completions.create(model=scene.tier, stream=True, **request) as stream:
        chunks = list(stream)
    arguments: dict[int, str] = {}
    ids: dict[int, str] = {}
    deltas = 0
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
            ids[call.index] = ids.get(call.index) or call.id or ""
            deltas += 1
    assert [json.loads(text) for text in arguments.values()] == [{"place": "Oslo"}, {"place": "Bergen"}]
    assert list(ids.values()) == ["call_1", "call_2"]
    assert deltas == 6
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    conforms.stream([c.to_dict() for c in chunks], request)


@pytest.mark.parametrize(
    "choice",
    ["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}],
    ids=["auto", "none", "required", "named"],
)
def test_tool_choice_reaches_the_provider(client: openai.OpenAI, scene: Scene, choice: Any) -> None:
    """Each way of choosing arrives as it was said."""
    client.chat.completions.create(model=scene.tier, messages=ASK, tools=TOOLS, tool_choice=choice)
    assert scene.upstream_body["tool_choice"] == choice


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "W", "strict": True, "schema": Weather.model_json_schema()}},
    ],
    ids=["json_object", "json_schema"],
)
def test_response_format(client: openai.OpenAI, scene: Scene, form: Any) -> None:
    """The format arrives as it was said, and the answer is the provider's text."""
    scene.script(json_reply(answers.completion(SUNNY)))
    answer = client.chat.completions.create(model=scene.tier, messages=ASK, response_format=form)
    assert scene.upstream_body["response_format"] == form
    assert answer.choices[0].message.content == SUNNY


def test_parse(client: openai.OpenAI, scene: Scene) -> None:
    """`.parse()` gives the app its own type."""
    scene.script(json_reply(answers.completion(SUNNY)))
    answer = client.chat.completions.parse(model=scene.tier, messages=ASK, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(place="Oslo", celsius=3, sky="clear")
    sent = scene.upstream_body["response_format"]
    assert (sent["type"], sent["json_schema"]["strict"]) == ("json_schema", True)


def test_parse_refusal(client: openai.OpenAI, scene: Scene) -> None:
    """A refusal is a refusal, not text that fails to parse."""
    scene.script(json_reply(answers.completion(None, message={"refusal": "I will not."})))
    answer = client.chat.completions.parse(model=scene.tier, messages=ASK, response_format=Weather)
    assert answer.choices[0].message.parsed is None
    assert answer.choices[0].message.refusal == "I will not."


def test_parse_cut_short(client: openai.OpenAI, scene: Scene) -> None:
    """The SDK's own exception for a cut answer is raised: finish_reason has come through."""
    scene.script(json_reply(answers.completion('{"place":', finish_reason="length")))
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=scene.tier, messages=ASK, response_format=Weather)


def test_parse_streamed(client: openai.OpenAI, scene: Scene) -> None:
    """The `.stream()` helper gathers text and gives the app its own type in the end."""
    pieces = [SUNNY[:10], SUNNY[10:25], SUNNY[25:]]
    events = [
        answers.chunk({"role": "assistant", "content": ""}),
        *(answers.chunk({"content": piece}) for piece in pieces),
        answers.chunk({}, finish_reason="stop"),
        answers.usage_chunk(),
    ]
    scene.script(stream_reply(events))
    with client.chat.completions.stream(model=scene.tier, messages=ASK, response_format=Weather) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert [delta for delta in deltas if delta] == pieces
    assert final.choices[0].message.parsed == Weather(place="Oslo", celsius=3, sky="clear")


def test_tools_with_the_stream_helper(client: openai.OpenAI, scene: Scene) -> None:
    """The helper joins argument deltas and tells when a call is complete."""
    scene.script(stream_reply(answers.tool_chunks(("weather", ['{"place":', '"Oslo"}']))))
    with client.chat.completions.stream(model=scene.tier, messages=ASK, tools=TOOLS) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [(event.name, event.parsed_arguments) for event in done] == [("weather", {"place": "Oslo"})]


async def test_parse_from_the_async_client(async_client: openai.AsyncOpenAI, scene: Scene) -> None:
    """The async helper does the same."""
    scene.script(json_reply(answers.completion(SUNNY)))
    answer = await async_client.chat.completions.parse(model=scene.tier, messages=ASK, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(place="Oslo", celsius=3, sky="clear")


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARTS: dict[str, Any] = {
    "image by URL": {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
    "image by data URL": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    "file": {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    "file by id": {"type": "file", "file": {"file_id": "file-123"}},
}


@pytest.mark.parametrize("name", list(PARTS))
def test_media_parts_reach_the_provider(client: openai.OpenAI, scene: Scene, name: str) -> None:
    """A part arrives as it was given, in its place beside the text."""
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, PARTS[name]]}]
    answer = client.chat.completions.create(model=scene.tier, messages=messages)
    assert scene.upstream_body["messages"] == messages
    assert answer.choices[0].message.content == f"Hello from {scene.first}."


def test_audio_answers_come_back(client: openai.OpenAI, scene: Scene) -> None:
    """Spoken answers keep their data, transcript and id."""
    audio = {"id": "audio_1", "data": "UklGRg==", "expires_at": 1_790_003_600, "transcript": "Hello."}
    scene.script(json_reply(answers.completion(None, message={"audio": audio})))
    answer = client.chat.completions.create(
        model=scene.tier, messages=ASK, modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}
    )
    spoken = answer.choices[0].message.audio
    assert spoken is not None
    assert (spoken.id, spoken.data, spoken.transcript) == ("audio_1", "UklGRg==", "Hello.")
    assert scene.upstream_body["audio"] == {"voice": "alloy", "format": "wav"}
