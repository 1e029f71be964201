"""Putting right what OpenAI-like providers do differently in messages, deltas, tool calls and finish reasons.

Everything here changes decoded JSON in place and tells whether it had to, so that what was right can go on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.answers import made_call_id
from gateway.errors import Kind, UpstreamError

_decode = msgspec.json.Decoder().decode

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
"""The values that OpenAI's clients know; others are reported to the gateway only."""

_FINISH_WORDS: Mapping[str, str] = {
    "model_length": "length",  # Mistral
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "refusal": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
_BROKEN_FINISH = frozenset({"error", "insufficient_system_resource"})  # OpenRouter; DeepSeek


def repair_text(message: dict[str, Any]) -> bool:
    """Puts `content` and reasoning of a message or delta into their OpenAI form.

    Mistral gives content as a list of parts, thinking among them; Workers AI an object in JSON mode; Groq and
    OpenRouter name the reasoning `reasoning`.
    """
    changed = False
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        text, thought = _of_parts(content) if isinstance(content, list) else (as_json(content), "")
        message["content"] = text
        if thought:
            message["reasoning_content"] = (message.get("reasoning_content") or "") + thought
        changed = True
    if "reasoning" in message:
        reasoning = message.pop("reasoning")
        if isinstance(reasoning, str) and reasoning and not message.get("reasoning_content"):
            message["reasoning_content"] = reasoning
        changed = True
    return changed


def _of_parts(parts: list[Any]) -> tuple[str, str]:
    text: list[str] = []
    thought: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, Mapping) and part.get("type") == "thinking":
            inner = part.get("thinking")
            thought.append(_of_parts(inner)[0] if isinstance(inner, list) else str(inner or ""))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            text.append(part["text"])
    return "".join(text), "".join(thought)


_SURROGATES = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def decode(data: bytes) -> Any:
    """JSON decoded. Half of a surrogate pair, as some servers cut an emoji between two deltas, is read as U+FFFD.

    Raises:
        msgspec.DecodeError: it is not JSON.
    """
    try:
        return _decode(data)
    except msgspec.DecodeError:
        whole = _SURROGATES.sub(lambda hit: hit[1] or b"\\ufffd", data) if b"\\u" in data else data
        if whole == data:
            raise
        return _decode(whole)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("not UTF-8") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def as_json(value: object) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def repair_logprobs(choice: dict[str, Any]) -> bool:
    """Gives each token of `logprobs.content` the members that OpenAI's clients demand."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    changed = False
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict) and not isinstance(token.get("top_logprobs"), list):
            token["top_logprobs"] = []
            changed = True
    return changed


def finish_reason(value: object, *, called: bool, forced: bool) -> str | None:
    """OpenAI's word for a finish reason; None where the choice goes on.

    `called`: the choice has tool calls. `forced`: the caller made it call one, where OpenAI itself says `stop`.

    Raises:
        UpstreamError: the provider broke off.
    """
    if not isinstance(value, str) or not value:
        return None
    if value not in FINISH_REASONS:
        word = value.lower()
        if word in _BROKEN_FINISH:
            raise UpstreamError(Kind.BROKEN, "The provider broke off its answer.", billed=True)
        value = word if word in FINISH_REASONS else _FINISH_WORDS.get(word, "stop")
    if value == "stop" and called and not forced:
        return "tool_calls"
    return "stop" if value == "tool_calls" and not called else value


def repair_calls(calls: list[Any], answer_id: str) -> bool:
    """Puts the tool calls of a whole message right: ids, types, arguments as text, no `index`."""
    changed = False
    taken: set[str] = set()
    for at, call in enumerate(calls):
        check_call(call)
        if "index" in call:
            del call["index"]
            changed = True
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in taken:
            call_id = call["id"] = made_call_id(answer_id, at)
            changed = True
        taken.add(call_id)
        changed |= repair_function(call)
    return changed


def check_call(call: object) -> None:
    """Refuses what is no tool call, so that nothing after has to doubt it.

    Raises:
        UpstreamError: it is none.
    """
    if not isinstance(call, dict) or not isinstance(call.get("function") or {}, dict):
        raise UpstreamError(Kind.BROKEN, "The provider sent a tool call that cannot be read.", billed=True)


def repair_function(call: dict[str, Any]) -> bool:
    """Puts type and arguments of a whole tool call, or of its first delta, right."""
    function = call.get("function")
    if not isinstance(function, dict):
        return False  # a custom tool, or a delta of nothing
    changed = False
    if call.get("type") != "function":
        call["type"] = "function"
        changed = True
    arguments = function.get("arguments")
    if arguments == "null":  # Groq, of a tool without parameters
        arguments = function["arguments"] = "{}"
        changed = True
    if not isinstance(arguments, str):
        function["arguments"] = "" if arguments is None else as_json(arguments)
        changed = True
    return changed
