"""Usage as the OpenAI-like family tells it: read strictly, put into disjoint buckets, and told in OpenAI's way.

One reader serves every provider of the family, since their fields do not collide: the cache stands in
`prompt_tokens_details.cached_tokens`, `prompt_cache_hit_tokens` (DeepSeek), `num_cached_tokens` (Mistral) or, at the
top, `cached_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from adapters.events import openai_usage
from gateway.types import Usage

Tokens = Annotated[int, Meta(ge=0, le=10**12)]


class PromptDetails(Struct):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class CompletionDetails(Struct):
    reasoning_tokens: Tokens | None = None
    audio_tokens: Tokens | None = None


class Told(Struct):
    """A usage object as far as it is charged by. Unknown members are skipped."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Tokens | None = None
    num_cached_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None


_COUNTS = ("prompt_tokens", "completion_tokens")
_NO_PROMPT_DETAILS = PromptDetails()
_NO_COMPLETION_DETAILS = CompletionDetails()


def read_usage(raw: object) -> Told | None:
    """A decoded usage object, or None where it is none, or tells nothing yet (null counts)."""
    if not isinstance(raw, Mapping):
        return None
    try:
        told = msgspec.convert(raw, Told)
    except msgspec.ValidationError:
        try:  # details in an unknown form do not make the counts themselves unknown
            told = msgspec.convert({name: raw.get(name) for name in _COUNTS}, Told, strict=False)
        except msgspec.ValidationError:
            return None
    return None if told.prompt_tokens is None and told.completion_tokens is None else told


def usage_of(told: Told) -> Usage:
    """The disjoint buckets. What cannot be (more cached than sent) is cut to what can."""
    return judged(told)[0]


def judged(told: Told) -> tuple[Usage, bool]:
    """`usage_of()`, and whether an OpenAI client would read the same from the provider's own object."""
    prompt = told.prompt_tokens or 0
    completion = told.completion_tokens or 0
    total = told.total_tokens or 0
    given = told.prompt_tokens_details or _NO_PROMPT_DETAILS
    spent = told.completion_tokens_details or _NO_COMPLETION_DETAILS
    reasoning = spent.reasoning_tokens or 0
    if reasoning > completion or total > prompt + completion:
        prompt, completion, reasoning = _with_what_stands_beside(told, prompt, completion, reasoning)
    cached = given.cached_tokens or told.prompt_cache_hit_tokens or told.num_cached_tokens or told.cached_tokens or 0
    written = given.cache_write_tokens or 0
    audio_in, audio_out = given.audio_tokens or 0, spent.audio_tokens or 0
    if cached + written + audio_in > prompt:
        cached = min(cached, prompt)
        written = min(written, prompt - cached)
        audio_in = min(audio_in, prompt - cached - written)
    if reasoning + audio_out > completion:
        audio_out = min(audio_out, completion)
        reasoning = min(reasoning, completion - audio_out)
    usage = Usage(
        input=prompt - cached - written - audio_in,
        cache_read=cached,
        cache_write_5m=written,
        output=completion - audio_out,
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
    )
    return usage, (
        prompt == told.prompt_tokens
        and completion == told.completion_tokens
        and prompt + completion == told.total_tokens
        and cached == (given.cached_tokens or 0)
        and reasoning == (spent.reasoning_tokens or 0)
    )


def _with_what_stands_beside(told: Told, prompt: int, completion: int, reasoning: int) -> tuple[int, int, int]:
    """Prompt, completion and reasoning of a usage whose parts do not lie within each other, or do not sum up.

    Reasoning lies beside `completion_tokens` where the total says so (xAI, Grok at Azure), or where it is much more
    than they are (Gemini behind Vercel's gateway, whose own `cost` agrees); a token more or so is but another count of
    the same (OpenRouter, where an answer ended amid its reasoning). The audio of a prompt lies beside at Mistral.
    Gemini's own endpoint of OpenAI's kind tells thoughts in the total alone; they are charged as output.

    Source: https://github.com/pydantic/genai-prices/pull/591 for Mistral's audio, and for Gemini's thoughts
    https://discuss.ai.google.dev/t/do-thinkingbudget-tokens-count-toward-billed-output-in-gemini-2-5-flash/93491, which
    quotes the price list (both read 2026-11-21).
    """
    beside = (told.total_tokens or 0) - prompt - completion
    audio = (told.prompt_tokens_details or _NO_PROMPT_DETAILS).audio_tokens or 0
    much_more = reasoning - completion > 2 + completion // 8
    if much_more or (reasoning and beside in (reasoning, reasoning + audio)):
        completion += reasoning
        beside -= reasoning
    if audio and beside == audio:
        prompt += audio
    elif beside > 0 and (told.prompt_tokens_details, told.completion_tokens_details, *_cached(told)) == (None,) * 5:
        completion += beside
        reasoning = beside
    return prompt, completion, reasoning


def _cached(told: Told) -> tuple[int | None, ...]:
    return told.prompt_cache_hit_tokens, told.num_cached_tokens, told.cached_tokens


def repaired_usage(raw: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """The provider's usage object with OpenAI's members put right; what else it tells is kept."""
    right = openai_usage(usage)
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        told = raw.get(name)
        if isinstance(told, Mapping):
            right[name] = {key: value for key, value in told.items() if isinstance(value, int)} | right[name]
    return {**raw, **right}
