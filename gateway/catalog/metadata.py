"""What model lists tell beside names: limits, abilities and prices, in each provider's words. Pure.

Sources (read 2026-11-21): https://openrouter.ai/docs/api-reference/list-available-models,
https://ai.google.dev/api/models, https://docs.anthropic.com/en/api/models-list,
https://docs.mistral.ai/api/, https://docs.together.ai/reference/models-1, https://console.groq.com/docs/api-reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.types import Capability

_INPUT = (
    "inputTokenLimit",
    "max_input_tokens",
    "context_length",
    "context_window",
    "max_context_length",
    "max_model_len",
)
_OUTPUT = ("outputTokenLimit", "max_completion_tokens", "max_output_tokens", "max_tokens")
_MOST_TOKENS = 100_000_000

_SPOKEN = {
    "text": Capability.TEXT_INPUT,
    "image": Capability.IMAGE_INPUT,
    "audio": Capability.AUDIO_INPUT,
    "video": Capability.VIDEO_INPUT,
    "file": Capability.DOCUMENT_INPUT,
}
_WRITTEN = {"text": Capability.TEXT_OUTPUT, "image": Capability.IMAGE_OUTPUT, "audio": Capability.AUDIO_OUTPUT}
_WORDS = {
    # OpenRouter's supported_parameters
    "tools": Capability.FUNCTION_CALLING,
    "parallel_tool_calls": Capability.PARALLEL_TOOL_CALLS,
    "response_format": Capability.JSON_MODE,
    "structured_outputs": Capability.STRUCTURED_OUTPUT,
    "reasoning": Capability.EXTENDED_THINKING,
    "logprobs": Capability.LOGPROBS,
    # Mistral's, Anthropic's and Ollama's capabilities
    "function_calling": Capability.FUNCTION_CALLING,
    "vision": Capability.IMAGE_INPUT,
    "image_input": Capability.IMAGE_INPUT,
    "pdf_input": Capability.DOCUMENT_INPUT,
    "batch": Capability.BATCH,
    "thinking": Capability.EXTENDED_THINKING,
}
_CHAT = (Capability.TEXT_INPUT, Capability.TEXT_OUTPUT, Capability.SYSTEM_MESSAGES, Capability.STREAMING)
_PER_TOKEN = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write_5m",
}
_PER_MTOK = {"input": "input", "output": "output", "cached_input": "cache_read"}
_FINEST = Decimal("0.000001")


def limits(metadata: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Most tokens of prompt and of answer; None where the list does not say."""
    deeper = metadata.get("top_provider")
    below = deeper if isinstance(deeper, dict) else {}
    return _count(metadata, _INPUT), _count({**metadata, **below}, _OUTPUT)


def capabilities(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What the list says that a chat model can do, in our order; empty where it says nothing of that."""
    words = {*_said(metadata.get("capabilities")), *_said(metadata.get("supported_parameters"))}
    found = {_WORDS[word] for word in words if word in _WORDS}
    architecture = metadata.get("architecture")
    if isinstance(architecture, dict):
        found |= {_SPOKEN[word] for word in _said(architecture.get("input_modalities")) if word in _SPOKEN}
        found |= {_WRITTEN[word] for word in _said(architecture.get("output_modalities")) if word in _WRITTEN}
    if metadata.get("thinking") is True:
        found.add(Capability.EXTENDED_THINKING)
    if not found and not words:
        return ()
    return tuple(c.value for c in Capability if c in found or c in _CHAT)


def usd_per_mtok(metadata: Mapping[str, Any]) -> dict[str, str] | None:
    """Rates as the document writes them; None unless both input and output are told."""
    pricing = metadata.get("pricing")
    if not isinstance(pricing, dict):
        return None
    names, factor = (_PER_TOKEN, 1_000_000) if "prompt" in pricing else (_PER_MTOK, 1)
    rates = {ours: rate for theirs, ours in names.items() if (rate := decimal_rate(pricing.get(theirs), factor))}
    return rates if {"input", "output"} <= rates.keys() else None


def decimal_rate(value: object, factor: int) -> str | None:
    """An amount as a decimal text with at most six places; None for what is no amount, or none that we can keep."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        usd = Decimal(str(value)[:40]) * factor
        if not usd.is_finite() or not 0 <= usd <= 1_000_000:
            return None
        return f"{usd.quantize(_FINEST).normalize():f}"
    except InvalidOperation:
        return None


def _count(metadata: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    values = (metadata.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 < v <= _MOST_TOKENS), None)


def _said(value: object) -> list[str]:
    """The words that hold: of a list, or of a mapping to true or to `{supported: true}`."""
    if isinstance(value, list):
        return [word for word in value if isinstance(word, str)]
    if isinstance(value, dict):
        return [
            w for w, holds in value.items() if holds is True or (isinstance(holds, dict) and holds.get("supported"))
        ]
    return []
