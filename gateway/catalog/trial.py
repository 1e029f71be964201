"""Tiny requests that show what a model really can do, and how to read their answers. Pure."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from adapters.base import NOT_JSON
from gateway.types import Capability

_MOST_TOKENS = 1024
"""Enough for a model that reasons before a word; few answers come near it."""
_SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One live call."""

    name: str
    capability: Capability
    """What the catalog claims where it should succeed."""
    fields: Mapping[str, Any]
    """Of the request, beside `model`."""
    judge: Callable[[bytes], str | None]
    """What is wrong with an answer of status 200; None where it shows the capability."""


def _plain(body: bytes) -> str | None:
    return None if _message(body).get("content") else "the answer holds no text"


def _streamed(body: bytes) -> str | None:
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1].strip() != b"[DONE]":
        return "the stream did not come to its end"
    text = [
        choice.get("delta", {}).get("content") for event in events[:-1] for choice in _json(event).get("choices", ())
    ]
    return None if any(text) else "the stream holds no text"


def _called(body: bytes) -> str | None:
    calls = _message(body).get("tool_calls") or []
    if not calls:
        return "it did not call the tool"
    arguments = _json(str(calls[0].get("function", {}).get("arguments", "")).encode())
    return None if "word" in arguments else "the tool's arguments do not keep to their schema"


def _kept_to_schema(body: bytes) -> str | None:
    found = _json(str(_message(body).get("content") or "").encode())
    return None if isinstance(found.get("word"), str) else "the answer does not keep to the schema"


def _message(body: bytes) -> Mapping[str, Any]:
    choices = _json(body).get("choices") or [{}]
    found = choices[0].get("message")
    return found if isinstance(found, dict) else {}


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except NOT_JSON:
        return {}
    return value if isinstance(value, dict) else {}


def _red_square() -> str:
    """A PNG of 16 by 16 red points, as a data URL."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * 16) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _asking(content: Any, **rest: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_completion_tokens": _MOST_TOKENS, **rest}


_TOOL = {"type": "function", "function": {"name": "note", "description": "Notes a word.", "parameters": _SCHEMA}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "note", "strict": True, "schema": _SCHEMA}}

PROBES = (
    Probe("plain", Capability.TEXT_OUTPUT, _asking("Answer with the word: ok"), _plain),
    Probe("stream", Capability.STREAMING, _asking("Answer with the word: ok", stream=True), _streamed),
    Probe(
        "tools",
        Capability.FUNCTION_CALLING,
        _asking("Note the word: ok", tools=[_TOOL], tool_choice="required"),
        _called,
    ),
    Probe(
        "json_schema",
        Capability.STRUCTURED_OUTPUT,
        _asking("Answer with the word ok as JSON.", response_format=_FORMAT),
        _kept_to_schema,
    ),
    Probe(
        "vision",
        Capability.IMAGE_INPUT,
        _asking(
            [
                {"type": "text", "text": "Name the colour of this square in one word."},
                {"type": "image_url", "image_url": {"url": _red_square()}},
            ]
        ),
        _plain,
    ),
)


def verdict(probe: Probe, status: int, body: bytes) -> str | None:
    """Why the model did not do what the probe asks; None where it did."""
    if status == 200:
        return probe.judge(body)
    error = _json(body).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return f"{status}: {message}" if isinstance(message, str) else f"status {status}"
