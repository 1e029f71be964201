"""What tests of the adapters share: requests to make, fixtures to feed, and reading what a caller would read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters import ADAPTERS
from adapters.base import ChatStream, Stamp
from gateway.chat import Chat, parse_chat
from gateway.types import Deployment, Model, Provider, Secret

FIXTURES = Path(__file__).parent / "fixtures"
STAMP = Stamp("req_0123456789", 1_795_219_200)
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


def chat(**members: Any) -> Chat:
    """A caller's request: a greeting to `fast`, with these members added."""
    return parse_chat(json.dumps({"model": "fast", "messages": HELLO, **members}).encode())


def streaming(*, include_usage: bool = True, **members: Any) -> Chat:
    """A caller's request for a stream."""
    return chat(stream=True, **({"stream_options": {"include_usage": True}} if include_usage else {}), **members)


def deployment(adapter: str = "openai", base_url: str | None = None, **options: Any) -> Deployment:
    """A deployment of `upstream-1` at the adapter's own provider, or at `base_url`; options as in the catalog."""
    own = ADAPTERS[adapter].default_base_url or "https://provider.example/v1"
    provider = Provider(adapter, adapter, base_url or own, Secret("the-key"))
    model = Model("example", "Example", "enabled", 0, None, None)
    return Deployment(f"{adapter}/example", provider, model, "upstream-1", **options)


def provider(adapter: str, base_url: str, *, key: str | None = "the-key", **options: Any) -> Provider:
    """A provider as the catalog compiles it."""
    return Provider(adapter, adapter, base_url, Secret(key) if key else None, **options)


def fixture(adapter: str, name: str) -> dict[str, Any]:
    """A fixture of our own making; its `shape` names the documentation that it follows."""
    loaded: dict[str, Any] = json.loads((FIXTURES / adapter / f"{name}.json").read_bytes())
    return loaded


def sse(*events: Any, end: str = "\n") -> bytes:
    """Server-sent events: objects as data, strings as they stand."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event, ensure_ascii=False)}" for event in events]
    return "".join(f"{line}{end}{end}" for line in lines).encode()


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **members: Any) -> dict[str, Any]:
    """A chunk of OpenAI's with one choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "example-1"}
    return {**envelope, "choices": [choice], **members}


def cuts(body: bytes) -> Iterator[list[bytes]]:
    """Ways in which a body may arrive: whole, byte by byte, and in two at every place."""
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]
    for at in range(1, len(body), 7):
        yield [body[:at], body[at:]]


def fed(stream: ChatStream, pieces: list[bytes]) -> bytes:
    """What the caller gets of these pieces, the end included."""
    return b"".join([*map(stream.feed, pieces), stream.end()])


def chunks(out: bytes) -> list[dict[str, Any]]:
    """The chunks that a caller reads, without the closing `[DONE]`, which must be there."""
    events = out.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def said(out: bytes) -> dict[str, Any]:
    """A stream's answer put together as a client does: text, reasoning, calls, finish reason."""
    told: dict[str, Any] = {"text": "", "reasoning": "", "calls": [], "finish_reason": None}
    for event in chunks(out):
        for choice in event["choices"]:
            delta = choice["delta"]
            told["text"] += delta.get("content") or ""
            told["reasoning"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(told["calls"]):
                    told["calls"].append([call["function"]["name"], ""])
                told["calls"][call["index"]][1] += call["function"].get("arguments") or ""
            told["finish_reason"] = choice["finish_reason"] or told["finish_reason"]
    return told


def message_of(body: bytes) -> dict[str, Any]:
    """A buffered answer in the form of `said`."""
    choice = json.loads(body)["choices"][0]
    message = choice["message"]
    calls = [[call["function"]["name"], call["function"]["arguments"]] for call in message.get("tool_calls") or ()]
    return {
        "text": message["content"] or "",
        "reasoning": message.get("reasoning_content") or "",
        "calls": calls,
        "finish_reason": choice["finish_reason"],
    }
