"""The chunks that nearly every stream in OpenAI's dialect is made of: checked by being decoded.

A chunk that fits these types (one choice that says text, begins or ends; or the usage at the end) needs no repair as
far as can be told without the stream's state. Everything else, tool calls among it, is looked at member by member.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from adapters.base import NOT_JSON
from adapters.usage import Told

_Name = Annotated[str, Meta(min_length=1)]


class PlainDelta(Struct, forbid_unknown_fields=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class PlainChoice(Struct, forbid_unknown_fields=True):
    index: Literal[0]
    delta: PlainDelta
    finish_reason: Literal["stop", "length", "content_filter"] | None
    logprobs: None = None


class PlainChunk(Struct, forbid_unknown_fields=True):
    """A `chat.completion.chunk` with one plain choice, or with the usage alone."""

    id: _Name
    object: Literal["chat.completion.chunk"]
    created: Annotated[int, Meta(gt=0)]
    model: _Name
    choices: Annotated[list[PlainChoice], Meta(max_length=1)]
    usage: Told | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    system_fingerprint: str | None = None
    obfuscation: str | UnsetType = UNSET


_decode = msgspec.json.Decoder(PlainChunk).decode


def plain_chunk(block: bytes) -> PlainChunk | None:
    """The chunk in an event that is one `data: {…}` line; None where it is not, or its chunk is not plain."""
    if not block.startswith(b"data: {") or block.find(b"\n") != len(block) - 2:
        return None
    try:
        return _decode(memoryview(block)[6:])
    except NOT_JSON:
        return None
