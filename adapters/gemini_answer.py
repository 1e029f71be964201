"""From Gemini's answers to OpenAI's: one response, or the responses of a stream, each a piece of it.

Thought parts become `reasoning_content`. A thought signature goes out twice, so that it survives whichever field a
client keeps: on the tool call as `extra_content.google.thought_signature`, as Google's own OpenAI endpoint has it, and
as an entry of `reasoning_details` (with the call's id; without one for the signature of the text). Inline images become
`message.images`. Parts of server tools (code execution, search) are left out.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures
(read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from adapters.answers import JsonObject, count
from gateway.types import Usage

_FILTERED = "content_filter"
_FINISH: Mapping[str, str] = {
    "MAX_TOKENS": "length",
    "SAFETY": _FILTERED,
    "RECITATION": _FILTERED,
    "LANGUAGE": _FILTERED,
    "BLOCKLIST": _FILTERED,
    "PROHIBITED_CONTENT": _FILTERED,
    "SPII": _FILTERED,
    "MODEL_ARMOR": _FILTERED,
    "IMAGE_SAFETY": _FILTERED,
    "IMAGE_PROHIBITED_CONTENT": _FILTERED,
    "IMAGE_RECITATION": _FILTERED,
}
_SERVICE_TIERS: Mapping[str, str] = {
    "standard": "default",
    "ON_DEMAND": "default",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
}


class PartialArg(Struct, rename="camel"):
    """A piece of an argument: the value at a JSON path; text may come in several pieces."""

    json_path: str = "$"
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None

    @property
    def value(self) -> str | float | bool | None:
        if self.string_value is not None:
            return self.string_value
        return self.bool_value if self.number_value is None else self.number_value


class FunctionCall(Struct, rename="camel"):
    name: str | None = None
    args: Raw = Raw(b"{}")
    id: str | None = None
    partial_args: list[PartialArg] | None = None
    will_continue: bool = False


class Blob(Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""


class Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None

    @property
    def has_signature(self) -> bool:
        """Whether a signature can be given back; that of a server tool's part has no part to go to."""
        return self.thought_signature is not None and (self.text is not None or self.inline_data is not None)


class Content(Struct):
    parts: list[Part] = []


class Token(Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class TopTokens(Struct):
    candidates: list[Token] = []


class LogprobsResult(Struct, rename="camel"):
    chosen_candidates: list[Token] = []
    top_candidates: list[TopTokens] = []


class Candidate(Struct, rename="camel"):
    index: int = 0
    content: Content | None = None
    finish_reason: str | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class Answer(Struct, rename="camel"):
    """A response. One without candidates is a refused prompt, an error, or tells usage alone."""

    candidates: list[Candidate] = []
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Raw = Raw(b"{}")
    model_version: str = ""
    error: JsonObject | None = None

    @property
    def usage(self) -> bytes:
        """The usage object as JSON, b"" where none is told."""
        raw = bytes(self.usage_metadata)
        return raw if raw[:1] == b"{" and len(raw) > 2 else b""

    @property
    def block(self) -> PromptFeedback | None:
        """Why the prompt was refused, None where it was not."""
        feedback = self.prompt_feedback
        return feedback if feedback is not None and feedback.block_reason and not self.candidates else None


decode_answer = msgspec.json.Decoder(Answer).decode
decode_usage = msgspec.json.Decoder(dict[str, Any]).decode


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Gemini's usageMetadata in disjoint buckets.

    `promptTokenCount` holds cached tokens but not those of tool use; `candidatesTokenCount` holds no thoughts.
    Source: https://ai.google.dev/api/generate-content#UsageMetadata (read 2026-11-21).
    """
    cached = count(raw, "cachedContentTokenCount")
    audio_in = max(_audio(raw, "promptTokensDetails") - _audio(raw, "cacheTokensDetails"), 0)
    prompt = count(raw, "promptTokenCount") + count(raw, "toolUsePromptTokenCount")
    audio_out = _audio(raw, "candidatesTokensDetails")
    thoughts = count(raw, "thoughtsTokenCount")
    return Usage(
        input=max(prompt - cached - audio_in, 0),
        cache_read=cached,
        output=max(count(raw, "candidatesTokenCount") - audio_out, 0) + thoughts,
        reasoning=thoughts,
        audio_in=audio_in,
        audio_out=audio_out,
    )


def _audio(raw: Mapping[str, Any], name: str) -> int:
    details = raw.get(name)
    entries = details if isinstance(details, list) else []
    return sum(count(entry, "tokenCount") for entry in entries if isinstance(entry, dict) and _is_audio(entry))


def _is_audio(entry: Mapping[str, Any]) -> bool:
    return entry.get("modality") == "AUDIO"


def service_tier_of(raw: Mapping[str, Any]) -> str | None:
    """The tier charged by in OpenAI's words: AI Studio's `serviceTier`, Vertex's `trafficType`."""
    tier = raw.get("serviceTier") or raw.get("trafficType")
    return _SERVICE_TIERS.get(tier, tier) if isinstance(tier, str) else None


def finish_reason_of(answer_reason: str | None) -> str:
    """OpenAI's finish reason; a malformed or undeclared call has stopped, without a call."""
    return _FINISH.get(answer_reason or "", "stop")


def logprobs_of(result: LogprobsResult | None) -> JsonObject | None:
    """OpenAI's `logprobs` of a choice."""
    if result is None:
        return None
    tops = result.top_candidates + [TopTokens()] * (len(result.chosen_candidates) - len(result.top_candidates))
    content = [
        {**_token(chosen), "top_logprobs": [_token(token) for token in top.candidates]}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]
    return {"content": content, "refusal": None}


def _token(token: Token) -> JsonObject:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}


def image_of(blob: Blob) -> JsonObject:
    """An image of an answer as a content part."""
    return {"type": "image_url", "image_url": {"url": f"data:{blob.mime_type};base64,{blob.data}"}}
